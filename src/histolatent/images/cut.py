"""Larger images and whole slides as tiles: a grid of squares without overlap."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from PIL import Image

from .._types import Tile
from ..errors import InputError, OptionError
from .columns import check_table, known_mpp
from .files import FileTiles
from .formats import MAX_SIDE_PX, MIN_SIDE_PX, TileWarning, decode
from .slides import find_tissue, find_tissue_in, is_slide, open_slide, slide_mpp
from .squares import CutReader

#: How far the resolution of a file may be from the one that is asked for without being changed.
NEAR = 0.02
#: Least share of tissue in a square of a slide, if nothing is said.
SLIDE_TISSUE = 0.25
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Cut:
    """How files are cut: squares of `tile_px`, at `mpp` um per pixel if given, else as the file has them.

    Those squares are taken of which at least the share `tissue` is stained. By default that is a quarter of a slide's,
    most of which is glass, and all of an image's, which somebody chose.
    """

    tile_px: int
    mpp: float | None = None
    tissue: float | None = None

    def __post_init__(self) -> None:
        """Raise OptionError where a number is out of its range."""
        if not MIN_SIDE_PX <= self.tile_px <= MAX_SIDE_PX:
            raise OptionError(
                "tiles of this size are not cut", received=self.tile_px, valid=f"{MIN_SIDE_PX} to {MAX_SIDE_PX} px"
            )
        if self.mpp is not None and not 0 < self.mpp < np.inf:
            raise OptionError("um per pixel must be above 0", received=self.mpp)
        if self.tissue is not None and not 0 <= self.tissue <= 1:
            raise OptionError("a share of tissue lies in 0 to 1", received=self.tissue)

    def least_tissue(self, slide: bool) -> float:
        """Return the share of a square that has to be stained, of a slide or of an image."""
        if self.tissue is None:
            return SLIDE_TISSUE if slide else 0.0
        return self.tissue


@dataclass(frozen=True, eq=False)
class CutTiles:
    """Tiles that were cut from the files of `whole`."""

    name: str
    reader: CutReader
    table: pd.DataFrame
    whole: FileTiles

    def read(self, index: int) -> Tile:
        """Return tile `index`."""
        return self.reader.read(index)


def cut_tiles(whole: FileTiles, cut: Cut, *, progress: Callable[[int, int], None] | None = None) -> CutTiles:
    """Cut every file into a grid from its upper left corner; what is left at the right and below is dropped.

    A tile is called after its file and its place, `NAME_x512_y256`, in pixels of level 0. It has the row of its file,
    with `x` and `y` moved by its place, `mpp`, and `slide`: the file, where no slide is named. `progress` is told of
    files.

    Raises
    ------
    InputError
        If a file is coarser than the resolution that is asked for, or does not tell its own; or nothing is left.
    """
    files = whole.reader.files
    names = [str(name) for name in whole.table.index]
    slides = tuple(is_slide(file) for file in files)
    grids = []
    for owner, (file, slide) in enumerate(zip(files, slides, strict=True)):
        grids.append(_lay_grid(file, slide, names[owner], known_mpp(whole.table, owner), cut))
        if progress is not None:
            progress(owner + 1, len(files))
    bare = [name for name, grid in zip(names, grids, strict=True) if not grid.places]
    said = f"{', '.join(bare[:3])}{', ...' if len(bare) > 3 else ''}"
    if len(bare) == len(files):
        raise InputError(
            f"no tile of {cut.tile_px} px could be cut from {whole.name}",
            received=said,
            fix="a smaller --tile-px, a finer --tile-mpp, or less --tissue",
        )
    if bare:
        warnings.warn(
            TileWarning(f"{len(bare)} of {len(files)} files give no tile of {cut.tile_px} px: {said}"), stacklevel=2
        )
    counts = [len(grid.places) for grid in grids]
    owners = np.repeat(np.arange(len(files)), counts)
    places = np.array([place for grid in grids for place in grid.places])
    sides = np.repeat([grid.side for grid in grids], counts)
    scales = np.repeat([np.nan if grid.mpp is None else grid.mpp for grid in grids], counts)
    table = _table(whole, owners, places, scales)
    return CutTiles(whole.name, CutReader(files, slides, owners, places, sides, cut.tile_px), table, whole)


@dataclass(frozen=True)
class _Grid:
    """The places of the tiles of a file, the side of each at level 0, and their um per pixel."""

    places: list[tuple[int, int]]
    side: float
    mpp: float | None


def _lay_grid(file: str, slide: bool, name: str, known: float | None, cut: Cut) -> _Grid:
    size, own = _slide_size(file, known) if slide else (_image_size(file), known)
    if size is None:  # damaged: one tile stands for it, which says so when it is read, where --on-error is heeded
        return _Grid([(0, 0)], 0.0, own)
    scale = _scale(name, own, cut)
    side = cut.tile_px * scale
    places = [
        (round(column * side), round(row * side))
        for row in range(int((size[1] + 0.5) // side))
        for column in range(int((size[0] + 0.5) // side))
    ]
    least = cut.least_tissue(slide)
    if least > 0 and places:
        try:
            stained, step = find_tissue(file, own) if slide else find_tissue_in(decode(file), own)
            places = _with_tissue(stained, step, places, side, least)
        except InputError:  # it opens, and its pixels cannot be read
            return _Grid([(0, 0)], 0.0, own)
    return _Grid(places, side, None if own is None else own * scale)


def _scale(name: str, own: float | None, cut: Cut) -> float:
    if cut.mpp is None:
        return 1.0
    if own is None:
        raise InputError(
            "um per pixel is not known, so tiles cannot be cut at another",
            received=name,
            fix="give a column 'mpp' in a manifest, or leave --tile-mpp out",
        )
    scale = cut.mpp / own
    if abs(scale - 1) <= NEAR:
        return 1.0
    if scale < 1:
        raise InputError(
            f"{cut.mpp:g} um per pixel is finer than the file has",
            received=f"{name}: {own:g} um/px",
            fix=f"--tile-mpp {own:g}, or coarser",
        )
    return scale


def _with_tissue(
    stained: Bool[np.ndarray, "_h _w"], step: float, places: Sequence[tuple[int, int]], side: float, least: float
) -> list[tuple[int, int]]:
    summed = np.asarray(cv2.integral(stained.astype(np.uint8)))
    height, width = stained.shape
    kept = []
    for x, y in places:
        left, top = (min(int(start / step), end - 1) for start, end in ((x, width), (y, height)))
        right, low = (
            min(max(round((start + side) / step), first + 1), end)
            for start, first, end in ((x, left, width), (y, top, height))
        )
        inside = summed[low, right] - summed[top, right] - summed[low, left] + summed[top, left]
        if inside >= least * (right - left) * (low - top):
            kept.append((x, y))
    return kept


def _slide_size(file: str, known: float | None) -> tuple[tuple[int, int] | None, float | None]:
    try:
        slide = open_slide(file)
    except InputError:
        return None, known
    return slide.dimensions, known or slide_mpp(slide)


def _image_size(file: str) -> tuple[int, int] | None:
    """Return width and height as the image is shown, from its header; None where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                turned = image.getexif().get(_ORIENTATION) in _TURNED
                return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _table(
    whole: FileTiles, owners: Int[np.ndarray, " n"], places: Int[np.ndarray, "n 2"], scales: Float[np.ndarray, " n"]
) -> pd.DataFrame:
    names = [str(name) for name in whole.table.index]
    stems = [str(PurePosixPath(name).with_suffix("")) if Path(name).suffix else name for name in names]
    called = stems if len(set(stems)) == len(stems) else names
    table = pd.DataFrame(whole.table.iloc[owners])
    table.index = pd.Index(
        [f"{called[owner]}_x{x}_y{y}" for owner, (x, y) in zip(owners, places, strict=True)], name="tile"
    )
    for axis, moved in zip("xy", places.T, strict=True):
        table[axis] = moved + (table[axis].fillna(0).to_numpy() if axis in table else 0)
    of_file = pd.Series([names[owner] for owner in owners], index=table.index, dtype=object)
    table["slide"] = table["slide"].fillna(of_file) if "slide" in table else of_file
    if np.isfinite(scales).any():
        table["mpp"] = scales
    return check_table(table, origin=whole.name)
