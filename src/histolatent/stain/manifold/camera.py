"""The camera: what becomes of light between the slide and the file. Plain numbers that NumPy and torch share."""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from ...errors import OptionError
from ...provenance import stream
from ..pixels import Levels
from .state import ProtocolState

#: Resolution that is assumed where none is given, um per pixel.
DEFAULT_MPP = 0.5
#: A kernel ends here, in sigmas: what lies beyond weighs less than 1e-4.
KERNEL_SIGMAS = 4.0
#: Share of the read noise in the variance at white; the rest is shot noise, in proportion to the light. The phantom's
#: scanners, set up from full wells of 5,000 to 12,000 electrons, have 0.03 to 0.15.
READ_SHARE = 0.1
#: Light below this is read as this, in levels: a power of 0 has no finite slope.
LEAST_LIGHT = 1e-3
FIELD_PX = 512


@dataclass(frozen=True, eq=False)
class Camera:
    """What a state does between slide and file.

    `blur_px` is a sigma; `mix` acts on columns (R, G, B) of levels; `noise` is a standard deviation in levels at
    `white`; a level becomes `255 (level / 255) ** exponent`; `quality` None is no JPEG.
    """

    white: Float[np.ndarray, "3"]
    blur_px: float
    mix: Float[np.ndarray, "3 3"]
    noise: float
    exponent: float
    quality: int | None


def camera_of(state: ProtocolState, white: Float[np.ndarray, "3"], mpp: float | None) -> Camera:
    """Return the camera of a state for tiles of a resolution; without one, of 0.5 um per pixel.

    Raises
    ------
    OptionError
        If the resolution is no positive number.
    """
    if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
        raise OptionError("mpp is no positive number of um per pixel", received=mpp, valid="above 0, such as 0.5")
    shares = colour_matrix(state)
    return Camera(
        white,
        state["blur"] / (DEFAULT_MPP if mpp is None else mpp),
        white[:, None] * shares / white[None, :],
        state["noise"],
        math.exp(-state["gamma"]),
        jpeg_quality(state["jpeg"]),
    )


def colour_matrix(state: ProtocolState) -> Float[np.ndarray, "3 3"]:
    """Return the matrix that acts on light relative to white, on columns (R, G, B); rows sum to 1, so white stays."""
    colours = ("red", "green", "blue")
    matrix = np.array([[0.0 if a == b else state[f"mix_{a}_{b}"] for b in colours] for a in colours])
    return matrix + np.diag(1.0 - matrix.sum(axis=1))


def jpeg_quality(loss: float) -> int | None:
    """Return the quality of a JPEG loss, to the nearest whole number; None for a loss of 0.

    The least loss is not nothing: even at quality 100 JPEG halves the resolution of colour.
    """
    return None if loss == 0 else min(max(round(100 - loss), 1), 100)


def gaussian_kernel(sigma_px: float, side: int) -> Float32[np.ndarray, " k"]:
    """Return a sampled Gaussian that sums to 1, of odd length, for a side of so many pixels.

    It ends at 4 sigma, or before the far end of the side, so that a mirrored border never has to be mirrored again.
    """
    radius = max(0, min(math.ceil(KERNEL_SIGMAS * sigma_px), side - 1))
    if radius == 0:
        return np.ones(1, np.float32)
    place = np.arange(-radius, radius + 1) / sigma_px
    weights = np.exp(-0.5 * place * place)
    return (weights / weights.sum()).astype(np.float32)


def blur(light: Float32[np.ndarray, "h w 3"], sigma_px: float) -> Float32[np.ndarray, "h w 3"]:
    """Return light under a Gaussian; beyond the border it is mirrored about the outermost pixel."""
    height, width = light.shape[:2]
    across, down = gaussian_kernel(sigma_px, width), gaussian_kernel(sigma_px, height)
    return cv2.sepFilter2D(light, -1, across, down, borderType=cv2.BORDER_REFLECT_101)


@cache
def noise_field() -> Float32[np.ndarray, "512 512 3"]:
    """Return the fixed field of standard normals that all sensor noise is cut from. Not writeable; 3 MB."""
    shape = (FIELD_PX, FIELD_PX, 3)
    field = stream(0, "histolatent", "stain manifold", "sensor noise").standard_normal(shape).astype(np.float32)
    field.flags.writeable = False
    return field


@dataclass(frozen=True, eq=False)
class Cut:
    """Where in the field a tile's noise lies: rows, columns, and a sign."""

    rows: np.ndarray
    columns: np.ndarray
    sign: float


def cut_noise(height: int, width: int, seed: int, tile_id: str) -> Cut:
    """Return the place of a tile's noise: an offset, two mirrors and a sign drawn by the state's seed and the tile.

    So NumPy and torch see the same noise on any device. The field wraps around: a tile of more than 512 pixels repeats
    it. Noise belongs to the place in the tile, so overlapping tiles differ in it, as two scans do.
    """
    rng = stream(seed, tile_id, "stain manifold", "sensor noise")
    top, left = rng.integers(FIELD_PX, size=2).tolist()
    down, right, sign = (2 * rng.integers(2, size=3) - 1).tolist()
    return Cut((top + down * np.arange(height)) % FIELD_PX, (left + right * np.arange(width)) % FIELD_PX, float(sign))


def noise_of(cut: Cut) -> Float32[np.ndarray, "h w 3"]:
    """Return the standard normals of a cut."""
    return noise_field()[cut.rows[:, None], cut.columns[None, :]] * np.float32(cut.sign)


def sense(
    light: Float32[np.ndarray, "_h _w 3"], camera: Camera, noise: Float32[np.ndarray, "_h _w 3"] | None
) -> Float32[np.ndarray, "_h _w 3"]:
    """Return levels of light: colour matrix, sensor noise, saturation at 0 and 255, tone curve. Not rounded.

    .. math:: x = 255\\,\\mathrm{clip}\\Big(\\tfrac{1}{255}\\big(M l + s\\,\\epsilon \\sqrt{0.1 + 0.9\\, M l / I_0}
              \\big)\\Big)^{e^{-\\gamma}}
    """
    if not np.array_equal(camera.mix, np.eye(3)):
        light = cv2.transform(light, camera.mix.astype(np.float32))
    if noise is not None:
        share = np.maximum(light, np.float32(0)) * ((1 - READ_SHARE) / camera.white).astype(np.float32)
        light = light + np.float32(camera.noise) * noise * np.sqrt(share + np.float32(READ_SHARE))
    light = np.clip(light, np.float32(LEAST_LIGHT), np.float32(255))
    if camera.exponent != 1:
        light = np.float32(255) * cv2.pow(light * np.float32(1 / 255), camera.exponent)
    return light


def through_jpeg(tile: UInt8[np.ndarray, "_h _w 3"], quality: int) -> UInt8[np.ndarray, "_h _w 3"]:
    """Return a tile as it comes out of a JPEG file with 4:2:0 subsampling."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), options)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(np.asarray(decoded), cv2.COLOR_BGR2RGB), np.uint8)


def to_bytes(levels: Levels) -> UInt8[np.ndarray, "_h _w 3"]:
    """Return levels within 0 to 255 rounded, half to even."""
    return levels if levels.dtype == np.uint8 else np.asarray(cv2.convertScaleAbs(levels), np.uint8)
