"""Stain augmentation in place of states: what a tile is seen under where no manifold says so. Light: no torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import Tile
from ..images import Item, TileSource, spaced, stream_tiles
from ..restain.jobs import TakeSample
from ..stain import RandStainNAModel, fit_randstainna, hed_jitter, randstainna_change, recolour

#: What `states.kind` of a plan may be beside `manifold`.
AUGMENTATIONS = ("hed-light", "hed-strong", "randstainna")
#: Tiles that virtual templates are fitted to: each is one image of their distribution.
MOST_TILES = 2000


@dataclass(frozen=True)
class Augmentation:
    """A random change of staining, keyed by (seed, name): see `hed_jitter` and `randstainna_change`."""

    kind: str
    seed: int
    templates: RandStainNAModel | None = None

    def __call__(self, tile: Tile, name: str, white: Any) -> Tile:
        """Return the tile in another colour; `white` is the level of empty slide."""
        if self.templates is None:
            return recolour(tile, hed_jitter(self.seed, name, self.kind.removeprefix("hed-"), white=white))
        return recolour(tile, randstainna_change(tile, self.templates, self.seed, name, white=white))


def fit_augmentation(
    kind: str, source: TileSource, *, seed: int = 0, workers: int = 0, on_error: str = "stop"
) -> Augmentation:
    """Return an augmentation of AUGMENTATIONS; templates of `randstainna` are fitted to the tiles of the source.

    Raises
    ------
    InputError
        If fewer than two tiles have stained tissue.
    """
    if kind != "randstainna":
        return Augmentation(kind, seed)
    rows = spaced(np.arange(len(source.table)), MOST_TILES).tolist()
    found = stream_tiles(source, rows, TakeSample(), workers=workers, on_error=on_error)
    templates = fit_randstainna(item.value for item in found if isinstance(item, Item))
    return Augmentation(kind, seed, templates)
