"""How far a perturbation moves embeddings, against how far unrelated tiles lie apart."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .._types import Codes, Column, Vectors
from ..neighbors import RETRIEVAL_K, twin_ranks
from ..provenance import stream
from ..stats import share_above

PARTNERS = 20


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
    first, second = first.astype(np.float64), second.astype(np.float64)
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
    return np.linalg.norm(first.astype(np.float64) - second.astype(np.float64), axis=1)


def random_pair_null(
    vectors: Vectors, groups: Codes, *, apart: str, labels: Codes | None = None, seed: int = 0, partners: int = PARTNERS
) -> Null:
    """Draw up to `partners` unrelated tiles for each tile, and measure the distances.

    Unrelated means: of another group (`apart` says what a group is). `labels` codes classes, -1 for unknown; the
    same-label null keeps pairs of one class.

    Misleads when there are few groups: the null then is the distance between those few.
    """
    n = len(vectors)
    random = stream(seed, "null", str(n))
    first, second = np.repeat(np.arange(n), partners), random.integers(0, n, n * partners)
    pairs = groups[first] != groups[second]
    first, second = first[pairs], second[pairs]
    cosine = cosine_distances(vectors[first], vectors[second])
    euclidean = euclidean_distances(vectors[first], vectors[second])
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
