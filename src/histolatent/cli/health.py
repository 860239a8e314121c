"""`histolatent doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import STATUS_COLOURS, console

EXAMPLE = "Example: histolatent doctor"


def doctor(
    folder: Annotated[Path, typer.Argument(help="Where you mean to write.")] = Path(),
) -> None:
    """Look at this machine: PASS, WARN or FAIL, each with the fix. Ends with 1 if anything fails."""
    from rich.table import Table
    from rich.text import Text

    from ..doctor import diagnose

    found = diagnose(folder)
    table = Table("", "what", "found", "fix", title="histolatent doctor")
    for item in found:
        table.add_row(Text(item.status, STATUS_COLOURS[item.status]), Text(item.name), Text(item.says), Text(item.fix))
    console().print(table)
    if any(item.status == "FAIL" for item in found):
        raise typer.Exit(1)
