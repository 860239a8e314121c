"""`histolatent benchmark`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OptionError, unknown
from .compact import parse_changes
from .console import (
    AllowOutside,
    Columns,
    Device,
    Label,
    Quiet,
    Site,
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
)

EXAMPLE = "Example: histolatent benchmark tiles.csv --site hospital --train-site A --preset quick --out benchmark/"


#: Begins the names of numbers of the plan of a GAN.
GAN = "gan."


@dataclass(frozen=True)
class Preset:
    """What is compared without further options, and changes of the plan."""

    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: int
    changes: Mapping[str, Any]


PRESETS: Mapping[str, Preset] = {
    "quick": Preset(
        ("none", "hed-strong", "macenko", "combat", "linear", "compact"),
        ("subtype", "grading"),
        2,
        {"training.steps": 400, "training.check_every": 200},
    ),
    "full": Preset(
        (
            "none",
            "hed-light",
            "hed-strong",
            "randstainna",
            "reinhard",
            "macenko",
            "vahadane",
            "linear",
            "adapter",
            "compact",
            "macenko+compact",
            "stainnet",
            "cyclegan",
            "combat",
            "leace",
            "ot",
        ),
        ("subtype", "tumour", "grading", "mitoses", "slides", "bags"),
        5,
        {},
    ),
}


def benchmark(
    src: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.html, tables and cells.")],
    preset: Annotated[
        str, typer.Option(help="quick (under twenty minutes on two cores) or full (hours): methods, tasks, seeds.")
    ] = "quick",
    methods: Annotated[
        str | None,
        typer.Option(help="Methods, by comma: none,macenko,macenko+compact,my.py:METHOD. See: --methods list."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks, by comma, with their column: subtype,grading=gleason. See: --tasks list.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each method.")] = None,
    train_site: Annotated[
        str | None, typer.Option(help="The site to train on; the others are read. Default: that with most tiles.")
    ] = None,
    virtual_sites: Annotated[
        int | None,
        typer.Option(min=1, max=5, help="For a cohort of one site: as how many invented sites to render patients."),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", help="A frozen encoder that all methods start from, in place of training.")
    ] = None,
    plan: Annotated[
        str, typer.Option(help="How networks are trained: a preset (demo, small, wsi) or a TOML file.")
    ] = "demo",
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Change the plan: --set training.steps=4000, --set gan.steps=400."
        ),
    ] = None,
    objects: Annotated[
        Path | None, typer.Option(help="Table of objects to find, for the task mitoses: tile, x, y in its pixels.")
    ] = None,
    single_source: Annotated[
        bool, typer.Option("--single-source", help="Refuse methods that need tiles of the unseen sites.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time; each has its share of the cores.")] = 1,
    label: Label = None,
    site: Site = None,
    column: Columns = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    workers: Workers = None,
    device: Device = None,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods of harmonisation: trained at one site, judged at the others, with intervals and costs.

    Every cell (a method under a seed) that is done is kept: given again, it goes on.
    """
    from ..benchmark.methods import METHODS, Base, parse_chain
    from ..benchmark.methods.gan_plan import GanPlan
    from ..benchmark.run import BenchmarkPlan, run_benchmark
    from ..benchmark.tables import summarise_benchmark, write_tables
    from ..benchmark.tasks import TASKS, parse_task
    from ..compact.plan import CompactionPlan
    from ..report.benchmark import write_benchmark

    if methods == "list" or tasks == "list":
        rows = METHODS if methods == "list" else TASKS
        for name, item in rows.items():
            say(f"{name:12s} {item.describes}")
        raise typer.Exit
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if out.exists() and not out.is_dir():
        raise OptionError("the output is a folder, and a file is there", received=out, fix="choose another path")
    wanted = PRESETS[preset]
    changes = parse_changes(change or [])
    of_gan = {name.removeprefix(GAN): changes.pop(name) for name in list(changes) if name.startswith(GAN)}
    chosen = CompactionPlan.read(plan).changed(**wanted.changes).changed(**changes)
    source = open_source(
        src,
        parse_columns(column, label=label, site=site),
        asked_cut(tile_px, tile_mpp, tissue),
        allow_outside=allow_outside,
        quiet=quiet,
    )
    asked = BenchmarkPlan(
        tuple(map(parse_chain, methods.split(",") if methods else _possible(wanted.methods, source, single_source))),
        tuple(parse_task(name) for name in (tasks.split(",") if tasks else _there(wanted.tasks, source, objects))),
        Base(chosen, on, device),
        tuple(range(seeds or wanted.seeds)),
        train_site,
        None if objects is None else _read_objects(objects),
        single_source,
        virtual_sites,
        GanPlan().changed(**of_gan),
    )

    told = cells_told("now", quiet=quiet)
    results = run_benchmark(source, asked, out, jobs=jobs, workers=workers, device=device, progress=told)
    summary = summarise_benchmark(results, asked.tasks)
    write_tables(summary, out)
    write_benchmark(summary, out / "report.html", name=source.name)
    for finding in summary.findings():
        say(finding)
    for name, why in summary.failed.items():
        say(f"failed: {name}: {why}")
    say(f"{out / 'report.html'}: every table and picture; tables.md and tables.tex for a paper")


def _possible(methods: tuple[str, ...], source: Any, single_source: bool) -> list[str]:
    """Return the methods of a preset that can be fitted, and say which cannot."""
    from ..benchmark.methods import parse_chain
    from ..benchmark.study import lacking

    found = []
    for name in methods:
        chain = parse_chain(name)
        columns = [column for method in chain.methods for column in lacking(method, source.table)]
        if columns:
            say(f"{name} is left out: not of every tile is the {columns[0]} known")
        elif single_source and chain.needs_target:
            say(f"{name} is left out: it needs tiles of the unseen sites")
        else:
            found.append(name)
    return found


def _there(tasks: tuple[str, ...], source: Any, objects: Path | None) -> list[str]:
    """Return the tasks of a preset that the cohort can be asked: those whose column it has."""
    from ..benchmark.tasks import TASKS
    from ..images.phantom import PhantomTiles

    phantom = isinstance(source, PhantomTiles)
    found = [
        name
        for name in tasks
        if (TASKS[name].column in source.table if TASKS[name].column else phantom or objects is not None)
    ]
    if not found:
        raise OptionError("no task of the preset can be read of this cohort", fix="--tasks subtype=COLUMN")
    return found


def _read_objects(path: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path, dtype={"tile": str})
    except (OSError, ValueError) as error:
        raise OptionError("the table of objects cannot be read", received=f"{path}: {error}") from None
