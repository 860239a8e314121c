"""What an audit found, in plain words: which encoder, why, and what to do next; each sentence from its figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .result import (
    AuditResult,
    Check,
    Comparison,
    EncoderResult,
    EquivarianceResult,
    Figure,
    OperationResult,
    ProbeResult,
    Response,
    TransferResult,
)

KEPT_REASONS, KEPT_STEPS, MOST_NAMES = 7, 5, 4
#: Encoders whose failures are told; the answers of all stand beside.
TOLD = 3
#: What is told first of an encoder that fails in several families; those that are not named come last.
WEIGHT = ("contract", "yardstick", "must-react", "signal", "required", "stain", "acquisition", "photometric")
TURNS = frozenset({"rotation", "quarter-turn", "flip"})
CORRECTABLE = {"shared direction": ("shift",), "linear": ("low_rank", "ridge")}


@dataclass(frozen=True)
class Answer:
    """The opening words of a report: `which` encoder, `why`, and what to do `next`."""

    which: list[str]
    why: list[str]
    next: list[str]


def find(result: AuditResult) -> list[str]:
    """Return all opening words in one list, most important first."""
    found = answer(result)
    return [*found.which, *found.why, *found.next]


def answer(result: AuditResult) -> Answer:
    """Say which encoder to take and why, and what to do next.

    Of two encoders one is called better only where a paired comparison decides it. An encoder is put before others by
    its verdict, which rests on bounds of intervals. One that gives all tiles the same vector is not compared: it would
    be the one that moves least and leaks least.
    """
    encoders = candidates(result)
    telling = [encoder for encoder in encoders if encoder.null.defined] or encoders
    ahead = leading(telling)
    why = [
        *[_failed_null(encoder) for encoder in result.encoders],
        *_questions(result, telling),
        _colour(result, ahead),
        *[_failures(encoder) for encoder in (ahead if len(telling) > TOLD - 1 else telling)[:TOLD]],
        _leak(ahead),
    ]
    steps = [
        *[_contract(encoder) for encoder in encoders],
        _blind(result, ahead),
        _unseen(result, ahead),
        _mixed_sites(result, ahead),
        _undecided(result, telling),
        _no_label(result),
        _no_site(result),
        *_remedies(result, ahead),
    ]
    which = _first([_verdicts(result.encoders), _choice(result, telling, ahead)], 2)
    return Answer(which, _first(why, KEPT_REASONS), _first(steps, KEPT_STEPS))


def candidates(result: AuditResult) -> list[EncoderResult]:
    """Return the encoders that one chooses among: all but the baselines, or those where there is nothing else."""
    return [encoder for encoder in result.encoders if not encoder.baseline] or list(result.encoders)


def leading(encoders: Sequence[EncoderResult]) -> list[EncoderResult]:
    """Return the encoders of the best verdict."""
    for verdict in ("PASS", "WARN"):
        found = [encoder for encoder in encoders if encoder.verdict == verdict]
        if found:
            return found
    return list(encoders)


def _first(sentences: Iterable[str | None], most: int) -> list[str]:
    return [sentence for sentence in dict.fromkeys(sentences) if sentence][:most]


def _verdicts(encoders: list[EncoderResult]) -> str:
    groups: dict[str, list[str]] = {}
    for encoder in encoders:
        groups.setdefault(encoder.verdict, []).append(encoder.name)
    said = "; ".join(
        f"{verdict}: {', '.join(groups[verdict])}" for verdict in ("PASS", "WARN", "FAIL") if verdict in groups
    )
    return f"Verdicts: {said}." + (" No encoder passes every check." if "PASS" not in groups else "")


def _choice(result: AuditResult, encoders: Sequence[EncoderResult], ahead: Sequence[EncoderResult]) -> str | None:
    """Say whether one encoder is to be taken before the others."""
    words = {"PASS": "passes every check", "WARN": "fails no check", "FAIL": "fails at least one check"}[
        ahead[0].verdict if ahead[0].verdict in ("PASS", "WARN") else "FAIL"
    ]
    if len(encoders) == 1:
        return None
    if len(ahead) == 1:
        return f"{ahead[0].name} is the only encoder that {words}."
    opening = f"Every encoder {words}. " if len(ahead) == len(encoders) else ""
    names = [encoder.name for encoder in ahead]
    between = _between(result, names)
    decided = [item for item in between if item.better is not None]
    if not between:
        return f"{opening}They could not be compared."
    if not decided:
        return (
            f"{opening}No difference between {_listed(names)} is decided on these tiles ({len(between)} paired "
            "comparisons): these figures do not choose one."
        )
    best = next((name for name in names if _better_throughout(name, names, decided)), None)
    if best is not None:
        mine = sum(item.better == best for item in decided)
        rest = _listed([name for name in names if name != best])
        total = sum(best in (item.first, item.second) for item in between)
        return (
            f"{opening}{best} is better than {rest} in {mine} of {total} paired comparisons and worse in none; the "
            "others are not decided."
        )
    none = f"Neither {names[0]} nor {names[1]}" if len(names) == 2 else f"None of {_listed(names)}"
    return f"{opening}{none} is better throughout: which to take depends on what you need."


def _better_throughout(name: str, names: Sequence[str], decided: Sequence[Comparison]) -> bool:
    """Return whether an encoder is better than each other in something, and worse than none in anything."""
    mine = [item for item in decided if name in (item.first, item.second)]
    beaten = {item.second if item.first == name else item.first for item in mine if item.better == name}
    return all(item.better == name for item in mine) and beaten == set(names) - {name}


def _between(result: AuditResult, names: Sequence[str]) -> list[Comparison]:
    return [item for item in result.comparisons if item.first in names and item.second in names]


def _questions(result: AuditResult, encoders: Sequence[EncoderResult]) -> list[str]:
    """Say who is better at what, by paired comparisons alone."""
    names = [encoder.name for encoder in encoders]
    between = _between(result, names)
    title = _title(result, "label")
    leak = next(iter(_leaks_compared(result)), None)
    said = [
        _who(_of(between, "balanced_accuracy", "label"), names, f"reads {title} better", f"reads {title} best"),
        _who(
            _of(between, "selectivity"), names, "tells biology from nuisance better", "tells biology from nuisance best"
        ),
        leak
        and _who(
            _of(between, "balanced_accuracy", leak),
            names,
            *(f"shows {_title(result, leak)} l{end}" for end in ("ess", "east")),
            less=True,
        ),
        _least_moved(between, names),
    ]
    return [f"{sentence}." for sentence in said if sentence]


def _of(items: Sequence[Comparison], metric: str, column: str | None = None) -> list[Comparison]:
    return [item for item in items if (item.metric, item.column) == (metric, column) and item.operation is None]


def _who(items: Sequence[Comparison], names: Sequence[str], words: str, most: str, *, less: bool = False) -> str | None:
    """Say which encoder is better than all others, else the clearest pair, else that nothing is decided."""
    if not items:
        return None
    decided = [item for item in items if item.better is not None]
    if not decided:
        return f"Which encoder {words if len(names) == 2 else most} is not decided"
    for name in names:
        mine = [item for item in items if name in (item.first, item.second)]
        if len(mine) == len(names) - 1 and all(item.better == name for item in mine):
            nearest = min(mine, key=lambda item: abs(item.difference.value or 0))
            ahead = _gap(nearest, less=less)
            return (
                f"{name} {most}: ahead of {_loser(nearest)}, the next, by {ahead}"
                if len(mine) > 1
                else (f"{name} {words} than {_loser(nearest)}, by {ahead}")
            )
    clearest = max(decided, key=lambda item: abs(item.difference.value or 0))
    return f"{clearest.better} {words} than {_loser(clearest)}, by {_gap(clearest, less=less)}" + (
        f" ({len(decided)} of {len(items)} pairs are decided)" if len(items) > 1 else ""
    )


def _loser(item: Comparison) -> str:
    return item.second if item.better == item.first else item.first


def _gap(item: Comparison, *, less: bool) -> str:
    """Return how far the better is ahead, as a positive number with its interval."""
    figure = item.difference
    if (item.better == item.first) != less:
        return show(figure)
    value, low, high = (None if part is None else -part for part in (figure.value, figure.high, figure.low))
    return show(Figure(value=value, low=low, high=high))


def _least_moved(between: Sequence[Comparison], names: Sequence[str]) -> str | None:
    moves = [item for item in between if item.metric == "displacement"]
    operations = list(dict.fromkeys(item.operation for item in moves))
    if not operations:
        return None
    least: dict[str, int] = {}
    for operation in operations:
        mine = [item for item in moves if item.operation == operation]
        for name in names:
            his = [item for item in mine if name in (item.first, item.second)]
            if len(his) == len(names) - 1 and all(item.better == name for item in his):
                least[name] = least.get(name, 0) + 1
    if not least:
        return f"Which encoder is moved least is not decided for any of {len(operations)} nuisances"
    said = ", ".join(f"{name} by {count}" for name, count in sorted(least.items(), key=lambda pair: -pair[1]))
    undecided = len(operations) - sum(least.values())
    rest = f" ({undecided} not decided)" if undecided else ""
    return f"Moved least of all by a nuisance, out of {len(operations)}: {said}{rest}"


def _failed_null(encoder: EncoderResult) -> str | None:
    failed = next((check for check in encoder.checks if check.name == "null" and check.status == "FAIL"), None)
    return None if failed is None else f"{encoder.name}: {failed.sentence}."


def _failures(encoder: EncoderResult) -> str | None:
    """Say what an encoder fails in, the gravest in full; where it fails in nothing, what is open."""
    for status, verb in (("FAIL", "fails in"), ("WARN", "is not settled in")):
        found = [family.family for family in encoder.families if family.status == status]
        if "yardstick" in found:
            return None  # nothing else can be said of it, and that is said
        if found:
            found.sort(key=_weight)
            gravest = _gravest(encoder, found[0], status)
            return f"{encoder.name} {verb} {_joined(found)}; first of all, {gravest.sentence}."
    return None


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _weight(family: str) -> int:
    return WEIGHT.index(family) if family in WEIGHT else len(WEIGHT)


def _gravest(encoder: EncoderResult, family: str, status: str) -> Check:
    mine = [check for check in encoder.checks if check.family == family and check.status == status]
    return min(mine, key=lambda check: 1.0 if check.figure is None else check.figure.value or 0.0)


def _leak(encoders: Sequence[EncoderResult]) -> str | None:
    compared = [
        (check.figure.value or 0.0, encoder.name, check.sentence)
        for encoder in encoders
        for check in encoder.checks
        if check.name == "leaks less than it keeps" and check.figure is not None
    ]
    if not compared:
        return None
    _, name, sentence = max(compared)
    return f"{name}: {sentence}."


def _colour(result: AuditResult, encoders: Sequence[EncoderResult]) -> str | None:
    """Say what colour alone reads, and which of the encoders reads more."""
    colour = next((encoder for encoder in result.encoders if encoder.name == "toy:colour-histogram"), None)
    probe = None if colour is None else _signal(colour)
    if colour is None or probe is None:
        return None
    said = (
        f"Colour alone reads {probe.title} at {show(probe.balanced_accuracy)} balanced accuracy (chance "
        f"{probe.chance or 0:.2f})"
    )
    others = {encoder.name for encoder in encoders} - {colour.name}
    against = {
        (item.second if item.first == colour.name else item.first): item
        for item in _of(result.comparisons, "balanced_accuracy", column="label")
        if colour.name in (item.first, item.second) and {item.first, item.second} & others
    }
    more = [name for name, item in against.items() if item.better == name]
    rest = [name for name in against if name not in more]
    parts = [f"{_listed(more)} {'reads' if len(more) == 1 else 'read'} more"] if more else []
    if rest:
        parts.append(f"that {_listed(rest)} {'reads' if len(rest) == 1 else 'read'} more is not shown")
    return f"{said}; {', and '.join(parts)}." if parts else f"{said}: what is read beyond that is morphology."


def _contract(encoder: EncoderResult) -> str | None:
    failed = next((item for item in encoder.contract if item.status == "FAIL"), None)
    if failed is None:
        return None
    return f"Mend {encoder.name} first, all else depends on it: {failed.sentence}" + (
        f" ({failed.fix})." if failed.fix else "."
    )


def _blind(result: AuditResult, encoders: Sequence[EncoderResult]) -> str | None:
    failed = [
        (check, encoder)
        for encoder in encoders
        for check in encoder.checks
        if check.name.startswith("reacts to ") and check.status == "FAIL"
    ]
    if not failed:
        return None
    check, encoder = min(failed, key=lambda pair: _value(pair[0].figure))
    name = check.name.removeprefix("reacts to ")
    others = [other.name for one, other in failed if one.name == check.name and other is not encoder]
    also = f" (and {_listed(others)})" if others else ""
    return f"Do not use {encoder.name}{also} where what {name} destroys matters: {check.sentence}."


def _unseen(result: AuditResult, encoders: Sequence[EncoderResult]) -> str | None:
    lost = [
        (left.gap.value or 0.0, encoder.name, left)
        for encoder in encoders
        for left in encoder.transfer
        if left.gap.high is not None and left.gap.high < 0
    ]
    if not lost:
        return None
    _, name, left = min(lost, key=lambda item: item[0])
    others = [other for other in dict.fromkeys(item[1] for item in lost) if other != name]
    also = f" (nor {_listed(others)})" if others else ""
    return (
        f"Do not deploy {name}{also} at an unseen {_title(result, left.column)} without a check on its own tiles: "
        f"{_cost(result, left)}."
    )


def _cost(result: AuditResult, left: TransferResult) -> str:
    return (
        f"with {left.left_out} left out, {_title(result, 'label')} is read there at {show(left.unseen)} and not at "
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
    worst = worst_leak(encoder)
    assert worst is not None  # a leak is of a probe
    return (
        f"Leave whole {worst.title}s out when you score a model on {encoder.name}: it shows {worst.title} more than "
        f"{_title(result, 'label')}, by {show(encoder.leak)} of the way from chance to perfect."
    )


def _remedies(result: AuditResult, encoders: Sequence[EncoderResult]) -> list[str]:
    """Return one step for each family of nuisances that may move an encoder too far, what fails before what may."""
    operations = {operation.name: operation for operation in result.operations}
    found: dict[str, list[tuple[Check, EncoderResult]]] = {}
    for encoder in encoders:
        for check in encoder.checks:
            if check.name.startswith("ignores ") and check.status in ("FAIL", "WARN"):
                found.setdefault(check.family, []).append((check, encoder))
    worst = [min(items, key=lambda pair: _value(pair[0].figure)) for items in found.values()]
    steps = []
    for check, encoder in sorted(worst, key=lambda pair: (pair[0].status, _weight(pair[0].family))):
        others = dict.fromkeys(other.name for _, other in found[check.family] if other is not encoder)
        operation = operations[check.name.removeprefix("ignores ")]
        severity = operation.at(int(result.plan["policy"]["severity"])).severity
        steps.append(_remedy(operation, severity, encoder, list(others)))
    return steps


def _remedy(operation: OperationResult, severity: int, encoder: EncoderResult, others: Sequence[str]) -> str:
    names = _listed([encoder.name, *others])
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
    reached = reaches(operation, encoder.responses) if operation.family == "acquisition" else ""
    whose = encoder.name if others else "it"
    return (
        f"{do}: {operation.name} ({operation.caption(severity)}) moves {whose} {show(move)} of the way to an "
        f"unrelated tile{reached}{_correctable(operation.name, encoder.equivariance)}."
    )


def reaches(operation: OperationResult, responses: Sequence[Response]) -> str:
    """Return where the displacement reaches the level of the plan, in units of the operation; empty where nowhere."""
    response = next((item for item in responses if item.operation == operation.name), None)
    if response is None or response.crossing.severity is None:
        return ""
    severity = response.crossing.severity
    if severity < 1:
        return f"; {response.level:g} is reached before {operation.caption(1)}"
    return f"; {response.level:g} is reached near {operation.parameter} {level_at(operation, severity):.3g}" + (
        f" {operation.unit}" if operation.unit else ""
    )


def level_at(operation: OperationResult, severity: float) -> float:
    """Return the level at a severity between two steps."""
    steps = [(step.severity, step.level) for step in operation.steps if step.level is not None]
    for (left, low), (right, high) in pairwise(steps):
        if left <= severity <= right:
            return low + (severity - left) / (right - left) * (high - low)
    return steps[-1][1]


def _correctable(operation: str, found: Sequence[EquivarianceResult]) -> str:
    item = next((item for item in found if item.operation == operation and item.verdict in CORRECTABLE), None)
    if item is None:
        return ""
    fitted = [item.maps[name].explained for name in CORRECTABLE[item.verdict] if name in item.maps]
    explained = max(fitted, key=_value, default=None)
    words = "one shift" if item.verdict == "shared direction" else "a linear map"
    return f"; {words} foretells {show(explained)} of that, so it could be taken out of the embedding"


def _undecided(result: AuditResult, encoders: Sequence[EncoderResult]) -> str | None:
    between = _between(result, [encoder.name for encoder in encoders])
    if not between or any(item.better is not None for item in between):
        return None
    count, by = result.clusters["count"], result.clusters["by"]
    return f"Audit tiles of more {by}s before you choose: {count} do not decide any difference."


def _no_label(result: AuditResult) -> str | None:
    if any(_signal(encoder) for encoder in result.encoders):
        return None
    unread = _unread(result, "signal")
    if unread is not None:
        return f"Add tiles of more patients: {unread}, so it is not known what an encoder keeps."
    return "Give a label (--label): without one that a probe can read, it is not known what an encoder keeps."


def _unread(result: AuditResult, kind: str) -> str | None:
    """Return why the first target of a kind could not be probed, None where none was given."""
    probes = [probe for encoder in result.encoders for probe in encoder.probes if probe.kind == kind and probe.reason]
    return f"{probes[0].title} could not be probed ({probes[0].reason})" if probes else None


def _no_site(result: AuditResult) -> str | None:
    if any(worst_leak(encoder) for encoder in result.encoders):
        return None
    unread = _unread(result, "leakage")
    if unread is not None:
        return f"Add tiles of more patients at each site: {unread}, so it is not known what leaks."
    return "Give a site or a scanner (--site): without one it is not known what an unseen one would cost."


def worst_leak(encoder: EncoderResult) -> ProbeResult | None:
    """Return the probe of what leaks most, None where nothing was probed."""
    leaks = [probe for probe in encoder.probes if probe.kind == "leakage" and not probe.reason]
    return max(leaks, key=lambda probe: skill_of(probe).value or 0.0, default=None)


def skill_of(probe: ProbeResult) -> Figure:
    """Return how far from chance (0) to perfect (1) a probe reads its target."""
    chance, figure = probe.chance or 0.0, probe.balanced_accuracy
    scaled = [None if bound is None else (bound - chance) / (1 - chance) for bound in (figure.value, figure.low)]
    high = None if figure.high is None else (figure.high - chance) / (1 - chance)
    return Figure(value=scaled[0], low=scaled[1], high=high)


def _leaks_compared(result: AuditResult) -> list[str]:
    columns = dict.fromkeys(item.column for item in result.comparisons if item.family == "leakage")
    return [column for column in columns if column is not None]


def _signal(encoder: EncoderResult) -> ProbeResult | None:
    return next((probe for probe in encoder.probes if probe.kind == "signal" and probe.reason is None), None)


def _title(result: AuditResult, column: str) -> str:
    return str(result.plan["columns"].get(column, column))


def _listed(names: Sequence[str]) -> str:
    """Return names as `a, b and c`; of more than four, the first three and how many more."""
    if len(names) > MOST_NAMES:
        names = [*names[: MOST_NAMES - 1], f"{len(names) - MOST_NAMES + 1} more"]
    return _joined(names)


def _value(figure: Figure | None) -> float:
    return figure.value if figure is not None and figure.value is not None else 0.0


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
