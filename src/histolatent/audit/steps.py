"""What to do next after an audit, each step from the figures that call for it."""

from collections.abc import Iterator, Sequence

from .comparison import why_undecidable
from .result import (
    AuditResult,
    Check,
    EncoderResult,
    EquivarianceResult,
    Figure,
    OperationResult,
    Response,
    TransferResult,
    show,
)
from .words import listed, threshold_words, weight

#: What is not settled, and moves a tile less of the way to an unrelated one, is not worth a step of its own.
WORTH_MENDING = 0.1
#: How the questions begin that are about one operation that destroys biology.
REACTS = "reacts to "
TURNS = frozenset({"rotation", "quarter-turn", "flip"})
CORRECTABLE = {"shared direction": ("shift",), "linear": ("low_rank", "ridge")}


def next_steps(
    result: AuditResult, encoders: Sequence[EncoderResult], ahead: Sequence[EncoderResult]
) -> Iterator[str | None]:
    """Yield what to do next, the most urgent first. `encoders` are chosen among, and `ahead` are those in front."""
    yield from (_contract(encoder) for encoder in encoders)
    yield _one_group(result)
    yield from _blind(ahead)
    yield _unseen(result, ahead)
    yield _mixed_sites(result, ahead)
    yield _undecided(result, encoders)
    yield _no_label(result)
    yield _no_site(result)
    yield from _remedies(result, ahead)


def _contract(encoder: EncoderResult) -> str | None:
    failed = next((item for item in encoder.contract if item.status == "FAIL"), None)
    if failed is None:
        return None
    return f"Mend {encoder.name} first, all else depends on it: {failed.sentence}" + (
        f" ({failed.fix})." if failed.fix else "."
    )


def _one_group(result: AuditResult) -> str | None:
    """Return what to do where everything is of one patient or slide, so that nothing has an interval."""
    if result.clusters["count"] != 1:
        return None
    by = result.clusters["by"]
    return f"Audit tiles of several {by}s: of one there is no interval, and without intervals no PASS and no FAIL."


def _blind(encoders: Sequence[EncoderResult]) -> Iterator[str]:
    """Yield what each encoder is not to be used for, those that fail in the same first of all together."""
    gravest: dict[str, list[tuple[Check, EncoderResult]]] = {}
    for encoder in encoders:
        failed = [check for check in encoder.checks if check.family == "must-react" and check.status == "FAIL"]
        if failed:
            check = min(failed, key=lambda check: (not check.name.startswith(REACTS), _value(check.figure)))
            gravest.setdefault(check.name, []).append((check, encoder))
    for name, found in gravest.items():
        check, encoder = min(found, key=lambda pair: _value(pair[0].figure))
        others = [other.name for _, other in found if other is not encoder]
        also = f" (and {listed(others)})" if others else ""
        where = "biology should count for more than how a tile was made"
        if name.startswith(REACTS):
            where = f"what {name.removeprefix(REACTS)} destroys matters"
        yield f"Do not use {encoder.name}{also} where {where}: {check.sentence}."


def _unseen(result: AuditResult, encoders: Sequence[EncoderResult]) -> str | None:
    lost = [
        (left.gap.value or 0.0, encoder.name, left)
        for encoder in encoders
        for left in encoder.transfer
        if left.gap.high is not None and left.gap.high < 0 and _read(encoder, left)
    ]
    if not lost:
        return None
    _, name, left = min(lost, key=lambda item: item[0])
    others = [other for other in dict.fromkeys(item[1] for item in lost) if other != name]
    also = f" (nor {listed(others)})" if others else ""
    return (
        f"Do not deploy {name}{also} at an unseen {result.title(left.column)} without a check on its own tiles: "
        f"{_cost(result, left)}."
    )


def _read(encoder: EncoderResult, left: TransferResult) -> bool:
    """Return whether the label is read at a site by a probe that has seen it: what is not read cannot be lost."""
    chance = None if encoder.signal is None else encoder.signal.chance
    return chance is not None and left.seen.low is not None and left.seen.low > chance


def _cost(result: AuditResult, left: TransferResult) -> str:
    return (
        f"with {left.left_out} left out, {result.title('label')} is read there at {show(left.unseen)} and not at "
        f"{show(left.seen)}, a gap of {show(left.gap)}"
    )


def _mixed_sites(result: AuditResult, encoders: Sequence[EncoderResult]) -> str | None:
    leaking = [
        (encoder.leak.value or 0.0, encoder)
        for encoder in encoders
        if encoder.leak is not None and encoder.leak.low is not None and encoder.leak.low > 0
    ]
    if not leaking:
        return None
    _, encoder = max(leaking, key=lambda pair: pair[0])
    worst = encoder.worst_leak
    assert worst is not None  # a leak is of a probe
    return (
        f"Leave whole {worst.title}s out when you score a model on {encoder.name}: it shows {worst.title} more than "
        f"{result.title('label')}, by {show(encoder.leak)} of the way from chance to perfect."
    )


