"""`histolatent ablate`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from .compact import parse_changes
from .console import (
    AllowOutside,
    Columns,
    Device,
    Quiet,
    Source,
    TileMpp,
    TilePx,
    Tissue,
    Workers,
    asked_cut,
    cells_told,
    open_source,
    parse_columns,
    say,
    training_workers,
)

EXAMPLE = (
    'Example: histolatent ablate tiles.csv --train-site A --variant "no compaction" --variant barlow --out ablation/'
)


def ablate(
    src: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for table.csv, table.md and the cells.")],
    plan: Annotated[str, typer.Option(help="A preset (demo, small, wsi) or a TOML file.")] = "demo",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change the plan: --set training.steps=4000. Repeatable."),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="What is changed, one at a time. Repeatable. Default: everything.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each variant.")] = 3,
    train_site: Annotated[
        str | None, typer.Option(help="The site to train on; the others are read. Default: that with most tiles.")
    ] = None,
    column: Columns = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    workers: Workers = None,
    device: Device = None,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Train a plan with one part changed at a time, over seeds, on one site, and read each encoder at the others.

    A cohort of one site is read at virtual sites instead. Cells that are done are kept: given again, it goes on.
    """
    from ..benchmark.ablate import as_markdown, run_ablation, summarise
    from ..compact.plan import CompactionPlan
    from ..outputs import whole

    if out.exists() and not out.is_dir():
        raise OptionError("the output is a folder, and a file is there", received=out, fix="choose another path")
    source = open_source(
        src, parse_columns(column), asked_cut(tile_px, tile_mpp, tissue), allow_outside=allow_outside, quiet=quiet
    )
    wanted = CompactionPlan.read(plan).changed(**parse_changes(change or []))

    cells = run_ablation(
        source,
        wanted,
        out,
        variants=variant or (),
        seeds=range(seeds),
        train_site=train_site,
        device=device,
        workers=training_workers(workers),
        progress=cells_told("training", quiet=quiet),
    )
    table = summarise(cells)
    text = as_markdown(table)
    for name, content in (("table.md", text), ("table.csv", table.to_csv())):
        with whole(out / name, overwrite=True) as part:
            part.write_text(content, encoding="utf-8")
    say(text.rstrip())
    say(f"{out / 'table.csv'}: every figure; intervals are 95 %, over patients")
