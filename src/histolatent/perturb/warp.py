"""Moving pixels without black corners: one way to resample, one way to fill."""

import cv2
import numpy as np
from jaxtyping import Float

from .._types import Tile
from .glass import slide_white


def warp_affine(tile: Tile, matrix: Float[np.ndarray, "2 3"]) -> Tile:
    """Resample bicubically under a forward matrix on (x, y) pixels; what is uncovered gets the slide's white."""
    height, width = tile.shape[:2]
    return np.asarray(
        cv2.warpAffine(
            tile,
            matrix,
            (width, height),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=white_of(tile),
        ),
        np.uint8,
    )


def about_centre(tile: Tile, linear: Float[np.ndarray, "2 2"]) -> Float[np.ndarray, "2 3"]:
    """Return the affine matrix that maps by `linear` about the tile's centre."""
    height, width = tile.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([linear, centre - linear @ centre])


def white_of(tile: Tile) -> tuple[float, float, float]:
    """Return the white of the slide as OpenCV takes it."""
    red, green, blue = map(float, slide_white(tile))
    return red, green, blue
