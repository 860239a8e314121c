"""What decides who is near in an embedding, label or site, and how far batches lie apart."""

import math
from collections.abc import Callable

import numpy as np

from .._types import Codes, GivenCodes, Vectors
from ..distances import FEWEST_TILES, compare_batches
from ..neighbors import TypedNeighbors, approximate_neighbors, find_neighbors
from ..provenance import stream
from ..spectrum import effective_rank
from ..stats import Statistic, weighted_mean
from .clustering import clustering_score
from .measured import Measured
from .mixing import acceptance, local_mixing
from .performance_drop import measure_drop
from .plan import LEAKAGE_COLUMNS
from .result import BatchResult, DistanceResult, Figure, SpaceResult, rounded
from .robustness import (
    RobustnessMargin,
    Shortfalls,
    margin_index,
    measure_shortfalls,
    robustness_index,
    robustness_margin,
)
from .silhouettes import batch_silhouettes
from .undefined import Undefined

NEIGHBOURS, PERPLEXITY, NEAREST = 50, 30, 5
#: k-means, probes of confounded tiles and distances cost far more than neighbours: they see fewer tiles.
CLUSTERED_TILES = 2000
#: Probes, silhouettes and distances see no more tiles than this, whatever neighbours see.
SLOW_TILES = 20_000
CONFOUNDED_LEVELS, CONFOUNDED_REPEATS = (0.0, 0.5, 1.0), 3
MOST_BATCHES = 4
DISTANCE_REPEATS = 10
#: Of so many tiles in all, labels and sites are dealt anew to see where a margin of nothing lies.
DEALT_TILES = 2000
#: Fewer tiles of known label and confounder than this are no embedding to speak of.
FEWEST = 20
BY_LABEL = (
    "robustness_index",
    "robustness_ratio",
    "margin_index",
    "margin_median",
    "margin_worst",
    "margin_confounded",
    "margin_excess",
    "clustering_score",
    "performance_drop",
)


def confounders(measured: Measured) -> tuple[list[str], list[str]]:
    """Return the columns against which the space is measured, and what to say of those that only rename another."""
    chosen: list[str] = []
    said: list[str] = []
    seen: list[tuple[str, Codes]] = []
    for column in LEAKAGE_COLUMNS:
        found = measured.codes(column)
        if found is None or len(found[1]) < 2:
            continue
        same = next((name for name, codes in seen if same_partition(codes, found[0])), None)
        if same is not None:
            title = measured.plan.title
            said.append(f"{title(column)} divides the tiles as {title(same)} does: neighbours are measured against one")
            continue
        seen.append((column, found[0]))
        chosen.append(column)
    return chosen, said


def same_partition(first: Codes, second: Codes) -> bool:
    """Whether two columns divide the tiles alike, whatever they call the parts."""
    pairs = len(np.unique(np.stack([first, second], axis=1), axis=0))
    return pairs == len(np.unique(first)) == len(np.unique(second))


def measure_space(vectors: Vectors, measured: Measured) -> list[SpaceResult]:
    """Measure which of label and confounder decides who is near, against each confounder; see `metrics`."""
    rows = measured.sample(measured.plan.space_tiles, "space")
    rank = Figure(value=rounded(effective_rank(vectors[rows])))
    found = [SpaceResult(metric="effective_rank", column=None, figure=rank, chance=None, tiles=len(rows))]
    if "neighbours" in measured.plan.wanted:
        for column in confounders(measured)[0]:
            found += _against(vectors, column, measured, rows)
    return found


def _against(vectors: Vectors, column: str, measured: Measured, rows: GivenCodes) -> list[SpaceResult]:
    """Measure neighbours against one confounder: of `rows`, among all tiles.

    Tiles of which the confounder (and the label, if any) is not known are no part of it.
    """
    confounder, label = measured.codes(column), measured.codes("label")
    assert confounder is not None  # it is one of the columns
    has_label = label is not None and len(label[1]) > 1
    known = confounder[0] >= 0
    if has_label and label is not None:
        known &= label[0] >= 0
    rows = rows[known[rows]]
    if len(rows) < FEWEST:
        reason = f"{column} and label are known together for {len(rows)} tiles only, and it takes {FEWEST}"
        return [_undefined(name, column, reason) for name in BY_LABEL]
    pool = np.flatnonzero(known)
    site = _compact(confounder[0][pool])
    tissue = _compact(label[0][pool]) if has_label and label is not None else None
    groups = _compact(measured.groups.codes[pool])
    own = vectors if len(pool) == len(vectors) else vectors[pool]
    return _Against(column, own, pool, np.searchsorted(pool, rows), site, tissue, groups, measured).all()


