"""A benchmark run: cells are made once, failures are kept, and what stands in the way is said before training."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from histolatent.benchmark.cohort import split_cohort
from histolatent.benchmark.methods import Base, Work, parse_chain
from histolatent.benchmark.methods.gan_plan import GanPlan
from histolatent.benchmark.pipeline import run_cell, show_cohort
from histolatent.benchmark.run import BenchmarkPlan, Cell, run_benchmark
from histolatent.benchmark.separation import measure_distances, measure_separation
from histolatent.benchmark.study import Study, pixels_digest
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

def quit(source, target, work):
    import os
    os._exit(0)

QUITS = Method("quits", "vectors", "ends its process as if all were well", quit)
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
    chains = ("none", *(f"{tmp_path}/mine.py:{name}" for name in ("BROKEN", "ENDS", "QUITS")))
    told = []
    plan = plan_of(*chains, tasks=("subtype", "tumour"))
    found = run_benchmark(cohort, plan, tmp_path / "out", workers=0, progress=lambda *what: told.append(what))
    assert [(each.chain, each.seed) for each in found] == [("none", 0), ("broken", 0), ("ends", 0), ("quits", 0)]
    assert told[0] == ("none, seed 0", 0, 4) and told[-1] == ("done", 4, 4)
    reasons = [each.failed for each in found]
    assert reasons[0] is None
    assert "ValueError: of my own (mine.py, line 6)" in reasons[1] and "ended with code 9" in reasons[2]
    assert "ended with code 0, and nothing was done" in reasons[3]
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
    assert found["macenko+linear"]["apply_seconds_per_1000"] > found["compact"]["apply_seconds_per_1000"] == 0
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
        (("none",), {"tasks": ("subtype=nowhere",)}, "has no column 'nowhere' to read.*--tasks NAME=COLUMN"),
        (("none", "none"), {}, "two methods are called the same.*none"),
        (("none",), {"tasks": ("subtype", "subtype=grade")}, "two tasks are called the same"),
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


def sites_of(cohort, change):
    table = cohort.table.copy()
    change(table)
    return SelectedTiles(cohort, np.arange(len(table)), table)


def test_a_tile_without_a_site_among_others_is_refused(cohort, tmp_path):
    def forget(table):
        table.loc[table.index[3:5], "site"] = None

    with pytest.raises(InputError, match=r"2 of 180 tiles have no site, and others have one"):
        run_benchmark(sites_of(cohort, forget), plan_of("none"), tmp_path)


def test_a_normaliser_needs_to_know_slides(cohort, tmp_path):
    bare = SelectedTiles(cohort, np.arange(len(cohort.table)), cohort.table.drop(columns="slide"))
    with pytest.raises(InputError, match=r"macenko is fitted to each slide.*--column slide=NAME"):
        run_benchmark(bare, plan_of("macenko"), tmp_path)


def test_only_columns_of_tasks_are_needed(cohort):
    bare = SelectedTiles(cohort, np.arange(len(cohort.table)), cohort.table.drop(columns="label"))
    for column in ("grade", None):
        divided = split_cohort(bare, "source", column=column)
        vectors = np.random.default_rng(0).normal(size=(len(bare.table), 4)).astype(np.float32)
        figures = measure_separation(divided, vectors) | measure_distances(divided, vectors)
        assert "silhouette" in figures and ("robustness" in figures) == (column is not None)
        one = SelectedTiles(bare, np.arange(60), bare.table.iloc[:60])
        assert 0 < len(split_cohort(one, virtual=1, column=column).kept) < 60


GREY = """
import numpy as np
from pathlib import Path

from histolatent.benchmark.methods import ChangedTiles, Method

HERE = Path(__file__).parent


