"""How far a map may be believed: neighbours lost and invented, with intervals, from some tiles scored against all."""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import rankdata

from .._types import Codes, Column, GivenCodes, Matrix
from ..errors import InputError, OptionError
from ..neighbors import CHUNK_BYTES
from ..neighbors.space import check_vectors
from ..provenance import stream
from ..stats import Estimate, Statistic, bootstrap, bootstrap_means
from ..threads import one_blas_thread
from .graph import metric_rows
from .metrics import MAP_METRICS

ANCHORS = 1000
#: Neighbourhoods in which a map is scored.
SIZES = (15, 50)
#: Tiles that each anchor is compared with in distance, and pairs of them in order.
PARTNERS = 64
#: A map of no more columns than this is compared by differences of its columns, which do not cancel.
FEW_COLUMNS = 8
WORKERS = 8
FLOOR_ANCHORS = 200
Ranks = Int[np.ndarray, "_c _n"]


@dataclass(frozen=True)
class MapFigure:
    """One figure of a map, with its interval, and what a layout drawn at random has."""

    metric: str
    k: int | None
    estimate: Estimate
    floor: float

    @property
    def name(self) -> str:
        """The metric, and of how many neighbours."""
        return self.metric if self.k is None else f"{self.metric}@{self.k}"


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What a map kept of a space of `n` tiles, read at the tiles `rows`.

    `local` has a row for each of these, by its place: `recall@k`, and `false@k` and `missing@k`, the ranks that
    trustworthiness and continuity count, 0 where the neighbourhood is that of the space.
    """

    n: int
    rows: Codes
    figures: tuple[MapFigure, ...]
    local: pd.DataFrame

    def __getitem__(self, name: str) -> MapFigure:
        """Return a figure by its name: `recall@15`, `auc`."""
        found = next((figure for figure in self.figures if figure.name == name), None)
        if found is None:
            raise OptionError(
                "no such figure of a map", received=name, valid=", ".join(figure.name for figure in self.figures)
            )
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each figure."""
        return pd.DataFrame(
            {
                "metric": figure.metric,
                "k": figure.k,
                "value": figure.estimate.value,
                "low": figure.estimate.low,
                "high": figure.estimate.high,
                "floor": figure.floor,
                "better": MAP_METRICS[figure.metric].better,
            }
            for figure in self.figures
        )


