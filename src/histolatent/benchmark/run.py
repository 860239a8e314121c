"""A benchmark: every chain of methods under every seed, each cell in a process of its own, kept when it is done."""

import json
import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import HistolatentError, OptionError
from ..images import TileSource, cores, keep_tiles
from ..outputs import Mark, remove, whole
from ..provenance import canonical_json, digest, environment, now, version
from .cohort import split_cohort
from .methods import Base, Chain, Work
from .methods.base import files_key
from .methods.gan_plan import GanPlan
from .pipeline import run_cell
from .study import Study, check_study, objects_of, pixels_digest
from .tasks import Task

CELL, ROWS = "cell.json", "rows.parquet"
MARK = Mark(CELL, "histolatent-benchmark-cell")
#: The rows of a cell that failed.
NOTHING = pd.DataFrame({"task": pd.Series(dtype=str)})
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Result:
    """One chain under one seed: what tasks read, figures, and costs; or why there are none.

    `rows` has a row for each tile, slide or object that was asked about, with `task`, `site`, `group`, and what was
    true and read.
    """

    chain: str
    seed: int
    needs_target: bool
    rows: pd.DataFrame
    figures: dict[str, float]
    failed: str | None = None


@dataclass(frozen=True, eq=False)
class BenchmarkPlan:
    """What is compared: chains, tasks, seeds, what all start from, and where."""

    chains: tuple[Chain, ...]
    tasks: tuple[Task, ...]
    base: Base
    seeds: tuple[int, ...]
    train_site: str | None = None
    objects: pd.DataFrame | None = None
    single_source: bool = False
    virtual_sites: int | None = None
    gan: GanPlan = field(default_factory=GanPlan)


