"""What an audit found, in plain words: which encoder, why, and what to do next; each sentence from its figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .result import AuditResult, Check, Comparison, EncoderResult, Figure, show
from .steps import next_steps
from .words import counted, joined, listed, weight

KEPT_REASONS, KEPT_STEPS = 9, 5
#: Encoders whose failures are told; the answers of all stand beside.
TOLD = 3


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
        _domains(result, telling),
        _colour(result, ahead),
        *[_failures(encoder) for encoder in (ahead if len(telling) > TOLD - 1 else telling)[:TOLD]],
        _leak(ahead),
    ]
    which = _first([_verdicts(result.encoders), _choice(result, telling, ahead)], 2)
    return Answer(which, _first(why, KEPT_REASONS), _first(next_steps(result, telling, ahead), KEPT_STEPS))


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
    whose = "encoder" if len(encoders) == len(candidates(result)) else "encoder that tells tiles apart"
    opening = ""
    if len(ahead) == len(encoders):
        opening = f"No {whose} fails a check. " if ahead[0].verdict == "WARN" else f"Every {whose} {words}. "
    names = [encoder.name for encoder in ahead]
    between = result.between(names)
    decided = [item for item in between if item.better is not None]
    if not between:
        return f"{opening}They could not be compared."
    if not decided:
        return (
            f"{opening}No difference between {listed(names)} is decided on these tiles ("
            f"{counted(len(between), 'paired comparison')}): these figures do not choose one."
        )
    best = next((name for name in names if _better_throughout(name, names, decided)), None)
    if best is not None:
        mine = sum(item.better == best for item in decided)
        rest = listed([name for name in names if name != best])
        total = sum(best in (item.first, item.second) for item in between)
        return (
            f"{opening}{best} is better than {rest} in {mine} of {counted(total, 'paired comparison')} and worse in "
            "none" + ("." if mine == total else "; the others are not decided.")
        )
    none = f"Neither {names[0]} nor {names[1]}" if len(names) == 2 else f"None of {listed(names)}"
    return f"{opening}{none} is better throughout: which to take depends on what you need."


def _better_throughout(name: str, names: Sequence[str], decided: Sequence[Comparison]) -> bool:
    """Return whether an encoder is better than each other in something, and worse than none in anything."""
    mine = [item for item in decided if name in (item.first, item.second)]
    beaten = {item.second if item.first == name else item.first for item in mine if item.better == name}
    return all(item.better == name for item in mine) and beaten == set(names) - {name}


def _questions(result: AuditResult, encoders: Sequence[EncoderResult]) -> list[str]:
    """Say who is better at what, by paired comparisons alone."""
    names = [encoder.name for encoder in encoders]
    between = result.between(names)
    title = result.title("label")
    unseen = next((result.title(left.column) for one in encoders for left in one.transfer), "site")
    leak = next((item.column for item in result.comparisons if item.family == "leakage" and item.column), None)
    said = [
        _who(_of(between, "balanced_accuracy", "label"), names, f"reads {title} better", f"reads {title} best"),
        _who(
            _of(between, "unseen_accuracy", "label"),
            names,
            f"reads {title} better at a {unseen} that it has not seen",
            f"reads {title} best at a {unseen} that it has not seen",
        ),
        _who(
            _of(between, "selectivity"),
            names,
            "tells biology from nuisance better",
            "tells biology from nuisance best",
            but={encoder.name: "fails in must-react" for encoder in encoders if _is_blind(encoder)},
        ),
        leak
        and _who(
            _of(between, "balanced_accuracy", leak),
            names,
            *(f"shows {result.title(leak)} l{end}" for end in ("ess", "east")),
            less=True,
        ),
        _least_moved(between, names),
    ]
    return [f"{sentence}." for sentence in said if sentence]


def _is_blind(encoder: EncoderResult) -> bool:
    return any((family.family, family.status) == ("must-react", "FAIL") for family in encoder.families)


def _domains(result: AuditResult, encoders: Sequence[EncoderResult]) -> str | None:
    """Say whether encoders trained on tissue are to be preferred, by paired comparisons alone."""
    tissue, general = (
        [item.name for item in encoders if item.card["domain"] == domain and not item.card["random_weights"]]
        for domain in ("pathology", "general")
    )
    between = [
        item for item in result.between([*tissue, *general]) if (item.first in tissue) != (item.second in tissue)
    ]
    if not between:
        return None
    better, worse = (sum(item.better in names for item in between) for names in (tissue, general))
    said = f"Trained on tissue ({listed(tissue)}) against trained on everyday images ({listed(general)})"
    count = counted(len(between), "paired comparison")
    if not better and not worse:
        return f"{said}: none of {count} is decided, so where an encoder was trained is no reason to take it."
    if not worse:
        return f"{said}: better in {better} of {count} and worse in none. Take one that was trained on tissue."
    if not better:
        return f"{said}: worse in {worse} of {count} and better in none. That it was trained on tissue is no reason."
    return f"{said}: better in {better} and worse in {worse} of {count}: see for what you need."


def _of(items: Sequence[Comparison], metric: str, column: str | None = None) -> list[Comparison]:
    return [item for item in items if (item.metric, item.column) == (metric, column) and item.operation is None]


def _who(
    items: Sequence[Comparison],
    names: Sequence[str],
    words: str,
    most: str,
    *,
    less: bool = False,
    but: Mapping[str, str] | None = None,
) -> str | None:
    """Say which encoder is better than all others, else the clearest pair, else that nothing is decided.

    `but` has what is to be said of an encoder if it is the better one.
    """
    even_so = {name: f"; even so, {name} {fault}" for name, fault in (but or {}).items()}
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
            said = (
                f"{most}: ahead of {_loser(nearest)}, the next,"
                if len(mine) > 1
                else f"{words} than {_loser(nearest)},"
            )
            return f"{name} {said} by {ahead}{even_so.get(name, '')}"
    clearest = max(decided, key=lambda item: abs(item.difference.value or 0))
    more = f" ({len(decided)} of {len(items)} pairs are decided)" if len(items) > 1 else ""
    ahead = _gap(clearest, less=less)
    return f"{clearest.better} {words} than {_loser(clearest)}, by {ahead}{more}{even_so.get(str(clearest.better), '')}"


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
    failed = next((check for check in encoder.checks if check.family == "yardstick" and check.status == "FAIL"), None)
    return None if failed is None else f"{encoder.name}: {failed.sentence}."


def _failures(encoder: EncoderResult) -> str | None:
    """Say what an encoder fails in, the gravest in full; where it fails in nothing, what is open."""
    for status, verb in (("FAIL", "fails in"), ("WARN", "is not settled in")):
        found = [family.family for family in encoder.families if family.status == status]
        if "yardstick" in found:
            return None  # nothing else can be said of it, and that is said
        if found:
            found.sort(key=weight)
            gravest = _gravest(encoder, found[0], status)
            return f"{encoder.name} {verb} {joined(found)}; first of all, {gravest.sentence}."
    return None


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
    probe = None if colour is None else colour.signal
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
    parts = [f"{listed(more)} {'reads' if len(more) == 1 else 'read'} more"] if more else []
    if rest:
        parts.append(f"that {listed(rest)} {'reads' if len(rest) == 1 else 'read'} more is not shown")
    return f"{said}; {', and '.join(parts)}." if parts else f"{said}: what is read beyond that is morphology."
