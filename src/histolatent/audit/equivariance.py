"""Whether an operation moves embeddings in a way that a simple map foretells, on groups that the map has not seen."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from .._types import Codes, Column, Matrix
from ..errors import InputError, OptionError
from ..spectrum import effective_rank, is_constant
from ..stats import RESAMPLES, Estimate, Statistic, bootstrap, pool_clusters
from .displacement import cosine_distances
from .geometry import check_pairs
from .linear_maps import CHUNK_ROWS, FOLDS, Inputs, fit_maps, prepare_inputs

MAPS = ("identity", "average", "shift", "low_rank", "ridge")
#: A cosine distance up to which a tile has not turned, but for rounding.
NOT_TURNED = 1e-12

Verdict = Literal["invariant", "shared direction", "linear", "entangled", "undecided", "undefined"]


@dataclass(frozen=True)
class EquivariancePolicy:
    """What each verdict asks of the 95 % interval. The defaults are conventions.

    `still`: an operation is invariant if the upper bound of its move is at most this share of the distance of
    unrelated tiles; 0.1 is 1 % of the variance, less than any use of an embedding notices. `explained`: a map holds if
    the lower bound of what it explains is at least this, and fails if the upper bound is below; with 0.5, most of the
    move is foretold. `least_groups`: with fewer groups than folds there is no fair test.
    """

    still: float = 0.1
    explained: float = 0.5
    least_groups: int = FOLDS

    def __post_init__(self) -> None:
        if not (self.still >= 0 and 0 < self.explained <= 1 and self.least_groups >= FOLDS):
            raise OptionError(
                "the policy of equivariance is out of range",
                received=self,
                valid=f"still at least 0, explained above 0 up to 1, least_groups at least {FOLDS}",
            )


@dataclass(frozen=True)
class MapResult:
    """How well one map foretells perturbed embeddings of groups that it was not fitted on."""

    name: str
    explained: Estimate
    gap_closed: Estimate
    r2: Estimate


@dataclass(frozen=True)
class Equivariance:
    """What one operation does to an embedding, and the verdict with its reason.

    `maps` holds the result of each map in `MAPS`; `gaps` the gap closed per tile `(n,)`, by map; NaN where a tile did
    not move. `penalties` and `ranks` are what was chosen in each fold. All is empty or NaN where it is undefined.
    """

    verdict: Verdict
    reason: str
    move: Estimate
    direction_consistency: float
    shared_consistency: Estimate
    effective_rank: float
    maps: dict[str, MapResult]
    gaps: dict[str, np.ndarray]
    penalties: tuple[float, ...]
    ranks: tuple[int, ...]
    tiles: int
    groups: int
    policy: EquivariancePolicy

    def to_frame(self) -> pd.DataFrame:
        """Return one row per map and figure, with the interval."""
        rows = [
            {"map": item.name, "metric": metric, "value": part.value, "low": part.low, "high": part.high}
            for item in self.maps.values()
            for metric in ("explained", "gap_closed", "r2")
            for part in (getattr(item, metric),)
        ]
        return pd.DataFrame(rows, columns=pd.Index(["map", "metric", "value", "low", "high"]))


@dataclass(frozen=True)
class _Errors:
    """Per-tile sums of one operation: squared errors and cosine gaps by map, squared spread of the tiles."""

    squared: dict[str, Column]
    gap: dict[str, Column]
    spread: Column
    penalties: tuple[float, ...]
    ranks: tuple[int, ...]


def measure_equivariance(
    vectors: Matrix,
    moved: Float[np.ndarray, "_m _e"],
    groups: Int[np.ndarray, " _m"],
    *,
    policy: EquivariancePolicy | None = None,
    inputs: Inputs | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Equivariance:
    r"""Fit maps from `vectors` to `moved`, both `(n, d)`, on training groups and test them on held-out groups.

    Maps, each holding the one before it: identity $z$; shift $z + \bar{d}$ with $d = z' - z$; low-rank and ridge
    $z + \bar{d} + (z - \bar{z})B$, penalty and rank chosen by a grouped split of the training part. `average`, the mean
    perturbed embedding, ignores the tile: it is the floor. Five folds of whole groups; `groups` are coded from 0.

    - `gap_closed`: $(\cos(p, z') - \cos(z, z')) / (1 - \cos(z, z'))$ of a prediction p. Per tile in `gaps`; the figure
      is the ratio of the sums, so that a tile that hardly moved does not decide it. At most 1, no lower limit.
    - `r2`: $1 - \sum|z' - p|^2 / \sum|z' - \bar{z}'|^2$ with the mean of the training part.
    - `explained`: $1 - \sum|z' - p|^2 / \min(\sum|z' - z|^2, \sum|z' - \bar{z}'|^2)$: what a map foretells beyond both
      the tile itself and the average perturbed tile. The verdict rests on it.
    - `move`: root mean square of $|d|$ over that distance of two unrelated tiles, $\sqrt{2\,\mathrm{tr}\,S}$; 0 is no
      move.
    - `direction_consistency`: $|\bar{d}|^2 / \overline{|d|^2}$; 1 if all tiles move alike, 1/n by chance. Resampling
      lifts a squared mean, so the interval is that of `shared_consistency`: the same from pairs of tiles of different
      groups only, 0 by chance, and not lifted by what a group shares.
    - `effective_rank` of the moves, mean included.

    Verdict, by interval bounds: invariant (hardly moves), else shared direction (the shift explains it), else linear
    (low-rank or ridge explains it), else entangled (neither can), else undecided. `inputs` from `prepare_inputs` with
    the same vectors, groups and seed spares work when several operations are measured.

    Misleads: perturbed embeddings that have nothing to do with the tile reach a gap closed up to .5 and an explained
    share of the move of .5, by shrinking to the average; this is why `explained` asks for more. Noise in the move
    cannot be foretold and counts as entangled. A direction consistency near 1 only says that the shift is large beside
    what else happens. Intervals hold the fits fixed. With fewer tiles than dimensions a linear map may exist and not
    be found. Not the same on L2-normalised vectors: normalise first if they are used so.

    Reference: arXiv 2606.24430 for the question; Lenc & Vedaldi 2015 for fitted equivariance maps.

    Raises
    ------
    InputError
        If shapes differ or values are not finite.
    """
    policy = policy or EquivariancePolicy()
    check_pairs(vectors, moved)
    if vectors.shape[1] != moved.shape[1] or len(groups) != len(vectors):
        raise InputError(
            "vectors, moved vectors and groups do not fit each other",
            received=(vectors.shape, moved.shape, groups.shape),
            valid="(n, d), (n, d) and (n,)",
        )
    groups = np.unique(groups, return_inverse=True)[1]
    reason = _undefined(vectors, moved, groups, policy)
    if reason is not None:
        return _nothing(reason, groups, policy)
    moves = np.subtract(moved, vectors, dtype=np.result_type(moved, vectors, np.float32))
    if not moves.any():
        return _nothing("no tile moves at all", groups, policy, verdict="invariant", move=Estimate(0.0, 0.0, 0.0))
    errors = _cross_errors(vectors, moved, moves, inputs or prepare_inputs(vectors, groups, seed=seed))
    clusters = pool_clusters(groups, seed)
    maps = {name: _map_result(name, errors, clusters, resamples, seed) for name in MAPS}
    total = [_sums(column, clusters) for column in (errors.squared["identity"], errors.spread)]
    move = _ratio(*total, resamples=resamples, seed=seed, finish=lambda share: np.sqrt(share / 2))
    verdict, reason = _judge(move, maps, policy)
    consistency, shared = direction_consistency(moves, clusters, resamples=resamples, seed=seed)
    return Equivariance(
        verdict=verdict,
        reason=reason,
        move=move,
        direction_consistency=consistency,
        shared_consistency=shared,
        effective_rank=effective_rank(moves, centred=False),
        maps=maps,
        gaps=_gaps(errors),
        penalties=errors.penalties,
        ranks=errors.ranks,
        tiles=len(vectors),
        groups=int(groups.max()) + 1,
        policy=policy,
    )


def _undefined(vectors: Matrix, moved: Matrix, groups: Codes, policy: EquivariancePolicy) -> str | None:
    count = int(groups.max()) + 1
    if count < policy.least_groups:
        return f"{count} groups are too few to fit on some and test on others: at least {policy.least_groups}"
    if is_constant(vectors):
        return "every tile has practically the same embedding: that it does not move is worth nothing"
    if is_constant(moved):
        return "every perturbed tile has practically the same embedding: the tile is lost, and any map foretells it"
    return None


NO_ESTIMATE = Estimate(float("nan"), None, None)


def _nothing(
    reason: str,
    groups: Codes,
    policy: EquivariancePolicy,
    *,
    verdict: Verdict = "undefined",
    move: Estimate = NO_ESTIMATE,
) -> Equivariance:
    nan, count = float("nan"), int(groups.max()) + 1
    return Equivariance(verdict, reason, move, nan, NO_ESTIMATE, nan, {}, {}, (), (), len(groups), count, policy)


def _cross_errors(vectors: Matrix, moved: Matrix, moves: Matrix, inputs: Inputs) -> _Errors:
    n = len(vectors)
    squared, gap = ({name: np.zeros(n) for name in MAPS} for _ in range(2))
    mean, total = vectors.mean(axis=0, dtype=np.float64), moved.sum(axis=0, dtype=np.float64)
    spread, penalties, ranks = np.zeros(n), [], []
    for rows, maps in zip(inputs.folds, fit_maps(inputs, moves), strict=True):
        average = (total - moved[rows].sum(axis=0, dtype=np.float64)) / (n - len(rows))
        penalties.append(maps.penalty)
        ranks.append(maps.rank)
        for part, block in inputs.rows(rows):
            tile, target = vectors[part].astype(np.float64), moved[part].astype(np.float64)
            predicted = {"identity": tile, "average": np.broadcast_to(average, tile.shape), "shift": tile + maps.shift}
            predicted |= {name: tile + move for name, move in maps.moves(block).items()}
            for name in MAPS:
                squared[name][part] = ((predicted[name] - target) ** 2).sum(axis=1)
                gap[name][part] = cosine_distances(predicted[name], target)
            spread[part] = ((tile - mean) ** 2).sum(axis=1)
    turned = gap["identity"] > NOT_TURNED
    gap = {name: np.where(turned, distance, 0.0) for name, distance in gap.items()}
    return _Errors(squared, gap, spread, tuple(penalties), tuple(ranks))


def _gaps(errors: _Errors) -> dict[str, np.ndarray]:
    before = errors.gap["identity"]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: (before - after) / before for name, after in errors.gap.items()}


def _sums(column: Column, clusters: Codes) -> Float[np.ndarray, " g"]:
    return np.bincount(clusters, column)


def _ratio(
    above: np.ndarray, below: np.ndarray, *, resamples: int, seed: int, finish: Statistic = lambda share: share
) -> Estimate:
    """Estimate a ratio of sums over tiles from its sums over clusters."""

    def statistic(weights: Float[np.ndarray, "b g"]) -> Float[np.ndarray, " b"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return finish((weights @ above) / (weights @ below))

    return bootstrap(statistic, np.arange(len(above)), resamples=resamples, seed=seed)


def _map_result(name: str, errors: _Errors, clusters: Codes, resamples: int, seed: int) -> MapResult:
    left, still, average = (_sums(errors.squared[key], clusters) for key in (name, "identity", "average"))
    gap, before = (_sums(errors.gap[key], clusters) for key in (name, "identity"))

    def explained(weights: Float[np.ndarray, "b g"]) -> Float[np.ndarray, " b"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - (weights @ left) / np.minimum(weights @ still, weights @ average)

    options = {"resamples": resamples, "seed": seed}
    return MapResult(
        name,
        bootstrap(explained, np.arange(len(left)), **options),
        _ratio(gap, before, finish=lambda share: 1 - share, **options),
        _ratio(left, average, finish=lambda share: 1 - share, **options),
    )


def direction_consistency(
    moves: Matrix, groups: Codes, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, Estimate]:
    """Return how far moves `(n, d)` go the same way: of all tiles, and from pairs of different groups with interval.

    See `measure_equivariance`. `groups` is coded from 0. Near chance the interval is wider than it need be.
    """
    count = int(groups.max()) + 1
    vectors = np.zeros((count, moves.shape[1]))
    for start in range(0, len(moves), CHUNK_ROWS):
        np.add.at(vectors, groups[start : start + CHUNK_ROWS], moves[start : start + CHUNK_ROWS])
    lengths = np.bincount(groups, np.einsum("nd,nd->n", moves, moves, dtype=np.float64))
    sizes, own = np.bincount(groups).astype(float), (vectors**2).sum(axis=1)

    def between(weights: Float[np.ndarray, "b g"]) -> Float[np.ndarray, " b"]:
        # A group drawn twice is no other group: its products with itself are taken out with their weight.
        products = ((weights @ vectors) ** 2).sum(axis=1) - weights**2 @ own
        pairs = (weights @ sizes) ** 2 - weights**2 @ sizes**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return products / pairs / ((weights @ lengths) / (weights @ sizes))

    plain = float((vectors.sum(axis=0) ** 2).sum() / (len(moves) * lengths.sum()))
    return plain, bootstrap(between, np.arange(count), resamples=resamples, seed=seed)


def _judge(move: Estimate, maps: dict[str, MapResult], policy: EquivariancePolicy) -> tuple[Verdict, str]:
    if move.high is not None and move.high <= policy.still:
        return "invariant", f"tiles move {move} of the distance of unrelated tiles: at most {policy.still:g}"
    bounds = {name: (maps[name].explained.low, maps[name].explained.high) for name in ("shift", "low_rank", "ridge")}
    lows = {name: low for name, (low, _) in bounds.items() if low is not None}
    if len(lows) < len(bounds):
        return "undefined", "what a map explains has no interval"
    best = "low_rank" if lows["low_rank"] > lows["ridge"] else "ridge"
    estimate, words = maps[best].explained, best.replace("_", "-")
    if lows["shift"] >= policy.explained:
        return "shared direction", f"one shift for all tiles explains {maps['shift'].explained} of the move"
    if lows[best] >= policy.explained:
        return "linear", f"a {words} map explains {estimate} of the move"
    if all(high is not None and high < policy.explained for _, high in bounds.values()):
        return "entangled", f"no map explains {policy.explained:g} of the move; a {words} map {estimate}"
    return "undecided", (
        f"the interval of what a {words} map explains, {estimate}, spans {policy.explained:g}: more groups are needed"
    )
