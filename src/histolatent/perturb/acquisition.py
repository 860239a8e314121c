"""Optics, sensor and file: what a scanner does to the light that it gets."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32

from .._types import Tile
from ..stain import to_tile
from ..stain.manifold import camera
from .operation import Operation, register
from .photometric import MEDMNIST
from .scanner import SCANNERS, Matrix3, Scanner, scan

NOISE_TILE = "noise"


def blur(tile: Tile, sigma_um: float, mpp: float) -> Tile:
    """Blur with a Gaussian of `sigma_um`; the border is mirrored. Not rounded before the end."""
    return to_tile(camera.blur(tile.astype(np.float32), sigma_um / mpp))


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
    return camera.through_jpeg(tile, quality)


def _through_png(tile: Tile, effort: int) -> Tile:
    _, data = cv2.imencode(".png", cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, effort])
    return np.asarray(cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB), np.uint8)


def pixelate(tile: Tile, factor: float) -> Tile:
    """Make the tile smaller by `factor` (area mean) and larger again (bilinear), as at a lower magnification."""
    height, width = tile.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    reduced = cv2.resize(tile, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def vignette(tile: Tile, percent: float) -> Tile:
    """Darken toward the corners: by `percent` there, by the square of the distance from the centre."""
    height, width = tile.shape[:2]
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
    fall: Float32[np.ndarray, "_h _w"] = 1 - np.float32(percent / 200) * (y[:, None] ** 2 + x[None, :] ** 2)
    return to_tile(tile * fall[..., None])


def _noise(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    seed = int(random.integers(2**31))
    return lambda levels: scan(tile, Scanner(noise_levels=levels), tile_id=NOISE_TILE, seed=seed, mpp=mpp)


def _cross_talk(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    drawn = random.uniform(-1, 1, (3, 3)) * (1 - np.eye(3))
    drawn /= np.abs(drawn).max()

    def mix(share: float) -> Tile:
        off = share * drawn
        colours: Matrix3 = tuple(map(tuple, (off + np.diag(1 - off.sum(axis=1))).tolist()))  # pyright: ignore[reportAssignmentType]
        return scan(tile, Scanner(colours=colours), tile_id=NOISE_TILE, mpp=mpp)

    return mix


def _virtual_scanner(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    scanner = list(SCANNERS.values())[random.integers(len(SCANNERS))]
    seed = int(random.integers(2**31))
    return lambda share: scan(tile, scanner.part(share), tile_id=NOISE_TILE, seed=seed, mpp=mpp)


BLUR = register(
    Operation(
        name="blur",
        family="acquisition",
        role="must-ignore",
        parameter="Gaussian sigma",
        unit="um",
        levels=(0.25, 0.5, 0.75, 1.0, 1.5),
        limits=(0.01, 50.0),
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
        limits=(0.1, 50.0),
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
        limits=(0.1, 100.0),
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
        limits=(0.1, 20.0),
        path=_noise,
        describes="sensor noise, mostly shot noise, one field per tile",
        misleads="the noise of a tile is drawn for each pixel: a scanner that smooths leaves blotches instead",
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
        limits=(1.0, 100.0),
        path=lambda tile, mpp, random: lambda quality: compress(tile, round(quality)),
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
        limits=(0.01, 0.99),
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
        limits=(0.1, 100.0),
        path=lambda tile, mpp, random: lambda percent: vignette(tile, percent),
        describes="darker toward the corners",
    )
)
CROSS_TALK = register(
    Operation(
        name="cross-talk",
        family="acquisition",
        role="must-ignore",
        parameter="largest share of another channel",
        unit="",
        levels=(0.03, 0.06, 0.1, 0.14, 0.2),
        limits=(0.001, 0.3),
        path=_cross_talk,
        describes="a colour matrix between the channels, drawn for the tile; empty slide keeps its colour",
        misleads="the direction is drawn for each tile, while a real scanner has one for all",
    )
)
VIRTUAL_SCANNER = register(
    Operation(
        name="virtual-scanner",
        family="acquisition",
        role="must-ignore",
        parameter="share of the way to it",
        unit="",
        levels=(0.2, 0.4, 0.6, 0.8, 1.0),
        limits=(0.01, 1.0),
        path=_virtual_scanner,
        describes="another scanner, drawn for the tile out of "
        + ", ".join(SCANNERS)
        + ": optics, colour and light, noise, tone, JPEG, in this order",
        misleads="the scanners are invented, typical ones: an encoder that ignores them may still react to "
        "yours; fit one with fit_scanner",
    )
)
ROUND_TRIP = register(
    Operation(
        name="jpeg-round-trip",
        family="acquisition",
        role="control",
        parameter="quality",
        unit="",
        levels=(100.0, 98.0, 95.0, 92.0, 90.0),
        limits=(1.0, 100.0),
        path=lambda tile, mpp, random: lambda quality: compress(tile, round(quality)),
        describes="saved as JPEG and read again at qualities that nobody looks at twice",
    )
)
PNG_ROUND_TRIP = register(
    Operation(
        name="png-round-trip",
        family="acquisition",
        role="control",
        parameter="compression effort",
        unit="variant",
        levels=(1.0, 3.0, 5.0, 7.0, 9.0),
        limits=(0.0, 9.0),
        path=lambda tile, mpp, random: lambda effort: _through_png(tile, round(effort)),
        describes="saved as PNG and read again: the same pixels",
        graded=False,
        misleads="anything but 0 is a fault of the encoder, or of its numbers",
    )
)
