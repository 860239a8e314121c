"""What a graded perturbation is, and how one is applied to a tile."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np

from .._types import Tile
from ..errors import HistolatentError, OperationError, OptionError, described
from ..provenance import stream
from ..registry import Registry
from .donors import Donor, choose_donor, drawn_donors

Role = Literal["must-ignore", "must-react", "control"]
Family = Literal["geometric", "photometric", "acquisition", "stain", "artefact", "must-react"]
Levels = tuple[float, float, float, float, float]
#: From a tile, um per pixel and a random stream (with `needs_donor`, a donor too) to the tile as a function of the
#: level.
Path = Callable[..., Callable[[float], Tile]]

SEVERITIES = (1, 2, 3, 4, 5)
ASSUMED_MPP = 0.5
PLUGINS = "histolatent.operations"


@dataclass(frozen=True)
class Operation:
    """A perturbation with five severities in physical units; severity 0 is the tile itself.

    `role` says what a good encoder does: a `must-ignore` change holds no biology, a `must-react` change destroys some,
    a `control` shows what the machinery alone does, and is named by the operation that it is for. `graded` is false
    where the five levels are variants of one another, not more and more of something. `limits` are the levels that mean
    anything, both included.

    `path(tile, mpp, random)` makes all random choices and does the work that all levels share; what it returns maps a
    level to a new tile. So the severities of a tile lie on one path. With `needs_donor` it is called as
    `path(tile, mpp, random, donor)`, where `donor` is a tile of another kind of tissue of the same size and um per
    pixel. A path takes any tile, changes none of what it is given, and raises nothing.

    Raises
    ------
    OptionError
        If the family or role is unknown, the name is not of small letters, digits and hyphens, or the levels are not
        five finite numbers within `limits` that all rise or all fall.
    """

    name: str
    family: Family
    role: Role
    parameter: str
    unit: str
    levels: Levels
    path: Path
    describes: str
    limits: tuple[float, float] = (-math.inf, math.inf)
    graded: bool = True
    misleads: str = ""
    reference: str = ""
    control: str | None = None
    needs_donor: bool = False

    def __post_init__(self) -> None:
        if not self.name or not set(self.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-"):
            raise OptionError(
                "an operation's name is not plain", received=repr(self.name), valid="small letters, digits, hyphens"
            )
        for field, valid in (("family", get_args(Family)), ("role", get_args(Role))):
            if getattr(self, field) not in valid:
                raise OptionError(
                    f"{self.name}: no such {field}", received=repr(getattr(self, field)), valid=", ".join(valid)
                )
        _check_levels(self)

    def __reduce__(self) -> tuple[Any, ...]:
        known = OPERATIONS.get(self.name)
        if known is not None and known.path is self.path:  # by name: a path need not pickle then
            return _named, (self.name, self.levels)
        return _plain, tuple(getattr(self, field.name) for field in fields(self))

    def level(self, severity: int) -> float | None:
        """Return the physical level of a severity, None for 0."""
        return None if severity == 0 else self.levels[severity - 1]

    def caption(self, severity: int) -> str:
        """Return the level of a severity with its unit, such as `0.5 um`; of what is not graded, `variant 3`."""
        level = self.level(severity)
        if level is None:
            return "none"
        return f"{level:g} {self.unit}".strip() if self.graded else f"variant {level:g}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values: all but the path; an open limit is None."""
        limits = [limit if math.isfinite(limit) else None for limit in self.limits]
        plain = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "path"}
        return plain | {"levels": list(self.levels), "limits": limits}

    def at(self, levels: Sequence[float]) -> "Operation":
        """Return the operation with other levels, in the direction of its own.

        Raises
        ------
        OptionError
            If they are not five numbers within `limits` that rise, or fall, as its own do; or it is not graded.
        """
        if tuple(levels) == self.levels:
            return self
        if not self.graded:
            raise OptionError(
                f"{self.name} has five variants, and no levels", received=list(levels), fix="leave it out"
            )
        try:
            numbers = tuple(float(level) for level in levels)
        except (TypeError, ValueError):
            raise OptionError(f"{self.name}: levels are no numbers", received=list(levels)) from None
        if len(numbers) != len(SEVERITIES):
            raise OptionError(
                f"{self.name}: there are {len(numbers)} levels",
                received=_numbers(numbers),
                valid="five, for severity 1 to 5",
            )
        changed = replace(self, levels=numbers)  # pyright: ignore[reportArgumentType]
        if (numbers[0] < numbers[-1]) != (self.levels[0] < self.levels[-1]):
            way = "rise" if self.levels[0] < self.levels[-1] else "fall"
            raise OptionError(
                f"{self.name}: the levels go from strong to weak",
                received=_numbers(numbers),
                valid=f"levels that {way}, such as {_numbers(self.levels)}",
            )
        return changed


