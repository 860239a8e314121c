"""The white of the slide, as far as one tile tells it."""

import cv2
import numpy as np
from jaxtyping import Float32

from .._types import Tile
from ..stain import white_level
from ..stain.density import DARKEST_WHITE

#: Glass is smooth (levels, over 5 x 5 px), hardly coloured (levels between channels), and not dark (levels).
SMOOTH, COLOURED, DARKEST = 12, 28, 100
#: Dim glass covers at least this share of the tile, and is nearly as bright as the brightest there is.
LEAST_SHARE, NEARLY = 0.01, 0.88


def slide_white(tile: Tile) -> Float32[np.ndarray, "3"]:
    """Return the level of empty slide, R, G, B: `white_level`, or the dim glass of the tile where that finds none.

    `white_level` never reads below 200, or dense tissue would count as white. So where a channel's 99th percentile is
    no higher, glass is looked for by more than brightness: pixels that are smooth, hardly coloured, and at least 0.88
    times as bright as the tile's 99th percentile. If they are one in a hundred or more, their median is returned. Some
    scanners and most photographs through an eyepiece have such glass. Misleads on pale, smooth, dim tissue.
    """
    white = white_level(tile)
    if white.min() > DARKEST_WHITE:
        return white
    grey = cv2.cvtColor(np.ascontiguousarray(tile), cv2.COLOR_RGB2GRAY)
    square = np.ones((5, 5), np.uint8)
    smooth = cv2.dilate(grey, square) - cv2.erode(grey, square) <= SMOOTH
    coloured = tile.max(axis=2) - tile.min(axis=2)
    bright = grey >= max(DARKEST, NEARLY * float(np.percentile(grey, 99)))
    found = smooth & (coloured <= COLOURED) & bright
    if found.sum() < max(LEAST_SHARE * grey.size, 16):
        return white
    return np.median(tile[found], axis=0).astype(np.float32)
