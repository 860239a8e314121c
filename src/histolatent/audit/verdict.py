"""From figures to PASS, WARN or FAIL, on the bounds of intervals and with the reason in words."""

from collections.abc import Iterator, Sequence

from ..perturb import OPERATIONS
from .metrics import METRICS
from .policy import Band, Policy, Requirement
from .result import (
    Check,
    ContractAnswer,
    EncoderResult,
    FamilyResult,
    FamilySelectivity,
    Figure,
    NullResult,
    OperationResult,
    ProbeResult,
    SelectivityResult,
    Status,
    show,
)

NO_INTERVAL = "for want of an interval: tiles of one group do not say how far another would differ"
ORDER: tuple[Status, ...] = ("PASS", "UNDEFINED", "WARN", "FAIL")


def judged(encoder: EncoderResult, operations: Sequence[OperationResult], policy: Policy) -> EncoderResult:
    """Return the result with its questions answered, per family and as a whole, as the policy asks.

    Selectivity stays that of the severities at which it was measured.
    """
    checks = judge(encoder, operations if encoder.doses else [], policy)
    return encoder.model_copy(update={"checks": checks, "families": by_family(checks), "verdict": overall(checks)})


def judge(encoder: EncoderResult, operations: Sequence[OperationResult], policy: Policy) -> list[Check]:
    """Answer every question of a policy for one encoder."""
    checks = [keeps_contract(encoder.contract)] if encoder.contract else []
    checks.append(_null(encoder.null))
    if encoder.doses and encoder.null.defined:
        ignored = [operation for operation in operations if operation.role == "must-ignore"]
        checks += [_ignores(policy, operation, encoder) for operation in ignored]
        checks += _unasked(policy, ignored)
        if any(operation.role == "must-react" for operation in operations):
            checks += [_reacts(policy, chosen) for chosen in encoder.selectivities]
            checks.append(_selects(policy, encoder.selectivity))
            checks += _selects_each(policy, encoder.selectivity_against)
        elif any(operation.graded for operation in operations):
            checks.append(_selects(policy, None))
    elif not encoder.doses:
        said = "precomputed vectors: no tile could be perturbed"
        checks.append(Check(name="robustness", family="robustness", status="UNDEFINED", sentence=said))
    checks += [_signal(probe) for probe in encoder.probes if probe.kind == "signal"]
    if not any(probe.kind == "signal" for probe in encoder.probes):
        said = "no label was given: what is kept is not known"
        checks.append(Check(name="signal", family="signal", status="UNDEFINED", sentence=said))
    leakage = [probe for probe in encoder.probes if probe.kind == "leakage"]
    checks += [_unread(probe) for probe in leakage if probe.reason]
    checks.append(_leaks(encoder.leak, encoder.probes))
    return [*checks, *(check for requirement in policy.require for check in _meets(requirement, encoder))]


def by_family(checks: Sequence[Check]) -> list[FamilyResult]:
    """Return the worst answer of each family, in the order in which families are asked for."""
    found = []
    for family in dict.fromkeys(check.family for check in checks):
        mine = [check for check in checks if check.family == family]
        worst = _worst([check.status for check in mine])
        said = [check.sentence for check in mine if check.status == worst]
        more = f" (and {len(said) - 1} more)" if len(said) > 1 and worst != "PASS" else ""
        sentence = f"all {len(mine)} hold" if worst == "PASS" and len(mine) > 1 else said[0] + more
        found.append(FamilyResult(family=family, status=worst, sentence=sentence))
    return found


def keeps_contract(answers: Sequence[ContractAnswer]) -> Check:
    """Return what an encoder's contract adds to its verdict: the worst answer, with every one that is as bad."""
    worst: Status = _worst([answer.status for answer in answers])
    found = [answer for answer in answers if answer.status == worst]
    said = "; ".join(answer.sentence + (f" ({answer.fix})" if answer.fix else "") for answer in found)
    if worst in ("PASS", "UNDEFINED"):  # what cannot be seen from outside is no fault of the encoder
        asked = ", ".join(answer.name for answer in answers if answer.status == "PASS")
        worst = "PASS" if asked else "UNDEFINED"
        said = f"run on a few tiles, it keeps: {asked}" if asked else said
    return Check(name="contract", family="contract", status=worst, sentence=said)


