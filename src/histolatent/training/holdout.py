"""Which tiles are not trained on: whole patients, else slides."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from ..provenance import stream


def make_folds(table: pd.DataFrame, count: int, seed: int) -> tuple[list[Int[np.ndarray, " _r"]], str]:
    """Return rows in up to `count` folds of whole patients, else slides, else single tiles; and which of them.

    Groups are dealt to the fold that has fewest tiles, largest first, so that folds are about as large as each other.
    """
    names, column = groups_of(table)
    groups, counts = np.unique(names, return_counts=True)
    order = stream(seed, "folds").permutation(len(groups))
    order = order[np.argsort(-counts[order], kind="stable")]
    members: list[list[str]] = [[] for _ in range(min(count, len(groups)))]
    sizes = np.zeros(len(members), int)
    for place in order:
        fold = int(sizes.argmin())
        members[fold].append(str(groups[place]))
        sizes[fold] += counts[place]
    return [np.flatnonzero(np.isin(names, fold)) for fold in members], column


def groups_of(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Return the patient of each row, else its slide, else the row itself: the first that tells rows apart."""
    column = next((name for name in ("patient", "slide") if name in table and table[name].nunique() > 1), None)
    return np.array([str(name) for name in (table.index if column is None else table[column])]), column or "tile"


def group_codes(table: pd.DataFrame) -> Int[np.ndarray, " _n"]:
    """Return a code for the patient of each row, else for its slide, else for the row."""
    return np.unique(groups_of(table)[0], return_inverse=True)[1]


def leave_out(folds: Sequence[Int[np.ndarray, " _r"]], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the fold whose share of all rows is nearest to `share`, and the rows of all others."""
    total = sum(map(len, folds))
    nearest = min(range(len(folds)), key=lambda k: abs(len(folds[k]) - share * total))
    others = [fold for k, fold in enumerate(folds) if k != nearest]
    return folds[nearest], np.sort(np.concatenate(others))
