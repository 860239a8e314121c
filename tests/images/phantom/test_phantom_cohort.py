"""Who exists, and what their tiles are."""

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.images.phantom.cohort import LABELS


@pytest.fixture(scope="module")
def default():
    return PhantomTiles(PhantomSpec())


def test_ids_are_unique_and_say_where_a_tile_is(default):
    table = default.table
    assert table.index.is_unique
    assert table.index[0] == "source/p01/s1/t000"
    assert (table.index.str.rpartition("/").get_level_values(0) == table["slide"]).all()
    assert table.groupby("patient")["site"].nunique().max() == 1
    assert "split" not in table


def test_sizes_are_those_of_the_spec(default):
    table = default.table
    assert (table.groupby("site").size() == 400).all()
    assert (table.groupby("site")["patient"].nunique() == 6).all()
    assert (table.groupby("patient")["slide"].nunique() == 2).all()
    assert not table.duplicated(["slide", "x", "y"]).any()


def test_site_and_label_are_independent(default):
    counts = default.table.groupby(["site", "label"]).size().unstack()
    assert set(counts.columns) == set(LABELS)
    assert (counts == counts.iloc[0]).all(axis=None)
    assert counts.min(axis=None) > 0.15 * 400


def test_every_patient_has_every_label(default):
    assert (default.table.groupby("patient")["label"].nunique() == len(LABELS)).all()


def test_groups_by_patient_leave_every_label_and_grade_on_both_sides(default):
    table = default.table[default.table["site"] == "source"]
    for train, test in GroupKFold(5).split(table, groups=table["patient"]):
        assert set(table["label"].iloc[test]) == set(LABELS)
        assert set(table["label"].iloc[train]) == set(LABELS)
        assert {1, 2, 3} <= set(table["grade"].iloc[train])


def test_diagnosis_is_what_dominates_a_slide(default):
    table = default.table[default.table["tumour"]]
    counts = table.groupby(["slide", "label"]).size().unstack(fill_value=0)
    assert (counts.idxmax(axis=1) == table.groupby("slide")["diagnosis"].first()).all()
    assert (table.groupby("site")["diagnosis"].nunique() == 2).all()


def test_grade_is_zero_exactly_without_tumour(default):
    table = default.table
    assert ((table["grade"] == 0) == ~table["tumour"]).all()
    assert set(table["label"][table["tumour"]]) == {"adenocarcinoma", "solid carcinoma"}
    tumour = table[table["tumour"]]
    assert (tumour["grade"] == tumour["diagnosis_grade"]).mean() > 0.5
    assert (tumour.groupby("patient")["grade"].nunique() > 1).mean() > 0.8


def test_a_tile_does_not_depend_on_how_many_there_are():
    small = PhantomTiles(PhantomSpec(sites=4, patients=2, slides=1, tiles_per_site=6, tile_px=48))
    large = PhantomTiles(PhantomSpec(sites=5, patients=3, slides=2, tiles_per_site=30, tile_px=48))
    shared = small.table.index.intersection(large.table.index)
    assert len(shared) > 3
    for tile in shared[::3]:
        i, j = small.table.index.get_loc(tile), large.table.index.get_loc(tile)
        assert small.table.loc[tile, "label"] == large.table.loc[tile, "label"]
        assert np.array_equal(small.read(i), large.read(j))


def test_another_seed_is_another_cohort():
    one, two = (PhantomTiles(PhantomSpec(sites=1, tiles_per_site=24, tile_px=48, seed=s)) for s in (0, 1))
    assert not np.array_equal(one.read(0), two.read(0))
    assert list(one.table["label"]) != list(two.table["label"])
