"""Two encoders, or two runs, on the same tiles and the same resamples: what differs, and is it more than chance."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from itertools import count as count_from

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from .._types import Codes
from ..stats import (
    RESAMPLES,
    Statistic,
    balanced_accuracy,
    holm,
    least_p,
    paired_difference,
    pool_clusters,
    weighted_mean,
)
from .result import Comparison, Figure, OperationResult
from .words import counted

LEVEL = 0.05
#: Columns of the table of tiles: `displacement: jpeg`, `selectivity`, and `label: true` with `label: read`.
MOVE, TRUE, READ = "displacement: ", ": true", ": read"
#: The label as probes read it that have not seen the site.
UNSEEN = "unseen label"
#: Hashes of the pixels of a tile, and as `pixels: jpeg` those of its perturbed twin at the judged severity.
PIXELS = "pixels"


@dataclass(frozen=True)
class Compared:
    """One figure that two tables of tiles have: a statistic of each over shared tiles, and what it is called."""

    metric: str
    operation: str | None
    column: str | None
    family: str
    lower_is_better: bool
    rows: Codes
    first: Statistic
    second: Statistic

    def values(self) -> tuple[float, float]:
        """Return the figure of the first table and of the second."""
        once = np.ones((1, len(self.rows)))
        return float(self.first(once)[0]), float(self.second(once)[0])


def compare_encoders(
    tiles: pd.DataFrame,
    operations: Sequence[OperationResult],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every pair of encoders of one audit; `tiles` is its table of tiles.

    p-values are adjusted over all comparisons by Benjamini and Hochberg, and within a family of one pair by Holm.
    """
    names = list(dict.fromkeys(tiles["encoder"]))
    parts = {name: tiles[tiles["encoder"] == name].set_index("tile") for name in names}
    return compare_tables(
        [(first, second, parts[first], parts[second]) for first, second in combinations(names, 2)],
        operations,
        resamples=resamples,
        seed=seed,
    )


def compare_tables(
    pairs: Iterable[tuple[str, str, pd.DataFrame, pd.DataFrame]],
    operations: Sequence[OperationResult],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Compare pairs of tables of tiles, each given with the names of the two; both are indexed by tile.

    Only tiles of both count, and of each figure those on which both have it. Groups are those of the first table; more
    than 1,000 are joined at random, as everywhere.
    """
    found: list[Comparison] = []
    for first, second, left, right in pairs:
        shared = left.index.intersection(right.index, sort=False)
        if not len(shared):
            continue
        left, right = left.loc[shared], right.loc[shared]
        groups = pool_clusters(np.unique(left["group"].to_numpy(), return_inverse=True)[1].reshape(-1), seed)
        figures = list(figures_of(left, right, operations))
        mine = []
        for item in figures:
            codes = np.unique(groups[item.rows], return_inverse=True)[1].reshape(-1)
            outcome = paired_difference(item.first, item.second, codes, resamples=resamples, seed=seed)
            mine.append(
                Comparison(
                    first=first,
                    second=second,
                    metric=item.metric,
                    operation=item.operation,
                    column=item.column,
                    family=item.family,
                    tiles=len(item.rows),
                    difference=Figure.of(outcome.estimate),
                    p=outcome.p,
                    p_holm=None,
                    p_bh=None,
                    better=None,
                )
            )
        found += _within_families(mine, {_key(item): item.lower_is_better for item in figures})
    return _over_the_table(found)


def why_undecidable(found: Sequence[Comparison], groups: int, resamples: int) -> str | None:
    """Return why no comparison of the largest family could be decided whatever the tiles are like, and what helps."""
    families = Counter((item.first, item.second, item.family) for item in found if item.p is not None)
    most = max(families.values(), default=0)
    if most * least_p(groups, resamples) < LEVEL:
        return None
    enough = next(count for count in count_from(groups) if most * least_p(count, math.inf) < LEVEL)
    if enough > groups:
        return f"{groups} groups are too few to decide {counted(most, 'comparison')} of one family: it takes {enough}"
    enough = math.ceil(2 * most / LEVEL)
    return (
        f"{resamples} resamples are too few to decide {counted(most, 'comparison')} of one family: --resamples {enough}"
    )


def figures_of(left: pd.DataFrame, right: pd.DataFrame, operations: Sequence[OperationResult]) -> Iterable[Compared]:
    """Yield every figure that two tables of the same tiles both have."""
    for operation in operations:
        name = MOVE + operation.name
        if operation.role == "must-ignore" and name in left and name in right:
            yield from _means(left, right, name, "displacement", operation.name, operation.family, lower=True)
    if "selectivity" in left and "selectivity" in right:
        yield from _means(left, right, "selectivity", "selectivity", None, "must-react", lower=False)
    for name in left.columns:
        if name.endswith(READ) and name in right:
            target = name.removesuffix(READ)
            truth = left[target + TRUE].to_numpy(object)
            known = np.array([isinstance(value, str) for value in truth])
            known &= left[name].notna().to_numpy() & right[name].notna().to_numpy()
            rows = np.flatnonzero(known)
            if not len(rows):
                continue
            codes = np.unique(truth[rows].astype(str), return_inverse=True)[1].reshape(-1)
            scores = [
                balanced_accuracy((part[name].to_numpy(object)[rows] == truth[rows]).astype(float), codes)
                for part in (left, right)
            ]
            signal = target in ("label", UNSEEN)
            metric, target = ("unseen_accuracy", "label") if target == UNSEEN else ("balanced_accuracy", target)
            yield Compared(metric, None, target, "signal" if signal else "leakage", not signal, rows, *scores)


def _means(
    left: pd.DataFrame,
    right: pd.DataFrame,
    name: str,
    metric: str,
    operation: str | None,
    family: str,
    *,
    lower: bool,
) -> Iterable[Compared]:
    columns = [part[name].to_numpy(float) for part in (left, right)]
    rows = np.flatnonzero(np.isfinite(columns).all(axis=0))
    if len(rows):
        yield Compared(
            metric, operation, None, family, lower, rows, *(weighted_mean(column[rows]) for column in columns)
        )


def _key(item: Compared | Comparison) -> tuple[str, str | None, str | None]:
    return item.metric, item.operation, item.column


def _within_families(found: list[Comparison], lower: dict[tuple, bool]) -> list[Comparison]:
    adjusted = list(found)
    for family in dict.fromkeys(item.family for item in found):
        places = [i for i, item in enumerate(found) if item.family == family and item.p is not None]
        if not places:
            continue
        raised = holm(np.array([found[i].p for i in places], float))
        for i, p in zip(places, raised, strict=True):
            item = found[i]
            less = (item.difference.value or 0) < 0
            better = None if p >= LEVEL else item.first if less == lower[_key(item)] else item.second
            adjusted[i] = item.model_copy(update={"p_holm": float(f"{p:.3g}"), "better": better})
    return adjusted


def _over_the_table(found: list[Comparison]) -> list[Comparison]:
    places = [i for i, item in enumerate(found) if item.p is not None]
    if not places:
        return found
    adjusted = list(found)
    for i, p in zip(places, false_discovery_control([found[i].p for i in places]), strict=True):
        update = {"p_bh": float(f"{p:.3g}"), "p": float(f"{found[i].p:.3g}")}
        adjusted[i] = found[i].model_copy(update=update)
    return adjusted
