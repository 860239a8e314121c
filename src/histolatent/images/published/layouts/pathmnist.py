"""PathMNIST: three splits of tiles and labels in one NumPy archive."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from ...._types import Tile
from ....errors import described
from .common import Laid, Places, changed, check_pixels, counted, matching, put_png

SPLITS = ("train", "val", "test")
#: The names of the labels, in their order.
LABELS = (
    "adipose",
    "background",
    "debris",
    "lymphocytes",
    "mucus",
    "smooth muscle",
    "normal colon mucosa",
    "cancer-associated stroma",
    "colorectal adenocarcinoma epithelium",
)


def lay_out(places: Places) -> Laid:
    """Write the tiles as PNG, below a folder that is called after their file."""
    files = matching(places, "pathmnist*.npz")
    return Laid(counted(places, (row for name, path in files.items() for row in _rows(places, name, path))))


def _rows(places: Places, name: str, path: Path) -> Iterator[dict[str, object]]:
    size = name.removesuffix(".npz")
    try:
        with zipfile.ZipFile(path) as archive:
            for split in SPLITS:
                labels = np.concatenate([*_arrays(archive, f"{split}_labels", name)]).reshape(-1)
                if labels.size and not (labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < len(LABELS)):
                    changed(f"the labels {split}_labels of {name}", f"0 to {len(LABELS) - 1}", np.unique(labels)[:12])
                for number, tile in enumerate(_arrays(archive, f"{split}_images", name)):
                    if number >= labels.size:
                        changed(f"the split {split} of {name}", f"{labels.size} tiles, as labels", "more tiles")
                    check_pixels((1, *tile.shape), tile.dtype, f"{split}_images of {name}")
                    inside = f"{size}/{split}/{number // 1000:03d}/{number:06d}.png"
                    put_png(places, inside, lambda tile=tile: tile)
                    yield {"path": f"tiles/{inside}", "label": LABELS[labels[number]], "split": split, "file": name}
    except (zipfile.BadZipFile, zlib.error, ValueError) as error:
        changed(f"the file {name}", "a NumPy archive", described(error))


def _arrays(archive: zipfile.ZipFile, name: str, of: str) -> Iterator[Tile | np.ndarray]:
    """Yield the rows of an array one by one: the largest file would not fit into the memory of a laptop."""
    if f"{name}.npy" not in archive.namelist():
        changed(f"the file {of}", f"an array {name}", ", ".join(archive.namelist()))
    with archive.open(f"{name}.npy") as stream:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if fortran or dtype.hasobject or not shape:
            changed(f"the array {name} of {of}", "numbers, row by row", f"{dtype} {shape}")
        row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        for _ in range(shape[0]):
            yield np.frombuffer(stream.read(row), dtype=dtype).reshape(shape[1:])
