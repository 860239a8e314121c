"""How a per-tile figure grows with the severity of a perturbation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import rankdata

from ..errors import InputError
from ..stats import RESAMPLES, Estimate, bootstrap, bootstrap_means, cluster_counts, pool_clusters

Outcome = Literal["crosses", "never crosses", "crossed at once"]
#: Weights of clusters `(b, g)` to mean curves `(b, s)`.
Curves = Callable[[Float[np.ndarray, "b g"]], Float[np.ndarray, "b s"]]


@dataclass(frozen=True)
class Crossing:
    """Where a curve first reaches a level. `severity` is None unless `outcome` is `crosses`."""

    outcome: Outcome
    severity: float | None

    def __str__(self) -> str:
        return self.outcome if self.severity is None else f"{self.severity:.2f}"


@dataclass(frozen=True)
class Threshold:
    """The first severity at which a curve reaches `level`, with its 95 % interval.

    `surely` is where the whole band is beyond the level: the severity that can be stated. `early` and `late` bound the
    severity itself over resamples; a resample that never crosses counts as later than all, one that did so at once as
    earlier than all. `never` is the share of resamples that never cross.
    """

    level: float
    upward: bool
    value: Crossing
    surely: Crossing
    early: Crossing
    late: Crossing
    never: float

    def __str__(self) -> str:
        return f"{self.value} [{self.early}, {self.late}]"


@dataclass(frozen=True)
class DoseResponse:
    """The mean of a per-tile figure by severity with its band, its monotonicity, and its threshold if one was asked."""

    severities: tuple[float, ...]
    means: tuple[Estimate, ...]
    monotonicity: Estimate
    threshold: Threshold | None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per severity."""
        rows = [
            {"severity": severity, "value": mean.value, "low": mean.low, "high": mean.high}
            for severity, mean in zip(self.severities, self.means, strict=True)
        ]
        return pd.DataFrame(rows, columns=pd.Index(["severity", "value", "low", "high"]))


