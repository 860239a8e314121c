"""What the page shows, arranged: matrices of encoders against questions, operations, confounders and pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..audit.metrics import METRICS, Metric
from ..audit.result import (
    AuditResult,
    Check,
    Comparison,
    Dose,
    EncoderResult,
    EquivarianceResult,
    FamilyResult,
    Figure,
    FlipResult,
    OperationResult,
    PartResult,
    ProbeResult,
    SpaceResult,
    TransferResult,
    show,
)
from ..audit.words import threshold_words

#: The order in which families stand on the page; those that are not named follow.
FAMILIES = (
    *("contract", "yardstick", "geometric", "photometric", "acquisition", "stain", "artefact"),
    *("must-react", "signal", "leakage", "robustness", "required"),
)
STATUS_RANK = {"FAIL": 0, "WARN": 1, "UNDEFINED": 2, "PASS": 3}
#: A silhouette of batches below this is weak evidence that they are mixed.
WEAK = 0.10
TWINS = (
    *("twin_rank", "twin_top1", "twin_top5", "cross_top1", "cross_top5", "cross_cosine"),
    *("mutual_neighbours", "linear_cka"),
)
#: Comparisons that the page shows in full; of more, only what is decided.
MOST_ROWS = 150


@dataclass(frozen=True)
class FamilyCell:
    """The answer of one encoder to one family, and the figure that decided it."""

    result: FamilyResult
    figure: Figure | None


@dataclass(frozen=True)
class Move:
    """What one operation does to one encoder, at the severity at which it is judged."""

    dose: Dose
    threshold: str


@dataclass(frozen=True)
class PartsRow:
    """The displacement by one operation: over all, and where it is worst."""

    operation: OperationResult
    everyone: PartResult
    worst_tenth: PartResult | None
    classes: list[PartResult]
    slide: PartResult | None


@dataclass(frozen=True)
class SpaceTable:
    """Figures against encoders for one confounder; `absent` are those that no encoder has, by their one reason."""

    column: str | None
    rows: list[tuple[Metric, list[SpaceResult | None]]]
    absent: dict[str, list[Metric]]


@dataclass(frozen=True)
class PairSummary:
    """How often each of two encoders is better, and how often that is not decided."""

    first: str
    second: str
    for_first: list[Comparison]
    for_second: list[Comparison]
    undecided: int


def family_names(result: AuditResult) -> list[str]:
    """Return the families that any encoder was asked about, in the order of the page."""
    asked = {family.family for encoder in result.encoders for family in encoder.families}
    return [*[name for name in FAMILIES if name in asked], *sorted(asked - set(FAMILIES))]


def family_cells(encoder: EncoderResult, names: Sequence[str]) -> list[FamilyCell | None]:
    """Return the answers of one encoder, None where it was not asked."""
    found = {family.family: family for family in encoder.families}
    return [FamilyCell(found[name], _deciding(encoder, found[name])) if name in found else None for name in names]


def _deciding(encoder: EncoderResult, family: FamilyResult) -> Figure | None:
    checks = [c for c in encoder.checks if c.family == family.family and c.status == family.status and c.figure]
    worst = min(checks, key=lambda check: _low(check.figure), default=None)
    return None if worst is None else worst.figure


def _low(figure: Figure | None) -> float:
    if figure is None or figure.value is None:
        return 0.0
    return figure.value if figure.low is None else figure.low


def question_matrix(result: AuditResult) -> list[tuple[str, list[Check | None]]]:
    """Return each question of the verdict with the answer of each encoder, None where it was not asked."""
    # One that failed early was asked less: the order of questions is that of the one that was asked most.
    asked = sorted(result.encoders, key=lambda encoder: -len(encoder.checks))
    names = list(dict.fromkeys(check.name for encoder in asked for check in encoder.checks))
    answers = [{check.name: check for check in encoder.checks} for encoder in result.encoders]
    return [(name, [answer.get(name) for answer in answers]) for name in names]


def open_checks(encoder: EncoderResult) -> list[Check]:
    """Return the answers that are no PASS, the gravest first."""
    found = [check for check in encoder.checks if check.status != "PASS"]
    return sorted(found, key=lambda check: STATUS_RANK[check.status])


def judged_severity(result: AuditResult, operation: OperationResult) -> int:
    """Return the severity at which an operation is judged."""
    policy = result.plan["policy"]
    asked = policy["must_react_severity"] if operation.role == "must-react" else policy["severity"]
    return operation.at(int(asked)).severity


def perturbed(result: AuditResult) -> list[EncoderResult]:
    """Return the encoders of which moves mean something: perturbed, and with a yardstick."""
    return [encoder for encoder in result.encoders if encoder.doses and encoder.null.defined]


def move_matrix(result: AuditResult) -> list[tuple[OperationResult, str, list[Move | None]]]:
    """Return each operation with its level where it is judged, and what it does to each encoder."""
    rows = []
    for operation in result.operations:
        severity = judged_severity(result, operation)
        cells = [_move(encoder, operation, severity) for encoder in perturbed(result)]
        rows.append((operation, operation.caption(severity), cells))
    return rows


def _move(encoder: EncoderResult, operation: OperationResult, severity: int) -> Move | None:
    dose = next((d for d in encoder.doses if (d.operation, d.severity) == (operation.name, severity)), None)
    if dose is None:
        return None
    response = next((item for item in encoder.responses if item.operation == operation.name), None)
    return Move(dose, "" if response is None else threshold_words(operation, response))


def shape_matrix(result: AuditResult) -> list[tuple[OperationResult, list[EquivarianceResult | None]]]:
    """Return each operation with what it does to each encoder's embedding as a whole."""
    return _matrix(result, "equivariance")


