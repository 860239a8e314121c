"""How alike two tiles look, without any network: structure of their stains, and colour and texture."""

from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from .._types import Tiles
from ..errors import InputError
from ..stain import concentrations, optical_density

#: Illumination is compared too, so empty slide is the same level for every tile.
WHITE = 255
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
TEXTURE_SIGMAS = (1.0, 2.0, 4.0)
SMALLEST_PX = 16


def check_thumbnails(tiles: UInt8[np.ndarray, "..."]) -> None:
    """Raise InputError unless thumbnails are `(n, h, w, 3)`, at least 16 px on each side."""
    if tiles.ndim != 4 or tiles.shape[3] != 3 or min(tiles.shape[1:3]) < SMALLEST_PX:
        raise InputError(
            "thumbnails must be RGB, all of one size",
            received=tiles.shape,
            valid=f"(n, h, w, 3) with h and w at least {SMALLEST_PX}",
        )


def stain_planes(tiles: Tiles) -> Float32[np.ndarray, "n _h _w 2"]:
    """Return hematoxylin and eosin density of thumbnails, by the fixed stain matrix and one white for all.

    Raises
    ------
    InputError
        If thumbnails are not `(n, h, w, 3)` or smaller than 16 px.
    """
    check_thumbnails(tiles)
    return np.stack([concentrations(optical_density(tile, WHITE))[..., :2] for tile in tiles])


def describe_appearance(planes: Float32[np.ndarray, "n h w 2"]) -> Float[np.ndarray, "n 18"]:
    """Return colour and texture of each thumbnail, standardised over them: 18 columns.

    For hematoxylin and eosin: five quantiles of density (how much stain), the root mean square of differences of
    Gaussians at three scales (how coarse), and their kurtosis at the finest (how spotty). Turning or mirroring a tile
    changes nothing but for the border. A column that is the same for all becomes 0.

    Misleads: it knows nothing of shape beyond its size; two tissues with nuclei of one size and number look alike.
    """
    rows = np.stack([_describe(plane) for plane in planes])
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(spread > 1e-6 * (1 + np.abs(rows).max(axis=0)), spread, np.inf)


def _describe(plane: Float32[np.ndarray, "h w 2"]) -> Float[np.ndarray, "18"]:
    blurred = [plane, *(cv2.GaussianBlur(plane, (0, 0), sigma) for sigma in TEXTURE_SIGMAS)]
    bands = [(fine - coarse).astype(np.float64) for fine, coarse in pairwise(blurred)]
    energies = [np.sqrt((band**2).mean(axis=(0, 1))) for band in bands]
    spotty = (bands[0] ** 4).mean(axis=(0, 1)) / ((bands[0] ** 2).mean(axis=(0, 1)) + 1e-4) ** 2
    quantiles = np.quantile(plane, QUANTILES, axis=(0, 1))
    return np.concatenate([quantiles.ravel(), *energies, np.log1p(spotty)])
