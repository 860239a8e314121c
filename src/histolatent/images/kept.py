"""Tiles read once and kept as one array on disk, for what reads them again and again."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .._types import Tile
from ..outputs import disk_errors
from ..provenance import digest
from .arrays import ArrayTiles
from .selected import select_rows
from .stream import Skipped, stream_tiles
from .tiles import TileSource
from .worker import ArrayReader

Progress = Callable[[int, int], None]
#: More than this is read from the source each time.
MOST_BYTES = 8_000_000_000


class AsRead:
    """The job of a worker: the tile itself."""

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Tile:
        """Return the tile."""
        return tile


def keep_tiles(
    source: TileSource,
    folder: Path,
    *,
    most_bytes: int = MOST_BYTES,
    workers: int = 0,
    on_error: str = "stop",
    progress: Progress | None = None,
) -> TileSource:
    """Write the tiles of a source to one array in `folder`, and return a source of that array with the same table.

    What an earlier call left for the same table is used again. Tiles that cannot be read are left out, with
    `on_error="skip"`. Where tiles differ in size, or are more than `most_bytes`, nothing is kept, and the source itself
    is returned.

    Raises
    ------
    InputError
        If a tile cannot be read and `on_error` is `stop`.
    OutputError
        If the disk is full.
    """
    n, stem = len(source.table), digest(source.table.to_csv())[:16]
    array, rows = folder / f"tiles-{stem}.npy", folder / f"tiles-{stem}.rows.npy"
    if not (array.exists() and rows.exists()) and not _write(
        source, array, rows, most_bytes, workers, on_error, progress
    ):
        return source
    truth = getattr(source, "truth", None)
    whole = ArrayTiles(source.name, ArrayReader(str(array.resolve()), None), source.table, truth)
    found = np.load(rows)
    return whole if len(found) == n else select_rows(whole, found)


def _write(
    source: TileSource,
    path: Path,
    rows: Path,
    most_bytes: int,
    workers: int,
    on_error: str,
    progress: Progress | None,
) -> bool:
    """Write the array, and then which of its rows hold a tile. False if tiles differ in size, or are too many."""
    n, shape, kept = len(source.table), None, []
    part = path.with_suffix(".part")
    stream = stream_tiles(source, range(n), AsRead(), workers=workers, on_error=on_error)
    with disk_errors(path), contextlib.closing(stream) as tiles:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                for done, tile in enumerate(tiles, 1):
                    if not isinstance(tile, Skipped):
                        if shape is None:
                            shape = tile.value.shape
                            if n * int(np.prod(shape)) > most_bytes:
                                return False
                            header = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
                            np.lib.format.write_array_header_1_0(file, header)
                            file.write(bytes(tile.index * int(np.prod(shape))))  # those before it were skipped
                        if tile.value.shape != shape:
                            return False
                        file.write(np.ascontiguousarray(tile.value).tobytes())
                        kept.append(tile.index)
                    elif shape is not None:
                        file.write(bytes(int(np.prod(shape))))
                    if progress:
                        progress(done, n)
            if shape is None:
                return False
            part.replace(path)
            with part.open("wb") as file:
                np.save(file, np.array(kept, int))
            part.replace(rows)
        finally:
            part.unlink(missing_ok=True)
    return True