def _check_levels(operation: Operation) -> None:
    levels, (low, high) = operation.levels, operation.limits
    name, received = operation.name, _numbers(levels)
    if not all(math.isfinite(level) and low <= level <= high for level in levels):
        valid = f"{low:g} to {high:g} {operation.unit} ({operation.parameter})"
        raise OptionError(f"{name}: a level is out of its limits", received=received, valid=valid)
    rising = [after > before for before, after in pairwise(levels)]
    if any(after == before for before, after in pairwise(levels)) or len(set(rising)) > 1:
        raise OptionError(f"{name}: the levels neither all rise nor all fall", received=received)


def _numbers(levels: Sequence[float]) -> str:
    return ", ".join(f"{level:g}" for level in levels)


def _take(found: object) -> Mapping[str, Operation]:
    """Return the operations that a plug-in names: one, or several."""
    several = list(found) if isinstance(found, list | tuple) else [found]
    wrong = next((item for item in several if not isinstance(item, Operation)), None)
    if wrong is not None or not several:
        raise OptionError(
            "it names no operation", received=type(wrong).__name__, valid="an Operation, or a list or tuple of them"
        )
    return {item.name: item for item in several if isinstance(item, Operation)}


OPERATIONS: Registry[Operation] = Registry("perturbation", PLUGINS, _take)


def register(operation: Operation) -> Operation:
    """Make an operation known by its name."""
    return OPERATIONS.register(operation.name, operation)


def _plain(*values: Any) -> Operation:
    return Operation(*values)


def _named(name: str, levels: Levels) -> Operation:
    return OPERATIONS[name].at(levels)


def perturb(
    tile: Tile,
    operation: str | Operation,
    severity: int,
    *,
    tile_id: str,
    seed: int = 0,
    mpp: float | None = None,
    donors: Sequence[Donor] = (),
) -> Tile:
    """Return the tile under an operation at severity 0 to 5. Severity 0 returns the same pixels, bit for bit.

    The result depends on the tile, the operation, the severity, `seed`, `tile_id`, `mpp` (um per pixel, taken as 0.5
    if it is not known) and, for a tissue swap, the donors, and on nothing else: not on order, batch or process.

    Raises
    ------
    OptionError
        If the operation or the severity does not exist, or `mpp` is not a finite number above 0.
    """
    return climb(tile, operation, (severity,), tile_id=tile_id, seed=seed, mpp=mpp, donors=donors)[0]


def known_mpp(mpp: float | None) -> float:
    """Return um per pixel, those that are assumed where none are given.

    Raises
    ------
    OptionError
        If they are no finite number above 0.
    """
    if mpp is None:
        return ASSUMED_MPP
    if not 0 < mpp < math.inf:
        raise OptionError(
            "mpp is not a finite number above 0 um/px", received=mpp, fix="leave it out if it is not known"
        )
    return mpp


def climb(
    tile: Tile,
    operation: str | Operation,
    severities: Sequence[int] = SEVERITIES,
    *,
    tile_id: str,
    seed: int = 0,
    mpp: float | None = None,
    donors: Sequence[Donor] = (),
) -> list[Tile]:
    """Return the tile at several severities of one operation; what they share is computed once. See `perturb`.

    `donors` are tiles that a tissue swap may take its tissue from. Without any, it takes drawn tissue.
    """
    if isinstance(operation, str):
        operation = OPERATIONS[operation]
    wrong = [severity for severity in severities if severity not in (0, *SEVERITIES)]
    if wrong:
        raise OptionError("no such severity", received=wrong[0], valid="0, 1, 2, 3, 4, 5")
    scale = known_mpp(mpp)
    if set(severities) == {0}:
        return [tile.copy() for _ in severities]
    random = stream(seed, tile_id, operation.name)
    # In one order in memory: what sums over pixels must not depend on how the caller's array is laid out.
    plain = np.ascontiguousarray(tile)
    donor = (choose_donor(plain, donors or drawn_donors(), scale, random),) if operation.needs_donor else ()
    levels = [operation.level(severity) for severity in severities]
    try:
        path = operation.path(plain, scale, random, *donor)
        found = [tile.copy() if level is None else path(level) for level in levels]
    except (HistolatentError, MemoryError):
        raise
    except Exception as error:
        raise OperationError(f"the operation {operation.name} raised {described(error)}", received=tile_id) from error
    for severity, one in zip(severities, found, strict=True):
        if not isinstance(one, np.ndarray) or one.dtype != np.uint8 or one.shape != tile.shape:
            got = f"{one.dtype} {one.shape}" if isinstance(one, np.ndarray) else type(one).__name__
            raise OperationError(
                f"the operation {operation.name} returned no tile of the same size",
                received=f"{got} at severity {severity} of {tile_id}",
                valid=f"uint8 {tile.shape}",
            )
    return found
