"""From concentrations to pixels: Beer-Lambert, light, optics, sensor, tone curve, JPEG.

This module shares no code with `histolatent.stain` on purpose. What is tested against the phantom must not be what made
it: a mistake in one would hide the same mistake in the other.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from ..._types import Tile
from ...provenance import stream
from .protocols import Protocol, Scanner, Stain, Vector

#: Spread between patients (fixation) and between slides (microtome), natural log of the concentrations.
FIXATION_SD = 0.06
THICKNESS_SD = 0.09


@dataclass(frozen=True)
class Staining:
    """The state of one slide: rows of `vectors` are the unit OD directions of H and E; `gains` scale them."""

    vectors: Float[np.ndarray, "2 3"]
    gains: Float[np.ndarray, " 2"]


def stain_slide(seed: int, slide: str, stain: Stain) -> Staining:
    """Draw how a slide came out of a laboratory.

    Keyed by slide and stain, not by site: two sites that share a stain see one and the same slide.
    """
    patient = slide.rpartition("/")[0]
    fixation = FIXATION_SD * stream(seed, patient, "fixation").standard_normal(2)
    thickness = THICKNESS_SD * stream(seed, slide, "thickness").standard_normal()
    rng = stream(seed, slide, "staining", stain.name)
    batch = stain.strength_sd * rng.standard_normal(2)
    vectors = np.stack([_jitter(v, stain.direction_sd, rng) for v in (stain.hematoxylin, stain.eosin)])
    strengths = np.array([stain.hematoxylin_strength, stain.eosin_strength])
    return Staining(vectors, strengths * np.exp(fixation + thickness + batch))


def _jitter(vector: Vector, degrees: float, rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """Return the unit vector, turned by a normal angle around a random axis, with no channel below 0."""
    unit = np.asarray(vector) / np.linalg.norm(vector)
    turned = unit + math.radians(degrees) * rng.standard_normal(3)
    turned = np.maximum(turned, 0.0)
    return turned / np.linalg.norm(turned)


def render(
    hematoxylin: Float[np.ndarray, "h w"],
    eosin: Float[np.ndarray, "h w"],
    staining: Staining,
    scanner: Scanner,
    mpp: float,
    rng: np.random.Generator,
) -> Tile:
    """Return what a scanner writes of a stained section.

    .. math:: x = \\mathrm{JPEG}(\\mathrm{tone}(\\mathrm{sensor}(M\\, (G_\\sigma * I_0 e^{-\\sum_s g_s C_s v_s}))))
    """
    gained = np.stack([hematoxylin, eosin], -1).astype(np.float64) * staining.gains
    light = np.exp(-gained @ staining.vectors) * np.asarray(scanner.illuminant)
    sigma = scanner.blur_um / mpp
    if sigma > 0.05:
        light = cv2.GaussianBlur(light, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    white = np.asarray(scanner.illuminant)
    light = (light / white) @ np.asarray(scanner.colour_matrix).T * white
    light = np.clip(light, 0.0, 255.0)
    shot = np.sqrt(light / 255.0 / scanner.full_well) * 255.0
    light = light + np.hypot(shot, scanner.read_noise) * rng.standard_normal(light.shape)
    level = 255.0 * (np.clip(light, 0.0, 255.0) / 255.0) ** (1.0 / scanner.gamma)
    pixels = np.rint(level).astype(np.uint8)
    return pixels if scanner.jpeg_quality is None else _through_jpeg(pixels, scanner.jpeg_quality)


def _through_jpeg(pixels: Tile, quality: int) -> Tile:
    _, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)[:, :, ::-1])


def render_site(
    maps: tuple[np.ndarray, np.ndarray], *, seed: int, tile: str, slide: str, protocol: Protocol, mpp: float
) -> Tile:
    """Return a tile's pixels under a site's protocol, with the slide's staining and the tile's own sensor noise."""
    staining = stain_slide(seed, slide, protocol.stain)
    noise = stream(seed, tile, "sensor", protocol.scanner.name)
    return render(*maps, staining, protocol.scanner, mpp, noise)
