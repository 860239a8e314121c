"""Tiles that break stain code, and what counts as breaking. Shared by the tests and `stain.py`."""

from collections.abc import Callable
from colorsys import rgb_to_hsv
from pathlib import Path

import cv2
import numpy as np

SIDE = 64
#: Unit optical densities, so that nothing of the code under test makes its tiles.
HEMATOXYLIN, EOSIN = (0.563, 0.720, 0.406), (0.216, 0.801, 0.558)
GREEN_PEN = (20, 140, 90)
WHITE = 243.0
FARTHEST_HUE = 40.0
MOST_TINT = 2.0
#: Empty slide is at least so bright in every channel, and so nearly neutral.
BRIGHT, NEUTRAL = 220, 12
#: A smaller share of a tile is bubbles and glare, not empty slide.
LEAST_BACKGROUND = 0.001
#: An optical density of 0.15 at the usual I0 of 240.
STAINED_LEVEL = 206.6
#: A mean colour whose channels are within this many levels has no hue to turn; grey must not come out beyond the other.
GREY_RANGE, COLOURED_RANGE = 10.0, 30.0


def synthetic(seed: int = 0) -> dict[str, np.ndarray]:
    """Return the eleven tiles by name."""
    rng = np.random.default_rng(seed)
    white = np.full((SIDE, SIDE, 3), int(WHITE), np.uint8)
    both = stained(rng.gamma(2.0, 0.35, (SIDE, SIDE)), rng.gamma(2.0, 0.25, (SIDE, SIDE)), rng)
    little, five = white.copy(), white.copy()
    little[10:19, 20:29] = both[10:19, 20:29]  # 2 % of the tile
    five[31, 20:25] = both[31, 20:25]
    pen, pen_on_tissue = white.copy(), both.copy()
    for tile in (pen, pen_on_tissue):
        cv2.line(tile, (5, 60), (60, 12), GREEN_PEN, 7)
    none = np.zeros((SIDE, SIDE))
    return {
        "white": white,
        "near-white noise": rng.integers(235, 251, (SIDE, SIDE, 3), dtype=np.uint8),
        "black": np.zeros((SIDE, SIDE, 3), np.uint8),
        "grey": np.full((SIDE, SIDE, 3), 128, np.uint8),
        "hematoxylin only": stained(rng.gamma(2.0, 0.4, (SIDE, SIDE)), none, rng),
        "eosin only": stained(none, rng.gamma(3.0, 0.25, (SIDE, SIDE)), rng),
        "2 % tissue": little,
        "5 tissue pixels": five,
        "1 pixel": both[:1, :1].copy(),
        "green pen": pen,
        "pen on tissue": pen_on_tissue,
    }


def stained(hematoxylin: np.ndarray, eosin: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a tile of these amounts per pixel, with a little noise of a sensor."""
    density = hematoxylin[..., None] * np.array(HEMATOXYLIN) + eosin[..., None] * np.array(EOSIN)
    light = WHITE * np.exp(-density) + rng.normal(0, 0.8, density.shape)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def real(folder: Path) -> dict[str, np.ndarray]:
    """Return the edge tiles of `HISTOLATENT_DATA` by file name."""
    found = {path.stem: cv2.imread(str(path), cv2.IMREAD_COLOR) for path in sorted(folder.glob("*.png"))}
    return {name: np.ascontiguousarray(tile[..., ::-1]) for name, tile in found.items() if tile is not None}


def failure(before: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> str:
    """Return what goes wrong when a tile is normalised, or an empty string.

    - an exception;
    - a tinted background: bright neutral pixels (all channels at least 220, within 12 levels) change by more than 2
      levels per channel on average;
    - a hue flip: the mean colour of the tissue turns by more than 40 degrees;
    - grey made coloured, or tissue made four times as dark.
    """
    try:
        after = make(before.copy())
    except Exception as error:  # noqa: BLE001 - a peer may raise anything, and that is the finding
        return f"{type(error).__name__}"
    if after.shape != before.shape or after.dtype != np.uint8:
        return "another shape or type"
    tinted = tint(before, after)
    if tinted > MOST_TINT:
        return f"tinted background, {tinted:.0f} levels"
    tissue = find_tissue(before)
    if not tissue.any():
        return ""
    old, new = before[tissue].mean(axis=0), after[tissue].mean(axis=0)
    if np.ptp(old) < GREY_RANGE:
        return "grey made coloured" if np.ptp(new) > COLOURED_RANGE else ""
    if turn(old, new) > FARTHEST_HUE:
        return "hue flip"
    return "made black" if new.mean() < old.mean() / 4 else ""


def find_tissue(tile: np.ndarray) -> np.ndarray:
    """Return where a tile is dark (optical density from 0.15) and, as H&E is, not greener than it is magenta."""
    red, green, blue = np.moveaxis(tile.astype(float), 2, 0)
    return (0.299 * red + 0.587 * green + 0.114 * blue < STAINED_LEVEL) & (green <= (red + blue) / 2 + 5)


def tint(before: np.ndarray, after: np.ndarray) -> float:
    """Return by how many levels bright neutral pixels change on average, in the channel where it is most."""
    bright = (before.min(axis=2) >= BRIGHT) & (np.ptp(before, axis=2) <= NEUTRAL)
    if bright.mean() < LEAST_BACKGROUND:
        return 0.0
    return float(np.abs(after[bright].astype(float) - before[bright]).mean(axis=0).max())


def turn(before: np.ndarray, after: np.ndarray) -> float:
    """Return the angle in degrees between the hues of two colours."""
    first, second = (360 * rgb_to_hsv(*(float(level) for level in colour))[0] for colour in (before, after))
    return abs((second - first + 180) % 360 - 180)
