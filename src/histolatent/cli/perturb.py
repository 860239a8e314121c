"""`histolatent perturb`: show a tile under every operation, list the operations."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from .console import AllowOutside, Columns, Overwrite, console, error_console, parse_columns, say

SHOW_EXAMPLE = "Example: histolatent perturb show tile.png --suite full --out sheet.png"
LIST_EXAMPLE = "Example: histolatent perturb list --suite stain"
Suite = Annotated[
    str | None,
    typer.Option(help="quick, standard, full, stain, scanner, geometry, must-react, or a file.toml of your own."),
]

app = typer.Typer(
    name="perturb",
    help="Look at the graded perturbations: on a tile of yours, or as a list.",
    no_args_is_help=True,
)


@app.command("show", epilog=SHOW_EXAMPLE)
def show(
    tile: Annotated[str, typer.Argument(metavar="TILE", help="An image file; or a set of tiles, with --tile.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture, sheet.png.")],
    suite: Suite = None,
    operation: Annotated[
        list[str] | None, typer.Option("--operation", metavar="NAME", help="Only this one. Repeatable.")
    ] = None,
    tile_id: Annotated[str | None, typer.Option("--tile", metavar="ID", help="Which tile of a set.")] = None,
    donor: Annotated[
        list[Path] | None,
        typer.Option("--donor", metavar="IMAGE", help="A tile that tissue-swap may take tissue from. Repeatable."),
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel. Default: 0.5.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels.")] = 0,
    column: Columns = None,
    overwrite: Overwrite = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Draw one tile under every operation of a suite: a row per operation, a column per severity."""
    from ..images import decode
    from ..outputs import refuse_existing, refuse_inputs, whole
    from ..perturb import ASSUMED_MPP, Donor
    from ..report.ladders import draw_ladders
    from ..restain import find_tile

    if out.suffix.lower() != ".png":
        raise OptionError("the picture is a PNG", received=out, fix="--out sheet.png")
    refuse_inputs(out, [tile, *(donor or [])])
    refuse_existing(out, overwrite=overwrite)
    note_plugins()
    operations = chosen(suite, operation)
    found = find_tile(tile, tile_id, columns=parse_columns(column), allow_outside=allow_outside)
    refuse_inputs(out, found.files)
    donors = tuple(Donor(decode(path), mpp or ASSUMED_MPP, path.name) for path in donor or ())
    picture = draw_ladders(found.pixels, operations, name=found.name, seed=seed, mpp=mpp, donors=donors)
    with whole(out, overwrite=overwrite) as part:
        part.write_bytes(picture)
    say(f"{out}: {found.name} under {len(operations)} operations")


@app.command("list", epilog=LIST_EXAMPLE)
def list_operations(
    suite: Suite = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False,
) -> None:
    """List the operations with family, role, levels in their unit, what they do, and when they mislead."""
    from rich.table import Table
    from rich.text import Text

    from ..perturb import OPERATIONS, SUITES
    from ..perturb import suite as find
    from ..provenance import canonical_json

    note_plugins()
    operations = tuple(OPERATIONS.values()) if suite is None else find(suite)
    if json:
        typer.echo(canonical_json([operation.to_dict() for operation in operations]))
        return
    table = Table(title="operations" if suite is None else f"operations of {suite}", show_lines=True)
    table.add_column("operation, family, role", min_width=23)
    table.add_column("severity 1 to 5", min_width=16)
    table.add_column("what it does, and when it misleads", overflow="fold")
    for item in operations:
        kind = item.family if item.family == item.role else f"{item.family}\n{item.role}"
        said = Text(item.describes)
        if item.misleads:
            said.append(f"\nMisleads: {item.misleads}", "dim")
        if item.name in OPERATIONS.added:
            said.append(f"\nFrom {OPERATIONS.added[item.name]}", "dim")
        table.add_row(Text(f"{item.name}\n{kind}"), Text(levels_of(item)), said)
    console().print(table)
    if suite is None:
        say("Suites: " + "; ".join(f"{name} ({len(names)})" for name, names in SUITES.items()) + ".")


def levels_of(operation) -> str:
    """Return the levels of an operation in words: `Gaussian sigma: 0.25, 0.5, 0.75, 1, 1.5 um`."""
    if not operation.graded:
        return f"{operation.parameter}: five variants"
    numbers = ", ".join(f"{level:g}" for level in operation.levels)
    return f"{operation.parameter}: {numbers} {operation.unit}".strip()


def chosen(suite: str | None, names: list[str] | None):
    """Return the operations of a suite, of names, or of names within a suite file's levels."""
    from ..perturb import OPERATIONS
    from ..perturb import suite as find

    if not names:
        return find(suite or "standard")
    held = {operation.name: operation for operation in find(suite)} if suite else OPERATIONS
    missing = [name for name in names if name in OPERATIONS and name not in held]
    if missing:
        raise OptionError(f"{missing[0]!r} is not in the suite {suite}", fix="drop --suite")
    return tuple(held[name] if name in held else OPERATIONS[name] for name in dict.fromkeys(names))


def note_plugins() -> None:
    """Load the plug-ins, and say in one line each which of them cannot be used."""
    from ..perturb import OPERATIONS
    from ..registry import PluginWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PluginWarning)
        len(OPERATIONS)
    for warning in caught:
        error_console().print(f"note: {warning.message}", soft_wrap=True, markup=False)
