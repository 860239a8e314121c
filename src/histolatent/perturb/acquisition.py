"""Optics, sensor and file: what a scanner does to the light that it gets."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32

from .._types import Tile
from ..stain import to_tile
from .operation import Operation, register
from .photometric import MEDMNIST

#: How a scanner's colours differ from the next one's: rows sum to 1, so that grey stays grey.
CROSS_TALK = np.array([[1.0, -0.7, -0.3], [-0.4, 0.8, -0.4], [-0.1, -0.9, 1.0]])


def blur(tile: Tile, sigma_um: float, mpp: float) -> Tile:
    """Blur with a Gaussian of `sigma_um`; the border is mirrored."""
    return np.asarray(cv2.GaussianBlur(tile, (0, 0), sigma_um / mpp, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def defocus(tile: Tile, radius_um: float, mpp: float) -> Tile:
    """Blur with a disk of `radius_um`, as a lens out of focus does; the border is mirrored."""
    radius = radius_um / mpp
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return _convolve(tile, kernel)


def smear(tile: Tile, length_um: float, mpp: float, angle: float) -> Tile:
    """Blur along a line of `length_um` at an angle in radians, as a moving stage does; the border is mirrored."""
    half = length_um / mpp / 2
    reach = int(np.ceil(half))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.clip(half + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return _convolve(tile, kernel)


def _convolve(tile: Tile, kernel: np.ndarray) -> Tile:
    kernel = (kernel / kernel.sum()).astype(np.float32)
    return np.asarray(cv2.filter2D(tile, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def compress(tile: Tile, quality: int) -> Tile:
    """Encode as JPEG with 4:2:0 chroma at `quality` and decode again."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    return _through_file(tile, ".jpg", options)


def _through_file(tile: Tile, suffix: str, options: list[int]) -> Tile:
    _, data = cv2.imencode(suffix, cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), options)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(np.asarray(decoded), cv2.COLOR_BGR2RGB), np.uint8)


def pixelate(tile: Tile, factor: float) -> Tile:
    """Make the tile smaller by `factor` (area mean) and larger again (bilinear): the detail of a lower magnification."""
    height, width = tile.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    reduced = cv2.resize(tile, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _noise(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    field = random.standard_normal(tile.shape, np.float32)
    light = tile.astype(np.float32)

    def add(level: float) -> Tile:
        # Of the variance at white, half is shot noise, which falls with the light, and half is read noise.
        size = np.float32(level) * np.sqrt(0.5 * light / 255 + 0.5)
        return to_tile(light + size * field)

    return add


def vignette(tile: Tile, percent: float) -> Tile:
    """Darken toward the corners: by `percent` there, by the square of the distance from the centre."""
    height, width = tile.shape[:2]
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
    fall: Float32[np.ndarray, "_h _w"] = 1 - np.float32(percent / 200) * (y[:, None] ** 2 + x[None, :] ** 2)
    return to_tile(tile * fall[..., None])


def mix_colours(tile: Tile, share: float) -> Tile:
    """Multiply RGB by a colour matrix, `share` of the way from none to a strong one; greys stay."""
    matrix = np.eye(3) + share * (CROSS_TALK - np.eye(3))
    return to_tile(cv2.transform(tile.astype(np.float32), matrix.astype(np.float32)))


BLUR = register(
    Operation(
        name="blur",
        family="acquisition",
        role="must-ignore",
        parameter="Gaussian sigma",
        unit="um",
        levels=(0.25, 0.5, 0.75, 1.0, 1.5),
        path=lambda tile, mpp, random: lambda sigma_um: blur(tile, sigma_um, mpp),
        describes="out of focus",
        misleads="from about 1 um on, chromatin texture is gone: a good encoder may react",
    )
)
DEFOCUS = register(
    Operation(
        name="defocus",
        family="acquisition",
        role="must-ignore",
        parameter="disk radius",
        unit="um",
        levels=(0.5, 1.0, 1.5, 2.0, 3.0),
        path=lambda tile, mpp, random: lambda radius_um: defocus(tile, radius_um, mpp),
        describes="out of focus, as a disk: rings stay where a Gaussian leaves none",
        misleads="from about 1.5 um on, chromatin texture is gone: a good encoder may react",
    )
)


def _motion(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    angle = random.uniform(0, np.pi)
    return lambda length_um: smear(tile, length_um, mpp, angle)


MOTION = register(
    Operation(
        name="motion-blur",
        family="acquisition",
        role="must-ignore",
        parameter="length",
        unit="um",
        levels=(1.0, 2.0, 3.0, 4.0, 6.0),
        path=_motion,
        describes="the stage moved during exposure, in a direction drawn for the tile",
        misleads="from about 3 um on, chromatin texture is gone: a good encoder may react",
    )
)
NOISE = register(
    Operation(
        name="noise",
        family="acquisition",
        role="must-ignore",
        parameter="standard deviation at white",
        unit="grey levels",
        levels=(2.0, 4.0, 7.0, 11.0, 16.0),
        path=_noise,
        describes="shot and read noise in equal parts, one field per tile",
    )
)
JPEG = register(
    Operation(
        name="jpeg",
        family="acquisition",
        role="must-ignore",
        parameter="quality",
        unit="",
        levels=(50.0, 30.0, 15.0, 10.0, 7.0),
        path=lambda tile, mpp, random: lambda quality: compress(tile, int(quality)),
        describes="JPEG compression, 4:2:0",
        reference="levels of MedMNIST-C (pathmnist), arXiv 2406.17536",
    )
)
PIXELATE = register(
    Operation(
        name="pixelate",
        family="acquisition",
        role="must-ignore",
        parameter="size factor",
        unit="x",
        levels=(0.8, 0.6, 0.4, 0.3, 0.25),
        path=lambda tile, mpp, random: lambda factor: pixelate(tile, factor),
        describes="made smaller and larger again: scanned at a lower magnification",
        misleads="from 0.4 on, chromatin texture is gone: a good encoder may react",
        reference=MEDMNIST,
    )
)
VIGNETTE = register(
    Operation(
        name="vignetting",
        family="acquisition",
        role="must-ignore",
        parameter="darkening in the corners",
        unit="%",
        levels=(5.0, 10.0, 20.0, 30.0, 40.0),
        path=lambda tile, mpp, random: lambda percent: vignette(tile, percent),
        describes="darker toward the corners",
    )
)
COLOUR_MATRIX = register(
    Operation(
        name="colour-matrix",
        family="acquisition",
        role="must-ignore",
        parameter="share of a strong matrix",
        unit="",
        levels=(0.05, 0.1, 0.2, 0.3, 0.4),
        path=lambda tile, mpp, random: lambda share: mix_colours(tile, share),
        describes="cross-talk between channels as between two scanners; greys stay",
    )
)
ROUND_TRIP = register(
    Operation(
        name="file-round-trip",
        family="acquisition",
        role="control",
        parameter="JPEG quality",
        unit="",
        levels=(100.0, 98.0, 95.0, 92.0, 90.0),
        path=lambda tile, mpp, random: lambda quality: compress(tile, int(quality)),
        describes="saved and read again at the qualities that nobody looks at twice",
    )
)
