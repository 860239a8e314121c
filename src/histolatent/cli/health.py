"""`histolatent doctor` and `histolatent demo`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import STATUS_COLOURS, Quiet, Workers, console, progress_bar, say, worker_count

DOCTOR_EXAMPLE = "Example: histolatent doctor"
DEMO_EXAMPLE = "Example: histolatent demo --out demo"
DEMO_ENCODERS = ("timm-random:vit_tiny_patch16_224?img_size=96", "toy:od-moments", "toy:colour-histogram")
DEMO_TILES = 40


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


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; an older demo there is replaced.")] = Path(
        "demo"
    ),
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Run the main job on the embedded synthetic cohort: draw, embed with three encoders, audit, report."""
    from ..audit import Plan
    from ..images import open_tiles
    from ..images.phantom import PhantomSpec, write_phantom
    from ..outputs import Mark, refuse_existing
    from .audit import run_audit

    refuse_existing(out, overwrite=True, mark=Mark("cohort/truth.parquet"))
    spec = PhantomSpec(sites=5, patients=4, slides=1, tiles_per_site=DEMO_TILES)
    with progress_bar("drawing the phantom cohort", quiet=quiet) as progress:
        write_phantom(spec, out / "cohort", workers=worker_count(workers), progress=progress, overwrite=True)
    source = open_tiles(out / "cohort")
    run_audit(
        source,
        list(DEMO_ENCODERS),
        out / "audit",
        plan=Plan(),
        workers=worker_count(workers),
        overwrite=True,
        restart=True,
        quiet=quiet,
    )
    say("Synthetic tiles, untrained encoders: the figures show what an audit looks like, not what is good.")
