"""Frozen changes of colour, and how one is applied to a tile.

A change looks at one pixel at a time and at nothing else: a pixel comes out the same in every tile that shows it, and a
tile the same whatever is beside it. It is made of plain numbers; `histolatent.stain.tensors` applies the same one to
torch tensors.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Float32

from .colour import LARGEST_LOGARITHM, at_least, shift_in_space
from .density import log_table
from .pixels import Levels, in_one_row, read_levels, write_levels
from .tissue import tissue_weight
from .vahadane import CODE_PENALTY, make_positive, unconstrained

#: A power of two: what is scaled by it and divided by it again is exact.
SCALE = 1024.0
#: Gains up to this cannot overflow; beyond it, logarithms of levels are bounded.
LARGEST_GAIN = 10.0
Three = Float[np.ndarray, "3"]


@dataclass(frozen=True, eq=False)
class DensityChange:
    """A linear map of optical density: `I' = white_out exp(-(matrix OD + tissue * bias)) - offset`.

    `matrix` acts on columns (R, G, B). `bias` is added where there is tissue.
    """

    white_in: Three
    white_out: Three
    matrix: Float[np.ndarray, "3 3"]
    bias: Three = field(default_factory=lambda: np.zeros(3))
    offset: Literal[0, 1] = 0
    keep_background: bool = True


@dataclass(frozen=True, eq=False)
class SparseChange:
    """Non-negative amounts of the rows of `vectors_in`, times `gains`, mixed by the rows of `vectors_out`.

    With a `penalty` on their sum they are sparse, as Vahadane's are; with 0 they are least squares.
    """

    white_in: Three
    white_out: Three
    vectors_in: Float[np.ndarray, "2 3"]
    vectors_out: Float[np.ndarray, "2 3"]
    gains: Float[np.ndarray, "2"]
    penalty: float = CODE_PENALTY
    offset: Literal[0, 1] = 0
    keep_background: bool = True


@dataclass(frozen=True, eq=False)
class SpaceChange:
    """`scale * component + shift` for each component of a colour space."""

    white_in: Three
    space: Literal["lab", "ruderman"]
    scale: Three
    shift: Three
    keep_background: bool = True


@dataclass(frozen=True)
class NoChange:
    """The tile as it is, and the reason why: what normalising with a fit that is not usable does."""

    reason: str
    why: str


Change = DensityChange | SparseChange | SpaceChange
ColourChange = Change | NoChange


def recolour(image: np.ndarray, change: ColourChange, *, layout: str = "HWC") -> np.ndarray:
    """Return the image under a change, in the type and layout that it came in; the image itself is not changed.

    uint8 is rounded to the nearest level (in CIELab of a value that 16 bits bring within 0.75 of it); a float image in
    0 to 1 comes back unrounded, in 0 to 1. With `keep_background`, pixels fade from their own colour to the new one
    between optical densities of 0.05 and 0.15.

    Raises
    ------
    InputError
        If the image is not usable (see `read_levels`).
    """
    levels = read_levels(image, layout)
    if isinstance(change, NoChange):
        return np.array(image)
    row = in_one_row(levels)
    changed = change_levels(row, change)
    if change.keep_background:
        changed = _keep_background(row, changed, change.white_in)
    if levels.dtype == np.uint8:
        changed = np.asarray(cv2.convertScaleAbs(changed), np.uint8)
    changed = changed[0, : levels.shape[0] * levels.shape[1]].reshape(levels.shape)
    return write_levels(changed, image, layout)


def change_levels(levels: Levels, change: DensityChange | SparseChange | SpaceChange) -> Float32[np.ndarray, "_h _w 3"]:
    """Return levels under a change, the background with them; not below 0, and not clipped above 255."""
    if isinstance(change, SpaceChange):
        return shift_in_space(levels, change.space, change.scale, change.shift)
    logs = _logarithms(levels, change.offset)
    if isinstance(change, SparseChange):
        logs, gain = _sparse(logs, change), float(change.gains.max())
    else:
        shift = np.log(change.white_out) - change.matrix @ np.log(change.white_in)
        out = cv2.transform(logs, np.column_stack([change.matrix, shift]).astype(np.float32))
        if np.any(change.bias):
            out -= tissue_plane(levels, change.white_in)[..., None] * change.bias.astype(np.float32)
        logs, gain = out, float(np.abs(change.matrix).max())
    if gain > LARGEST_GAIN:  # overflow on glass would be infinity times a weight of zero
        np.minimum(logs, np.float32(LARGEST_LOGARITHM), out=logs)
    changed = cv2.exp(logs, dst=logs)
    return at_least(changed - np.float32(change.offset), 0.0) if change.offset else changed


def tissue_plane(levels: Levels, white: Three) -> Float32[np.ndarray, "_h _w"]:
    """Return how much each pixel counts as tissue, 0 to 1. See `tissue_weight`."""
    grey = cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY)
    if grey.dtype == np.uint8:
        return cv2.LUT(grey, _weight_table(tuple(white)))
    return tissue_weight(grey, white)


@lru_cache(maxsize=64)
def _weight_table(white: tuple[float, ...]) -> Float32[np.ndarray, "1 256"]:
    return tissue_weight(np.arange(256), np.array(white))[None]


def _logarithms(levels: Levels, offset: int) -> Float32[np.ndarray, "_h _w 3"]:
    if levels.dtype == np.uint8:
        return cv2.LUT(levels, log_table(offset)[None])
    return cv2.log(np.maximum(levels + np.float32(offset), np.float32(1)))


def _sparse(logs: Float32[np.ndarray, "_h _w 3"], change: SparseChange) -> Float32[np.ndarray, "_h _w 3"]:
    """Return the logarithms of the new levels. One affine map to amounts, what is negative mended, one back."""
    matrix, shift, overlap = unconstrained(change.vectors_in, change.penalty)
    rows = np.column_stack([-matrix, matrix @ np.log(change.white_in) + shift]).astype(np.float32)
    first, second = (cv2.transform(logs, row[None]) for row in rows)
    first, second = make_positive(first, second, overlap)
    mixed = -(change.gains[:, None] * change.vectors_out).T
    # The third plane stands for nothing: OpenCV is fast with three.
    back = np.column_stack([mixed, np.zeros(3), np.log(change.white_out)]).astype(np.float32)
    return cv2.transform(cv2.merge([first, second, second]), back)


def _keep_background(
    levels: Levels, changed: Float32[np.ndarray, "_h _w 3"], white: Three
) -> Float32[np.ndarray, "_h _w 3"]:
    weight = tissue_plane(levels, white)
    if weight.min() == 1:
        return changed
    # blendLinear divides by the sum of the weights and 1e-5: beside large weights that is nothing.
    weight *= np.float32(SCALE)
    return cv2.blendLinear(changed, levels.astype(np.float32), weight, np.float32(SCALE) - weight)