def _remedies(result: AuditResult, encoders: Sequence[EncoderResult]) -> list[str]:
    """Return one step for each family of nuisances that may move an encoder too far, what fails before what may."""
    operations = {operation.name: operation for operation in result.operations}
    found: dict[str, list[tuple[Check, EncoderResult]]] = {}
    for encoder in encoders:
        for check in encoder.checks:
            if check.name.startswith("ignores ") and check.status in ("FAIL", "WARN"):
                found.setdefault(check.family, []).append((check, encoder))
    severity = int(result.plan["policy"]["severity"])
    steps = []
    for items in found.values():
        large = [
            (check, encoder)
            for check, encoder in items
            if check.status == "FAIL" or _moved(encoder, operations[_of(check)], severity) >= WORTH_MENDING
        ]
        if not large:
            continue
        check, encoder = min(large, key=lambda pair: _value(pair[0].figure))
        others = [other.name for same, other in large if same.name == check.name and other is not encoder]
        operation = operations[_of(check)]
        at = operation.at(severity).severity
        steps.append((check.status, weight(check.family), _remedy(operation, at, encoder, others)))
    return [said for _, _, said in sorted(steps)]


def _of(check: Check) -> str:
    return check.name.removeprefix("ignores ")


def _moved(encoder: EncoderResult, operation: OperationResult, severity: int) -> float:
    """Return the displacement where an operation is judged."""
    place = (operation.name, operation.at(severity).severity)
    return next(_value(d.metrics["displacement"]) for d in encoder.doses if (d.operation, d.severity) == place)


def _remedy(operation: OperationResult, severity: int, encoder: EncoderResult, others: Sequence[str]) -> str:
    names = listed([encoder.name, *others])
    move = next(
        dose.metrics["displacement"]
        for dose in encoder.doses
        if (dose.operation, dose.severity) == (operation.name, severity)
    )
    do = {
        "stain": f"Normalise stain before {names}, or fine-tune with stain augmentation",
        "photometric": f"Bring light and colour to one standard before {names}, or fine-tune with {operation.name}",
        "acquisition": f"Sort out what {operation.name} spoils before {names}, or fine-tune with {operation.name}",
        "geometric": f"Fine-tune {names} with {operation.name}"
        + (", or average embeddings over turns and mirrors" if operation.name in TURNS else ""),
        "artefact": f"Sort out tiles with artefacts such as {operation.name} before {names}",
    }.get(operation.family, f"Do not mix both sides of {operation.name} in one index of {names}")
    reached = _reaches(operation, encoder.responses) if operation.family == "acquisition" else ""
    whose = encoder.name if others else "it"
    return (
        f"{do}: {operation.name} ({operation.caption(severity)}) moves {whose} {show(move)} of the way to an "
        f"unrelated tile{reached}{_correctable(operation.name, encoder.equivariance)}."
    )


def _reaches(operation: OperationResult, responses: Sequence[Response]) -> str:
    """Return where the displacement reaches the level of the plan, in units of the operation; empty where nowhere."""
    response = next((item for item in responses if item.operation == operation.name), None)
    if response is None or response.crossing.severity is None:
        return ""
    return f"; it {threshold_words(operation, response)}"


def _correctable(operation: str, found: Sequence[EquivarianceResult]) -> str:
    item = next((item for item in found if item.operation == operation and item.verdict in CORRECTABLE), None)
    if item is None:
        return ""
    fitted = [item.maps[name].explained for name in CORRECTABLE[item.verdict] if name in item.maps]
    explained = max(fitted, key=_value, default=None)
    words = "one shift" if item.verdict == "shared direction" else "a linear map"
    return f"; {words} foretells {show(explained)} of that: where its severity is known, it could be taken out"


def _undecided(result: AuditResult, encoders: Sequence[EncoderResult]) -> str | None:
    between = result.between([encoder.name for encoder in encoders])
    if not between or any(item.better is not None for item in between):
        return None
    count, by = result.clusters["count"], result.clusters["by"]
    barred = why_undecidable(between, count, result.plan["resamples"])
    if barred is not None:
        return f"Give the comparisons a chance: {barred}."
    return f"Audit tiles of more {by}s before you choose: {count} do not decide any difference."


def _no_label(result: AuditResult) -> str | None:
    without = "without one that a probe can read, it is not known what an encoder keeps"
    return _unprobed(result, "signal", "label", "what an encoder keeps", f"Give a label (--label): {without}")


def _no_site(result: AuditResult) -> str | None:
    without = "without one it is not known what an unseen one would cost"
    return _unprobed(result, "leakage", "site", "what leaks", f"Give a site or a scanner (--site): {without}")


def _unprobed(result: AuditResult, kind: str, what: str, unknown: str, otherwise: str) -> str | None:
    """Return what would make a target of a kind readable where none could be probed; `otherwise` where none was given.

    None where one was read.
    """
    probes = [probe for encoder in result.encoders for probe in encoder.probes if probe.kind == kind]
    if any(not probe.reason for probe in probes):
        return None
    if not probes:
        return f"{otherwise}."
    unread = f"{probes[0].title} could not be probed ({probes[0].reason})"
    return f"{_what_helps(unread, what)}: {unread}, so it is not known {unknown}."


def _what_helps(unread: str, what: str) -> str:
    """Return what would make a target readable, from the reason why it is not."""
    if "it has one value" in unread or "it has no values" in unread:
        return f"Give tiles of more than one {what}"
    if "divides the tiles as" in unread:
        return "Give tiles of each label from several sites"
    return "Add tiles of more patients" + (" at each site" if what == "site" else "")


def _value(figure: Figure | None) -> float:
    return figure.value if figure is not None and figure.value is not None else 0.0
