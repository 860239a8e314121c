"""From figures to PASS, WARN or FAIL, on the bounds of intervals and with the reason in words."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from ..encoders import ContractCheck
from .result import Check, Dose, Figure, NullResult, OperationResult, ProbeResult, Status

ORDER: tuple[Status, ...] = ("PASS", "UNDEFINED", "WARN", "FAIL")


class Policy(BaseModel):
    """What is asked of an encoder. The defaults are conventions, not measurements: set your own before you rely on one.

    `pass_auroc` and `fail_auroc` bound the probability that a must-ignore change at `severity` moves a tile less than
    unrelated tiles lie apart (.5 = as far as an unrelated tile).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: int = Field(default=3, ge=1, le=5)
    must_react_severity: int = Field(default=5, ge=1, le=5)
    pass_auroc: float = Field(default=0.95, ge=0, le=1)
    fail_auroc: float = Field(default=0.8, ge=0, le=1)


def judge(
    policy: Policy,
    operations: Sequence[OperationResult],
    null: NullResult,
    null_defined: bool,
    doses: Sequence[Dose],
    selectivity: Figure | None,
    probes: Sequence[ProbeResult],
    leak: Figure | None,
) -> list[Check]:
    """Answer every question of the verdict for one encoder.

    `leak` is the skill of the best leakage probe minus that of the signal probe, each as share of the way from chance
    to perfect, on the same resamples.
    """
    checks = [_null(null, null_defined)]
    if doses and null_defined:
        ignored = [operation for operation in operations if operation.role == "must-ignore"]
        checks += [_ignores(policy, operation, doses) for operation in ignored]
        checks.append(_selects(policy, selectivity))
    elif not doses:
        checks.append(
            Check(name="robustness", status="UNDEFINED", sentence="precomputed vectors: no tile could be perturbed")
        )
    checks += [_signal(probe) for probe in probes if probe.kind == "signal"]
    if not any(probe.kind == "signal" for probe in probes):
        checks.append(
            Check(name="signal", status="UNDEFINED", sentence="no label was given: what is kept is not known")
        )
    leakage = [probe for probe in probes if probe.kind == "leakage"]
    checks += [_unread(probe) for probe in leakage if probe.reason]
    checks.append(_leaks(leak, probes))
    return checks


def keeps_contract(answers: Sequence[ContractCheck]) -> Check:
    """Return what an encoder's contract adds to its verdict: the worst answer, with every one that is as bad."""
    worst = ORDER[max(ORDER.index(answer.status) for answer in answers)]
    found = [answer for answer in answers if answer.status == worst]
    said = "; ".join(answer.sentence + (f" ({answer.fix})" if answer.fix else "") for answer in found)
    if worst in ("PASS", "UNDEFINED"):  # what cannot be seen from outside is no fault of the encoder
        asked = ", ".join(answer.name for answer in answers if answer.status == "PASS")
        if not asked:
            return Check(name="contract", status="UNDEFINED", sentence=said)
        return Check(name="contract", status="PASS", sentence=f"run on a few tiles, it keeps: {asked}")
    return Check(name="contract", status=worst, sentence=said)


def overall(checks: Sequence[Check]) -> Status:
    """Return the worst status; a question without an answer is a WARN for the whole."""
    worst = ORDER[max(ORDER.index(check.status) for check in checks)]
    return "WARN" if worst == "UNDEFINED" else worst


def skill(accuracy: float, chance: float) -> float:
    """Return how far from chance (0) to perfect (1) a balanced accuracy is."""
    return (accuracy - chance) / (1 - chance)


def _skill(probe: ProbeResult) -> float:
    return skill(probe.balanced_accuracy.value or 0.0, probe.chance or 0.0)


def _null(null: NullResult, defined: bool) -> Check:
    if defined:
        sentence = f"unrelated tiles are {null.median:.3g} apart (median cosine distance)"
        return Check(name="null", status="PASS", sentence=sentence)
    return Check(
        name="null",
        status="FAIL",
        sentence="every tile has practically the same embedding, so nothing can be told apart: "
        "that it does not move is worth nothing",
    )


