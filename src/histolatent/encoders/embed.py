"""The verb: tiles of a source through one or several encoders, decoded once, resumable."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from ..embeddings import PartialTable, check_form, make_table, refuse_table, tidy_obs, write_table
from ..errors import OptionError
from ..images import Item, Skipped, TileSource, input_files, open_tiles, stream_tiles
from ..outputs import refuse_inputs
from ..provenance import combined_digest, digest, environment, now
from .batches import forward_checked
from .protocol import Encoder
from .views import AsItIs, Render, Rendered, Views

Progress = Callable[[int, int], None]
CHECKPOINT_SECONDS = 2.0


@dataclass
class Seconds:
    """Where the time went. `views` and `prepare` add up over the workers; the others are of the main process."""

    views: float = 0.0
    prepare: float = 0.0
    waiting: float = 0.0
    forward: float = 0.0
    storing: float = 0.0
    total: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """Return the seconds, rounded to a millisecond."""
        return {key: round(value, 3) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Embedded:
    """What a run over a source left: one store per encoder, and facts for the card."""

    stores: tuple[PartialTable, ...]
    names: tuple[str, ...]
    seconds: Seconds = field(compare=False)


def embed_views(
    source: TileSource,
    encoders: Sequence[Encoder],
    targets: Sequence[Path],
    *,
    views: Views | None = None,
    plan: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    workers: int = 0,
    on_error: str = "stop",
    restart: bool = False,
    progress: Progress | None = None,
) -> Embedded:
    """Run every tile, and every view of it, through every encoder; each tile is decoded and rendered once.

    The vectors go to one PartialTable beside each of `targets`. Call again with the same arguments to go on after an
    interruption: batches are cut at the same tiles, so that the numbers are those of an uninterrupted run.

    Raises
    ------
    InputError
        If a tile cannot be read and `on_error` is `stop`.
    OutputError
        If an interrupted run with another plan is in the way, or the disk is full.
    EncoderError
        If an encoder returns the wrong shape or numbers that are not finite (the tiles are named).
    """
    if batch_size < 1:
        raise OptionError("batch_size is less than one", received=batch_size, valid="a whole number from 1")
    started = time.perf_counter()
    views = views or AsItIs()
    n, v = len(source.table), len(views.names)
    block = max(1, batch_size // v)
    stores = [
        PartialTable.open(
            target,
            (n, v, encoder.card.dim),
            {
                "tiles": source_digest(source),
                "encoder": encoder.card.identity,
                "views": list(views.names),
                "batch size": block,
                "settings": dict(plan or {}),
            },
            restart=restart,
        )
        for target, encoder in zip(targets, encoders, strict=True)
    ]
    rules = tuple(dict.fromkeys(encoder.card.preprocessing for encoder in encoders))
    where = [rules.index(encoder.card.preprocessing) for encoder in encoders]
    blocks = sorted({part.start: part for store in stores for part in store.waiting(block)}.values(), key=min)
    indices = [index for part in blocks for index in part]
    done, seconds, saved = n - len(indices), Seconds(), time.perf_counter()
    if progress:
        progress(done, n)

    def flush(items: list[Item[Rendered]]) -> None:
        nonlocal saved
        hashes = [item.value.hashes for item in items]
        rows = [item.index for item in items]
        for item in items:
            fact = {"hash": f"{item.value.hashes[0]:016x}", "size": list(item.value.size), "notes": list(item.notes)}
            _note(stores, source, item.index, fact)
            seconds.views += item.value.seconds[0]
            seconds.prepare += item.value.seconds[1]
        for encoder, store, rule in zip(encoders, stores, where, strict=True):
            clock = time.perf_counter()
            vectors = _forward(encoder, [item.value.stacks[rule] for item in items], source, rows, batch_size)
            seconds.forward += time.perf_counter() - clock
            clock = time.perf_counter()
            store.write(rows, np.stack(vectors), np.stack(hashes))
            seconds.storing += time.perf_counter() - clock
        if time.perf_counter() - saved > CHECKPOINT_SECONDS:
            for store in stores:
                store.checkpoint()
            saved = time.perf_counter()

    end = {part.stop - 1 for part in blocks}
    stream = stream_tiles(
        source, indices, Render(views, rules), workers=workers, on_error=on_error, chunk=min(block, 8), ahead=2 * block
    )
    items: list[Item[Rendered]] = []
    try:
        # Closed whatever happens: a failing encoder must not leave workers behind.
        with contextlib.closing(stream) as results:
            clock = time.perf_counter()
            for result in results:
                seconds.waiting += time.perf_counter() - clock
                if isinstance(result, Skipped):
                    for store in stores:
                        store.skip(result.index)
                    _note(stores, source, result.index, {"skipped": result.reason})
                else:
                    items.append(result)
                if result.index in end and items:
                    flush(items)
                    items = []
                done += 1
                if progress:
                    progress(done, n)
                clock = time.perf_counter()
    finally:
        for store in stores:
            store.checkpoint()
            if not store.kept.any():
                store.remove()  # there is nothing to go on from
    seconds.total = time.perf_counter() - started
    return Embedded(tuple(stores), views.names, seconds)


def _note(stores: Sequence[PartialTable], source: TileSource, index: int, fact: dict[str, Any]) -> None:
    for store in stores:
        store.note(str(source.table.index[index]), fact)


def _forward(
    encoder: Encoder, stacks: Sequence[np.ndarray], source: TileSource, rows: Sequence[int], batch_size: int
) -> list[np.ndarray]:
    """Return `(v, d)` vectors for each stack; only stacks of one size share a batch."""
    found: dict[int, np.ndarray] = {}
    by_size: dict[tuple[int, ...], list[int]] = {}
    for position, stack in enumerate(stacks):
        by_size.setdefault(stack.shape, []).append(position)
    for positions in by_size.values():
        pixels = np.concatenate([stacks[position] for position in positions])
        v = len(stacks[positions[0]])
        names = [source.table.index[rows[position]] for position in positions for _ in range(v)]
        parts = [
            forward_checked(encoder, pixels[start : start + batch_size], names[start : start + batch_size])
            for start in range(0, len(pixels), batch_size)
        ]
        vectors = np.concatenate(parts).reshape(len(positions), v, -1)
        found.update(zip(positions, vectors, strict=True))
    return [found[position] for position in range(len(stacks))]


def source_digest(source: TileSource) -> str:
    """Return a hash of the table of a source: ids and columns, not pixels."""
    return digest(source.table.to_csv())


def source_card(source: TileSource, store: PartialTable) -> dict[str, Any]:
    """Return what a card says of the tiles: how many, their pixels' hash, sizes, what was skipped or ignored."""
    ids = [str(name) for name in source.table.index]
    facts = store.notes
    skipped = {tile: facts[tile]["skipped"] for tile in ids if "skipped" in facts.get(tile, {})}
    read = [facts[tile] for tile in ids if "hash" in facts.get(tile, {})]
    hashes = Counter(fact["hash"] for fact in read)
    return {
        "name": source.name,
        "tiles": len(read),
        "pixels_sha256": combined_digest(fact["hash"] for fact in read),
        "table_sha256": source_digest(source),
        "sizes": dict(sorted(Counter(f"{fact['size'][1]} x {fact['size'][0]}" for fact in read).items())),
        "same_pixels_twice": sum(count - 1 for count in hashes.values()),
        "skipped": skipped,
        "notes": dict(sorted(Counter(note for fact in read for note in fact["notes"]).items())),
    }


