"""What an embedding holds without any perturbation: what can be read from it, and what decides who is near."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import Codes, GivenCodes, Vectors
from ..neighbors import TypedNeighbors, approximate_neighbors, find_neighbors
from ..probes import Chance, FittedProbe, NotReadable, Reading, fit_probe, measure_chance
from ..provenance import stream
from ..spectrum import effective_rank, is_constant
from ..stats import Statistic, balanced_accuracy, weighted_mean
from .batches import FEWEST_TILES, compare_batches
from .clustering import clustering_score
from .geometry import neighbour_votes
from .measured import Measured
from .mixing import acceptance, local_mixing
from .performance_drop import measure_drop
from .plan import LEAKAGE_COLUMNS
from .result import BatchResult, DistanceResult, Figure, ProbeResult, SpaceResult, TransferResult, rounded
from .robustness import (
    RobustnessMargin,
    Shortfalls,
    margin_index,
    measure_shortfalls,
    robustness_index,
    robustness_margin,
)
from .silhouettes import batch_silhouettes
from .transfer import leave_site_out
from .undefined import Undefined

NEIGHBOURS, PERPLEXITY, NEAREST = 50, 30, 5
VOTES = 10
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


@dataclass(frozen=True)
class Readings:
    """What probes found. `fitted` and `readings` are by target; a target that cannot be probed is in neither."""

    results: list[ProbeResult]
    fitted: dict[str, FittedProbe]
    readings: dict[str, Reading]
    leak: Figure | None


def probe_all(vectors: Vectors, measured: Measured) -> Readings:
    """Probe the label and everything that may leak, by a fresh regression and by a vote of neighbours."""
    split = measured.column("split")
    if split is not None and not {"train", "test"} <= set(split):
        split = None
    groups = measured.groups.codes
    near = _vote_neighbours(vectors, measured)
    results: list[ProbeResult] = []
    fitted: dict[str, FittedProbe] = {}
    readings: dict[str, Reading] = {}
    chances: dict[str, Chance] = {}
    for target in ("label", *LEAKAGE_COLUMNS):
        column = _probed_column(target, measured)
        if column is None:
            continue
        if target != "label" and _is_the_label(target, measured):
            label = measured.plan.title("label")
            probe = NotReadable(f"it divides the tiles as {label} does: what is read of one is read of both")
        else:
            probe = fit_probe(vectors, column, groups, split=split, seed=measured.plan.seed)
        if isinstance(probe, NotReadable):
            results.append(_not_probed(target, probe.reason, measured))
            continue
        fitted[target], readings[target] = probe, probe.read(vectors)
        chances[target] = measure_chance(probe, vectors, groups, seed=measured.plan.seed)
        votes = _votes(near, target, measured)
        results.append(_probe_result(target, readings[target], votes, chances[target], measured))
    return Readings(results, fitted, readings, _leak(results, readings, chances, measured))


def _is_the_label(target: str, measured: Measured) -> bool:
    label, other = measured.codes("label"), measured.codes(target)
    return label is not None and other is not None and len(other[1]) > 1 and _same_partition(label[0], other[0])


def _probed_column(name: str, measured: Measured) -> list[str | None] | None:
    """Return a text column with None for what is missing or not among the tiles that probes see."""
    column = measured.column(name)
    if column is None:
        return None
    seen = set(measured.sample(SLOW_TILES, "probes").tolist())
    return [value if row in seen else None for row, value in enumerate(column)]


def _probe_result(target: str, reading: Reading, votes: Figure, chance: Chance, measured: Measured) -> ProbeResult:
    accuracy, auroc = (
        measured.figure(statistic, reading.rows, wider=chance.wider, limits=(0, 1))
        for statistic in (reading.accuracy(), reading.auroc())
    )
    return ProbeResult(
        **_asked(target, measured),
        classes=list(reading.classes),
        tiles=len(reading.rows),
        folds=reading.folds,
        balanced_accuracy=accuracy,
        auroc=auroc,
        neighbours=votes,
        chance=1 / len(reading.classes),
        chance_band=(float(f"{chance.low:.6g}"), float(f"{chance.high:.6g}")),
    )


def _not_probed(target: str, reason: str, measured: Measured) -> ProbeResult:
    nothing = Figure(value=None)
    return ProbeResult(
        **_asked(target, measured),
        classes=[],
        tiles=0,
        folds=0,
        balanced_accuracy=nothing,
        auroc=nothing,
        neighbours=nothing,
        chance=None,
        reason=reason,
    )


def _asked(target: str, measured: Measured) -> dict[str, Any]:
    kind = "signal" if target == "label" else "leakage"
    return {"target": target, "title": measured.plan.title(target), "kind": kind}


def _vote_neighbours(vectors: Vectors, measured: Measured) -> tuple[GivenCodes, np.ndarray] | None:
    """Return a sample of tiles and, of each, its nearest of other groups; None where there can be none."""
    rows = measured.sample(measured.plan.space_tiles, "space")
    groups = measured.groups.codes[rows]
    if len(np.unique(groups)) < 2 or is_constant(vectors[rows]):
        return None
    return rows, _search(vectors[rows], min(VOTES, len(rows) - 1), measured, groups=groups).plain.index


def _votes(near: tuple[Codes, np.ndarray] | None, target: str, measured: Measured) -> Figure:
    found = measured.codes(target)
    if near is None or found is None:
        return Figure(value=None)
    rows, index = near
    codes = found[0][rows]
    known = codes >= 0
    right = (neighbour_votes(np.where(codes[index] >= 0, index, -1), codes) == codes)[known].astype(float)
    return measured.figure(balanced_accuracy(right, codes[known]), rows[known])


def _leak(
    results: list[ProbeResult], readings: dict[str, Reading], chances: dict[str, Chance], measured: Measured
) -> Figure | None:
    """Return the skill of the worst leak less that of the label, on the same resamples of the tiles both cover."""
    leaking = [result for result in results if result.kind == "leakage" and result.target in readings]
    if "label" not in readings or not leaking:
        return None
    worst = max(leaking, key=lambda item: item.skill.value or 0.0)
    leak, signal = readings[worst.target], readings["label"]
    both, first, second = np.intersect1d(leak.rows, signal.rows, return_indices=True)
    if not len(both):
        return None
    parts: list[tuple[Statistic, float]] = [
        (balanced_accuracy(reading.correct[rows], reading.codes[rows]), 1 / len(reading.classes))
        for reading, rows in ((leak, first), (signal, second))
    ]

    def gap(weights: np.ndarray) -> np.ndarray:
        (leaked, leak_chance), (kept, kept_chance) = parts
        return (leaked(weights) - leak_chance) / (1 - leak_chance) - (kept(weights) - kept_chance) / (1 - kept_chance)

    wider = max(chances[worst.target].wider, chances["label"].wider)
    return measured.figure(gap, both, wider=wider)


def confounders(measured: Measured) -> tuple[list[str], list[str]]:
    """Return the columns against which the space is measured, and what to say of those that only rename another."""
    chosen: list[str] = []
    said: list[str] = []
    seen: list[tuple[str, Codes]] = []
    for column in LEAKAGE_COLUMNS:
        found = measured.codes(column)
        if found is None or len(found[1]) < 2:
            continue
        same = next((name for name, codes in seen if _same_partition(codes, found[0])), None)
        if same is not None:
            title = measured.plan.title
            said.append(f"{title(column)} divides the tiles as {title(same)} does: neighbours are measured against one")
            continue
        seen.append((column, found[0]))
        chosen.append(column)
    return chosen, said


def _same_partition(first: Codes, second: Codes) -> bool:
    pairs = len(np.unique(np.stack([first, second], axis=1), axis=0))
    return pairs == len(np.unique(first)) == len(np.unique(second))


def transfer(vectors: Vectors, measured: Measured, seen: Reading | None) -> list[TransferResult]:
    """Leave out each site (scanner, staining) in turn and read the label there."""
    columns, _ = confounders(measured)
    target = _probed_column("label", measured)
    if not columns or target is None or seen is None:
        return []
    sites = measured.column(columns[0])
    assert sites is not None  # it is one of the columns
    plan = measured.plan
    found = leave_site_out(
        vectors, target, sites, measured.clusters, seen=seen, resamples=plan.resamples, seed=plan.seed
    )
    nothing = Figure(value=None)
    return [
        TransferResult(
            column=columns[0],
            left_out=site,
            tiles=0,
            unseen=nothing,
            seen=nothing,
            gap=nothing,
            reason=item.reason,
        )
        if isinstance(item, NotReadable)
        else TransferResult(
            column=columns[0],
            left_out=site,
            tiles=item.tiles,
            unseen=Figure.of(item.unseen),
            seen=Figure.of(item.seen),
            gap=Figure.of(item.gap),
        )
        for site, item in found.items()
    ]


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
    """Measure neighbours against one confounder, on those of `rows` of which it (and the label, if any) is known."""
    confounder, label = measured.codes(column), measured.codes("label")
    assert confounder is not None  # it is one of the columns
    has_label = label is not None and len(label[1]) > 1
    known = confounder[0][rows] >= 0
    if has_label and label is not None:
        known &= label[0][rows] >= 0
    rows = rows[known]
    if len(rows) < FEWEST:
        reason = f"{column} and label are known together for {len(rows)} tiles only"
        return [_undefined(name, column, reason) for name in BY_LABEL]
    vectors = vectors[rows]
    site = _compact(confounder[0][rows])
    tissue = _compact(label[0][rows]) if has_label and label is not None else None
    groups = _compact(measured.groups.codes[rows])
    return _Against(column, vectors, rows, site, tissue, groups, measured).all()


class _Against:
    """Figures of one embedding against one confounder."""

    def __init__(
        self,
        column: str,
        vectors: Vectors,
        rows: Codes,
        site: Codes,
        tissue: Codes | None,
        groups: Codes,
        measured: Measured,
    ) -> None:
        self.column, self.vectors, self.rows, self.site = column, vectors, rows, site
        self.tissue, self.groups, self.measured = tissue, groups, measured
        self.found: list[SpaceResult] = []
        self.recall: float | None = None

    def all(self) -> list[SpaceResult]:
        n, wide = len(self.rows), 3 * PERPLEXITY - 1
        k = min(wide, n - 1)
        typed = {} if self.tissue is None else {"labels": self.tissue, "confounders": self.site}
        near = _search(self.vectors, k, self.measured, groups=self.groups, m=NEAREST, **typed)
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
        """Return up to `most` places, in their order, drawn by the seed."""
        drawn = np.random.Generator(np.random.Philox(self.measured.plan.seed)).permutation(len(self.rows))[:most]
        return np.sort(drawn)

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


def _search(vectors: Vectors, k: int, measured: Measured, **how) -> TypedNeighbors:
    if measured.plan.neighbors == "approximate":
        return approximate_neighbors(vectors, k, seed=measured.plan.seed, **how)
    return find_neighbors(vectors, k, **how)


def _compact(codes: Codes) -> Codes:
    return np.unique(codes, return_inverse=True)[1].reshape(-1)


def _no_strata(found) -> bool:
    return not isinstance(found, Undefined) and not len(found.rows)
