"""Where the nuclei are, by hematoxylin alone."""

import cv2
import numpy as np
from jaxtyping import Bool, Int32

from .._types import Plane
from .density import concentrations, optical_density, white_level

AREA_UM2 = (8.0, 400.0)
SURROUNDINGS_UM = 8.0
TISSUE_DENSITY = 0.15


def hematoxylin(tile: np.ndarray) -> Plane:
    """Return the hematoxylin concentration, natural-log optical density, negatives set to 0."""
    return np.maximum(concentrations(optical_density(tile, white_level(tile)))[..., 0], 0)


def tissue_mask(tile: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Return where there is tissue: a mean optical density above 0.15."""
    return optical_density(tile, white_level(tile)).mean(axis=2) > TISSUE_DENSITY


def label_nuclei(tile: np.ndarray, mpp: float) -> tuple[int, Int32[np.ndarray, "h w"]]:
    """Return how many nuclei-like objects there are, and which pixel belongs to which (0 = none).

    An object is darker in hematoxylin (smoothed by 0.5 um) than its surroundings of 8 um, by Otsu's threshold over the
    tissue, with its holes filled, of 8 to 400 um2. The comparison with the surroundings keeps blue cytoplasm out.
    Touching nuclei come out as one object. Misleads where hematoxylin is not nuclear (mucin, calcification, pen,
    folds), and wherever `mpp` is wrong.
    """
    plane = hematoxylin(tile).astype(np.float32)
    tissue = tissue_mask(tile)
    if tissue.sum() < 64:
        return 0, np.zeros(tile.shape[:2], np.int32)
    fine = cv2.GaussianBlur(plane, (0, 0), max(0.5 / mpp, 0.5))
    above = np.maximum(fine - cv2.GaussianBlur(plane, (0, 0), SURROUNDINGS_UM / mpp), 0)
    scaled = np.clip(above * (255.0 / (float(above.max()) or 1.0)), 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled[tissue].reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    objects = ((scaled > threshold) & tissue).astype(np.uint8)
    outlines, _ = cv2.findContours(objects, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(objects, outlines, -1, 1, cv2.FILLED)
    width = 2 * round(0.5 / mpp) + 1
    objects = cv2.morphologyEx(objects, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(objects, connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA] * mpp**2
    keep = (area >= AREA_UM2[0]) & (area <= AREA_UM2[1])
    keep[0] = False
    return int(keep.sum()), np.where(keep, np.cumsum(keep), 0).astype(np.int32)[np.asarray(labels, np.intp)]
