"""Intervals that respect clusters, splits that respect groups, and the figures they are put on."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from scipy.stats import rankdata

from ._types import Codes, Column
from .errors import InputError

RESAMPLES = 2000
CHUNK = 200
#: More groups than this are joined at random before resampling, which bounds time and memory.
MOST_CLUSTERS = 1000

#: A statistic over tiles, vectorised over resamples: `(b, n)` weights to `(b,)` values.
Statistic = Callable[[Float[np.ndarray, "b n"]], Float[np.ndarray, " b"]]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval. `low` and `high` are None where no interval can be had."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def widened(self, factor: float, limits: tuple[float, float] = (-math.inf, math.inf)) -> "Estimate":
        """Return the same value with an interval that reaches `factor` times as far, but not beyond `limits`.

        >>> print(Estimate(0.9, 0.8, 0.95).widened(2.0, (0, 1)))
        0.900 [0.700, 1.000]
        """
        if self.low is None or self.high is None:
            return self
        low, high = (self.value + factor * (end - self.value) for end in (self.low, self.high))
        return Estimate(self.value, max(low, limits[0]), min(high, limits[1]))


@lru_cache(maxsize=4)
def cluster_counts(clusters: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Int[np.ndarray, "b g"]:
    """Return how often each cluster is drawn in each bootstrap resample of whole clusters. Not to be written to.

    The same arguments give the same resamples: figures that are to be compared share them, and they are drawn once.
    """
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, clusters])))
    counts = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    counts.flags.writeable = False
    return counts


def pool_clusters(groups: Codes, seed: int, most: int = MOST_CLUSTERS) -> Codes:
    """Join groups at random into at most `most` clusters of whole groups, each of about as many groups.

    An interval from joined groups is as wide on average, and a little less certain of its own width.
    """
    count = int(groups.max()) + 1
    if count <= most:
        return groups
    order = np.random.Generator(np.random.Philox(seed)).permutation(count)
    return (order % most)[groups]


def bootstrap(
    statistic: Statistic, groups: Codes, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Estimate a statistic with a BCa interval from a bootstrap of whole clusters.

    `groups` holds the cluster of each tile, coded from 0. The acceleration comes from leaving out one cluster at a time
    (Efron 1987, J. Am. Stat. Assoc. 82:171). Quantiles are those of Student's t, as a bootstrap of few clusters is too
    narrow otherwise (Hesterberg 2015, Am. Stat. 69:371). Where the bootstrap distribution is one point, the interval is
    that point.

    Misleads with few clusters: below about 10 it ends where the resamples do. With one cluster there is none.
    """
    n, clusters = len(groups), int(groups.max()) + 1
    value = whole_value(statistic, n)
    if clusters < 2 or not np.isfinite(value):
        return Estimate(value, None, None)
    counts = cluster_counts(clusters, resamples=resamples, seed=seed)
    draws = _evaluate(statistic, counts, groups)
    draws = draws[np.isfinite(draws)]
    if draws.size < resamples // 2:
        return Estimate(value, None, None)
    low, high = _bca(value, draws, _leave_out(statistic, groups, clusters), level, clusters)
    return Estimate(value, low, high)


