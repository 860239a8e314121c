"""Whole slides: what they are, where their tissue lies, and a square of them at a given size."""

import contextlib
import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from .._types import Tile
from ..errors import InputError, MissingExtraError, require
from .formats import IF_MISSING

#: Endings of slides that are nothing else. A `.tif` may be a slide too: that is asked of the file.
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
MAYBE_SLIDES = (".tif", ".tiff")
#: Tissue is looked for in a picture of about so many um per pixel, or of at most so many pixels a side.
MASK_MPP, MASK_SIDE_PX = 8.0, 4096
#: How coloured (of 255, in HSV) a pixel of that picture has to be, and how dark a black one is.
LEAST_SATURATION, BLACK = 15, 25
OPEN_SLIDES = 8


def is_slide(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is to be read as a slide."""
    suffix = Path(path).suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return True
    if suffix not in MAYBE_SLIDES or not Path(path).is_file():
        return False
    try:
        openslide = require("openslide", "slides")
    except MissingExtraError:
        return False
    return openslide.OpenSlide.detect_format(os.fspath(path)) is not None


@lru_cache(maxsize=OPEN_SLIDES)
def open_slide(path: str) -> Any:
    """Return the slide, by OpenSlide or, where that cannot, by TiffSlide. It stays open in this process.

    Raises
    ------
    InputError
        If neither can read it.
    MissingExtraError
        The extra `slides` is not installed.
    """
    openslide = require("openslide", "slides")
    if not Path(path).exists():
        raise InputError("slide not found", received=path, fix=IF_MISSING)
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        logging.getLogger("tifffile").addFilter(_silent)
        try:
            return _by_tiffslide(path)
        except Exception as other:  # noqa: BLE001 - whatever its reader of TIFF stumbles over
            said = "; ".join(dict.fromkeys(str(one).strip() or type(one).__name__ for one in (error, other)))
            raise InputError(f"the slide cannot be read ({said})", received=path) from None
        finally:
            logging.getLogger("tifffile").removeFilter(_silent)


def _by_tiffslide(path: str) -> Any:
    with contextlib.ExitStack() as closing:
        file = closing.enter_context(require("tifffile", "slides").TiffFile(path))
        slide = require("tiffslide", "slides").TiffSlide(file)
        _ = slide.dimensions, slide.level_downsamples  # which it looks up only now, and may stumble over
        closing.pop_all()  # it is read from later
    return slide


def _silent(record: logging.LogRecord) -> bool:
    """Keep what a reader says of a damaged file beside its error: the error is what counts."""
    return False


@contextlib.contextmanager
def _reading(path: str, where: str = "") -> Iterator[None]:
    """Turn what a slide's library raises into an InputError, and forget the slide: one that failed once ever fails."""
    try:
        yield
    except Exception as error:
        open_slide.cache_clear()
        if isinstance(error, MemoryError):
            raise
        raise InputError(f"the slide cannot be read{where} ({str(error).strip()})", received=path) from None


def slide_mpp(slide: Any) -> float | None:
    """Return the um per pixel of level 0, None where the slide does not say."""
    for maker in ("openslide", "tiffslide"):
        sides = [slide.properties.get(f"{maker}.mpp-{axis}") for axis in "xy"]
        try:
            found = [float(side) for side in sides if side is not None]
        except ValueError:
            continue
        if found and min(found) > 0 and np.isfinite(found).all():
            return float(np.mean(found))
    return None


def read_square(path: str, x: int, y: int, side: float, tile_px: int) -> Tile:
    """Return the square of `side` pixels of level 0 at `x`, `y`, as `tile_px` pixels.

    It is read from the coarsest level that is fine enough, and averaged down from there. What lies outside the scan is
    white.

    Raises
    ------
    InputError
        If the slide cannot be read there.
    """
    slide = open_slide(path)
    scale = side / tile_px
    level = slide.get_best_level_for_downsample(scale * 1.001)
    wide = max(1, round(side / slide.level_downsamples[level]))
    with _reading(path, f" at {x}, {y}"):
        pixels = _on_white(np.asarray(slide.read_region((x, y), level, (wide, wide))))
    if wide == tile_px:
        return pixels
    shrunk = cv2.INTER_AREA if wide > tile_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (tile_px, tile_px), interpolation=shrunk), np.uint8)


def read_damaged(path: str) -> Tile:
    """Raise InputError: the slide could not be looked at when tiles were laid out. The message says why."""
    find_tissue(path, None)
    raise InputError("the slide could not be read when tiles were laid out", received=path, fix="run it again")


def find_tissue(path: str, mpp: float | None) -> tuple[Bool[np.ndarray, "_h _w"], float]:
    """Return where a slide is stained, seen small, and how many pixels of level 0 a pixel of that is wide."""
    slide = open_slide(path)
    scale = _mask_scale(slide.dimensions, mpp)
    level = slide.get_best_level_for_downsample(scale * 1.001)
    size = tuple(slide.level_dimensions[level])
    with _reading(path):
        small = _read_small(slide, level, size, scale)
    return _stained(small), slide.dimensions[0] / small.shape[1]


def find_tissue_in(image: Tile, mpp: float | None) -> tuple[Bool[np.ndarray, "_h _w"], float]:
    """Return where an image is stained, as `find_tissue` does of a slide."""
    height, width = image.shape[:2]
    scale = _mask_scale((width, height), mpp)
    size = tuple(max(1, round(side / scale)) for side in (width, height))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return _stained(small), width / small.shape[1]


def _mask_scale(size: tuple[int, int], mpp: float | None) -> float:
    return max(1.0 if mpp is None else MASK_MPP / mpp, max(size) / MASK_SIDE_PX, 1.0)


def _stained(small: Tile) -> Bool[np.ndarray, "_h _w"]:
    """Return what is coloured after a median of 5 px, and not black. Pen is coloured too."""
    small = np.asarray(cv2.medianBlur(small, 5))
    low, high = small.min(axis=2).astype(np.int32), small.max(axis=2).astype(np.int32)
    saturation = 255 * (high - low) / np.maximum(high, 1)
    return (saturation >= LEAST_SATURATION) & (high >= BLACK)


def _read_small(slide: Any, level: int, size: tuple[int, int], scale: float) -> Tile:
    """Return the whole slide, shrunk, read in bands: one level may be far larger than the picture."""
    width, height = (max(1, round(side / scale)) for side in slide.dimensions)
    factor = slide.level_downsamples[level]
    bands = []
    step = max(1, (1 << 24) // max(size[0], 1))
    for top in range(0, size[1], step):
        tall = min(step, size[1] - top)
        band = _on_white(np.asarray(slide.read_region((0, int(top * factor)), level, (size[0], tall))))
        rows = max(1, round((top + tall) * height / size[1]) - round(top * height / size[1]))
        bands.append(cv2.resize(band, (width, rows), interpolation=cv2.INTER_AREA))
    return np.asarray(np.concatenate(bands), np.uint8)


def _on_white(pixels: np.ndarray) -> Tile:
    """Return RGB of RGBA; what is transparent was not scanned, and is white."""
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(colour)
    share = alpha.astype(np.float32) / 255
    return np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)