def overall(checks: Sequence[Check]) -> Status:
    """Return the worst status; a question without an answer is a WARN for the whole."""
    worst = _worst([check.status for check in checks])
    return "WARN" if worst == "UNDEFINED" else worst


def _worst(statuses: Sequence[Status]) -> Status:
    return ORDER[max(map(ORDER.index, statuses))]


def _null(null: NullResult) -> Check:
    if null.defined:
        sentence = f"unrelated tiles are {null.median:.3g} apart (median cosine distance)"
        return Check(name="unrelated tiles differ", family="yardstick", status="PASS", sentence=sentence)
    return Check(
        name="unrelated tiles differ",
        family="yardstick",
        status="FAIL",
        sentence="every tile has practically the same embedding, so nothing can be told apart: "
        "that it does not move is worth nothing",
    )


def _ignores(policy: Policy, operation: OperationResult, encoder: EncoderResult) -> Check:
    severity = operation.at(policy.severity).severity
    figure = _dose(encoder, operation.name, severity, "auroc_null")
    moved = _dose(encoder, operation.name, severity, "displacement").value or 0.0
    band = policy.band(operation.name, operation.family)
    status: Status = _in_band(figure, band)
    words = {
        "PASS": "stays closer than unrelated tiles",
        "WARN": "is ignored only in part" if _below(figure, band) else "is not surely ignored",
        "FAIL": "often moves tiles as far as unrelated tiles lie apart",
        "UNDEFINED": _open(figure),
    }
    control = ""
    if operation.control in {dose.operation for dose in encoder.doses}:
        alone = _dose(encoder, operation.control, severity, "displacement").value or 0.0
        control = f" ({alone:.2f} by its control alone)"
    return Check(
        name=f"ignores {operation.name}",
        family=operation.family,
        status=status,
        sentence=f"{operation.name} ({operation.caption(severity)}) {words[status]}: "
        f"displacement {moved:.2f}{control}, P(below unrelated) {_shown(figure, band)}",
        figure=figure,
        threshold=f"PASS if the lower bound is at least {band.pass_at:g}, "
        f"FAIL if the upper is below {band.fail_below:g}",
    )


def _below(figure: Figure, band: Band) -> bool:
    """Return whether the whole interval lies below what PASS asks for."""
    return figure.high is not None and figure.high < band.pass_at


def _shown(figure: Figure, band: Band) -> str:
    return show(figure, _digits(figure, band.pass_at, band.fail_below))


def _digits(figure: Figure, *limits: float) -> int:
    """Return two digits, or as many as it takes to show no bound as a threshold that it misses, at most five."""
    bounds = [bound for bound in (figure.low, figure.high) if bound is not None]
    return next(
        (
            digits
            for digits in range(2, 5)
            if not any(round(bound, digits) == limit != bound for bound in bounds for limit in limits)
        ),
        5,
    )


def _unasked(policy: Policy, ignored: Sequence[OperationResult]) -> list[Check]:
    """Return a question without an answer for each family and operation that the policy names and nobody applied."""
    names, families = ({getattr(item, part) for item in ignored} for part in ("name", "family"))
    asked = [(name, OPERATIONS[name].family) for name in policy.operations if name not in names]
    asked += [(f"{family} changes", family) for family in policy.families if family not in families]
    return [
        Check(
            name=f"ignores {what}",
            family=family,
            status="UNDEFINED",
            sentence=f"the policy asks about {what}, and none was among the operations of this audit",
        )
        for what, family in asked
    ]


