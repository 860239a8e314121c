"""The result of an audit: one frozen document with a versioned schema."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from ..stats import Estimate

SCHEMA = 3

Status = Literal["PASS", "WARN", "FAIL", "UNDEFINED"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Frozen):
    """A number with its 95 % interval. None: not defined, or no interval can be had."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> "Figure":
        """Round an estimate to six digits; what is not finite, as a ratio to nothing, becomes None."""
        return cls(value=rounded(estimate.value), low=rounded(estimate.low), high=rounded(estimate.high))


def show(figure: Figure | None, digits: int = 2) -> str:
    """Return a figure with its interval in words."""
    if figure is None or figure.value is None:
        return "not defined"
    # Adding zero turns a rounded -0.00 into 0.00.
    value, low, high = (
        None if part is None else f"{round(part, digits) + 0.0:.{digits}f}"
        for part in (figure.value, figure.low, figure.high)
    )
    return str(value) if low is None or high is None else f"{value} [{low}, {high}]"


def rounded(value: float | None) -> float | None:
    """Return a number with the six digits of a document; None for what is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


class Step(_Frozen):
    """One operation at one severity, as it was applied. `level` is None where there is no number to it."""

    severity: int
    level: float | None
    pixels_sha256: str


class OperationResult(_Frozen):
    """What was done to the tiles. Real pairs, such as two scans of one slide, have one step and are not graded."""

    name: str
    family: str
    role: str
    parameter: str
    unit: str
    graded: bool
    control: str | None
    describes: str
    misleads: str
    steps: list[Step]

    def at(self, severity: int) -> Step:
        """Return the step of a severity; of what has one step only, that one."""
        return self.steps[0] if len(self.steps) == 1 else self.steps[severity - 1]

    def level_at(self, severity: float) -> float:
        """Return the level at a severity between two steps, interpolated."""
        steps = [(step.severity, step.level) for step in self.steps if step.level is not None]
        for (left, low), (right, high) in pairwise(steps):
            if left <= severity <= right:
                return low + (severity - left) / (right - left) * (high - low)
        return steps[-1][1]

    def caption(self, severity: int) -> str:
        """Return the level at a severity with its unit, such as `sigma 0.5 um`."""
        level = self.at(severity).level
        if level is None:
            return self.parameter
        return f"{self.parameter} {level:g}" + (f" {self.unit}" if self.graded and self.unit else "")


class Dose(_Frozen):
    """Metrics of one encoder for one operation at one severity, by name."""

    operation: str
    severity: int
    metrics: dict[str, Figure]


class Crossing(_Frozen):
    """Where a curve first reaches a level: `crosses` at a severity, `never crosses`, or `crossed at once`."""

    outcome: str
    severity: float | None


class Response(_Frozen):
    """How the displacement follows the severity of one operation.

    `crossing` is where the mean first reaches `level`, `early` and `late` bound it over resamples, `surely` is where
    the whole band is beyond the level. `never` is the share of resamples that do not reach it.
    """

    operation: str
    monotonicity: Figure
    level: float
    crossing: Crossing
    early: Crossing
    late: Crossing
    surely: Crossing
    never: float | None


class MapFigures(_Frozen):
    """How well a fitted map foretells perturbed embeddings of groups that it was not fitted on."""

    explained: Figure
    gap_closed: Figure
    r2: Figure


class EquivarianceResult(_Frozen):
    """What an operation does to the embedding as a whole: the verdict, its reason, and the figures it rests on."""

    operation: str
    severity: int
    verdict: str
    reason: str
    move: Figure
    direction_consistency: float | None
    shared_consistency: Figure
    effective_rank: float | None
    maps: dict[str, MapFigures]


class FlipResult(_Frozen):
    """What a perturbation does to the answers of a probe of the label; `independent` is the share expected by chance.

    `before`, `after` and `change` are balanced accuracies; `broken` and `mended` shares of all tiles.
    """

    operation: str
    severity: int
    share: Figure
    broken: Figure
    mended: Figure
    before: Figure
    after: Figure
    change: Figure
    independent: float


class PartResult(_Frozen):
    """The displacement by one operation over a part of the tiles: a class, a slide, the worst tenth, or all."""

    operation: str
    severity: int
    by: str
    name: str
    displacement: Figure
    tiles: int
    groups: int


class SelectivityResult(_Frozen):
    """How one operation that destroys biology compares with the nuisances.

    `share` is the probability that it moves a tile further, `ratio` its mean displacement over that of the nuisances.
    """

    operation: str
    share: Figure
    ratio: Figure


class FamilySelectivity(_Frozen):
    """The probability that one operation that destroys biology moves a tile further than nuisances of one family do."""

    operation: str
    family: str
    share: Figure


class NullResult(_Frozen):
    """How far apart unrelated tiles are (cosine distance). `defined` is false where they do not differ."""

    apart: str
    pairs: int
    defined: bool
    median: float
    p05: float
    p95: float
    same_label_median: float | None


class ProbeResult(_Frozen):
    """What a fresh probe reads of one target; `reason` says why where it reads nothing.

    `neighbours` is the balanced accuracy of a vote of the nearest tiles of other groups. `chance_band` holds the middle
    95 % of the balanced accuracy where labels are dealt anew.
    """

    target: str
    title: str
    kind: Literal["signal", "leakage"]
    classes: list[str]
    tiles: int
    folds: int
    balanced_accuracy: Figure
    auroc: Figure
    neighbours: Figure
    chance: float | None
    chance_band: tuple[float, float] | None = None
    reason: str | None = None

    @property
    def skill(self) -> Figure:
        """Return how far from chance (0) to perfect (1) the target is read."""
        chance, figure = self.chance or 0.0, self.balanced_accuracy
        value, low, high = (
            None if part is None else (part - chance) / (1 - chance) for part in (figure.value, figure.low, figure.high)
        )
        return Figure(value=value, low=low, high=high)


class TransferResult(_Frozen):
    """The label read at one site by a probe that has not seen the site (`unseen`), and by one that has (`seen`).

    Both are balanced accuracies on the same tiles, of patients that neither probe has seen; `gap` is the former less
    the latter.
    """

    column: str
    left_out: str
    tiles: int
    unseen: Figure
    seen: Figure
    gap: Figure
    reason: str | None = None


class SpaceResult(_Frozen):
    """A figure of the embedding itself, against one confounder (`column`), or None: of all tiles.

    `chance` is what an embedding that holds nothing would give on these tiles, where that is known. `recall` is the
    share of the exact neighbours that an approximate search found; None: the search was exact, or there was none.
    """

    metric: str
    column: str | None
    figure: Figure
    chance: float | None
    tiles: int
    recall: float | None = None
    reason: str | None = None


class DistanceResult(_Frozen):
    """One distance of a batch to all others. `floor` and `floor_p95` are what halves of one batch give.

    `between` is the same between halves of different batches, of as many tiles.
    """

    metric: str
    value: float | None
    between: float | None
    floor: float | None
    floor_p95: float | None
    above_floor: bool | None
    tiles: int


class BatchResult(_Frozen):
    """One batch (a site, a scanner) against all others; a distance is good news only while the last two stay high."""

    column: str
    batch: str
    distances: list[DistanceResult]
    effective_rank: float | None
    label_accuracy: float | None
    halves_by: str
    scale: str
    reason: str | None = None


class FactorDose(_Frozen):
    """How well a factor is read after one operation by the fit of the tiles as they are."""

    operation: str
    severity: int
    r2: Figure


class FactorResult(_Frozen):
    """How well a known factor of the tissue can be read, as R^2 on groups that the fit has not seen."""

    factor: str
    r2: Figure
    after: list[FactorDose]
    reason: str | None = None


class PairOfTiles(_Frozen):
    """Two tiles of which eye and encoder disagree; ranks are shares of random pairs that are closer."""

    first: str
    second: str
    disagreement: float
    image_rank: float
    latent_rank: float
    ssim: float


class DiscordanceResult(_Frozen):
    """Pairs that look alike and lie far apart, and the reverse. `agreement` is a Spearman correlation over pairs."""

    agreement: float | None
    pairs: int
    tiles: int
    alike_but_far: list[PairOfTiles]
    different_but_close: list[PairOfTiles]
    reason: str | None = None


class SensitivityResult(_Frozen):
    """Which parts of a tile move its embedding when they are covered.

    `heat` has rows of a grid over the tile, in units of the distance of unrelated tiles; `concentration` is the share
    of the heat that lies on the hottest tenth.
    """

    tile: str
    patch_um: float
    patches: int
    largest: float
    concentration: float | None
    heat: list[list[float]]


class Check(_Frozen):
    """One question of the verdict with its answer in words. `family` is that of the operation, or what is asked for."""

    name: str
    family: str
    status: Status
    sentence: str
    figure: Figure | None = None
    threshold: str | None = None


class FamilyResult(_Frozen):
    """The worst answer to the questions of one family."""

    family: str
    status: Status
    sentence: str


class ContractAnswer(_Frozen):
    """One question to the encoder itself (does it repeat, does a row depend on its batch), with the way to mend it."""

    name: str
    status: Status
    sentence: str
    fix: str | None


class WorstTile(_Frozen):
    """A tile that a must-ignore change moved far."""

    tile: str
    operation: str
    severity: int
    displacement: float


class EncoderResult(_Frozen):
    """Everything about one encoder."""

    name: str
    card: dict[str, Any]
    identity: str
    baseline: bool
    contract: list[ContractAnswer]
    null: NullResult
    doses: list[Dose]
    responses: list[Response]
    equivariance: list[EquivarianceResult]
    flips: list[FlipResult]
    parts: list[PartResult]
    selectivity: Figure | None
    selectivities: list[SelectivityResult]
    selectivity_against: list[FamilySelectivity]
    probes: list[ProbeResult]
    leak: Figure | None
    transfer: list[TransferResult]
    space: list[SpaceResult]
    batches: list[BatchResult]
    factors: list[FactorResult]
    discordance: DiscordanceResult | None
    sensitivity: list[SensitivityResult]
    checks: list[Check]
    families: list[FamilyResult]
    verdict: Status
    worst: list[WorstTile]

    @property
    def signal(self) -> ProbeResult | None:
        """Return the probe of the label, None where it could not be read."""
        return next((probe for probe in self.probes if probe.kind == "signal" and not probe.reason), None)

    @property
    def worst_leak(self) -> ProbeResult | None:
        """Return the probe of what leaks most, None where nothing was probed."""
        leaks = [probe for probe in self.probes if probe.kind == "leakage" and not probe.reason]
        return max(leaks, key=lambda probe: probe.skill.value or 0.0, default=None)

    def figures(self) -> Iterator[tuple[dict[str, str | int | None], Figure]]:
        """Yield every figure with what it is of: `metric`, and of `operation`, `severity`, `column`, `of` what applies.

        `column` is the known name of a column or a factor, `of` a part: a map, a class, a site. Policies and tables
        find figures by these keys.
        """
        for dose in self.doses:
            for metric, figure in dose.metrics.items():
                yield _key(metric, dose.operation, dose.severity), figure
        for response in self.responses:
            yield _key("monotonicity", response.operation), response.monotonicity
        for item in self.equivariance:
            where = (item.operation, item.severity)
            yield _key("move", *where), item.move
            yield _key("direction_consistency", *where), Figure(value=item.direction_consistency)
            yield _key("shared_consistency", *where), item.shared_consistency
            yield _key("effective_rank", *where, of="moves"), Figure(value=item.effective_rank)
            for name, fitted in item.maps.items():
                for metric in ("explained", "gap_closed", "r2"):
                    yield _key(metric, *where, of=name), getattr(fitted, metric)
        for flip in self.flips:
            where = (flip.operation, flip.severity)
            yield _key("label_flips", *where), flip.share
            yield _key("accuracy_change", *where), flip.change
        for part in self.parts:
            of = part.by if part.by in ("all", "worst tenth") else f"{part.by} {part.name}"
            yield _key("displacement", part.operation, part.severity, of=of), part.displacement
        if self.selectivity is not None:
            yield _key("selectivity"), self.selectivity
        for against in self.selectivity_against:
            yield _key("selectivity", against.operation, of=against.family), against.share
        for chosen in self.selectivities:
            yield _key("selectivity", chosen.operation), chosen.share
            yield _key("selectivity_ratio", chosen.operation), chosen.ratio
        for probe in self.probes:
            yield _key("balanced_accuracy", column=probe.target), probe.balanced_accuracy
            yield _key("auroc", column=probe.target), probe.auroc
            yield _key("neighbour_accuracy", column=probe.target), probe.neighbours
        if self.leak is not None:
            yield _key("leak"), self.leak
        for left in self.transfer:
            for metric, figure in (("unseen_accuracy", left.unseen), ("transfer_gap", left.gap)):
                yield _key(metric, column=left.column, of=left.left_out), figure
        for space in self.space:
            yield _key(space.metric, column=space.column), space.figure
        for batch in self.batches:
            for distance in batch.distances:
                yield _key(distance.metric, column=batch.column, of=batch.batch), Figure(value=distance.value)
        for factor in self.factors:
            yield _key("factor_r2", column=factor.factor), factor.r2
            for after in factor.after:
                yield _key("factor_r2", after.operation, after.severity, factor.factor), after.r2


KEYS = ("metric", "operation", "severity", "column", "of")


def _key(
    metric: str,
    operation: str | None = None,
    severity: int | None = None,
    column: str | None = None,
    of: str | None = None,
) -> dict[str, str | int | None]:
    return dict(zip(KEYS, (metric, operation, severity, column, of), strict=True))


class Comparison(_Frozen):
    """One figure of two encoders, or of one encoder in two runs, on the same tiles and resamples.

    `difference` is the first less the second. `p_holm` is adjusted within the family, `p_bh` over the whole table.
    `better` names the one that is better by `p_holm` below 0.05, None where that is not decided.
    """

    first: str
    second: str
    metric: str
    operation: str | None
    column: str | None
    family: str
    tiles: int
    difference: Figure
    p: float | None
    p_holm: float | None
    p_bh: float | None
    better: str | None


class AuditResult(_Frozen):
    """The document `audit.json`. `created` is its only part that differs between two runs of the same audit."""

    schema_version: int = SCHEMA
    histolatent: str
    created: str
    plan: dict[str, Any]
    tiles: dict[str, Any]
    clusters: dict[str, Any]
    warnings: list[str]
    operations: list[OperationResult]
    encoders: list[EncoderResult]
    comparisons: list[Comparison]
    findings: list[str]
    environment: dict[str, Any]

    def title(self, column: str) -> str:
        """Return what the user calls a known column."""
        return str(self.plan["columns"].get(column, column))

    def between(self, names: Sequence[str]) -> list[Comparison]:
        """Return the comparisons of these encoders among each other."""
        return [item for item in self.comparisons if item.first in names and item.second in names]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return self.model_dump(mode="json")

    def to_frame(self) -> pd.DataFrame:
        """Return every figure as a tidy table: a row per encoder and figure; see `EncoderResult.figures`."""
        rows = [
            {"encoder": encoder.name, **key, **figure.model_dump()}
            for encoder in self.encoders
            for key, figure in encoder.figures()
        ]
        return pd.DataFrame(rows, columns=pd.Index(["encoder", *KEYS, "value", "low", "high"])).astype(
            {"severity": "Int64"}
        )

    def probes_frame(self) -> pd.DataFrame:
        """Return the probes as a table: one row per encoder and target."""
        parts = ("balanced_accuracy", "auroc")
        rows = []
        for encoder in self.encoders:
            for item in encoder.probes:
                row = {"encoder": encoder.name, "target": item.target, "kind": item.kind, "chance": item.chance}
                for metric, figure in zip(parts, (item.balanced_accuracy, item.auroc), strict=True):
                    row |= {metric: figure.value, f"{metric}_low": figure.low, f"{metric}_high": figure.high}
                rows.append(row | {"reason": item.reason})
        figures = [f"{metric}{end}" for metric in parts for end in ("", "_low", "_high")]
        return pd.DataFrame(rows, columns=pd.Index(["encoder", "target", "kind", "chance", *figures, "reason"]))
