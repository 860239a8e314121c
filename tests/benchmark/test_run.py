"""A benchmark run: cells are made once, failures are kept, and what stands in the way is said before training."""

import json

import numpy as np
import pytest

from histolatent.benchmark.cohort import split_cohort
from histolatent.benchmark.methods import Base, Work, parse_chain
from histolatent.benchmark.pipeline import run_cell, show_cohort
from histolatent.benchmark.run import BenchmarkPlan, run_benchmark
from histolatent.benchmark.study import Study
from histolatent.benchmark.tasks import parse_task
from histolatent.compact.plan import CompactionPlan
from histolatent.errors import InputError, OptionError
from histolatent.images import keep_tiles, open_tiles, select_rows
from histolatent.images.selected import SelectedTiles

COHORT = "phantom:sites=3,patients=6,slides=1,tiles_per_site=60,tile_px=48"
PLAN = CompactionPlan().changed(
    **{"training.steps": 3, "training.batch_size": 12, "training.check_every": 3, "projector": 16, "tile_px": 32}
)
FROZEN = "toy:od-moments"
BROKEN = """
from histolatent.benchmark.methods.base import Method

def fit(source, target, work):
    assert target is None
    raise ValueError("of my own")

BROKEN = Method("broken", "vectors", "raises", fit)

def end(source, target, work):
    import os
    os._exit(9)

ENDS = Method("ends", "vectors", "ends its process", end)
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return keep_tiles(open_tiles(COHORT), tmp_path_factory.mktemp("kept"))


def plan_of(*chains, tasks=("subtype",), base=None, seeds=(0,), **options):
    return BenchmarkPlan(
        tuple(map(parse_chain, chains)),
        tuple(map(parse_task, tasks)),
        base or Base(PLAN, FROZEN),
        seeds,
        "source",
        **options,
    )


@pytest.mark.slow
def test_cells_are_made_once_and_what_fails_does_not_stop_the_rest(cohort, tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN)
    chains = ("none", f"{tmp_path}/mine.py:BROKEN", f"{tmp_path}/mine.py:ENDS")
    told = []
    plan = plan_of(*chains, tasks=("subtype", "tumour"))
    found = run_benchmark(cohort, plan, tmp_path / "out", workers=0, progress=lambda *what: told.append(what))
    assert [(each.chain, each.seed) for each in found] == [("none", 0), ("broken", 0), ("ends", 0)]
    assert told[0] == ("none, seed 0", 0, 3) and told[-1] == ("done", 3, 3)
    reasons = [each.failed for each in found]
    assert reasons[0] is None
    assert "ValueError: of my own (mine.py, line 6)" in reasons[1] and "ended with code 9" in reasons[2]
    none = found[0]
    assert set(none.rows["task"]) == {"subtype", "tumour"} and set(none.rows["site"]) >= {"source", "new-stain"}
    assert {"silhouette", "robustness", "w2", "w2_floor", "rank", "fit_seconds", "peak_gb"} <= none.figures.keys()
    assert not (tmp_path / "out" / "work").exists()
    cells = sorted((tmp_path / "out" / "cells").glob("*/cell.json"))
    stamps = {cell: cell.stat().st_mtime_ns for cell in cells}
    again = run_benchmark(cohort, plan, tmp_path / "out", workers=0)
    for first, second in zip(found, again, strict=True):
        assert first.failed is not None or first.rows.equals(second.rows)
    for cell in cells:
        failed = json.loads(cell.read_text())["failed"] is not None
        assert (cell.stat().st_mtime_ns != stamps[cell]) == failed  # what failed is tried again


@pytest.mark.slow
def test_a_trained_network_is_shared_and_read_by_every_task(cohort, tmp_path):
    tasks = tuple(map(parse_task, ("subtype", "grading", "mitoses", "slides", "bags")))
    random = np.random.default_rng(0)
    objects = tuple(random.uniform(8, 40, (int(tumour), 2)) for tumour in cohort.table["tumour"])
    study = Study(split_cohort(cohort, "source"), objects, Base(PLAN), tasks)
    found = {}
    for text in ("compact", "compact+leace", "hed-strong+ot", "macenko+linear"):
        chain = parse_chain(text)
        folder = tmp_path / chain.network
        folder.mkdir(exist_ok=True)
        rows, found[text] = run_cell(study, chain, Work(folder))
        assert set(rows["task"]) == {task.name for task in tasks}
        assert set(rows["site"]) == {"source", "new-scanner", "new-stain"}
    seconds = [found[text]["embed_seconds_per_1000"] for text in ("compact", "compact+leace", "hed-strong+ot")]
    assert seconds[0] == seconds[1] != seconds[2]  # one network
    assert found["compact"]["silhouette"] != found["compact+leace"]["silhouette"]
    again = show_cohort(study.cohort, parse_chain("macenko"), Work(tmp_path / "macenko"))[0]
    assert not np.array_equal(again.tiles.read(70), cohort.read(70))


@pytest.mark.slow
def test_one_site_is_read_at_virtual_ones(cohort, tmp_path):
    one = select_rows(cohort, np.arange(60))
    with pytest.raises(OptionError, match="--virtual-sites 4"):
        run_benchmark(one, plan_of("none"), tmp_path)
    found = run_benchmark(one, plan_of("none", seeds=(0, 1), virtual_sites=2), tmp_path, workers=0)
    assert [each.failed for each in found] == [None, None]
    assert set(found[0].rows["site"]) == {"source", "soft", "rose"}
    assert set(found[0].rows["group"]) != set(found[1].rows["group"])  # each seed keeps other patients
    with pytest.raises(OptionError, match="virtual sites are for a cohort of one site"):
        run_benchmark(cohort, plan_of("none", virtual_sites=2), tmp_path)


@pytest.mark.parametrize(
    ("chains", "options", "said"),
    [
        (("combat",), {"single_source": True}, "only one source is allowed.*combat"),
        (("none",), {"tasks": ("mitoses",)}, "needs to know where they are.*--objects"),
        (("none",), {"tasks": ("subtype=nowhere",)}, "needs a column 'nowhere'"),
    ],
)
def test_what_stands_in_the_way_is_said_first(cohort, tmp_path, chains, options, said):
    with pytest.raises((InputError, OptionError), match=said):
        run_benchmark(cohort, plan_of(*chains, **options), tmp_path)
    assert not (tmp_path / "cells").exists()


def test_a_patient_at_two_sites_is_found(cohort, tmp_path):
    table = cohort.table.copy()
    table["patient"] = table["patient"].str.partition("/")[2]
    shared = SelectedTiles(cohort, np.arange(len(table)), table)
    with pytest.raises(InputError, match=r"a patient is both at the source and at an unseen site.*'p01' at new-"):
        run_benchmark(shared, plan_of("none"), tmp_path)


def test_a_cell_is_another_one_when_the_file_of_its_method_has_changed(cohort, tmp_path):
    file = tmp_path / "mine.py"
    study = Study(split_cohort(cohort, "source"), None, Base(PLAN, FROZEN), (parse_task("subtype"),))
    keys = []
    for text in (BROKEN, BROKEN, BROKEN.replace("my own", "another")):
        file.write_text(text)
        keys.append(study.key(parse_chain(f"{file}:BROKEN"), 0))
    assert keys[0] == keys[1] != keys[2]
    assert study.key(parse_chain("none"), 0) != study.key(parse_chain("none"), 1)
