"""Read tiles in other processes, do something to each there, and hand the results back in order."""

import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .._types import Tile
from ..errors import HistolatentError, InputError, OptionError
from ..provenance import pixel_hash
from .decode import TileWarning, check_size
from .tiles import TileSource

T = TypeVar("T")
Job = Callable[[Tile, str, float | None], T]


@dataclass(frozen=True)
class Item(Generic[T]):
    """What became of one tile. `notes` are what was ignored or converted while decoding it."""

    index: int
    value: T
    pixel_hash: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """A tile that could not be read, and why."""

    index: int
    reason: str


def default_workers() -> int:
    """Return the number of worker processes that a command starts: one a core, at most eight."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


def stream_tiles(
    source: TileSource,
    indices: Sequence[int],
    job: Job[T],
    *,
    workers: int = 0,
    on_error: str = "stop",
    chunk: int = 8,
) -> Iterator[Item[T] | Skipped]:
    """Yield `job(tile, tile id, mpp)` for each index, in order.

    With `workers=0` all happens in this process. Otherwise fresh processes read and work, and at most a few chunks are
    held at a time; `source` and `job` must pickle. A script that calls this with workers needs the usual
    `if __name__ == "__main__":`.

    Raises
    ------
    InputError
        At the first tile that cannot be read, if `on_error` is `stop`. With `skip` it is yielded as Skipped.
    """
    if on_error not in ("stop", "skip"):
        raise OptionError("unknown way to handle an unreadable tile", received=on_error, valid="stop, skip")
    if workers < 0:
        raise OptionError("the number of workers is negative", received=workers, valid="0 or more")
    chunks = [indices[start : start + chunk] for start in range(0, len(indices), chunk)]
    if workers == 0:
        for part in chunks:
            yield from _unwrap(_work(source, job, part), on_error)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(source, job))
    waiting: deque[Future[list[Any]]] = deque()
    try:
        for part in chunks:
            waiting.append(pool.submit(_work_in_process, part))
            if len(waiting) > 2 * workers:
                yield from _unwrap(waiting.popleft().result(), on_error)
        while waiting:
            yield from _unwrap(waiting.popleft().result(), on_error)
    except BrokenProcessPool:
        raise HistolatentError(
            "a worker process ended without a word, most often for want of memory",
            fix="pass fewer --workers, or --workers 0 to see the error in this process; "
            "a script needs `if __name__ == '__main__':` around its call",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_state: dict[str, Any] = {}


def _start(source: TileSource, job: Job[Any]) -> None:
    import cv2

    cv2.setNumThreads(1)  # the workers share the cores already
    _state.update(source=source, job=job)


def _work_in_process(indices: Sequence[int]) -> list[Any]:
    return _work(_state["source"], _state["job"], indices)


def _work(source: TileSource, job: Job[T], indices: Sequence[int]) -> list[Item[T] | tuple[int, InputError]]:
    ids = source.table.index
    mpps = source.table["mpp"].to_numpy() if "mpp" in source.table else None
    results: list[Item[T] | tuple[int, InputError]] = []
    for index in indices:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TileWarning)
            try:
                tile = source.read(index)
                check_size(tile.shape[0], tile.shape[1], str(ids[index]))
            except InputError as error:
                results.append((index, error))
                continue
        notes = tuple(str(warning.message) for warning in caught if warning.category is TileWarning)
        mpp = float(mpps[index]) if mpps is not None and mpps[index] == mpps[index] else None
        results.append(Item(index, job(tile, str(ids[index]), mpp), pixel_hash(tile), notes))
    return results


def _unwrap(results: list[Any], on_error: str) -> Iterator[Any]:
    for result in results:
        if isinstance(result, Item):
            yield result
        elif on_error == "skip":
            yield Skipped(result[0], str(result[1]))
        else:
            raise result[1]
