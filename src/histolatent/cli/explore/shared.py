"""What the verbs of `explore` share: a table, a decoder and tiles as a space; pictures and numbers as a folder."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import HistolatentError, InputError, OptionError
from ..console import say

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData

    from ...explore.maps import Map
    from ...explore.space import LatentSpace
    from ...report.canvas import Drawn

Table = Annotated[Path, typer.Argument(help="An embedding table: .zarr, .h5ad, .parquet, .csv, .npy, .h5.")]
Decoder = Annotated[
    Path | None, typer.Option("--decoder", "-d", help="A model of `explore train` that turns vectors into tiles.")
]
TilesOf = Annotated[
    str | None, typer.Option("--tiles", help="The tiles that were embedded: real ones are shown beside decoded ones.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures (PNG, SVG), movies and numbers (JSON).")]
CARD, KIND = "explore.json", "histolatent explore"
#: Steps of a movie for each step of a picture.
FINER = 4
#: Share of tiles of whose neighbours a tile may be, and times the share of all neighbours, before it is told.
HUB, USUAL = 0.25, 4
#: What stands under decoded tiles, in words.
DENSER = "under a decoded tile: how many real ones lie in denser places of the space"


def read_space(
    table: Path, decoder: Path | None, tiles: str | None, *, allow_outside: bool = False, device: str | None = None
) -> "LatentSpace":
    """Return a table as a space, with a decoder and pictures where they are given."""
    from ...embeddings import read_table

    return space_of(read_table(table), decoder, tiles, allow_outside=allow_outside, device=device)


def space_of(
    table: "AnnData", decoder: Path | None, tiles: str | None, *, allow_outside: bool = False, device: str | None = None
) -> "LatentSpace":
    """Return a table that was read as a space. See `read_space`."""
    from ...explore.space import LatentSpace
    from ...images import open_tiles

    model = None
    if decoder is not None:
        from ...explore.generative.model import read_model

        model = read_model(decoder, device=device)
    pictures = None if tiles is None else open_tiles(tiles, allow_outside=allow_outside)
    return LatentSpace.of(table, model, pictures)


def column_of(table: "AnnData", name: str) -> "pd.Series":
    """Return a column of a table by its name, or say which there are."""
    import pandas as pd

    from ...embeddings.table import obs_of
    from ...errors import unknown

    obs = obs_of(table)
    if name not in obs:
        raise unknown("column", name, [str(each) for each in obs.columns])
    return pd.Series(obs[name])


def table_of(made: "Map", path: Path | None) -> "AnnData":
    """Return the table that a map is of: the one given, or the one that its card names."""
    from ...embeddings import read_table
    from ...explore.maps import refuse_other_encoder

    named = path or Path(str((made.card or {}).get("table", "")))
    if not named.name or not named.exists():
        raise OptionError(
            "the table that the map is of is not where it was",
            received=named if named.name else "no table",
            fix="--table emb.zarr says where it is",
        )
    found = read_table(named)
    if list(made.tiles) != list(map(str, found.obs_names)):
        raise InputError("the map is of other tiles than the table", received=named)
    refuse_other_encoder(made, found, "the table's tiles were")
    return found


def table_if_there(made: "Map", path: Path | None) -> "AnnData | None":
    """Return the table that a map is of; None where it is not found. A table that is named has to be found."""
    try:
        return table_of(made, path)
    except HistolatentError:
        if path is not None:
            raise
        return None


def whose_tiles(table: "AnnData | None") -> "np.ndarray | None":
    """Return codes of the patients, else slides, of a table's tiles; None where it says nothing."""
    from ...embeddings.table import obs_of
    from ...explore.attributes import groups_of

    return None if table is None else groups_of(obs_of(table))[1]


def write_outcome(
    out: Path,
    kind: str,
    numbers: Mapping[str, Any],
    *,
    figures: "Mapping[str, Drawn]",
    movies: "Mapping[str, Sequence[np.ndarray]] | None" = None,
    overwrite: bool = False,
    per_second: float = 8.0,
    beside: "Callable[[Path], object] | None" = None,
) -> None:
    """Write pictures, movies and numbers to a folder that appears whole, and say what is in it.

    `beside` is called with the folder before it is put in its place, to write files of its own there.
    """
    from ...outputs import Mark, whole
    from ...provenance import environment, now, plain

    mark = Mark(CARD, kind)
    document = {"kind": kind, "created": now(), **numbers, "environment": environment()}
    with whole(out, overwrite=overwrite, mark=mark) as part:
        part.mkdir(parents=True)
        for name, drawn in figures.items():
            (part / f"{name}.png").write_bytes(drawn.png)
            (part / f"{name}.svg").write_text(drawn.svg, encoding="utf-8")
        if movies:
            from ...report.movies import write_movie

            for name, frames in movies.items():
                for ending in (".gif", ".mp4"):
                    write_movie(part / f"{name}{ending}", frames, per_second=per_second)
        if beside:
            beside(part)
        text = json.dumps(plain(document), indent=1, sort_keys=True, ensure_ascii=False)
        (part / CARD).write_text(text + "\n", encoding="utf-8")
    written = [f"{name}.png" for name in figures] + [f"{name}.gif and .mp4" for name in movies or {}]
    say(f"{out}: {', '.join(written)}; numbers in {CARD}")


def refuse_outcome(out: Path, kind: str, *, overwrite: bool) -> None:
    """Raise if the folder cannot be written. A long run asks this first."""
    from ...outputs import Mark, refuse_existing

    refuse_existing(out, overwrite=overwrite, mark=Mark(CARD, kind))


def refuse_nothing_to_show(space: "LatentSpace") -> None:
    """Raise if a place can be shown neither decoded nor by real tiles."""
    if space.decoder is None and space.pictures is None:
        raise InputError(
            "there is nothing to show", fix="--decoder MODEL shows decoded tiles, --tiles SRC real ones nearby"
        )


def say_nothing_to_show(space: "LatentSpace") -> None:
    """Say it if places are shown neither decoded nor by real tiles."""
    if space.decoder is None and space.pictures is None:
        say("no tile is shown: --decoder MODEL shows decoded ones, --tiles SRC real ones nearby")


def say_hub(space: "LatentSpace") -> None:
    """Say it if one tile is near to a large part of all: ways and tiles nearby are then about that one."""
    tile, share = space.hub
    if share > max(HUB, USUAL * space.graph.k / len(space.tiles)):
        say(
            f"{tile} is among the {space.graph.k} nearest of {share:.0%} of all tiles: ways through neighbours lead "
            "through it, and a real tile nearby is often that one"
        )


def densities(shares: Iterable[float]) -> list[str]:
    """Return what stands under decoded tiles: how many real ones lie in denser places."""
    return [f"{share:.0%} lie denser" for share in shares]


def film(space: "LatentSpace", vectors: "np.ndarray", words: Iterable[str]) -> "list[np.ndarray]":
    """Return places as frames of a movie, decoded: under each `words` of it, and how many tiles lie denser."""
    from ...report.exploring import draw_film

    tiles = space.decode(vectors)
    shares = space.risks(vectors, tiles)["sparser"]
    return draw_film(tiles, [f"{word}\n{dense}" for word, dense in zip(words, densities(shares), strict=True)])


def real_tiles(space: "LatentSpace", names: list[str]) -> "np.ndarray":
    """Return real tiles as an array of one size: that of the decoder, or of the first of them."""
    import cv2
    import numpy as np

    found = [space.show(name) for name in names]
    side = getattr(space.decoder, "tile_px", None) or found[0].shape[0]
    return np.stack([cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA) for tile in found])
