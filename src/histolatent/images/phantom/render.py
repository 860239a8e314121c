"""From concentrations to pixels: section, uptake, Beer-Lambert, light, optics, sensor, tone curve, JPEG.

This module shares no code with `histolatent.stain` on purpose. What is tested against the phantom must not be what made
it: a mistake in one would hide the same mistake in the other. And sites do what no state of the stain manifold does, so
that a site that was not seen is more than another state.
"""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float

from ..._types import Tile
from ...provenance import stream
from .optics import defocus
from .protocols import NOMINAL_UM, Protocol, Scanner, Stain, Vector

#: Spread between patients (fixation) and between slides (microtome), natural log of the concentrations.
FIXATION_SD = 0.06
THICKNESS_SD = 0.09


@dataclass(frozen=True)
class Staining:
    """The state of one slide: rows of `vectors` are the unit OD directions of H and E; `gains` scale the amounts.

    Of an amount `c` the tissue holds `c / (1 + c / capacity)`.
    """

    vectors: Float[np.ndarray, "2 3"]
    gains: Float[np.ndarray, " 2"]
    capacities: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.full(2, math.inf))


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
    gains = strengths * np.exp(fixation + thickness + batch) * (stain.section_um / NOMINAL_UM)
    return Staining(vectors, gains, np.array([stain.hematoxylin_capacity, stain.eosin_capacity]))


def _jitter(vector: Vector, degrees: float, rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """Return the unit vector, turned by a normal angle around a random axis, with no channel below 0."""
    unit = np.asarray(vector) / np.linalg.norm(vector)
    turned = unit + math.radians(degrees) * rng.standard_normal(3)
    turned = np.maximum(turned, 0.0)
    return turned / np.linalg.norm(turned)


def vary_thickness(
    seed: int, tile: str, slide: str, stain: Stain, shape: tuple[int, int], mpp: float
) -> Float[np.ndarray, "h w"] | None:
    """Return the thickness over that of the section at each pixel of a tile, or None where a section is even.

    Waves run across the slide at one angle, that of the knife; where a tile lies on a wave is drawn for the tile. The
    mean over many tiles is 1.
    """
    if not stain.chatter_um:
        return None
    angle = math.pi * stream(seed, slide, "knife", stain.name).random()
    phase = 2 * math.pi * stream(seed, tile, "chatter", stain.name).random()
    y, x = (np.arange(side) * mpp for side in shape)
    along = x[None, :] * math.cos(angle) + y[:, None] * math.sin(angle)
    wave = np.sin(2 * math.pi * along / stain.chatter_period_um + phase)
    return 1.0 + stain.chatter_um / stain.section_um * wave


def illuminate(
    hematoxylin: Float[np.ndarray, "h w"],
    eosin: Float[np.ndarray, "h w"],
    staining: Staining,
    scanner: Scanner,
    thickness: Float[np.ndarray, "h w"] | None = None,
) -> Float[np.ndarray, "h w 3"]:
    """Return the light behind a stained section, in grey levels; a `thickness` multiplies what it holds."""
    gained = np.stack([hematoxylin, eosin], -1).astype(np.float64) * staining.gains
    held = gained / (1.0 + gained / staining.capacities)
    if thickness is not None:
        held = held * thickness[..., None]
    return np.exp(-held @ staining.vectors) * np.asarray(scanner.illuminant)


def see(light: Float[np.ndarray, "h w 3"], scanner: Scanner, mpp: float) -> Float[np.ndarray, "h w 3"]:
    """Return the light that falls on the sensor: Gaussian, point spread of each channel, colour matrix, clipping."""
    sigma = scanner.blur_um / mpp
    if sigma > 0.05:
        light = cv2.GaussianBlur(light, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    if any((*scanner.focus_um, scanner.astigmatism_um, *scanner.red_um, *scanner.blue_um)):
        light = defocus(light, scanner, mpp)
    white = np.asarray(scanner.illuminant)
    light = (light / white) @ np.asarray(scanner.colour_matrix).T * white
    return np.clip(light, 0.0, 255.0)


def tone(light: Float[np.ndarray, "*any"], scanner: Scanner) -> Float[np.ndarray, "*any"]:
    """Return levels of light: the gamma, then the S-curve.

    .. math:: \\mathrm{logit}\\, y = c\\,(\\mathrm{logit}\\, x - \\mathrm{logit}\\, p) + \\mathrm{logit}\\, p

    with `x` and `y` shares of 255, contrast `c` and pivot `p`: 0, pivot and 255 stay.
    """
    level = 255.0 * (np.clip(light, 0.0, 255.0) / 255.0) ** (1.0 / scanner.gamma)
    if scanner.contrast == 1.0:
        return level
    share, pivot = level / 255.0, scanner.pivot
    dark = ((1.0 - share) / (1.0 - pivot)) ** scanner.contrast * (1.0 - pivot)
    bright = (share / pivot) ** scanner.contrast * pivot
    return 255.0 * bright / (bright + dark)


def render(
    hematoxylin: Float[np.ndarray, "h w"],
    eosin: Float[np.ndarray, "h w"],
    staining: Staining,
    scanner: Scanner,
    mpp: float,
    rng: np.random.Generator,
    thickness: Float[np.ndarray, "h w"] | None = None,
) -> Tile:
    """Return what a scanner writes of a stained section.

    .. math:: x = \\mathrm{JPEG}\\Big(\\mathrm{tone}\\big(\\mathrm{sensor}(
              M\\, (P * G_\\sigma * I_0 e^{-t \\sum_s u_s(g_s C_s) v_s}))\\big)\\Big)

    with the thickness `t`, the uptake `u(c) = c / (1 + c / capacity)` and the point spread `P` of each channel.
    """
    light = see(illuminate(hematoxylin, eosin, staining, scanner, thickness), scanner, mpp)
    shot = np.sqrt(light / 255.0 / scanner.full_well) * 255.0
    light = light + np.hypot(shot, scanner.read_noise) * rng.standard_normal(light.shape)
    pixels = np.rint(tone(light, scanner)).astype(np.uint8)
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
    thickness = vary_thickness(seed, tile, slide, protocol.stain, maps[0].shape, mpp)
    return render(*maps, staining, protocol.scanner, mpp, noise, thickness)
