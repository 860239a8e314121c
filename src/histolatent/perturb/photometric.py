"""Light and tone: the tissue stays in its place."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt8

from .._types import Tile
from ..stain import to_tile
from .operation import Operation, register

GREY = np.array([0.299, 0.587, 0.114], np.float32)
MEDMNIST = "range of MedMNIST-C (pathmnist), arXiv 2406.17536"
Table = UInt8[np.ndarray, "256"]


def brighten(tile: Tile, factor: float) -> Tile:
    """Multiply all intensities by `factor`, as a lamp turned up or down does."""
    return _by_table(tile, np.arange(256) * factor)


def change_contrast(tile: Tile, factor: float) -> Tile:
    """Spread levels about the tile's mean grey level by `factor`."""
    mean = float((tile.reshape(-1, 3).mean(axis=0) @ GREY).item())
    return _by_table(tile, mean + factor * (np.arange(256) - mean))


def bend_tone(tile: Tile, gamma: float) -> Tile:
    """Raise relative levels to the power `gamma`: below 1 is brighter. Black and white stay."""
    return _by_table(tile, 255 * (np.arange(256) / 255) ** gamma)


def saturate(tile: Tile, factor: float) -> Tile:
    """Move each pixel away from its own grey by `factor`; 0 is grey, 1 the tile. Grey level as in ITU-R BT.601."""
    grey = (tile.astype(np.float32) @ GREY)[..., None]
    return to_tile(grey + np.float32(factor) * (tile - grey))


def turn_hue(tile: Tile, degrees: float) -> Tile:
    """Turn the hue by an angle about the grey axis of RGB; greys and white stay."""
    angle = np.radians(degrees)
    axis = np.full(3, 1 / np.sqrt(3))
    across = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.cos(angle) * np.eye(3) + np.sin(angle) * across + (1 - np.cos(angle)) * np.outer(axis, axis)
    turned = cv2.transform(tile.astype(np.float32), matrix.astype(np.float32))
    return to_tile(turned)


def shift_white(tile: Tile, percent: float) -> Tile:
    """Warm (above 0) or cool the light: red gains, and blue loses, this share of its level."""
    gains = np.array([1 + percent / 100, 1.0, 1 - percent / 100], np.float32)
    return to_tile(tile * gains)


def _by_table(tile: Tile, levels: np.ndarray) -> Tile:
    table: Table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(tile, table), np.uint8)


def _either_way(change: Callable[[Tile, float], Tile]) -> Callable[..., Callable[[float], Tile]]:
    """Return a path that applies a signed change to the side drawn for the tile."""

    def path(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
        side = random.choice((-1.0, 1.0))
        return lambda size: change(tile, side * size)

    return path


BRIGHTNESS = register(
    Operation(
        name="brightness",
        family="photometric",
        role="must-ignore",
        parameter="intensity factor",
        unit="x",
        levels=(0.95, 0.9, 0.85, 0.775, 0.7),
        limits=(0.05, 0.999),
        path=lambda tile, mpp, random: lambda factor: brighten(tile, factor),
        describes="all intensities multiplied, darker and darker",
        reference=MEDMNIST,
    )
)
BRIGHTER = register(
    Operation(
        name="brighter",
        family="photometric",
        role="must-ignore",
        parameter="intensity factor",
        unit="x",
        levels=(1.05, 1.1, 1.15, 1.2, 1.25),
        limits=(1.001, 5.0),
        path=lambda tile, mpp, random: lambda factor: brighten(tile, factor),
        describes="all intensities multiplied, brighter and brighter",
        misleads="pale tissue reaches 255 and is lost: that is no longer a change of light only",
        reference=MEDMNIST,
    )
)
CONTRAST_UP = register(
    Operation(
        name="contrast-up",
        family="photometric",
        role="must-ignore",
        parameter="contrast factor",
        unit="x",
        levels=(1.1, 1.2, 1.3, 1.45, 1.6),
        limits=(1.001, 5.0),
        path=lambda tile, mpp, random: lambda factor: change_contrast(tile, factor),
        describes="levels spread about the mean grey level",
        reference=MEDMNIST,
    )
)
CONTRAST_DOWN = register(
    Operation(
        name="contrast-down",
        family="photometric",
        role="must-ignore",
        parameter="contrast factor",
        unit="x",
        levels=(0.9, 0.85, 0.75, 0.65, 0.55),
        limits=(0.05, 0.999),
        path=lambda tile, mpp, random: lambda factor: change_contrast(tile, factor),
        describes="levels drawn toward the mean grey level",
        reference=MEDMNIST,
    )
)
GAMMA = register(
    Operation(
        name="gamma",
        family="photometric",
        role="must-ignore",
        parameter="gamma",
        unit="",
        levels=(0.9, 0.8, 0.7, 0.6, 0.5),
        limits=(0.1, 0.999),
        path=lambda tile, mpp, random: lambda gamma: bend_tone(tile, gamma),
        describes="another tone curve, brighter in the middle",
    )
)
SATURATION = register(
    Operation(
        name="saturation",
        family="photometric",
        role="must-ignore",
        parameter="saturation factor",
        unit="x",
        levels=(1.05, 1.1, 1.15, 1.2, 1.25),
        limits=(1.001, 5.0),
        path=lambda tile, mpp, random: lambda factor: saturate(tile, factor),
        describes="colours further from grey",
        reference=MEDMNIST,
    )
)
GREYING = register(
    Operation(
        name="desaturation",
        family="photometric",
        role="must-ignore",
        parameter="saturation factor",
        unit="x",
        levels=(0.9, 0.75, 0.6, 0.4, 0.2),
        limits=(0.0, 0.999),
        path=lambda tile, mpp, random: lambda factor: saturate(tile, factor),
        describes="colours nearer to grey",
        misleads="the last levels are past what any scanner does; they say how much is read from colour",
    )
)
HUE = register(
    Operation(
        name="hue",
        family="photometric",
        role="must-ignore",
        parameter="turn",
        unit="degrees",
        levels=(3.0, 6.0, 10.0, 15.0, 20.0),
        limits=(0.1, 180.0),
        path=_either_way(turn_hue),
        describes="hue turned about the grey axis, to the side drawn for the tile",
    )
)
WHITE_BALANCE = register(
    Operation(
        name="white-balance",
        family="photometric",
        role="must-ignore",
        parameter="red against blue",
        unit="%",
        levels=(2.0, 4.0, 7.0, 10.0, 15.0),
        limits=(0.1, 90.0),
        path=_either_way(shift_white),
        describes="light warmer or cooler: red up and blue down, or the other way round, as drawn for the tile",
    )
)
