"""Optimal transport of sets of tiles: how far apart slides, sites and classes are, the way between, and middles."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from .._types import Codes, GivenCodes, Matrix
from ..distances import FEWEST_TILES, compare_batches
from ..errors import InputError, OptionError, require
from ..provenance import stream
from ..spectrum import check_vectors

#: Tiles of each set that exact transport is computed for: time grows faster than their square.
MOST_TILES = 2000
Other = Float[np.ndarray, "m _e"]


@dataclass(frozen=True, eq=False)
class Transport:
    """The cheapest way to turn one set of tiles into another: so much of tile `first[p]` goes to tile `second[p]`.

    `rows` are which tiles of either set took part, by their place in it. `distance` is Wasserstein-2: the root of the
    mean squared length of all ways.
    """

    first: Float[np.ndarray, "n d"]
    second: Float[np.ndarray, "m d"]
    rows: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]
    pairs: Int[np.ndarray, "p 2"]
    weights: Float[np.ndarray, " p"]

    @property
    def distance(self) -> float:
        """Return the Wasserstein-2 distance of the two sets."""
        return float(np.sqrt(self.weights @ self._squares()))

    def _squares(self) -> Float[np.ndarray, " p"]:
        return ((self.first[self.pairs[:, 0]] - self.second[self.pairs[:, 1]]) ** 2).sum(axis=1)

    def at(self, t: float) -> tuple[Float[np.ndarray, "p d"], Float[np.ndarray, " p"]]:
        r"""Return the set on the way, at `t` from 0 to 1, and its weights: $(1 - t) x_i + t y_j$, weighed by the plan.

        This is McCann's interpolation. Between two single tiles it is the straight line: transport says something new
        of sets only.

        Raises
        ------
        OptionError
            If `t` is not from 0 to 1.
        """
        if not 0 <= t <= 1:
            raise OptionError("a place on the way lies from 0 to 1", received=t)
        ends = self.first[self.pairs[:, 0]], self.second[self.pairs[:, 1]]
        return (1 - t) * ends[0] + t * ends[1], self.weights

    def moves(self) -> pd.DataFrame:
        """Return a row for each tile of the first set, the one that moves most first.

        `length` is the root of the mean squared way, `to` the tile of the second set to which most of it goes.
        """
        count = len(self.first)
        mass, cost = np.zeros(count), np.zeros(count)
        np.add.at(mass, self.pairs[:, 0], self.weights)
        np.add.at(cost, self.pairs[:, 0], self.weights * self._squares())
        order = np.lexsort((self.weights, self.pairs[:, 0]))
        last = np.flatnonzero(np.diff(np.append(self.pairs[order, 0], count)) > 0)
        to = self.rows[1][self.pairs[order[last], 1]]
        table = pd.DataFrame({"tile": self.rows[0], "length": np.sqrt(cost / mass), "to": to})
        return table.sort_values("length", ascending=False, ignore_index=True)


def transport(first: Matrix, second: Other, *, tiles: int = MOST_TILES, seed: int = 0) -> Transport:
    """Find the optimal transport of one set of vectors to another, all tiles of a set of equal weight; exact.

    Of sets of more than `tiles`, as many are drawn by the seed. The cost is the squared Euclidean distance: divide
    vectors by their lengths first, if the cosine is what counts. Computed by POT (network simplex).

    Misleads: two samples of one and the same set are apart, too, in many dimensions by far: see `compare_sets`.

    Reference: Peyre & Cuturi 2019, Foundations and Trends in Machine Learning 11:355.

    Raises
    ------
    InputError
        If a set has fewer than two vectors, dimensions differ, or values are not finite.
    OptionError
        If `tiles` is not positive.
    MissingExtraError
        If POT is not installed.

    >>> found = transport(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 1.0]]))
    >>> found.distance, found.pairs.tolist()
    (1.0, [[0, 1], [1, 0]])
    """
    ot = require("ot", "explore")
    check_vectors(first, name="the first set")
    check_vectors(second, name="the second set")
    if first.shape[1] != second.shape[1]:
        raise InputError("the sets are of two spaces", received=f"{first.shape[1]} and {second.shape[1]} dimensions")
    if tiles < 2:
        raise OptionError("too few tiles", received=tiles, valid="2 or more")
    rows = tuple(_drawn(len(part), tiles, seed, name) for part, name in ((first, "first"), (second, "second")))
    x, y = (part[chosen].astype(np.float64) for part, chosen in zip((first, second), rows, strict=True))
    cost = ot.dist(x, y, metric="sqeuclidean")
    plan = ot.emd(np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), cost, numItermax=10_000_000)
    pairs = np.argwhere(plan > 0)
    return Transport(x, y, (rows[0], rows[1]), pairs, plan[pairs[:, 0], pairs[:, 1]])


def _drawn(n: int, most: int, seed: int, name: str) -> Int[np.ndarray, " _k"]:
    return np.sort(stream(seed, "transport", name).permutation(n)[:most])


def compare_sets(
    vectors: Matrix,
    sets: Sequence[object],
    *,
    groups: GivenCodes | None = None,
    labels: Sequence[object] | None = None,
    seed: int = 0,
    repeats: int = 20,
) -> pd.DataFrame:
    """Return a row for each pair of sets (slides, sites, classes) with their distances, each beside its floor.

    Distances are squared Wasserstein-2, on the `scale` that a row names: of normal distributions, of the tiles
    themselves, and sliced; see `compare_batches`. `between` is of halves, and `floor` of two halves of one set: what is
    not above `floor_p95` cannot be told from chance. Beside them stand what a collapsed space would give away: its
    effective rank, and with `labels` what nearest tiles tell of these. Sets of fewer than 20 tiles are left out; tiles
    without a set, too.

    Raises
    ------
    InputError
        If fewer than two sets have 20 tiles, or sets or labels are of other tiles.
    """
    names = pd.Series(list(sets), dtype=object)
    if len(names) != len(vectors):
        raise InputError("sets have to be named for each tile", received=f"{len(names)} for {len(vectors)} tiles")
    given = None if labels is None else pd.Series(list(labels), dtype=object)
    if given is not None and len(given) != len(vectors):
        raise InputError("labels have to be given for each tile", received=f"{len(given)} for {len(vectors)} tiles")
    codes = None if given is None else pd.factorize(given.astype(str).where(given.notna()))[0]
    counts = names.dropna().astype(str).value_counts().sort_index()
    large = [str(name) for name, count in counts.items() if count >= FEWEST_TILES]
    if len(large) < 2:
        raise InputError(
            "too few sets to compare",
            received=", ".join(f"{name}: {count} tiles" for name, count in counts.items()),
            valid=f"two or more of {FEWEST_TILES} tiles each",
        )
    own: Codes = np.arange(len(vectors)) if groups is None else groups
    wanted = ("gaussian_w2_squared", "empirical_w2_squared", "sliced_w2_squared")
    frames = []
    for one, other in combinations(large, 2):
        rows = np.flatnonzero((names.astype(str).isin([one, other]) & names.notna()).to_numpy())
        batches = (names.iloc[rows].astype(str) == other).to_numpy().astype(int)
        whose = np.unique(own[rows], return_inverse=True)[1]
        made = compare_batches(
            vectors[rows],
            batches,
            whose,
            labels=None if codes is None else codes[rows],
            distances=wanted,
            seed=seed,
            repeats=repeats,
        )
        frame = made.to_frame().assign(first=one, second=other)
        frames.append(frame.assign(halves_by="tile") if groups is None else frame)
    columns = [
        "first",
        "second",
        "distance",
        "value",
        "between",
        "floor",
        "floor_p95",
        "above_floor",
        "tiles",
        "scale",
        "halves_by",
        "effective_rank",
        "label_accuracy",
    ]
    return pd.concat(frames, ignore_index=True).reindex(columns=columns)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution: what stands for a set when only its mean and covariance count."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, vectors: Matrix) -> "Gaussian":
        """Return that of a set of tiles, its covariance shrunk (Ledoit & Wolf 2004), so that it is positive.

        Misleads: of few tiles it is rounder than the set.

        Raises
        ------
        InputError
            If there are fewer than two vectors, or values are not finite.
        """
        from sklearn.covariance import ledoit_wolf

        check_vectors(vectors)
        given = vectors.astype(np.float64)
        return cls(given.mean(axis=0), ledoit_wolf(given)[0])

    def distance(self, other: "Gaussian") -> float:
        """Return the Wasserstein-2 distance from another normal distribution (Bures)."""
        root = _roots(self.covariance)[0]
        common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other.covariance @ root), 0)).sum()
        traces = float(np.trace(self.covariance) + np.trace(other.covariance) - 2 * common)
        return float(np.sqrt(max(((self.mean - other.mean) ** 2).sum() + traces, 0.0)))


def bures_barycentre(
    parts: Sequence[Gaussian], weights: Sequence[float] | None = None, *, tolerance: float = 1e-10, most: int = 500
) -> tuple[Gaussian, int]:
    r"""Return the normal distribution in the middle of several, by the Wasserstein-2 distance, and the steps it took.

    $S \leftarrow S^{-1/2} (\sum_i w_i (S^{1/2} S_i S^{1/2})^{1/2})^2 S^{-1/2}$, from the weighted mean, until it moves
    by less than `tolerance` of its size. The mean is the weighted mean.

    Reference: Alvarez-Esteban et al. 2016, J. Math. Anal. Appl. 441:744.

    Raises
    ------
    InputError
        If there are none, dimensions differ, values are not finite, a covariance is not positive, or weights are not;
        or it still moves after `most` steps.

    >>> middle, _ = bures_barycentre([Gaussian(np.zeros(1), np.eye(1)), Gaussian(np.ones(1), 9 * np.eye(1))])
    >>> middle.mean.tolist(), round(float(middle.covariance[0, 0]), 6)
    ([0.5], 4.0)
    """
    share = _shares(weights, len(parts))
    shapes = [(*part.mean.shape, *part.covariance.shape) for part in parts]
    if len({*shapes, (len(parts[0].mean),) * 3}) > 1:
        raise InputError("means and covariances are of several spaces", received=shapes)
    if not all(np.isfinite(part.mean).all() and np.isfinite(part.covariance).all() for part in parts):
        raise InputError("means or covariances hold NaN or infinite numbers")
    covariances = np.stack([part.covariance for part in parts]).astype(np.float64)
    values = np.linalg.eigvalsh(covariances)
    if values.min() <= 1e-12 * values.max():
        raise InputError(
            "a covariance is not positive: it has directions without spread",
            received=f"smallest variance {values.min():.3g}, largest {values.max():.3g}",
            fix="shrink covariances, or project to fewer dimensions than there are tiles",
        )
    found = np.einsum("k,kde->de", share, covariances)
    mean = np.einsum("k,kd->d", share, np.stack([part.mean for part in parts]))
    moved = np.inf
    for step in range(1, most + 1):
        root, inverse = _roots(found)
        middle = sum(w * _roots(root @ each @ root)[0] for w, each in zip(share, covariances, strict=True))
        new = inverse @ middle @ middle @ inverse
        new = (new + new.T) / 2
        moved = np.linalg.norm(new - found) / np.linalg.norm(found)
        found = new
        if moved < tolerance:
            return Gaussian(mean, found), step
    raise InputError(
        "the middle was not reached",
        received=f"{most} steps, the last of {moved:.2g} of its size",
        valid=f"one below {tolerance:g}",
        fix="more steps, a larger tolerance, or covariances that are shrunk",
    )


def _roots(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the square root of a positive matrix, and its inverse."""
    values, axes = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, np.finfo(float).tiny))
    return (axes * roots) @ axes.T, (axes / roots) @ axes.T


