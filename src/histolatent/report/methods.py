"""How an audit was done, in words to paste, with numbered references; and when its figures mislead."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..audit.metrics import METRICS, Metric
from ..audit.references import BENJAMINI, EFRON, HESTERBERG, HOLM, TRANSFORMATIONS
from ..audit.result import AuditResult
from ..audit.words import counted


@dataclass(frozen=True)
class Methods:
    """Paragraphs that cite `[1]`, and the references in that order."""

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]


class _References:
    """Numbers references in the order in which they are cited."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def cite(self, reference: str) -> str:
        return f"[{self.found.setdefault(reference, len(self.found) + 1)}]"


def measured_metrics(result: AuditResult) -> list[Metric]:
    """Return the figures of the registry that the result holds, in the order of the registry."""
    figures = [pair for encoder in result.encoders for pair in encoder.figures()]
    names = {str(key["metric"]) for key, figure in figures if figure.value is not None}
    if any(encoder.discordance is not None for encoder in result.encoders):
        names.add("disagreement")
    if any(encoder.sensitivity for encoder in result.encoders):
        names.add("sensitivity")
    return [metric for metric in METRICS.values() if metric.name in names]


def methods_of(result: AuditResult) -> Methods:
    """Return the methods of an audit."""
    references = _References()
    measured = measured_metrics(result)
    paragraphs = [
        _tiles(result, references),
        *([_structure(result, measured, references)] if result.operations else []),
        _readings(result, measured, references),
        _statistics(result, references),
        "Intervals hold fitted probes and maps fixed. Thresholds of the verdict are conventions of the policy "
        f"“{result.plan['policy']['title']}”. Research use; no statement on diagnostic fitness is made.",
    ]
    return Methods(tuple(paragraphs), tuple(references.found))


def _tiles(result: AuditResult, references: _References) -> str:
    names = ", ".join(encoder.name for encoder in result.encoders)
    tool = f"histolatent {result.histolatent}"
    if not result.operations:
        return (
            f"Precomputed vectors of {result.tiles['tiles']} tiles ({names}) were audited without pixels ({tool}, seed "
            f"{result.plan['seed']}); nothing was perturbed."
        )
    count = len(result.operations)
    what = ", ".join(operation.name for operation in result.operations)
    idea = references.cite(TRANSFORMATIONS)
    if all(len(operation.steps) == 1 for operation in result.operations):
        done = f"{result.tiles['tiles']} tiles were compared with their counterparts ({what}; {tool}, seed "
        done += f"{result.plan['seed']})"
    else:
        done = (
            f"{result.tiles['tiles']} tiles were perturbed by {counted(count, 'operation')} ({what}) at up to "
            f"five severities each ({tool}, suite {result.plan['suite']}, seed {result.plan['seed']})"
        )
    return (
        f"{done}, and embedded with {names}. The displacement of a tile is the cosine distance between its embeddings "
        "before and after, divided by the median cosine distance of random pairs of tiles of different "
        f"{result.clusters['null_apart_by']}s {idea}."
    )


def _structure(result: AuditResult, measured: list[Metric], references: _References) -> str:
    names = {metric.name for metric in measured}
    parts = []
    if any(encoder.responses for encoder in result.encoders):
        level = result.plan.get("response_level", 0.5)
        parts.append(
            f"The threshold of a dose-response is the interpolated severity at which the mean displacement first "
            f"reaches {level:g}"
        )
    if "explained" in names:
        parts.append(
            "A shift, a low-rank and a ridge-regularised linear map from embeddings before to embeddings after were "
            f"fitted in five folds of whole groups and scored on held-out groups {_cited(('explained',), references)}"
        )
    if "label_flips" in names:
        parts.append("A linear probe of the label, fitted on unperturbed tiles, was asked again after each operation")
    if "selectivity" in names:
        parts.append(
            "Selectivity is the probability that an operation that destroys biology (severity "
            f"{result.plan['policy']['must_react_severity']}) moves a tile further than a nuisance does (severity "
            f"{result.plan['policy']['severity']})"
        )
    cited = _cited(("linear_cka", "mutual_neighbours", "effective_rank", "twin_top1"), references, names)
    if cited:
        parts.append(f"Neighbourhoods and alignment before and after were compared {cited}")
    return ". ".join(parts) + "." if parts else ""


def _readings(result: AuditResult, measured: list[Metric], references: _References) -> str:
    names = {metric.name for metric in measured}
    parts = []
    if any(not probe.reason for encoder in result.encoders for probe in encoder.probes):
        parts.append(
            "Labels and sites were read by L2-penalised logistic regression, classes weighted alike, in stratified "
            "folds that keep groups apart, and by a vote of neighbours"
        )
    if "transfer_gap" in names:
        parts.append("The label was also read at each site by a probe trained on all other sites")
    own = {"displacement", "explained", "linear_cka", "mutual_neighbours", "effective_rank"}
    rest = [m for m in measured if m.reference and m.name not in own and not m.name.startswith("twin_")]
    if rest:
        said = ", ".join(f"{metric.title} {references.cite(metric.reference)}" for metric in rest)
        parts.append(f"Further figures: {said}")
    return ". ".join(parts) + "." if parts else "Nothing was read from the embeddings by probes."


def _statistics(result: AuditResult, references: _References) -> str:
    said = (
        f"Figures are given with 95 % BCa intervals {references.cite(EFRON)}, with quantiles of Student's t "
        f"{references.cite(HESTERBERG)}, from {result.plan['resamples']} bootstrap resamples of whole groups "
        f"({result.clusters['by']}, n = {result.clusters['count']}), the same for all encoders."
    )
    if any(not probe.reason for encoder in result.encoders for probe in encoder.probes):
        said += (
            " Intervals of probes, of the robustness index and of margins were widened by the factor by which these "
            "figures vary more than intervals say where labels are dealt anew, by whole groups."
        )
    if result.comparisons:
        said += (
            " Encoders were compared on the same tiles and resamples; p-values are adjusted within a family by Holm's "
            f"method {references.cite(HOLM)} and over the table by that of Benjamini and Hochberg "
            f"{references.cite(BENJAMINI)}."
        )
    return said


def _cited(wanted: Iterable[str], references: _References, measured: set[str] | None = None) -> str:
    found = [METRICS[name].reference for name in wanted if measured is None or name in measured]
    return "".join(references.cite(reference) for reference in dict.fromkeys(found) if reference)


def limits_of(result: AuditResult) -> list[str]:
    """Return what the figures of this audit cannot say."""
    count, by = result.clusters["count"], result.clusters["by"]
    named = ", ".join(sorted({probe.title for e in result.encoders for probe in e.probes if probe.kind == "leakage"}))
    found = [
        f"It holds for these {result.tiles['tiles']} tiles of {result.tiles['name']} ({count} independent groups, by "
        f"{by}), and for tissue, stain and scanner like theirs.",
        *result.warnings,
        "An operation is a model of what happens in a laboratory. What was not perturbed was not asked.",
        "Thresholds are conventions of the policy, and no measurement of harm.",
        f"Leakage was looked for in {named} only." if named else "No leakage was looked for.",
        "A linear probe that reads nothing does not show that nothing is there.",
        "Research use. Not a medical device: nothing here says that an encoder is fit for diagnosis.",
    ]
    return list(dict.fromkeys(found))