def dose_response(
    values: Float[np.ndarray, "n s"],
    severities: Sequence[float] | Float[np.ndarray, " _s"],
    groups: Int[np.ndarray, " _m"],
    *,
    level: float | None = None,
    upward: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> DoseResponse:
    """Summarise a per-tile figure `(n, s)` at increasing severities, the first being no perturbation at all.

    - `means`: BCa intervals from a bootstrap of whole groups; all severities share their resamples.
    - `monotonicity`: Spearman correlation of the mean with severity, -1 to 1, within each resample. With six severities
      it has few values, and chance is 0.
    - `threshold`: where the mean first reaches `level`, interpolated linearly between severities; `upward` says from
      below (a displacement), else from above (an accuracy).

    A curve that is constant has no monotonicity (NaN).

    Misleads: a mean can be flat while one class falls (`break_down`). Severities of two operations are not on one
    scale: compare thresholds in physical units only. A level is crossed once and for all here: a curve that comes back
    is not seen, but its monotonicity is below 1.

    Raises
    ------
    InputError
        If shapes differ, severities do not increase, or values are not finite.
    """
    steps = np.asarray(severities, float)
    _check(values, steps, groups)
    groups = pool_clusters(np.unique(groups, return_inverse=True)[1], seed)
    clusters = int(groups.max()) + 1
    sums = np.zeros((clusters, values.shape[1]))
    np.add.at(sums, groups, values.astype(np.float64))
    sizes = np.bincount(groups)
    each = np.arange(clusters)

    def curves(weights: Float[np.ndarray, "b g"]) -> Float[np.ndarray, "b s"]:
        return (weights @ sums) / (weights @ sizes)[:, None]

    def monotone(weights: Float[np.ndarray, "b g"]) -> Float[np.ndarray, " b"]:
        return spearman(curves(weights), steps)

    means = tuple(bootstrap_means(values.astype(np.float64), groups, resamples=resamples, seed=seed))
    threshold = None
    if level is not None:
        # The same resamples as the band, as rows of one table.
        drawn = _resampled_curves(curves, clusters, resamples, seed)
        threshold = _threshold(means, drawn, steps, level, upward)
    monotonicity = bootstrap(monotone, each, resamples=resamples, seed=seed)
    return DoseResponse(tuple(map(float, steps)), means, monotonicity, threshold)


def spearman(curves: Float[np.ndarray, "b s"], severities: Float[np.ndarray, " s"]) -> Float[np.ndarray, " b"]:
    """Return the Spearman correlation of each row with the severities, ties at their mean rank; NaN for a constant row.

    >>> spearman(np.array([[0.0, 1.0, 3.0], [3.0, 2.0, 0.0], [1.0, 1.0, 1.0]]), np.arange(3.0)).tolist()
    [1.0, -1.0, nan]
    """
    ranks = rankdata(curves, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    order = rankdata(severities) - (len(severities) + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return ranks @ order / np.sqrt((ranks**2).sum(axis=1) * (order**2).sum())


def first_crossing(
    curve: Float[np.ndarray, " s"], severities: Float[np.ndarray, " s"], level: float, *, upward: bool = True
) -> Crossing:
    """Return where a curve through points first reaches `level`, on straight lines between them.

    >>> str(first_crossing(np.array([0.0, 0.4, 0.8]), np.arange(3.0), 0.5))
    '1.25'
    """
    above = (curve - level) if upward else (level - curve)
    reached = np.flatnonzero(above >= 0)
    if not len(reached):
        return Crossing("never crosses", None)
    i = int(reached[0])
    if i == 0:
        return Crossing("crossed at once", None)
    part = above[i - 1] / (above[i - 1] - above[i])
    return Crossing("crosses", float(severities[i - 1] + part * (severities[i] - severities[i - 1])))


def _resampled_curves(curves: Curves, clusters: int, resamples: int, seed: int) -> Float[np.ndarray, "b s"]:
    if clusters < 2:
        return np.empty((0, 0))
    return curves(cluster_counts(clusters, resamples=resamples, seed=seed).astype(float))


def _threshold(
    means: Sequence[Estimate], drawn: np.ndarray, steps: Float[np.ndarray, " s"], level: float, upward: bool
) -> Threshold:
    value = first_crossing(np.array([mean.value for mean in means]), steps, level, upward=upward)
    unsure = [mean.low if upward else mean.high for mean in means]
    known = [bound for bound in unsure if bound is not None]
    surely = (
        first_crossing(np.array(known), steps, level, upward=upward)
        if len(known) == len(means)
        else Crossing("never crosses", None)
    )
    found = [first_crossing(curve, steps, level, upward=upward) for curve in drawn]
    if not found:
        return Threshold(level, upward, value, surely, value, value, float("nan"))
    places = np.sort([_place(crossing) for crossing in found])
    ends = [int(np.floor(0.025 * (len(places) - 1))), int(np.ceil(0.975 * (len(places) - 1)))]
    early, late = (_crossing(places[end]) for end in ends)
    return Threshold(level, upward, value, surely, early, late, float(np.mean(np.isposinf(places))))


def _place(crossing: Crossing) -> float:
    if crossing.severity is not None:
        return crossing.severity
    return np.inf if crossing.outcome == "never crosses" else -np.inf


def _crossing(place: float) -> Crossing:
    if np.isinf(place):
        return Crossing("never crosses" if place > 0 else "crossed at once", None)
    return Crossing("crosses", float(place))


def _check(values: np.ndarray, steps: np.ndarray, groups: np.ndarray) -> None:
    if values.shape[1] != len(steps) or len(values) != len(groups) or len(values) == 0:
        raise InputError(
            "values, severities and groups do not fit each other",
            received=(values.shape, steps.shape, groups.shape),
            valid="(n, s), (s,) and (n,)",
        )
    if len(steps) < 3 or not (np.diff(steps) > 0).all():
        raise InputError("a dose-response needs severities that increase", received=steps.tolist(), valid="3 or more")
    if not np.isfinite(values).all():
        raise InputError("values hold NaN or infinity", received=f"{int((~np.isfinite(values)).sum())} of them")
