"""An approximate search with FAISS for more tiles than an exact pass can do, with its recall measured."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from .._types import Codes, GivenCodes, Matrix
from ..errors import InputError, require
from .exact import Cells, Table, available_partners, check_search, find_neighbors
from .found import TYPES, TypedNeighbors
from .space import Space, is_collapsed, make_space

#: A cell of fewer tiles than this is searched exactly.
SMALL = 4096
CHUNK = 4096
TRAINED_PER_LIST = 64
#: So many more than asked for are ranked in float64: the search ranks in float32.
SPARE = 3


def approximate_neighbors(
    vectors: Matrix,
    k: int,
    *,
    m: int = 5,
    labels: GivenCodes | None = None,
    confounders: GivenCodes | None = None,
    groups: GivenCodes | None = None,
    metric: str = "cosine",
    rows: Int[np.ndarray, " q"] | None = None,
    probes: int = 32,
    sample: int = 500,
    seed: int = 0,
) -> TypedNeighbors:
    """Find neighbours as `find_neighbors` does, approximately: an inverted file per cell of label and confounder.

    Worth it for several 100,000 tiles: below, the exact search is as fast (`benchmarks/million.py`).

    Each cell of 4,096 tiles or more is divided into about `sqrt(n)` lists, of which `probes` are searched. Those found
    are ranked by their float64 distance. `recall` in the result is the share of the exact neighbours found for `sample`
    tiles drawn at random, plain and by type: state it beside every figure. `rows` asks for the neighbours of these
    tiles only.

    Raises
    ------
    MissingExtraError
        FAISS is not installed (extra `explore`).
    InputError
        As `find_neighbors`.

    Misleads where recall is low: figures then lean towards the tiles that are easy to find.
    """
    check_search(vectors, k, m, labels, confounders, groups)
    if probes < 1 or sample < 1:
        raise InputError("probes and sample have to be at least 1", received=(probes, sample))
    faiss = require("faiss", "explore")
    everyone = np.arange(len(vectors))
    rows = everyone if rows is None else rows
    cells = Cells.of(len(vectors), labels, confounders)
    table = Table(rows, cells, k, m)
    collapsed = is_collapsed(vectors, metric)
    recall: dict[str, float] = {}
    if not collapsed:
        space = make_space(vectors, metric, order=everyone)
        fast = space.fast[:, :-1]
        own = everyone if groups is None else groups
        indices = [_CellIndex.build(faiss, fast, cells.code == cell, own, probes, seed) for cell in range(cells.count)]
        del fast
        ordered = np.argsort(own[rows], kind="stable")
        for start in range(0, len(rows), CHUNK):
            part = ordered[start : start + CHUNK]
            at, tiles = _found(faiss, indices, space, rows[part], own, k, m)
            table.fill(space, part[at], tiles)
        chosen = np.random.Generator(np.random.Philox(seed)).permutation(len(rows))[:sample]
        exact = find_neighbors(
            vectors, k, m=m, labels=labels, confounders=confounders, groups=groups, metric=metric, rows=rows[chosen]
        )
        everything = [("plain", exact.plain), *exact.typed.items()]
        recall = {name: _recall(part.index, table.parts[i].index[chosen]) for i, (name, part) in enumerate(everything)}
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
        recall=recall,
    )


@dataclass(frozen=True)
class _CellIndex:
    """An index of the tiles of one cell, sorted by group: `groups[i]` has the places `starts[i]` to `stops[i]`."""

    members: np.ndarray
    index: Any
    options: Callable[[Any], Any]
    groups: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    @classmethod
    def build(
        cls, faiss: Any, fast: np.ndarray, inside: np.ndarray, own: Codes, probes: int, seed: int
    ) -> "_CellIndex":
        """Index a cell by squared Euclidean distance, which ranks unit rows as the cosine does."""
        members = np.flatnonzero(inside)
        members = members[np.argsort(own[members], kind="stable")]
        groups, starts = np.unique(own[members], return_index=True)
        stops = np.append(starts[1:], len(members))
        index = faiss.IndexFlatL2(fast.shape[1])
        options = _flat_options(faiss)
        if len(members) >= SMALL:
            lists = int(np.sqrt(len(members)))
            index = faiss.IndexIVFFlat(index, fast.shape[1], lists)
            index.cp.seed = seed
            trained = np.random.Generator(np.random.Philox(seed)).permutation(members)[: TRAINED_PER_LIST * lists]
            index.train(np.ascontiguousarray(fast[trained]))
            options = _list_options(faiss, min(probes, lists))
        index.add(np.ascontiguousarray(fast[members]))
        return cls(members, index, options, groups, starts, stops)

    def search(
        self, faiss: Any, queries: np.ndarray, group: int | None, k: int
    ) -> tuple[Int[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
        """Return the nearest tiles of the cell, none of the group, and how far; -1, infinity where there are fewer."""
        selector = None
        if group is not None:
            i = int(np.searchsorted(self.groups, group))
            selector = faiss.IDSelectorNot(faiss.IDSelectorRange(int(self.starts[i]), int(self.stops[i])))
        distance, place = self.index.search(queries, k, params=self.options(selector))
        return np.where(place >= 0, self.members[place], -1), np.where(place >= 0, distance, np.inf)


def _flat_options(faiss: Any) -> Callable[[Any], Any]:
    return lambda selector: faiss.SearchParameters(sel=selector)


def _list_options(faiss: Any, probes: int) -> Callable[[Any], Any]:
    return lambda selector: faiss.SearchParametersIVF(sel=selector, nprobe=probes)


def _found(
    faiss: Any, indices: list[_CellIndex], space: Space, rows: np.ndarray, own: Codes, k: int, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what may be among the `k` nearest of these rows, or the `m` of a type: places in `rows`, and tiles.

    Rows are sorted by group.
    """
    queries = np.ascontiguousarray(space.fast[rows, :-1])
    edges = [0, *(np.flatnonzero(np.diff(own[rows])) + 1), len(rows)]
    width = max(k, m) + SPARE
    tiles = np.full((len(rows), len(indices), width), -1)
    far = np.full(tiles.shape, np.inf, np.float32)
    for number, cell in enumerate(indices):
        shared = np.isin(own[rows], cell.groups)
        strangers = np.flatnonzero(~shared)
        batches = [(strangers, None)] if len(strangers) else []
        batches += [(np.arange(start, stop), int(own[rows[start]])) for start, stop in pairwise(edges) if shared[start]]
        for chosen, group in batches:
            tiles[chosen, number], far[chosen, number] = cell.search(faiss, queries[chosen], group, width)
    everything = far.reshape(len(rows), -1)
    bound = np.partition(everything, k + SPARE - 1, axis=1)[:, k + SPARE - 1]
    near = far <= bound[:, None, None]
    near[:, :, : m + SPARE] = True
    at, cell, place = np.nonzero(near & (tiles >= 0))
    return at, tiles[at, cell, place]


def _recall(exact: np.ndarray, found: np.ndarray) -> float:
    """Return the share of the exact neighbours that were found; NaN-free: 1 where there are none to find."""
    wanted = exact >= 0
    hit = (exact[:, :, None] == found[:, None, :]).any(axis=2)
    return float(hit[wanted].mean()) if wanted.any() else 1.0
