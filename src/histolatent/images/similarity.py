"""How alike two images are, pixel by pixel: structural similarity and signal to noise."""

from functools import partial

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int

from .._types import Tiles

SIGMA = 1.5
WINDOW = 11
Planes = Float32[np.ndarray, "n h w c"]
Rows = Int[np.ndarray, " p"]


def structural_similarity(
    planes: Planes, first: Rows, second: Rows, *, value_range: float = 255.0
) -> Float[np.ndarray, " p"]:
    """Return the mean SSIM over channels for each pair of rows: -1 to 1, 1 is the same.

    Gaussian window, sigma 1.5 of 11 px, with constants for values over `value_range`; borders are left out.

    Misleads: it compares pixel by pixel. Two tiles of one tissue, out of register, have an SSIM near 0.

    Reference: Wang et al. 2004, IEEE TIP 13:600.
    """
    smooth = partial(cv2.GaussianBlur, ksize=(WINDOW, WINDOW), sigmaX=SIGMA, borderType=cv2.BORDER_REFLECT)
    edge = WINDOW // 2
    inside = (slice(edge, -edge), slice(edge, -edge))
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    found = np.empty(len(first))
    for number, (i, j) in enumerate(zip(first, second, strict=True)):
        x, y = planes[i], planes[j]
        parts = smooth(np.concatenate([x, y, x * x, y * y, x * y], axis=2))[inside].astype(np.float64)
        mean_x, mean_y, xx, yy, xy = np.split(parts, 5, axis=2)
        variances, covariance = xx - mean_x**2 + yy - mean_y**2, xy - mean_x * mean_y
        likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        found[number] = np.mean(likeness / ((mean_x**2 + mean_y**2 + c1) * (variances + c2)))
    return found


def signal_to_noise(first: Tiles, second: Tiles) -> Float[np.ndarray, " n"]:
    """Return the peak signal-to-noise ratio of each pair of tiles in dB; infinite where they are the same.

    >>> black, grey = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 51, np.uint8)
    >>> signal_to_noise(black, grey).round(2).tolist()
    [13.98]
    """
    squares = ((first.astype(np.float64) - second.astype(np.float64)) ** 2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / squares)
