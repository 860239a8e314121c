"""Tiles in one array: NumPy or HDF5."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from .._types import Tile
from ..errors import InputError
from .columns import check_table, rename_columns
from .formats import check_size
from .worker import ArrayReader

H5_SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True, eq=False)
class ArrayTiles:
    """Tiles in an `(n, h, w, 3)` uint8 array on disk. `truth` is what is known of the tissue, as of the phantom's."""

    name: str
    reader: ArrayReader
    table: pd.DataFrame
    truth: pd.DataFrame | None = None

    def read(self, index: int) -> Tile:
        """Return tile `index`."""
        return self.reader.read(index)


def array_tiles(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    table: pd.DataFrame | None = None,
    columns: Mapping[str, str] | None = None,
) -> ArrayTiles:
    """Read a `.npy` or HDF5 array of tiles.

    In HDF5, `dataset` defaults to the only 4-D uint8 one; one-dimensional datasets of the same length become columns,
    `coords` `(n, 2)` becomes `x`, `y`. `table` adds columns row by row.

    Raises
    ------
    InputError
        If the array is not uint8 `(n, h, w, 3)`, or the lengths differ.
    """
    path = Path(path)
    if path.suffix.lower() in H5_SUFFIXES:
        dataset, shape, dtype, frame = _inspect_h5(path, dataset)
    else:
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except (ValueError, OSError) as error:
            raise InputError(
                f"the array cannot be read ({error})", received=path, fix="save one array of numbers with np.save"
            ) from None
        shape, dtype, frame = array.shape, array.dtype, pd.DataFrame(index=range(array.shape[0] if array.ndim else 0))
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8:
        scaled = "if its values lie in 0 to 1, multiply by 255 and round; then save as uint8"
        fix = scaled if dtype.kind == "f" else "save RGB uint8, 0 to 255, with channels last"
        raise InputError(
            "tiles must be a uint8 array (n, h, w, 3)", received=f"{path}: {dtype} {tuple(shape)}", fix=fix
        )
    check_size(shape[1], shape[2], str(path))
    if table is not None:
        if len(table) != shape[0]:
            raise InputError(f"the table has {len(table)} rows for {shape[0]} tiles", received=path)
        frame = frame.assign(**{str(column): table[column].to_numpy() for column in table.columns})
    width = len(str(max(shape[0] - 1, 0)))
    frame.index = pd.Index([f"{path.stem}/{i:0{width}d}" for i in range(shape[0])], name="tile")
    checked = check_table(rename_columns(frame, columns or {}), origin=str(path))
    return ArrayTiles(path.name, ArrayReader(str(path.resolve()), dataset), checked)


def _inspect_h5(path: Path, dataset: str | None) -> tuple[str, tuple[int, ...], np.dtype, pd.DataFrame]:
    try:
        file = h5py.File(path)
    except OSError as error:
        raise InputError(f"the HDF5 file cannot be opened ({error})", received=path) from None
    with file:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        four = [name for name, item in found.items() if item.ndim == 4]
        images = [name for name in four if found[name].dtype == np.uint8] or four
        if dataset is None:
            if len(images) != 1:
                raise InputError(
                    "which dataset holds the tiles?" if images else "no dataset in this file has four axes",
                    received=f"{path} with {', '.join(f'{name} {item.shape}' for name, item in found.items())}",
                    fix="name it: FILE.h5:DATASET" if images else None,
                )
            dataset = images[0]
        elif dataset not in found:
            raise InputError(f"no dataset {dataset!r}", received=path, valid=", ".join(found))
        item = found[dataset]
        n = item.shape[0] if item.ndim else 0
        frame = pd.DataFrame(index=range(n))
        for name, column in found.items():
            if column.shape == (n,) and column.dtype.kind != "V":
                values = column[:]
                text = values.dtype.kind in "OS"
                frame[name.split("/")[-1]] = [_as_text(value) for value in values] if text else values
            elif name.split("/")[-1] == "coords" and column.shape == (n, 2):
                frame["x"], frame["y"] = column[:, 0], column[:, 1]
        return dataset, item.shape, item.dtype, frame


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