def why_unshaped(result: AuditResult) -> str:
    """Return the one reason why no move of any encoder has a shape, empty where some have."""
    found = {(item.verdict, item.reason) for encoder in perturbed(result) for item in encoder.equivariance}
    return found.pop()[1] if len(found) == 1 and {verdict for verdict, _ in found} == {"undefined"} else ""


def flip_matrix(result: AuditResult) -> list[tuple[OperationResult, list[FlipResult | None]]]:
    """Return each operation with the label flips of each encoder."""
    return _matrix(result, "flips")


def _matrix(result: AuditResult, part: str) -> list:
    rows = []
    for operation in result.operations:
        cells = [
            next((item for item in getattr(encoder, part) if item.operation == operation.name), None)
            for encoder in perturbed(result)
        ]
        if any(cell is not None for cell in cells):
            rows.append((operation, cells))
    return rows


def space_tables(result: AuditResult) -> list[SpaceTable]:
    """Return a table of figures against encoders for each confounder, None for what is of all tiles."""
    columns = dict.fromkeys(item.column for encoder in result.encoders for item in encoder.space)
    found = []
    for column in columns:
        names = dict.fromkeys(s.metric for encoder in result.encoders for s in encoder.space if s.column == column)
        rows, absent = [], {}
        for name in names:
            cells = [
                next((s for s in encoder.space if (s.metric, s.column) == (name, column)), None)
                for encoder in result.encoders
            ]
            reasons = {None if cell is None else cell.reason for cell in cells}
            if len(reasons) == 1 and (reason := reasons.pop()):
                absent.setdefault(reason, []).append(METRICS[name])
            else:
                rows.append((METRICS[name], cells))
        found.append(SpaceTable(column, rows, absent))
    return found


