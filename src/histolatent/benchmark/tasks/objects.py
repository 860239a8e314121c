"""Objects found in tiles: a small head on maps of features, trained on the source, asked about each site."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, islice
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.ndimage import maximum_filter
from scipy.spatial.distance import cdist

from ..._types import Tile, Vectors
from ...encoders import Encoder, encode_levels
from ...errors import InputError
from ...images import TileSource, known_mpp, spaced
from ...images.cut import CutTiles
from ...probes import grouped_folds
from ...provenance import stream
from ..cohort import SOURCE, Cohort
from .scores import FOUND, TILE
from .task import Task, unknown_mpp

#: What is found within this of an object is that object; each object is found once.
HIT_UM = 7.5
#: Places as near as this to an object are trained on as such, and those farther than the second as none.
NEAR_UM, FAR_UM = 4.0, 10.0
#: Places of a map lie about as close as this: tiles are shifted by fractions of what a place stands for.
SPACING_UM = 4.0
#: Empty places of each tile that are trained on, and places that a tile is said to have at most.
EMPTY, MOST_FOUND = 30, 60
FOLDS = 3
#: What is to be found, of a table that has several kinds of objects.
KIND = "mitotic figure"
#: Tiles of a site, and places of each, by which a change of vectors is fitted to places.
SAMPLED_TILES, SAMPLED_PLACES = 300, 20
#: Inverse penalty of the head, the same for every method.
STRENGTH = 0.1
Points = Float[np.ndarray, "_p 2"]
#: From vectors of one site to others, as a chain changes them.
Correct = Callable[[Vectors, str], Vectors]
#: From a tile, its id and um per pixel to the tile, and copies of it.
Copies = Callable[[Tile, str, float | None], list[Tile]]


def find_objects(tiles: TileSource, objects: pd.DataFrame) -> list[Points]:
    """Return the places `(x, y)` of the objects of each tile, in pixels, from a table with `tile`, `x` and `y`.

    Where it has a column `kind`, objects are those of the kind `mitotic figure`: look-alikes are none. Of tiles that
    were cut from larger images, `tile` names the image, and places are pixels of its finest level.

    Raises
    ------
    InputError
        If a column or that kind is missing, or no tile has any.
    """
    missing = [name for name in ("tile", "x", "y") if name not in objects]
    if missing:
        raise InputError("a table of objects needs the columns tile, x and y", received=", ".join(map(str, objects)))
    if "kind" in objects:
        kinds = objects["kind"].astype(str)
        if not (kinds == KIND).any():
            raise InputError(
                f"no object is of the kind {KIND!r}",
                received=", ".join(sorted(set(kinds))),
                fix=f"call those that are to be found {KIND!r}, or leave the column kind out",
            )
        objects = pd.DataFrame(objects[kinds == KIND])
    there = {str(name): group[["x", "y"]].to_numpy(float) for name, group in objects.groupby("tile")}
    ids = [str(name) for name in (tiles.whole if isinstance(tiles, CutTiles) else tiles).table.index]
    if not there.keys() & set(ids):
        raise InputError(
            "no object is on any tile of the cohort",
            received=f"tiles such as {next(iter(there), 'none')!r}",
            valid=f"ids such as {ids[0]!r}",
        )
    none = np.zeros((0, 2))
    if not isinstance(tiles, CutTiles):
        return [there.get(name, none) for name in ids]
    found, reader = [], tiles.reader
    for owner, place, side in zip(reader.owners, reader.places, reader.sides, strict=True):
        within = there.get(ids[owner], none) - place
        within = within[((within >= 0) & (within < side)).all(axis=1)]
        found.append(within * (reader.tile_px / max(side, 1)))
    return found


@dataclass(frozen=True, eq=False)
class Places:
    """The map of a tile: where its places lie, in pixels, and what stands there.

    `shape` is how many places there are down and right, `sides` the tile's height and width in pixels.
    """

    points: Points
    features: Float[np.ndarray, "p d"]
    shape: tuple[int, int]
    sides: tuple[int, int]


def map_places(encoder: Encoder, tiles: Sequence[Tile], mpp: float) -> list[Places]:
    """Return features of all layers, laid over each other at places about SPACING_UM apart, of tiles of one size.

    Where even the finest layer is coarser than that, tiles are shifted by fractions of what a place stands for,
    mirrored beyond their border, and the maps of all shifts laid into each other (Long et al. 2015, CVPR).
    """
    levels = encode_levels(encoder, tiles)
    sides, most = tiles[0].shape[:2], levels[0].shape[2:]
    wanted = [max(1, round(side * mpp / SPACING_UM)) for side in sides]
    finer = max(1, round(wanted[0] / most[0]))
    if finer == 1:
        laid = _lay(levels, (wanted[0], wanted[1]))
    else:
        steps = [side / count / finer for side, count in zip(sides, most, strict=True)]
        laid = np.empty(
            (len(tiles), most[0] * finer, most[1] * finer, sum(level.shape[1] for level in levels)), np.float32
        )
        for down in range(finer):
            for right in range(finer):
                # Shifted by these, the middle of a place lies where it would if the map were so much finer.
                dy, dx = (round((k - (finer - 1) / 2) * step) for k, step in zip((down, right), steps, strict=True))
                moved = encode_levels(encoder, [_shift(tile, dy, dx) for tile in tiles])
                laid[:, down::finer, right::finer] = _lay(moved, (most[0], most[1]))
    rows, columns = laid.shape[1:3]
    y, x = ((np.arange(count) + 0.5) * side / count - 0.5 for count, side in zip((rows, columns), sides, strict=True))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return [Places(grid, each.reshape(len(grid), -1), (rows, columns), (sides[0], sides[1])) for each in laid]


def _lay(levels: Sequence[np.ndarray], shape: tuple[int, int]) -> Float[np.ndarray, "_n _h _w _d"]:
    """Bring maps `(n, d, h, w)` to one shape, and put the features of each place in a row."""
    parts = [
        np.einsum(
            "oh,ndhw,pw->nopd",
            _resampling(level.shape[2], shape[0]),
            level,
            _resampling(level.shape[3], shape[1]),
            optimize=True,
        )
        for level in levels
    ]
    return np.concatenate(parts, axis=-1)


@lru_cache(maxsize=64)
def _resampling(count: int, wanted: int) -> np.ndarray:
    """Return the weights `(wanted, count)` of places on a line: means of more, linear between fewer."""
    if count >= wanted:
        edges, ends = np.arange(count + 1), np.linspace(0, count, wanted + 1)
        low, high = np.maximum(edges[None, :-1], ends[:-1, None]), np.minimum(edges[None, 1:], ends[1:, None])
        weights = np.maximum(high - low, 0) * wanted / count
    else:
        at = np.clip((np.arange(wanted) + 0.5) * count / wanted - 0.5, 0, count - 1)
        weights = np.maximum(1 - np.abs(at[:, None] - np.arange(count)), 0)
    return weights.astype(np.float32)


def _shift(tile: Tile, down: int, right: int) -> Tile:
    """Return the tile as seen through a window that lies so many pixels further down and right."""
    pad = max(abs(down), abs(right))
    if not pad:
        return tile
    wide = np.pad(tile, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    height, width = tile.shape[:2]
    return np.ascontiguousarray(wide[pad + down : pad + down + height, pad + right : pad + right + width])


def read_objects(task: Task, objects: Sequence[Points], view: "PlaceView", *, seed: int = 0) -> pd.DataFrame:
    """Return rows of tiles, and of what was found in them, at the source and each unseen site.

    The head and the score from which on something counts are chosen on the source alone: on folds of patients, by F1.

    Raises
    ------
    InputError
        If patients with objects cannot be split.
    """
    cohort = view.cohort
    trained = [(int(row), each) for row, each in zip(cohort.train, view.maps(cohort.train, SOURCE), strict=True)]
    folds = grouped_folds(_has(objects, cohort.train), cohort.groups[cohort.train], FOLDS, seed)
    if not folds:
        raise InputError(
            f"the task {task.name} cannot be read: objects are of one patient of the source, or of all tiles",
            fix="take a cohort with objects of more patients, or leave the task out",
        )
    examples = [
        [_examples(row, each, objects, view, seed) for each in (places, *view.copied(row))] for row, places in trained
    ]
    own = []
    for train, test in folds:
        head = _train([example for k in train for example in examples[k]])
        own += [view.rows(row, each, head, objects[row]) for row, each in (trained[k] for k in test)]
    within = pd.concat(own, ignore_index=True)
    threshold = _best_threshold(within)
    head = _train([example for of_tile in examples for example in of_tile])
    parts = []
    for site, rows in cohort.asked.items():
        if rows is cohort.train:
            parts.append(within.assign(site=site))
            continue
        maps = zip(rows, view.maps(rows, site), strict=True)
        found = [view.rows(int(row), each, head, objects[row]) for row, each in maps]
        parts.append(pd.concat(found, ignore_index=True).assign(site=site))
    table = pd.concat(parts, ignore_index=True)
    predicted = (table["score"] >= threshold).astype(int)
    return table.assign(group=cohort.groups[table["unit"]], predicted=predicted)


def _has(objects: Sequence[Points], rows: np.ndarray) -> np.ndarray:
    return np.array([int(len(objects[row]) > 0) for row in rows])


@dataclass(frozen=True, eq=False)
class PlaceView:
    """Tiles of a cohort as maps of features, of which the chain's change of vectors is made, if any.

    `copies` gives a tile, and after it augmented copies of it, which are trained on beside it.
    """

    cohort: Cohort
    encoder: Encoder
    correct: Correct | None = None
    copies: Copies | None = None
    batch_size: int = 64

    def mpp(self, row: int) -> float:
        """The um per pixel of a tile.

        Raises
        ------
        InputError
            If it is not known.
        """
        table = self.cohort.tiles.table
        mpp = known_mpp(table, row)
        if mpp is None:
            raise unknown_mpp(1, len(table), str(table.index[row]))
        return mpp

    def maps(self, rows: np.ndarray, site: str) -> Iterator[Places]:
        """Yield the map of each tile."""
        tiles = ((self.cohort.tiles.read(int(row)), self.mpp(int(row))) for row in rows)
        yield from self._maps(tiles, site)

    def copied(self, row: int) -> list[Places]:
        """Return maps of the augmented copies of a tile that is trained on."""
        if self.copies is None:
            return []
        mpp, name = self.mpp(row), str(self.cohort.tiles.table.index[row])
        copies = self.copies(self.cohort.tiles.read(row), name, mpp)[1:]
        return list(self._maps(((copy, mpp) for copy in copies), SOURCE))

    def _maps(self, tiles: Iterator[tuple[Tile, float]], site: str) -> Iterator[Places]:
        for (_, mpp), alike in groupby(tiles, key=lambda item: (item[0].shape, item[1])):
            while part := [tile for tile, _ in islice(alike, self.batch_size)]:
                for places in map_places(self.encoder, part, mpp):
                    features = places.features if self.correct is None else self.correct(places.features, site)
                    yield replace(places, features=features)

    def rows(self, row: int, places: Places, head: "_Head", objects: Points) -> pd.DataFrame:
        """Return the rows of a tile and of what a head finds in it."""
        mpp = self.mpp(row)
        return _rows(row, head.find(places, mpp), objects, mpp, places.sides)

    def sample(self, rows: np.ndarray, seed: int) -> Vectors:
        """Return the features of some places of some tiles, by which a change of vectors can be fitted."""
        chosen = spaced(rows, SAMPLED_TILES)
        ids = self.cohort.tiles.table.index
        found = []
        for row, places in zip(chosen, self.maps(chosen, ""), strict=True):
            order = stream(seed, "sampled places", str(ids[row])).permutation(len(places.features))
            found.append(places.features[order[:SAMPLED_PLACES]])
        return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class _Head:
    """A trained regression of whether there is an object at a place."""

    mean: np.ndarray
    sd: np.ndarray
    regression: Any

    def find(self, places: Places, mpp: float) -> tuple[Points, Float[np.ndarray, " f"]]:
        """Return where objects may be, at most MOST_FOUND, and how sure that is; no two are nearer than a hit."""
        chances = self.regression.predict_proba(((places.features - self.mean) / self.sd).astype(np.float32))[:, 1]
        plane = chances.reshape(places.shape)
        spacing = np.ptp(places.points[:, 0]) / max(places.shape[1] - 1, 1) * mpp
        radius = max(1, int(HIT_UM / max(spacing, 1e-9)))
        peaks = np.flatnonzero((plane == maximum_filter(plane, 2 * radius + 1)).ravel())
        peaks = peaks[np.argsort(-chances[peaks], kind="stable")][:MOST_FOUND]
        return places.points[peaks], chances[peaks]


def _train(examples: Sequence[tuple[np.ndarray, np.ndarray]]) -> _Head:
    """Train on features and labels of places of tiles."""
    from sklearn.linear_model import LogisticRegression

    x, y = np.concatenate([x for x, _ in examples]), np.concatenate([y for _, y in examples])
    mean, sd = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    sd = np.where(sd > 1e-6 * np.abs(x).max(axis=0), sd, np.inf)
    regression = LogisticRegression(C=STRENGTH, max_iter=300, class_weight="balanced")
    regression.fit(((x - mean) / sd).astype(np.float32), y)
    return _Head(mean, sd, regression)


def _examples(
    row: int, places: Places, objects: Sequence[Points], view: PlaceView, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of all places near objects, and of as many empty ones as EMPTY says."""
    gaps = _gaps(places.points, objects[row]) * view.mpp(row)
    near, far = np.flatnonzero(gaps <= NEAR_UM), np.flatnonzero(gaps > FAR_UM)
    far = stream(seed, "empty places", str(view.cohort.tiles.table.index[row])).permutation(far)[:EMPTY]
    return places.features[np.concatenate([near, far])], np.repeat([1, 0], [len(near), len(far)])


