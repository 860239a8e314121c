"""One tile and its fit, for a look at it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .._types import Tile
from ..errors import InputError, OptionError, unknown
from ..images import TileSource, decode, input_files, open_tiles
from ..images.formats import SUFFIXES
from ..images.slides import is_slide
from ..stain import Fit, StainBook
from .fitter import Fitter


@dataclass(frozen=True, eq=False)
class OneTile:
    """A tile, what it is called, the slide that its table names, if any, and the files that its source reads."""

    pixels: Tile
    name: str
    slide: str | None = None
    files: tuple[str, ...] = ()


def find_tile(
    src: str | os.PathLike[str] | TileSource,
    tile: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    allow_outside: bool = False,
) -> OneTile:
    """Return an image file, or the tile of a source that is called `tile`. The rest as in `open_tiles`.

    Raises
    ------
    OptionError
        If a source is given without a tile, or it has no such tile.
    InputError
        If it cannot be read.
    """
    if isinstance(src, str | os.PathLike):
        path = Path(src)
        if is_slide(path) and path.is_file():
            raise InputError("a slide is not a tile", received=path, fix="save a part of it as a PNG, and name that")
        if path.suffix.lower() in SUFFIXES and not path.is_dir():
            if tile is not None:
                raise OptionError("an image file is one tile", received=f"--tile {tile}", fix="drop --tile")
            return OneTile(decode(path), path.name, files=(str(path),))
        if path.is_file() and not path.suffix:
            raise InputError("not an image, and not a set of tiles", received=path, valid=", ".join(SUFFIXES))
    source = open_tiles(src, columns=columns, allow_outside=allow_outside)
    ids = [str(name) for name in source.table.index]
    if tile is None:
        raise OptionError(
            f"{source.name} holds {len(ids)} tiles", received="no --tile", fix=f"--tile {ids[0]!r}, for the first"
        )
    if tile not in ids:
        error = unknown(f"tile of {source.name}", tile, ids if len(ids) <= 10_000 else ids[:10_000])
        raise OptionError(error.what, valid=f"{len(ids)} ids, such as {', '.join(ids[:3])}", fix=error.fix)
    row = ids.index(tile)
    slide = _text(source.table["slide"].tolist()[row]) if "slide" in source.table else None
    return OneTile(source.read(row), tile, slide, input_files(source))


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def fit_of(tile: OneTile, fitter: Fitter, book: StainBook | None = None, slide: str | None = None) -> tuple[Fit, str]:
    """Return the fit to look at a tile with, and in words whose it is.

    That of `slide` in the book, or of the slide that the tile's table names; the one over all tiles of a book without
    slides; without a book, a fit of the tile by itself.

    Raises
    ------
    OptionError
        If the book has no such slide, or has slides and none is named.
    """
    if book is None:
        if slide is not None:
            raise OptionError("a slide is one of a stain file", received=f"--slide {slide}", fix="give --stain too")
        return fitter.fit_tile(tile.pixels), "this tile alone"
    name = slide if slide is not None else tile.slide
    if name is not None and (book.slides or slide is not None):
        return book.of(name), f"slide {name}"
    if book.slides:
        shown = ", ".join(sorted(book.slides)[:5])
        raise OptionError("which slide is this tile from?", valid=shown, fix="name it with --slide")
    return book.overall, f"all tiles of {book.source}"
