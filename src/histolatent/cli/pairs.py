"""`histolatent pairs`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, OptionError, unknown
from .audit import make_plan
from .console import Columns, Group, Label, Overwrite, Quiet, Site, console, parse_columns, progress_bar, say

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..audit import AuditResult
    from ..audit.pairs import Pairs

EXAMPLE = (
    'Example: histolatent pairs scanner_a.h5ad "scanner B=scanner_b.h5ad" --encoder phikon '
    "--label diagnosis --site hospital --out audit/"
)
FORMS = "A table (.zarr, .h5ad, .parquet, .csv, .npy, .h5), or a folder with one table per encoder."
ROLES = "must-ignore (default), must-react or control; for one change only: CHANGE=ROLE. Repeatable."


def pairs(
    before: Annotated[Path, typer.Argument(help="Vectors of the tiles as they are. " + FORMS)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.html, audit.json and tables.")],
    after: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=]AFTER...", help="The same tiles after a change, in the same forms."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]LAYER", help="A layer of BEFORE (.zarr, .h5ad) as a change. Repeatable."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", "-e", help="What to call the encoder; of folders: which encoders to audit. Repeatable."
        ),
    ] = None,
    role: Annotated[list[str] | None, typer.Option(metavar="[CHANGE=]ROLE", help=ROLES)] = None,
    tiles: Annotated[
        Path | None, typer.Option(help="Table of tiles (.csv, .tsv, .parquet) with columns that BEFORE has not.")
    ] = None,
    label: Label = None,
    site: Site = None,
    group: Group = None,
    column: Columns = None,
    policy: Annotated[
        str | None, typer.Option(help="What is asked of an encoder: second-site, or a file.toml of your own.")
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Leave a part out, such as equivariance or distances. Repeatable."),
    ] = None,
    max_tiles: Annotated[int | None, typer.Option(help="Audit a random part of the tiles.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same samples and resamples.")] = 0,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 2000,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Audit vectors of the same tiles before and after a real change, such as a second scanner."""
    from ..audit.pairs import Unseen, audit_pairs
    from ..audit.plan import PAIRS
    from ..audit.words import counted
    from ..outputs import refuse_existing, refuse_inputs
    from ..report import MARK, write_report

    refuse_existing(out, overwrite=overwrite, mark=MARK)
    columns = parse_columns(column, label=label, site=site, patient=group)
    plan = make_plan(columns, policy, skip, suite=PAIRS, seed=seed, resamples=resamples, max_tiles=max_tiles)
    changes = _changes(after or [], layer or [])
    given = [before, tiles, *(change.path for change in changes)]
    refuse_inputs(out, [path for path in given if path is not None])
    found = _read_all(before, changes, encoder or [])
    table = _columns(found[0], tiles, columns)
    with progress_bar("measuring", unit="steps", quiet=quiet) as measuring:
        run = audit_pairs(
            found,
            table,
            name=before.name or str(before),
            roles=_roles(role or [], changes),
            plan=plan,
            measuring=measuring,
        )
    write_report(
        run.result,
        Unseen(before.name, table),
        out.absolute(),
        tiles=run.tiles,
        seconds=run.seconds,
        overwrite=overwrite,
    )
    say(f"{run.result.tiles['tiles']} tiles, {counted(len(changes), 'change')}")
    _show(run.result)
    for number, finding in enumerate(run.result.findings, 1):
        say(f"{number}. {finding}")
    for warning in run.result.warnings:
        say(f"note: {warning}")
    say(f"report: {out / 'report.html'}")


def _show(result: "AuditResult") -> None:
    """Print a row per encoder and change: how far tiles move, and how often they are found again across."""
    from rich.markup import escape
    from rich.table import Table

    metrics = ("displacement", "auroc_null", "cross_top1", "cross_top10", "cross_cosine")
    table = Table()
    for heading in ("encoder", "change", "displacement", "P(below unrelated)", "top-1", "top-10", "cosine"):
        table.add_column(heading, overflow="fold")
    for encoder in result.encoders:
        for dose in encoder.doses:
            values = [dose.metrics[metric].value for metric in metrics]
            shown = ["not defined" if value is None else f"{value:.3f}" for value in values]
            table.add_row(escape(encoder.name), escape(dose.operation), *shown)
    console().print(table)


@dataclass(frozen=True)
class _Change:
    """Where vectors after a change come from: a table or a folder of tables, or a layer of what was before."""

    name: str
    path: Path | None
    layer: str = ""