def _reacts(policy: Policy, chosen: SelectivityResult) -> Check:
    band, figure = policy.react_each, chosen.share
    status = _in_band(figure, band, strictly=True)
    if chosen.ratio.high is not None and chosen.ratio.high < band.fail_below:
        status = "FAIL"  # it ties with nuisances that do not move tiles either
    words = {
        "PASS": "moves tiles further than most nuisances do",
        "WARN": "moves tiles less far than most nuisances do"
        if _below(figure, band)
        else "does not surely move tiles further than most nuisances do",
        "FAIL": "hardly moves tiles: what it destroys is not in the embedding",
        "UNDEFINED": _open(figure),
    }
    return Check(
        name=f"reacts to {chosen.operation}",
        family="must-react",
        status=status,
        sentence=f"{chosen.operation} {words[status]}: P(further than one of them) {_shown(figure, band)}, "
        f"ties half, and on average {show(chosen.ratio, _digits(chosen.ratio, band.fail_below))} times as far",
        figure=figure,
        threshold=f"PASS if the lower bound is above {band.pass_at:g}, FAIL if the upper bound, or that of the "
        f"ratio of displacements, is below {band.fail_below:g}",
    )


def _selects(policy: Policy, selectivity: Figure | None) -> Check:
    name, family = "selectivity", "must-react"
    if selectivity is None or selectivity.value is None:
        said = "the suite has no must-react operation beside a must-ignore one"
        return Check(name=name, family=family, status="UNDEFINED", sentence=said)
    band = policy.react
    status = _in_band(selectivity, band, strictly=True)
    words = {
        "PASS": "destroying biology moves tiles further than nuisances do",
        "WARN": "destroying biology moves tiles about as far as nuisances do",
        "FAIL": "nuisances move tiles further than destroying biology does",
        "UNDEFINED": f"selectivity {_open(selectivity)}",
    }
    return Check(
        name=name,
        family=family,
        status=status,
        sentence=f"{words[status]}: selectivity {_shown(selectivity, band)} "
        f"(must-react at severity {policy.must_react_severity}, nuisances at {policy.severity})",
        figure=selectivity,
        threshold=f"PASS if the lower bound is above {band.pass_at:g}, FAIL if the upper is below {band.fail_below:g}",
    )


def _selects_each(policy: Policy, found: Sequence[FamilySelectivity]) -> Iterator[Check]:
    """Judge against each family of nuisances what moves tiles least of all that destroys biology.

    Over all nuisances, many that hardly move a tile would hide a few that do. Artefacts are not asked about: they cover
    tissue, and an encoder that sees it go is right.
    """
    band = policy.react
    for family in dict.fromkeys(item.family for item in found if item.family != "artefact"):
        weakest = min((item for item in found if item.family == family), key=lambda item: item.share.value or 0.0)
        status = _in_band(weakest.share, band, strictly=True)
        words = {
            "PASS": f"moves tiles further than {family} changes do",
            "WARN": f"moves tiles about as far as {family} changes do",
            "FAIL": f"moves tiles less far than {family} changes do",
            "UNDEFINED": f"{_open(weakest.share)} against {family} changes",
        }
        yield Check(
            name=f"selectivity against {family}",
            family="must-react",
            status=status,
            sentence=f"{weakest.operation} {words[status]}: P(further than one of them) "
            f"{_shown(weakest.share, band)}, ties half",
            figure=weakest.share,
            threshold=f"the least of what destroys biology: PASS if the lower bound is above {band.pass_at:g}, FAIL if "
            f"the upper is below {band.fail_below:g}",
        )


