"""Some tiles of another source, or the same ones under another table."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from .._types import Codes, Tile
from .columns import check_table, rename_columns
from .tiles import TileSource


@dataclass(frozen=True, eq=False)
class SelectedTiles:
    """Rows of a source. `rows` are their numbers there, `table` is theirs."""

    source: TileSource
    rows: Codes
    table: pd.DataFrame

    @property
    def name(self) -> str:
        """The name of the whole."""
        return self.source.name

    @property
    def truth(self) -> pd.DataFrame | None:
        """What the whole knows of the tissue of these tiles, as the phantom does; None where it knows nothing."""
        return truth_of(self.source, self.rows)

    def read(self, index: int) -> Tile:
        """Read row `index` of the selection."""
        return self.source.read(int(self.rows[index]))


def truth_of(source: TileSource, rows: Codes) -> pd.DataFrame | None:
    """Return what a source knows of the tissue of some of its tiles; None where it knows nothing."""
    known = getattr(source, "truth", None)
    return None if known is None else pd.DataFrame(known.iloc[rows])


def select_rows(source: TileSource, rows: Codes) -> SelectedTiles:
    """Return some rows of a source, in the order of `rows`."""
    return SelectedTiles(source, rows, pd.DataFrame(source.table.iloc[rows]))


def spaced(rows: Codes, most: int) -> Int[np.ndarray, " _k"]:
    """Return up to `most` of some rows, evenly spaced from the first to the last."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]


def with_columns(source: TileSource, columns: Mapping[str, str]) -> TileSource:
    """Return a source whose columns are known by other names. See `rename_columns` for its errors."""
    if not columns:
        return source
    table = check_table(rename_columns(source.table, columns), origin=source.name)
    return SelectedTiles(source, np.arange(len(table)), table)
