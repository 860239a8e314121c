"""The performance drop: its reduction, its splits, planted shortcuts, reasons."""

import numpy as np
import pytest

from histolatent.audit.performance_drop import confounded_splits, measure_drop, performance_drop
from histolatent.audit.undefined import Undefined
from histolatent.errors import InputError
from histolatent.stats import bootstrap

N = 600
LEVELS = (0.0, 0.5, 1.0)


def cohort(label=2.0, site=0.0, seed=0, sites=2):
    """Two labels at each site; 12 groups a site, each with both labels."""
    rng = np.random.default_rng(seed)
    labels, places = rng.integers(0, 2, N), rng.integers(0, sites, N)
    groups = 12 * places + rng.integers(0, 12, N)
    offsets = np.eye(10)
    return (
        (rng.normal(size=(N, 10)) + label * offsets[labels] + site * offsets[2 + places]).astype(np.float32),
        labels,
        places,
        groups,
    )


def test_the_reduction_is_the_mean_of_ratios():
    accuracies = np.array([[0.8, 0.9], [0.6, 0.9], [0.4, 0.45]])
    found = performance_drop(accuracies)
    assert found.value == pytest.approx(np.mean([0.6 / 0.8, 1, 0.5, 0.5]) - 1)
    assert performance_drop(np.full((3, 2), 0.7)).value == 0
    with pytest.raises(InputError, match="have no tiles"):
        found.statistic()


@pytest.mark.parametrize("sites", [2, 3])
def test_splits_confound_as_they_say(sites):
    _, labels, places, groups = cohort(sites=sites)
    splits = confounded_splits(labels, places, groups, levels=LEVELS)
    train = [np.array([part == "train" for part in split]) for split in splits]
    test = [np.array([part == "test" for part in split]) for split in splits]
    cells = 2 * places + labels
    assert len({rows.sum() for rows in train}) == 1
    for rows, tested in zip(train, test, strict=True):
        assert not set(groups[rows]) & set(groups[tested])
        np.testing.assert_array_equal(tested, test[0])
        assert len(set(np.bincount(labels[rows]))) == 1
    assert len(set(np.bincount(cells[test[0]]))) == 1
    assert len(set(np.bincount(cells[train[0]]))) == 1
    assert set(zip(labels[train[-1]], places[train[-1]], strict=True)) == {(0, 0), (1, 1)}
    again = confounded_splits(labels, places, groups, levels=LEVELS)
    other = confounded_splits(labels, places, groups, levels=LEVELS, repeat=1)
    assert again == splits != other


def test_a_shortcut_costs_accuracy_the_more_the_stronger_it_is():
    found = [measure_drop(*cohort(site=site), levels=LEVELS, repeats=2) for site in (0.0, 3.0, 8.0)]
    assert found[0].value == pytest.approx(0, abs=0.04)
    assert found[0].value > found[1].value > found[2].value
    assert found[2].accuracies[2].max() < 0.75 < found[2].accuracies[0].min()


def test_an_accuracy_may_come_from_elsewhere():
    vectors, *codes = cohort()
    asked = []

    def score(split):
        asked.append(split)
        return 1 - 0.1 * (len(asked) - 1 & 1)

    found = measure_drop(vectors, *codes, levels=(0.0, 1.0), repeats=3, score=score)
    assert len(asked) == 6
    assert found.value == pytest.approx(-0.1)


def test_an_interval_holds_the_value():
    data = cohort(site=3.0)
    found = measure_drop(*data, levels=(0.0, 1.0), repeats=2)
    estimate = bootstrap(found.statistic(), data[3], resamples=100)
    assert estimate.value == pytest.approx(found.value)
    assert estimate.low < estimate.value < estimate.high


def test_reasons():
    vectors, labels, sites, groups = cohort()
    assert measure_drop(vectors, 0 * labels, sites, groups) == Undefined("all tiles have one label")
    assert measure_drop(vectors, labels, 0 * sites, groups) == Undefined("all tiles have one confounder")
    missing = measure_drop(vectors, labels, labels, groups)
    assert missing == Undefined("a label is missing at a site, so no training set can be balanced")
    assert "groups cannot be set apart" in measure_drop(vectors, labels, sites, sites).reason
    assert "nothing to lose" in performance_drop(np.zeros((2, 1))).reason


@pytest.mark.parametrize("levels", [(0.0,), (0.1, 1.0), (0.0, 0.5, 0.5), (0.0, 1.2)])
def test_levels_that_make_no_ladder_are_said(levels):
    with pytest.raises(InputError, match="levels have to rise from 0 to at most 1"):
        measure_drop(*cohort(), levels=levels)


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        (np.ones((1, 3)), "a drop needs a balanced level"),
        (np.ones((2, 0)), "a drop needs a balanced level"),
        (np.array([[0.5], [np.nan]]), r"accuracies have to be finite. Received: 1"),
    ],
)
def test_accuracies_that_are_none_are_said(accuracies, message):
    with pytest.raises(InputError, match=message):
        performance_drop(accuracies)
