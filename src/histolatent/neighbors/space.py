"""Vectors made ready for a search: checked, a fast float32 copy, and exact distances of chosen pairs."""

from dataclasses import dataclass
from itertools import pairwise

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

    `fast @ query` ranks like the distance: `a.b - |b|^2 / 2` about the mean, of unit rows for the cosine, else of rows
    in units of `scale`; it is off by less than the `slack` of the row. `source` is not copied, `norms` are its.
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
        chosen[:, -1] = 1
        return chosen

    def pair_distances(self, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """Return the distance of each pair of rows in float64; `first` is in runs, a run is worked on at once.

        What is 0 but for rounding is 0, so that copies tie.
        """
        distances = np.empty(len(first))
        starts = np.flatnonzero(np.concatenate([[True], np.diff(first) != 0])) if len(first) else np.empty(0, int)
        step = max(1, PAIR_BYTES // (8 * max(self.source.shape[1], 1)))
        for start, stop in pairwise([*starts, len(first)]):
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
    n, d = vectors.shape
    cosine = metric == "cosine"
    empty = norms == 0
    divisor = np.where(empty, 1, norms) if cosine else np.full(n, scale)
    # Unit rows rank by Euclidean distance as by cosine. A row of zeros does not, unless it is told to be of length 1.
    lie_at_one = cosine and bool(empty.any())
    middle = np.zeros(d) if lie_at_one else _mean_row(vectors, divisor)
    fast, lengths = np.zeros((len(order), d + 1), np.float32), np.ones(n)
    step = max(1, CHUNK_BYTES // (64 * d))
    for start in range(0, len(order), step):
        kept = order[start : start + step] >= 0
        chosen = order[start : start + step][kept]
        rows = vectors[chosen] / divisor[chosen, None] - middle
        if not lie_at_one:
            lengths[chosen] = row_norms(rows)
        fast[start : start + step][kept] = np.column_stack([rows, -0.5 * lengths[chosen] ** 2])
    # The worst that rounding can do to a float32 sum of d products: those of alike rows all round the same way.
    longest = float(lengths.max())
    slack = 2.0**-24 * (d + 8) * longest * (lengths + 0.5 * longest)
    return Space(vectors, metric, norms, scale, fast, slack)


def _mean_row(vectors: Matrix, divisor: Column) -> Float[np.ndarray, " d"]:
    total = np.zeros(vectors.shape[1])
    step = max(1, CHUNK_BYTES // (64 * vectors.shape[1]))
    for start in range(0, len(vectors), step):
        total += (vectors[start : start + step] / divisor[start : start + step, None]).sum(axis=0)
    return total / len(vectors)


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
