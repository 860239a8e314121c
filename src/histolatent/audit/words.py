"""How sentences about an audit list names, and in what order they tell what is wrong."""

from collections.abc import Sequence

from .result import Crossing, OperationResult, Response

MOST_NAMES = 4
#: What is told first of an encoder that fails in several families; those that are not named come last.
GRAVEST = ("contract", "yardstick", "must-react", "signal", "required", "stain", "acquisition", "photometric")


def counted(count: int, what: str) -> str:
    """Return `1 tile`, `2 tiles`."""
    return f"{count} {what}{'s' * (count != 1)}"


def joined(names: Sequence[str]) -> str:
    """Return names as `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def listed(names: Sequence[str]) -> str:
    """Return names as `a, b and c`; of more than four, the first three and how many more."""
    if len(names) > MOST_NAMES:
        names = [*names[: MOST_NAMES - 1], f"{len(names) - MOST_NAMES + 1} more"]
    return joined(names)


def weight(family: str) -> int:
    """Return the place of a family among those that are told, the gravest first."""
    return GRAVEST.index(family) if family in GRAVEST else len(GRAVEST)


def threshold_words(operation: OperationResult, response: Response) -> str:
    """Return where a curve reaches the level of the plan, in units of the operation, with its bounds."""
    if response.crossing.severity is None:
        return (
            f"never reaches {response.level:g}"
            if response.crossing.outcome == "never crosses"
            else f"is at {response.level:g} at once"
        )
    unit = f" {operation.unit}" if operation.unit else ""
    early, late = (_place(operation, crossing) for crossing in (response.early, response.late))
    place = _place(operation, response.crossing)
    at = "" if place.startswith("before") else f"at {operation.parameter} "
    return f"reaches {response.level:g} {at}{place}{unit} (early: {early}, late: {late})"


def _place(operation: OperationResult, crossing: Crossing) -> str:
    if crossing.severity is None:
        return "never" if crossing.outcome == "never crosses" else "at once"
    if crossing.severity < 1:
        return f"before {operation.steps[0].level:g}"
    return f"{operation.level_at(crossing.severity):.3g}"