def _shares(weights: Sequence[float] | None, count: int) -> Float[np.ndarray, " _k"]:
    if count == 0:
        raise InputError("nothing to take the middle of")
    given = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if len(given) != count or not (given >= 0).all() or given.sum() <= 0 or not np.isfinite(given).all():
        raise InputError(
            "weights are one for each, none negative, not all 0", received=weights, valid=f"{count} weights"
        )
    return given / given.sum()


def barycentre(
    sets: Sequence[Float[np.ndarray, "_n d"]],
    weights: Sequence[float] | None = None,
    *,
    points: int = 100,
    seed: int = 0,
) -> Float[np.ndarray, "k d"]:
    """Return a set of `points` vectors in the middle of several sets, by the Wasserstein-2 distance.

    Points start at tiles of all sets drawn by the seed, and move to the weighted mean of where transport takes them.
    Computed by POT (`free_support_barycenter`, Cuturi & Doucet 2014). Of two sets, `Transport.at` is exact.

    Raises
    ------
    InputError
        If a set has fewer than two vectors, dimensions differ, or weights do not fit.
    MissingExtraError
        If POT is not installed.
    """
    ot = require("ot", "explore")
    share = _shares(weights, len(sets))
    for place, part in enumerate(sets):
        check_vectors(part, name=f"set {place}")
    if len({part.shape[1] for part in sets}) > 1:
        raise InputError("the sets are of several spaces", received=[part.shape[1] for part in sets])
    taken = [part[_drawn(len(part), MOST_TILES, seed, str(k))].astype(np.float64) for k, part in enumerate(sets)]
    pool = np.concatenate(taken)
    start = pool[stream(seed, "barycentre").choice(len(pool), min(points, len(pool)), replace=False)]
    masses = [np.full(len(part), 1 / len(part)) for part in taken]
    return ot.lp.free_support_barycenter(taken, masses, start, weights=share, numItermax=50, stopThr=1e-6)