def bootstrap_means(
    values: Float[np.ndarray, "n m"], groups: Codes, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> list[Estimate]:
    """Estimate the mean of each of `m` columns with BCa cluster intervals, in one pass over cluster sums."""
    clusters = int(groups.max()) + 1
    means = values.mean(axis=0)
    if clusters < 2:
        return [Estimate(float(mean), None, None) for mean in means]
    sums = np.zeros((clusters, values.shape[1]))
    np.add.at(sums, groups, values)
    sizes = np.bincount(groups, minlength=clusters)
    counts = cluster_counts(clusters, resamples=resamples, seed=seed)
    draws = counts @ sums / (counts @ sizes)[:, None]
    left_out = (sums.sum(axis=0) - sums) / (len(groups) - sizes)[:, None]
    bounds = [_bca(float(means[j]), draws[:, j], left_out[:, j], level, clusters) for j in range(values.shape[1])]
    return [Estimate(float(mean), low, high) for mean, (low, high) in zip(means, bounds, strict=True)]


@dataclass(frozen=True)
class Difference:
    """A paired difference with its BCa interval, and the two-sided p-value whose interval just touches 0.

    `p` is None where there is no interval. It is not smaller than `least_p`.
    """

    estimate: Estimate
    p: float | None


def paired_difference(
    first: Statistic, second: Statistic, groups: Codes, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Estimate `first - second` on the same tiles and the same resamples of whole clusters.

    The p-value inverts the interval: it is below 0.05 where the 95 % interval excludes 0, unless clusters or resamples
    are too few to say so (`least_p`).
    """
    clusters = int(groups.max()) + 1

    def difference(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        return first(weights) - second(weights)

    once = np.ones((1, len(groups)))
    ends = float(first(once)[0]), float(second(once)[0])
    value = ends[0] - ends[1]
    nothing = Difference(Estimate(value, None, None), None)
    if clusters < 2 or not np.isfinite(value):
        return nothing
    draws = _evaluate(difference, cluster_counts(clusters, resamples=resamples, seed=seed), groups)
    draws = draws[np.isfinite(draws)]
    if draws.size < resamples // 2:
        return nothing
    left_out = _leave_out(difference, groups, clusters)
    estimate = Estimate(value, *_bca(value, draws, left_out, 0.95, clusters))
    rounding = 1e-12 * max(map(abs, ends))
    least = least_p(clusters, len(draws))
    if np.abs(draws - value).max() <= rounding:  # the bootstrap distribution is one point
        return Difference(estimate, 1.0 if abs(value) <= rounding else least)
    share = (np.sum(draws < 0) + 0.5 * np.sum(draws == 0)) / len(draws)
    if share in (0, 1):  # no interval reaches 0
        return Difference(estimate, least)
    bias, acceleration = _shift(value, draws, left_out)
    reached = ndtri(share) - bias
    z = reached / (1 + acceleration * reached) - bias
    p = 2 * stdtr(clusters - 1, -abs(z) / _wider(clusters))
    return Difference(estimate, float(np.clip(p, least, 1)))


def least_p(clusters: int, resamples: float) -> float:
    """Return the smallest p-value that a comparison can have.

    Of `g` clusters without any difference, all point one way once in `2 ** (g - 1)` times; and resamples that all lie
    on one side say no more than their number. With infinite `resamples` it is what the clusters allow.

    >>> least_p(4, 2000), least_p(40, 199)
    (0.125, 0.01)
    """
    return max(2.0 ** (1 - clusters), 2 / (resamples + 1))


def holm(p: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Return p-values adjusted by Holm's step-down procedure: the chance of any false finding stays below them.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(raised, 1)
    return adjusted


def deal(codes: Codes, groups: Codes, times: int, seed: int) -> Int[np.ndarray, "n p"]:
    """Return codes dealt anew, a column per deal: by whole groups where each group has one code, as a site has.

    Other codes are dealt in blocks that are as long as groups are, so that tiles of a patient keep going together.
    """
    random = np.random.Generator(np.random.Philox(seed))
    blocks = np.unique(groups, return_inverse=True)[1]
    order, sizes = np.argsort(blocks, kind="stable"), np.bincount(blocks)
    ordered, block = codes[order], np.repeat(np.arange(len(sizes)), sizes)
    first = ordered[np.cumsum(sizes) - sizes]
    whole = bool((ordered == first[block]).all())
    dealt = np.empty((len(codes), times), codes.dtype)
    for column in range(times):
        if whole:
            values = np.repeat(first[random.permutation(len(sizes))], sizes)
        else:
            place = random.permutation(len(sizes))[block]
            values = ordered[np.lexsort((random.random(len(codes)), place))]
        dealt[order, column] = values
    return dealt


def shortfall(values: Float[np.ndarray, " p"], spreads: Float[np.ndarray, " p"]) -> float:
    """Return by what factor intervals are too narrow, at least 1: how far values vary, over what intervals think.

    `values` are a figure where labels are dealt anew, `spreads` the standard error that its interval stands for, each
    time. A bootstrap of tiles holds fits and neighbours fixed, and misses that labels which teach by accident also test
    by accident. 1 where fewer than half of the values exist.
    """
    known = np.isfinite(values) & np.isfinite(spreads) & (spreads > 0)
    if known.sum() < max(2, len(values) / 2):
        return 1.0
    return max(1.0, float(values[known].std(ddof=1) / np.sqrt(np.mean(spreads[known] ** 2))))


def cluster_spread(influence: Float[np.ndarray, "n p"], groups: Codes) -> Float[np.ndarray, " p"]:
    """Return the standard error of figures of which tile i has the share `influence[i]`, in whole clusters.

    It is what the interval of `bootstrap` stands for, to first order.
    """
    clusters = int(groups.max()) + 1
    if clusters < 2:
        return np.full(influence.shape[1], np.nan)
    sums = np.zeros((clusters, influence.shape[1]))
    np.add.at(sums, groups, influence)
    return np.sqrt((sums**2).sum(axis=0) * clusters / (clusters - 1))


def _evaluate(statistic: Statistic, counts: Int[np.ndarray, "b g"], groups: Codes) -> Float[np.ndarray, " b"]:
    parts = [statistic(counts[start : start + CHUNK, groups].astype(float)) for start in range(0, len(counts), CHUNK)]
    return np.concatenate(parts)


def _leave_out(statistic: Statistic, groups: Codes, clusters: int) -> Float[np.ndarray, " g"]:
    """Return the statistic without each cluster in turn, where it exists. No g x g matrix is held."""
    starts = range(0, clusters, CHUNK)
    parts = [np.arange(start, min(start + CHUNK, clusters))[:, None] for start in starts]
    values = np.concatenate([statistic((groups[None, :] != part).astype(float)) for part in parts])
    return values[np.isfinite(values)]


def _bca(
    value: float, draws: Column, left_out: Float[np.ndarray, " g"], level: float, clusters: int
) -> tuple[float, float]:
    bias, acceleration = _shift(value, draws, left_out)
    ends = reach(clusters, level)
    shifted = bias + np.array([-ends, ends])
    with np.errstate(divide="ignore"):
        quantiles = ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 0))
    low, high = np.quantile(draws, quantiles)
    return float(low), float(high)


def reach(clusters: int, level: float = 0.95) -> float:
    """Return how many standard deviations of resamples an interval reaches to either side: more where clusters are few.

    >>> round(reach(5), 2), round(reach(1000), 2)
    (3.1, 1.96)
    """
    return float(stdtrit(clusters - 1, (1 + level) / 2)) * _wider(clusters)


def _wider(clusters: int) -> float:
    """Return what a bootstrap of clusters falls short by: it divides squares by their number, not by one less."""
    return math.sqrt(clusters / (clusters - 1))


def _shift(value: float, draws: Column, left_out: Float[np.ndarray, " g"]) -> tuple[float, float]:
    """Return bias and acceleration of the BCa interval; 0 and 0, the percentile interval, where they are not known."""
    below = (np.sum(draws < value) + 0.5 * np.sum(draws == value)) / len(draws)
    spread = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    scale = 6 * np.sum(spread**2) ** 1.5
    if not (0 < below < 1 and scale > 0):
        return 0.0, 0.0
    return float(ndtri(below)), float(np.sum(spread**3) / scale)


def share_above(values: Column, null: Float[np.ndarray, " m"]) -> Column:
    """Return for each value the share of the null that is above it, ties half: its mean is the AUROC P(value < null).

    >>> share_above(np.array([0.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [1.0, 0.625]
    """
    ordered = np.sort(null)
    left, right = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return 1 - (left + right) / (2 * len(ordered))


def auroc(scores: Column, positive: Int[np.ndarray, " n"]) -> float:
    """Return the area under the ROC curve of `scores` for `positive` in {0, 1}; NaN if one class is empty.

    >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def balanced_accuracy(correct: Column, codes: Codes) -> Statistic:
    """Return the statistic: the mean over classes of the share of a class's tiles that were right."""
    classes = [np.flatnonzero(codes == code) for code in np.unique(codes)]

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        # A resample may have lost a class: it is averaged over those that it has.
        with np.errstate(invalid="ignore", divide="ignore"):
            recalls = [weights[:, rows] @ correct[rows] / weights[:, rows].sum(axis=1) for rows in classes]
            present = np.isfinite(recalls)
            return np.where(present, recalls, 0).sum(axis=0) / present.sum(axis=0)

    return statistic


def weighted_auroc(scores: Column, positive: Int[np.ndarray, " n"]) -> Statistic:
    """Return the statistic: the area under the ROC curve with weighted tiles, ties half."""
    order = np.argsort(scores, kind="stable")
    ties = np.concatenate([[0], np.cumsum(np.diff(scores[order]) != 0)])
    starts = np.flatnonzero(np.concatenate([[True], np.diff(ties) != 0]))

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        ordered = weights[:, order]
        up = np.add.reduceat(ordered * (positive[order] == 1), starts, axis=1)
        down = np.add.reduceat(ordered * (positive[order] == 0), starts, axis=1)
        below = np.cumsum(down, axis=1) - 0.5 * down
        with np.errstate(invalid="ignore", divide="ignore"):
            return (up * below).sum(axis=1) / (up.sum(axis=1) * down.sum(axis=1))

    return statistic


def whole_value(statistic: Statistic, n: int) -> float:
    """Return what a statistic is where each of `n` tiles counts once."""
    return float(statistic(np.ones((1, n)))[0])


def weighted_mean(values: Float[np.ndarray, " n"]) -> Statistic:
    """Return the statistic: the mean over weighted tiles; NaN where a resample has none of them."""

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return weights @ values / weights.sum(axis=1)

    return statistic


def weighted_quantile(values: Float[np.ndarray, " n"], share: float) -> Statistic:
    """Return the statistic: the quantile of the tiles, each counted as often as its whole weight says (linear, type 7).

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), 0.5)(np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]])).tolist()
    [2.0, 3.0]
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        reached = np.cumsum(weights[:, order], axis=1)
        total = reached[:, -1]
        position = share * np.maximum(total - 1, 0)
        below = np.floor(position)
        ends = [(reached <= count[:, None]).sum(axis=1) for count in (below, below + 1)]
        low, high = (ordered[np.minimum(end, len(ordered) - 1)] for end in ends)
        part = position - below
        between = np.where(part < 0.5, low + (high - low) * part, high - (high - low) * (1 - part))
        return np.where(total > 0, between, np.nan)

    return statistic


def weighted_tail_mean(values: Float[np.ndarray, " n"], share: float) -> Statistic:
    """Return the statistic: the mean of the tiles that do not exceed the quantile of this share.

    >>> weighted_tail_mean(np.array([4.0, 1.0, 2.0, 3.0]), 0.4)(np.ones((1, 4))).tolist()
    [1.5]
    """
    quantile = weighted_quantile(values, share)

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        inside = weights * (values[None, :] <= quantile(weights)[:, None])
        with np.errstate(invalid="ignore", divide="ignore"):
            return inside @ values / inside.sum(axis=1)

    return statistic


def check_split(split: list[str | None], groups: list[str | None], *, group_name: str) -> None:
    """Raise InputError if a group stands on both sides of a split.

    >>> check_split(["train", "test"], ["p1", "p1"], group_name="patient")
    Traceback (most recent call last):
        ...
    histolatent.errors.InputError: 1 patient stands in more than one part of the split, so its tiles leak. \
Received: p1 (test, train). Fix: give every tile of a patient the same split
    """
    parts: dict[str, set[str]] = {}
    for part, group in zip(split, groups, strict=True):
        if part is not None and group is not None:
            parts.setdefault(group, set()).add(part)
    leaking = sorted(group for group, found in parts.items() if len(found) > 1)
    if leaking:
        many = len(leaking) > 1
        raise InputError(
            f"{len(leaking)} {group_name}{'s stand' if many else ' stands'} in more than one part of the split, "
            f"so {'their' if many else 'its'} tiles leak",
            received=f"{leaking[0]} ({', '.join(sorted(parts[leaking[0]]))})",
            fix=f"give every tile of a {group_name} the same split",
        )
