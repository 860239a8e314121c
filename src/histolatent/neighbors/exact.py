"""The exact search: one pass of float32 products in blocks, then float64 distances of the few that may be nearest."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .._types import Codes, GivenCodes, Matrix
from ..errors import InputError
from ..threads import one_blas_thread
from . import space as spaces
from .found import TYPES, Neighbors, TypedNeighbors
from .space import Space, check_vectors, is_collapsed, make_space

BLOCK = 32
WORKERS = 8


def find_neighbors(
    vectors: Matrix,
    k: int,
    *,
    m: int = 5,
    labels: GivenCodes | None = None,
    confounders: GivenCodes | None = None,
    groups: GivenCodes | None = None,
    metric: str = "cosine",
    rows: Int[np.ndarray, " q"] | None = None,
) -> TypedNeighbors:
    """Find the `k` nearest tiles of each tile, and the `m` nearest of each type, exactly, in one pass.

    A tile is not its own neighbour, nor is any tile of its group. With `labels` and `confounders` the nearest of each
    type are found too: SS, SO, OS, OO, for same or other label, then same or other confounder (a site, a scanner).
    `rows` asks for the neighbours of these tiles only.

    Products are taken in float32 with unit rows (or rows about their mean); every tile that could still be among the
    nearest, given the rounding, gets a float64 distance, by which they are ranked, ties by row. Beside the vectors and
    their float32 copy, about 200 MB are held, whatever `n` is.

    Raises
    ------
    InputError
        NaN in the vectors, codes of another length, or `k` not below `n`.

    Misleads where the pool holds near-copies of a tile that are not in its group, such as overlapping tiles.
    """
    check_search(vectors, k, m, labels, confounders, groups)
    rows = np.arange(len(vectors)) if rows is None else rows
    cells = Cells.of(len(vectors), labels, confounders)
    table = Table(rows, cells, k, m)
    collapsed = is_collapsed(vectors, metric)
    if not collapsed:
        search = Search(vectors, metric, cells, groups)
        workers = min(os.cpu_count() or 1, WORKERS)
        step = max(1, spaces.CHUNK_BYTES // (4 * len(cells.columns) * workers))

        def work(start: int) -> None:
            at, column = search.candidates(rows[start : start + step], k, m)
            table.fill(search.space, start + at, column)

        # One BLAS thread per chunk, and chunks beside each other: sorting takes part in it.
        with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(0, len(rows), step)))
    return TypedNeighbors(
        rows=rows,
        plain=table.parts[0],
        typed=dict(zip(TYPES, table.parts[1:], strict=False)),
        available=available_partners(cells, groups, rows),
        labels=labels,
        confounders=confounders,
        groups=groups,
        metric=metric,
        collapsed=collapsed,
        recall={},
    )


def check_search(
    vectors: Matrix,
    k: int,
    m: int,
    labels: GivenCodes | None,
    confounders: GivenCodes | None,
    groups: GivenCodes | None,
) -> None:
    """Raise InputError if the arguments of a search do not fit together."""
    check_vectors(vectors)
    n = len(vectors)
    if not 0 < k < n:
        raise InputError("k has to be below the number of tiles", received=f"k {k}, {n} tiles", valid=f"1 to {n - 1}")
    if m < 1:
        raise InputError("m has to be at least 1", received=m)
    for name, codes in (("labels", labels), ("confounders", confounders), ("groups", groups)):
        if codes is not None and (len(codes) != n or codes.min() < 0):
            raise InputError(
                f"{name} have to be one code from 0 per tile", received=f"{len(codes)} codes for {n} tiles"
            )
    if (labels is None) != (confounders is None):
        raise InputError("labels and confounders are needed together", fix="give both, or neither")


@dataclass(frozen=True)
class Cells:
    """Tiles by label and confounder, arranged in blocks of one cell.

    Block `j` of `b` holds `columns[j]`, `columns[j + b]`, ..., -1 where a cell does not fill it; `place` is the
    inverse.
    """

    labels: Codes | None
    confounders: Codes | None
    code: Codes
    columns: Int[np.ndarray, " c"]
    place: Codes
    block: int
    block_cell: Int[np.ndarray, " b"]
    label_of: Int[np.ndarray, " _g"]
    confounder_of: Int[np.ndarray, " _g"]

    @classmethod
    def of(cls, n: int, labels: Codes | None, confounders: Codes | None) -> "Cells":
        """Sort tiles into cells; within a cell they are shuffled, so that alike tiles stand in different blocks."""
        if labels is None or confounders is None:
            code, keys = np.zeros(n, int), np.zeros((1, 2), int)
        else:
            keys, code = np.unique(np.stack([labels, confounders], axis=1), axis=0, return_inverse=True)
            code = code.reshape(-1)
        sizes = np.bincount(code)
        block = BLOCK
        while block > 1 and n < 4 * block * len(sizes):
            block //= 2
        shuffled = np.random.Generator(np.random.Philox(0)).permutation(n)
        order = shuffled[np.argsort(code[shuffled], kind="stable")]
        padded = -(-sizes // block) * block
        starts = np.cumsum(padded) - padded
        columns = np.full(int(padded.sum()), -1)
        inside = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        columns[np.repeat(starts, sizes) + inside] = order
        block_cell = np.repeat(np.arange(len(sizes)), padded // block)
        columns = columns.reshape(-1, block).T.ravel()
        place = np.empty(n, int)
        place[columns[columns >= 0]] = np.flatnonzero(columns >= 0)
        return cls(labels, confounders, code, columns, place, block, block_cell, keys[:, 0], keys[:, 1])

    @property
    def count(self) -> int:
        """How many cells there are."""
        return len(self.label_of)

    def block_types(self, cell: int | np.integer) -> Int[np.ndarray, " b"]:
        """Return the type of each block for the tiles of a cell."""
        other_label = self.label_of[self.block_cell] != self.label_of[cell]
        return 2 * other_label + (self.confounder_of[self.block_cell] != self.confounder_of[cell])

    def pair_types(self, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
        """Return the type of each pair of tiles as its place in TYPES."""
        a, b = self.code[first], self.code[second]
        return 2 * (self.label_of[a] != self.label_of[b]) + (self.confounder_of[a] != self.confounder_of[b])


class Search:
    """The exact search among tiles arranged in cells."""

    def __init__(self, vectors: Matrix, metric: str, cells: Cells, groups: Codes | None) -> None:
        self.space = make_space(vectors, metric, order=cells.columns)
        self.cells = cells
        self.members = None if groups is None else np.split(np.argsort(groups, kind="stable"), _ends(groups))
        self.groups = groups

    def candidates(
        self, rows: Int[np.ndarray, " q"], k: int, m: int
    ) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
        """Return pairs of a tile's place in `rows` and a tile: all that may be among its `k`, or `m` of a type."""
        cells, similarity = self.cells, self._similarity(rows)
        blocks = similarity.reshape(len(rows), cells.block, -1)
        highest = blocks.max(axis=1)
        wanted = np.repeat(_kth_highest(highest, k)[:, None], highest.shape[1], axis=1)
        for cell in np.unique(cells.code[rows]) if cells.labels is not None else ():
            inside, types = np.flatnonzero(cells.code[rows] == cell), cells.block_types(cell)
            for kind in np.unique(types):
                part = np.ix_(inside, np.flatnonzero(types == kind))
                wanted[part] = np.minimum(wanted[part], _kth_highest(highest[part], m)[:, None])
        wanted -= 2 * self.space.slack[rows][:, None].astype(np.float32)
        # What is left out has -inf: no candidate even where everything is.
        np.maximum(wanted, np.finfo(np.float32).min, out=wanted)
        at, block = np.nonzero(highest >= wanted)
        hit, inside = np.nonzero(blocks[at, :, block] >= wanted[at, block][:, None])
        return at[hit], cells.columns[inside * len(cells.block_cell) + block[hit]]

    def _similarity(self, rows: Int[np.ndarray, " q"]) -> Float[np.ndarray, "q c"]:
        """Return float32 products with every column; -inf for itself, its group, and padding."""
        cells = self.cells
        similarity = self.space.queries(cells.place[rows]) @ self.space.fast.T
        similarity[:, cells.columns < 0] = -np.inf
        similarity[np.arange(len(rows)), cells.place[rows]] = -np.inf
        if self.members is not None and self.groups is not None:
            own = [self.members[group] for group in self.groups[rows]]
            sizes = [len(part) for part in own]
            similarity[np.repeat(np.arange(len(rows)), sizes), cells.place[np.concatenate(own)]] = -np.inf
        return similarity


