"""Tiles for the report: what was done to them, and those that moved most."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .._types import Tile
from ..audit.donors import find_donors
from ..audit.result import AuditResult, EncoderResult, OperationResult
from ..errors import InputError
from ..images import TileSource
from ..perturb import OPERATIONS, SEVERITIES, Operation, climb, perturb
from ..provenance import stream

SHOWN_PX = 112


@dataclass(frozen=True)
class Sheet:
    """One tile, and one row of perturbed tiles per operation, as data URIs. `levels` are captions."""

    tile: str
    original: str
    rows: list[tuple[str, list[tuple[str, str]]]]


@dataclass(frozen=True)
class Pair:
    """A tile before and after the nuisance that moved it."""

    tile: str
    operation: str
    displacement: float
    before: str
    after: str


def data_uri(tile: Tile) -> str:
    """Return a tile as a PNG data URI, at most 112 px a side."""
    image = Image.fromarray(tile)
    image.thumbnail((SHOWN_PX, SHOWN_PX))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def contact_sheet(result: AuditResult, source: TileSource) -> Sheet | None:
    """Render one tile, the most varied of 32 drawn by the seed, under each operation of the audit."""
    seed, mpp = int(result.plan["seed"]), result.plan["mpp"]
    order = stream(seed, "sheet", len(source.table)).permutation(len(source.table))[:32]
    found = [(index, tile) for index, tile in ((int(i), _read(source, int(i))) for i in order) if tile is not None]
    if not found or not result.operations:
        return None
    index, tile = max(found, key=lambda item: float(item[1].std(axis=(0, 1)).mean()))
    name = str(source.table.index[index])
    rows = []
    chosen = tuple(map(_operation, result.operations))
    donors = find_donors(source, chosen, seed=seed, mpp=mpp)
    for operation in chosen:
        views = climb(tile, operation, tile_id=name, seed=seed, mpp=_mpp(source, index) or mpp, donors=donors)
        captions = [operation.caption(severity) for severity in SEVERITIES]
        rows.append((operation.name, [(caption, data_uri(v)) for caption, v in zip(captions, views, strict=True)]))
    return Sheet(tile=name, original=data_uri(tile), rows=rows)


def worst_pairs(encoder: EncoderResult, result: AuditResult, source: TileSource) -> list[Pair]:
    """Render the tiles of `encoder.worst` before and after."""
    seed, mpp = int(result.plan["seed"]), result.plan["mpp"]
    places = {str(name): i for i, name in enumerate(source.table.index)}
    operations = {operation.name: operation for operation in result.operations}
    pairs = []
    for worst in encoder.worst:
        index = places[worst.tile]
        tile = _read(source, index)
        if tile is not None:
            scale = _mpp(source, index) or mpp
            operation = _operation(operations[worst.operation])
            after = perturb(tile, operation, worst.severity, tile_id=worst.tile, seed=seed, mpp=scale)
            pairs.append(Pair(worst.tile, worst.operation, worst.displacement, data_uri(tile), data_uri(after)))
    return pairs


def _operation(result: OperationResult) -> Operation:
    """Return the operation at the levels of the audit."""
    return OPERATIONS[result.name].at([step.level for step in result.steps if step.level is not None])


def _read(source: TileSource, index: int) -> Tile | None:
    try:
        return source.read(index)
    except InputError:
        return None  # it was skipped in the run too, and is counted there


def _mpp(source: TileSource, index: int) -> float | None:
    if "mpp" not in source.table:
        return None
    value = float(source.table["mpp"].iloc[index])
    return None if np.isnan(value) else value
