"""What an encoder does under perturbation: one pass over its views, one view in memory at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .._types import Column, Vectors
from ..neighbors import cross_retrieval
from ..probes import FittedProbe
from ..stats import Estimate
from .breakdown import break_down
from .displacement import Null, measure_moves, measure_ranks, selectivity
from .dose import Threshold, dose_response
from .equivariance import Equivariance, measure_equivariance
from .factors import FittedFactor
from .flips import count_flips
from .geometry import linear_cka, mutual_neighbours
from .linear_maps import Inputs, prepare_inputs
from .measured import Measured, ViewStack
from .result import (
    BatchResult,
    Crossing,
    Dose,
    EquivarianceResult,
    FactorDose,
    FamilySelectivity,
    Figure,
    FlipResult,
    MapFigures,
    OperationResult,
    PartResult,
    Response,
    SelectivityResult,
    WorstTile,
    rounded,
)
from .space import compare_sets

WORST_TILES, WORST_SLIDES = 6, 10
#: Tiles whose neighbours before and after are compared, and that enter the alignment of the whole.
COMPARED_TILES = 2000
NEIGHBOURS = 10
#: The family of real pairs, such as two scans of one slide.
PAIR = "pair"
#: Of more real pairs than this, as many are looked for as twins are; the pool is always all.
RETRIEVED_TILES = 10_000


@dataclass
class Ladder:
    """What was measured under perturbation. `moves` holds the displacement per tile at the judged severity."""

    doses: list[Dose] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    equivariance: list[EquivarianceResult] = field(default_factory=list)
    flips: list[FlipResult] = field(default_factory=list)
    parts: list[PartResult] = field(default_factory=list)
    factors: dict[str, list[FactorDose]] = field(default_factory=dict)
    batches: list[BatchResult] = field(default_factory=list)
    moves: dict[str, Column] = field(default_factory=dict)
    distances: dict[str, Column] = field(default_factory=dict)


def climb_ladder(
    vectors: Vectors,
    views: ViewStack,
    null: Null,
    measured: Measured,
    *,
    label: FittedProbe | None = None,
    factors: dict[str, FittedFactor] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Ladder:
    """Measure every operation at every severity. `views` is `(all rows, v, d)`, view 0 the tiles as they are.

    The views after it hold the steps of the operations in their order. `label` and `factors` are fits of the tiles as
    they are, which are asked about the perturbed ones. `advance` is called after each operation.
    """
    found, climber = Ladder(), _Climber(vectors, null, measured, label, factors or {})
    position = 1
    for operation in measured.operations:
        climber.climb(found, operation, views, position)
        position += len(operation.steps)
        advance()
    return found


class _Climber:
    """One encoder's tiles as they are, with what is computed once for all operations."""

    def __init__(
        self,
        vectors: Vectors,
        null: Null,
        measured: Measured,
        label: FittedProbe | None,
        factors: dict[str, FittedFactor],
    ) -> None:
        self.vectors, self.null, self.measured = vectors, null, measured
        self.label, self.factors = label, factors
        self.before = None if label is None else label.read(vectors)
        self.everyone = np.arange(len(vectors))
        self.queries = measured.sample(measured.plan.rank_queries, "queries")
        self.compared = measured.sample(COMPARED_TILES, "compared")
        self.wanted = set(measured.plan.wanted)
        self.inputs: Inputs | None = None
        if "equivariance" in self.wanted and int(measured.groups.codes.max()) >= 4:
            self.inputs = prepare_inputs(vectors, measured.groups.codes, seed=measured.plan.seed)

    def climb(self, found: Ladder, operation: OperationResult, views: ViewStack, position: int) -> None:
        """Measure one operation; `position` is the view of its first step."""
        measured, judged = self.measured, self.measured.judged(operation)
        steps: list[Column] = []
        for number, step in enumerate(operation.steps):
            moved = np.asarray(views[measured.rows, position + number])
            columns = measure_moves(self.vectors, moved, self.null)
            steps.append(columns["displacement"])
            metrics = measured.means(columns, self.everyone)
            ranks = measure_ranks(self.vectors, moved[self.queries], self.queries)
            metrics |= measured.means(ranks, self.queries)
            if operation.family == PAIR:
                metrics |= self._retrieve(moved)
                if "distances" in self.wanted:
                    found.batches.append(compare_sets(operation.name, self.vectors, moved, measured, column=PAIR))
            if step.severity == judged:
                found.moves[operation.name] = columns["displacement"]
                found.distances[operation.name] = columns["cosine_distance"]
                metrics |= self._structure(moved)
                self._look_closer(found, operation, judged, moved)
            found.doses.append(Dose(operation=operation.name, severity=step.severity, metrics=metrics))
        if self.null.is_defined:
            found.parts += self._parts(operation, judged, found.moves[operation.name])
            if operation.graded and len(steps) > 1:
                found.responses.append(self._response(operation, steps))

    def _retrieve(self, moved: Vectors) -> dict[str, Figure]:
        """Return how well real pairs are found again among both sets, and their cosine."""
        all_of_them = len(self.vectors) <= RETRIEVED_TILES
        asked = self.everyone if all_of_them else self.queries
        found = cross_retrieval(self.vectors, moved, queries=None if all_of_them else asked)
        hits = {f"cross_top{k}": found.hits[:, i] for i, k in enumerate(found.k)}
        return self.measured.means(hits, asked) | self.measured.means({"cross_cosine": found.cosine}, self.everyone)

    def _structure(self, moved: Vectors) -> dict[str, Figure]:
        """Return how far neighbours and the whole cloud stay what they were, on a sample of the tiles."""
        rows = self.compared
        first, second = self.vectors[rows], moved[rows]
        k = min(NEIGHBOURS, len(rows) - 1)
        found = self.measured.means({"mutual_neighbours": mutual_neighbours(first, second, k=k)}, rows)
        return found | {"linear_cka": Figure.of(Estimate(linear_cka(first, second), None, None))}

    def _look_closer(self, found: Ladder, operation: OperationResult, severity: int, moved: Vectors) -> None:
        plan, groups = self.measured.plan, self.measured.groups.codes
        name = operation.name
        if "equivariance" in self.wanted and operation.role != "control":
            item = measure_equivariance(
                self.vectors, moved, groups, inputs=self.inputs, resamples=plan.resamples, seed=plan.seed
            )
            found.equivariance.append(_equivariance(item, name, severity))
        if self.label is not None and self.before is not None and operation.role != "control":
            flips = count_flips(
                self.before,
                self.label.read(moved),
                self.measured.clusters,
                resamples=plan.resamples,
                seed=plan.seed,
            )
            found.flips.append(
                FlipResult(
                    operation=name,
                    severity=severity,
                    share=Figure.of(flips.share),
                    broken=Figure.of(flips.broken),
                    mended=Figure.of(flips.mended),
                    before=Figure.of(flips.before),
                    after=Figure.of(flips.after),
                    change=Figure.of(flips.change),
                    independent=flips.independent,
                )
            )
        for factor, fitted in self.factors.items():
            r2 = fitted.r2(fitted.read(moved), self.measured.clusters, resamples=plan.resamples, seed=plan.seed)
            dose = FactorDose(operation=name, severity=severity, r2=Figure.of(r2))
            found.factors.setdefault(factor, []).append(dose)

    def _parts(self, operation: OperationResult, severity: int, moves: Column) -> list[PartResult]:
        measured, plan = self.measured, self.measured.plan
        if operation.role == "control":
            return []
        react = operation.role == "must-react"
        found = break_down(
            moves,
            measured.clusters,
            labels=measured.column("label"),
            slides=measured.column("slide"),
            higher_is_worse=not react,
            resamples=plan.resamples,
            seed=plan.seed,
        )
        slides = [part for part in found.parts if part.by == "slide"]
        slides.sort(key=lambda part: part.mean.value, reverse=not react)
        hidden = {part.name for part in slides[WORST_SLIDES:]}
        return [
            PartResult(
                operation=operation.name,
                severity=severity,
                by=part.by,
                name=part.name,
                displacement=Figure.of(part.mean),
                tiles=part.tiles,
                groups=part.groups,
            )
            for part in found.parts
            if part.by != "slide" or part.name not in hidden
        ]

    def _response(self, operation: OperationResult, steps: list[Column]) -> Response:
        plan = self.measured.plan
        curve = dose_response(
            np.stack([np.zeros_like(steps[0]), *steps], axis=1),
            [0, *(step.severity for step in operation.steps)],
            self.measured.clusters,
            level=plan.response_level,
            resamples=plan.resamples,
            seed=plan.seed,
        )
        assert isinstance(curve.threshold, Threshold)  # a level was asked for
        ends = {name: _crossing(getattr(curve.threshold, name)) for name in ("early", "late", "surely")}
        never = curve.threshold.never
        return Response(
            operation=operation.name,
            monotonicity=Figure.of(curve.monotonicity),
            level=plan.response_level,
            crossing=_crossing(curve.threshold.value),
            **ends,
            never=None if np.isnan(never) else never,
        )


