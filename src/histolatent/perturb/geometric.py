"""Moving the pixels: what lies in the tile stays the same tissue."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32

from .._types import Tile
from .operation import Operation, register
from .warp import about_centre, warp_affine, white_of

FLIPS = ("left-right", "up-down", "diagonal", "other diagonal", "half turn")
QUARTERS = ("90 degrees", "180 degrees", "270 degrees", "90 degrees and mirrored", "270 degrees and mirrored")
ELASTIC_UM = 12.0
PAD = 3


def rotate(tile: Tile, degrees: float) -> Tile:
    """Rotate about the centre, bicubic; uncovered corners are filled with the white of the tile, never black."""
    angle = np.radians(degrees)
    return warp_affine(
        tile, about_centre(tile, np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]))
    )


def _rotation(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    side = random.choice((-1.0, 1.0))
    return lambda degrees: rotate(tile, side * degrees)


def _there_and_back(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    side = random.choice((-1.0, 1.0))
    return lambda degrees: rotate(rotate(tile, side * degrees), -side * degrees)


def _square(tile: Tile, turn: Callable[[Tile], Tile]) -> Tile:
    """Apply what needs a square tile to the largest centred square; the rest stays."""
    height, width = tile.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    turned = tile.copy()
    turned[top : top + side, left : left + side] = turn(tile[top : top + side, left : left + side])
    return turned


def flip(tile: Tile, which: int) -> Tile:
    """Mirror the tile: 1 left-right, 2 up-down, 3 and 4 about the diagonals, 5 both (a half turn). Pixels are exact.

    The mirrors about the diagonals need a square tile; of another, they mirror the largest centred square.
    """
    if which == 3:
        return _square(tile, lambda square: square.transpose(1, 0, 2))
    if which == 4:
        return _square(tile, lambda square: square[::-1, ::-1].transpose(1, 0, 2))
    ways = {1: tile[:, ::-1], 2: tile[::-1], 5: tile[::-1, ::-1]}
    return np.ascontiguousarray(ways[which])


def quarter_turn(tile: Tile, which: int) -> Tile:
    """Turn by right angles, exactly: 1 to 3 by 90, 180, 270 degrees, 4 and 5 by 90 and 270 of the mirrored tile.

    Of a tile that is not square, the largest centred square is turned.
    """
    turns = {1: 1, 2: 2, 3: 3, 4: 1, 5: 3}[which]
    return _square(tile, lambda square: np.rot90(square[:, ::-1] if which > 3 else square, turns))


def translate(tile: Tile, right_px: int, down_px: int) -> Tile:
    """Shift by whole pixels; what comes in is white, as at the edge of a scan. Nothing is interpolated."""
    height, width = tile.shape[:2]
    moved = np.empty_like(tile)
    moved[:] = np.rint(white_of(tile)).astype(np.uint8)
    right_px, down_px = (int(np.clip(shift, -side, side)) for shift, side in ((right_px, width), (down_px, height)))
    here = tile[max(-down_px, 0) : height - max(down_px, 0), max(-right_px, 0) : width - max(right_px, 0)]
    moved[max(down_px, 0) : height + min(down_px, 0), max(right_px, 0) : width + min(right_px, 0)] = here
    return moved


def _translation(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    angle = random.uniform(0, 2 * np.pi)
    return lambda um: translate(tile, round(um / mpp * np.cos(angle)), round(um / mpp * np.sin(angle)))


def magnify(tile: Tile, factor: float) -> Tile:
    """Show the tile larger or smaller by a factor about its centre, bicubic, at its size: a wrong um per pixel.

    Below 1 it is first averaged over the area that a new pixel covers, and the border is filled with the tile's white.
    """
    if factor < 1:
        height, width = tile.shape[:2]
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        shown = np.empty_like(tile)
        shown[:] = np.rint(white_of(tile)).astype(np.uint8)
        top, left = (height - small[1]) // 2, (width - small[0]) // 2
        shown[top : top + small[1], left : left + small[0]] = cv2.resize(tile, small, interpolation=cv2.INTER_AREA)
        return shown
    return warp_affine(tile, about_centre(tile, np.eye(2) * factor))


def shear(tile: Tile, degrees: float) -> Tile:
    """Shear along the rows about the centre, bicubic; uncovered corners are filled with the white of the tile."""
    return warp_affine(tile, about_centre(tile, np.array([[1.0, np.tan(np.radians(degrees))], [0.0, 1.0]])))


def _shear(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    side = random.choice((-1.0, 1.0))
    return lambda degrees: shear(tile, side * degrees)


def _elastic(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    height, width = tile.shape[:2]
    sigma = ELASTIC_UM / mpp
    field = random.standard_normal((2, height, width)).astype(np.float32)
    smooth = [cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101) for plane in field]
    size = float(np.sqrt(np.mean(np.square(smooth)) * 2)) or 1.0
    # OpenCV never ends where it has to mirror an image of one pixel: what the kernel reaches is mirrored here.
    wider = np.pad(tile, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="reflect")
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))

    def bend(um: float) -> Tile:
        scale = np.float32(um / mpp / size)
        across, down = _mirrored(x + scale * smooth[0], width), _mirrored(y + scale * smooth[1], height)
        return np.asarray(cv2.remap(wider, across + PAD, down + PAD, cv2.INTER_CUBIC), np.uint8)

    return bend


def _mirrored(place: Float32[np.ndarray, "_h _w"], side: int) -> Float32[np.ndarray, "_h _w"]:
    """Return coordinates mirrored about the outermost pixels until they lie within 0 to side - 1."""
    last = max(side - 1, 0)
    if not last:
        return np.zeros_like(place)
    return last - np.abs(last - np.mod(place, np.float32(2 * last)))


def resample(tile: Tile, pixels: float) -> Tile:
    """Shift by a part of a pixel and back, bicubic, and mirror at the border: interpolation and nothing else."""
    for shift in (pixels, -pixels):
        wider = np.pad(tile, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="reflect")
        matrix = np.array([[1.0, 0.0, shift], [0.0, 1.0, shift]])
        moved = np.asarray(cv2.warpAffine(wider, matrix, wider.shape[1::-1], flags=cv2.INTER_CUBIC), np.uint8)
        tile = np.ascontiguousarray(moved[PAD:-PAD, PAD:-PAD])
    return tile


ROTATION = register(
    Operation(
        name="rotation",
        family="geometric",
        role="must-ignore",
        parameter="angle",
        unit="degrees",
        levels=(5.0, 10.0, 20.0, 30.0, 45.0),
        limits=(0.1, 180.0),
        path=_rotation,
        describes="free rotation to either side, corners filled with white",
        misleads="interpolation and the white corners move the embedding too: read it against rotation-there-and-back",
        control="rotation-there-and-back",
    )
)
THERE_AND_BACK = register(
    Operation(
        name="rotation-there-and-back",
        family="geometric",
        role="control",
        parameter="angle",
        unit="degrees",
        levels=ROTATION.levels,
        limits=(0.1, 180.0),
        path=_there_and_back,
        describes="rotated and rotated back: interpolation and white corners without any turn",
    )
)
FLIP = register(
    Operation(
        name="flip",
        family="geometric",
        role="must-ignore",
        parameter="mirror",
        unit="variant",
        levels=(1.0, 2.0, 3.0, 4.0, 5.0),
        limits=(1.0, 5.0),
        path=lambda tile, mpp, random: lambda which: flip(tile, int(which)),
        describes="mirrored: " + ", ".join(FLIPS),
        graded=False,
        misleads="the five levels are five mirrors, not more and more of one",
    )
)
QUARTER_TURN = register(
    Operation(
        name="quarter-turn",
        family="geometric",
        role="must-ignore",
        parameter="turn",
        unit="variant",
        levels=(1.0, 2.0, 3.0, 4.0, 5.0),
        limits=(1.0, 5.0),
        path=lambda tile, mpp, random: lambda which: quarter_turn(tile, int(which)),
        describes="turned without interpolation: " + ", ".join(QUARTERS),
        graded=False,
        misleads="the five levels are five turns; an encoder trained with right angles only looks invariant here "
        "and not under rotation",
    )
)
TRANSLATION = register(
    Operation(
        name="translation",
        family="geometric",
        role="must-ignore",
        parameter="shift",
        unit="um",
        levels=(2.0, 4.0, 8.0, 12.0, 16.0),
        limits=(0.1, 1000.0),
        path=_translation,
        describes="shifted by whole pixels in a direction drawn for the tile, white coming in",
        misleads="some tissue leaves and white comes in: part of the move is a change of content",
    )
)
SCALE = register(
    Operation(
        name="scale",
        family="geometric",
        role="must-ignore",
        parameter="magnification",
        unit="x",
        levels=(1.05, 1.1, 1.2, 1.35, 1.5),
        limits=(1.001, 10.0),
        path=lambda tile, mpp, random: lambda factor: magnify(tile, factor),
        describes="shown larger, as by a wrong um per pixel",
        misleads="nuclei of another size may be read as another grade, and rightly so; the border leaves the tile",
        control="resampling",
    )
)
SCALE_DOWN = register(
    Operation(
        name="scale-down",
        family="geometric",
        role="must-ignore",
        parameter="magnification",
        unit="x",
        levels=(0.95, 0.9, 0.8, 0.7, 0.6),
        limits=(0.05, 0.999),
        path=lambda tile, mpp, random: lambda factor: magnify(tile, factor),
        describes="shown smaller, as by a wrong um per pixel, with white around",
        misleads="the white border is a cue of its own; nuclei of another size may be read as another grade",
    )
)
SHEAR = register(
    Operation(
        name="shear",
        family="geometric",
        role="must-ignore",
        parameter="angle",
        unit="degrees",
        levels=(2.0, 4.0, 8.0, 12.0, 16.0),
        limits=(0.1, 60.0),
        path=_shear,
        describes="sheared along the rows to either side, corners filled with white",
        misleads="round nuclei become oval: beyond some 10 degrees that is a change of shape",
        control="resampling",
    )
)
ELASTIC = register(
    Operation(
        name="elastic",
        family="geometric",
        role="must-ignore",
        parameter="root mean square shift",
        unit="um",
        levels=(0.5, 1.0, 2.0, 3.0, 4.0),
        limits=(0.01, 50.0),
        path=_elastic,
        describes=f"bent as a section bends, over {ELASTIC_UM:g} um, mirrored at the border",
        misleads="from about 3 um on, nuclei change their shape",
        control="resampling",
    )
)
RESAMPLING = register(
    Operation(
        name="resampling",
        family="geometric",
        role="control",
        parameter="shift",
        unit="px",
        levels=(0.1, 0.2, 0.3, 0.4, 0.5),
        limits=(0.01, 0.5),
        path=lambda tile, mpp, random: lambda pixels: resample(tile, pixels),
        describes="shifted by part of a pixel and back: interpolation without any change of geometry",
    )
)
NO_OP = register(
    Operation(
        name="no-op",
        family="geometric",
        role="control",
        parameter="copy",
        unit="variant",
        levels=(1.0, 2.0, 3.0, 4.0, 5.0),
        limits=(1.0, 5.0),
        path=lambda tile, mpp, random: lambda which: tile.copy(),
        describes="the same pixels, five times through the whole pipeline",
        graded=False,
        misleads="anything but 0 is a fault of the encoder or of its numbers: it depends on its batch, or on luck",
    )
)
