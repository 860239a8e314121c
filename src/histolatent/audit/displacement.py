"""How far a perturbation moves embeddings, against how far unrelated tiles lie apart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .._types import Codes, Column, Matrix, Vectors
from ..neighbors import RETRIEVAL_K, twin_ranks
from ..provenance import stream
from ..stats import share_above

#: Two sets of rows in float64 to their distances.
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]

PARTNERS = 20
#: Of more tiles than a twentieth of this, fewer partners are drawn for each.
MOST_PAIRS = 2_000_000
#: Rows are compared in blocks of about this size in float64.
BLOCK_BYTES = 2**25


@dataclass(frozen=True)
class Null:
    """Distances between unrelated tiles. `same_label` is None where labels are unknown or no such pair exists."""

    cosine: Float[np.ndarray, " p"]
    euclidean: Float[np.ndarray, " p"]
    same_label: Float[np.ndarray, " s"] | None
    apart: str

    @property
    def median(self) -> float:
        """The median cosine distance."""
        return float(np.median(self.cosine))

    @property
    def is_defined(self) -> bool:
        """Whether unrelated tiles differ at all, beyond float32 rounding."""
        return bool(np.median(self.cosine) > 1e-6 and np.median(self.euclidean) > 0)


def cosine_distances(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n d"]) -> Column:
    """Return `1 - cos` row by row, computed so that equal rows are exactly 0. A zero vector is at distance 1.

    >>> cosine_distances(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])).tolist()
    [1.0]
    """
    return _by_block(_cosine, len(first), lambda rows: (first[rows], second[rows]), first.shape[1])


def _cosine(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n d"]) -> Column:
    lengths = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    zero = (lengths[0] == 0) | (lengths[1] == 0)
    units = [
        rows / np.where(length > 0, length, 1)[:, None] for rows, length in zip((first, second), lengths, strict=True)
    ]
    # |u - v|^2 / 2 is 1 - cos without the cancellation.
    distances = 0.5 * ((units[0] - units[1]) ** 2).sum(axis=1)
    return np.where(zero, np.where((first == second).all(axis=1), 0.0, 1.0), distances)


def euclidean_distances(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n d"]) -> Column:
    """Return the Euclidean distance row by row, in float64."""
    return _by_block(_euclidean, len(first), lambda rows: (first[rows], second[rows]), first.shape[1])


def _euclidean(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n d"]) -> Column:
    return np.linalg.norm(first - second, axis=1)


def _by_block(distance: Distance, n: int, parts: Callable[[slice], tuple[Matrix, Matrix]], d: int) -> Column:
    """Return the distance of each of `n` pairs of rows; `parts` gives both rows of some of them."""
    step = max(1, BLOCK_BYTES // (8 * max(d, 1)))
    found = np.empty(n)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        first, second = parts(rows)
        found[rows] = distance(first.astype(np.float64), second.astype(np.float64))
    return found


def random_pair_null(
    vectors: Vectors, groups: Codes, *, apart: str, labels: Codes | None = None, seed: int = 0, partners: int = PARTNERS
) -> Null:
    """Draw up to `partners` unrelated tiles for each tile, and measure the distances; of many tiles, fewer for each.

    Unrelated means: of another group (`apart` says what a group is). `labels` codes classes, -1 for unknown; the
    same-label null keeps pairs of one class.

    Misleads when there are few groups: the null then is the distance between those few.
    """
    n = len(vectors)
    partners = min(partners, max(1, MOST_PAIRS // max(n, 1)))
    random = stream(seed, "null", str(n))
    first, second = np.repeat(np.arange(n), partners), random.integers(0, n, n * partners)
    pairs = groups[first] != groups[second]
    first, second = first[pairs], second[pairs]

    def parts(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        return vectors[first[rows]], vectors[second[rows]]

    cosine, euclidean = (_by_block(kind, len(first), parts, vectors.shape[1]) for kind in (_cosine, _euclidean))
    same = None
    if labels is not None:
        alike = (labels[first] == labels[second]) & (labels[first] >= 0)
        same = cosine[alike] if alike.any() else None
    return Null(cosine, euclidean, same, apart)


def measure_moves(vectors: Vectors, moved: Vectors, null: Null) -> dict[str, Column]:
    """Return per-tile columns for each displacement metric.

    With an undefined null, `displacement` and `displacement_euclidean` are NaN.
    """
    cosine, euclidean = cosine_distances(vectors, moved), euclidean_distances(vectors, moved)
    undefined = np.full(len(vectors), np.nan)
    return {
        "displacement": cosine / null.median if null.is_defined else undefined,
        "displacement_euclidean": euclidean / float(np.median(null.euclidean)) if null.is_defined else undefined,
        "auroc_null": share_above(cosine, null.cosine),
        "cosine_distance": cosine,
    }


def measure_ranks(
    vectors: Vectors, moved: Float[np.ndarray, "q d"], owners: Int[np.ndarray, " q"]
) -> dict[str, Float[np.ndarray, " q"]]:
    """Return columns for the rank metrics of the twins `moved` of the rows `owners`."""
    ranks = twin_ranks(vectors, moved, owners)
    found = {"twin_rank": ranks / max(len(vectors) - 1, 1)}
    return found | {f"twin_top{k}": (ranks < k).astype(float) for k in RETRIEVAL_K}


def selectivity(react: Column, ignore: Float[np.ndarray, "n m"]) -> Column:
    """Return per tile the share of nuisances (columns) that move it less than destroyed biology does, ties half."""
    less = (ignore < react[:, None]).astype(float) + 0.5 * (ignore == react[:, None])
    return less.mean(axis=1)