def _meets(requirement: Requirement, encoder: EncoderResult) -> Iterator[Check]:
    """Answer a requirement by the figure that meets it least, and say where there is no such figure.

    The two are questions apart: a policy may let a WARN through and refuse what is not known, or the other way round.
    """
    metric, wanted = METRICS[requirement.figure], requirement.key
    name = f"requires {requirement.describe()} {requirement.side}"
    if not encoder.null.defined:
        said = f"{requirement.describe()} says nothing of an encoder whose unrelated tiles lie together"
        yield Check(name=name, family="required", status="UNDEFINED", sentence=said)
        return
    everything = list(encoder.figures())
    of_name = [(key, figure) for key, figure in everything if key["metric"] == requirement.figure]
    found = [(key, figure) for key, figure in of_name if all(key[part] == value for part, value in wanted.items())]
    why = f" (asked: {requirement.why})" if requirement.why else ""
    if not found:
        said = f"{requirement.describe()} was not measured{_others(of_name, requirement)}{why}"
        yield Check(name=name, family="required", status="UNDEFINED", sentence=said)
        return
    bounded = any(figure.low is not None for _, figure in everything)
    limit, worst = _limits(requirement)
    least = requirement.at_least is not None
    sides = ("lower", "upper", "below") if least else ("upper", "lower", "above")
    threshold = f"PASS if the {sides[0]} bound is {requirement.side}, FAIL if the {sides[1]} is {sides[2]} {worst:g}"

    def badness(item: tuple[dict[str, str | int | None], Figure]) -> tuple[int, float]:
        low, high = _bounds(item[1])
        return ORDER.index(_on_side(item[1], requirement)), -low if least else high

    def where(key: dict[str, str | int | None]) -> str:
        return ", ".join(f"{part} {value}" for part, value in key.items() if value is not None and part not in wanted)

    known = [item for item in found if item[1].value is not None]
    unknown = [where(key) for key, figure in found if figure.value is None]
    if known:
        key, figure = max(known, key=badness)
        at = f", {where(key)}" if where(key) else ""
        said = f"{metric.title}{at}: {show(figure, _digits(figure, limit, worst))}"
        yield Check(
            name=name,
            family="required",
            status=_on_side(figure, requirement) if bounded else "UNDEFINED",
            sentence=f"{said}{'' if bounded else f'; {_open(figure)}'}{why}",
            figure=figure,
            threshold=threshold,
        )
    if unknown:
        at = f" at {'; '.join(unknown)}" if any(unknown) else ""
        yield Check(
            name=f"{name}, everywhere" if known else name,
            family="required",
            status="UNDEFINED",
            sentence=f"{metric.title}: not defined{at}{why}",
            figure=found[0][1] if not known else None,
            threshold=threshold,
        )


def _limits(requirement: Requirement) -> tuple[float, float]:
    """Return where PASS begins and where FAIL does."""
    if requirement.at_least is not None:
        low = requirement.at_least
        return low, low if requirement.fail_below is None else requirement.fail_below
    assert requirement.at_most is not None  # one of the two is given
    high = requirement.at_most
    return high, high if requirement.fail_above is None else requirement.fail_above


def _others(found: Sequence[tuple[dict[str, str | int | None], Figure]], requirement: Requirement) -> str:
    """Return what figures of that name there are, where those that were asked for are not."""
    for part, value in requirement.key.items():
        there = list(dict.fromkeys(str(key[part]) for key, _ in found if part != "metric" and key[part] is not None))
        if there and str(value) not in there:
            return f": there is {part} {', '.join(there)}"
    return ""


def _on_side(figure: Figure, requirement: Requirement) -> Status:
    if figure.value is None:
        return "UNDEFINED"
    low, high = _bounds(figure)
    limit, worst = _limits(requirement)
    if requirement.at_least is not None:
        return "PASS" if low >= limit else "FAIL" if high < worst else "WARN"
    return "PASS" if high <= limit else "FAIL" if low > worst else "WARN"


def _in_band(figure: Figure, band: Band, *, strictly: bool = False) -> Status:
    if figure.low is None or figure.high is None:
        return "UNDEFINED"
    passes = figure.low > band.pass_at if strictly else figure.low >= band.pass_at
    return "PASS" if passes else "FAIL" if figure.high < band.fail_below else "WARN"


def _open(figure: Figure) -> str:
    """Return why a question about a figure has no answer."""
    return "was not measured" if figure.value is None else f"cannot be judged, {NO_INTERVAL}"


