"""One cell of a benchmark: a chain of methods under one seed, fitted, applied to all tiles, and read by every task."""

import json
import pickle
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .._types import Tile, Vectors
from ..compact.augmentation import Augmentation
from ..encoders import encoder, save_encoder
from ..errors import InputError
from ..images import TileSource, keep_tiles, select_rows
from ..outputs import whole
from ..spectrum import effective_rank
from ..stain.tissue import DEFAULT_WHITE
from .cohort import SOURCE, Cohort
from .methods import Chain, Method, Network, Space, Work
from .separation import measure_distances, measure_separation
from .study import Study, as_target
from .tasks import PlaceView, Read, Task, read_classes, read_objects, read_slides
from .unseen import embed_tiles

#: Augmented copies of each tile of the source that heads are trained on beside it, where the encoder is frozen.
COPIES = 3
ENCODER, FACTS, AUGMENTATION = "encoder", "facts.json", "augmentation.pickle"
#: Marks a look of which there is no array: tiles that differ in size, or are too many.
NOT_KEPT = "not kept"
#: From vectors of one site, and its name, to others.
Correct = Callable[[Vectors, str], Vectors]
#: From tiles of one site, and its name, to the same in another look.
Change = Callable[[TileSource, str], TileSource]


@dataclass(frozen=True, eq=False)
class Embedded:
    """A cohort in the look of a chain, the network that embeds it, vectors of all its tiles, and what that took."""

    cohort: Cohort
    network: Network
    read: Read
    costs: Mapping[str, float]