class Table:
    """The neighbours found so far, filled chunk by chunk."""

    def __init__(self, rows: Int[np.ndarray, " q"], cells: Cells, k: int, m: int) -> None:
        self.rows, self.cells = rows, cells
        widths = [k] + [m] * (len(TYPES) if cells.labels is not None else 0)
        self.parts = [Neighbors(np.full((len(rows), w), -1), np.full((len(rows), w), np.inf)) for w in widths]

    def fill(self, space: Space, at: Int[np.ndarray, " p"], column: Int[np.ndarray, " p"]) -> None:
        """Rank pairs of a place in `rows` and a tile by their exact distance, ties by tile, and keep the nearest."""
        order = np.lexsort((column, at))
        at, column = at[order], column[order]
        distance = space.pair_distances(self.rows[at], column)
        order = np.lexsort((np.round(distance / space.scale, 12), at))
        at, column, distance = at[order], column[order], distance[order]
        _keep(self.parts[0], at, column, distance)
        if len(self.parts) > 1:
            kinds = self.cells.pair_types(self.rows[at], column)
            for kind, part in enumerate(self.parts[1:]):
                one = kinds == kind
                _keep(part, at[one], column[one], distance[one])


def _keep(part: Neighbors, at: np.ndarray, column: np.ndarray, distance: np.ndarray) -> None:
    """Write the first of each run of equal `at` into the table."""
    if not len(at):
        return
    starts = np.flatnonzero(np.concatenate([[True], np.diff(at) != 0]))
    rank = np.arange(len(at)) - np.repeat(starts, np.diff(np.append(starts, len(at))))
    kept = rank < part.k
    part.index[at[kept], rank[kept]] = column[kept]
    part.distance[at[kept], rank[kept]] = distance[kept]


