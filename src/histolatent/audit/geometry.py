"""The shape of an embedding, and how far two embeddings of the same tiles have the same one."""

import numpy as np
from jaxtyping import Float

from .._types import Column, Matrix
from ..errors import InputError
from ..neighbors import find_neighbors
from ..spectrum import check_vectors, is_constant


def check_pairs(first: Matrix, second: Float[np.ndarray, "_m _e"], *, least: int = 2) -> None:
    """Raise InputError unless both hold the same tiles, in number, and finite values."""
    if len(first) != len(second):
        raise InputError(
            "the two sets of vectors are not of the same tiles",
            received=f"{len(first)} and {len(second)} rows",
            fix="pass row i of both for tile i",
        )
    check_vectors(first, name="the first vectors", least=least)
    check_vectors(second, name="the second vectors", least=least)


def linear_cka(first: Matrix, second: Float[np.ndarray, "_m _e"], *, debiased: bool = True) -> float:
    r"""Return linear centred kernel alignment of two embeddings of the same tiles; NaN if one is constant.

    $\lVert X^\top Y\rVert_F^2 / (\lVert X^\top X\rVert_F \lVert Y^\top Y\rVert_F)$ of centred features; 0 to 1.
    `debiased` takes the unbiased estimator of each term (Song et al. 2012): of independent embeddings it is 0 on
    average, also with more dimensions than tiles, and may come out below 0. It is not clipped. Both ignore rotation and
    scale. Computed through features or through Gram matrices, whichever are smaller.

    Misleads: the biased one goes to 1 for anything as d/n grows. Either is decided by the few directions of largest
    variance, and can stay near 1 while the rest is destroyed.

    Reference: Kornblith et al. 2019; Murphy et al. 2024 for the bias.

    Raises
    ------
    InputError
        If the tiles differ in number, hold NaN, or are fewer than four.
    """
    check_pairs(first, second, least=4)
    if is_constant(first) or is_constant(second):
        return float("nan")
    x, y = (part.astype(np.float64) - part.mean(axis=0, dtype=np.float64) for part in (first, second))
    if debiased:
        cross, left, right = (_unbiased_hsic(a, b) for a, b in ((x, y), (x, x), (y, y)))
    else:
        cross, left, right = (_squared_product(a, b) for a, b in ((x, y), (x, x), (y, y)))
    return float(cross / np.sqrt(left * right)) if left > 0 and right > 0 else float("nan")


def _squared_product(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared Frobenius norm of x^T y."""
    if len(x) ** 2 < x.shape[1] * y.shape[1]:
        return float(np.sum((x @ x.T) * (y @ y.T)))
    return float(np.sum((x.T @ y) ** 2))


def _unbiased_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased estimate of HSIC (times n (n - 3)) of centred features.

    The diagonals of the Gram matrices are left out. As the rows of a centred Gram matrix add up to zero, all sums that
    the estimate needs follow from the squared lengths of the features.
    """
    n = len(x)
    a, b = (x**2).sum(axis=1), (y**2).sum(axis=1)
    pairs = _squared_product(x, y) - a @ b
    return float(pairs + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a @ b) / (n - 2))


def procrustes_residual(first: Matrix, second: Float[np.ndarray, "_m _e"]) -> float:
    r"""Return what a shift, a rotation and one scale leave of the difference of two embeddings: 0 to 1, 0 is the same.

    $1 - (\sum_i \sigma_i(X^\top Y))^2$ with X and Y centred and scaled to unit Frobenius norm. Embeddings of different
    width are compared as if the narrower had columns of zeros. NaN if one is constant.

    Misleads with more dimensions than tiles: a rotation then always fits.

    Reference: the disparity of `scipy.spatial.procrustes`; Gower 1975.
    """
    check_pairs(first, second)
    if is_constant(first) or is_constant(second):
        return float("nan")
    x, y = (part.astype(np.float64) - part.mean(axis=0, dtype=np.float64) for part in (first, second))
    x, y = (part / np.linalg.norm(part) for part in (x, y))
    if len(x) < min(x.shape[1], y.shape[1]):
        x, y = (np.linalg.qr(part.T, mode="r").T for part in (x, y))  # each in the space of its own rows
    return float(1 - np.linalg.svd(x.T @ y, compute_uv=False).sum() ** 2)


def mutual_neighbours(first: Matrix, second: Float[np.ndarray, "_m _e"], *, k: int = 10) -> Column:
    r"""Return per tile the share of its `k` nearest tiles that are the same in both embeddings: 0 to 1.

    $|kNN(z) \cap kNN(z')| / k$ by cosine, each embedding searched in itself; k / (n - 1) is chance. NaN throughout if
    one embedding is constant: its neighbours are chosen by rounding.

    Misleads when tiles overlap on the slide: neighbours that are nearly copies stay together under anything.

    Reference: Huh et al. 2024, the mutual nearest-neighbour metric.
    """
    check_pairs(first, second)
    if is_constant(first) or is_constant(second):
        return np.full(len(first), np.nan)
    near, other = (find_neighbors(part, k).plain.index for part in (first, second))
    common = np.array([len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(near, other, strict=True)])
    return common / k
