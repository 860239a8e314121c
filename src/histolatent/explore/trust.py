"""All that says how far to believe a map, in one object, and in one line for its caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._types import Codes, GivenCodes
from ..errors import InputError
from ..stats import Estimate, bootstrap_means
from .faithfulness import ANCHORS, SIZES, Faithfulness, measure_faithfulness
from .graph import Graph, make_graph
from .maps import PLACED_BY, Map, make_map, nearest_in_map
from .points import Reliability, permuted_features, reliability, stability


@dataclass(frozen=True)
class Purity:
    """How often a neighbour has the same label (or site) as the tile, in the space and in the map; paired intervals.

    `added` is the map's less the space's: above 0 the picture shows them more apart than they are.
    """

    column: str
    space: Estimate
    map: Estimate
    added: Estimate
    chance: float


@dataclass(frozen=True, eq=False)
class MapTrust:
    """How far to believe a map: figures, and of each tile whether to believe its place."""

    method: str
    metric: str
    faithfulness: Faithfulness
    purity: tuple[Purity, ...]
    reliability: Reliability | None
    stability: np.ndarray | None

    @property
    def points(self) -> pd.DataFrame:
        """Return a row for each tile that was asked about: what `Faithfulness.local` has, and verdicts."""
        found = self.faithfulness.local.copy()
        if self.stability is not None:
            found["stability"] = self.stability[self.faithfulness.rows]
        if self.reliability is not None:
            found["reliability"] = self.reliability.scores
            found["verdict"] = self.reliability.verdicts
        return found

    def caption(self) -> str:
        """Return the line that belongs under every picture of the map."""
        recalls = [figure for figure in self.faithfulness.figures if figure.metric == "recall"]
        first = recalls[0]
        trust = self.faithfulness[f"trustworthiness@{first.k}"].estimate.value
        kept = _percent(first.estimate)
        text = (
            f"{self.method}: of the {first.k} nearest tiles the map shows {kept} ({first.floor:.1%} at random); "
            f"trustworthiness {trust:.3f}, by {self.metric} distance"
        )
        if self.stability is not None:
            text += f"; other seeds agree on {self.stability.mean():.0%} of neighbours"
        if self.reliability is not None:
            shares = pd.Series(self.reliability.verdicts).value_counts(normalize=True)
            text += f"; {shares.get('dubious', 0.0):.0%} of tiles are placed no better than by chance"
        return text

    def to_frame(self) -> pd.DataFrame:
        """Return the figures, then a row for each of purity: `purity`, its column in `of`."""
        rows = [
            {"metric": f"purity {where}", "of": each.column, "value": found.value, "low": found.low, "high": found.high}
            | {"floor": 0.0 if where == "added" else each.chance}
            for each in self.purity
            for where, found in (("in the space", each.space), ("in the map", each.map), ("added", each.added))
        ]
        return pd.concat([self.faithfulness.to_frame(), pd.DataFrame(rows)], ignore_index=True)


def _percent(found: Estimate) -> str:
    if found.low is None or found.high is None or f"{found.low:.0%}" == f"{found.high:.0%}":
        return f"{found.value:.0%}"
    return f"{found.value:.0%} [{found.low:.0%}, {found.high:.0%}]"


def judge_map(
    made: Map,
    *,
    columns: Mapping[str, Sequence[object]] | None = None,
    groups: GivenCodes | None = None,
    graph: Graph | None = None,
    seeds: int = 3,
    null: bool = True,
    sizes: Sequence[int] | None = None,
    anchors: int | None = ANCHORS,
    seed: int = 0,
) -> MapTrust:
    """Judge a map against the space that it is of.

    `columns` are labels, sites and the like of each tile: what the picture adds to them or loses (`Purity`). With
    `seeds` above 1, the map is made so many times, and tiles say how many of their neighbours come back. With `null`
    it is made once more of vectors without structure, and tiles say whether they are placed better than there. Each of
    these maps takes as long as the first did.

    Neighbourhoods are of `sizes`; without any of 15 and 50, those that are below a half of the tiles. `graph` is that
    of the space, if it is known already.

    Raises
    ------
    InputError
        If there are too few tiles, or columns of another length.
    OptionError
        If a size is not below a half of the tiles.
    """
    n = len(made.places)
    if sizes is None:
        sizes = [k for k in SIZES if k < n / 2] or [max(1, (n - 1) // 4)]
    found = measure_faithfulness(
        made.vectors, made.places, sizes=sizes, anchors=anchors, groups=groups, metric=made.metric, seed=seed
    )
    options = dict(made.options or {})
    if graph is None and (columns or seeds > 1):
        graph = make_graph(made.vectors, metric=made.metric)
    others = [
        make_map(made.vectors, made.method, graph=graph, seed=made.seed + more, **options) for more in range(1, seeds)
    ]
    near = stability([made, *others], min(PLACED_BY, n - 1)) if others else None
    scored = None
    if null:
        nothing = permuted_features(made.vectors, metric=made.metric, seed=seed)
        other = make_map(nothing, made.method, metric=made.metric, seed=made.seed, **options)
        scored = reliability(made.vectors, made.places, nothing, other.places, found.rows, metric=made.metric)
    purity = tuple(
        compare_purity(made, name, values, groups=groups, graph=graph) for name, values in (columns or {}).items()
    )
    return MapTrust(made.method, made.metric, found, purity, scored, near)


def compare_purity(
    made: Map,
    column: str,
    values: Sequence[object],
    *,
    groups: GivenCodes | None = None,
    graph: Graph | None = None,
) -> Purity:
    """Return how often one of a tile's 15 nearest has the same value, in the space and in the map.

    Tiles without a value are neither asked nor counted, and those are not asked none of whose neighbours has one, in
    the space or in the map. Intervals are over `groups`. `graph` is that of the space, if it is known already.

    Raises
    ------
    InputError
        If values are of another number of tiles, there are fewer than two, or next to no tile with one has a neighbour
        with one.
    """
    known = ~pd.isna(pd.Series(list(values), dtype=object)).to_numpy()
    codes = np.full(len(known), -1)
    named = [str(value) for value, is_known in zip(values, known, strict=True) if is_known]
    codes[known] = np.unique(named, return_inverse=True)[1]
    if len(codes) != len(made.places):
        raise InputError(f"{column} is of other tiles", received=f"{len(codes)} values", valid=f"{len(made.places)}")
    rows = np.flatnonzero(known)
    if len(np.unique(codes[rows])) < 2:
        raise InputError(f"{column} has fewer than two values: nothing can stand apart", received=len(rows))
    k = min(PLACED_BY, len(codes) - 1)
    near = (graph or make_graph(made.vectors, k=k, metric=made.metric)).first(k).index
    both = np.stack([_share(codes, index) for index in (near, nearest_in_map(made.places, k))], axis=1)
    asked = np.flatnonzero((codes >= 0) & np.isfinite(both).all(axis=1))
    if len(asked) < 2:
        raise InputError(
            f"tiles whose {column} is known are no neighbours of each other", received=f"{len(rows)} tiles"
        )
    shares = both[asked]
    own: Codes = np.arange(len(asked)) if groups is None else np.unique(groups[asked], return_inverse=True)[1]
    space, picture, added = bootstrap_means(np.column_stack([shares, shares[:, 1] - shares[:, 0]]), own)
    sizes = np.bincount(codes[rows])
    chance = float((sizes * (sizes - 1)).sum() / (len(rows) * (len(rows) - 1)))
    return Purity(column, space, picture, added, chance)


def _share(codes: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the share of neighbours of known value that have the tile's; NaN where none is known."""
    known = codes[index] >= 0
    same = (codes[index] == codes[:, None]) & known
    with np.errstate(invalid="ignore"):
        return same.sum(axis=1) / known.sum(axis=1)
