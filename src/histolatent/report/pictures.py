"""Tiles for the report: what was done to them, those that moved most, what moved them, and discordant pairs."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import matplotlib
import numpy as np
from PIL import Image

from .._types import Tile
from ..audit.donors import find_donors
from ..audit.plan import limit
from ..audit.result import AuditResult, EncoderResult, OperationResult, PairOfTiles, SensitivityResult
from ..errors import InputError
from ..images import TileSource, known_mpp
from ..perturb import OPERATIONS, Donor, Operation, climb, perturb
from ..provenance import stream
from .ladders import draw_ladders

SHOWN_PX, LOOKED_AT = 112, 32
HEAT_SHARE = 0.55  # of the map, over the tile in grey


@dataclass(frozen=True)
class Sheet:
    """One tile, and one row of perturbed tiles per operation, as data URIs with captions."""

    tile: str
    original: str
    rows: list[tuple[str, list[tuple[str, str]]]]


@dataclass(frozen=True)
class Pair:
    """A tile before and after the nuisance that moved it, and where covering moves it, if that was measured."""

    tile: str
    operation: str
    caption: str
    displacement: float
    before: str
    after: str
    heat: str | None
    sensitivity: SensitivityResult | None


@dataclass(frozen=True)
class Discordant:
    """Two tiles of which eye and encoder disagree."""

    pair: PairOfTiles
    first: str
    second: str


@dataclass(frozen=True)
class EncoderPictures:
    """The pictures of one encoder."""

    worst: list[Pair]
    alike_but_far: list[Discordant]
    different_but_close: list[Discordant]


class Shown:
    """The tiles that were audited, read again, with the donors of the run."""

    def __init__(self, result: AuditResult, source: TileSource) -> None:
        self.seed = int(result.plan["seed"])
        self.mpp: float | None = result.plan["mpp"]
        # The run drew its donors from the part that it audited.
        self.source = limit(source, result.plan.get("max_tiles"), self.seed)
        self.places = {str(name): place for place, name in enumerate(self.source.table.index)}
        self.operations = {
            operation.name: _operation(operation) for operation in result.operations if _can_be_done_again(operation)
        }
        chosen = tuple(self.operations.values())
        self.donors: tuple[Donor, ...] = find_donors(self.source, chosen, seed=self.seed, mpp=self.mpp)
        self.read = lru_cache(maxsize=64)(self._read)

    def _read(self, place: int) -> Tile | None:
        try:
            return self.source.read(place)
        except InputError:
            return None  # it was skipped in the run too, and is counted there

    @cached_property
    def example(self) -> tuple[int, Tile] | None:
        """The place and the pixels of the most varied of 32 tiles drawn by the seed; None where none can be read."""
        count = len(self.source.table)
        order = stream(self.seed, "sheet", count).permutation(count)[:LOOKED_AT]
        found = [(int(place), tile) for place in order if (tile := self.read(int(place))) is not None]
        return max(found, key=lambda item: float(item[1].std(axis=(0, 1)).mean()), default=None)

    def tile(self, name: str) -> Tile | None:
        """Return a tile by name, None where it cannot be read any more."""
        return self.read(self.places[name]) if name in self.places else None

    def scale(self, place: int) -> float | None:
        """Return the um per pixel of a tile, as the run took it."""
        return known_mpp(self.source.table, place) or self.mpp


def data_uri(tile: Tile) -> str:
    """Return a tile as a PNG data URI, at most 112 px a side."""
    image = Image.fromarray(tile)
    image.thumbnail((SHOWN_PX, SHOWN_PX))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def contact_sheet(result: AuditResult, shown: Shown) -> Sheet | None:
    """Render the tile of `shown.example` under each operation of the audit."""
    again = [operation for operation in result.operations if operation.name in shown.operations]
    if not again or shown.example is None:
        return None
    place, tile = shown.example
    name = str(shown.source.table.index[place])
    rows = []
    for operation in again:
        views = climb(
            tile,
            shown.operations[operation.name],
            tile_id=name,
            seed=shown.seed,
            mpp=shown.scale(place),
            donors=shown.donors,
        )
        captions = [operation.caption(step.severity) for step in operation.steps]
        rows.append((operation.name, [(caption, data_uri(v)) for caption, v in zip(captions, views, strict=True)]))
    return Sheet(tile=name, original=data_uri(tile), rows=rows)


def draw_sheet(shown: Shown) -> bytes | None:
    """Return the contact sheet as one picture (PNG), None where there is nothing to show."""
    if not shown.operations or shown.example is None:
        return None
    place, tile = shown.example
    name, chosen = str(shown.source.table.index[place]), tuple(shown.operations.values())
    return draw_ladders(tile, chosen, name=name, seed=shown.seed, mpp=shown.scale(place), donors=shown.donors)


def pictures_of(encoder: EncoderResult, result: AuditResult, shown: Shown) -> EncoderPictures:
    """Render the tiles that an encoder's result names."""
    found = encoder.discordance
    return EncoderPictures(
        worst=_worst_pairs(encoder, result, shown),
        alike_but_far=[] if found is None else _discordant(found.alike_but_far, shown),
        different_but_close=[] if found is None else _discordant(found.different_but_close, shown),
    )


def _worst_pairs(encoder: EncoderResult, result: AuditResult, shown: Shown) -> list[Pair]:
    operations = {operation.name: operation for operation in result.operations}
    maps = {item.tile: item for item in encoder.sensitivity}
    pairs = []
    for worst in encoder.worst:
        tile = shown.tile(worst.tile)
        if tile is None or worst.operation not in shown.operations:
            continue
        after = perturb(
            tile,
            shown.operations[worst.operation],
            worst.severity,
            tile_id=worst.tile,
            seed=shown.seed,
            mpp=shown.scale(shown.places[worst.tile]),
            donors=shown.donors,
        )
        found = maps.get(worst.tile)
        pairs.append(
            Pair(
                tile=worst.tile,
                operation=worst.operation,
                caption=operations[worst.operation].caption(worst.severity),
                displacement=worst.displacement,
                before=data_uri(tile),
                after=data_uri(after),
                heat=None if found is None else data_uri(heat_over(tile, found.heat)),
                sensitivity=found,
            )
        )
    return pairs


def heat_over(tile: Tile, heat: Sequence[Sequence[float]]) -> Tile:
    """Return the tile in grey under a map of heat: dark blue is 0, yellow its largest value."""
    values = np.asarray(heat, np.float32)
    scaled = values / values.max() if values.max() > 0 else values
    colours = (matplotlib.colormaps["cividis"](scaled)[..., :3] * 255).astype(np.uint8)
    size = (tile.shape[1], tile.shape[0])
    over = np.asarray(Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR), np.float32)
    grey = np.asarray(Image.fromarray(tile).convert("L").convert("RGB"), np.float32)
    return (HEAT_SHARE * over + (1 - HEAT_SHARE) * grey).round().astype(np.uint8)


def _discordant(pairs: Sequence[PairOfTiles], shown: Shown) -> list[Discordant]:
    found = []
    for pair in pairs:
        first, second = shown.tile(pair.first), shown.tile(pair.second)
        if first is not None and second is not None:
            found.append(Discordant(pair, data_uri(first), data_uri(second)))
    return found


def _can_be_done_again(result: OperationResult) -> bool:
    """Return whether an operation is one of ours; real pairs have no level."""
    return result.name in OPERATIONS and all(step.level is not None for step in result.steps)


def _operation(result: OperationResult) -> Operation:
    """Return the operation at the levels of the audit."""
    return OPERATIONS[result.name].at([step.level for step in result.steps if step.level is not None])
