"""Sets of operations by name."""

from collections.abc import Sequence
from dataclasses import dataclass

from .._types import Tile
from ..errors import unknown
from .operation import SEVERITIES, climb

SUITES: dict[str, tuple[str, ...]] = {
    "quick": (
        "rotation",
        "flip",
        "blur",
        "jpeg",
        "brightness",
        "hematoxylin-gain",
        "eosin-gain",
        "nuclei-erased",
        "rotation-there-and-back",
    )
}


def suite(name: str) -> tuple[str, ...]:
    """Return the names of the operations of a suite.

    Raises
    ------
    OptionError
        If there is no such suite.
    """
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]


@dataclass(frozen=True)
class Ladder:
    """All renderings of a tile that an audit looks at: the tile, then every operation at every severity."""

    operations: tuple[str, ...]
    seed: int = 0
    assumed_mpp: float | None = None

    @property
    def steps(self) -> tuple[tuple[str, int], ...]:
        """Operation and severity of each view after the first."""
        return tuple((operation, severity) for operation in self.operations for severity in SEVERITIES)

    @property
    def names(self) -> tuple[str, ...]:
        """Return `tile`, then names such as `blur@3`."""
        return ("tile", *(f"{operation}@{severity}" for operation, severity in self.steps))

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sequence[Tile]:
        """Render every step; `mpp` of the tile counts before the assumed one."""
        scale = mpp or self.assumed_mpp
        views = [tile]
        for operation in self.operations:
            views += climb(tile, operation, tile_id=tile_id, seed=self.seed, mpp=scale)
        return views