@dataclass(frozen=True)
class Selectivity:
    """How often destroying biology moves a tile further than a nuisance: over all, and by what destroys it.

    `against` is that by the family of the nuisance too, empty with one family; `by_tile` the share of nuisances.
    """

    all: Figure
    by_operation: list[SelectivityResult]
    against: list[FamilySelectivity]
    by_tile: Column


def measure_selectivity(found: Ladder, measured: Measured) -> Selectivity | None:
    """Return how often destroying biology moves a tile further than a nuisance; None where a role is missing."""
    roles = {role: [o for o in measured.operations if o.role == role] for role in ("must-react", "must-ignore")}
    react, ignore = ([found.distances[o.name] for o in roles[role]] for role in ("must-react", "must-ignore"))
    if not react or not ignore:
        return None
    everyone = np.arange(len(react[0]))
    against = np.stack(ignore, axis=1)
    shares = [selectivity(column, against) for column in react]
    nuisance = against.mean(axis=1)
    by_operation = []
    for operation, column, share in zip(roles["must-react"], react, shares, strict=True):

        def ratio(weights: np.ndarray, column: Column = column) -> np.ndarray:
            with np.errstate(invalid="ignore", divide="ignore"):
                return (weights @ column) / (weights @ nuisance)

        figures = measured.means({"share": share}, everyone) | {"ratio": measured.figure(ratio, everyone)}
        by_operation.append(SelectivityResult(operation=operation.name, **figures))
    mean = np.mean(shares, axis=0)
    families = np.array([operation.family for operation in roles["must-ignore"]])
    by_family = [
        FamilySelectivity(operation=operation.name, family=family, **measured.means({"share": share}, everyone))
        for family in (dict.fromkeys(families.tolist()) if len(set(families)) > 1 else ())
        for operation, column in zip(roles["must-react"], react, strict=True)
        for share in [selectivity(column, against[:, families == family])]
    ]
    return Selectivity(measured.means({"all": mean}, everyone)["all"], by_operation, by_family, mean)