def _changes(after: Sequence[str], layers: Sequence[str]) -> list[_Change]:
    """Read `NAME=PATH` and `NAME=LAYER`; a change without a name is called as its file, its folder or its layer is."""
    changes = []
    for text in after:
        name, path = _named(text) if not Path(text).exists() else ("", text)
        whole = Path(path).is_dir() and Path(path).suffix not in (".zarr", ".h5")
        changes.append(_Change(name or (Path(path).name if whole else Path(path).stem), Path(path)))
    for text in layers:
        name, layer = _named(text)
        changes.append(_Change(name or layer, None, layer))
    if not changes:
        raise OptionError(
            "there is nothing to compare with", fix="name a second table after the first, or a layer of it by --layer"
        )
    names = [change.name for change in changes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError("two changes have one name", received=", ".join(twice), fix="name them: NAME=PATH")
    return changes


def _named(text: str) -> tuple[str, str]:
    """Split `NAME=VALUE`; the name is empty where there is none."""
    name, _, value = text.partition("=")
    return (name, value) if name and value else ("", text)


def _roles(texts: Sequence[str], changes: Sequence[_Change]) -> dict[str, str]:
    roles = {}
    for text in texts:
        name, _, role = text.rpartition("=")
        roles |= {name: role} if name else {change.name: role for change in changes if change.name not in roles}
    return roles


def _is_folder(path: Path) -> bool:
    """Say whether a path is a folder with a table per encoder, and not a table that is a folder itself."""
    return (
        path.is_dir() and path.suffix not in (".zarr", ".h5") and not any(file.is_file() for file in path.glob("*.h5"))
    )


def _tables_in(folder: Path) -> dict[str, Path]:
    """Return the tables in a folder by the names of their encoders."""
    from ..embeddings import FORMS as endings

    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in endings and not path.name.startswith("."):
            if path.stem in found:
                raise InputError(
                    "two tables in a folder are of one encoder", received=f"{found[path.stem].name}, {path.name}"
                )
            found[path.stem] = path
    if not found:
        raise InputError("there is no table in this folder", received=folder, valid=", ".join(endings))
    return found


def _read_all(before: Path, changes: Sequence[_Change], names: Sequence[str]) -> "list[Pairs]":
    """Read the tables of every encoder."""
    from ..audit.pairs import Pairs

    if not _is_folder(before):
        folders = [change.path for change in changes if change.path is not None and _is_folder(change.path)]
        if folders:
            raise InputError(
                "a table is compared with a folder of tables",
                received=f"{before} and {folders[0]}",
                fix="give folders for both, or tables for both",
            )
        if len(names) > 1:
            raise OptionError(
                "two tables are of one encoder",
                received=", ".join(names),
                fix="give folders with one table per encoder to audit several",
            )
        table = _read(before)
        name = names[0] if names else _encoder_name(table) or before.stem
        return [Pairs(name, table, _after(table, changes))]
    found = _tables_in(before)
    for name in names:
        if name not in found:
            raise unknown("encoder", name, found)
    pairs = []
    for name in names or found:
        here = []
        for change in changes:
            path = change.path
            if path is not None:
                if not _is_folder(path):
                    raise InputError(
                        "a folder of tables is compared with a table" if path.exists() else "there is no such folder",
                        received=path,
                        fix="give a folder with one table per encoder",
                    )
                there = _tables_in(path)
                if name not in there:
                    raise InputError(
                        f"there are no vectors of {name}",
                        received=path,
                        valid=", ".join(there),
                        fix="choose the encoders that every folder has: --encoder NAME",
                    )
                path = there[name]
            here.append(_Change(change.name, path, change.layer))
        table = _read(found[name])
        pairs.append(Pairs(name, table, _after(table, here)))
    return pairs


def _after(before: "AnnData", changes: Sequence[_Change]) -> "dict[str, AnnData]":
    from ..audit.pairs import layer_tables

    layers = layer_tables(before, {change.name: change.layer for change in changes if change.path is None})
    return {change.name: layers[change.name] if change.path is None else _read(change.path) for change in changes}


def _read(path: Path) -> "AnnData":
    """Read a table; a message of what is wrong with it names the file."""
    from ..embeddings import read_table

    try:
        return read_table(path, foreign=True)
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error.what}", received=error.received, valid=error.valid, fix=error.fix) from None


def _encoder_name(table: "AnnData") -> str | None:
    from ..audit.pairs import known_card

    card = known_card(table)
    return None if card is None else card.name


def _columns(first: "Pairs", tiles: Path | None, columns: Mapping[str, str]) -> "pd.DataFrame":
    """Return the columns of the tiles, those of `--tiles` over those of the first table, under their known names."""
    from anndata import AnnData

    from ..audit.matching import match_rows, rows_of
    from ..embeddings import obs_of
    from ..images.columns import ID_COLUMNS, check_table, rename_columns
    from ..images.files import read_frame

    assert isinstance(first.before, AnnData)  # it was read so
    table = obs_of(first.before)
    if tiles is not None:
        frame = read_frame(tiles)
        named = next((name for name in (*ID_COLUMNS, "path") if name in frame.columns), None)
        if named is not None:
            if bool(frame[named].isna().any()):
                row = int(frame[named].isna().to_numpy().argmax()) + 2
                raise InputError(f"a row has no {named}, which names its tile", received=f"{tiles}, row {row}")
            frame = frame.set_index(named)
        matched = match_rows([rows_of(str(first.name), table), rows_of(tiles.name, frame)])
        mine, theirs = matched.places
        over = frame.iloc[theirs].set_axis(matched.ids)
        table = table.iloc[mine].set_axis(matched.ids).assign(**{str(name): over[name] for name in over})
    if columns and not len(table.columns):
        raise OptionError(
            "the vectors come without columns",
            received=", ".join(columns.values()),
            fix="name a table: --tiles tiles.csv",
        )
    return check_table(rename_columns(table, columns), origin=str(tiles or first.name))
