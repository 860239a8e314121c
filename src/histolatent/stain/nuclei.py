"""Where the nuclei are, by hematoxylin alone."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32

from .._types import Plane
from .density import concentrations, optical_density, white_level

AREA_UM2 = (8.0, 400.0)
SMOOTHED_UM, SURROUNDINGS_UM = 0.6, 8.0
#: Of a nucleus with the tissue around it, natural-log optical density: less is noise.
LEAST_CONTRAST = 0.04
#: How much glass counts among the surroundings: little, or every edge of tissue is dark; but pale tissue is glass too.
GLASS_WEIGHT = 0.3
TISSUE_DENSITY = 0.15


def hematoxylin(tile: np.ndarray) -> Plane:
    """Return the hematoxylin concentration, natural-log optical density, negatives set to 0."""
    return np.maximum(concentrations(optical_density(tile, white_level(tile)))[..., 0], 0)


def tissue_mask(tile: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Return where there is tissue: a mean optical density above 0.15."""
    return optical_density(tile, white_level(tile)).mean(axis=2) > TISSUE_DENSITY


def label_nuclei(tile: np.ndarray, mpp: float) -> tuple[int, Int32[np.ndarray, "h w"]]:
    """Return how many nuclei-like objects there are, and which pixel belongs to which (0 = none).

    An object is darker in hematoxylin (smoothed by 0.6 um) than the tissue within 8 um, by half of what hematoxylin
    varies there, by half of what it typically varies in the tile, and by an optical density of 0.04; its holes are
    filled, and it has 8 to 400 um2. The comparison with the surroundings keeps blue cytoplasm out, and finds nuclei in
    dark tissue and in pale. Touching nuclei come out as one object. Misleads where hematoxylin is not nuclear (mucin,
    calcification, pen, folds), and wherever `mpp` is wrong.
    """
    tissue = tissue_mask(tile)
    if tissue.sum() < 64:
        return 0, np.zeros(tile.shape[:2], np.int32)
    fine = cv2.GaussianBlur(hematoxylin(tile).astype(np.float32), (0, 0), max(SMOOTHED_UM / mpp, 0.5))
    weight = np.where(tissue, 1.0, GLASS_WEIGHT).astype(np.float32)
    total = _around(weight, mpp) + 1e-3
    above = fine - _around(fine * weight, mpp) / total
    spread = np.sqrt(_around(above**2 * weight, mpp) / total)
    least = np.maximum(0.5 * np.maximum(spread, np.median(spread[tissue])), LEAST_CONTRAST)
    objects = ((above > least) & tissue).astype(np.uint8)
    outlines, _ = cv2.findContours(objects, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    small = [outline for outline in outlines if cv2.contourArea(outline) * mpp**2 <= AREA_UM2[1]]
    cv2.drawContours(objects, small, -1, 1, cv2.FILLED)
    width = 2 * round(0.75 / mpp) + 1
    objects = cv2.morphologyEx(objects, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(objects, connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA] * mpp**2
    keep = (area >= AREA_UM2[0]) & (area <= AREA_UM2[1])
    keep[0] = False
    return int(keep.sum()), np.where(keep, np.cumsum(keep), 0).astype(np.int32)[np.asarray(labels, np.intp)]


def _around(plane: Float32[np.ndarray, "h w"], mpp: float) -> Float32[np.ndarray, "h w"]:
    return cv2.GaussianBlur(plane, (0, 0), SURROUNDINGS_UM / mpp)
