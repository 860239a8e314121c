"""How far apart two sets of embeddings are, as squared Wasserstein distances and by a fresh probe."""

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from .._types import Codes, Matrix
from ..errors import InputError, OptionError
from ..neighbors import unit_rows
from ..probes import NotReadable, fit_probe
from ..provenance import stream
from ..spectrum import blocks, check_vectors

PROJECTIONS = 256
TRANSPORT_TILES = 500
LEAST_OF_CLASS = 10
SLICES = 64
STRENGTH = 0.01

Other = Float[np.ndarray, "_m _e"]


def to_scale(vectors: Matrix, scale: str = "l2") -> Float[np.ndarray, "_n _r"]:
    """Put embeddings of both batches, pooled as `(n, d)`, on a scale on which distances of encoders compare.

    `l2` divides each row by its norm. `whitened` centres, and gives each direction that varies the same variance, 1 in
    total, so that a few strong directions do not decide alone; it needs at least twice as many tiles as dimensions.

    Misleads: whitening lifts directions of noise to the size of all others.

    Raises
    ------
    OptionError
        If the scale is unknown, or there are too few tiles to whiten.
    """
    if scale == "l2":
        return unit_rows(vectors.astype(np.float64))
    if scale != "whitened":
        raise OptionError("no such scale", received=scale, valid="l2, whitened")
    n, d = vectors.shape
    if n < 2 * d:
        raise OptionError(
            "too few tiles to whiten", received=f"{n} tiles of {d} dimensions", valid="2 d or more", fix='scale="l2"'
        )
    around = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, directions = np.linalg.eigh(around.T @ around / n)
    kept = values > 1e-10 * values[-1]
    return around @ (directions[:, kept] / np.sqrt(values[kept] * max(kept.sum(), 1)))


def gaussian_w2_squared(first: Matrix, second: Other) -> float:
    r"""Return the squared Wasserstein-2 distance of two normal distributions with the samples' means and covariances.

    $|m_1 - m_2|^2 + \mathrm{tr}(S_1 + S_2 - 2 (S_1^{1/2} S_2 S_1^{1/2})^{1/2})$; 0 or more. It is what FID, the
    Frechet distance of images, reports: the square, not the distance. The last trace is the sum of the singular values
    of $X_1 X_2^\top$ (centred, divided by the roots of n - 1), which is used where a sample is smaller than d; else by
    eigendecomposition, rounding below 0 clipped.

    Misleads: sampling alone lifts it, by far with fewer tiles than about ten times d. Samples of one and the same
    distribution in 384 dimensions with unit total variance are .86 apart at 200 tiles each, .19 at 1,000, .039 at
    5,000. Read it against its floor (`compare_batches`). Two distributions of equal mean and covariance are at 0
    however they differ.

    Reference: Dowson & Landau 1982; Heusel et al. 2017.

    Raises
    ------
    InputError
        If there are fewer than two rows, dimensions differ, or values are not finite.
    """
    _check_two(first, second)
    means = [part.mean(axis=0, dtype=np.float64) for part in (first, second)]
    shift = float(((means[0] - means[1]) ** 2).sum())
    if min(len(first), len(second)) < first.shape[1]:
        x, y = ((part - mean) / np.sqrt(len(part) - 1) for part, mean in zip((first, second), means, strict=True))
        traces = float((x**2).sum() + (y**2).sum())
        return max(shift + traces - 2 * float(np.linalg.svd(x @ y.T, compute_uv=False).sum()), 0.0)
    covariances = [_covariance(part, mean) for part, mean in zip((first, second), means, strict=True)]
    values, vectors = np.linalg.eigh(covariances[0])
    half = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ covariances[1] @ half), 0)).sum()
    return max(shift + float(np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * common), 0.0)


def class_gaussian_w2_squared(first: Matrix, second: Other, first_codes: Codes, second_codes: np.ndarray) -> float:
    """Return the mean over classes of `gaussian_w2_squared` between the tiles of a class: what is not class balance.

    Classes with fewer than ten tiles in either sample are left out, and codes below 0 are unknown; NaN if none is left.
    Misleads as the plain one does, and more, since each class has fewer tiles.
    """
    _check_two(first, second)
    classes = [
        code
        for code in np.intersect1d(first_codes, second_codes)
        if code >= 0 and min((first_codes == code).sum(), (second_codes == code).sum()) >= LEAST_OF_CLASS
    ]
    parts = [gaussian_w2_squared(first[first_codes == code], second[second_codes == code]) for code in classes]
    return float(np.mean(parts)) if parts else float("nan")