def embed(
    src: str | os.PathLike[str] | TileSource,
    encoder: Encoder,
    out: str | os.PathLike[str],
    *,
    batch_size: int = 64,
    workers: int = 0,
    on_error: str = "stop",
    restart: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AnnData:
    """Embed tiles and write the table; return it.

    `out` ends in `.zarr` (native), `.h5ad`, `.parquet`, `.csv`, `.npy` or `.h5`. An interrupted run goes on where it
    stopped when called again.

    Raises
    ------
    OutputError
        If `out` exists and not `overwrite`, is one of the files to read, or a folder that no table was written to.
    OptionError, InputError
        If no form has the ending of `out`, or it cannot hold these tiles: before anything is embedded.
    """
    target = Path(out)
    source = open_tiles(src)
    refuse_inputs(target, input_files(source))
    refuse_table(target, overwrite=overwrite)
    check_form(target, tidy_obs(source.table))
    embedded = embed_views(
        source,
        [encoder],
        [target],
        batch_size=batch_size,
        workers=workers,
        on_error=on_error,
        restart=restart,
        progress=progress,
    )
    table = as_table(embedded, 0, source, encoder)
    write_table(table, target, overwrite=overwrite)
    embedded.stores[0].remove()
    return table


def as_table(embedded: Embedded, position: int, source: TileSource, encoder: Encoder) -> AnnData:
    """Return the embedding table of one encoder; views beyond the first become layers."""
    store = embedded.stores[position]
    vectors, kept = store.vectors(), store.kept
    obs = pd.DataFrame(source.table[kept])
    obs["pixel_hash"] = [store.notes[str(tile)]["hash"] for tile in obs.index]
    card = {
        "created": now(),
        "encoder": encoder.card.model_dump(mode="json"),
        "tiles": source_card(source, store),
        "environment": environment(),
    }
    views = {name: vectors[kept, i] for i, name in enumerate(embedded.names) if i}
    return make_table(vectors[kept, 0], obs, card, views=views)
