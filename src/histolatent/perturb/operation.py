"""What a graded perturbation is, and how one is applied to a tile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .._types import Tile
from ..errors import OptionError
from ..provenance import stream
from ..registry import Registry

Role = Literal["must-ignore", "must-react", "control"]
Family = Literal["geometric", "photometric", "acquisition", "stain", "artefact", "must-react"]
#: From a tile, um per pixel and a random stream to the tile as a function of the level.
Path = Callable[[Tile, float, np.random.Generator], Callable[[float], Tile]]

SEVERITIES = (1, 2, 3, 4, 5)
ASSUMED_MPP = 0.5


@dataclass(frozen=True)
class Operation:
    """A perturbation with five severities in physical units; severity 0 is the tile itself.

    `role` says what a good encoder does: a `must-ignore` change holds no biology, a `must-react` change destroys some,
    a `control` shows what the machinery alone does, and is named by the operation that it is for. `graded` is false
    where the five levels are variants of one another, not more and more of something. `path(tile, mpp, random)`
    makes all random choices and does the work that all levels share; what it returns maps a level to a new tile. So
    the severities of a tile lie on one path.
    """

    name: str
    family: Family
    role: Role
    parameter: str
    unit: str
    levels: tuple[float, float, float, float, float]
    path: Path
    describes: str
    graded: bool = True
    misleads: str = ""
    reference: str = ""
    control: str | None = None

    def level(self, severity: int) -> float | None:
        """Return the physical level of a severity, None for 0."""
        return None if severity == 0 else self.levels[severity - 1]


OPERATIONS: Registry[Operation] = Registry("perturbation")


def register(operation: Operation) -> Operation:
    """Make an operation known by its name."""
    return OPERATIONS.register(operation.name, operation)


def perturb(
    tile: Tile, operation: str | Operation, severity: int, *, tile_id: str, seed: int = 0, mpp: float | None = None
) -> Tile:
    """Return the tile under an operation at severity 0 to 5. Severity 0 returns the same pixels, bit for bit.

    The result depends on the tile, the operation, the severity, `seed`, `tile_id` and `mpp` (um per pixel, taken as 0.5
    if it is not known) and on nothing else: not on order, batch or process.

    Raises
    ------
    OptionError
        If the operation or the severity does not exist, or `mpp` is not a finite number above 0.
    """
    return climb(tile, operation, (severity,), tile_id=tile_id, seed=seed, mpp=mpp)[0]


def climb(
    tile: Tile,
    operation: str | Operation,
    severities: Sequence[int] = SEVERITIES,
    *,
    tile_id: str,
    seed: int = 0,
    mpp: float | None = None,
) -> list[Tile]:
    """Return the tile at several severities of one operation; what they share is computed once. See `perturb`."""
    if isinstance(operation, str):
        operation = OPERATIONS[operation]
    wrong = [severity for severity in severities if severity not in (0, *SEVERITIES)]
    if wrong:
        raise OptionError("no such severity", received=wrong[0], valid="0, 1, 2, 3, 4, 5")
    if mpp is not None and not 0 < mpp < float("inf"):
        raise OptionError("mpp is not a finite number above 0 um/px", received=mpp, fix="pass None if it is not known")
    if set(severities) == {0}:
        return [tile.copy() for _ in severities]
    path = operation.path(tile, mpp or ASSUMED_MPP, stream(seed, tile_id, operation.name))
    levels = [operation.level(severity) for severity in severities]
    return [tile.copy() if level is None else path(level) for level in levels]
