"""From what a user names to a TileSource."""

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..errors import InputError, OptionError, unknown
from .arrays import H5_SUFFIXES, array_tiles
from .files import MANIFEST_SUFFIXES, folder_tiles, manifest_tiles
from .tiles import TileSource


def open_tiles(
    src: str | os.PathLike[str] | TileSource,
    *,
    columns: Mapping[str, str] | None = None,
    table: pd.DataFrame | None = None,
    allow_outside: bool = False,
) -> TileSource:
    """Open tiles by what they are called.

    `src` is a folder (with its `manifest.csv` or `manifest.parquet` if it has one), a manifest, a `.npy` array, an HDF5
    file (`FILE.h5` or `FILE.h5:DATASET`), or `phantom` with optional settings (`phantom:sites=3,tile_px=64`).
    A TileSource is returned as it is.

    Raises
    ------
    InputError
        If nothing is there, or it cannot be read as tiles.
    OptionError
        If a column or a phantom setting is not known.
    """
    if isinstance(src, TileSource):
        return src
    text = os.fspath(src)
    if text == "phantom" or text.startswith("phantom:"):
        return _phantom(text.partition(":")[2])
    file, dataset = _split_dataset(text)
    path = Path(file)
    if not path.exists():
        raise InputError(
            "there is nothing at this path", received=text, valid="a folder, manifest, .npy, .h5, or 'phantom'"
        )
    if path.is_dir():
        inside = next((path / name for name in ("manifest.csv", "manifest.parquet") if (path / name).exists()), None)
        if inside is None:
            return folder_tiles(path, columns=columns)
        path = inside
    suffix = path.suffix.lower()
    if suffix in MANIFEST_SUFFIXES:
        return manifest_tiles(path, columns=columns, allow_outside=allow_outside)
    if suffix == ".npy" or suffix in H5_SUFFIXES:
        return array_tiles(path, dataset=dataset, table=table, columns=columns)
    raise InputError(
        "this is not a set of tiles",
        received=text,
        valid="a folder, a manifest (.csv, .tsv, .parquet), an array (.npy, .h5), or 'phantom'",
        fix="cut a slide into tiles first" if suffix in (".svs", ".ndpi", ".mrxs", ".tif", ".tiff") else None,
    )


def _split_dataset(text: str) -> tuple[str, str | None]:
    for suffix in H5_SUFFIXES:
        head, colon, dataset = text.rpartition(suffix + ":")
        if colon:
            return head + suffix, dataset
    return text, None


def _phantom(settings: str) -> TileSource:
    from pydantic import ValidationError

    from .phantom import PhantomSpec, PhantomTiles

    values: dict[str, str] = {}
    for part in filter(None, settings.split(",")):
        key, equals, value = part.partition("=")
        if key not in PhantomSpec.model_fields:
            raise unknown("phantom setting", key, PhantomSpec.model_fields)
        if not equals:
            raise OptionError("a phantom setting needs a value", received=part, fix=f"phantom:{key}=VALUE")
        values[key] = value
    try:
        return PhantomTiles(PhantomSpec.model_validate(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise OptionError(f"phantom setting {first['loc'][0]}: {first['msg']}", received=first["input"]) from None
