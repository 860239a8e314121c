"""Changing the biology: what a good encoder must not ignore."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from .._types import Tile
from ..stain import label_nuclei, optical_density, tissue_mask, to_tile, white_level
from .operation import Operation, register

MARGIN_UM = 0.75
FILL_UM = 4.0
GRAIN_UM = 0.5


def erase_nuclei(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    """Return the tile as a function of the share of its nuclei that are replaced by what surrounds them.

    Nuclei are found in the hematoxylin channel. Each chosen one, with a margin of 0.75 um, takes the mean optical
    density of the tissue between nuclei around it (Gaussian, 4 um) and grain as strong as that tissue's. The order in
    which nuclei go is drawn once, so a larger share erases the same ones and more. A tile without nuclei stays the
    same.
    """
    count, labels = label_nuclei(tile, mpp)
    if not count:
        return lambda share: tile.copy()
    order = random.permutation(count) + 1
    size = 2 * round(MARGIN_UM / mpp) + 1
    grow = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    between = (cv2.dilate((labels > 0).astype(np.uint8), grow) == 0) & tissue_mask(tile)
    white = white_level(tile)
    density = optical_density(tile, white)
    filled = _ground(density, between, mpp, random)

    def erase(share: float) -> Tile:
        gone = np.zeros(count + 1, np.uint8)
        gone[order[: round(share * count)]] = 1
        erased = cv2.dilate(gone[labels], grow).astype(np.float32)
        soft = np.maximum(cv2.GaussianBlur(erased, (0, 0), max(0.5 / mpp, 0.5)), erased)[..., None]
        mixed = density + soft * (filled - density)
        return np.where(soft > 1e-3, to_tile((white * np.exp(-mixed)).astype(np.float32)), tile)

    return erase


def _ground(
    density: Float32[np.ndarray, "h w 3"], between: Bool[np.ndarray, "h w"], mpp: float, random: np.random.Generator
) -> Float[np.ndarray, "h w 3"]:
    """Spread the tissue between nuclei over the tile: its local mean, with grain as strong as its own."""
    if not between.any():
        return np.broadcast_to(density.min(axis=(0, 1)), density.shape).astype(np.float32)
    weight = between.astype(np.float32)[..., None]
    overall = density[between].mean(axis=0)
    spread = cv2.GaussianBlur(density * weight, (0, 0), FILL_UM / mpp)
    total = cv2.GaussianBlur(weight, (0, 0), FILL_UM / mpp)[..., None]
    local = (spread + 1e-3 * overall) / (total + 1e-3)
    fine = density - cv2.GaussianBlur(density, (0, 0), max(2 * GRAIN_UM / mpp, 1.0))
    strength = 1.4826 * np.median(np.abs(fine[between]), axis=0)
    noise = cv2.GaussianBlur(random.standard_normal(density.shape[:2]).astype(np.float32), (0, 0), GRAIN_UM / mpp)
    return local + strength * (noise / noise.std())[..., None]


NUCLEI_ERASED = register(
    Operation(
        name="nuclei-erased",
        family="must-react",
        role="must-react",
        parameter="share of nuclei",
        unit="",
        levels=(0.2, 0.4, 0.6, 0.8, 1.0),
        path=erase_nuclei,
        describes="nuclei replaced by the tissue around them",
        misleads="tiles with few nuclei change little; the filled places are smoother than tissue",
    )
)
