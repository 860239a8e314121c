"""What happens to a tile in a worker: views of it, brought to size. Light: a worker imports no table, no torch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from .._types import Tile
from ..provenance import pixel_hash
from .card import Preprocessing
from .preprocess import prepare


@runtime_checkable
class Views(Protocol):
    """Several renderings of one tile, made where it is decoded. Must pickle; view 0 is the tile itself."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name per view."""
        ...

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sequence[Tile]:
        """Return one tile per name, each as large as `tile`."""
        ...


@dataclass(frozen=True)
class AsItIs:
    """The tile and nothing else."""

    names: tuple[str, ...] = ("tile",)

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sequence[Tile]:
        """Return the tile."""
        return [tile]


@dataclass(frozen=True)
class Rendered:
    """A stack `(v, h, w, 3)` per preprocessing, the pixel hash of each view, the tile's size, seconds spent."""

    stacks: tuple[np.ndarray, ...]
    hashes: np.ndarray
    size: tuple[int, int]
    seconds: tuple[float, float]


@dataclass(frozen=True)
class Render:
    """The job of a worker: views of a tile, brought to the size of each encoder."""

    views: Views
    preprocessings: tuple[Preprocessing, ...]

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Rendered:
        start = time.perf_counter()
        views = self.views(tile, tile_id, mpp)
        hashes = np.array([int(pixel_hash(view), 16) for view in views], np.uint64)
        middle = time.perf_counter()
        stacks = tuple(np.stack([prepare(view, rule) for view in views]) for rule in self.preprocessings)
        seconds = (middle - start, time.perf_counter() - middle)
        return Rendered(stacks, hashes, (tile.shape[0], tile.shape[1]), seconds)