def _kth_highest(values: Float[np.ndarray, "q b"], k: int) -> Float[np.ndarray, " q"]:
    """Return the k-th highest of each row, -inf where there are fewer than k."""
    if values.shape[1] < k:
        return np.full(len(values), -np.inf, values.dtype)
    return np.partition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k]


def _ends(groups: Codes) -> np.ndarray:
    return np.cumsum(np.bincount(groups))[:-1]


def available_partners(cells: Cells, groups: Codes | None, rows: Int[np.ndarray, " q"]) -> Int[np.ndarray, "q _t"]:
    """Count the tiles that are neither the tile nor of its group, by type (one column without types)."""
    n = len(cells.code)
    own = np.arange(n) if groups is None else groups
    if cells.labels is None or cells.confounders is None:
        return (n - np.bincount(own)[own[rows]])[:, None]
    everyone, label, confounder, both = (
        _same(n, keys, rows) - _same(n, (*keys, own), rows)
        for keys in ((), (cells.labels,), (cells.confounders,), (cells.labels, cells.confounders))
    )
    return np.stack([both, label - both, confounder - both, everyone - label - confounder + both], axis=1)


def _same(n: int, keys: tuple[np.ndarray, ...], rows: Int[np.ndarray, " q"]) -> Int[np.ndarray, " q"]:
    """Count the tiles that share every key with each row, itself among them."""
    if not keys:
        return np.full(len(rows), n)
    _, code, counts = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True, return_counts=True)
    return counts[code.reshape(-1)[rows]]
