"""`histolatent compare`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError, OptionError
from .console import Overwrite, printable, say
from .gate import read_audit, shown, wide_console

EXAMPLE = "Example: histolatent compare before/ after/ --out compare.csv"
TITLES = {"worse": "worse in the second run", "better": "better in the second run", "undecided": "not decided"}
COLOURS = {"worse": "bold red", "better": "green", "undecided": "dim"}
NEEDED = ("encoder", "tile", "group")


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of the first audit.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of the second audit.")],
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", "-e", help="An encoder of both. Repeatable. Default: all but baselines."),
    ] = None,
    between: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME_A=NAME_B", help="An encoder of the first with one of the second. Repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the table: compare.csv or .json.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what got worse from one audit to another, on the tiles of both. Ends with 1 if anything did.

    Ends with 2 where the two cannot be compared. Something is worse or better by p below 0.05, adjusted by Holm.
    """
    from ..audit.runs import compare_runs, pair_encoders
    from ..outputs import refuse_existing, refuse_inputs
    from .perturb import note_plugins

    if out is not None:
        if out.suffix.lower() not in (".csv", ".json"):
            raise OptionError("a comparison is a table", received=out, valid=".csv, .json", fix="--out compare.csv")
        refuse_existing(out, overwrite=overwrite)
        refuse_inputs(out, [file for folder in (first, second) for file in audit_files(folder)])
    note_plugins()
    before, after = read_run(first), read_run(second)
    chosen = [split_pair(text, before.result, after.result) for text in between or ()]
    pairs = pair_encoders(before.result, after.result, encoder or (), chosen)
    found = compare_runs(before, after, pairs)
    if out is not None:
        _write(found, out, overwrite=overwrite)
    _print(found, pairs)
    worse = [item for item in found.changes if item.outcome == "worse"]
    counts = {name: sum(item.outcome == name for item in found.changes) for name in TITLES}
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"{said}: {found.tiles} tiles, {found.groups} groups, {found.resamples} resamples")
    for name in found.collapsed:
        say(printable(f"{name} tells tiles apart in the first run, and no longer in the second"))
    if worse or found.collapsed:
        raise typer.Exit(1)


def audit_files(folder: Path) -> list[Path]:
    """Return everything that an audit wrote, for none of it to be replaced."""
    root = folder if folder.is_dir() else folder.parent
    return [path for path in root.rglob("*") if path.is_file()] if (root / "audit.json").exists() else [folder]


def read_run(folder: Path):
    """Read the document and the table of tiles of an audit."""
    import pandas as pd

    from ..audit.runs import Run

    result = read_audit(folder)
    file = folder / "tiles.parquet" if folder.is_dir() else folder.with_name("tiles.parquet")
    try:
        tiles = pd.read_parquet(file)
    except FileNotFoundError:
        raise InputError(
            "there is no tiles.parquet beside audit.json", received=folder, fix="audit it again with this version"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"tiles.parquet cannot be read ({str(error).strip()})", received=file) from None
    missing = [name for name in NEEDED if name not in tiles]
    if missing or tiles.empty:
        said = f"it has no column {missing[0]}" if missing else "it is empty"
        raise InputError(f"tiles.parquet is not that of an audit: {said}", received=file)
    return Run(str(folder), result, tiles)


def split_pair(text: str, first, second) -> tuple[str, str]:
    """Split NAME_A=NAME_B where both sides are encoders: a name may hold an equals sign of its own."""
    known = [[encoder.name for encoder in result.encoders] for result in (first, second)]
    places = [i for i, letter in enumerate(text) if letter == "="]
    halves = [(text[:i], text[i + 1 :]) for i in places]
    if not halves:
        raise OptionError("two encoders are named as NAME_A=NAME_B", received=text)
    fitting = [pair for pair in halves if pair[0] in known[0] and pair[1] in known[1]]
    if len(fitting) > 1:
        raise OptionError("these names can be read in two ways", received=text)
    if fitting:
        return fitting[0]
    # Whichever name is wrong is said by who knows both runs.
    return next((pair for pair in halves if pair[0] in known[0] or pair[1] in known[1]), halves[0])


def _write(found, out: Path, *, overwrite: bool) -> None:
    import json

    from ..outputs import whole

    with whole(out, overwrite=overwrite) as part:
        if out.suffix.lower() == ".csv":
            found.to_frame().to_csv(part, index=False)
        else:
            text = json.dumps(found.to_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
            part.write_text(text + "\n", encoding="utf-8")


def _print(found, pairs) -> None:
    from rich.table import Table
    from rich.text import Text

    for pair in pairs:
        name = pair[0] if pair[0] == pair[1] else f"{pair[0]} and then {pair[1]}"
        mine = [item for item in found.changes if (item.first, item.second) == pair]
        for outcome, title in TITLES.items():
            rows = [item for item in mine if item.outcome == outcome]
            if not rows:
                continue
            table = Table(title=Text(printable(f"{name}: {title}"), COLOURS[outcome]), title_justify="left")
            table.add_column("figure", overflow="fold", min_width=24)
            for heading in ("first", "second", "change, 95 % interval", "p", "Holm", "BH"):
                table.add_column(heading, justify="right", no_wrap=True)
            for item in rows:
                cells = (f"{item.before:.3f}", f"{item.after:.3f}", shown(item.change, "+.3f"))
                ps = (_p(item.p), _p(item.p_holm), _p(item.p_bh))
                table.add_row(*map(Text, (printable(_title(item)), *cells, *ps)))
            wide_console().print(table)
    for text in found.left_out:
        say(printable(f"not compared: {text}"))
    for text in found.notes:
        say(printable(f"note: {text}"))


def _title(item) -> str:
    from ..audit import METRICS

    where = item.operation or item.column
    return f"{METRICS[item.metric].title}{', ' + where if where else ''} ({item.family})"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