class _Against:
    """Figures of one embedding against one confounder: of the tiles at the places `asked`, among all.

    `rows` says which tiles of the audit they are.
    """

    def __init__(
        self,
        column: str,
        vectors: Vectors,
        rows: Codes,
        asked: GivenCodes,
        site: Codes,
        tissue: Codes | None,
        groups: Codes,
        measured: Measured,
    ) -> None:
        self.column, self.vectors, self.rows, self.asked = column, vectors, rows, asked
        self.site, self.tissue, self.groups, self.measured = site, tissue, groups, measured
        self.found: list[SpaceResult] = []
        self.recall: float | None = None

    def all(self) -> list[SpaceResult]:
        n, wide = len(self.rows), 3 * PERPLEXITY - 1
        k = min(wide, n - 1)
        typed = {} if self.tissue is None else {"labels": self.tissue, "confounders": self.site}
        near = search(self.vectors, k, self.measured, rows=self.asked, groups=self.groups, m=NEAREST, **typed)
        self.recall = rounded(near.recall.get("plain"))
        few = None if n >= 2 * NEIGHBOURS else f"{NEIGHBOURS} neighbours of {n} tiles are no neighbourhood"
        fewer = None if n >= 2 * wide else f"{wide} neighbours of {n} tiles are no neighbourhood"
        if self.tissue is None:
            self.found += [_undefined(name, self.column, "no label was given") for name in BY_LABEL]
        else:
            self._robustness(near, few)
            self._clusters()
        self._mixing(near, few, fewer)
        return self.found

    def _robustness(self, near: TypedNeighbors, few: str | None) -> None:
        index = Undefined(few) if few else robustness_index(near, NEIGHBOURS)
        weighted = Undefined(few) if few else margin_index(near, NEIGHBOURS)
        wider = self._shortfalls(near)
        for name, found, statistic, chance, most in (
            ("robustness_index", index, lambda found: found.statistic(), lambda found: found.chance, 1),
            ("robustness_ratio", index, lambda found: found.ratio_statistic(), None, math.inf),
            ("margin_index", weighted, lambda found: found.statistic(), None, 1),
        ):
            self._add(name, found, statistic, chance=chance, wider=wider.index, limits=(0, most))
        margin = robustness_margin(near, NEAREST)
        dealt = self._dealt_margins()
        known = isinstance(dealt, RobustnessMargin)
        median, worst, confounded = (dealt.median, dealt.worst, dealt.confounded) if known else (None,) * 3
        above = margin if median is not None or isinstance(margin, Undefined) else dealt
        for name, found, statistic, chance, limits in (
            ("margin_median", margin, lambda found: found.median_statistic(), median, (-1, 1)),
            ("margin_worst", margin, lambda found: found.worst_statistic(), worst, (-1, 1)),
            ("margin_confounded", margin, lambda found: found.confounded_statistic(), confounded, (0, 1)),
            ("margin_excess", above, lambda found: found.excess_statistic(median), 0.0, (-2, 2)),
        ):
            self._add(name, found, statistic, chance=lambda _, value=chance: value, wider=wider.margin, limits=limits)

    def _shortfalls(self, near: TypedNeighbors) -> Shortfalls:
        """Return by what factor intervals are too narrow that hold neighbours fixed; of many tiles, see some."""
        groups = self.groups
        if len(self.rows) > SLOW_TILES:
            assert self.tissue is not None  # asked only with labels
            some = self._part(SLOW_TILES)
            groups = _compact(groups[some])
            near = find_neighbors(
                self.vectors[some],
                near.plain.k,
                labels=self.tissue[some],
                confounders=self.site[some],
                groups=groups,
            )
        return measure_shortfalls(near, groups, k=NEIGHBOURS, m=NEAREST, seed=self.measured.plan.seed)

    def _dealt_margins(self) -> RobustnessMargin | Undefined:
        """Return the margins where label, site and group are dealt anew to the tiles: what no embedding can help.

        There are not as many tiles of the same label elsewhere as of another label here, and of more tiles, the five
        nearest are nearer: even where nothing is true the margin is not 0.
        """
        assert self.tissue is not None  # asked only with labels
        n, values = len(self.rows), []
        for number in range(-(-DEALT_TILES // n)):
            order = stream(self.measured.plan.seed, "dealt margins", number).permutation(n)
            near = find_neighbors(
                self.vectors,
                NEAREST,
                m=NEAREST,
                labels=self.tissue[order],
                confounders=self.site[order],
                groups=self.groups[order],
                rows=np.sort(order[:DEALT_TILES]),
            )
            margin = robustness_margin(near, NEAREST)
            if isinstance(margin, Undefined):
                return margin
            values.append(margin.values)
        joined = np.concatenate(values)
        return RobustnessMargin(NEAREST, np.arange(len(joined)), joined, 1.0)

    def _clusters(self) -> None:
        """Measure what needs many fits, on fewer tiles."""
        assert self.tissue is not None  # asked only with labels
        seed, some = self.measured.plan.seed, self._part(CLUSTERED_TILES)
        part, tissue, site, groups = (a[some] for a in (self.vectors, self.tissue, self.site, self.groups))
        score = clustering_score(part, tissue, site, starts=2, trials=5, seed=seed)
        self._add("clustering_score", score, lambda found: found.statistic(), rows=some, chance=lambda _: 0.0)
        drop = measure_drop(part, tissue, site, groups, levels=CONFOUNDED_LEVELS, repeats=CONFOUNDED_REPEATS, seed=seed)
        self._add("performance_drop", drop, lambda found: found.statistic(), rows=some, chance=lambda _: 0.0)

    def _mixing(self, near: TypedNeighbors, few: str | None, fewer: str | None) -> None:
        site = Undefined(fewer) if fewer else local_mixing(near, self.site, perplexity=PERPLEXITY)
        self._add("ilisi", site, lambda found: found.ilisi_statistic())
        if self.tissue is not None:
            label = Undefined(fewer) if fewer else local_mixing(near, self.tissue, perplexity=PERPLEXITY)
            self._add("clisi", label, lambda found: found.clisi_statistic())
        test = Undefined(few) if few else acceptance(near, self.site, k=NEIGHBOURS)
        self._add("kbet", test, lambda found: weighted_mean(found.accepted))
        some = self._part(SLOW_TILES)
        part, site = self.vectors[some], self.site[some]
        tissue = None if self.tissue is None else self.tissue[some]
        for metric, name in (("cosine", "batch_silhouette"), ("euclidean", "batch_silhouette_euclidean")):
            found = batch_silhouettes(part, site, tissue, metric=metric)
            self._add(name, found, lambda one: one.mean_statistic(), rows=some, chance=lambda _: 0.0)
            if metric == "cosine" and tissue is not None:
                scib = Undefined("every label is at one site only") if _no_strata(found) else found
                within = None if isinstance(found, Undefined) else some[found.rows]
                self._add("batch_silhouette_scib", scib, lambda one: one.scib_statistic(), rows=within)

    def _part(self, most: int) -> Codes:
        """Return up to `most` of the places that are asked about, in their order, drawn by the seed."""
        drawn = np.random.Generator(np.random.Philox(self.measured.plan.seed)).permutation(len(self.asked))[:most]
        return np.sort(self.asked[drawn])

    def _add(
        self,
        name: str,
        found,
        statistic: Callable[..., Statistic],
        *,
        rows: Codes | None = None,
        chance: Callable[..., float | None] | None = None,
        wider: float = 1.0,
        limits: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        """Add a figure with its interval; `rows` says which of the tiles it is of, if what was found does not."""
        if isinstance(found, Undefined):
            self.found.append(_undefined(name, self.column, found.reason))
            return
        mine = self.rows[found.rows if rows is None else rows]
        self.found.append(
            SpaceResult(
                metric=name,
                column=self.column,
                figure=self.measured.figure(statistic(found), mine, wider=wider, limits=limits),
                chance=None if chance is None else rounded(chance(found)),
                tiles=len(mine),
                recall=self.recall if rows is None else None,
            )
        )


def _undefined(metric: str, column: str, reason: str) -> SpaceResult:
    return SpaceResult(metric=metric, column=column, figure=Figure(value=None), chance=None, tiles=0, reason=reason)


def compare_all_batches(vectors: Vectors, measured: Measured) -> list[BatchResult]:
    """Measure how far each batch of each confounder lies from all others, up to four of the largest."""
    rows = measured.sample(min(measured.plan.space_tiles, SLOW_TILES), "space")
    label = measured.codes("label")
    results = []
    for column in confounders(measured)[0]:
        found = measured.codes(column)
        assert found is not None  # it is one of the columns
        codes, names = found
        known = rows[codes[rows] >= 0]
        sizes = np.bincount(codes[known], minlength=len(names))
        largest = np.argsort(-sizes, kind="stable")[:MOST_BATCHES]
        chosen = largest[:1] if len(names) == 2 else largest  # of two, each is all the others of the other
        for batch in chosen:
            here = (codes[known] == batch).astype(int)
            name = f"{names[batch]} and {names[1 - batch]}" if len(names) == 2 else names[batch]
            tissue = None if label is None else label[0][known]
            results.append(_batch(column, name, vectors[known], here, tissue, measured.groups.codes[known], measured))
    return results


def compare_sets(name: str, vectors: Vectors, moved: Vectors, measured: Measured, *, column: str) -> BatchResult:
    """Measure how far tiles that are seen another way lie from tiles as they are, as one batch lies from another.

    Half of the groups, drawn by the seed, count as they are, the others as they became: were a patient in both, sets
    that differ would look more alike than the halves of one set do.
    """
    rows = measured.sample(min(measured.plan.space_tiles, SLOW_TILES), "space")
    label, groups = measured.codes("label"), measured.groups.codes[rows]
    units = _compact(groups)
    if not units.any():  # all are of one group
        units = np.arange(len(rows))
    sizes = np.bincount(units)
    order = stream(measured.plan.seed, "sets").permutation(len(sizes))
    cut = int(np.argmin(np.abs(np.cumsum(sizes[order])[:-1] - len(rows) / 2))) + 1
    became = np.isin(units, order[cut:])
    return _batch(
        column,
        name,
        np.where(became[:, None], moved[rows], vectors[rows]),
        became.astype(int),
        None if label is None else label[0][rows],
        groups,
        measured,
    )


def _batch(
    column: str,
    name: str,
    vectors: Vectors,
    here: Codes,
    labels: Codes | None,
    groups: Codes,
    measured: Measured,
) -> BatchResult:
    fewest = int(min(here.sum(), len(here) - here.sum()))
    if fewest < FEWEST_TILES:
        reason = f"{fewest} tiles are too few to compare: at least {FEWEST_TILES}"
        return BatchResult(
            column=column,
            batch=name,
            distances=[],
            effective_rank=None,
            label_accuracy=None,
            halves_by="",
            scale="",
            reason=reason,
        )
    found = compare_batches(
        vectors,
        here,
        groups,
        labels=labels,
        repeats=DISTANCE_REPEATS,
        seed=measured.plan.seed,
    )
    return BatchResult(
        column=column,
        batch=name,
        distances=[
            DistanceResult(
                metric=item.name,
                value=rounded(item.value),
                between=rounded(item.between),
                floor=rounded(item.floor),
                floor_p95=rounded(item.floor_p95),
                above_floor=item.above_floor,
                tiles=item.tiles,
            )
            for item in found.distances
        ],
        effective_rank=rounded(found.effective_rank),
        label_accuracy=rounded(found.label_accuracy),
        halves_by=found.halves_by,
        scale=found.scale,
        reason=found.reason,
    )


def search(vectors: Vectors, k: int, measured: Measured, **how) -> TypedNeighbors:
    """Search neighbours as the plan asks: exactly or approximately."""
    if measured.plan.neighbors == "approximate":
        return approximate_neighbors(vectors, k, seed=measured.plan.seed, **how)
    return find_neighbors(vectors, k, **how)


def _compact(codes: Codes) -> Codes:
    return np.unique(codes, return_inverse=True)[1].reshape(-1)


def _no_strata(found) -> bool:
    return not isinstance(found, Undefined) and not len(found.rows)