def empirical_w2_squared(first: Matrix, second: Other, *, tiles: int = TRANSPORT_TILES, seed: int = 0) -> float:
    """Return the squared Wasserstein-2 distance of the tiles themselves, all of equal weight, by exact transport.

    As many tiles of each sample are drawn by the seed, up to `tiles`: time grows with their cube. Of equal numbers, the
    best transport is an assignment.

    Misleads: in many dimensions two samples of one distribution are far apart, and the distance shrinks only slowly
    with their size. Read it against its floor (`compare_batches`).

    Reference: Peyre & Cuturi 2019.

    Raises
    ------
    InputError
        If there are fewer than two rows, dimensions differ, or values are not finite.
    """
    _check_two(first, second)
    size = min(tiles, len(first), len(second))
    x, y = (
        _drawn(part, size, stream(seed, "transport", name)).astype(np.float64)
        for name, part in (("first", first), ("second", second))
    )
    cost = cdist(x, y, "sqeuclidean")
    return float(cost[linear_sum_assignment(cost)].mean())


def sliced_w2_squared(first: Matrix, second: Other, *, projections: int = PROJECTIONS, seed: int = 0) -> float:
    r"""Return the mean squared Wasserstein-2 distance of the samples along random unit directions; exact along each.

    The mean of a shift by v alone is $|v|^2 / d$. Cheap for any number of tiles, and far less lifted by sampling than
    the distances in all dimensions.

    Misleads: a difference along one direction of many is diluted by d.

    Reference: Rabin et al. 2012; Bonneel et al. 2015.

    Raises
    ------
    InputError
        If there are fewer than two rows, dimensions differ, or values are not finite.
    OptionError
        If `projections` is not positive.
    """
    _check_two(first, second)
    if projections < 1:
        raise OptionError("too few projections", received=projections, valid="1 or more")
    directions = stream(seed, "slices").standard_normal((first.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    # Both quantile functions are steps: their product has a step at each i / n and j / m.
    n, m = len(first), len(second)
    ends = np.unique(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))  # in units of 1 / (n m)
    weights = np.diff(ends, prepend=0) / (n * m)
    i, j = (ends - 1) // m, (ends - 1) // n
    total = 0.0
    for start in range(0, projections, SLICES):
        x, y = (np.sort(part @ directions[:, start : start + SLICES], axis=0) for part in (first, second))
        total += float((weights @ (x[i] - y[j]) ** 2).sum())
    return total / projections


def proxy_a_distance(
    first: Matrix, second: Other, first_groups: Codes, second_groups: np.ndarray, *, seed: int = 0
) -> float:
    """Return `2 (1 - 2 e)` with e the balanced error of a fresh probe that tells the samples apart.

    From 0 (chance) to 2. The probe is scored on groups that it was not trained on (see `fit_probe`); its penalty is
    fixed, as dozens are fitted for a floor. Below 0 is below
    chance, and not clipped. NaN where groups leave no fair test.

    Misleads: it saturates at 2. A linear probe misses what only a curved boundary separates.

    Reference: Ben-David et al. 2007.
    """
    _check_two(first, second)
    target: list[str | None] = [*(["first"] * len(first)), *(["second"] * len(second))]
    groups = np.unique(np.concatenate([first_groups, second_groups]), return_inverse=True)[1]
    vectors = np.concatenate([first, second]).astype(np.float32)
    fitted = fit_probe(vectors, target, groups, strength=STRENGTH, seed=seed)
    if isinstance(fitted, NotReadable):
        return float("nan")
    return 2 * (2 * fitted.read(vectors).balanced_accuracy - 1)


def _covariance(vectors: Matrix, mean: Float[np.ndarray, " d"]) -> Float[np.ndarray, "d d"]:
    total = np.zeros((vectors.shape[1],) * 2)
    for block in blocks(vectors):
        block -= mean
        total += block.T @ block
    return total / (len(vectors) - 1)


def _drawn(vectors: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    return vectors if len(vectors) <= most else vectors[np.sort(random.permutation(len(vectors))[:most])]


def _check_two(first: np.ndarray, second: np.ndarray) -> None:
    check_vectors(first, name="the first sample")
    check_vectors(second, name="the second sample")
    if first.shape[1] != second.shape[1]:
        raise InputError("the samples differ in their number of dimensions", received=(first.shape, second.shape))
