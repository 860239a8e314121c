"""Another stain on the same tissue: amounts, directions, and another laboratory's look."""

from collections.abc import Callable

import numpy as np

from .._types import Tile
from ..stain import (
    ProtocolState,
    StainManifold,
    add_stain,
    concentrations,
    fit_tile,
    hed_jitter,
    optical_density,
    recolour,
    shipped_reference,
    white_level,
)
from ..stain.recolour import DensityChange
from ..stain.vectors import complete
from .operation import Operation, register

STAIN_GAINS = (1.1, 1.25, 1.5, 1.75, 2.0)
FIXED = "separated by fixed stain vectors: on slides far from them some of the other stain moves along"


def stain_gain(tile: Tile, *stains: int) -> Callable[[float], Tile]:
    """Return the tile as a function of the factor on some stains (0 hematoxylin, 1 eosin); the rest stays exact.

    Separation is by the fixed Ruifrok-Johnston vectors. Negative amounts are left alone, so the background keeps.
    """
    amounts = np.maximum(concentrations(optical_density(tile, white_level(tile))), 0)

    def gain(factor: float) -> Tile:
        changed = tile
        for stain in stains:
            changed = add_stain(changed, (factor - 1.0) * amounts[..., stain], stain)
        return changed

    return gain
