"""How sentences about an audit list names, and in what order they tell what is wrong."""

from collections.abc import Sequence

MOST_NAMES = 4
#: What is told first of an encoder that fails in several families; those that are not named come last.
GRAVEST = ("contract", "yardstick", "must-react", "signal", "required", "stain", "acquisition", "photometric")


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
