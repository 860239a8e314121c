"""Light, optics, compression and stain: the tissue stays in its place."""

from collections.abc import Callable

import cv2
import numpy as np

from .._types import Tile
from ..stain import add_stain, concentrations, optical_density, white_level
from .operation import Operation, register


def brighten(tile: Tile, factor: float) -> Tile:
    """Multiply all intensities by `factor`, as a lamp turned up or down does."""
    table = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)
    return table[tile]


def blur(tile: Tile, sigma_um: float, mpp: float) -> Tile:
    """Blur with a Gaussian of `sigma_um`; the border is mirrored."""
    return np.asarray(cv2.GaussianBlur(tile, (0, 0), sigma_um / mpp, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def compress(tile: Tile, quality: int) -> Tile:
    """Encode as JPEG with 4:2:0 chroma at `quality` and decode again."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), options)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(np.asarray(decoded), cv2.COLOR_BGR2RGB), np.uint8)


def stain_gain(tile: Tile, stain: int) -> Callable[[float], Tile]:
    """Return the tile as a function of the factor on one stain (0 hematoxylin, 1 eosin); the rest stays exact.

    Separation is by the fixed Ruifrok-Johnston vectors. Negative amounts are left alone, so the background keeps.
    """
    amount = np.maximum(concentrations(optical_density(tile, white_level(tile)))[..., stain], 0)
    return lambda factor: add_stain(tile, (factor - 1.0) * amount, stain)


BRIGHTNESS = register(
    Operation(
        name="brightness",
        family="photometric",
        role="must-ignore",
        parameter="intensity factor",
        unit="x",
        levels=(0.95, 0.9, 0.85, 0.775, 0.7),
        path=lambda tile, mpp, random: lambda factor: brighten(tile, factor),
        describes="all intensities multiplied, darker and darker",
        reference="range of MedMNIST-C (pathmnist), arXiv 2406.17536",
    )
)
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
STAIN_GAINS = (1.1, 1.25, 1.5, 1.75, 2.0)
HEMATOXYLIN_GAIN = register(
    Operation(
        name="hematoxylin-gain",
        family="stain",
        role="must-ignore",
        parameter="hematoxylin factor",
        unit="x",
        levels=STAIN_GAINS,
        path=lambda tile, mpp, random: stain_gain(tile, 0),
        describes="stained longer in hematoxylin",
        misleads="separated by fixed stain vectors: on slides far from them some eosin moves along",
    )
)
EOSIN_GAIN = register(
    Operation(
        name="eosin-gain",
        family="stain",
        role="must-ignore",
        parameter="eosin factor",
        unit="x",
        levels=STAIN_GAINS,
        path=lambda tile, mpp, random: stain_gain(tile, 1),
        describes="stained longer in eosin",
        misleads="separated by fixed stain vectors: on slides far from them some hematoxylin moves along",
    )
)
