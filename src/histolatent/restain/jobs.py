"""What workers do to tiles: sample their pixels, or recolour and write them. Light: no pandas."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from .._types import Tile
from ..outputs import disk_errors
from ..provenance import digest, pixel_hash
from ..stain import ColourChange, Fit, NoChange, Sample, colour_change, recolour, sample_pixels, tile_change
from .fitter import Fitter


@dataclass(frozen=True)
class TakeSample:
    """Sample the pixels of a tile."""

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sample:
        """Return at most 4,096 of its pixels, on a grid."""
        return sample_pixels(tile)


@dataclass(frozen=True, eq=False)
class GroupChanges:
    """One fit and change per slide. `numbers` says which one a tile gets; `pooled` is that of tiles without a slide."""

    changes: tuple[tuple[Fit, ColourChange], ...]
    numbers: Mapping[str, int]
    hue_limit: float
    pooled: int | None

    def of(self, tile: Tile, tile_id: str) -> ColourChange:
        """Return the change of the tile's slide, unless it would turn the hue of this tile."""
        number = self.numbers[tile_id]
        fit, change = self.changes[number]
        return tile_change(tile, fit, change, hue_limit=self.hue_limit, mixed=number == self.pooled)


@dataclass(frozen=True, eq=False)
class Match:
    """How fits are matched to a reference. Options as in `colour_change`."""

    reference: Fit
    method: str
    background: Literal["keep", "map"]
    hue_limit: float

    def __call__(self, fit: Fit) -> ColourChange:
        """Return the change that gives tissue fitted so the look of the reference."""
        return colour_change(
            fit,
            self.reference,
            modified=self.method == "reinhard-modified",
            background=self.background,
            hue_limit=self.hue_limit,
        )


@dataclass(frozen=True, eq=False)
class OwnChanges:
    """A change per tile, from a fit to the tile alone."""

    fitter: Fitter
    match: Match

    def of(self, tile: Tile, tile_id: str) -> ColourChange:
        """Fit the tile, and return its change."""
        return self.match(self.fitter.fit_tile(tile))


#: From a tile to the change that it gets.
Changes = GroupChanges | OwnChanges


@dataclass(frozen=True, eq=False)
class WriteTile:
    """Recolour a tile and write it as PNG: to `parts` first, so that what stands in `folder` is whole."""

    changes: Changes
    folder: str
    parts: str
    paths: Mapping[str, str]

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> tuple[str, str]:
        """Return why the tile is unchanged (or `ok`), and the hash of the pixels written."""
        change = self.changes.of(tile, tile_id)
        pixels = recolour(tile, change)
        part, path = Path(self.parts) / f"{digest(tile_id)[:32]}.png", Path(self.folder) / self.paths[tile_id]
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(part, compress_level=1)  # noisy pixels: as small as by 4, in half the time
            os.replace(part, path)  # noqa: PTH105
        return change.reason if isinstance(change, NoChange) else "ok", pixel_hash(pixels)
