"""The most important things that an audit found, in plain words, each from a figure of the result."""

from .result import AuditResult, EncoderResult, Figure

KEPT = 5


def find(result: AuditResult) -> list[str]:
    """Return up to five sentences, most important first."""
    encoders = [encoder for encoder in result.encoders if not encoder.baseline] or result.encoders
    candidates = [
        _verdicts(result.encoders),
        *[_failed_null(encoder) for encoder in result.encoders],
        _largest_move(result, encoders),
        _leak(encoders),
        _selectivity(encoders),
        _not_invariant(result, encoders),
        _colour(result.encoders),
    ]
    return [sentence for sentence in candidates if sentence][:KEPT]


def _verdicts(encoders: list[EncoderResult]) -> str:
    groups: dict[str, list[str]] = {}
    for encoder in encoders:
        groups.setdefault(encoder.verdict, []).append(encoder.name)
    said = "; ".join(
        f"{verdict}: {', '.join(groups[verdict])}" for verdict in ("PASS", "WARN", "FAIL") if verdict in groups
    )
    best = " No encoder passes every check." if "PASS" not in groups else ""
    return f"Verdicts: {said}.{best}"


def _failed_null(encoder: EncoderResult) -> str | None:
    failed = next((check for check in encoder.checks if check.name == "null" and check.status == "FAIL"), None)
    return None if failed is None else f"{encoder.name}: {failed.sentence}."


def _largest_move(result: AuditResult, encoders: list[EncoderResult]) -> str | None:
    severity = result.plan["policy"]["severity"]
    ignored = {operation.name for operation in result.operations if operation.role == "must-ignore"}
    moves = [
        (dose.metrics["displacement"].value, encoder, dose)
        for encoder in encoders
        for dose in encoder.doses
        if dose.severity == severity and dose.operation in ignored and dose.metrics["displacement"].value is not None
    ]
    if not moves:
        return None
    value, encoder, dose = max(moves, key=lambda move: move[0] or 0.0)
    return (
        f"The nuisance that moves an encoder most is {dose.operation} on {encoder.name}: at severity {severity} a tile "
        f"moves {value:.2f} of the distance to an unrelated tile {_interval(dose.metrics['displacement'])}."
    )


def _leak(encoders: list[EncoderResult]) -> str | None:
    compared = [
        (check.figure.value or 0.0, encoder.name, check.sentence)
        for encoder in encoders
        for check in encoder.checks
        if check.name == "leaks less than it keeps" and check.figure is not None
    ]
    if not compared:
        return None
    _, name, sentence = max(compared, key=lambda item: item[0])
    return f"{name}: {sentence}."


def _selectivity(encoders: list[EncoderResult]) -> str | None:
    known = [
        encoder for encoder in encoders if encoder.selectivity is not None and encoder.selectivity.value is not None
    ]
    if not known:
        return None
    best = max(known, key=lambda encoder: _value(encoder.selectivity))
    return (
        f"Most selective is {best.name}: destroying biology moves it more than a nuisance does in "
        f"{_value(best.selectivity):.0%} of the comparisons (chance 50%)."
    )


def _not_invariant(result: AuditResult, encoders: list[EncoderResult]) -> str | None:
    ignored = [operation.name for operation in result.operations if operation.role == "must-ignore"]
    for encoder in encoders:
        first = [d.metrics["displacement"] for d in encoder.doses if d.severity == 1 and d.operation in ignored]
        if first and all((figure.low or 0) > 0 for figure in first):
            return (
                f"{encoder.name} is invariant to none of the {len(first)} nuisances: even the mildest moves it by more "
                "than zero, so augmentation still has something to teach."
            )
    return None


def _colour(encoders: list[EncoderResult]) -> str | None:
    colour = next((encoder for encoder in encoders if encoder.name == "toy:colour-histogram"), None)
    if colour is None:
        return None
    probe = next((p for p in colour.probes if p.kind == "signal" and p.reason is None), None)
    if probe is None:
        return None
    return (
        f"Colour alone reads the {probe.title} at {_value(probe.balanced_accuracy):.2f} balanced accuracy (chance "
        f"{probe.chance or 0:.2f}): what an encoder reads beyond that is morphology."
    )


def _value(figure: Figure | None) -> float:
    return figure.value if figure is not None and figure.value is not None else 0.0


def _interval(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"[{figure.low:.2f}, {figure.high:.2f}]"
