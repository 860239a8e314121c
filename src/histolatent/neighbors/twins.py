"""Ranks of twins: of changed tiles among the unchanged, and of matched pairs such as two scans of one slide."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from .._types import Column, Matrix
from ..errors import InputError
from . import space as spaces
from .space import ROUNDING, check_vectors, row_norms

RETRIEVAL_K = (1, 3, 5, 10)
#: Up to so many undecided tiles of a row are computed again one by one, more as one product.
FEW, BLOCK = 200, 4096


def twin_ranks(
    pool: Matrix, twins: Float[np.ndarray, "q _d"], owners: Int[np.ndarray, " q"]
) -> Float[np.ndarray, " q"]:
    """Return how many other tiles of the pool are closer (cosine) to each twin than its own tile is.

    `pool` is `(n, d)`, `twins` are changed embeddings of the pool's rows `owners`. 0 means that the tile is found again
    at once; `(n - 1) / 2` is chance. A tie counts half, so that a constant encoder is at chance. Top-k accuracy is the
    share of ranks below k, as plismbench defines it when the pool is both sets.

    Misleads when the pool holds near-copies of a tile, such as overlapping neighbours: they push the rank up.
    """
    if pool.shape[1] != twins.shape[1]:
        raise InputError("pool and twins differ in their number of dimensions", received=(pool.shape, twins.shape))
    closer, equal = _count_closer(_Units.of(twins), [_Units.of(pool)], owners, itself=None)
    return closer + 0.5 * equal


@dataclass(frozen=True)
class CrossRetrieval:
    """Matched pairs found again. `hits[i, j]` is the chance that i is found among the `k[j]` nearest, of two ways.

    It is 0, 1/2 or 1 unless tiles tie. `hits` is of the pairs that were looked for, `cosine` of all.
    """

    cosine: Column
    k: tuple[int, ...]
    hits: Float[np.ndarray, "_q _k"]

    def accuracy(self) -> dict[int, float]:
        """Return the top-k accuracy by k."""
        return dict(zip(self.k, map(float, self.hits.mean(axis=0)), strict=True))


def cross_retrieval(
    first: Matrix,
    second: Float[np.ndarray, "_n _d"],
    *,
    k: tuple[int, ...] = RETRIEVAL_K,
    queries: Int[np.ndarray, " q"] | None = None,
) -> CrossRetrieval:
    r"""Measure how well tiles are found again under another scanner or staining; row i of both is the same tissue.

    As in plismbench (arXiv 2501.16239), the pool is both sets without the tile itself, `2 n - 1` tiles, and the
    accuracy is the mean of both directions: $\frac12(P(b_i \in top_k(a_i)) + P(a_i \in top_k(b_i)))$. Both are `(n,
    d)`; higher is better; a constant encoder gets the chance `k / (2 n - 1)`, as a tie is drawn by lot. Equal to
    float64, as pairs that float32 cannot order are computed again; memory is bounded. With `queries`, only these rows
    are looked for, in the same whole pool: what a sample of them estimates does not depend on their number.

    Raises
    ------
    InputError
        Sets of different shape, NaN, or `k` outside 1 to `2 n - 2`.

    Misleads: the accuracy falls with the size of the pool, and where a slide repeats itself. A high cosine says nothing
    alone: an encoder in which all tiles are alike has it too.
    """
    if first.shape != second.shape:
        raise InputError("matched sets need the same shape", received=(first.shape, second.shape))
    for name, vectors in (("the first set", first), ("the second set", second)):
        check_vectors(vectors, name)
    n = len(first)
    if not k or min(k) < 1 or max(k) > 2 * n - 2:
        raise InputError("k is outside the pool", received=k, valid=f"1 to {2 * n - 2}")
    units = _Units.of(first), _Units.of(second)
    everyone = np.arange(n)
    asked = everyone if queries is None else queries
    hits = np.zeros((len(asked), len(k)))
    for query, other in (units, units[::-1]):
        chosen = query if queries is None else query.take(queries)
        closer, equal = _count_closer(chosen, [other, query], asked, itself=asked + n)
        hits += 0.5 * np.clip((np.array(k) - closer[:, None]) / (equal[:, None] + 1), 0, 1)
    return CrossRetrieval(_own_cosine(*units, everyone), tuple(k), hits)


@dataclass(frozen=True)
class _Units:
    """Rows, their float64 norms (1 for a zero row) and a float32 copy of unit rows."""

    source: Matrix
    norms: Column
    fast: Float[np.ndarray, "n d"]

    @classmethod
    def of(cls, vectors: Matrix) -> "_Units":
        norms = row_norms(vectors)
        norms[norms == 0] = 1
        fast = np.empty(vectors.shape, np.float32)
        np.divide(vectors, norms[:, None], out=fast, casting="unsafe")
        return cls(vectors, norms, fast)

    def take(self, rows: Int[np.ndarray, " q"]) -> "_Units":
        return _Units(self.source[rows], self.norms[rows], self.fast[rows])

    def precise(self, rows: np.ndarray | slice) -> np.ndarray:
        return self.source[rows].astype(np.float64) / self.norms[rows, None]


def _count_closer(
    queries: _Units, pools: list[_Units], owners: Int[np.ndarray, " q"], *, itself: Int[np.ndarray, " q"] | None
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Count, for each query, tiles of the joined pools closer than its owner (of the first pool), and equally close.

    Float32 decides where it can; what is within its rounding of the owner is decided in float64.
    """
    count, sizes = len(queries.source), [len(pool.source) for pool in pools]
    closer, equal = np.zeros(count), np.zeros(count)
    # The worst that rounding can do to a float32 sum of d products: those of alike rows all round the same way.
    slack = 2.0**-24 * (queries.source.shape[1] + 8)
    step = max(1, spaces.CHUNK_BYTES // (4 * sum(sizes)))
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count))
        own = _own_cosine(queries, pools[0], owners, rows)
        for offset, pool in zip(np.cumsum([0, *sizes]), pools, strict=False):
            similarity = queries.fast[rows] @ pool.fast.T
            for left_out in (owners, itself):
                if left_out is not None:
                    place = left_out[rows] - offset
                    inside = np.flatnonzero((place >= 0) & (place < len(pool.source)))
                    similarity[inside, place[inside]] = -np.inf
            similarity -= own.astype(np.float32)[:, None]
            closer[rows] += np.count_nonzero(similarity > slack, axis=1)
            near = np.abs(similarity, out=similarity) <= slack
            gaps = _gaps(queries, pool, rows, own, near)
            closer[rows] += gaps[0]
            equal[rows] += gaps[1]
    return closer, equal


