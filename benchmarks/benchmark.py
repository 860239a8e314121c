"""Methods of harmonisation at sites that nobody saw: what `histolatent benchmark` says, and how long it takes.

`--quick` runs the preset `quick` on the phantom, timed whole. `--full` runs the preset `full` there, and six methods at
virtual sites of real tiles (HISTOLATENT_DATA); hours on two cores. Cells are kept in the folder that HISTOLATENT_CELLS
names, and not made again.
"""

import json
import os
import tempfile
import time
from pathlib import Path

from _bench import Bench, start
from _real import real_tiles

from histolatent import open_tiles
from histolatent.benchmark.cohort import SOURCE, UNSEEN
from histolatent.benchmark.methods import Base, parse_chain
from histolatent.benchmark.methods.plain import AS_IT_IS
from histolatent.benchmark.run import BenchmarkPlan, run_benchmark
from histolatent.benchmark.tables import Summary, all_tables, interval, summarise_benchmark, write_tables
from histolatent.benchmark.tasks import parse_task
from histolatent.cli.benchmark import PRESETS
from histolatent.compact.plan import CompactionPlan
from histolatent.images import TileSource, cores

OURS, PHANTOM = "compact", "phantom:sites=5"
#: Tasks that are read of tiles, not of slides.
OF_TILES = ("subtype", "tumour", "grading", "mitoses")
OF_REAL_TILES = ("none", "hed-strong", "macenko", "reinhard", "linear", "compact")
VIRTUAL_SITES, MOST_MINUTES = 4, 20
#: Tables that are kept as numbers.
FRAMES = ("scores", "differences", "outcomes")


def main() -> None:
    """Measure and write `results/benchmark.json`."""
    bench = start("benchmark", __doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(os.environ.get("HISTOLATENT_CELLS", folder))
        if bench.mode == "quick":
            clock = time.perf_counter()
            record(bench, "quick", compare(open_tiles(PHANTOM), "quick", out / "quick", train_site=SOURCE))
            minutes = (time.perf_counter() - clock) / 60
            bench.check("minutes_of_preset_quick", minutes, f"< {MOST_MINUTES}", f"{cores()} cores, cells kept count 0")
        else:
            summary = compare(open_tiles(PHANTOM), "full", out / "full", train_site=SOURCE)
            record(bench, "phantom", summary)
            check_phantom(bench, summary)
            for name, source in real_tiles().items():
                found = compare(
                    source, "full", out / name, methods=OF_REAL_TILES, tasks=("subtype",), virtual=VIRTUAL_SITES
                )
                record(bench, name, found)
    bench.finish()


def compare(
    source: TileSource,
    preset: str,
    out: Path,
    *,
    methods: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    train_site: str | None = None,
    virtual: int | None = None,
) -> Summary:
    """Run the cells of a preset that are not there yet, and return what all of them say."""
    wanted = PRESETS[preset]
    asked = BenchmarkPlan(
        tuple(parse_chain(name) for name in methods or wanted.methods),
        tuple(parse_task(name) for name in tasks or wanted.tasks),
        Base(CompactionPlan.read("demo").changed(**wanted.changes)),
        tuple(range(wanted.seeds)),
        train_site,
        virtual_sites=virtual,
    )
    results = run_benchmark(
        source, asked, out, progress=lambda what, done, total: print(f"{done} of {total}: {what}", flush=True)
    )
    summary = summarise_benchmark(results, asked.tasks)
    write_tables(summary, out)
    return summary


def record(bench: Bench, name: str, summary: Summary) -> None:
    """Keep every table as a page shows it, scores and differences as numbers, and what they say in words."""
    bench.measured[name] = {
        "tables": {title: {"head": head, "rows": rows} for title, (head, rows) in all_tables(summary).items()},
        **{what: json.loads(getattr(summary, what).to_json(orient="records")) for what in FRAMES},
        "ranks": None if summary.ranks is None else vars(summary.ranks),
        "priors": dict(summary.priors),
        "findings": summary.findings(),
        "failed": dict(summary.failed),
        "patients": summary.patients,
        "seeds": len(summary.seeds),
    }
    for finding in summary.findings():
        print(finding)


def check_phantom(bench: Bench, summary: Summary) -> None:
    """Check whether compaction beats the best method before it at sites that were not seen, task by task."""
    better = worse = 0
    for task in (task for task in summary.tasks if task.name in OF_TILES):
        prior = summary.priors[task.name]
        rows = summary.differences.to_dict("records")
        gap = next(row for row in rows if (row["task"], row["method"], row["against"]) == (task.name, OURS, prior))
        better, worse = better + (gap["low"] > 0), worse + (gap["high"] < 0)
        scores = ", ".join(
            f"{name} {interval(summary.at(task, name, UNSEEN))}" for name in dict.fromkeys((AS_IT_IS, prior, OURS))
        )
        said = f"95 % {gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]; {task.scores[0]}: {scores}"
        bench.check(f"{task.name}: gained_on_the_best_prior", gap["difference"], None, said)
    bench.check("tile_tasks_with_a_gain", better, ">= 3", f"of {len(OF_TILES)}, interval above 0")
    bench.check("tile_tasks_with_a_loss", worse, "<= 0", "interval below 0")
    mitoses = next(task for task in summary.tasks if task.name == "mitoses")
    drops = {
        name: summary.at(mitoses, name, SOURCE).value - summary.at(mitoses, name, UNSEEN).value
        for name in (AS_IT_IS, OURS)
    }
    said = f"F1 drops by {drops[AS_IT_IS]:.3f} without a method, by {drops[OURS]:.3f} with compaction"
    bench.check("mitoses: drop_of_that_without", drops[OURS] / drops[AS_IT_IS], "<= 0.5", said)


if __name__ == "__main__":
    main()
