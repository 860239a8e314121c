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
    n, shape = len(source.table), source.read(0).shape
    if n * int(np.prod(shape)) > most_bytes:
        return source
    stem = digest(source.table.to_csv())[:16]
    array, rows = folder / f"tiles-{stem}.npy", folder / f"tiles-{stem}.rows.npy"
    if not (array.exists() and rows.exists()):
        kept = _write(source, array, shape, workers, on_error, progress)
        if kept is None:
            return source
        with disk_errors(rows):
            np.save(rows, kept)
    whole = ArrayTiles(source.name, ArrayReader(str(array.resolve()), None), source.table)
    found = np.load(rows)
    return whole if len(found) == n else select_rows(whole, found)


def _write(
    source: TileSource,
    path: Path,
    shape: tuple[int, ...],
    workers: int,
    on_error: str,
    progress: Progress | None,
) -> np.ndarray | None:
    """Write the array; return the rows that hold a tile, or None if one has another size."""
    n, kept = len(source.table), []
    part = path.with_suffix(".part")
    header = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
    stream = stream_tiles(source, range(n), AsRead(), workers=workers, on_error=on_error)
    with disk_errors(path), contextlib.closing(stream) as tiles:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for done, tile in enumerate(tiles, 1):
                    read = not isinstance(tile, Skipped)
                    if read and tile.value.shape != shape:
                        return None
                    file.write(np.ascontiguousarray(tile.value).tobytes() if read else bytes(int(np.prod(shape))))
                    kept += [tile.index] * read
                    if progress:
                        progress(done, n)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return np.array(kept, int)