def measure_faithfulness(
    vectors: Matrix,
    places: Float[np.ndarray, "_m _q"],
    *,
    sizes: Sequence[int] = SIZES,
    anchors: int | None = ANCHORS,
    groups: GivenCodes | None = None,
    metric: str = "cosine",
    exact: bool = False,
    seed: int = 0,
) -> Faithfulness:
    r"""Score a map, `places`, against the space, `vectors`, by the neighbours and the order of distances that it keeps.

    With $r_{ij}$ the rank of tile j among the neighbours of i in the space, $s_{ij}$ that in the map, $K_k$ the k
    nearest, N tiles:

    - trustworthiness $1 - \frac{2}{N k (2N - 3k - 1)} \sum_i \sum_{j \in K^Y_k \setminus K^X_k} (r_{ij} - k)$, and
      continuity, with roles swapped;
    - `mrre_false` and `mrre_missing`, 1 less the mean relative error of ranks (Lee & Verleysen 2007);
    - recall $Q(k)$, the share of neighbours that are kept, and $R(k) = \frac{(N-1) Q(k) - k}{N - 1 - k}$, 0 at random;
    - `auc`, the mean of $R(k)$ over all k, weighed by 1/k;
    - `triplets`, how often the map knows which of two tiles is nearer; `shepard`, the rank correlation of distances;
      `stress`, the misfit of distances at the best scale.

    Each is a mean over `anchors` tiles drawn at random, each scored against all N: unlike subsampling of both spaces,
    this has no bias. None takes every tile. Intervals are of 95 %: with `groups` (patients) for other patients' tiles,
    by whole groups; without them for this map, so that they vanish where every tile is an anchor.

    `exact` computes distances in float64, and ties go by row; else in float32, which ranks as well where distances
    differ by more than rounding. `metric` is of the space: with `cosine`, distances are those of unit vectors.

    Misleads: trustworthiness is high for maps that lose most neighbours, as its penalty counts ranks among all tiles;
    read it with recall, against their floors.

    Raises
    ------
    InputError
        If there are fewer than 5 tiles, lengths differ, values are not finite, or the map is one point.
    OptionError
        If a size is not from 1 to below N / 2, or there is no such metric.

    >>> places = np.random.default_rng(0).normal(size=(60, 2))
    >>> measure_faithfulness(places, places, sizes=(5,), metric="euclidean")["recall@5"].estimate.value
    1.0
    """
    n = len(vectors)
    _check(vectors, places, sizes, anchors, groups)
    count = n if anchors is None else min(anchors, n)
    rows = np.sort(stream(seed, "anchors").permutation(n)[:count])
    space = _Side.of(vectors, metric, exact)
    picture = _Side.of(places, "euclidean", True)
    scores = _score(space, picture, rows, sizes, exact, seed)
    shuffled = picture.shuffled(stream(seed, "floor").permutation(n))
    floors = _score(space, shuffled, rows[:FLOOR_ANCHORS], sizes, exact, seed)
    clusters = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
    return Faithfulness(
        n,
        rows,
        tuple(scores.figures(floors, clusters, 1 - count / n)),
        pd.DataFrame(scores.local, index=pd.Index(rows, name="tile")),
    )


