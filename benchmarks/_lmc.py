"""What the benchmarks of trained encoders share: a plan and variants of it on one cohort, compared where it is read."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from _bench import Bench

from histolatent.benchmark.ablate import (
    PRESET,
    Cell,
    difference,
    of_variant,
    paired,
    run_ablation,
    summarise,
    value_of,
)
from histolatent.benchmark.cohort import SOURCE
from histolatent.compact.plan import CompactionPlan
from histolatent.images import TileSource, cores, keep_tiles
from histolatent.stats import Estimate, bootstrap

#: The same network without compaction.
PLAIN = "no states"


@dataclass(frozen=True)
class Part:
    """A cohort, what the plan stands beside on it, and how much of the error is to go."""

    name: str
    source: TileSource
    variants: tuple[str, ...]
    seeds: int
    least: float
    train_site: str | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """The cells of a part, their table, and the folder that holds what was trained."""

    cells: list[Cell]
    table: pd.DataFrame
    folder: Path


def run_part(bench: Bench, part: Part, folder: Path) -> Run:
    """Train and read what is not there yet, and compare it at sites that were not seen, and on the source.

    Cells lie in the folder that HISTOLATENT_CELLS names, and are not trained again; without one, in `folder`.
    """
    cells = Path(os.environ.get("HISTOLATENT_CELLS", folder))
    with tempfile.TemporaryDirectory() as kept:
        found = run_ablation(
            keep_tiles(part.source, Path(kept), workers=cores()),
            CompactionPlan.read("demo"),
            cells,
            variants=part.variants,
            seeds=range(part.seeds),
            train_site=part.train_site,
            workers=max(1, cores() - 1),
            progress=lambda what, done, total: print(f"{part.name}, {done} of {total}: {what}", flush=True),
        )
    table = summarise(found)
    _check(bench, part, found, table)
    return Run(found, table, cells / "cells")


def _check(bench: Bench, part: Part, cells: Sequence[Cell], table: pd.DataFrame) -> None:
    bench.measured[part.name] = {
        "table": {name: row.dropna().to_dict() for name, row in table.iterrows()},
        "sites": {
            name: {site: value_of(of_variant(cells, name), site) for site in cells[0].read} for name in table.index
        },
    }
    for name in part.variants:
        own = f"{part.name}: {{}} against {name}".format
        share, lost = removed(cells, name), difference(cells, name, PRESET, SOURCE).estimate
        asked = name == PLAIN
        bench.check(own("error_removed"), share.value, f">= {part.least}" if asked else None, f"95 % {share}")
        if asked and part.train_site:
            bench.check(own("error_removed_low"), share.low, ">= 0.6")
        bench.check(own("lost_on_the_source"), lost.value, "<= 0.01" if asked else None, f"95 % {lost}")
    plain, ours = table.loc[PLAIN], table.loc[PRESET]
    closed = (ours["unseen"] - plain["unseen"]) / (plain[SOURCE] - plain["unseen"])
    said = f"unseen {plain['unseen']:.3f} to {ours['unseen']:.3f}, where the source is read at {plain[SOURCE]:.3f}"
    bench.check(f"{part.name}: gap_to_the_source_closed", closed, None, said)


def removed(cells: Sequence[Cell], against: str) -> Estimate:
    """Return the share of the error at unseen sites that is gone, with an interval over patients."""
    ours, theirs, groups = paired(cells, PRESET, against, "unseen")
    return bootstrap(lambda weights: 1 - (1 - ours(weights)) / (1 - theirs(weights)), groups)
