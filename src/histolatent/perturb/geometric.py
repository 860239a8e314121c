"""Moving the pixels: what lies in the tile stays the same tissue."""

from collections.abc import Callable

import cv2
import numpy as np

from .._types import Tile
from ..stain import white_level
from .operation import Operation, register

FLIPS = ("left-right", "up-down", "diagonal", "other diagonal", "half turn")


def rotate(tile: Tile, degrees: float) -> Tile:
    """Rotate about the centre, bicubic; uncovered corners are filled with the white of the tile, never black."""
    height, width = tile.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    white = tuple(map(float, white_level(tile)))
    return np.asarray(
        cv2.warpAffine(
            tile, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=white
        ),
        np.uint8,
    )


def _rotation(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    side = random.choice((-1.0, 1.0))
    return lambda degrees: rotate(tile, side * degrees)


def _there_and_back(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    side = random.choice((-1.0, 1.0))
    return lambda degrees: rotate(rotate(tile, side * degrees), -side * degrees)


def flip(tile: Tile, which: int) -> Tile:
    """Mirror the tile: 1 left-right, 2 up-down, 3 and 4 about the diagonals, 5 both (a half turn). Pixels are exact.

    The mirrors about the diagonals need a square tile; of another, they mirror the largest centred square.
    """
    if which in (3, 4):
        height, width = tile.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        turned = tile.copy()
        square = tile[top : top + side, left : left + side]
        mirrored = square.transpose(1, 0, 2) if which == 3 else square[::-1, ::-1].transpose(1, 0, 2)
        turned[top : top + side, left : left + side] = mirrored
        return turned
    ways = {1: tile[:, ::-1], 2: tile[::-1], 5: tile[::-1, ::-1]}
    return np.ascontiguousarray(ways[which])


ROTATION = register(
    Operation(
        name="rotation",
        family="geometric",
        role="must-ignore",
        parameter="angle",
        unit="degrees",
        levels=(5.0, 10.0, 20.0, 30.0, 45.0),
        path=_rotation,
        describes="free rotation to either side, corners filled with white",
        misleads="interpolation and the white corners move the embedding too: read it against rotation-there-and-back",
        control="rotation-there-and-back",
    )
)
THERE_AND_BACK = register(
    Operation(
        name="rotation-there-and-back",
        family="geometric",
        role="control",
        parameter="angle",
        unit="degrees",
        levels=ROTATION.levels,
        path=_there_and_back,
        describes="rotated and rotated back: interpolation and white corners without any turn",
    )
)
FLIP = register(
    Operation(
        name="flip",
        family="geometric",
        role="must-ignore",
        parameter="mirror",
        unit="variant",
        levels=(1.0, 2.0, 3.0, 4.0, 5.0),
        path=lambda tile, mpp, random: lambda which: flip(tile, int(which)),
        describes="mirrored: " + ", ".join(FLIPS),
        graded=False,
        misleads="the five levels are five mirrors, not more and more of one",
    )
)
