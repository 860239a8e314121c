"""PLISM, registered tiles: one HDF5 file for each staining and scanner, with one dataset for each tile."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from ...._types import Tile
from .common import Laid, Places, changed, check_pixels, counted, matching, put_png

NAME = re.compile(r"(?P<stain>[A-Z]+)_(?P<scanner>[A-Z0-9]+)_to_GMH_S60\.tif\.h5")
#: `tile`, the level of a pyramid of tiles, column and row there.
TILE = re.compile(r"tile_(\d+)_(\d+)_(\d+)")
MPP = 0.5


def lay_out(places: Places) -> Laid:
    """Write every tile as PNG. `location` is the same for a tile on every slide, so that tiles can be paired."""
    return Laid(counted(places, _rows(places)))


def _rows(places: Places) -> Iterator[dict[str, object]]:
    for name, path in matching(places, "*.h5").items():
        found = NAME.fullmatch(name)
        if found is None:
            changed("a file name", "STAIN_SCANNER_to_GMH_S60.tif.h5", name)
        slide = f"{found['stain']}_{found['scanner']}"
        for key, pixels in _tiles(path, name):
            location = TILE.fullmatch(key)
            if location is None:
                changed(f"a dataset of {name}", "tile_LEVEL_COLUMN_ROW", key)
            inside = f"{slide}/{key}.png"
            put_png(places, inside, pixels)
            yield {
                "path": f"tiles/{inside}",
                "scanner": found["scanner"],
                "stain": found["stain"],
                "slide": slide,
                "mpp": MPP,
                "location": key,
                "column": int(location[2]),
                "row": int(location[3]),
            }


def _tiles(path: Path, name: str) -> Iterator[tuple[str, Callable[[], Tile]]]:
    try:
        file = h5py.File(path)
    except OSError as error:
        changed(f"the file {name}", "HDF5", error)
    with file:
        for key in map(str, file):
            item = file[key]
            if not isinstance(item, h5py.Dataset):
                changed(f"an entry of {name}", "a dataset for each tile", key)
            check_pixels((1, *item.shape), item.dtype, f"{key} of {name}")
            yield key, partial(_read, item)


def _read(item: h5py.Dataset) -> Tile:
    return np.asarray(item[()])
