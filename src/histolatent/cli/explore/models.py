"""`histolatent explore train`, `sample`, `dictionary`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import OptionError, unknown
from ..compact import parse_changes
from ..console import (
    AllowOutside,
    Columns,
    Device,
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
    open_source,
    parse_columns,
    progress_bar,
    say,
    training_bars,
    training_workers,
)
from .shared import DENSER, KIND, Out, Table, TilesOf, densities, real_tiles, refuse_outcome, space_of, write_outcome

if TYPE_CHECKING:
    from ...explore.generative.model import GenerativeModel
    from ...explore.generative.quality import Quality
    from ...images import TileSource
    from ...report.canvas import Drawn

TRAIN_EXAMPLE = "Example: histolatent explore train tiles/ --kind vae --out vae/"
SAMPLE_EXAMPLE = "Example: histolatent explore sample vae/ --count 24 --out samples/"
DICTIONARY_EXAMPLE = "Example: histolatent explore dictionary emb.zarr --tiles tiles/ --out dictionary/"
#: Atoms that are told, and tiles of each.
TOLD, STRONGEST = 10, 8
#: Tiles on a sheet of reconstructions.
SHEET = 10
#: Real tiles that samples are compared with at most.
JUDGED = 512


def train(
    src: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the model: use it as --decoder afterwards.")],
    kind: Annotated[
        str,
        typer.Option(help="ae (autoencoder), vae (variational), or decoder (of the vectors of a frozen encoder)."),
    ] = "vae",
    on: Annotated[
        str | None, typer.Option("--on", help="For decoder: the frozen encoder. See: histolatent encoders.")
    ] = None,
    plan: Annotated[str, typer.Option(help="A preset (demo, small) or a TOML file.")] = "demo",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change the plan: --set latent=64. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of everything.")] = 0,
    column: Columns = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    workers: Workers = None,
    device: Device = None,
    on_error: OnError = "stop",
    overwrite: Overwrite = False,
    restart: Restart = False,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Train a model that turns vectors into tiles. An interrupted run goes on when the command is given again."""
    from ...encoders import encoder
    from ...explore.generative.model import MARK, save_model
    from ...explore.generative.plan import KINDS, GenerativePlan
    from ...explore.generative.training import train_generative
    from ...images import input_files
    from ...outputs import refuse_existing, refuse_inputs, remove

    if kind not in KINDS:
        raise unknown("kind of model", kind, KINDS)
    if (kind == "decoder") != (on is not None):
        raise OptionError(
            "a decoder is of an encoder's vectors, and other kinds have an encoder of their own",
            received=f"--kind {kind}" + (f" --on {on}" if on else ""),
            fix="--kind decoder --on ENCODER, or --kind ae or vae without --on",
        )
    refuse_existing(out, overwrite=overwrite, mark=MARK)
    wanted = GenerativePlan.read(plan).changed(**parse_changes(change or []))
    cut = asked_cut(tile_px, tile_mpp, tissue)
    source = open_source(src, parse_columns(column), cut, allow_outside=allow_outside, quiet=quiet)
    refuse_inputs(out, input_files(source))
    work = out.with_name(out.name + ".training")
    if restart:
        remove(work)
    base = None if on is None else encoder(on, device=device)
    with training_bars(kind, _said, quiet=quiet) as told:
        model = train_generative(
            source,
            kind,
            wanted,
            work,
            on=base,
            called=on or "",
            seed=seed,
            device=device,
            workers=training_workers(workers),
            on_error=on_error,
            progress=told,
        )
    sheet, quality = _sheet(model, source)
    model = replace(model, card={**model.card, "reconstruction": vars(quality)})

    def write(part: Path) -> None:
        (part / "sheet.png").write_bytes(sheet.png)
        (part / "sheet.svg").write_text(sheet.svg, encoding="utf-8")

    save_model(model, out, overwrite=overwrite, beside=write)
    remove(work)
    say(
        f"held-out tiles come back with PSNR {quality.psnr:.1f} dB, SSIM {quality.ssim:.3f} "
        f"({quality.blurred:.3f} of a mean tile)"
    )
    if quality.ssim <= quality.blurred:
        say("that is no more than a mean tile shows: train it for longer, on more tiles")
    used = f"; embed with --encoder {out / 'encoder'}" if kind != "decoder" else f"; embed with --encoder {on}"
    say(f"{out}: use it as --decoder {out}{used}; sheet.png shows tiles and what comes back")


