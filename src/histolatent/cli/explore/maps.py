"""`histolatent explore map`, `trust`, `island`, `place`, `export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError, OptionError, unknown
from ..console import AllowOutside, Overwrite, Quiet, progress_bar, say
from .shared import KIND, Out, Table, column_of, refuse_outcome, table_if_there, table_of, whose_tiles, write_outcome

if TYPE_CHECKING:
    from anndata import AnnData

MAP_EXAMPLE = "Example: histolatent explore map emb.zarr --method umap --method tsne --colour label --out maps/"
TRUST_EXAMPLE = "Example: histolatent explore trust maps/umap --column label --column site --out trust/"
ISLAND_EXAMPLE = "Example: histolatent explore island maps/umap --box 2,3,4,5 --out island/"
PLACE_EXAMPLE = "Example: histolatent explore place maps/umap new.zarr --out placed.csv"
EXPORT_EXAMPLE = "Example: histolatent explore export maps/umap --to atlas --out map.parquet"
MapFolder = Annotated[Path, typer.Argument(help="A map: a folder that `explore map` wrote, named by its method.")]
TableOption = Annotated[
    Path | None, typer.Option("--table", help="The table that the map is of, if it is not where it was.")
]
Colour = Annotated[str | None, typer.Option("--colour", help="Column that tiles of the map are coloured by.")]
FORMS = ("atlas", "projector", "h5ad", "fiftyone")


def make(
    table: Table,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for maps, their picture, and numbers.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", "-m", help="pca, tsne, umap, densmap, pacmap, localmap, autoencoder. Repeatable. Default: umap."
        ),
    ] = None,
    colour: Colour = None,
    metric: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.NAME=VALUE", help="--set tsne.perplexity=50. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the maps.")] = 0,
    trust: Annotated[
        bool, typer.Option("--trust/--no-trust", help="Score each map against the space, for its caption.")
    ] = True,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Lay a space out in the plane, by one method or several on the same neighbours, aligned to each other."""
    import numpy as np

    from ...embeddings import card_of, read_table
    from ...explore.graph import make_graph
    from ...explore.layouts import LAYOUTS
    from ...explore.maps import align, compare_maps, make_map, save_map
    from ...explore.trust import judge_map
    from ...report.exploring import draw_maps

    methods = list(dict.fromkeys(method or ["umap"]))
    for name in methods:
        LAYOUTS[name]
    options = _options(change or [], methods)
    refuse_outcome(out, f"{KIND} map", overwrite=overwrite)
    read = read_table(table)
    values = None if colour is None else column_of(read, colour)
    vectors = np.asarray(read.X, np.float32)
    card = {"table": str(table.resolve()), "encoder": card_of(read).get("encoder")}
    graph = make_graph(vectors, metric=metric)
    made = []
    with progress_bar("mapping", quiet=quiet, unit="maps") as progress:
        for done, name in enumerate(methods):
            progress(done, len(methods))
            made.append(
                make_map(
                    vectors,
                    name,
                    tiles=list(map(str, read.obs_names)),
                    graph=graph,
                    seed=seed,
                    card=card,
                    **options.get(name, {}),
                )
            )
        progress(len(methods), len(methods))
    made = align(made)
    columns = {} if values is None or values.nunique() < 2 else {str(colour): values.tolist()}
    asked = {"columns": columns, "groups": whose_tiles(read), "graph": graph, "seeds": 1, "null": False}
    judged = [judge_map(each, **asked) if trust else None for each in made]
    numbers: dict[str, Any] = {"methods": methods, "metric": metric, "seed": seed, "table": card["table"]}
    numbers["trust"] = {
        each.method: found.to_frame().to_dict("records") for each, found in zip(made, judged, strict=True) if found
    }
    numbers["shared"] = compare_maps(made).to_dict("records")
    write_outcome(
        out,
        f"{KIND} map",
        numbers,
        figures={"maps": draw_maps(made, judged, values)},
        overwrite=overwrite,
        beside=lambda part: [save_map(each, part / each.method) for each in made],
    )
    for each, found in zip(made, judged, strict=True):
        say(found.caption() if found else f"{each.method}: {out / each.method}")