def _check(
    vectors: np.ndarray,
    places: np.ndarray,
    sizes: Sequence[int],
    anchors: int | None,
    groups: np.ndarray | None,
) -> None:
    n = len(vectors)
    if n < 5:
        raise InputError("too few tiles to have neighbourhoods", received=n, valid="5 or more, better hundreds")
    if len(places) != n:
        raise InputError("map and space have different numbers of tiles", received=f"{len(places)} and {n}")
    check_vectors(vectors)
    check_vectors(places, "the places of the map")
    if not np.ptp(places, axis=0).any():
        raise InputError("every tile is at the same place of the map: there is nothing to judge")
    if groups is not None and len(groups) != n:
        raise InputError("groups have to be one code for each tile", received=f"{len(groups)} for {n} tiles")
    if anchors is not None and anchors < 2:
        raise OptionError("too few anchors", received=anchors, valid="2 or more")
    for k in sizes:
        if not 1 <= k < n / 2:
            raise OptionError(
                "trustworthiness is not defined for so many neighbours",
                received=f"k = {k} of {n} tiles",
                valid=f"1 to {math.ceil(n / 2) - 1}",
            )


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two spaces: rows ready for products, and half of their squared lengths; None where columns are few."""

    rows: np.ndarray
    halves: np.ndarray | None

    @classmethod
    def of(cls, vectors: np.ndarray, metric: str, exact: bool) -> "_Side":
        rows = metric_rows(vectors, metric).astype(np.float64 if exact else np.float32)
        if rows.shape[1] <= FEW_COLUMNS:
            return cls(rows, None)
        rows = rows - rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
        return cls(rows, 0.5 * np.einsum("nd,nd->n", rows, rows))

    def shuffled(self, order: np.ndarray) -> "_Side":
        """Return the same places, dealt anew to the tiles."""
        return _Side(self.rows[order], None if self.halves is None else self.halves[order])

    def keys(self, chosen: np.ndarray) -> Float[np.ndarray, "_c _n"]:
        """Return what grows with the distance of each tile from those chosen; the tile itself comes first."""
        if self.halves is None:
            keys = np.zeros((len(chosen), len(self.rows)), self.rows.dtype)
            for column in self.rows.T:
                keys += (column[None, :] - column[chosen][:, None]) ** 2
        else:
            keys = self.halves[None, :] - self.rows[chosen] @ self.rows.T
        keys[np.arange(len(chosen)), chosen] = -np.inf
        return keys

    def distances(self, first: np.ndarray, second: np.ndarray) -> Float[np.ndarray, "_c _p"]:
        """Return distances of some tiles from several others each."""
        apart = self.rows[second].astype(np.float64) - self.rows[first][:, None, :]
        return np.sqrt(np.einsum("cpd,cpd->cp", apart, apart))


@dataclass(frozen=True, eq=False)
class _Scores:
    """What each anchor has: one column for each figure, and sums over its partners for those of distances."""

    columns: Mapping[str, Column]
    sums: Mapping[str, Float[np.ndarray, "n 3"]]
    local: Mapping[str, Column]

    def figures(self, floors: "_Scores", clusters: Codes | None, left: float) -> list[MapFigure]:
        """Return every figure with its interval; `left` is the share of tiles that is no anchor."""
        own = np.arange(len(next(iter(self.columns.values()))))
        groups = own if clusters is None else clusters
        narrowed = 1.0 if clusters is not None else math.sqrt(left)
        means = bootstrap_means(np.column_stack(list(self.columns.values())), groups)
        found = []
        for name, estimate in zip(self.columns, means, strict=True):
            found.append(_figure(name, estimate.widened(narrowed), float(floors.columns[name].mean())))
        for name, sums in self.sums.items():
            statistic = STATISTICS[name]
            estimate = bootstrap(_of_sums(statistic, sums), groups).widened(narrowed)
            found.append(_figure(name, estimate, float(statistic(floors.sums[name].sum(axis=0)[None])[0])))
        return found


def _figure(name: str, estimate: Estimate, floor: float) -> MapFigure:
    metric, _, k = name.partition("@")
    return MapFigure(metric, int(k) if k else None, estimate, floor)


def _of_sums(statistic, sums: np.ndarray) -> Statistic:
    return lambda weights: statistic(weights @ sums)


def _correlation(sums: Float[np.ndarray, "b 3"]) -> Float[np.ndarray, " b"]:
    """Return the correlation of two centred columns from the sums of their products: xx, yy, xy."""
    xx, yy, xy = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return xy / np.sqrt(xx * yy)


def _stress(sums: Float[np.ndarray, "b 3"]) -> Float[np.ndarray, " b"]:
    """Return the misfit of y to x at the best scale of y, as a share of x."""
    xx, yy, xy = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.maximum(1 - xy**2 / (xx * yy), 0))


#: From sums over pairs of tiles to figures of their distances.
STATISTICS = {"shepard": _correlation, "stress": _stress}


def _sums(x: Float[np.ndarray, "m p"], y: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "m 3"]:
    return np.stack([part.sum(axis=1) for part in (x * x, y * y, x * y)], axis=1)


def _score(space: _Side, picture: _Side, rows: Codes, sizes: Sequence[int], exact: bool, seed: int) -> _Scores:
    """Score some tiles against all."""
    n, most = len(space.rows), max(sizes)
    weights = _auc_weights(n)
    workers = min(os.cpu_count() or 1, WORKERS)
    step = max(1, CHUNK_BYTES // (32 * n * workers))
    columns = {f"{name}@{k}": np.empty(len(rows)) for k in sizes for name in BY_SIZE}
    columns |= {"auc": np.empty(len(rows)), "triplets": np.empty(len(rows))}
    partners = np.stack([_partners(n, row, seed) for row in rows.tolist()])
    far = [side.distances(rows, partners) for side in (space, picture)]
    columns["triplets"][:] = _triplets(*far)

    def work(start: int) -> None:
        part = slice(start, start + step)
        chosen = rows[part]
        (first, near), (second, seen) = (_ranks(side.keys(chosen), most, exact) for side in (space, picture))
        true = np.take_along_axis(first, seen, axis=1)  # ranks in the space of what is near in the map
        drawn = np.take_along_axis(second, near, axis=1)
        for k in sizes:
            for name, values in _by_size(true[:, :k], drawn[:, :k], n).items():
                columns[f"{name}@{k}"][part] = values
        columns["auc"][part] = weights.take(np.maximum(first, second)).sum(axis=1)

    with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(0, len(rows), step)))
    columns["auc"] = columns["auc"] - _auc_chance(n)
    ranked = [rankdata(each).reshape(each.shape) for each in far]
    centred = [each - each.mean() for each in ranked]
    local = {f"recall@{k}": columns[f"recall@{k}"] for k in sizes}
    local |= {f"false@{k}": 1 - columns[f"trustworthiness@{k}"] for k in sizes}
    local |= {f"missing@{k}": 1 - columns[f"continuity@{k}"] for k in sizes}
    return _Scores(columns, {"shepard": _sums(*centred), "stress": _sums(*far)}, local)


BY_SIZE = ("trustworthiness", "continuity", "mrre_false", "mrre_missing", "recall", "r_nx")


def _by_size(true: Ranks, drawn: Ranks, n: int) -> dict[str, np.ndarray]:
    """Return the figures of k neighbours from their ranks on the other side, k columns."""
    k = true.shape[1]
    worst = 2 / (k * (2 * n - 3 * k - 1))
    own = np.arange(1, k + 1)
    errors = (np.abs(n - 2 * own + 1) / own).sum()
    recall = (true <= k).mean(axis=1)
    return {
        "trustworthiness": 1 - worst * np.maximum(true - k, 0).sum(axis=1),
        "continuity": 1 - worst * np.maximum(drawn - k, 0).sum(axis=1),
        "mrre_false": 1 - (np.abs(true - own) / own).sum(axis=1) / errors,
        "mrre_missing": 1 - (np.abs(drawn - own) / own).sum(axis=1) / errors,
        "recall": recall,
        "r_nx": ((n - 1) * recall - k) / (n - 1 - k),
    }


def _ranks(keys: np.ndarray, k: int, exact: bool) -> tuple[Ranks, Ranks]:
    """Return the rank of every tile for each row, 0 of the tile itself, and the k nearest."""
    order = np.argsort(keys, axis=1)
    if exact:
        ordered = np.take_along_axis(keys, order, axis=1)
        for row in np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1)):
            order[row] = np.argsort(keys[row], kind="stable")
    order = order.astype(np.int32)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(keys.shape[1], dtype=np.int32)[None, :], axis=1)
    return ranks, order[:, 1 : k + 1].copy()


def _auc_weights(n: int) -> Float[np.ndarray, " _n"]:
    """Return what a tile adds to `auc` by the larger of its two ranks; the tile itself, of rank 0, adds nothing."""
    k = np.arange(1, n - 1)
    parts = (n - 1) / (n - 1 - k) / k**2 / (1 / k).sum()
    tail = np.concatenate([np.cumsum(parts[::-1])[::-1], [0.0]])
    return np.concatenate([[0.0], tail])


def _auc_chance(n: int) -> float:
    k = np.arange(1, n - 1)
    return float((1 / (n - 1 - k)).sum() / (1 / k).sum())


def _partners(n: int, row: int, seed: int) -> Codes:
    """Return other tiles to compare with, an even number; the same whoever else is an anchor."""
    count = min(PARTNERS, (n - 1) // 2 * 2)
    drawn = stream(seed, "partners", row).choice(n - 1, count, replace=False, shuffle=False)
    return drawn + (drawn >= row)


def _triplets(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the share of pairs of partners of which both spaces say alike which is nearer; a tie counts half."""
    pairs = [np.sign(each[:, ::2] - each[:, 1::2]) for each in (first, second)]
    return (1 + pairs[0] * pairs[1]).mean(axis=1) / 2
