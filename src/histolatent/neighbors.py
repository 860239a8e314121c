"""Nearest neighbours without an n x n matrix in memory."""

import numpy as np
from jaxtyping import Float, Int

from ._types import Vectors
from .errors import InputError

CHUNK_BYTES = 2**27


def unit_rows(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Divide each row by its Euclidean norm; a zero row stays zero.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def twin_ranks(
    pool: Vectors, twins: Float[np.ndarray, "q _d"], owners: Int[np.ndarray, " q"]
) -> Float[np.ndarray, " q"]:
    """Return how many other tiles of the pool are closer (cosine) to each twin than its own tile is.

    `pool` is `(n, d)`, `twins` are changed embeddings of the pool's rows `owners`. 0 means that the tile is found again
    at once; `(n - 1) / 2` is chance. A tie counts half, so that a constant encoder is at chance. Top-k accuracy is the
    share of ranks below k, as plismbench defines it when the pool is both sets.

    Misleads when the pool holds near-copies of a tile, such as overlapping neighbours: they push the rank up.
    """
    if pool.shape[1] != twins.shape[1]:
        raise InputError("pool and twins differ in their number of dimensions", received=(pool.shape, twins.shape))
    units = unit_rows(pool.astype(np.float32))
    moved = unit_rows(twins.astype(np.float32))
    ranks = np.empty(len(twins))
    step = max(1, CHUNK_BYTES // (4 * len(pool)))
    for start in range(0, len(twins), step):
        part = slice(start, start + step)
        similarity = moved[part] @ units.T
        own = similarity[np.arange(len(similarity)), owners[part]][:, None]
        # The product rounds by about 1e-7: what is nearer than that is a tie.
        closer, equal = similarity > own + 1e-6, np.abs(similarity - own) <= 1e-6
        ranks[part] = closer.sum(axis=1) + 0.5 * (equal.sum(axis=1) - 1)  # its own tile is no rival
    return ranks