def _options(pairs: list[str], methods: list[str]) -> dict[str, dict[str, Any]]:
    from ..compact import parse_changes

    found: dict[str, dict[str, Any]] = {}
    for name, value in parse_changes(pairs).items():
        method, dot, option = name.partition(".")
        if not dot or method not in methods:
            raise OptionError(
                "an option is of one of the methods",
                received=name,
                valid=", ".join(f"{each}.NAME=VALUE" for each in methods),
            )
        found.setdefault(method, {})[option] = value
    return found


def trust(
    folder: MapFolder,
    out: Out,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="Does the picture show it more apart than it is? Repeatable: label, site."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Maps by other seeds to compare with, this one included.")] = 3,
    null: Annotated[
        bool, typer.Option("--null/--no-null", help="Map vectors without structure, too: are places better than there?")
    ] = True,
    anchors: Annotated[
        int, typer.Option(min=0, help="Tiles that are scored, each against all; 0 is every tile.")
    ] = 1000,
    table: TableOption = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of anchors and of the null.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Say how far to believe a map: neighbours kept, with intervals; of each tile whether its place means anything.

    Intervals are for other patients (else slides) where the map's table has them, else for this map alone.
    """
    from ...explore.maps import read_map
    from ...explore.trust import judge_map
    from ...report.exploring import draw_faithfulness, draw_points

    refuse_outcome(out, f"{KIND} trust", overwrite=overwrite)
    made = read_map(folder)
    read = table_of(made, table) if column else table_if_there(made, table)
    columns = {} if read is None else {name: column_of(read, name).tolist() for name in column or []}
    groups = whose_tiles(read)
    found = judge_map(made, columns=columns, groups=groups, seeds=seeds, null=null, anchors=anchors or None, seed=seed)
    figures = {"points": draw_points(made, found), "figures": draw_faithfulness([(made.method, found.faithfulness)])}
    points = found.points.assign(tile=[made.tiles[row] for row in found.points.index])
    numbers = {
        "map": str(folder),
        "caption": found.caption(),
        "figures": found.to_frame().to_dict("records"),
        "points": points.to_dict("records"),
    }
    write_outcome(out, f"{KIND} trust", numbers, figures=figures, overwrite=overwrite)
    say(found.caption())
    for each in found.purity:
        low, high = each.added.low, each.added.high
        sure = low is not None and high is not None and (low > 0 or high < 0)
        how = "more apart than it is" if each.added.value > 0 else "less apart than it is"
        said = f"the picture shows {each.column} {how}" if sure else f"the picture shows {each.column} as it is"
        say(
            f"{said}: of a tile's 15 nearest {each.space.value:.0%} share it in the space, "
            f"{each.map.value:.0%} in the map, {each.chance:.0%} of tiles at random"
        )


def island(
    folder: MapFolder,
    out: Out,
    box: Annotated[
        str | None, typer.Option(help="Which tiles: a rectangle of the map, as LEFT,BOTTOM,RIGHT,TOP.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="COLUMN=VALUE", help="Which tiles: those with this value of a column.")
    ] = None,
    table: TableOption = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of halves and resamples.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Test whether tiles that stand together in a map are set apart in the space, or are the map's."""
    import numpy as np

    from ...explore.islands import judge_island
    from ...explore.maps import read_map
    from ...report.exploring import draw_selection

    if (box is None) == (where is None):
        raise OptionError("an island is a box, or the tiles of a value", fix="--box 0,0,5,5, or --where label=tumour")
    refuse_outcome(out, f"{KIND} island", overwrite=overwrite)
    made = read_map(folder)
    if box is not None:
        read = table_if_there(made, table)
        left, bottom, right, top = _box(box)
        x, y = made.places.T
        inside = (left <= x) & (x <= right) & (bottom <= y) & (y <= top)
    else:
        name, equals, value = str(where).partition("=")
        if not equals:
            raise OptionError("tiles are named as COLUMN=VALUE", received=where, fix="--where label=tumour")
        read = table_of(made, table)
        inside = np.array([str(each) == value for each in column_of(read, name)])
    found = judge_island(made.vectors, inside, groups=whose_tiles(read), metric=made.metric, seed=seed)
    tiles = [made.tiles[row] for row in np.flatnonzero(inside)]
    numbers = {
        "map": str(folder),
        "tiles": tiles,
        "surroundings": found.surroundings,
        "silhouette": found.silhouette,
        "auroc": [found.auroc.value, found.auroc.low, found.auroc.high],
        "valley": found.valley,
        "p": found.p,
        "real": found.real,
    }
    figures = {"island": draw_selection(made, inside, str(found))}
    write_outcome(out, f"{KIND} island", numbers, figures=figures, overwrite=overwrite)
    say(str(found))


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        left, bottom, right, top = (float(part) for part in text.split(","))
    except ValueError:
        raise OptionError("a box is LEFT,BOTTOM,RIGHT,TOP", received=text, fix="--box 0,0,5,5") from None
    if not (left < right and bottom < top):
        raise OptionError("a box has its left before its right, its bottom before its top", received=text)
    return left, bottom, right, top


def place(
    folder: MapFolder,
    new: Annotated[Path, typer.Argument(help="A table of new tiles, embedded with the encoder of the map.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="places.csv: tile, x, y, and how far it is from any tile.")],
    overwrite: Overwrite = False,
) -> None:
    """Put new tiles into a map that is there. The tiles of the map do not move."""
    import numpy as np
    import pandas as pd

    from ...embeddings import read_table
    from ...explore.graph import find_among
    from ...explore.maps import read_map, refuse_other_encoder
    from ...outputs import refuse_existing, whole

    refuse_existing(out, overwrite=overwrite)
    made, read = read_map(folder), read_table(new)
    if not read.n_obs:
        raise InputError("the table has no tiles to place", received=new)
    refuse_other_encoder(made, read, "the new tiles were")
    vectors = np.asarray(read.X, np.float32)
    places = made.place(vectors)
    far = find_among(vectors, made.vectors, 1, metric=made.metric)
    frame = pd.DataFrame({"tile": list(map(str, read.obs_names)), "x": places[:, 0], "y": places[:, 1]})
    frame["nearest"] = [made.tiles[row] for row in far.index[:, 0]]
    frame["distance"] = far.distance[:, 0]
    with whole(out, overwrite=overwrite) as part:
        frame.to_csv(part, index=False)
    say(f"{out}: {len(frame)} tiles placed among {len(made.tiles)}")


def export(
    folder: MapFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="map.parquet, a folder, map.h5ad, or map.json.")],
    to: Annotated[str, typer.Option(help="atlas (embedding-atlas), projector (TensorBoard), h5ad (scanpy), fiftyone.")],
    table: TableOption = None,
    tiles: Annotated[
        str | None, typer.Option("--tiles", help="The tiles that were embedded: fiftyone is told their files.")
    ] = None,
    allow_outside: AllowOutside = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a map for another tool, with neighbours and distortion where it can show them."""
    from ...embeddings import write_table
    from ...embeddings.table import obs_of
    from ...explore.interop import with_maps, write_atlas, write_fiftyone, write_projector
    from ...explore.maps import read_map
    from ...explore.trust import judge_map

    if to not in FORMS:
        raise unknown("form of export", to, FORMS)
    made = read_map(folder)
    read = table_of(made, table)
    if to == "projector":
        write_projector(out, made, obs_of(read), overwrite=overwrite)
    elif to == "h5ad":
        if out.suffix not in (".h5ad", ".zarr"):
            raise OptionError("the table ends in .h5ad or .zarr", received=out.name)
        write_table(with_maps(read, [made]), out, overwrite=overwrite)
    else:
        judged = judge_map(made, seeds=1, null=False, anchors=20_000)
        if to == "atlas":
            write_atlas(out, made, obs_of(read), judged, overwrite=overwrite)
        else:
            files = _files(read, tiles, allow_outside=allow_outside)
            write_fiftyone(out, made, read, files=files, trust=judged, overwrite=overwrite)
    say(f"{out}: {len(made.tiles)} tiles")


def _files(table: "AnnData", tiles: str | None, *, allow_outside: bool) -> list[str] | None:
    """Return the file of each tile of a table: of the tiles that are given, else of its column `path`, else None."""
    from ...embeddings.table import obs_of
    from ...images import open_tiles
    from ...images.files import FileTiles

    if tiles is None:
        obs = obs_of(table)
        return obs["path"].astype(str).tolist() if "path" in obs else None
    source = open_tiles(tiles, allow_outside=allow_outside)
    if not isinstance(source, FileTiles):
        raise OptionError("these tiles are no files", received=tiles, valid="a folder of images, or a manifest")
    known = dict(zip(map(str, source.table.index), source.reader.files, strict=True))
    missing = [name for name in map(str, table.obs_names) if name not in known]
    if missing:
        raise InputError("these are other tiles than those of the map", received=f"{tiles} without {missing[0]}")
    return [known[str(name)] for name in table.obs_names]