def _signal(probe: ProbeResult) -> Check:
    if probe.reason:
        return _unread(probe)
    assert probe.chance is not None  # a probe without a reason has been scored
    low, high = probe.balanced_accuracy.low, probe.balanced_accuracy.high
    if low is None or high is None:
        said = f"{probe.title} {_open(probe.balanced_accuracy)}"
        return Check(name=f"keeps {probe.target}", family="signal", status="UNDEFINED", sentence=said)
    above = (probe.balanced_accuracy.value or 0.0) > (probe.chance_band or (0.0, probe.chance))[1]
    passes = low > probe.chance and above
    status: Status = "PASS" if passes else "FAIL" if high <= probe.chance + 0.02 else "WARN"
    words = {"PASS": "can be read", "WARN": "can hardly be told from chance", "FAIL": "cannot be read"}
    return Check(
        name=f"keeps {probe.target}",
        family="signal",
        status=status,
        sentence=f"{probe.title} {words[status]}: balanced accuracy {show(probe.balanced_accuracy)}, "
        f"chance {probe.chance:.2f}{_band(probe)}",
        figure=probe.balanced_accuracy,
        threshold="PASS if the lower bound is above chance and the value above what dealt labels give; FAIL if the "
        "upper bound is at most 0.02 above chance",
    )


def _band(probe: ProbeResult) -> str:
    return "" if probe.chance_band is None else f" (up to {probe.chance_band[1]:.2f} with labels dealt anew)"


def _unread(probe: ProbeResult) -> Check:
    verb = "keeps" if probe.kind == "signal" else "leaks"
    return Check(
        name=f"{verb} {probe.target}",
        family=probe.kind,
        status="UNDEFINED",
        sentence=f"{probe.title} was not probed: {probe.reason}",
    )


def _leaks(leak: Figure | None, probes: Sequence[ProbeResult]) -> Check:
    name = "leaks less than it keeps"
    leakage = [probe for probe in probes if probe.kind == "leakage" and not probe.reason]
    if not leakage:
        said = "no site, scanner or stain could be probed: what leaks is not known"
        return Check(name=name, family="leakage", status="UNDEFINED", sentence=said)
    worst = max(leakage, key=lambda probe: probe.skill.value or 0.0)
    if leak is None:
        return Check(
            name=name,
            family="leakage",
            status="UNDEFINED",
            sentence=f"{worst.title} is read with balanced accuracy {show(worst.balanced_accuracy)} (chance "
            f"{worst.chance:.2f}), and there is no readable label to weigh it against",
        )
    signal = next(probe for probe in probes if probe.kind == "signal" and not probe.reason)
    low, high = leak.low, leak.high
    if low is None or high is None:
        said = f"what leaks beside what is kept {_open(leak)}"
        return Check(name=name, family="leakage", status="UNDEFINED", sentence=said, figure=leak)
    status: Status = "PASS" if high < 0 else "WARN"
    words = "more" if low > 0 else "less" if high < 0 else "about as"
    comparison = f"{words} readable than" if words != "about as" else "about as readable as"
    return Check(
        name=name,
        family="leakage",
        status=status,
        sentence=f"{worst.title} is {comparison} {signal.title}: balanced accuracy {show(worst.balanced_accuracy)} "
        f"(chance {worst.chance:.2f}) against {show(signal.balanced_accuracy)} (chance {signal.chance:.2f})",
        figure=leak,
        threshold="WARN unless the difference in skill is below 0",
    )


def _dose(encoder: EncoderResult, operation: str, severity: int, metric: str) -> Figure:
    return next(d.metrics[metric] for d in encoder.doses if d.operation == operation and d.severity == severity)


def _bounds(figure: Figure) -> tuple[float, float]:
    """Return the interval, or the value twice where there is none."""
    value = figure.value if figure.value is not None else 0.0
    return (value if figure.low is None else figure.low, value if figure.high is None else figure.high)
