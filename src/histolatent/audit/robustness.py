"""Robustness of neighbourhoods: whether a tile's neighbours share its label, or its site."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from .._types import Codes
from ..errors import InputError
from ..neighbors import TYPES, TypedNeighbors
from ..stats import (
    Statistic,
    balanced_accuracy,
    cluster_spread,
    deal,
    shortfall,
    weighted_quantile,
    weighted_tail_mean,
    whole_value,
)
from .undefined import COLLAPSED, Undefined

TAIL = 0.1
DEALS = 100
Mask = Bool[np.ndarray, "q k"]
SAME_OTHER, OTHER_SAME = TYPES.index("SO"), TYPES.index("OS")


@dataclass(frozen=True)
class RobustnessIndex:
    """Types of the `k` nearest tiles. `counts[i]` has how many are SS, SO, OS and OO; `rows` are the tiles.

    `expected[i]` is what a blind draw from the tiles that could have been found would give.
    """

    k: int
    rows: Codes
    counts: Float[np.ndarray, "n 4"]
    expected: Float[np.ndarray, "n 4"]

    @property
    def value(self) -> float:
        """The index, 0 to 1, of all neighbours pooled: SO / (SO + OS)."""
        return whole_value(self.statistic(), len(self.rows))

    @property
    def ratio(self) -> float | None:
        """The older form, (SS + SO) / (SS + OS), from 0 without bound; None where nothing shares the confounder."""
        value = whole_value(self.ratio_statistic(), len(self.rows))
        return value if np.isfinite(value) else None

    @property
    def chance(self) -> float:
        """The index of an encoder that holds nothing: it depends on how many tiles of each type there are."""
        so, os = self.expected[:, SAME_OTHER].sum(), self.expected[:, OTHER_SAME].sum()
        return float(so / (so + os))

    @property
    def coverage(self) -> float:
        """The share of tiles with a neighbour that counts, SO or OS."""
        return float((self.counts[:, [SAME_OTHER, OTHER_SAME]].sum(axis=1) > 0).mean())

    def statistic(self) -> Statistic:
        """Return the index as a statistic over weighted tiles."""
        return _pooled(self.counts[:, SAME_OTHER], self.counts[:, OTHER_SAME])

    def ratio_statistic(self) -> Statistic:
        """Return the older form as a statistic over weighted tiles."""
        same_same, same_other, other_same, _ = self.counts.T

        def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
            with np.errstate(invalid="ignore", divide="ignore"):
                return weights @ (same_same + same_other) / (weights @ (same_same + other_same))

        return statistic


@dataclass(frozen=True)
class MarginIndex:
    """The robustness index with near neighbours counting more: per-tile sums of exp(-distance / tau)."""

    k: int
    tau: float
    rows: Codes
    same_other: Float[np.ndarray, " n"]
    other_same: Float[np.ndarray, " n"]

    @property
    def value(self) -> float:
        """The index, 0 to 1."""
        return whole_value(self.statistic(), len(self.rows))

    def statistic(self) -> Statistic:
        """Return the index as a statistic over weighted tiles; `tau` stays."""
        return _pooled(self.same_other, self.other_same)


@dataclass(frozen=True)
class RobustnessMargin:
    """How much nearer the same label of another site is than another label of the same site.

    `values` are those of the tiles `rows`, from -1 (the site decides) to 1; `coverage` is their share of all tiles.
    """

    m: int
    rows: Codes
    values: Float[np.ndarray, " n"]
    coverage: float

    @property
    def median(self) -> float:
        """The median over tiles."""
        return whole_value(self.median_statistic(), len(self.rows))

    @property
    def worst(self) -> float:
        """The mean over the lowest tenth of tiles."""
        return whole_value(self.worst_statistic(), len(self.rows))

    @property
    def confounded(self) -> float:
        """The share of tiles at or below 0: another label of the same site is at least as near."""
        return whole_value(self.confounded_statistic(), len(self.rows))

    def median_statistic(self) -> Statistic:
        """Return the median as a statistic over weighted tiles."""
        return weighted_quantile(self.values, 0.5)

    def excess_statistic(self, chance: float) -> Statistic:
        """Return the median less what it is by chance as a statistic over weighted tiles."""
        median = self.median_statistic()
        return lambda weights: median(weights) - chance

    def worst_statistic(self) -> Statistic:
        """Return the mean of the lowest tenth as a statistic over weighted tiles."""
        return weighted_tail_mean(self.values, TAIL)

    def confounded_statistic(self) -> Statistic:
        """Return the share at or below 0 as a statistic over weighted tiles."""
        at_most_zero = (self.values <= 0).astype(float)
        return _pooled(at_most_zero, 1 - at_most_zero)


def robustness_index(near: TypedNeighbors, k: int = 50) -> RobustnessIndex | Undefined:
    r"""Count types among the `k` nearest tiles: $RI_k = \frac{\sum_i SO_i}{\sum_i SO_i + \sum_i OS_i}$.

    SO: same label, other confounder; OS: other label, same confounder. 1: the label decides who is near; 0: the site
    does. Neighbours are by cosine, none of the tile's own group (PathoROB, arXiv 2507.17845; croma has the same).
    `ratio` is the first form, of de Jong et al. 2025 (arXiv 2501.18055). A tile with fewer neighbours counts those it
    has.

    Undefined where nothing can be SO or OS, where no neighbour is, or for a constant encoder (croma says 0.5 there).

    Raises
    ------
    InputError
        If fewer than `k` neighbours were searched for.

    Misleads: it depends on `k` and on how many tiles of each type there are (see `chance`), so compare encoders on the
    same tiles only; with few counting neighbours (see `coverage`) it speaks of a few tiles.
    """
    reason = _missing(near)
    if reason:
        return Undefined(reason)
    near.plain.first(k)
    types = near.types()[:, :k]
    counts = np.stack([(types == kind).sum(axis=1) for kind in range(len(TYPES))], axis=1).astype(float)
    if not counts[:, [SAME_OTHER, OTHER_SAME]].any():
        return Undefined(f"no tile has, among its {k} nearest, one of its label elsewhere or of another label here")
    share = near.available / np.maximum(near.available.sum(axis=1, keepdims=True), 1)
    return RobustnessIndex(k, near.rows, counts, share * (types >= 0).sum(axis=1, keepdims=True))


def margin_index(near: TypedNeighbors, k: int = 50, *, tau: float | None = None) -> MarginIndex | Undefined:
    r"""Weigh the counts of the robustness index by nearness: each neighbour counts $e^{-d/\tau}$ in place of 1.

    `tau` is the median distance of all SO and OS neighbours among the `k` nearest, as MaRI of croma (arXiv 2607.25497)
    has it, unless given. Higher is better, 0 to 1.

    Undefined as the robustness index is, and where that median is 0 (copies of tiles; croma then takes 0.2).

    Raises
    ------
    InputError
        If fewer than `k` neighbours were searched for, or `tau` is not above 0.

    Misleads: `tau` is of this encoder on these tiles, so the weights of two encoders differ.
    """
    if tau is not None and tau <= 0:
        raise InputError("tau has to be above 0", received=tau)
    reason = _missing(near)
    if reason:
        return Undefined(reason)
    distance, types = near.plain.first(k).distance, near.types()[:, :k]
    so, os = types == SAME_OTHER, types == OTHER_SAME
    typed = distance[so | os]
    if not len(typed):
        return Undefined(f"no tile has, among its {k} nearest, one of its label elsewhere or of another label here")
    chosen = float(np.median(typed)) if tau is None else tau
    if chosen <= 0:
        return Undefined("the median distance of the neighbours that count is 0: tiles are copies of each other")
    weight = np.exp(-distance / chosen)
    return MarginIndex(k, chosen, near.rows, np.where(so, weight, 0).sum(axis=1), np.where(os, weight, 0).sum(axis=1))


def robustness_margin(near: TypedNeighbors, m: int = 5) -> RobustnessMargin | Undefined:
    r"""Compare distances to the `m` nearest of two types (CRoMa): $c_i = \frac{d_{OS} - d_{SO}}{d_{OS} + d_{SO}}$.

    As in croma (arXiv 2607.25497), $d$ is the mean distance to the `m` nearest tiles of the type, wherever they rank.
    Above 0: the same label at another site is nearer than another label at the same site. Higher is better, -1 to 1.

    A tile without `m` of both types, or with both distances 0, has no value and lowers `coverage` (croma raises).

    Raises
    ------
    InputError
        If fewer than `m` neighbours of each type were searched for.

    Misleads: 0 is not chance. Tiles of the same label elsewhere are more or fewer than those of another label here, and
    of more tiles the nearest are nearer: an embedding of noise has a median of -0.1 with ten labels at two sites. A
    median hides the tail, which is why the worst tenth stands beside it; a class that is wide everywhere has a small
    margin without any fault of the encoder.
    """
    reason = _missing(near)
    if reason:
        return Undefined(reason)
    so, os = (near.typed[kind].first(m).distance.mean(axis=1) for kind in ("SO", "OS"))
    known = np.flatnonzero(np.isfinite(so) & np.isfinite(os) & (so + os > 0))
    if not len(known):
        return Undefined(f"no tile has {m} tiles of its label elsewhere and {m} of another label here, apart from it")
    values = (os[known] - so[known]) / (os[known] + so[known])
    return RobustnessMargin(m, near.rows[known], values, len(known) / len(near.rows))


@dataclass(frozen=True)
class Shortfalls:
    """By what factor intervals that hold neighbours fixed are too narrow: of both indices, and of margins."""

    index: float
    margin: float


def measure_shortfalls(
    near: TypedNeighbors, groups: Codes, *, k: int = 50, m: int = 5, deals: int = DEALS, seed: int = 0
) -> Shortfalls:
    """Deal labels and confounders anew, each by whole groups (`deal`), and see how far the figures vary (`shortfall`).

    Nearness is mutual: a pair of tiles counts at both ends, and an interval from tiles takes that for two. Margins are
    taken among the plain neighbours that were found, and their mean stands for their median.
    """
    if near.labels is None or near.confounders is None or near.collapsed:
        return Shortfalls(1.0, 1.0)
    distance, clusters = near.plain.distance, groups[near.rows]
    labels = deal(near.labels, groups, deals, seed)
    confounders = deal(near.confounders, groups, deals, seed + 1)
    found = []
    for label, confounder in zip(labels.T, confounders.T, strict=True):
        types = replace(near, labels=label, confounders=confounder).types()
        so, os = types == SAME_OTHER, types == OTHER_SAME
        found.append((*_dealt_index(so[:, :k], os[:, :k], clusters), *_dealt_margin(so, os, distance, m, clusters)))
    index_values, index_spreads, margin_values, margin_spreads = np.array(found).T
    return Shortfalls(shortfall(index_values, index_spreads), shortfall(margin_values, margin_spreads))


def _dealt_index(so: Mask, os: Mask, clusters: Codes) -> tuple[float, float]:
    """Return the robustness index and its standard error; NaN where nothing counts."""
    good, typed = so.sum(axis=1), (so | os).sum(axis=1)
    total = typed.sum()
    if not total:
        return np.nan, np.nan
    value = good.sum() / total
    return float(value), float(cluster_spread(((good - value * typed) / total)[:, None], clusters)[0])


def _dealt_margin(so: Mask, os: Mask, distance: np.ndarray, m: int, clusters: Codes) -> tuple[float, float]:
    """Return the mean margin of the tiles that have both types, and its standard error; NaN where none has."""
    means = []
    for typed in (so, os):
        nearest = typed & (np.cumsum(typed, axis=1) <= m)
        with np.errstate(invalid="ignore"):
            means.append(np.where(nearest, distance, 0).sum(axis=1) / nearest.sum(axis=1))
    with np.errstate(invalid="ignore"):
        values = (means[1] - means[0]) / (means[1] + means[0])
    known = np.isfinite(values)
    if not known.any():
        return np.nan, np.nan
    value = values[known].mean()
    influence = np.where(known, values - value, 0) / known.sum()
    return float(value), float(cluster_spread(influence[:, None], clusters)[0])


def best_k(near: TypedNeighbors, candidates: tuple[int, ...]) -> int:
    """Return the first `k` whose majority vote reads the label best (balanced accuracy), as PathoROB and croma choose.

    Of labels with as many votes, the lower code wins.

    Raises
    ------
    InputError
        If there are no candidates, or fewer neighbours were searched for.
    """
    if not candidates or near.labels is None:
        raise InputError("candidates for k and labels are needed to choose k", received=candidates)
    near.plain.first(max(candidates))
    found = near.plain.counts > 0
    truth = near.labels[near.rows][found]
    index = near.plain.index[found]
    votes = np.where(index >= 0, near.labels[index], -1)
    scores = []
    for k in candidates:
        counts = np.stack([(votes[:, :k] == label).sum(axis=1) for label in range(int(near.labels.max()) + 1)], axis=1)
        correct = (counts.argmax(axis=1) == truth).astype(float)
        scores.append(whole_value(balanced_accuracy(correct, truth), len(truth)))
    return candidates[int(np.argmax(scores))]


def _missing(near: TypedNeighbors) -> str | None:
    """Return why no neighbour can count, or None."""
    if near.labels is None or near.confounders is None:
        raise InputError("these neighbours have no types", fix="search with labels and confounders")
    if near.collapsed:
        return COLLAPSED
    for name, codes in (("label", near.labels), ("confounder", near.confounders)):
        if len(np.unique(codes)) < 2:
            return f"all tiles have one {name}"
    if not near.available[:, SAME_OTHER].any():
        return "no label occurs at two confounders in different groups"
    if not near.available[:, OTHER_SAME].any():
        return "no confounder has two labels in different groups"
    return None


def _pooled(good: Float[np.ndarray, " n"], bad: Float[np.ndarray, " n"]) -> Statistic:
    """Return the statistic: the weighted sum of the one over that of both."""

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return weights @ good / (weights @ (good + bad))

    return statistic
