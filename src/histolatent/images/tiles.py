"""The one shape that every origin of pixels takes: a table of tiles, and a way to read one."""

from typing import Protocol, runtime_checkable

import pandas as pd

from .._types import Tile

#: Columns that are known by name; any other column is carried along.
KNOWN_COLUMNS = ("label", "site", "scanner", "stain", "slide", "patient", "mpp", "x", "y", "split")


@runtime_checkable
class TileSource(Protocol):
    """Tiles with their table. Implementations are small, immutable and picklable, so that workers can read.

    `table` has one row per tile, indexed by a unique tile id (a string), with those of `KNOWN_COLUMNS` that are known,
    and any other column that came along. `mpp` is in um per pixel; `x`, `y` are level-0 pixels of the slide.
    """

    @property
    def name(self) -> str:
        """What a person calls this source."""
        ...

    @property
    def table(self) -> pd.DataFrame:
        """One row per tile."""
        ...

    def read(self, index: int) -> Tile:
        """Return row `index` as RGB uint8 `(h, w, 3)`. Raises InputError, which names the tile, if it cannot."""
        ...
