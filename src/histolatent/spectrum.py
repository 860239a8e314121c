"""In how many directions an embedding differs, and whether it differs at all."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from ._types import Matrix
from .errors import InputError

#: Spread of an embedding, against its size (both squared), up to which it is a constant but for rounding.
CONSTANT = 1e-10
CHUNK_ROWS = 4096


def check_vectors(vectors: Matrix, *, name: str = "vectors", least: int = 2) -> None:
    """Raise InputError unless there are `least` rows and all values are finite."""
    if len(vectors) < least or vectors.shape[1] == 0:
        raise InputError(
            f"{name}: too few rows to measure", received=vectors.shape, valid=f"at least {least} rows and one column"
        )
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors).all(axis=1)).sum())
        raise InputError(f"{name} hold NaN or infinity", received=f"{bad} of {len(vectors)} rows", fix="drop the rows")


def is_constant(vectors: Matrix) -> bool:
    """Return whether all rows are the same but for rounding."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    spread = sum(float(((block - mean) ** 2).sum()) for block in blocks(vectors))
    size = sum(float((block**2).sum()) for block in blocks(vectors))
    return spread <= CONSTANT * size


def blocks(vectors: Matrix) -> Iterator[Float[np.ndarray, "_m _d"]]:
    """Yield the rows as float64, some thousand at a time."""
    for start in range(0, len(vectors), CHUNK_ROWS):
        yield vectors[start : start + CHUNK_ROWS].astype(np.float64)


def effective_rank(vectors: Matrix, *, centred: bool = True) -> float:
    r"""Return how many directions the rows `(n, d)` really use, from 1 to min(n, d); NaN where nothing varies.

    $\exp(-\sum_i p_i \ln p_i)$ with $p_i = \sigma_i / \sum_j \sigma_j$ and $\sigma$ the singular values. `centred`
    takes the mean away first: an embedding's common part is no direction in which tiles differ. For moves, leave it
    in: a direction that all tiles share counts as one.

    Misleads with few tiles: it cannot exceed their number. Isotropic noise has the highest value of all. Shares of
    variance (squared singular values) instead of singular values would give a smaller figure.

    Reference: Roy & Vetterli 2007, "The effective rank".

    >>> round(effective_rank(np.diag([1.0, 1.0, 1.0, 0.0]), centred=False), 6)
    3.0
    """
    check_vectors(vectors)
    values = singular_values(vectors, centred=centred)
    if values[0] == 0 or (centred and is_constant(vectors)):
        return float("nan")
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def principal_axes(
    vectors: Matrix, count: int
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d _k"], Float[np.ndarray, " _k"]]:
    """Return the mean, the directions in which most varies as columns, and the standard deviation along each.

    There are up to `count` of them, most first: as many as vary, and the first in any case. The largest entry of each
    is positive. They come from the smaller of the two Gram matrices.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    around = vectors - mean
    wide = len(vectors) < vectors.shape[1]
    values, axes = np.linalg.eigh(around @ around.T if wide else around.T @ around)
    values, axes = values[::-1][:count], axes[:, ::-1][:, :count]
    kept = values > 1e-15 * max(values[0], 0)  # the rest is rounding
    kept[0] = True
    values, axes = np.maximum(values[kept], 0), axes[:, kept]
    if wide:
        axes = around.T @ axes / np.sqrt(np.maximum(values, np.finfo(float).tiny))
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(values))])
    return mean, axes * signs, np.sqrt(values / len(vectors))


def singular_values(vectors: Matrix, *, centred: bool) -> Float[np.ndarray, " r"]:
    """Return the singular values, largest first, from the smaller of the two Gram matrices."""
    mean = vectors.mean(axis=0, dtype=np.float64) if centred else np.zeros(vectors.shape[1])
    if len(vectors) < vectors.shape[1]:
        around = vectors - mean
        gram = around @ around.T
    else:
        gram = np.zeros((vectors.shape[1],) * 2)
        for block in blocks(vectors):
            block -= mean
            gram += block.T @ block
    squares = np.linalg.eigvalsh(gram)[::-1]
    return np.sqrt(np.where(squares > 1e-15 * squares[0], squares, 0))  # the rest is rounding