def _gaps(points: Points, objects: Points) -> Float[np.ndarray, " p"]:
    """Return how far each place is from the nearest object, in pixels."""
    return cdist(points, objects).min(axis=1) if len(objects) else np.full(len(points), np.inf)


def _rows(
    row: int, found: tuple[Points, Float[np.ndarray, " f"]], objects: Points, mpp: float, sides: tuple[int, int]
) -> pd.DataFrame:
    """Return a row for the tile, and one for each thing found, surest first; it takes the nearest object still free."""
    points, scores = found
    free, hits = np.ones(len(objects), bool), np.zeros(len(points), int)
    for k, gaps in enumerate(cdist(points, objects) * mpp if len(objects) else ()):
        gaps = np.where(free, gaps, np.inf)
        best = int(gaps.argmin())
        if gaps[best] <= HIT_UM:
            free[best], hits[k] = False, 1
    return pd.DataFrame(
        {
            "unit": int(row),
            "kind": [TILE, *[FOUND] * len(points)],
            "truth": [len(objects), *hits],
            "score": [np.nan, *scores],
            "area_mm2": [sides[0] * sides[1] * (mpp / 1000) ** 2, *[0.0] * len(points)],
        }
    )


def _best_threshold(rows: pd.DataFrame) -> float:
    """Return the score from which on what is found counts, so that F1 is best."""
    is_found, truth, scores = (
        (rows["kind"] == FOUND).to_numpy(),
        rows["truth"].to_numpy(),
        rows["score"].to_numpy(float),
    )
    order = np.flatnonzero(is_found)[np.argsort(-scores[is_found], kind="stable")]
    if not len(order):
        return 1.0
    f1 = 2 * truth[order].cumsum() / (np.arange(1, len(order) + 1) + truth[~is_found].sum())
    return float(scores[order[int(np.argmax(f1))]])
