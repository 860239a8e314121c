"""Leaving sites out: planted labels that hold everywhere, or at one site only."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from histolatent.audit.transfer import Transfer, leave_site_out
from histolatent.probes import NotReadable, Reading, probe

N = 360
GROUPS = np.arange(N) % 24
SITES = [f"s{group % 3}" for group in GROUPS]


def planted(elsewhere: bool, seed: int = 0) -> tuple[np.ndarray, list[str | None]]:
    """Vectors that hold the label along one axis, `elsewhere` along another at the last site."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, N)
    x = random.normal(size=(N, 6))
    axis = np.where(np.array(SITES) == "s2", 2 if elsewhere else 0, 0)
    x[np.arange(N), axis] += 2 * (2 * label - 1)
    x[:, 1] += 3 * (np.array(SITES) == "s2")
    return x.astype(np.float32), [str(value) for value in label]


def leave_out(x: np.ndarray, target: list[str | None], sites: list[str | None] = SITES, groups: np.ndarray = GROUPS):
    seen = probe(x, target, groups)
    assert isinstance(seen, Reading)
    return leave_site_out(x, target, sites, groups, seen=seen, resamples=200)


def test_what_holds_everywhere_is_read_everywhere():
    found = leave_out(*planted(elsewhere=False))
    assert list(found) == ["s0", "s1", "s2"]
    for site, item in found.items():
        assert isinstance(item, Transfer)
        assert len(item.rows) == len(item.read) == SITES.count(site)
        assert item.unseen.value > 0.9
        assert abs(item.gap.value) < 0.05
        assert item.gap.value == pytest.approx(item.unseen.value - item.seen.value)


def test_what_lies_elsewhere_at_one_site_is_lost_there():
    item = leave_out(*planted(elsewhere=True))["s2"]
    assert isinstance(item, Transfer)
    assert item.unseen.value < 0.65
    assert item.gap.high < -0.1


def test_the_accuracy_is_that_of_a_probe_of_the_other_sites():
    x, target = planted(elsewhere=False)
    item = leave_out(x, target)["s1"]
    assert isinstance(item, Transfer)
    split = ["test" if site == "s1" else "train" for site in SITES]
    reading = probe(x, target, GROUPS, split=split)
    assert isinstance(reading, Reading)
    assert item.unseen.value == pytest.approx(balanced_accuracy_score(reading.codes, reading.predicted))


def test_a_patient_of_two_sites_trains_no_probe_of_either():
    x, target = planted(elsewhere=False)
    groups = GROUPS.copy()
    groups[GROUPS == 1] = 0  # s1's patient is also that of s0
    seen = probe(x, target, groups)
    assert isinstance(seen, Reading)
    noise = x.copy()
    noise[groups == 0] = 1e6  # would ruin any fit that it entered
    clean = leave_site_out(x, target, SITES, groups, seen=seen, resamples=100)["s0"]
    there = np.array(SITES) == "s0"
    noise[there] = x[there]
    ruined = leave_site_out(noise, target, SITES, groups, seen=seen, resamples=100)["s0"]
    assert clean == ruined


def test_reasons():
    x, target = planted(elsewhere=False)
    one = [None if site == "s0" and value == "1" else value for site, value in zip(SITES, target, strict=True)]
    assert leave_out(x, one)["s0"] == NotReadable("s0 has one class only")
    rare = ["rare" if site == "s1" and value == "1" else value for site, value in zip(SITES, target, strict=True)]
    assert leave_out(x, rare)["s1"] == NotReadable("'rare' occurs nowhere but at s1")
    unknown = [None if site == "s2" else site for site in SITES]
    assert list(leave_out(x, target, unknown)) == ["s0", "s1"]
