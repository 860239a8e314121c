"""`histolatent audit`."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OptionError, unknown
from .console import (
    STATUS_COLOURS,
    AllowOutside,
    BatchSize,
    Columns,
    Device,
    Group,
    Label,
    OnError,
    Overwrite,
    Quiet,
    Restart,
    Site,
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

if TYPE_CHECKING:
    from ..audit import Plan

EXAMPLE = (
    "Example: histolatent audit tiles.csv --encoder timm:vit_small_patch14_dinov2.lvd142m --encoder hf:owkin/phikon "
    "--label diagnosis --site hospital --suite standard --policy second-site --out audit/"
)
SUITES = (
    "Set of perturbations: quick, standard, full, stain, scanner, geometry, must-react, or a file.toml of your own."
)
BASELINE = "toy:colour-histogram"
#: As `histolatent.audit.PARTS`, which is slow to import.
PARTS = ("equivariance", "flips", "transfer", "neighbours", "distances", "factors", "discordance", "sensitivity")


def audit(
    src: Source,
    encoder: Annotated[list[str], typer.Option("--encoder", "-e", help="Repeatable. See: histolatent encoders.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for report.html, audit.json and tables.")
    ] = None,
    check_contract: Annotated[
        bool,
        typer.Option(
            "--check-contract",
            help="Only run each encoder on 16 tiles, say what it does not keep and how to mend it. Exits 1 on a fault.",
        ),
    ] = False,
    reference: Annotated[
        str | None,
        typer.Option(metavar="ENCODER", help="An encoder that is known to be right and should give the same vectors."),
    ] = None,
    label: Label = None,
    site: Site = None,
    group: Group = None,
    column: Columns = None,
    suite: Annotated[
        str,
        typer.Option(help=SUITES),
    ] = "quick",
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="What is asked of an encoder, and at which severities: policy.toml, or second-site. "
            "See: histolatent policy show.",
        ),
    ] = None,
    factors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Known numbers of the tissue, to see how well they can be read: .csv, .tsv or .parquet with a column "
            "'tile', each other column a factor.",
        ),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help=f"Do not measure this part. Repeatable. Parts: {', '.join(PARTS)}."),
    ] = None,
    neighbors: Annotated[
        str,
        typer.Option(metavar="exact|approximate", help="Search of neighbours; approximate needs FAISS."),
    ] = "exact",
    space_tiles: Annotated[
        int, typer.Option(help="At most so many tiles whose neighbours, among all, are searched.")
    ] = 20_000,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres per pixel where the table has none. Default: 0.5.")
    ] = None,
    max_tiles: Annotated[int | None, typer.Option(help="Audit a random part of the tiles.")] = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    baseline: Annotated[bool, typer.Option(help=f"Audit {BASELINE} too: what colour alone gives.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels and resamples.")] = 0,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 2000,
    batch_size: BatchSize = 64,
    workers: Workers = None,
    device: Device = None,
    on_error: OnError = "stop",
    keep_embeddings: Annotated[bool, typer.Option(help="Keep all embeddings, perturbed ones as layers.")] = False,
    overwrite: Overwrite = False,
    restart: Restart = False,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Perturb tiles in known ways, and report what each encoder reacts to, leaks and keeps."""
    from ..errors import require
    from .perturb import note_plugins

    note_plugins()
    known_factors = None if factors is None else read_factors(factors)
    if neighbors == "approximate":
        require("faiss", "explore")
    columns = parse_columns(column, label=label, site=site, patient=group)
    plan = make_plan(
        columns,
        policy,
        skip,
        suite=suite,
        seed=seed,
        resamples=resamples,
        mpp=mpp,
        max_tiles=max_tiles,
        space_tiles=space_tiles,
        neighbors=neighbors,
        on_error=on_error,
    )
    cut = asked_cut(tile_px, tile_mpp, tissue)
    source = open_source(src, columns, cut, allow_outside=allow_outside, quiet=quiet)
    if check_contract:
        check_contracts(source, encoder, reference, device=device)
        return
    if out is None:
        raise OptionError("an audit needs a folder to write to", fix="--out audit/")
    run_audit(
        source,
        encoder,
        out,
        plan=plan,
        baseline=BASELINE if baseline else None,
        batch_size=batch_size,
        workers=worker_count(workers),
        device=device,
        keep=keep_embeddings,
        factors=known_factors,
        reference=reference,
        overwrite=overwrite,
        restart=restart,
        quiet=quiet,
    )


def make_plan(columns: Mapping[str, str], policy: str | None, skip: list[str] | None, **settings: Any) -> "Plan":
    """Return the plan of an audit; what is wrong is named by its option."""
    from pydantic import ValidationError

    from ..audit import Plan, Policy, read_policy

    for part in skip or ():
        if part not in PARTS:
            raise unknown("part of an audit", part, PARTS)
    try:
        return Plan(
            skip=tuple(dict.fromkeys(skip or ())),  # pyright: ignore[reportArgumentType]
            policy=Policy() if policy is None else read_policy(policy),
            columns={known: theirs for known, theirs in columns.items() if known != theirs},
            **settings,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise OptionError(
            f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}", received=first["input"]
        ) from None