def _ignores(policy: Policy, operation: OperationResult, doses: Sequence[Dose]) -> Check:
    figure = _figure(doses, operation.name, policy.severity, "auroc_null")
    moved = _figure(doses, operation.name, policy.severity, "displacement").value or 0.0
    low, high = _bounds(figure)
    status: Status = "PASS" if low >= policy.pass_auroc else "FAIL" if high < policy.fail_auroc else "WARN"
    words = {
        "PASS": "stays closer than unrelated tiles",
        "WARN": "comes near to unrelated tiles",
        "FAIL": "often moves tiles as far as unrelated tiles lie apart",
    }
    control = ""
    if operation.control is not None:
        alone = _figure(doses, operation.control, policy.severity, "displacement").value or 0.0
        control = f" ({alone:.2f} by its control alone)"
    step = operation.steps[policy.severity - 1]
    at = f"{operation.parameter} {step.level:g}" + (f" {operation.unit}" if operation.graded and operation.unit else "")
    return Check(
        name=f"ignores {operation.name}",
        status=status,
        sentence=f"{operation.name} ({at}) {words[status]}: displacement {moved:.2f}{control}, "
        f"P(below unrelated) {_show(figure)}",
        figure=figure,
        threshold=f"PASS if the lower bound is at least {policy.pass_auroc:g}, "
        f"FAIL if the upper is below {policy.fail_auroc:g}",
    )


def _selects(policy: Policy, selectivity: Figure | None) -> Check:
    if selectivity is None or selectivity.value is None:
        return Check(name="selectivity", status="UNDEFINED", sentence="the suite has no must-react operation")
    low, high = _bounds(selectivity)
    status: Status = "PASS" if low > 0.5 else "FAIL" if high < 0.5 else "WARN"
    words = {
        "PASS": "destroying biology moves tiles further than nuisances do",
        "WARN": "destroying biology moves tiles about as far as nuisances do",
        "FAIL": "nuisances move tiles further than destroying biology does",
    }
    return Check(
        name="selectivity",
        status=status,
        sentence=f"{words[status]}: selectivity {_show(selectivity)} "
        f"(must-react at severity {policy.must_react_severity}, nuisances at {policy.severity})",
        figure=selectivity,
        threshold="PASS if the lower bound is above 0.5, FAIL if the upper is below",
    )


def _signal(probe: ProbeResult) -> Check:
    if probe.reason:
        return _unread(probe)
    assert probe.chance is not None  # a probe without a reason has been scored
    low, high = _bounds(probe.balanced_accuracy)
    status: Status = "PASS" if low > probe.chance else "FAIL" if high <= probe.chance + 0.02 else "WARN"
    words = {"PASS": "can be read", "WARN": "can hardly be told from chance", "FAIL": "cannot be read"}
    return Check(
        name=f"keeps {probe.target}",
        status=status,
        sentence=f"{probe.title} {words[status]}: balanced accuracy {_show(probe.balanced_accuracy)}, "
        f"chance {probe.chance:.2f}",
        figure=probe.balanced_accuracy,
        threshold="PASS if the lower bound is above chance",
    )


def _unread(probe: ProbeResult) -> Check:
    verb = "keeps" if probe.kind == "signal" else "leaks"
    return Check(
        name=f"{verb} {probe.target}", status="UNDEFINED", sentence=f"{probe.title} was not probed: {probe.reason}"
    )


def _leaks(leak: Figure | None, probes: Sequence[ProbeResult]) -> Check:
    name = "leaks less than it keeps"
    leakage = [probe for probe in probes if probe.kind == "leakage" and not probe.reason]
    if not leakage:
        return Check(
            name=name, status="UNDEFINED", sentence="no site, scanner or stain could be probed: what leaks is not known"
        )
    worst = max(leakage, key=_skill)
    if leak is None:
        return Check(
            name=name,
            status="UNDEFINED",
            sentence=f"{worst.title} is read with balanced accuracy {_show(worst.balanced_accuracy)} (chance "
            f"{worst.chance:.2f}), and there is no readable label to weigh it against",
        )
    signal = next(probe for probe in probes if probe.kind == "signal" and not probe.reason)
    low, high = _bounds(leak)
    status: Status = "PASS" if high < 0 else "WARN"
    words = "more" if low > 0 else "less" if high < 0 else "about as"
    comparison = f"{words} readable than" if words != "about as" else "about as readable as"
    return Check(
        name=name,
        status=status,
        sentence=f"{worst.title} is {comparison} {signal.title}: balanced accuracy {_show(worst.balanced_accuracy)} "
        f"(chance {worst.chance:.2f}) against {_show(signal.balanced_accuracy)} (chance {signal.chance:.2f})",
        figure=leak,
        threshold="WARN unless the difference in skill is below 0",
    )


def _figure(doses: Sequence[Dose], operation: str, severity: int, metric: str) -> Figure:
    return next(d.metrics[metric] for d in doses if d.operation == operation and d.severity == severity)


def _bounds(figure: Figure) -> tuple[float, float]:
    """Return the interval, or the value twice where there is none."""
    value = figure.value if figure.value is not None else 0.0
    return (value if figure.low is None else figure.low, value if figure.high is None else figure.high)


def _show(figure: Figure) -> str:
    if figure.value is None:
        return "not defined"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"
