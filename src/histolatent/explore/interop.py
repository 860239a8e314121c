"""A map for other tools: embedding-atlas, TensorBoard's projector, scanpy and cellxgene, FiftyOne."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..embeddings.table import obs_of
from ..errors import InputError
from ..outputs import Mark, whole
from ..provenance import plain
from .maps import PLACED_BY, Map, refuse_other_encoder, to_obsm
from .trust import MapTrust

if TYPE_CHECKING:
    from anndata import AnnData

#: Nearest tiles that a table for embedding-atlas names, in the space and not in the map.
NEIGHBOURS = PLACED_BY
PROJECTOR = Mark("projector_config.pbtxt")
#: What is said of the tiles that were judged.
JUDGED = ("recall", "false", "missing", "stability", "reliability", "verdict")


def write_atlas(
    path: str | os.PathLike[str],
    made: Map,
    obs: pd.DataFrame,
    trust: MapTrust | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a Parquet file that embedding-atlas opens: a row for each tile, with places, neighbours and distortion.

    `projection_x`, `projection_y`; `neighbors`, a structure `{ids, distances}` of the nearest tiles in the space by
    their row; with `trust`, `recall`, `false` and `missing` of the tiles that were judged, and what else was asked:
    `stability`, and with a null `reliability` and `verdict`; and `obs`, its columns of these names as `obs_NAME`.
    Open it as `embedding-atlas map.parquet --x projection_x --y projection_y --neighbors neighbors`.

    Raises
    ------
    InputError
        If `obs` is of other tiles.
    OutputError
        If the file exists and not `overwrite`, or the disk is full.
    """
    from .graph import make_graph

    _check_tiles(made, obs)
    near = make_graph(made.vectors, k=min(NEIGHBOURS, len(made.tiles) - 1), metric=made.metric)
    frame = _known(made, obs, ("projection_x", "projection_y", "neighbors", *JUDGED))
    frame["projection_x"], frame["projection_y"] = made.places.T
    frame["neighbors"] = [
        {"ids": ids.tolist(), "distances": far.tolist()} for ids, far in zip(near.index, near.distance, strict=True)
    ]
    if trust is not None:
        points = trust.points
        k = next(figure.k for figure in trust.faithfulness.figures if figure.metric == "recall")
        for name in JUDGED:
            column = f"{name}@{k}" if f"{name}@{k}" in points else name
            if column in points:
                frame[name] = points[column].reindex(range(len(frame)))
    target = Path(path)
    with whole(target, overwrite=overwrite) as part:
        frame.to_parquet(part, index=False)
    return target


def write_projector(folder: str | os.PathLike[str], made: Map, obs: pd.DataFrame, *, overwrite: bool = False) -> Path:
    """Write a folder that TensorBoard's projector opens: vectors and places as `.tsv`, metadata, and its configuration.

    Metadata of names alone have no header, as TensorBoard asks.

    Raises
    ------
    InputError
        If `obs` is of other tiles.
    OutputError
        If the folder exists and not `overwrite`, or the disk is full.
    """
    _check_tiles(made, obs)
    target = Path(folder)
    clean = _known(made, obs).map(lambda value: "" if pd.isna(value) else " ".join(str(value).split()))
    with whole(target, overwrite=overwrite, mark=PROJECTOR) as part:
        part.mkdir(parents=True)
        np.savetxt(part / "vectors.tsv", made.vectors, delimiter="\t", fmt="%.7g")
        np.savetxt(part / f"{made.method}.tsv", made.places, delimiter="\t", fmt="%.7g")
        clean.to_csv(part / "metadata.tsv", sep="\t", index=False, header=clean.shape[1] > 1)
        fields = 'tensor_name: "{0}"\n  tensor_path: "{0}.tsv"\n  metadata_path: "metadata.tsv"'
        entries = [f"embeddings {{\n  {fields.format(name)}\n}}\n" for name in ("vectors", made.method)]
        (part / PROJECTOR.name).write_text("".join(entries), encoding="utf-8")
    return target


def with_maps(table: "AnnData", maps: Sequence[Map]) -> "AnnData":
    """Return a copy of a table with maps in `obsm`, where scanpy and cellxgene look for them: `X_umap`, `X_tsne`.

    Raises
    ------
    InputError
        If a map is of other tiles, or another encoder.
    """
    for made in maps:
        if list(made.tiles) != list(map(str, table.obs_names)):
            raise InputError(f"the map {made.method} is of other tiles than the table")
        refuse_other_encoder(made, table, "the table's tiles were")
    found = table.copy()
    for name, places in to_obsm(maps).items():
        found.obsm[name] = places
    return found


def write_fiftyone(
    path: str | os.PathLike[str],
    made: Map,
    table: "AnnData",
    *,
    files: Sequence[str] | None = None,
    trust: MapTrust | None = None,
    overwrite: bool = False,
) -> Path:
    """Write JSON of samples for FiftyOne: `filepath`, `tile`, `point` in the map, from 0 to 1, and what is known.

    `files` are paths of the tiles' images, where there are any. Columns of these names are `obs_NAME`.

    Raises
    ------
    InputError
        If the map is of other tiles, or there are not as many files.
    OutputError
        If the file exists and not `overwrite`, or the disk is full.
    """
    obs = obs_of(table)
    _check_tiles(made, obs)
    if files is not None and len(files) != len(made.tiles):
        raise InputError("files have to be named for each tile", received=f"{len(files)} for {len(made.tiles)}")
    low, high = made.places.min(axis=0), made.places.max(axis=0)
    points = (made.places - low) / np.maximum(high - low, 1e-300)
    local = None if trust is None else trust.points
    samples = []
    frame = _known(made, obs, ("filepath", "point", "distortion"))
    for row, tile in enumerate(made.tiles):
        known = {str(key): None if pd.isna(value) else plain(value) for key, value in frame.iloc[row].items()}
        sample = {"tile": tile, "point": points[row].tolist(), **known}
        if files is not None:
            sample = {"filepath": str(files[row]), **sample}
        if local is not None and row in local.index:
            sample["distortion"] = plain(dict(local.loc[row]))
        samples.append(sample)
    target = Path(path)
    with whole(target, overwrite=overwrite) as part:
        part.write_text(json.dumps({"samples": samples}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return target


def _known(made: Map, obs: pd.DataFrame, taken: Sequence[str] = ()) -> pd.DataFrame:
    """Return names of tiles and what is known of them; columns of names that are taken are renamed."""
    frame = obs.reset_index(drop=True).copy()
    named = [str(name) for name in frame.columns]
    frame.columns = pd.Index([f"obs_{name}" if name in ("tile", *taken) else name for name in named])
    frame.insert(0, "tile", pd.Series(made.tiles))
    return frame


def _check_tiles(made: Map, obs: pd.DataFrame) -> None:
    if list(made.tiles) != [str(name) for name in obs.index]:
        raise InputError(
            "the map is of other tiles than the table",
            received=f"{len(obs)} tiles",
            valid=f"the {len(made.tiles)} tiles of the map, in its order",
        )