def run_cell(study: Study, chain: Chain, work: Work) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return what each task read, a row for each unit with the column `task`; and figures of the cell."""
    embedded = embed_chain(study, chain, work)
    clock = time.perf_counter()
    correct: Correct = _as_it_is
    cohort, read = embedded.cohort, embedded.read
    if chain.vectors is not None:
        space = Space(cohort.source, embedded.network.encoder, read.vectors[cohort.train])
        target = {site: read.vectors[rows] for site, rows in cohort.unseen.items()}
        target = target if chain.vectors.needs_target else None
        correct = chain.vectors.fit(space, target, work.of(chain.vectors))
        read = _corrected(cohort, read, correct)
    costs = {**embedded.costs, "fit_seconds": embedded.costs["fit_seconds"] + time.perf_counter() - clock}
    clock = time.perf_counter()
    parts = [
        _read_task(task, study, embedded, read, chain, correct, work).assign(task=task.name) for task in study.tasks
    ]
    costs["read_seconds"] = time.perf_counter() - clock
    figures = {
        **measure_separation(cohort, read.vectors),
        **measure_distances(cohort, read.vectors),
        "rank": effective_rank(read.vectors[cohort.train]),
    }
    costs["peak_gb"] = peak_gb()
    return pd.concat(parts, ignore_index=True), {**figures, **costs}


def _as_it_is(vectors: Vectors, site: str) -> Vectors:
    return vectors


def _read_task(
    task: Task, study: Study, embedded: Embedded, read: Read, chain: Chain, correct: Correct, work: Work
) -> pd.DataFrame:
    """Read one task; heads of all methods have the seed of the cell."""
    cohort = embedded.cohort
    if task.kind == "classes":
        return read_classes(task, cohort, read, seed=work.seed)
    if task.kind == "slides":
        return read_slides(task, cohort, read, seed=work.seed)
    if task.kind == "bags":
        from .tasks.bags import read_bags

        return read_bags(task, cohort, read, seed=work.seed)
    assert study.objects is not None  # they were looked up for this task
    augmentation = embedded.network.augmentation
    view = PlaceView(
        cohort, embedded.network.encoder, copies=None if augmentation is None else AsAugmented(augmentation)
    )
    if chain.vectors is not None:
        view = replace(view, correct=_of_places(chain.vectors, view, correct, work))
    return read_objects(task, study.objects, view, seed=work.seed)


def _of_places(method: Method, view: PlaceView, correct: Correct, work: Work) -> Correct:
    """Return what a change of vectors does to the features of places."""
    if method.of_places:
        cohort = view.cohort
        space = Space(cohort.source, view.encoder, view.sample(cohort.train, work.seed))
        target = {site: view.sample(rows, work.seed) for site, rows in cohort.unseen.items()}
        return method.fit(space, target if method.needs_target else None, work.of(method))
    last = view.encoder.card.dim

    def change(features: Vectors, site: str) -> Vectors:
        return np.concatenate([features[:, :-last], correct(features[:, -last:], site)], axis=1)

    return change


def _corrected(cohort: Cohort, read: Read, correct: Correct) -> Read:
    """Return the vectors of each site as a change of vectors makes them."""
    changed = read.vectors.copy()
    for site, rows in {SOURCE: cohort.own, **cohort.unseen}.items():
        changed[rows] = correct(read.vectors[rows], site)
    copies = np.array([correct(copy, SOURCE) for copy in read.copies], np.float32)
    return Read(changed, copies.reshape(read.copies.shape))


def embed_chain(study: Study, chain: Chain, work: Work) -> Embedded:
    """Fit what changes tiles, and the network; embed all tiles. What is in the folder of the chain is used again.

    Chains that differ in what they do to vectors have one folder: it holds the tiles in the chain's look, the encoder
    if it is none that was given, and the vectors.
    """
    facts = work.folder / FACTS
    cohort, costs = show_cohort(study.cohort, chain, work)
    if facts.exists():
        known = json.loads(facts.read_text(encoding="utf-8"))
        used = study.base.encoder or encoder(str(work.folder / ENCODER), device=work.device)
        read = Read(*(np.load(work.folder / f"{name}.npy") for name in ("vectors", "copies")))
        network = Network(used, pickle.loads((work.folder / AUGMENTATION).read_bytes()))
        return Embedded(cohort, network, read, known)
    clock = time.perf_counter()
    network = chain.encoder.fit(cohort.source, study.base, work.of(chain.encoder))
    fit_seconds = costs["fit_seconds"] + time.perf_counter() - clock
    clock = time.perf_counter()
    vectors = embed_tiles(cohort.tiles, network.encoder, workers=work.workers)[:, 0]
    embed_seconds = 1000 * (time.perf_counter() - clock) / len(vectors)
    costs = {**costs, "fit_seconds": fit_seconds, "embed_seconds_per_1000": embed_seconds}
    copies = np.zeros((0, len(cohort.train), vectors.shape[1]), np.float32)
    if network.augmentation is not None:
        views = AsAugmented(network.augmentation)
        copies = embed_tiles(cohort.source, network.encoder, views, workers=work.workers)[:, 1:].swapaxes(0, 1)
    if network.encoder is not study.base.encoder:
        save_encoder(network.encoder, work.folder / ENCODER, overwrite=True)
    for name, values in (("vectors", vectors), ("copies", copies)):
        np.save(work.folder / f"{name}.npy", values)
    (work.folder / AUGMENTATION).write_bytes(pickle.dumps(network.augmentation))
    with whole(facts, overwrite=True) as part:
        part.write_text(json.dumps(costs), encoding="utf-8")
    return Embedded(cohort, network, Read(vectors, copies), costs)


def show_cohort(cohort: Cohort, chain: Chain, work: Work) -> tuple[Cohort, dict[str, float]]:
    """Return the cohort in the look that a chain gives it, the seconds of the fit, and those of 1,000 tiles changed.

    Chains of a seed that change tiles alike share the look.
    """
    method = chain.tiles
    if method is None:
        return cohort, {"fit_seconds": 0.0, "apply_seconds_per_1000": 0.0}
    work = work.of(method)

    def make(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        own = replace(work, folder=folder, reused=[])
        clock = time.perf_counter()
        change = _fit_tiles(cohort, method, own)
        fit_seconds = time.perf_counter() - clock + sum(own.reused)
        clock = time.perf_counter()
        changed = change_tiles(cohort, change)
        if keep_tiles(changed, folder, workers=work.workers) is changed:
            (folder / NOT_KEPT).touch()
        apply_seconds = 1000 * (time.perf_counter() - clock) / len(cohort.tiles.table)
        costs = {"fit_seconds": fit_seconds, "apply_seconds_per_1000": apply_seconds}
        (folder / FACTS).write_text(json.dumps(costs), encoding="utf-8")

    folder = work.once(f"look {method.name}", make)
    if (folder / NOT_KEPT).exists():
        tiles = change_tiles(cohort, _fit_tiles(cohort, method, replace(work, folder=folder)))
    else:
        tiles = keep_tiles(cohort.tiles, folder)  # an array of the same table: the tiles are not read
    return replace(cohort, tiles=tiles), json.loads((folder / FACTS).read_text(encoding="utf-8"))


def _fit_tiles(cohort: Cohort, method: Method, work: Work) -> Change:
    return method.fit(cohort.source, as_target(cohort) if method.needs_target else None, work)


def change_tiles(cohort: Cohort, change: Change) -> TileSource:
    """Return the tiles of a cohort, those of each site changed."""
    parts = [(cohort.own, change(select_rows(cohort.tiles, cohort.own), SOURCE))]
    parts += [(cohort.unseen[site], change(tiles, site)) for site, tiles in as_target(cohort).items()]
    return join_tiles(cohort.tiles, parts)


@dataclass(frozen=True, eq=False)
class JoinedTiles:
    """Tiles of several sources under one table: `places` says which source, and which of its rows, each one is."""

    name: str
    sources: tuple[TileSource, ...]
    places: tuple[tuple[int, int], ...]
    table: pd.DataFrame

    def read(self, index: int) -> Tile:
        """Return a tile."""
        source, row = self.places[index]
        return self.sources[source].read(row)


def join_tiles(cohort: TileSource, parts: list[tuple[np.ndarray, TileSource]]) -> JoinedTiles:
    """Return tiles in the order of a cohort, from changed tiles of some of its rows each.

    Raises
    ------
    InputError
        If a method did not return the tiles that it was given, in their order.
    """
    places: list[tuple[int, int]] = [(-1, -1)] * len(cohort.table)
    for number, (rows, changed) in enumerate(parts):
        given, found = cohort.table.index[rows].astype(str).tolist(), changed.table.index.astype(str).tolist()
        if given != found:
            raise InputError(
                "a method returned other tiles than it was given",
                received=f"{len(found)} tiles",
                valid=f"the {len(given)} given, in their order",
            )
        for place, row in enumerate(rows):
            places[row] = number, place
    return JoinedTiles(cohort.name, tuple(changed for _, changed in parts), tuple(places), cohort.table)


@dataclass(frozen=True, eq=False)
class AsAugmented:
    """The tile, and copies of it under an augmentation."""

    augmentation: Augmentation

    @property
    def names(self) -> tuple[str, ...]:
        """`tile`, then `copy 1` and so on."""
        return ("tile", *(f"copy {k}" for k in range(1, COPIES + 1)))

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> list[Tile]:
        """Return all of them."""
        return [tile, *(self.augmentation(tile, f"{tile_id} {name}", DEFAULT_WHITE) for name in self.names[1:])]


def peak_gb() -> float:
    """Return the most memory that this process has held, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
