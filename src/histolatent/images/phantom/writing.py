"""A phantom cohort as files: tiles, manifest, truth, annotations and a card."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from loky import ProcessPoolExecutor
from PIL import Image

from ...errors import OptionError
from ...outputs import Mark, whole
from ...provenance import canonical_json, combined_digest, environment, file_digest, pixel_hash
from ..worker import start_process
from .spec import PhantomSpec
from .tiles import PhantomTiles

FORMAT = 1
KIND = "histolatent phantom"
MARK = Mark("card.json", KIND)
CHUNK = 16
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Written:
    """What a worker hands back about one tile."""

    pixels: str
    truth: dict[str, Any]
    features: list[dict[str, Any]]


def write_phantom(
    spec: PhantomSpec,
    out: str | os.PathLike[str],
    *,
    workers: int = 0,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a cohort to the folder `out`, whole or not at all, and return its path.

    - `tiles/SITE/PATIENT/SLIDE/TILE.png`, lossless; a protocol's JPEG artefacts are in the pixels;
    - `manifest.csv`: paths relative to the folder, and every column of the table;
    - `truth.parquet`: one row per tile;
    - `annotations.geojson`: a point per nucleus in tile pixels, classes as QuPath names them, mitoses as `mitosis`;
    - `card.json`: spec, versions, sha256 of the manifest and over all pixel hashes.

    The same spec gives the same bytes, whatever `workers` (processes beside this one; 0 means none). `progress` is
    called with tiles done and tiles in all.

    Raises
    ------
    OutputError
        If `out` exists and `overwrite` is false, or it is no cohort that this function wrote; or the disk is full.
    """
    if workers < 0:
        raise OptionError("the number of workers is negative", received=workers, valid="0 or more; 0 means no process")
    tiles = PhantomTiles(spec)
    with whole(out, overwrite=overwrite, mark=MARK) as folder:
        folder.mkdir()
        for slide in tiles.table["slide"].unique():
            (folder / "tiles" / slide).mkdir(parents=True)
        written: list[_Written] = []
        with _mapper(workers) as run:
            chunks = [range(i, min(i + CHUNK, len(tiles.table))) for i in range(0, len(tiles.table), CHUNK)]
            for part in run(_write_chunk, ((spec, str(folder), chunk) for chunk in chunks)):
                written += part
                if progress is not None:
                    progress(len(written), len(tiles.table))
        _write_tables(tiles, written, folder)
    return Path(out)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield an ordered map, in this process or over fresh ones."""
    if workers == 0:
        yield map
        return
    pool = ProcessPoolExecutor(workers, initializer=start_process)

    # Not pool.map: stopped midway, it cancels what waits, over which Loky stumbles when its workers are ended.
    def run(work: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield run
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _write_chunk(job: tuple[PhantomSpec, str, range]) -> list[_Written]:
    """Draw and write some tiles; runs in a worker."""
    spec, folder, indices = job
    tiles = PhantomTiles(spec)
    written = []
    for index in indices:
        drawn = tiles.draw(index)
        tile = str(tiles.table.index[index])
        Image.fromarray(drawn.pixels).save(Path(folder) / tile_path(tile), compress_level=4)
        features = [_feature(tile, row) for row in drawn.annotations.to_dict("records")]
        written.append(_Written(pixel_hash(drawn.pixels), drawn.truth, features))
    return written


def tile_path(tile: str) -> str:
    """Return where a tile's file is, relative to the cohort's folder."""
    return f"tiles/{tile}.png"


def _feature(tile: str, nucleus: dict[str, Any]) -> dict[str, Any]:
    """Return one nucleus as QuPath reads it. Coordinates are pixels of the tile that `properties.tile` names."""
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [round(nucleus["x"], 2), round(nucleus["y"], 2)]},
        "properties": {
            "objectType": "annotation",
            "tile": tile,
            "classification": {"name": "mitosis" if nucleus["mitosis"] else nucleus["kind"]},
            "measurements": {name: round(nucleus[name], 3) for name in ("major_um", "minor_um", "angle")},
        },
    }


def _write_tables(tiles: PhantomTiles, written: list[_Written], folder: Path) -> None:
    table = tiles.table
    paths = pd.DataFrame({"path": [tile_path(str(tile)) for tile in table.index]})
    manifest = paths.join(table.reset_index())
    manifest.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
    truth = tiles.complete_truth([each.truth for each in written])
    truth.to_parquet(folder / "truth.parquet")
    with (folder / "annotations.geojson").open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[\n')
        file.write(",\n".join(canonical_json(feature) for each in written for feature in each.features))
        file.write("\n]}\n")
    card = {
        "format": FORMAT,
        "kind": KIND,
        "spec": tiles.spec.model_dump(),
        "seed": tiles.spec.seed,
        "n_tiles": len(table),
        "manifest_sha256": file_digest(folder / "manifest.csv"),
        "pixels_sha256": combined_digest(each.pixels for each in written),
        "environment": environment(),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_truth(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the truth of a written cohort, indexed by tile id."""
    return pd.read_parquet(Path(folder) / "truth.parquet")
