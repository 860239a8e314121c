"""Tiles of a source, each changed as it is read."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from .._types import Tile
from .tiles import TileSource


@dataclass(frozen=True, eq=False)
class ChangedTiles:
    """Tiles of a source, each changed as it is read. The change must pickle where other processes read."""

    source: TileSource
    change: Callable[[Tile], Tile]

    @property
    def name(self) -> str:
        """The name of the source."""
        return self.source.name

    @property
    def table(self) -> pd.DataFrame:
        """The table of the source."""
        return self.source.table

    def read(self, index: int) -> Tile:
        """Return a tile, changed."""
        return self.change(self.source.read(index))
