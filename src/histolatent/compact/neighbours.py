"""Tiles that lie beside each other on a slide, in pairs that are drawn together."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from ..errors import InputError

#: Rows beside each row.
Beside = Mapping[int, tuple[int, ...]]
#: A tile is beside another up to so many steps of the slide's grid: corners touch at 1.41.
REACH = 1.5


def find_beside(table: pd.DataFrame, rows: Sequence[int], least_pairs: int) -> Beside:
    """Return which of the rows lie beside each other. The step of a slide's grid is how far apart tiles mostly are.

    Raises
    ------
    InputError
        If the table does not say where tiles lie, or fewer than `least_pairs` of them, a batch, find a neighbour.
    """
    missing = [name for name in ("slide", "x", "y") if name not in table]
    if missing:
        raise InputError(
            "the table does not say where on their slides the tiles lie",
            received=f"no column {', '.join(missing)}",
            fix="name the columns (--column x=NAME), or set objective.neighbours to false",
        )
    known = table.iloc[list(rows)][["slide", "x", "y"]].assign(row=list(rows)).dropna()
    beside: dict[int, tuple[int, ...]] = {}
    for _, slide in known.groupby("slide", observed=True):
        places, own = slide[["x", "y"]].to_numpy(float), slide["row"].to_numpy()
        if len(own) < 2:
            continue
        tree = KDTree(places)
        step = float(np.median(tree.query(places, k=2)[0][:, 1]))
        for row, near in zip(own, tree.query_ball_point(places, REACH * step), strict=True):
            others = tuple(sorted(int(own[other]) for other in near if own[other] != row))
            if others:
                beside[int(row)] = others
    if len(pair_up(beside, np.random.default_rng(0))) < 2 * least_pairs:
        raise InputError(
            "too few tiles lie beside another of their slide",
            received=f"{len(beside)} of {len(rows)}",
            valid=f"pairs for a batch of {2 * least_pairs} tiles",
            fix="set objective.neighbours to false",
        )
    return beside


def pair_up(beside: Beside, rng: np.random.Generator) -> list[int]:
    """Return rows in pairs, one after the other, no row twice; some are left without."""
    rows = list(beside)
    taken: set[int] = set()
    paired: list[int] = []
    for place in rng.permutation(len(rows)):
        row = rows[place]
        free = [other for other in beside[row] if other not in taken]
        if row in taken or not free:
            continue
        other = free[int(rng.integers(len(free)))]
        taken |= {row, other}
        paired += [row, other]
    return paired
