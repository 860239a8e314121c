"""What runs in a worker process. Light on purpose: it starts in a fraction of a second, without pandas."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from .._types import Codes, Tile
from ..errors import InputError
from .formats import IF_MISSING, TileWarning, check_size, decode

T = TypeVar("T")
#: How often a worker looks whether its parent is there.
PARENT_SECONDS = 1.0
#: From a tile, its id and um per pixel (None if not known) to anything that pickles.
Job = Callable[[Tile, str, float | None], T]
#: Index, id and um per pixel of a tile to work on.
Task = tuple[int, str, float | None]


@runtime_checkable
class TileReader(Protocol):
    """The part of a TileSource that travels to workers."""

    def read(self, index: int) -> Tile:
        """Return tile `index` as RGB uint8 `(h, w, 3)`."""
        ...


@dataclass(frozen=True)
class FileReader:
    """Image files by their number."""

    files: tuple[str, ...]

    def read(self, index: int) -> Tile:
        """Decode file `index`. Raises InputError with its path."""
        return decode(self.files[index], if_missing=IF_MISSING)


@dataclass(frozen=True)
class ArrayReader:
    """Rows of an `(n, h, w, 3)` uint8 array on disk. `dataset` is the path inside an HDF5 file, else None."""

    path: str
    dataset: str | None

    def read(self, index: int) -> Tile:
        """Return tile `index`. Opens the file anew: nothing is shared between processes."""
        try:
            if self.dataset is None:
                return np.array(np.lib.format.open_memmap(self.path, mode="r")[index])
            import h5py

            with h5py.File(self.path) as file:
                return np.asarray(file[self.dataset][index])  # pyright: ignore[reportIndexIssue]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"tile {index} cannot be read ({error})", received=self.path) from None


@dataclass(frozen=True, eq=False)
class SelectedReader:
    """Some tiles of another reader, by their row there."""

    reader: TileReader
    rows: Codes

    def read(self, index: int) -> Tile:
        """Read row `index` of the selection."""
        return self.reader.read(int(self.rows[index]))


@dataclass(frozen=True)
class Item(Generic[T]):
    """What became of one tile. `notes` are what was ignored or converted while decoding it."""

    index: int
    value: T
    notes: tuple[str, ...]


Result = Item[Any] | tuple[int, InputError]
_state: dict[str, Any] = {}


def start(reader: TileReader, job: Job[Any]) -> None:
    """Set up a worker process."""
    start_process()
    _state.update(reader=reader, job=job)


def start_process() -> None:
    """Make a process a worker: one thread, deaf to Ctrl-C, and gone soon after the process that started it."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    cv2.setNumThreads(1)  # the workers share the cores already
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process once its parent is gone: killed outright, a parent tells its workers nothing."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def work_in_process(tasks: Sequence[Task]) -> list[Result]:
    """Work on tasks with what `start` was given."""
    return work(_state["reader"], _state["job"], tasks)


def work(reader: TileReader, job: Job[Any], tasks: Sequence[Task]) -> list[Result]:
    """Read and work on each task; a tile that cannot be read gives its error."""
    results: list[Result] = []
    for index, tile_id, mpp in tasks:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TileWarning)
            try:
                tile = reader.read(index)
                check_size(tile.shape[0], tile.shape[1], tile_id)
            except InputError as error:
                results.append((index, error))
                continue
        notes = tuple(str(warning.message) for warning in caught if warning.category is TileWarning)
        results.append(Item(index, job(tile, tile_id, mpp), notes))
    return results