def _sheet(model: "GenerativeModel", source: "TileSource") -> "tuple[Drawn, Quality]":
    """Return a picture of held-out tiles and what is decoded of their vectors, and how alike they are."""
    import numpy as np

    from ...explore.generative.quality import judge_reconstruction
    from ...images import spaced
    from ...report.exploring import draw_rows

    names = set(model.card["shown"])
    rows = [row for row, tile in enumerate(source.table.index) if str(tile) in names]
    tiles = [source.read(row) for row in rows]
    real = model.prepared(tiles)
    made = model.decode(model.encode(tiles))
    shown = spaced(np.arange(len(real)), SHEET)
    drawn = draw_rows({"tile": real[shown], "decoded": made[shown]})
    return drawn, judge_reconstruction(real, made)


def _said(step: int, found: Mapping[str, float]) -> str:
    return f"step {step}: held-out tiles come back with PSNR {found['held_out_psnr']:.1f} dB"


def sample(
    model: Annotated[Path, typer.Argument(help="A model of `explore train`.")],
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Tiles to draw.")] = 24,
    source: Annotated[
        str,
        typer.Option("--from", help="prior (of a vae), or density: a mixture fitted to the vectors of --table."),
    ] = "prior",
    table: Annotated[
        Path | None,
        typer.Option("--table", help="Vectors of the model's encoder: for density, and nearest real tiles."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Below 1, tiles are more alike and more likely.")] = 1.0,
    tiles: TilesOf = None,
    judge: Annotated[
        str | None,
        typer.Option(help="An encoder in whose space samples are compared with --tiles as a set (Fréchet distance)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of what is drawn.")] = 0,
    device: Device = None,
    allow_outside: AllowOutside = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw vectors that no tile has, and decode them."""
    import numpy as np

    from ...embeddings import read_table
    from ...encoders import encoder
    from ...explore.generative.model import read_model
    from ...explore.generative.quality import judge_samples
    from ...explore.generative.sampling import fit_density, sample_prior
    from ...explore.space import LatentSpace
    from ...images import open_tiles, spaced
    from ...report.exploring import draw_rows

    kind = f"{KIND} sample"
    if source not in ("prior", "density"):
        raise unknown("source of samples", source, ("prior", "density"))
    if (judge is None) != (tiles is None):
        raise OptionError(
            "samples are judged beside real tiles, by an encoder",
            received="--tiles" if judge is None else "--judge",
            fix="--tiles SRC --judge ENCODER, one that neither was trained with",
        )
    refuse_outcome(out, kind, overwrite=overwrite)
    made = read_model(model, device=device)
    if source == "prior" and made.kind != "vae":
        raise OptionError(
            f"the vectors of a model of kind {made.kind} follow no prior",
            fix="--from density --table emb.zarr, with the vectors of its tiles",
        )
    if source == "density" and table is None:
        raise OptionError(
            "a density is fitted to vectors", fix="--table emb.zarr, with the vectors of the model's tiles"
        )
    space = None if table is None else LatentSpace.of(read_table(table), made)
    draw = partial(sample_prior, dim=made.dim)
    if source == "density" and space is not None:
        draw = fit_density(space.vectors, seed=seed).sample
    vectors = draw(count, temperature=temperature, seed=seed)
    drawn = made.decode(vectors)
    rows = {f"{start + 1} to {min(start + 8, count)}": drawn[start : start + 8] for start in range(0, count, 8)}
    numbers: dict[str, Any] = {"model": str(model), "from": source, "seed": seed, "temperature": temperature}
    numbers["vectors"] = vectors
    notes = {}
    if space is not None:
        risks = space.risks(vectors.astype(np.float64))
        numbers["risks"] = risks.to_dict("records")
        dense = densities(risks["sparser"])
        notes = {name: dense[8 * row : 8 * row + 8] for row, name in enumerate(rows)}
    if judge is not None and tiles is not None:
        cohort = open_tiles(tiles, allow_outside=allow_outside)
        shown = spaced(np.arange(len(cohort.table)), JUDGED)
        real = made.prepared([cohort.read(int(row)) for row in shown])
        half = draw(len(real) // 2, temperature=temperature, seed=seed)
        found = judge_samples(real, made.decode(half), encoder(judge, device=device), seed=seed)
        numbers["frechet"] = vars(found)
        say(
            f"Fréchet distance from {found.tiles} real tiles {found.value:.4g}, seen by {found.encoder}; two halves of "
            f"the real tiles are {found.floor:.4g} apart (95 % of them up to {found.floor_p95:.4g})"
        )
    figures = {"samples": draw_rows(rows, notes=notes, under=DENSER)}
    write_outcome(out, kind, numbers, figures=figures, overwrite=overwrite)


def dictionary(
    table: Table,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the dictionary.")],
    atoms: Annotated[int, typer.Option(min=2, help="Atoms in all.")] = 256,
    k: Annotated[int, typer.Option("--k", min=1, help="Atoms that make up one tile.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="The seed of everything.")] = 0,
    tiles: TilesOf = None,
    allow_outside: AllowOutside = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Take vectors apart into a few of many atoms (a sparse autoencoder), and say what goes with each."""
    import numpy as np
    import pandas as pd

    from ...embeddings import read_table
    from ...embeddings.table import obs_of
    from ...explore.dictionary import FORM, fit_dictionary, save_dictionary
    from ...outputs import refuse_existing
    from ...report.exploring import draw_rows

    refuse_existing(out, overwrite=overwrite, mark=FORM.mark)
    read = read_table(table)
    space = space_of(read, None, tiles, allow_outside=allow_outside)
    vectors = np.asarray(read.X, np.float32)
    with progress_bar("dictionary", quiet=quiet, unit="steps") as told:
        made = fit_dictionary(vectors, atoms=atoms, k=k, steps=steps, seed=seed, progress=told)
    frame = made.to_frame(vectors, obs_of(read), count=STRONGEST)
    frame["strongest"] = [[space.tiles[row] for row in rows] for rows in frame["strongest"]]
    first = frame.head(TOLD).to_dict("records")
    rows = {}
    if space.pictures is not None:
        rows = {_named(row).replace(": ", "\n"): real_tiles(space, row["strongest"]) for row in first}
    drawn = draw_rows(rows, heads=["most of it"]) if rows else None

    def write(part: Path) -> None:
        columns = [f"strongest_{place + 1}" for place in range(len(frame["strongest"].iloc[0]))]
        strongest = pd.DataFrame(frame["strongest"].tolist(), columns=pd.Index(columns))
        frame.drop(columns="strongest").join(strongest).to_csv(part / "atoms.csv", index=False)
        if drawn is not None:
            (part / "atoms.png").write_bytes(drawn.png)
            (part / "atoms.svg").write_text(drawn.svg, encoding="utf-8")

    save_dictionary(made, out, overwrite=overwrite, beside=write)
    say(f"{made!r}; {len(frame)} atoms are used")
    for row in first:
        near = ", ".join(row["strongest"][:3])
        say(f"  {_named(row)}: in {row['used']:.1%} of tiles, most in {near}")
    pictures = ", atoms.png" if drawn else ""
    say(f"{out}: atoms.csv{pictures}; read it with histolatent.explore.dictionary.read_dictionary")


def _named(row: dict[Any, Any]) -> str:
    """Return the number of an atom, and what goes with it, if anything does."""
    from ...explore.dictionary import NEAR

    near = abs(row["association"]) >= NEAR
    return f"atom {row['atom']}" + (f": {row['column']} {row['association']:+.2f}" if near else "")
