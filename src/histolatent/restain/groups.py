"""Which tiles belong together, and which of them a fit looks at."""

from dataclasses import dataclass

import pandas as pd

from ..errors import OptionError, unknown
from ..images import TileSource
from ..provenance import stream

#: How many tiles of each slide a fit looks at, and how many the fit over all slides may.
MAX_TILES, OVERALL_TILES = 200, 2000


@dataclass(frozen=True)
class Groups:
    """The slide of each tile, or None. `column` is where it stands; None if all tiles are one group."""

    column: str | None
    names: tuple[str | None, ...]
    notes: tuple[str, ...] = ()


def find_groups(source: TileSource, by: str) -> Groups:
    """Return the groups of a source: by `slide`, `all`, or a column of its table.

    Raises
    ------
    OptionError
        If there is no such column. Only `slide` may be missing: then all tiles are one group, and a note says so.
    """
    table = source.table
    if by == "all":
        return Groups(None, (None,) * len(table))
    if by not in table.columns:
        if by != "slide":
            raise unknown("column to group tiles by", by, ["slide", "all", *map(str, table.columns)])
        note = "the tiles have no column 'slide': one fit over all of them. Name yours with --column slide=YOURS"
        return Groups(None, (None,) * len(table), (note,))
    names = tuple(None if pd.isna(value) else str(value) for value in table[by])
    nameless = sum(name is None for name in names)
    notes = (f"{nameless} tiles without a {by} go by the fit over all tiles",) if nameless else ()
    return Groups(by, names, notes)


def choose_rows(source: TileSource, groups: Groups, max_tiles: int, seed: int) -> dict[str | None, list[int]]:
    """Return up to `max_tiles` rows of each group, drawn by the seed and the tiles' ids.

    The order within a group is random too, so that its first few are a sample of it. Groups are in order of the table.
    """
    if max_tiles < 1:
        raise OptionError("max_tiles is less than one", received=max_tiles, valid="a whole number from 1")
    rows: dict[str | None, list[int]] = {}
    for row, name in enumerate(groups.names):
        rows.setdefault(name, []).append(row)
    ids = source.table.index
    draw = {row: stream(seed, "stain-sample", str(ids[row])).random() for row in range(len(ids))}
    return {name: sorted(members, key=lambda row: (draw[row], row))[:max_tiles] for name, members in rows.items()}