def _gaps(
    queries: _Units,
    pool: _Units,
    rows: Int[np.ndarray, " r"],
    own: Float[np.ndarray, " r"],
    near: Bool[np.ndarray, "r n"],
) -> tuple[np.ndarray, np.ndarray]:
    """Count those of `near` that are closer than the owner, and as close, in float64."""
    closer, equal = np.zeros(len(rows)), np.zeros(len(rows))
    amount = np.count_nonzero(near, axis=1)
    few = np.flatnonzero((amount > 0) & (amount <= FEW))
    for i in few:
        tiles = np.flatnonzero(near[i])
        gap = pool.precise(tiles) @ queries.precise(rows[i : i + 1])[0] - own[i]
        closer[i], equal[i] = np.count_nonzero(gap > ROUNDING), np.count_nonzero(np.abs(gap) <= ROUNDING)
    many = np.flatnonzero(amount > FEW)
    if len(many):
        chosen = queries.precise(rows[many])
        for begin in range(0, near.shape[1], BLOCK):
            part = slice(begin, begin + BLOCK)
            gap = np.where(near[many, part], chosen @ pool.precise(part).T - own[many, None], -np.inf)
            closer[many] += np.count_nonzero(gap > ROUNDING, axis=1)
            equal[many] += np.count_nonzero(np.abs(gap) <= ROUNDING, axis=1)
    return closer, equal


def _own_cosine(
    queries: _Units, pool: _Units, owners: Int[np.ndarray, " q"], rows: Int[np.ndarray, " r"] | None = None
) -> Float[np.ndarray, " _r"]:
    """Return the float64 cosine of queries and their owners."""
    rows = np.arange(len(queries.source)) if rows is None else rows
    parts = []
    for start in range(0, len(rows), 2048):
        some = rows[start : start + 2048]
        parts.append(np.einsum("qd,qd->q", queries.precise(some), pool.precise(owners[some])))
    return np.concatenate(parts)