def to_grey(tile):
    return np.repeat(tile.mean(axis=2, keepdims=True).round().astype(np.uint8) // DIVISOR, 3, axis=2)


def fit(source, target, work):
    assert {"label", "grade"} <= set(source.table)
    for tiles in (target or {}).values():
        assert not {"label", "grade", "tumour", "site"} & set(tiles.table)
    (HERE / f"fitted {len(list(HERE.glob('fitted*')))} {target is not None}").touch()
    return lambda tiles, site: ChangedTiles(tiles, to_grey)


GREY = Method("grey", "tiles", "tiles without colour", fit)
KNOWS = Method("knows", "tiles", "the same, of target tiles", fit, needs_target=True)
"""


@pytest.mark.slow
def test_a_method_in_a_file_and_two_jobs_at_a_time(cohort, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(GREY.replace("DIVISOR", "1"))
    plan = plan_of("none", f"{file}:GREY", f"{file}:KNOWS", f"{file}:GREY+leace")
    found = run_benchmark(cohort, plan, tmp_path / "out", jobs=2, workers=0)
    assert [each.failed for each in found] == [None] * 4
    assert [each.needs_target for each in found] == [False, False, True, True]
    assert len(list(tmp_path.glob("fitted * False"))) == 1  # grey and grey+leace share their tiles
    assert len(list(tmp_path.glob("fitted * True"))) == 1
    assert found[1].rows.equals(found[2].rows) and not found[1].rows.equals(found[0].rows)
    assert "apply_seconds_per_1000" in found[1].figures


@pytest.mark.slow
def test_what_an_interruption_left_is_used_for_the_same_and_not_for_another(cohort, tmp_path, monkeypatch):
    file, out = tmp_path / "mine.py", tmp_path / "out"
    file.write_text(GREY.replace("DIVISOR", "1"))
    kept = []
    monkeypatch.setattr("histolatent.benchmark.run.remove", lambda path: kept.append(path))  # as if it had stopped
    first = run_benchmark(cohort, plan_of(f"{file}:GREY"), out, workers=0)[0]
    fits = lambda: len(list(tmp_path.glob("fitted*")))  # noqa: E731
    assert out / "work" in kept and (out / "work").exists() and fits() == 1
    again = run_benchmark(cohort, plan_of(f"{file}:GREY", tasks=("subtype", "tumour")), out, workers=0)[0]
    assert fits() == 1 and set(again.rows["task"]) == {"subtype", "tumour"}  # another cell of the same work
    base = Base(PLAN, "toy:random-conv")
    other = run_benchmark(cohort, plan_of(f"{file}:GREY", base=base), out, workers=0)[0]
    assert fits() == 2 and other.figures["rank"] != first.figures["rank"]
    file.write_text(GREY.replace("DIVISOR", "2"))
    edited = run_benchmark(cohort, plan_of(f"{file}:GREY"), out, workers=0)[0]
    assert fits() == 3 and edited.figures["rank"] != first.figures["rank"]


def test_work_of_another_plan_tiles_or_file_lies_elsewhere(cohort, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(BROKEN)
    divided = split_cohort(cohort, "source")
    task = (parse_task("subtype"),)

    def places(base=None, cohort=divided, pixels="", text="none"):
        cell = Cell(Study(cohort, None, base or Base(PLAN, FROZEN), task, pixels), parse_chain(text), 0, tmp_path)
        work = Work(cell.shared, shared=cell.seeds_folder)
        return cell.place, cell.shared, work.of(cell.chain.encoder).shared

    usual = places()
    for other in (
        places(base=Base(PLAN)),
        places(base=Base(PLAN, "toy:random-conv")),
        places(cohort=split_cohort(cohort, "new-stain")),
        places(pixels="others"),
    ):
        assert not set(other) & set(usual)
    gan = [Study(divided, None, Base(PLAN, FROZEN), task, gan=GanPlan(steps=steps)).start for steps in (1, 2)]
    assert gan[0] != gan[1]
    assert places(base=Base(PLAN.changed(**{"training.steps": 4}))) != places(base=Base(PLAN))
    tiles = BROKEN.replace('"broken", "vectors"', '"broken", "tiles"')
    found = []
    for text in (tiles, tiles, tiles.replace("of my own", "another")):
        file.write_text(text)
        found.append(places(text=f"{file}:BROKEN")[1])
    assert found[0] == found[1] != found[2]
    file.write_text(BROKEN)
    assert places(text=f"{file}:BROKEN")[1] == usual[1]  # a change of vectors shares the network


def test_tiles_that_were_replaced_are_others(tmp_path):
    for name in ("a", "b"):
        Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(tmp_path / f"{name}.png")
    first, again = (pixels_digest(open_tiles(tmp_path)) for _ in range(2))
    Image.fromarray(np.full((32, 32, 3), 100, np.uint8)).save(tmp_path / "b.png")
    os.utime(tmp_path / "b.png", ns=(1, 1))
    assert first == again != pixels_digest(open_tiles(tmp_path))
    assert pixels_digest(open_tiles(COHORT)) != pixels_digest(open_tiles(COHORT.replace("tile_px=48", "tile_px=64")))
