"""Which pixels are empty slide, which are stained tissue, and which are neither (pen, folds, black borders)."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from .density import log_table

#: One column per pixel; rows are R, G, B.
Pixels = UInt8[np.ndarray, "3 _m"]
Densities = Float32[np.ndarray, "3 _m"]

#: I0 of the code lineage of Macenko et al., for slides without any background.
DEFAULT_WHITE = (240.0, 240.0, 240.0)
BACKGROUND_LEVEL, BACKGROUND_RANGE = 180, 24
FEWEST_BACKGROUND = 100
#: A pixel with all channels below this level is ink, a fold or outside the scan.
BLACK = 25
#: Bounds of a plausible pixel, relative to the length of its density: how negative a stain, how large the residual.
NEGATIVE, RESIDUAL = 0.35, 0.65
#: From which to which optical density (of the grey level) a pixel passes from background to tissue.
PALE, STAINED = 0.05, 0.15
GREY = (0.299, 0.587, 0.114)


def background_level(pixels: Pixels) -> Float[np.ndarray, "3"] | None:
    """Estimate I0 per channel from background pixels, or return None where there are fewer than 100.

    Background is bright (every channel at least 180) and hardly coloured (channels within 24 levels). Of these, the
    most common brightness is looked up, and the median per channel of the pixels within 6 levels of it is returned: a
    slide has far more glass of one brightness than pale tissue of any. Misleads on a slide of nothing but pale, grey
    tissue, and finds nothing where the scanner's white is coloured by more than 24 levels.
    """
    red, green, blue = pixels
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    chosen = np.flatnonzero((low >= BACKGROUND_LEVEL) & (high - low <= BACKGROUND_RANGE))
    if len(chosen) < FEWEST_BACKGROUND:
        return None
    candidates = pixels[:, chosen]
    brightness = candidates.sum(axis=0, dtype=np.uint16) // 3
    counts = np.convolve(np.bincount(brightness, minlength=256), np.ones(5, int), mode="same")
    near = np.abs(brightness.astype(np.int16) - int(counts.argmax())) <= 6
    return np.median(candidates[:, near], axis=1)


def densities(pixels: Pixels, white: Float[np.ndarray, "3"], offset: int) -> Densities:
    """Return the natural-log optical density of each pixel."""
    if not pixels.size:  # which OpenCV refuses
        return np.zeros(pixels.shape, np.float32)
    return np.log(white).astype(np.float32)[:, None] - cv2.LUT(pixels, log_table(offset)[None])


def absorbing(pixels: Pixels, white: Float[np.ndarray, "3"], offset: int, beta: float) -> Bool[np.ndarray, " _m"]:
    """Return which pixels absorb at least `beta` in every channel: Macenko's rule for what is not transparent."""
    clear = np.log(white)[:, None] - log_table(offset) < beta
    first = [int(np.append(np.flatnonzero(row), 256)[0]) for row in clear]
    red, green, blue = (plane < level for plane, level in zip(pixels, first, strict=True))
    return red & green & blue


def tissue(
    pixels: Pixels, density: Densities, unmix: Float[np.ndarray, "3 3"], stains: int
) -> tuple[Int[np.ndarray, " _k"], Bool[np.ndarray, " _m"]]:
    """Return where stained tissue is, and which pixels are not background: a grey optical density of at least 0.15.

    Tissue is what is not background and of a plausible colour.

    Plausible is what is not black, and a mixture of the stains: `unmix` separates the density by canonical vectors, and
    a stain below -0.35, or with two stains a residual beyond 0.65, of its length is another substance; pen, mostly.
    Blue pen lies too near to hematoxylin, and red pen to eosin, to be told from them by colour alone.
    """
    red, green, blue = pixels
    matrix = np.vstack([unmix, GREY]).astype(np.float32)
    first, second, third, grey = matrix @ density
    squared = np.einsum("cm,cm->m", density, density)
    bound = np.sqrt(squared) * np.float32(-NEGATIVE)
    absorbs = grey >= STAINED
    found = absorbs & (np.maximum(np.maximum(red, green), blue) >= BLACK) & (first > bound) & (second > bound)
    found &= third > bound if stains == 3 else third * third < np.float32(RESIDUAL**2) * squared
    return np.flatnonzero(found), absorbs


def tissue_weight(grey: np.ndarray, white: Float[np.ndarray, "3"]) -> Float32[np.ndarray, "..."]:
    """Return how much a grey level counts as tissue: 0 up to an optical density of 0.05, 1 from 0.15, smooth between.

    `grey` is 0.299 R + 0.587 G + 0.114 B. The weight depends on the pixel's own colour alone, so that a pixel comes
    out the same in every tile that shows it.
    """
    density = np.log(float(np.dot(white, GREY))) - np.log(np.maximum(grey, 1.0))
    share = np.clip((density - PALE) / (STAINED - PALE), 0.0, 1.0)
    return (share * share * (3.0 - 2.0 * share)).astype(np.float32)