def read_factors(path: Path):
    """Read known numbers of the tissue, a column each, by tile."""
    import numpy as np
    import pandas as pd

    from ..errors import InputError
    from ..images.files import read_frame

    try:
        frame: Any = read_frame(path)
    except InputError as error:
        what = error.what.replace("a manifest", "a table of factors").replace("the manifest", "the table of factors")
        raise InputError(
            what.replace("manifest", "table of factors"), received=error.received, valid=error.valid, fix=error.fix
        ) from None
    if "tile" not in frame:
        raise InputError(
            "the table of factors has no column 'tile'",
            received=f"{path}: {', '.join(map(str, frame.columns))}",
            fix="name the tiles there as the manifest does",
        )
    tiles = frame["tile"]
    if bool(tiles.isna().any()) or not tiles.is_unique:
        wrong = "a row without a tile" if bool(tiles.isna().any()) else f"{tiles[tiles.duplicated()].iloc[0]} twice"
        raise InputError("the table of factors names each tile once", received=f"{path}: {wrong}")
    values = frame.drop(columns="tile")
    if values.columns.empty:
        raise InputError("the table of factors has no factor", received=path, valid="a column of numbers each")
    found = {}
    for name, column in values.items():
        numbers: Any = pd.to_numeric(column, errors="coerce")
        wrong = ~np.isfinite(numbers.astype(float)) & column.notna()
        if bool(wrong.any()):
            where = f"{path}, column {name}, tile {tiles[wrong].iloc[0]}: {column[wrong].iloc[0]!r}"
            raise InputError(
                "a factor is a number per tile", received=where, fix="drop the column, or code it as 0 and 1"
            )
        found[str(name)] = numbers.astype(float).to_numpy()
    return pd.DataFrame(found, index=pd.Index(tiles.astype(str), name="tile"))


def check_contracts(source, names: list[str], reference: str | None, *, device: str | None) -> None:
    """Run each encoder on a few tiles, print what it keeps, and exit with 1 if one is at fault."""
    import numpy as np
    from rich.table import Table
    from rich.text import Text

    from ..audit.run import contract_of, contract_tiles
    from ..audit.words import counted
    from ..encoders import encoder as load

    tiles = contract_tiles(source, np.arange(len(source.table)))
    known = None if reference is None else load(reference, device=device)
    faults = 0
    for name in names:
        answers = contract_of(load(name, device=device), tiles, known)
        faults += sum(answer.status == "FAIL" for answer in answers)
        table = Table(title=f"contract of {name}, on {len(tiles)} tiles", title_justify="left")
        table.add_column("question", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("answer", overflow="fold")
        for answer in answers:
            said = answer.sentence + (f". Fix: {answer.fix}" if answer.fix else "")
            table.add_row(answer.name, Text(answer.status, STATUS_COLOURS[answer.status]), Text(said))
        console().print(table)
    if faults:
        say(counted(faults, "fault"))
        raise typer.Exit(1)


@contextlib.contextmanager
def _gone_if_empty(folder: Path) -> Iterator[None]:
    """Leave no folder for resuming where nothing was embedded."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def run_audit(
    source,
    names: list[str],
    out: Path,
    *,
    plan,
    baseline: str | None = None,
    batch_size: int = 64,
    workers: int = 0,
    device: str | None = None,
    keep: bool = False,
    factors=None,
    reference: str | None = None,
    overwrite: bool = False,
    restart: bool = False,
    quiet: bool = False,
) -> None:
    """Load the encoders, audit, write the folder, say what was found."""
    from ..audit import audit_encoders
    from ..audit.words import counted, listed
    from ..encoders import encoder as load
    from ..images import input_files
    from ..outputs import refuse_existing, refuse_inputs, remove
    from ..report import MARK, write_report

    refuse_inputs(out, input_files(source))
    refuse_existing(out, overwrite=overwrite, mark=MARK)
    added = [baseline] if baseline is not None and baseline not in names else []
    encoders = [load(name, device=device) for name in (*names, *added)]
    known = None if reference is None else load(reference, device=device)
    place = out.absolute()  # `--out .` has no name
    work = place.with_name(place.name + ".unfinished")
    with (
        _gone_if_empty(work),
        progress_bar(f"embedding, {len(encoders)} encoders", quiet=quiet) as progress,
        progress_bar("measuring", unit="steps", quiet=quiet) as measuring,
    ):
        run = audit_encoders(
            source,
            encoders,
            work,
            plan=plan,
            baselines=added,
            batch_size=batch_size,
            workers=workers,
            restart=restart,
            keep=keep,
            factors=factors,
            reference=known,
            progress=progress,
            measuring=measuring,
        )
    result = run.result
    write_report(
        result,
        source,
        place,
        tiles=run.tiles,
        seconds=run.seconds,
        embeddings=work if keep else None,
        overwrite=overwrite,
    )
    remove(work)
    for number, finding in enumerate(result.findings, 1):
        say(f"{number}. {finding}")
    for warning in result.warnings:
        say(f"note: {warning}")
    if skipped := result.tiles["skipped"]:
        say(f"note: {counted(len(skipped), 'tile')} could not be read: {listed(list(skipped))}")
    say(f"report: {out / 'report.html'}")
