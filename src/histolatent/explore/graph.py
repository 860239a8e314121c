"""Nearest tiles of each tile, found once and shared by every map of a space."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .._types import Matrix
from ..errors import InputError, OptionError
from ..neighbors import CHUNK_BYTES, approximate_neighbors, find_neighbors, unit_rows
from ..neighbors.space import DISTANCES

#: Neighbours that every method of mapping can be made from: three times the usual perplexity of t-SNE.
NEIGHBOURS = 90
#: More tiles than this are searched approximately, where FAISS is installed.
EXACT_TILES = 300_000
#: Vectors of other tiles in the same space.
Others = Float[np.ndarray, "m d"]


@dataclass(frozen=True, eq=False)
class Graph:
    """The `k` nearest tiles of each tile, nearest first, none of them itself, and their distances in the metric."""

    index: Int[np.ndarray, "n k"]
    distance: Float[np.ndarray, "n k"]
    metric: str

    @property
    def k(self) -> int:
        """How many neighbours each tile has."""
        return self.index.shape[1]

    def first(self, k: int) -> "Graph":
        """Return the graph of the `k` nearest, or of all there are."""
        return Graph(self.index[:, :k], self.distance[:, :k], self.metric)

    @property
    def chords(self) -> Float[np.ndarray, "n k"]:
        """Distances as lengths: Euclidean ones, of unit vectors where the metric is the cosine."""
        return np.sqrt(np.maximum(2 * self.distance, 0)) if self.metric == "cosine" else self.distance


def metric_rows(vectors: Others, metric: str) -> Float[np.ndarray, "m d"]:
    """Return vectors whose Euclidean distances rank as the metric does: unit ones for the cosine, else as they are.

    Raises
    ------
    OptionError
        If there is no such metric.
    """
    if metric not in DISTANCES:
        raise OptionError("no such metric", received=metric, valid=", ".join(DISTANCES))
    return unit_rows(vectors) if metric == "cosine" else vectors


def make_graph(vectors: Matrix, *, k: int = NEIGHBOURS, metric: str = "cosine") -> Graph:
    """Find the `k` nearest tiles of each tile, or all others where there are fewer.

    Raises
    ------
    InputError
        If there are fewer than 5 tiles, values are not finite, or all tiles have the same vector.
    OptionError
        If there is no such metric.
    """
    n = len(vectors)
    if n < 5:
        raise InputError("too few tiles to have neighbourhoods", received=n, valid="5 or more, better hundreds")
    search = find_neighbors if n <= EXACT_TILES else approximate_neighbors
    found = search(vectors, min(k, n - 1), metric=metric)
    if found.collapsed:
        raise InputError("every tile has the same vector: there is nothing to map")
    return Graph(found.plain.index, found.plain.distance, metric)


def find_among(new: Others, vectors: Matrix, k: int, *, metric: str = "cosine") -> Graph:
    """Find, for each new vector, the `k` nearest tiles of a space that it is not part of.

    Raises
    ------
    InputError
        If values are not finite, or dimensions differ.
    OptionError
        If there is no such metric.
    """
    if new.ndim != 2 or new.shape[1] != vectors.shape[1]:
        raise InputError(
            "new tiles are of another space", received=f"{new.shape[-1]} dimensions", valid=f"{vectors.shape[1]}"
        )
    if not np.isfinite(new).all():
        raise InputError("new tiles hold NaN or infinite numbers")
    k = min(k, len(vectors))
    asked, pool = (metric_rows(part, metric) for part in (new, vectors))
    middle = pool.mean(axis=0, dtype=np.float64)
    asked, pool = asked - middle, (pool - middle).astype(np.float32)
    halves = 0.5 * np.einsum("nd,nd->n", pool, pool)
    index, distance = np.empty((len(new), k), int), np.empty((len(new), k))
    step = max(1, CHUNK_BYTES // (4 * len(pool)))
    for start in range(0, len(new), step):
        part = asked[start : start + step]
        keys = halves - part.astype(np.float32) @ pool.T
        near = np.argpartition(keys, k - 1, axis=1)[:, :k] if k < len(pool) else np.tile(np.arange(k), (len(part), 1))
        lengths = np.linalg.norm(pool[near].astype(np.float64) - part[:, None, :], axis=2)
        order = np.lexsort((near, lengths), axis=1)
        index[start : start + step] = np.take_along_axis(near, order, axis=1)
        distance[start : start + step] = np.take_along_axis(lengths, order, axis=1)
    return Graph(index, distance**2 / 2 if metric == "cosine" else distance, metric)