def find_worst(found: Ladder, measured: Measured) -> list[WorstTile]:
    """Return the tiles that a must-ignore change at the judged severity moved furthest, one entry a tile."""
    ignored = [operation for operation in measured.operations if operation.role == "must-ignore"]
    if not ignored:
        return []
    displacement = np.stack([found.moves[operation.name] for operation in ignored], axis=1)
    order = np.argsort(-displacement.max(axis=1), kind="stable")[:WORST_TILES]
    worst = displacement.argmax(axis=1)
    return [
        WorstTile(
            tile=str(measured.table.index[row]),
            operation=ignored[worst[row]].name,
            severity=measured.judged(ignored[worst[row]]),
            displacement=float(f"{displacement[row, worst[row]]:.6g}"),
        )
        for row in order
    ]


def _equivariance(item: Equivariance, operation: str, severity: int) -> EquivarianceResult:
    return EquivarianceResult(
        operation=operation,
        severity=severity,
        verdict=item.verdict,
        reason=item.reason,
        move=Figure.of(item.move),
        direction_consistency=rounded(item.direction_consistency),
        shared_consistency=Figure.of(item.shared_consistency),
        effective_rank=rounded(item.effective_rank),
        maps={
            name: MapFigures(
                explained=Figure.of(fitted.explained), gap_closed=Figure.of(fitted.gap_closed), r2=Figure.of(fitted.r2)
            )
            for name, fitted in item.maps.items()
        },
    )


def _crossing(found) -> Crossing:
    return Crossing(outcome=found.outcome, severity=rounded(found.severity))