def weak_silhouettes(result: AuditResult) -> list[str]:
    """Say of each encoder with a silhouette below 0.10 what a fresh probe reads there, of the worst such column."""
    said = []
    for encoder in result.encoders:
        probes = {probe.target: probe for probe in encoder.probes if not probe.reason}
        found = [
            (probes[item.column].skill.value or 0.0, item.figure.value, probes[item.column])
            for item in encoder.space
            if item.metric == "batch_silhouette" and item.figure.value is not None and item.figure.value < WEAK
            if item.column in probes
        ]
        if found:
            _, silhouette, probe = max(found, key=lambda item: item[0])
            said.append(
                f"{encoder.name}: silhouette of {probe.title} {silhouette:.3f}, and a fresh probe reads it at "
                f"{show(probe.balanced_accuracy)} (chance {probe.chance or 0:.2f})"
            )
    return said


def transfer_rows(result: AuditResult) -> list[tuple[str, list[TransferResult | None]]]:
    """Return each site that was left out with what that costs each encoder."""
    encoders = [encoder for encoder in result.encoders if encoder.transfer]
    names = dict.fromkeys(left.left_out for encoder in encoders for left in encoder.transfer)
    return [
        (name, [next((left for left in encoder.transfer if left.left_out == name), None) for encoder in encoders])
        for name in names
    ]


def twin_names(result: AuditResult) -> list[str]:
    """Return the figures of twins, neighbours and alignment that were measured, in the order of the registry."""
    found = {name for encoder in result.encoders for dose in encoder.doses for name in dose.metrics}
    return [name for name in METRICS if name in found & set(TWINS)]


def parts_rows(result: AuditResult, encoder: EncoderResult) -> list[PartsRow]:
    """Return the breakdown of the displacement of one encoder, a row per operation."""
    rows = []
    for operation in result.operations:
        mine = [part for part in encoder.parts if part.operation == operation.name]
        everyone = next((part for part in mine if part.by == "all"), None)
        if everyone is None:
            continue
        slides = sorted((part for part in mine if part.by == "slide"), key=lambda part: part.displacement.value or 0.0)
        worst = 0 if operation.role == "must-react" else -1
        rows.append(
            PartsRow(
                operation=operation,
                everyone=everyone,
                worst_tenth=next((part for part in mine if part.by == "worst tenth"), None),
                classes=[part for part in mine if part.by not in ("all", "worst tenth", "slide")],
                slide=slides[worst] if slides else None,
            )
        )
    return rows


def pair_summaries(result: AuditResult) -> list[PairSummary]:
    """Return each pair of encoders with what is decided between them."""
    pairs = dict.fromkeys((item.first, item.second) for item in result.comparisons)
    found = []
    for first, second in pairs:
        mine = [item for item in result.comparisons if (item.first, item.second) == (first, second)]
        one, other = ([item for item in mine if item.better == name] for name in (first, second))
        found.append(PairSummary(first, second, one, other, len(mine) - len(one) - len(other)))
    return found


def shown_comparisons(result: AuditResult) -> list[Comparison]:
    """Return all comparisons, or those that are decided where there are too many for a page."""
    if len(result.comparisons) <= MOST_ROWS:
        return result.comparisons
    return [item for item in result.comparisons if item.better is not None]


def what_is_compared(result: AuditResult, item: Comparison) -> str:
    """Return the figure of a comparison in words."""
    if item.operation is not None:
        return item.operation
    if item.column is not None:
        title = result.title(item.column)
        if item.metric == "unseen_accuracy":
            return f"{title}, unseen"
        return title if item.family == "signal" else f"leak of {title}"
    return METRICS[item.metric].title if item.metric in METRICS else item.metric


def probe_rows(result: AuditResult) -> list[tuple[str, list[tuple[EncoderResult, ProbeResult]]]]:
    """Return each target with the probe of each encoder."""
    targets = dict.fromkeys(probe.target for encoder in result.encoders for probe in encoder.probes)
    return [
        (
            target,
            [(encoder, probe) for encoder in result.encoders for probe in encoder.probes if probe.target == target],
        )
        for target in targets
    ]


def distance_names(result: AuditResult) -> list[str]:
    """Return the distances between batches that were measured."""
    return list(
        dict.fromkeys(
            item.metric for encoder in result.encoders for batch in encoder.batches for item in batch.distances
        )
    )
