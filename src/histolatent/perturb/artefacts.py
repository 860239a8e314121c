"""What lies on a slide and is no tissue: ink, bubbles, folds, dust, holes."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32

from .._types import Tile
from ..stain import optical_density, to_tile
from .glass import slide_white
from .operation import Operation, register

INK = {"black": (0.10, 0.10, 0.12), "blue": (0.15, 0.25, 0.60), "green": (0.10, 0.55, 0.35), "red": (0.80, 0.12, 0.18)}
SMOOTH_PX = 1.0


def _stroke(tile: Tile, random: np.random.Generator) -> Float32[np.ndarray, "_h _w"]:
    """Return each pixel's distance in px from a curved line through the tile."""
    height, width = tile.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = random.uniform(0, np.pi)
    centre = random.uniform(0.3, 0.7, 2) * (width, height)
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    bow = random.uniform(-1, 1) / (2.0 * max(height, width))
    return np.abs(across - bow * along**2).astype(np.float32)


def _inside(distance: Float32[np.ndarray, "_h _w"], half_width: float) -> Float32[np.ndarray, "_h _w 1"]:
    return np.clip((half_width - distance) / SMOOTH_PX + 0.5, 0, 1)[..., None]


def _pen(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    distance = _stroke(tile, random)
    transmits = np.array(list(INK.values())[random.integers(len(INK))], np.float32)
    light = tile.astype(np.float32)
    side = min(tile.shape[:2])

    def draw(share: float) -> Tile:
        covered = _inside(distance, share * side / 2)
        return to_tile(light * (1 - covered * (1 - transmits)))

    return draw


def _fold(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    distance = _stroke(tile, random)
    white = slide_white(tile)
    density = np.maximum(optical_density(tile, white), 0)
    shifted = np.roll(density, int(random.integers(8, 24)), axis=1)
    side = min(tile.shape[:2])

    def lay(share: float) -> Tile:
        covered = _inside(distance, share * side / 2)
        return np.where(covered > 0, to_tile((white * np.exp(-(density + covered * shifted))).astype(np.float32)), tile)

    return lay


def _bubble(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    height, width = tile.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    centre = random.uniform(0.25, 0.75, 2) * (width, height)
    distance = np.hypot(x - centre[0], y - centre[1]).astype(np.float32)
    white = slide_white(tile)
    blurred = cv2.GaussianBlur(tile, (0, 0), max(2.0 / mpp, 1.0)).astype(np.float32)
    inner = np.float32(0.6) * blurred + np.float32(0.4) * white
    light = tile.astype(np.float32)
    rim_px = max(1.5 / mpp, 1.0)

    def blow(share: float) -> Tile:
        radius = share * min(height, width) / 2
        covered = _inside(distance, radius)
        rim = np.exp(-(((distance - radius) / rim_px) ** 2))[..., None]
        return to_tile((light + covered * (inner - light)) * (1 - 0.7 * rim))

    return blow


def _dust(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    height, width = tile.shape[:2]
    grain = cv2.GaussianBlur(random.standard_normal((height, width)).astype(np.float32), (0, 0), max(1.5 / mpp, 1.0))
    order = np.sort(grain.ravel())[::-1]
    light = tile.astype(np.float32)

    def settle(percent: float) -> Tile:
        bound = order[min(int(percent / 100 * order.size), order.size - 1)]
        covered = np.clip((grain - bound) / (0.2 * grain.std() + 1e-9), 0, 1)[..., None]
        return to_tile(light * (1 - 0.8 * covered))

    return settle


def _cut_out(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    height, width = tile.shape[:2]
    at = random.random(2)
    white = np.rint(slide_white(tile)).astype(np.uint8)

    def cut(share: float) -> Tile:
        rows, columns = round(height * np.sqrt(share)), round(width * np.sqrt(share))
        top, left = round(at[0] * (height - rows)), round(at[1] * (width - columns))
        holed = tile.copy()
        holed[top : top + rows, left : left + columns] = white
        return holed

    return cut


PEN = register(
    Operation(
        name="pen",
        family="artefact",
        role="must-ignore",
        parameter="width over tile side",
        unit="",
        levels=(0.03, 0.06, 0.12, 0.2, 0.3),
        limits=(0.005, 1.0),
        path=_pen,
        describes="a stroke of black, blue, green or red ink, as drawn for the tile",
        misleads="tissue under the ink is hard to see: an encoder that reacts to a wide stroke is not wrong",
    )
)
FOLD = register(
    Operation(
        name="fold",
        family="artefact",
        role="must-ignore",
        parameter="width over tile side",
        unit="",
        levels=(0.03, 0.06, 0.12, 0.2, 0.3),
        limits=(0.005, 1.0),
        path=_fold,
        describes="a strip in which the tissue lies twice: densities add",
    )
)
BUBBLE = register(
    Operation(
        name="bubble",
        family="artefact",
        role="must-ignore",
        parameter="diameter over tile side",
        unit="",
        levels=(0.1, 0.2, 0.35, 0.5, 0.7),
        limits=(0.01, 2.0),
        path=_bubble,
        describes="an air bubble: pale and out of focus inside, with a dark rim",
        misleads="what lies in a large bubble cannot be seen: reacting to it is not wrong",
    )
)
DUST = register(
    Operation(
        name="dust",
        family="artefact",
        role="must-ignore",
        parameter="covered area",
        unit="%",
        levels=(0.25, 0.5, 1.0, 2.0, 4.0),
        limits=(0.01, 50.0),
        path=_dust,
        describes="dark specks",
        misleads="specks are as large as nuclei and may be taken for them",
    )
)
CUT_OUT = register(
    Operation(
        name="cut-out",
        family="artefact",
        role="must-ignore",
        parameter="share of the tile",
        unit="",
        levels=(0.02, 0.05, 0.1, 0.2, 0.3),
        limits=(0.001, 0.95),
        path=_cut_out,
        describes="a rectangle filled with the slide's white",
        misleads="tissue is missing: a large hole changes what there is to see",
    )
)
