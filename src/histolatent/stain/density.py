"""Optical density: natural logarithm, one background intensity per channel, the sign kept."""

from functools import cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32

from .._types import Plane, Tile
from ..errors import OptionError
from .pixels import need_bytes
from .vectors import canonical_vectors, complete

DARKEST_WHITE = 200.0


def stain_matrix() -> Float32[np.ndarray, "3 3"]:
    """Return unit vectors of hematoxylin, eosin and the residual (their cross product) as rows.

    >>> np.linalg.norm(stain_matrix(), axis=1).round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    return complete(canonical_vectors()).astype(np.float32)


def white_level(tile: np.ndarray) -> Float32[np.ndarray, "3"]:
    """Return how bright a tile's brightest part is, per channel: the 99th percentile, at least 200 of 255.

    Made for perturbing one tile. Misleads on a tile without any background: the brightest tissue is taken for white
    then, and densities read low. Fits look for background instead, over the whole slide.

    Raises
    ------
    InputError
        If the tile is not RGB uint8, channels last.
    """
    need_bytes(tile)
    levels = np.array([np.bincount(tile[..., c].ravel(), minlength=256).cumsum() for c in range(3)])
    percentile = (levels < 0.99 * levels[:, -1:]).sum(axis=1)
    return np.maximum(percentile, DARKEST_WHITE).astype(np.float32)


@cache
def log_table(offset: int = 0) -> Float32[np.ndarray, "256"]:
    """Return `ln(max(I + offset, 1))` of each level, read-only; `offset` 1 is torchstain's convention, 0 is ours."""
    table = np.log(np.maximum(np.arange(256) + offset, 1)).astype(np.float32)
    table.setflags(write=False)
    return table


def check_white(white: Any) -> Float[np.ndarray, "3"]:
    """Return one or three levels of empty slide as three.

    Raises
    ------
    OptionError
        Unless they are numbers from 1 to 256.
    """
    try:
        level = np.broadcast_to(np.asarray(white, np.float64), (3,))
    except (TypeError, ValueError):
        level = np.zeros(3)
    if not ((level >= 1) & (level <= 256)).all():
        raise OptionError("white is not one or three levels", received=white, valid="1 to 256")
    return np.array(level)


def optical_density(tile: np.ndarray, white: Any, offset: Literal[0, 1] = 0) -> Float32[np.ndarray, "_h _w 3"]:
    """Return `-ln(max(I + offset, 1) / white)`; brighter than white is negative. `white` is one or three levels.

    Raises
    ------
    InputError
        If the tile is not RGB uint8, channels last.
    OptionError
        If `white` is out of range.
    """
    need_bytes(tile)
    white = check_white(white)
    table = (np.log(white)[None, :] - log_table(offset)[:, None]).astype(np.float32)
    return np.stack([table[:, c][tile[..., c]] for c in range(3)], axis=2)


def concentrations(density: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Return the amount of hematoxylin, eosin and residual by inverting the fixed stain matrix."""
    inverse = np.linalg.inv(stain_matrix()).astype(np.float32)
    return (density.reshape(-1, 3) @ inverse).reshape(density.shape)


def to_tile(intensity: Float32[np.ndarray, "h w 3"]) -> Tile:
    """Round intensities to uint8."""
    return np.clip(np.rint(intensity), 0, 255).astype(np.uint8)


def add_stain(tile: Tile, amount: Plane, stain: int) -> Tile:
    """Return the tile with `amount` more of stain 0 (hematoxylin) or 1 (eosin) at each pixel; negative takes away."""
    vector = stain_matrix()[stain]
    planes = [tile[..., c] * np.exp(-vector[c] * amount) for c in range(3)]
    return to_tile(np.stack(planes, axis=2).astype(np.float32))
