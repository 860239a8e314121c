"""`histolatent stain`: fit, normalize, show, check."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OptionError
from .console import (
    AllowOutside,
    Columns,
    OnError,
    Overwrite,
    Quiet,
    Restart,
    Source,
    TileMpp,
    TilePx,
    Tissue,
    Workers,
    asked_cut,
    console,
    open_source,
    parse_columns,
    progress_bar,
    say,
    worker_count,
)

FIT_EXAMPLE = "Example: histolatent stain fit tiles.csv --out stain.json"
NORMALIZE_EXAMPLE = "Example: histolatent stain normalize tiles.csv --to phantom --method macenko --out normalized/"
SHOW_EXAMPLE = "Example: histolatent stain show tile.png --out stain.png"
CHECK_EXAMPLE = "Example: histolatent stain check tiles.csv --out check.csv"

Method = Annotated[
    str | None,
    typer.Option(help="macenko, vahadane, fixed, reinhard, reinhard-modified or reinhard-ruderman. Default: macenko."),
]
Stains = Annotated[str | None, typer.Option(help="H&E, H-DAB, or with --method fixed H&E-DAB. Default: H&E.")]
White = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL|R,G,B", help="Level of empty slide: 240,240,240. Default: looked for in the background."
    ),
]
Vectors = Annotated[
    list[str] | None,
    typer.Option(
        "--vector", metavar="R,G,B", help="With --method fixed: a stain's optical density, one --vector per stain."
    ),
]
MaxTiles = Annotated[int, typer.Option(min=1, help="How many tiles of each slide a fit looks at, drawn by the seed.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
StainFile = Annotated[
    Path | None, typer.Option("--stain", metavar="STAIN.JSON", help="Fits made before, by histolatent stain fit.")
]

SHOWN_SLIDES = 30
MOST_TILES = 200

app = typer.Typer(
    name="stain",
    help="Fit how slides are stained, check it, look at it, and write tiles in another look.",
    no_args_is_help=True,
)


@app.command("fit", epilog=FIT_EXAMPLE)
def fit(
    src: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="stain.json: one fit per slide, and one over all.")],
    method: Method = None,
    by: Annotated[str, typer.Option(metavar="slide|all|COLUMN", help="What is fitted together.")] = "slide",
    stains: Stains = None,
    white: White = None,
    vector: Vectors = None,
    max_tiles: MaxTiles = MOST_TILES,
    column: Columns = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    seed: Seed = 0,
    workers: Workers = None,
    on_error: OnError = "stop",
    overwrite: Overwrite = False,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Fit how each slide is stained: vectors, strengths, background; or its colours, for Reinhard's method."""
    from ..images import input_files
    from ..outputs import refuse_existing, refuse_inputs
    from ..restain import fit_source

    cut = asked_cut(tile_px, tile_mpp, tissue)
    source = open_source(src, parse_columns(column), cut, allow_outside=allow_outside, quiet=quiet)
    refuse_inputs(out, input_files(source))
    refuse_existing(out, overwrite=overwrite)
    if out.suffix.lower() != ".json":
        raise OptionError("a stain file is JSON", received=out, valid="a name that ends in .json")
    with progress_bar("fitting stain", quiet=quiet) as progress:
        book = fit_source(
            source,
            method or "macenko",
            by=by,
            max_tiles=max_tiles,
            stains=stains or "H&E",
            white=parse_white(white),
            vectors=parse_vectors(vector),
            seed=seed,
            workers=worker_count(workers),
            on_error=on_error,
            progress=progress,
        )
    book.write(out, overwrite=overwrite)
    _say_notes(book.provenance.notes)
    fits = book.slides or {"all tiles": book.overall}
    for name, found in fits.items():
        if not found.valid:
            say(f"{name}: {found.why}")
    what = f"{len(book.slides)} slides" if book.slides else "one fit over all tiles"
    usable, skipped = sum(found.valid for found in fits.values()), len(book.provenance.skipped)
    say(f"{out}: {what}, {usable} usable" + (f", {skipped} tiles skipped" if skipped else ""))


