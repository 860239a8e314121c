"""Which pixels of a tile move its embedding: occlusion, for any encoder that can be called."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from .._types import Tile
from ..errors import EncoderError, InputError, OptionError
from .displacement import cosine_distances

PATCH_UM = 16.0
BATCH = 32

#: Tiles `(n, h, w, 3)` uint8 to embeddings `(n, d)`.
Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sensitivity:
    """How far an occlusion at each pixel moves the embedding; 1 is as far as an unrelated tile (median).

    `heat` is `(h, w)`; `patch_px` the side of the patch, `patches` how many were tried, `largest` the furthest move.
    """

    heat: Float32[np.ndarray, "h w"]
    patch_px: int
    patches: int
    largest: float

    def concentration(self, share: float = 0.1) -> float:
        """Return how much of the heat lies on the hottest `share` of pixels: `share` if even, NaN without heat."""
        total = float(self.heat.sum(dtype=np.float64))
        if total == 0:
            return float("nan")
        ordered = np.sort(self.heat, axis=None)[::-1]
        return float(ordered[: max(1, round(share * ordered.size))].sum(dtype=np.float64) / total)


def sensitivity_map(
    encode: Encode,
    tile: UInt8[np.ndarray, "..."],
    *,
    mpp: float,
    null_median: float,
    patch_um: float = PATCH_UM,
    batch: int = BATCH,
) -> Sensitivity:
    """Cover one patch after the other and measure how far the embedding moves.

    Square patches of `patch_um` um, half overlapping, are filled with the mean colour of their surroundings (the window
    three times as wide around the patch, without the patch), so that what is there goes and no edge of black or white
    comes. A move is the cosine distance to the embedding of the whole tile, divided by `null_median`, the median
    distance of unrelated tiles; a pixel has the mean of the patches that cover it. `encode` is called with at most
    `batch` tiles `(n, h, w, 3)` at a time.

    Misleads: what stands twice in a tile can be covered once without effect. A patch within a large even area changes
    nothing, though the area may matter. The map says where, not what; its detail is the patch.

    Reference: Zeiler & Fergus 2014.

    Raises
    ------
    InputError
        If the tile is not RGB uint8.
    OptionError
        If the null is not positive (as with a constant encoder), the patch does not fit, or the batch is empty.
    EncoderError
        If `encode` does not return a finite row for each tile.
    """
    if tile.ndim != 3 or tile.shape[2] != 3:
        raise InputError("a tile must be RGB, channels last", received=tile.shape, valid="(h, w, 3)")
    if not (np.isfinite(null_median) and null_median > 0):
        raise OptionError(
            "the null is not positive: unrelated tiles do not differ, so no move can be judged",
            received=null_median,
            valid="the median distance of unrelated tiles",
        )
    if batch < 1:
        raise OptionError("the batch is empty", received=batch, valid="1 or more")
    side = _patch_px(patch_um, mpp, tile.shape)
    corners = [(top, left) for top in _starts(tile.shape[0], side) for left in _starts(tile.shape[1], side)]
    around = cv2.copyMakeBorder(tile, 1, 0, 1, 0, cv2.BORDER_CONSTANT).astype(np.float64).cumsum(axis=0).cumsum(axis=1)
    whole = _embed(encode, tile[None])
    heat, cover, largest = np.zeros(tile.shape[:2]), np.zeros(tile.shape[:2]), 0.0
    for start in range(0, len(corners), batch):
        part = corners[start : start + batch]
        covered = np.stack([_cover(tile, around, corner, side) for corner in part])
        vectors = _embed(encode, covered)
        if vectors.shape[1] != whole.shape[1]:
            raise EncoderError("the encoder changes its dimension", received=(whole.shape[1], vectors.shape[1]))
        moves = cosine_distances(np.repeat(whole, len(part), axis=0), vectors) / null_median
        largest = max(largest, float(moves.max()))
        for (top, left), move in zip(part, moves, strict=True):
            heat[top : top + side, left : left + side] += move
            cover[top : top + side, left : left + side] += 1
    return Sensitivity((heat / cover).astype(np.float32), side, len(corners), largest)


def _patch_px(patch_um: float, mpp: float, shape: tuple[int, ...]) -> int:
    side = round(patch_um / mpp) if mpp > 0 and np.isfinite(mpp) and np.isfinite(patch_um) else 0
    if not 2 <= side <= min(shape[:2]) // 2:
        raise OptionError(
            "the patch does not fit the tile",
            received=f"{patch_um:g} um at {mpp:g} um per pixel is {side} px",
            valid=f"2 to {min(shape[:2]) // 2} px",
        )
    return side


def _starts(length: int, side: int) -> list[int]:
    """Return where patches begin: every half patch, and at the very end."""
    return sorted({*range(0, length - side, max(1, side // 2)), length - side})


def _cover(tile: Tile, sums: np.ndarray, corner: tuple[int, int], side: int) -> Tile:
    """Return a copy of the tile with one patch filled with the mean of its surroundings."""
    top, left = corner
    outer = (max(top - side, 0), max(left - side, 0), min(top + 2 * side, tile.shape[0]))
    outer = (*outer, min(left + 2 * side, tile.shape[1]))
    inner = (top, left, top + side, left + side)
    count = (outer[2] - outer[0]) * (outer[3] - outer[1]) - side * side
    colour = (_box(sums, outer) - _box(sums, inner)) / count
    filled = tile.copy()
    filled[top : top + side, left : left + side] = np.rint(colour).astype(np.uint8)
    return filled


def _box(sums: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    top, left, bottom, right = box
    return sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]


def _embed(encode: Encode, tiles: np.ndarray) -> np.ndarray:
    vectors = np.asarray(encode(tiles.copy()))
    if vectors.ndim != 2 or len(vectors) != len(tiles) or not np.isfinite(vectors).all():
        raise EncoderError(
            "the encoder does not return a finite row for each tile",
            received=f"shape {vectors.shape} for {len(tiles)} tiles",
            valid=f"({len(tiles)}, d), finite",
        )
    return vectors.astype(np.float64)
