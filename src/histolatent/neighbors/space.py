"""Vectors made ready for a search: checked, a fast float32 copy, and exact distances of chosen pairs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .._types import Column, Matrix
from ..errors import InputError, unknown

DISTANCES = ("cosine", "euclidean")

#: How large the block of similarities that is held at once may be.
CHUNK_BYTES = 2**27
#: What float64 cannot tell from 0, in units of the distance's own scale.
ROUNDING = 1e-12
PAIR_BYTES = 2**21


def unit_rows(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Divide each row by its Euclidean norm, which is summed in float64; a zero row stays zero.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    norms = row_norms(vectors)[:, None]
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.result_type(vectors, np.float32), copy=False)


def row_norms(vectors: Float[np.ndarray, "n d"]) -> Column:
    """Return the Euclidean norm of each row, in float64 whatever the input is."""
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))


def check_vectors(vectors: Matrix, what: str = "the embeddings") -> None:
    """Raise InputError if there are fewer than two rows, or a number is NaN or infinite."""
    if len(vectors) < 2:
        raise InputError(f"{what} have too few rows to have neighbours", received=len(vectors), valid="at least 2")
    step = max(1, CHUNK_BYTES // (8 * max(vectors.shape[1], 1)))
    for start in range(0, len(vectors), step):
        wrong = ~np.isfinite(vectors[start : start + step]).all(axis=1)
        if wrong.any():
            raise InputError(
                f"{what} hold NaN or infinite numbers",
                received=f"first in row {start + int(np.argmax(wrong))}",
                fix="leave these tiles out, or embed them again in float32",
            )


@dataclass(frozen=True)
class Space:
    """Vectors and a distance.

    `fast @ query` ranks like the distance: the cosine, or `a.b - |b|^2 / 2` about the mean in units of `scale`; it is
    off by less than the `slack` of the row. `scale` is what distances are to be judged by. `source` is not copied,
    `norms` are its.
    """

    source: Matrix
    metric: str
    norms: Column
    scale: float
    fast: Float[np.ndarray, "_c _f"]
    slack: Column

    def queries(self, places: Int[np.ndarray, " q"]) -> Float[np.ndarray, "q _f"]:
        """Return what `fast` is multiplied with, for its own rows `places`."""
        chosen = self.fast[places]
        if self.metric == "euclidean":
            chosen[:, -1] = 1
        return chosen

    def pair_distances(self, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """Return the distance of each pair of rows in float64; `first` is in runs, a run is worked on at once.

        What is 0 but for rounding is 0, so that copies tie.
        """
        distances = np.empty(len(first))
        starts = np.flatnonzero(np.concatenate([[True], np.diff(first) != 0])) if len(first) else np.empty(0, int)
        step = max(1, PAIR_BYTES // (8 * max(self.source.shape[1], 1)))
        for start, stop in zip(starts, [*starts[1:], len(first)], strict=True):
            query = self.source[first[start]].astype(np.float64)
            for begin in range(start, stop, step):
                part = slice(begin, min(begin + step, stop))
                others = self.source[second[part]].astype(np.float64)
                if self.metric == "cosine":
                    lengths = self.norms[second[part]] * self.norms[first[start]]
                    distances[part] = 1 - (others @ query) / np.where(lengths > 0, lengths, 1)
                else:
                    others -= query
                    distances[part] = np.sqrt(np.einsum("cd,cd->c", others, others))
        distances[distances < ROUNDING * self.scale] = 0
        return distances


def make_space(vectors: Matrix, metric: str = "cosine", *, order: Int[np.ndarray, " c"]) -> Space:
    """Check the vectors and make them ready. `order` arranges `fast`; -1 is a row of zeros.

    Raises
    ------
    InputError
        If there are fewer than two rows, or a number is NaN or infinite.
    OptionError
        If there is no such metric.
    """
    check_vectors(vectors)
    norms, scale = row_norms(vectors), _scale(vectors, metric)
    d = vectors.shape[1]
    # Rounding of a float32 product of length d, far beyond what BLAS does.
    unit = 2.0**-24 * (4 + np.sqrt(d))
    cosine = metric == "cosine"
    fast = np.zeros((len(order), d if cosine else d + 1), np.float32)
    middle = 0.0 if cosine else vectors.mean(axis=0, dtype=np.float64)
    lengths = np.ones(len(vectors))
    step = max(1, CHUNK_BYTES // (64 * d))
    for start in range(0, len(order), step):
        kept = order[start : start + step] >= 0
        chosen = order[start : start + step][kept]
        rows = (vectors[chosen] - middle) / scale  # 1 for the cosine
        if cosine:
            fast[start : start + step][kept] = rows / np.where(norms[chosen] > 0, norms[chosen], 1)[:, None]
        else:
            lengths[chosen] = row_norms(rows)
            fast[start : start + step][kept] = np.column_stack([rows, -0.5 * lengths[chosen] ** 2])
    longest = float(lengths.max())
    slack = unit * (1.0 if cosine else longest * (lengths + longest)) * np.ones(len(vectors))
    return Space(vectors, metric, norms, scale, fast, slack)


def _scale(vectors: Matrix, metric: str) -> float:
    """Return what a distance is small against: 1, or the largest number."""
    if metric not in DISTANCES:
        raise unknown("distance", metric, DISTANCES)
    return 1.0 if metric == "cosine" else max(float(vectors.max()), -float(vectors.min()), np.finfo(np.float64).tiny)


def is_collapsed(vectors: Matrix, metric: str = "cosine", *, tolerance: float = 1e-6) -> bool:
    """Return whether all rows are one point but for float32 rounding: then no tile has a nearest neighbour.

    `tolerance` is on the cosine distance to the first row, or on the Euclidean one over the largest number.
    """
    norms, scale, n = row_norms(vectors), _scale(vectors, metric), len(vectors)
    if not norms.any():
        return True
    space = Space(vectors, metric, norms, scale, np.empty((0, 0), np.float32), np.zeros(n))
    return bool(space.pair_distances(np.zeros(n, int), np.arange(n)).max() <= tolerance * scale)