@app.command("normalize", epilog=NORMALIZE_EXAMPLE)
def normalize(
    src: Source,
    to: Annotated[
        str,
        typer.Option(
            metavar="REFERENCE",
            help="phantom, macenko, a stain.json (or FILE.json:SLIDE), an image, a slide, or a set of tiles.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder: PNG tiles, manifest.csv, stain.json, card.json.")],
    method: Method = None,
    by: Annotated[
        str,
        typer.Option(metavar="slide|all|tile|COLUMN", help="What is changed alike. By tile, neighbours get different."),
    ] = "slide",
    stain: StainFile = None,
    background: Annotated[
        str, typer.Option(metavar="keep|map", help="Leave empty slide as it is, or change it as tissue is.")
    ] = "keep",
    hue_limit: Annotated[
        float, typer.Option(help="Leave tiles whose mean hue would turn by more degrees; 180 lets every turn pass.")
    ] = 40.0,
    stains: Stains = None,
    white: White = None,
    vector: Vectors = None,
    max_tiles: MaxTiles = MOST_TILES,
    column: Columns = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    seed: Seed = 0,
    workers: Workers = None,
    on_error: OnError = "stop",
    overwrite: Overwrite = False,
    restart: Restart = False,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Write every tile in the look of a reference. An interrupted run goes on when the command is given again."""
    import warnings

    from ..outputs import refuse_inputs
    from ..restain import normalize_source
    from ..restain.normalize import PER_TILE
    from ..restain.reference import split_slide
    from ..restain.unfinished import refuse_place
    from ..stain import PerTileWarning

    if stain is not None:
        refuse_fit_options({"--stains": stains, "--white": white, "--vector": vector})
    cut = asked_cut(tile_px, tile_mpp, tissue)
    source = open_source(src, parse_columns(column), cut, allow_outside=allow_outside, quiet=quiet)
    refuse_inputs(out, [*([] if stain is None else [stain]), split_slide(to)[0]])
    refuse_place(source, out.absolute(), overwrite=overwrite)
    with (
        warnings.catch_warnings(),
        progress_bar("fitting stain, writing tiles", quiet=quiet) as progress,
    ):
        warnings.simplefilter("ignore", PerTileWarning)  # said below, in one line
        result = normalize_source(
            source,
            out,
            to=to,
            method=method,
            by=by,
            book=stain,
            background=background,
            hue_limit=hue_limit,
            max_tiles=max_tiles,
            stains=stains,
            white=parse_white(white),
            vectors=parse_vectors(vector),
            seed=seed,
            workers=worker_count(workers),
            on_error=on_error,
            overwrite=overwrite,
            restart=restart,
            progress=progress,
        )
    _say_notes([*result.notes, *([PER_TILE] if by == "tile" else [])])
    for name, why in list(result.unchanged.items())[:10]:
        say(f"unchanged: {name}: {why}")
    same = {reason: count for reason, count in result.reasons.items() if reason != "ok"}
    text = f"{out}: {result.tiles} tiles in the look of {result.reference} ({result.method})"
    if same:
        why = ", ".join(f"{count} {reason}" for reason, count in same.items())
        text += f", but for {sum(same.values())} left as they were ({why}): see stain_reason in manifest.csv"
        if same.get("hue-flip"):
            text += "; if the tiles and the reference really differ in hue, --hue-limit 180"
    say(text + (f", {len(result.skipped)} skipped" if result.skipped else ""))


@app.command("show", epilog=SHOW_EXAMPLE)
def show(
    tile: Annotated[str, typer.Argument(metavar="TILE", help="An image file; or a set of tiles, with --tile.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture, stain.png.")],
    tile_id: Annotated[str | None, typer.Option("--tile", metavar="ID", help="Which tile of a set.")] = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    stain: StainFile = None,
    slide: Annotated[
        str | None, typer.Option(help="Slide of the stain file. Default: the one that the tile's table names.")
    ] = None,
    method: Method = None,
    stains: Stains = None,
    white: White = None,
    column: Columns = None,
    overwrite: Overwrite = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Draw one tile's staining: each stain alone, the residual, the vectors, the background, the stain manifold."""
    from ..outputs import refuse_existing, refuse_inputs, whole
    from ..report.stain import draw_stain, verdict
    from ..restain import Fitter, find_tile, fit_of
    from ..stain import StainModel, read_book

    if out.suffix.lower() != ".png":
        raise OptionError("the picture is a PNG", received=out, fix="--out stain.png")
    if stain is not None:
        refuse_fit_options({"--method": method, "--stains": stains, "--white": white})
    refuse_inputs(out, [tile])
    refuse_existing(out, overwrite=overwrite)
    fitter = Fitter(method or "macenko", stains or "H&E", None, parse_white(white))
    book = None if stain is None else read_book(stain)
    cut, columns = asked_cut(tile_px, tile_mpp, tissue), parse_columns(column)
    if cut is None:
        found = find_tile(tile, tile_id, columns=columns, allow_outside=allow_outside)
    else:
        found = find_tile(open_source(tile, columns, cut, allow_outside=allow_outside, quiet=True), tile_id)
    refuse_inputs(out, found.files)
    model, whose = fit_of(found, fitter, book, slide)
    picture = draw_stain(found.pixels, model, name=found.name, whose=whose)
    with whole(out, overwrite=overwrite) as part:
        part.write_bytes(picture)
    if isinstance(model, StainModel):
        say(f"{found.name}: {verdict(model)}")
    say(f"{out}: by the fit of {whose}")


@app.command("check", epilog=CHECK_EXAMPLE)
def check(
    src: Annotated[str, typer.Argument(help="A set of tiles, or a stain.json.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The table: check.csv or check.json.")] = None,
    method: Annotated[str | None, typer.Option(help="macenko, vahadane or fixed. Default: macenko.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="slide|all|COLUMN", help="What is fitted together. Default: slide.")
    ] = None,
    stains: Stains = None,
    white: White = None,
    max_tiles: Annotated[
        int | None, typer.Option(min=1, help="How many tiles of each slide a fit looks at. Default: 200.")
    ] = None,
    column: Columns = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    seed: Seed = 0,
    workers: Workers = None,
    on_error: OnError = "stop",
    overwrite: Overwrite = False,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Say of each slide whether its staining is usable, and which slides are out of line with the others."""
    from ..images import input_files
    from ..outputs import refuse_existing, refuse_inputs
    from ..restain import check_book, check_source
    from ..restain.check import write_check
    from ..stain import read_book

    if out is not None:
        if out.suffix.lower() not in (".csv", ".json"):
            raise OptionError("a check is written as a table", received=out, valid=".csv, .json")
        refuse_inputs(out, [src])
        refuse_existing(out, overwrite=overwrite)
    if src.lower().endswith(".json"):
        options = {
            "--method": method,
            "--by": by,
            "--stains": stains,
            "--white": white,
            "--max-tiles": max_tiles,
            "--tile-px": tile_px,
        }
        refuse_fit_options(options)
        found = check_book(read_book(src))
    else:
        cut = asked_cut(tile_px, tile_mpp, tissue)
        source = open_source(src, parse_columns(column), cut, allow_outside=allow_outside, quiet=quiet)
        if out is not None:
            refuse_inputs(out, input_files(source))
        with progress_bar("fitting stain", quiet=quiet) as progress:
            found = check_source(
                source,
                method or "macenko",
                by=by or "slide",
                max_tiles=max_tiles or MOST_TILES,
                stains=stains or "H&E",
                white=parse_white(white),
                seed=seed,
                workers=worker_count(workers),
                on_error=on_error,
                progress=progress,
            )
    console().print(_check_table(found))
    rest = len(found.slides) - SHOWN_SLIDES
    if rest > 0:
        say(f"and {rest} more, in better order" + ("" if out else ": see them with --out check.csv"))
    if out is not None:
        write_check(found, out, overwrite=overwrite)
    _say_notes([*found.notes, *([f"{len(found.skipped)} tiles could not be read"] if found.skipped else [])])
    for sentence in found.advice:
        say(sentence)


def refuse_fit_options(options: Mapping[str, object]) -> None:
    """Raise OptionError if one of these options of a fit was given: there is a stain file, and it holds fits."""
    named = [option for option, value in options.items() if value]
    if named:
        raise OptionError(
            "the stain file holds fits already, so none is made",
            received=", ".join(named),
            fix=f"drop {' and '.join(named)}, or the stain file",
        )


def parse_white(text: str | None) -> Any:
    """Turn `240` or `240,241,239` into numbers."""
    if text is None:
        return None
    levels = _numbers(text, "--white", "240, or 240,240,240")
    return levels[0] if len(levels) == 1 else tuple(levels)


def parse_vectors(texts: list[str] | None) -> list[list[float]] | None:
    """Turn `0.65,0.70,0.29` for each stain into rows."""
    return [_numbers(text, "--vector", "0.65,0.70,0.29") for text in texts] if texts else None


def _numbers(text: str, option: str, valid: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"{option} takes numbers with commas between", received=text, valid=valid) from None


def _say_notes(notes: list[str]) -> None:
    for note in notes:
        say(f"note: {note}")


def _check_table(found: Any) -> Any:
    from rich.table import Table
    from rich.text import Text

    letters = "/".join(stain[0].upper() for stain in found.slides[0].stains)
    table = Table(title=f"staining of {found.source}, worst first")
    table.add_column("slide", overflow="fold", min_width=8)
    table.add_column("verdict", overflow="fold", min_width=16)
    for head in ("tiles", f"{letters} °", f"{letters} OD", "I0"):
        table.add_column(head, justify="right", no_wrap=True)
    for item in found.slides[:SHOWN_SLIDES]:
        said = Text("; ".join(item.outliers) or "ok", "yellow" if item.outliers else "green")
        if not item.valid:
            said = Text(f"{item.reason}: {item.why}", "bold red")
        table.add_row(
            Text(item.slide),
            said,
            f"{item.tiles_used}/{item.tiles_read}",
            "/".join(f"{value:.0f}" for value in item.canonical_degrees) if item.valid else "–",
            "/".join(f"{value:.2f}" for value in item.strengths) if item.valid else "–",
            "/".join(f"{level:.0f}" for level in item.white) + ("*" if item.white_source == "default" else ""),
        )
    caption = "tiles: usable / looked at. °: angle to the canonical vector. OD: 99th percentile of a stain's amount. "
    table.caption = caption + "I0: background, R/G/B levels (* the default, none was found)."
    return table
