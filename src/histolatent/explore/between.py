"""Between two groups: the tile that transport carries from one to the other, and stain that moves in pixels."""

import numpy as np
from jaxtyping import Float, UInt8

from .._types import Tile
from ..errors import InputError
from ..stain import concentrations, optical_density
from ..stain.density import stain_matrix, to_tile
from .transport import Transport, pixel_barycentre

#: White that amounts of stain are read and shown against.
WHITE = 245.0
Steps = Float[np.ndarray, " t"]


def show_transport(plan: Transport, steps: Steps) -> Float[np.ndarray, "t d"]:
    """Return one tile's vector on its way from one set to the other: the tile whose way is of median length.

    The middle of a set says little of its tiles; this is one of them, and goes where transport takes it.
    """
    moves = plan.moves()
    row = int(moves["tile"].iloc[len(moves) // 2])
    place = int(np.flatnonzero(plan.rows[0] == row)[0])
    own = np.flatnonzero(plan.pairs[:, 0] == place)
    pair = plan.pairs[own[int(plan.weights[own].argmax())]]
    t = steps[:, None]
    return (1 - t) * plan.first[pair[0]] + t * plan.second[pair[1]]


def mix_stains(first: Tile, second: Tile, steps: Steps, *, blur: float = 1e-2) -> UInt8[np.ndarray, "t _h _w 3"]:
    """Return tiles between two, in whose pixels hematoxylin and eosin are moved as mass: a Wasserstein barycentre each.

    No latent space and no network is in it. See `pixel_barycentre`.

    Raises
    ------
    InputError
        If tiles differ in size, or one has none of a stain.
    """
    if first.shape != second.shape:
        raise InputError("tiles to mix are of one size", received=(first.shape, second.shape))
    planes = [np.maximum(concentrations(optical_density(tile, WHITE))[..., :2], 0) for tile in (first, second)]
    rows, found = stain_matrix()[:2], []
    for t in steps.tolist():
        amounts = np.stack(
            [pixel_barycentre([plane[..., stain] for plane in planes], [1 - t, t], blur=blur) for stain in (0, 1)],
            axis=2,
        )
        found.append(to_tile((WHITE * np.exp(-amounts @ rows)).astype(np.float32)))
    return np.stack(found)