def pixel_barycentre(
    images: Sequence[Float[np.ndarray, "_h _w"]],
    weights: Sequence[float] | None = None,
    *,
    blur: float = 1e-2,
) -> Float[np.ndarray, "_h _w"]:
    """Return the image in the middle of several, as mass that is moved about: amounts of one stain, not negative.

    Each image counts as a distribution over the plane; the amount of the result is the weighted mean of theirs. `blur`
    is the entropy of the transport, in units of the squared side: far less than the default does not converge. The bias
    that entropy alone has is taken out (Janati et al. 2020). Computed by POT.

    Misleads: it moves mass and knows no nuclei: the middle of two nuclei apart is one nucleus between them.

    Raises
    ------
    InputError
        If sizes differ, an amount is negative or not finite, an image has none, or weights do not fit.
    MissingExtraError
        If POT is not installed.
    """
    ot = require("ot", "explore")
    if len({image.shape for image in images}) != 1:
        raise InputError("images to mix are of one size", received=[image.shape for image in images])
    planes = np.stack([np.asarray(image, np.float64) for image in images])
    share = _shares(weights, len(planes))
    if not np.isfinite(planes).all() or planes.min() < 0:
        raise InputError("amounts of a stain are finite and not negative", received=f"least {planes.min():.3g}")
    masses = planes.sum(axis=(1, 2))
    if not masses.all():
        raise InputError(
            "an image has none of the stain: there is nothing to move", received=f"image {masses.argmin()}"
        )
    # Distributions without any zero, as the iteration divides by what it blurs.
    given = planes / masses[:, None, None] + 1e-9 / planes[0].size
    solve = ot.bregman.convolutional_barycenter2d_debiased
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Convolutional Sinkhorn did not converge")
        found = solve(given / given.sum(axis=(1, 2), keepdims=True), blur, weights=share, numItermax=2000, stopThr=1e-6)
    return np.maximum(found, 0) / found.sum() * float(share @ masses)
