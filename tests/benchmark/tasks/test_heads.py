"""Heads: trained on the source alone, asked about patients apart; slides by their mean, and by attention."""

from functools import partial

import numpy as np
import pytest

from histolatent.benchmark.cohort import SOURCE, split_cohort
from histolatent.benchmark.tasks import TASKS, Read, check_task, parse_task, read_classes, read_slides
from histolatent.benchmark.tasks.bags import BagPlan, read_bags
from histolatent.benchmark.tasks.scores import SCORES
from histolatent.errors import InputError, OptionError
from histolatent.images import open_tiles, select_rows
from histolatent.images.selected import SelectedTiles


@pytest.fixture(scope="module")
def whole():
    return open_tiles("phantom:sites=3,patients=6,slides=2,tiles_per_site=120,tile_px=32")


@pytest.fixture(scope="module")
def cohort(whole):
    return split_cohort(whole, "source")


def read_of(cohort, values, noise=0.1, copies=0):
    """Vectors that show a value, ten dimensions for each, and noise."""
    names, codes = np.unique(np.asarray(values, str), return_inverse=True)
    random = np.random.default_rng(0)
    vectors = np.repeat(np.eye(len(names)), 10, axis=1)[codes]
    vectors = (vectors + random.normal(0, noise, vectors.shape)).astype(np.float32)
    return Read(vectors, np.repeat(vectors[cohort.train][None], copies, axis=0))


def value(task, rows, site, score=0):
    own = rows[rows["site"] == site]
    return float(SCORES[task.scores[score]](own)(np.ones((1, len(own))))[0])


@pytest.mark.parametrize("name", ["subtype", "tumour", "grading"])
def test_vectors_of_the_label_are_read_everywhere(cohort, name):
    task, table = TASKS[name], cohort.tiles.table
    rows = read_classes(task, cohort, read_of(cohort, table[task.column]))
    assert list(dict.fromkeys(rows["site"])) == [SOURCE, "new-scanner", "new-stain"]
    assert all(value(task, rows, site) == 1 for site in (SOURCE, "new-scanner", "new-stain"))
    asked = table.loc[table["site"] == "new-stain", task.column]
    expected = (asked != 0).sum() if name == "grading" else len(asked)
    assert (rows["site"] == "new-stain").sum() == expected


def test_what_holds_at_the_source_alone_is_not_read_elsewhere(cohort):
    labels = cohort.tiles.table["label"].to_numpy(str).copy()
    labels[cohort.unseen["new-stain"]] = "mucosa"
    rows = read_classes(TASKS["subtype"], cohort, read_of(cohort, labels))
    assert value(TASKS["subtype"], rows, SOURCE) == value(TASKS["subtype"], rows, "new-scanner") == 1
    assert value(TASKS["subtype"], rows, "new-stain") == pytest.approx(0.2)


def test_the_source_is_read_on_patients_that_were_left_out(cohort):
    patients = cohort.tiles.table["patient"].to_numpy(str)
    rows = read_classes(TASKS["subtype"], cohort, read_of(cohort, patients))
    # Vectors tell patients apart, whose labels are all there: nothing to be read of the label.
    assert value(TASKS["subtype"], rows, SOURCE) < 0.35


def test_copies_teach_and_are_not_asked(cohort):
    label = cohort.tiles.table["label"]
    plain, copied = (read_classes(TASKS["subtype"], cohort, read_of(cohort, label, copies=k)) for k in (0, 2))
    assert plain[["site", "unit", "truth"]].equals(copied[["site", "unit", "truth"]])
    broken = read_of(cohort, label)
    wrong = Read(broken.vectors, np.roll(broken.vectors[cohort.train], 10, axis=1)[None].repeat(20, axis=0))
    assert value(TASKS["subtype"], read_classes(TASKS["subtype"], cohort, wrong), "new-scanner") < 0.9


@pytest.mark.parametrize("read", [read_slides, partial(read_bags, plan=BagPlan(width=8, steps=40, learning_rate=1e-2))])
def test_copies_teach_slides_and_bags_too(cohort, read):
    task, table = TASKS["slides"], cohort.tiles.table
    plain, broken = read_of(cohort, table["diagnosis"], noise=0.5), read_of(cohort, table["diagnosis"], noise=0.5)
    wrong = np.roll(broken.vectors[cohort.train], 10, axis=1)[None].repeat(6, axis=0)
    rows, spoilt = (read(task, cohort, each) for each in (plain, Read(broken.vectors, wrong)))
    assert rows[["site", "unit", "truth"]].equals(spoilt[["site", "unit", "truth"]])
    assert value(task, rows, "new-scanner") == 1 and value(task, spoilt, "new-scanner") < 0.7


