"""PatchCamelyon: tiles, labels and what is known of them, one file each for three splits."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from ...._types import Tile
from ..unpack import unpack_gzip
from .common import Laid, Places, changed, check_pixels, counted, needed, put_png, read_table

SPLITS = ("train", "valid", "test")
COLUMNS = ("coord_y", "coord_x", "center_tumor_patch", "wsi")
#: 0.243 um per pixel, four times coarser.
MPP = 0.972
PREFIX = "camelyonpatch_level_2_split_"


def lay_out(places: Places) -> Laid:
    """Write the tiles of the splits that were fetched as PNG. `slide` is the whole slide of CAMELYON16."""
    there = [split for split in SPLITS if f"{PREFIX}{split}_x.h5.gz" in places.files]
    return Laid(counted(places, (row for split in there for row in _rows(places, split))))


def _rows(places: Places, split: str) -> Iterator[dict[str, object]]:
    name = f"{PREFIX}{split}_meta.csv"
    known = read_table(needed(places, name), name, COLUMNS).to_dict("records")
    with _open(places, split, "x") as images, _open(places, split, "y") as targets:
        tiles, labels = _dataset(images, "x"), _dataset(targets, "y")
        check_pixels(tiles.shape, tiles.dtype, f"x of {split}")
        if not (len(tiles) == labels.size == len(known)):
            changed(
                f"the split {split}", "as many tiles as labels and rows", f"{len(tiles)}, {labels.size}, {len(known)}"
            )
        values = np.asarray(labels[()]).reshape(-1)
        for number, (row, value) in enumerate(zip(known, values, strict=True)):
            inside = f"{split}/{number // 1000:03d}/{number:06d}.png"
            put_png(places, inside, partial(_read, tiles, number))
            yield {
                "path": f"tiles/{inside}",
                "label": "tumor" if value else "normal",
                "slide": row["wsi"],
                "mpp": MPP,
                "split": split,
                "coord_x": row["coord_x"],
                "coord_y": row["coord_y"],
            }


def _open(places: Places, split: str, part: str) -> h5py.File:
    name = f"{PREFIX}{split}_{part}.h5.gz"
    plain: Path = places.scratch / name.removesuffix(".gz")
    unpack_gzip(needed(places, name), plain)
    try:
        return h5py.File(plain)
    except OSError as error:
        changed(f"the file {name}", "HDF5", error)


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        changed(f"the file {Path(file.filename).name}", f"a dataset {name}", ", ".join(file) or "nothing")
    return item


def _read(tiles: h5py.Dataset, number: int) -> Tile:
    return np.asarray(tiles[number])
