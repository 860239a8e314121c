"""Read tiles in other processes, do something to each there, and hand the results back in order."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from loky import ProcessPoolExecutor

from ..errors import HistolatentError, OptionError
from .arrays import ArrayTiles
from .cut import CutTiles
from .files import FileTiles
from .selected import SelectedTiles
from .tiles import TileSource
from .worker import Item, Job, Result, SelectedReader, Task, TileReader, start, work, work_in_process

T = TypeVar("T")


@dataclass(frozen=True)
class Skipped:
    """A tile that could not be read, and why."""

    index: int
    reason: str


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Return the number of worker processes that a command starts: one a core, at most eight."""
    return min(cores(), 8)


def stream_tiles(
    source: TileSource,
    indices: Iterable[int],
    job: Job[T],
    *,
    names: Iterable[str] | None = None,
    workers: int = 0,
    on_error: str = "stop",
    chunk: int = 8,
    ahead: int = 0,
) -> Generator[Item[T] | Skipped, None, None]:
    """Yield `job(tile, tile id, mpp)` for each index, in order.

    With `workers=0` all happens in this process. Otherwise fresh processes read and work on `chunk` tiles at a time,
    and up to `ahead` tiles, or two chunks a worker, are held. `source` and `job` must pickle. `names`, one for each
    index, are what the job is told in place of the tile's id, for a tile that comes more than once. Both may be
    without end: they are read as they are needed.

    Raises
    ------
    InputError
        At the first tile that cannot be read, if `on_error` is `stop`. With `skip` it is yielded as Skipped.
    """
    if on_error not in ("stop", "skip"):
        raise OptionError("unknown way to handle an unreadable tile", received=on_error, valid="stop, skip")
    if workers < 0:
        raise OptionError("the number of workers is negative", received=workers, valid="0 or more")
    held = max(2 * workers, -(-ahead // chunk))
    tasks, reader = _tasks(source, indices, names), reader_of(source)
    chunks = iter(lambda: list(islice(tasks, chunk)), [])
    if workers == 0:
        for part in chunks:
            yield from _unwrap(work(reader, job, part), on_error)
        return
    # Loky starts fresh processes as "spawn" does, without running the script that calls this once more in each.
    pool = ProcessPoolExecutor(workers, initializer=start, initargs=(reader, job))
    waiting: deque[Future[list[Result]]] = deque()
    try:
        waiting.extend(pool.submit(work_in_process, part) for part in islice(chunks, held))
        for part in chunks:
            yield from _unwrap(waiting.popleft().result(), on_error)
            waiting.append(pool.submit(work_in_process, part))
        while waiting:
            yield from _unwrap(waiting.popleft().result(), on_error)
    except BrokenProcessPool:
        raise HistolatentError(
            "a worker process ended without a word, most often for want of memory",
            fix="pass fewer --workers, or --workers 0 to see the error in this process",
        ) from None
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def reader_of(source: TileSource) -> TileReader:
    """Return what travels to workers: the reader of a source that has one, without its table, or the source."""
    if isinstance(source, SelectedTiles):
        return SelectedReader(reader_of(source.source), source.rows)
    return source.reader if isinstance(source, FileTiles | ArrayTiles | CutTiles) else source


def _tasks(source: TileSource, indices: Iterable[int], names: Iterable[str] | None) -> Iterator[Task]:
    ids = source.table.index
    mpps = source.table["mpp"].tolist() if "mpp" in source.table else None
    told = iter(names) if names is not None else None
    for index in indices:
        known = None if mpps is None or mpps[index] != mpps[index] else float(mpps[index])
        yield int(index), str(ids[index]) if told is None else next(told), known


def _unwrap(results: list[Result], on_error: str) -> Iterator[Item[T] | Skipped]:
    for result in results:
        if isinstance(result, Item):
            yield result
        elif on_error == "skip":
            yield Skipped(result[0], str(result[1]))
        else:
            raise result[1]