def test_virtual_sites_are_read_by_what_was_trained_on_other_patients(whole):
    one = select_rows(whole, np.flatnonzero(whole.table["site"] == "source"))
    cohort = split_cohort(one, virtual=2)
    rows = read_classes(TASKS["subtype"], cohort, read_of(cohort, cohort.tiles.table["label"]))
    assert list(dict.fromkeys(rows["site"])) == [SOURCE, "soft", "rose"]
    assert set(rows.loc[rows["site"] == SOURCE, "unit"]) == set(cohort.kept)
    assert not set(rows["group"]) & set(cohort.groups[cohort.train])


def test_slides_are_read_by_their_mean(cohort):
    task, table = TASKS["slides"], cohort.tiles.table
    rows = read_slides(task, cohort, read_of(cohort, table["diagnosis"], noise=1.0))
    assert (rows["site"] == SOURCE).sum() == 12 and value(task, rows, "new-stain") == 1
    mixed = SelectedTiles(cohort.tiles, np.arange(len(table)), table.assign(diagnosis=table["label"]))
    with pytest.raises(InputError, match="a slide has several values of diagnosis"):
        read_slides(task, split_cohort(mixed, "source"), read_of(cohort, table["diagnosis"]))


def test_attention_finds_the_tile_of_a_slide_that_tells():
    """One of four tiles shows the class, and that it does; the mean of all hides it under noise."""
    cohort = split_cohort(open_tiles("phantom:sites=2,patients=30,slides=2,tiles_per_site=480,tile_px=32"), "source")
    table, random = cohort.tiles.table, np.random.default_rng(1)
    vectors = random.normal(0, 0.5, (len(table), 8)).astype(np.float32)
    first = ~table["slide"].duplicated().to_numpy()
    vectors[:, 1] *= 6
    vectors[first, 0] = 4
    vectors[first, 1] = np.where(table["diagnosis"][first] == "adenocarcinoma", 3, -3)
    read = Read(vectors, np.zeros((0, len(cohort.train), 8), np.float32))
    bags, means = read_bags(TASKS["bags"], cohort, read), read_slides(TASKS["slides"], cohort, read)
    assert value(TASKS["bags"], bags, SOURCE) > 0.8 and value(TASKS["bags"], bags, "new-scanner") > 0.7
    assert value(TASKS["slides"], means, "new-scanner") < 0.65
    assert len(bags) == 120 and bags.equals(read_bags(TASKS["bags"], cohort, read))


@pytest.mark.parametrize(
    ("name", "column", "spoil", "said"),
    [
        ("subtype", "nowhere", None, "needs a column 'nowhere'.*--tasks subtype=COLUMN"),
        ("tumour", "label", None, "is of two classes"),
        (
            "subtype",
            "label",
            lambda t: t.assign(label=t["label"].where(t["site"] != "source", "mucosa")),
            "fewer than two",
        ),
        (
            "subtype",
            "label",
            lambda t: t.assign(label=t["label"].where(t["site"] != "new-stain", "bone")),
            "a class of label is at an unseen site.*bone at new-stain",
        ),
        ("slides", "diagnosis", lambda t: t.drop(columns="slide"), "needs the column 'slide'"),
    ],
)
def test_a_task_that_cannot_be_read_is_refused_before_anything_is_trained(whole, name, column, spoil, said):
    table = whole.table if spoil is None else spoil(whole.table)
    cohort = split_cohort(SelectedTiles(whole, np.arange(len(table)), table), "source")
    with pytest.raises(InputError, match=said):
        check_task(parse_task(f"{name}={column}"), cohort)


def test_tasks_by_name():
    assert parse_task("grading=gleason").column == "gleason" and parse_task("subtype").column == "label"
    with pytest.raises(OptionError, match=r"no task is called 'gradin'.*did you mean 'grading'"):
        parse_task("gradin")
    with pytest.raises(OptionError, match="has no column"):
        parse_task("mitoses=x")
