"""From what a user names to a TileSource."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from ..errors import InputError, OptionError
from .arrays import H5_SUFFIXES, ArrayTiles, array_tiles
from .cut import Cut, cut_tiles
from .files import MANIFEST_SUFFIXES, FileTiles, folder_tiles, manifest_tiles, slide_tiles
from .selected import with_columns
from .slides import is_slide
from .tiles import TileSource


def open_tiles(
    src: str | os.PathLike[str] | TileSource,
    *,
    columns: Mapping[str, str] | None = None,
    table: pd.DataFrame | None = None,
    allow_outside: bool = False,
    cut: Cut | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TileSource:
    """Open tiles by what they are called.

    `src` is a folder (with its `manifest.csv`, `.tsv` or `.parquet` if it has one), a manifest, a `.npy` array, an HDF5
    file (`FILE.h5` or `FILE.h5:DATASET`), or `phantom` with optional settings (`phantom:sites=3,tile_px=64`).
    A TileSource may be given in place of a name. `columns` maps known names to the user's; `table` adds columns to an
    array, row by row; `allow_outside` lets a manifest name files outside its own folder.
    With `cut`, larger images and whole slides, in files, are cut into tiles; `src` may then be a slide. `progress` is
    told of files that were looked at.

    Raises
    ------
    InputError
        If nothing is there, or it cannot be read as tiles.
    OptionError
        If a column or a phantom setting is not known, `table` is given for anything but an array, or `cut` for
        anything but files.
    """
    opened = _open(src, columns, table, allow_outside, cut is not None)
    if table is not None and not isinstance(opened, ArrayTiles):
        raise OptionError("only an array of tiles takes a table", received=src, fix="put its columns into a manifest")
    if cut is None:
        return opened
    if not isinstance(opened, FileTiles):
        raise OptionError("only images and slides in files are cut", received=opened.name, fix="leave --tile-px out")
    return cut_tiles(opened, cut, progress=progress)


def _open(
    src: str | os.PathLike[str] | TileSource,
    columns: Mapping[str, str] | None,
    table: pd.DataFrame | None,
    allow_outside: bool,
    cuts: bool,
) -> TileSource:
    if isinstance(src, TileSource):
        return with_columns(src, columns or {})
    text = os.fspath(src)
    if text == "phantom" or text.startswith("phantom:"):
        return with_columns(_phantom(text.partition(":")[2]), columns or {})
    file, dataset = _split_dataset(text)
    path = Path(file)
    if not path.exists():
        raise InputError(
            "there is nothing at this path", received=text, valid="a folder, manifest, .npy, .h5, or 'phantom'"
        )
    if path.is_dir():
        inside = next((file for file in (path / f"manifest{end}" for end in MANIFEST_SUFFIXES) if file.exists()), None)
        if inside is None:
            return folder_tiles(path, columns=columns, slides=cuts)
        path = inside
    suffix = path.suffix.lower()
    if suffix in MANIFEST_SUFFIXES:
        return manifest_tiles(path, columns=columns, allow_outside=allow_outside)
    if suffix == ".npy" or suffix in H5_SUFFIXES:
        return array_tiles(path, dataset=dataset, table=table, columns=columns)
    if is_slide(path):
        if cuts:
            return slide_tiles(path, columns=columns)
        raise InputError("a slide is not a set of tiles", received=text, fix="--tile-px 256 cuts it into tiles")
    raise InputError(
        "this is not a set of tiles",
        received=text,
        valid="a folder, a manifest (.csv, .tsv, .parquet), an array (.npy, .h5), 'phantom', or, cut into tiles, a "
        "slide",
    )


def _split_dataset(text: str) -> tuple[str, str | None]:
    for suffix in H5_SUFFIXES:
        head, colon, dataset = text.rpartition(suffix + ":")
        if colon:
            return head + suffix, dataset
    return text, None


def _phantom(settings: str) -> TileSource:
    from .phantom import PhantomSpec, PhantomTiles

    values: dict[str, str] = {}
    for part in filter(None, settings.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise OptionError("a phantom setting needs a value", received=part, fix=f"phantom:{key}=VALUE")
        values[key] = value
    return PhantomTiles(PhantomSpec(**values))