def run_benchmark(
    cohort: TileSource,
    plan: BenchmarkPlan,
    out: Path,
    *,
    jobs: int = 1,
    workers: int | None = None,
    device: str | None = None,
    progress: Told | None = None,
) -> list[Result]:
    """Fit and read every cell that is not in `out/cells` yet, `jobs` at a time, and return all of them.

    What chains share (tiles in another look, the network) is made once and lies in `out/work`, which is removed when
    every cell is done. A cell that fails is kept with its reason, and tried again when the same is asked again.

    Raises
    ------
    InputError, OptionError
        If something stands in the way of a cell, before any is begun.
    """
    _check_sites(cohort, plan)
    looked_up = objects_of(cohort, plan.objects) if any(task.kind == "objects" for task in plan.tasks) else None
    pixels = pixels_digest(cohort)
    studies = {seed: _study(cohort, pixels, plan, looked_up, out, seed) for seed in plan.seeds}
    check_study(studies[plan.seeds[0]].cohort, plan.chains, plan.tasks, single_source=plan.single_source)
    cells = [Cell(studies[seed], chain, seed, out) for seed in plan.seeds for chain in plan.chains]
    waiting = [cell for cell in cells if not cell.done]
    share = max(1, cores() // jobs)
    own = share - 1 if workers is None else workers
    _Crew(jobs, share, own, device, progress).work_off(waiting, len(cells))
    remove(out / "work")
    return [cell.read() for cell in cells]


def _check_sites(cohort: TileSource, plan: BenchmarkPlan) -> None:
    """Raise OptionError unless there are sites to be read at, real or virtual, and not both."""
    count = cohort.table["site"].nunique() if "site" in cohort.table else 0
    if count < 2 and plan.virtual_sites is None:
        raise OptionError(
            "the cohort has one site, and none that is unseen",
            received=cohort.name,
            fix="--virtual-sites 4 renders patients who are kept out as invented sites would; --column site=NAME says "
            "where sites stand",
        )
    if count > 1 and plan.virtual_sites is not None:
        raise OptionError(
            "virtual sites are for a cohort of one site", received=f"{count} sites", fix="leave --virtual-sites out"
        )


def _study(
    cohort: TileSource, pixels: str, plan: BenchmarkPlan, objects: list[Any] | None, out: Path, seed: int
) -> Study:
    column = plan.tasks[0].column or None
    divided = split_cohort(cohort, plan.train_site, fold=seed, virtual=plan.virtual_sites, column=column)
    folder = out / "work" / f"tiles {digest([version(), pixels])[:12]}"
    kept = keep_tiles(divided.tiles, folder, workers=max(0, cores() - 1))
    if objects is not None:
        rows = getattr(divided.tiles, "rows", None)
        objects = objects if rows is None else [objects[row] for row in rows]
    found = None if objects is None else tuple(objects)
    return Study(replace(divided, tiles=kept), found, plan.base, plan.tasks, pixels, plan.gan)


@dataclass(frozen=True, eq=False)
class Cell:
    """One chain under one seed, and where it is kept."""

    study: Study
    chain: Chain
    seed: int
    out: Path

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.chain.name}, seed {self.seed}"

    @property
    def place(self) -> Path:
        """The folder of what is kept of it."""
        return self.out / "cells" / f"{self.chain.name}-{self.seed}-{self.study.key(self.chain, self.seed)}"

    @property
    def seeds_folder(self) -> Path:
        """The folder of what all chains of the seed share."""
        return self.out / "work" / f"seed {self.seed} {self.study.start}"

    @property
    def shared(self) -> Path:
        """The folder of what chains of the same network share."""
        return self.seeds_folder / f"{self.chain.network} {files_key(self.chain.embeds)}"

    @property
    def done(self) -> bool:
        """Whether it is there, and did not fail."""
        file = self.place / CELL
        return file.exists() and json.loads(file.read_text(encoding="utf-8"))["failed"] is None

    def read(self) -> Result:
        """Return what is kept."""
        known = json.loads((self.place / CELL).read_text(encoding="utf-8"))
        rows = pd.read_parquet(self.place / ROWS)
        return Result(self.chain.name, self.seed, self.chain.needs_target, rows, known["figures"], known["failed"])

    def keep(self, rows: pd.DataFrame, figures: dict[str, float], failed: str | None = None) -> None:
        """Write what was found, or why nothing was."""
        document = {
            "kind": MARK.kind,
            "chain": self.chain.name,
            "methods": [method.name for method in self.chain.methods],
            "seed": self.seed,
            "needs_target": self.chain.needs_target,
            "figures": figures,
            "failed": failed,
            "created": now(),
            "environment": environment(),
        }
        with whole(self.place, overwrite=True, mark=MARK) as part:
            part.mkdir(parents=True)
            rows.to_parquet(part / ROWS, index=False)
            (part / CELL).write_text(canonical_json(document) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class _Crew:
    """Processes that work cells off: each has its share of the cores, and ends with its cell."""

    jobs: int
    threads: int
    workers: int
    device: str | None
    progress: Told | None

    def work_off(self, waiting: Sequence[Cell], total: int) -> None:
        """Work all cells off; of those that share a network, one at a time."""
        queue, running = list(waiting), list[tuple[Cell, BaseProcess]]()
        context = multiprocessing.get_context("spawn")
        try:
            while queue or running:
                busy = {cell.shared for cell, _ in running}
                ready = next((cell for cell in queue if cell.shared not in busy), None)
                if ready is not None and len(running) < self.jobs:
                    queue.remove(ready)
                    if self.progress:
                        self.progress(ready.name, total - len(queue) - len(running) - 1, total)
                    remove(ready.place)  # what failed is tried again
                    process = context.Process(target=_work, args=(ready, self.threads, self.workers, self.device))
                    process.start()
                    running.append((ready, process))
                    continue
                wait([process.sentinel for _, process in running])
                # Asked once: a process may end between two questions.
                codes = [process.exitcode for _, process in running]
                for (cell, _), code in zip(running, codes, strict=True):
                    if code is not None and not (cell.place / CELL).exists():
                        why = ", as without memory" if code else ", and nothing was done"
                        cell.keep(NOTHING, {}, f"its process ended with code {code}{why}")
                running = [pair for pair, code in zip(running, codes, strict=True) if code is None]
        finally:
            for _, process in running:
                process.terminate()
            for _, process in running:
                process.join()
        if self.progress:
            self.progress("done", total, total)


def _work(cell: Cell, threads: int, workers: int, device: str | None) -> None:
    """Fit and read a cell in a process of its own, and keep it."""
    import torch

    torch.set_num_threads(threads)
    cell.shared.mkdir(parents=True, exist_ok=True)
    try:
        work = Work(cell.shared, cell.seed, workers, device, cell.seeds_folder, gan=cell.study.gan)
        rows, figures = run_cell(cell.study, cell.chain, work)
    except HistolatentError as error:
        cell.keep(NOTHING, {}, str(error))
    except Exception as error:  # noqa: BLE001 - methods may be others': the rest goes on, and the reason is kept
        place = traceback.extract_tb(error.__traceback__)[-1]
        cell.keep(NOTHING, {}, f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})")
    else:
        cell.keep(rows, figures)
