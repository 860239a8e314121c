"""Distances of two samples: POT, SciPy and closed forms; sampling alone; and batches beside their floors."""

import numpy as np
import ot
import pytest
from scipy.linalg import sqrtm
from sklearn.linear_model import LogisticRegression

from histolatent.distances.batches import DISTANCES, compare_batches
from histolatent.distances.measures import (
    class_gaussian_w2_squared,
    empirical_w2_squared,
    gaussian_w2_squared,
    proxy_a_distance,
    sliced_w2_squared,
    to_scale,
)
from histolatent.errors import InputError, OptionError

MEASURES = (gaussian_w2_squared, empirical_w2_squared, sliced_w2_squared)


def sample(n: int, d: int = 6, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(0.5, 2, d) + shift


def rotation(d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(2).normal(size=(d, d)))[0]


@pytest.mark.parametrize(("n", "m", "d"), [(80, 50, 6), (30, 80, 6), (12, 15, 30), (200, 10, 30)])
def test_gaussian_against_scipy_and_pot(n, m, d):
    x, y = sample(n, d), sample(m, d, 1, 0.3) @ np.triu(np.ones((d, d))) / d
    first, second = np.cov(x.T), np.cov(y.T)
    root = sqrtm(first @ second)
    oracle = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(first + second - 2 * root.real)
    assert gaussian_w2_squared(x, y) == pytest.approx(oracle, rel=1e-5)
    if min(n, m) > d:  # POT needs covariances of full rank
        peer = ot.gaussian.bures_wasserstein_distance(x.mean(axis=0), y.mean(axis=0), first, second)
        assert gaussian_w2_squared(x, y) == pytest.approx(peer**2, rel=1e-6)


def test_both_ways_of_the_gaussian_are_the_same():
    """Columns of zeros send the same samples through singular values instead of eigenvalues."""
    x, y = sample(50), sample(40, seed=1, shift=1)
    wide = [np.hstack([part, np.zeros((len(part), 60))]) for part in (x, y)]
    assert gaussian_w2_squared(*wide) == pytest.approx(gaussian_w2_squared(x, y), rel=1e-9)


@pytest.mark.parametrize(("n", "expected"), [(200, 0.85), (1000, 0.19), pytest.param(5000, 0.039)])
def test_sampling_alone_lifts_the_gaussian(n, expected):
    random = np.random.default_rng(n)
    x, y = (random.normal(size=(n, 384)) / np.sqrt(384) for _ in range(2))
    assert gaussian_w2_squared(x, y) == pytest.approx(expected, rel=0.04)


def test_empirical_against_an_assignment_and_pot():
    from scipy.optimize import linear_sum_assignment

    x, y = sample(40), sample(40, seed=1, shift=0.5)
    cost = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    assert empirical_w2_squared(x, y) == pytest.approx(cost[linear_sum_assignment(cost)].mean())
    assert empirical_w2_squared(x, y) == pytest.approx(ot.emd2([], [], cost))
    assert empirical_w2_squared(x, y[:25]) != empirical_w2_squared(x[:25], y[:25])  # 25 of the 40 are drawn


def test_empirical_draws_a_subsample_by_the_seed():
    x, y = sample(90), sample(70, seed=1)
    drawn = [empirical_w2_squared(x, y, tiles=20, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 25), (7, 90)])
def test_sliced_against_pot(n, m):
    from histolatent.provenance import stream

    x, y = sample(n), sample(m, seed=1, shift=0.5)
    directions = stream(3, "slices").standard_normal((6, 100))
    oracle = ot.sliced_wasserstein_distance(x, y, projections=directions / np.linalg.norm(directions, axis=0))
    assert sliced_w2_squared(x, y, projections=100, seed=3) == pytest.approx(oracle**2, rel=1e-9)


def test_a_pure_shift_has_closed_forms():
    x, v = sample(60), np.array([1.0, 0, 2, 0, 0, -1])
    assert gaussian_w2_squared(x, x + v) == pytest.approx(6)
    assert empirical_w2_squared(x, x + v) == pytest.approx(6)
    assert sliced_w2_squared(x, x + v, projections=4000) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("measure", MEASURES)
def test_symmetry_rotation_scale_and_order(measure):
    x, y = sample(50), sample(50, seed=1, shift=0.4)
    plain = measure(x, y)
    assert measure(x, x) == pytest.approx(0, abs=1e-9)
    assert measure(y, x) == pytest.approx(plain)
    assert measure(x[::-1], y) == pytest.approx(plain)
    assert measure(3 * x, 3 * y) == pytest.approx(9 * plain)
    loose = 0.25 if measure is sliced_w2_squared else 1e-9  # other directions are drawn, so to say
    assert measure(x @ rotation(6) + 5, y @ rotation(6) + 5) == pytest.approx(plain, rel=loose)
    shifts = [measure(x, sample(50, seed=1, shift=shift)) for shift in (0, 0.5, 1, 3)]
    assert (np.diff(shifts) > 0).all()


def test_the_class_version_is_blind_to_class_balance():
    random = np.random.default_rng(0)
    codes = [random.random(400) < share for share in (0.2, 0.8)]
    x, y = (random.normal(size=(400, 4)) + 5 * code[:, None] for code in codes)
    classes = [code.astype(int) for code in codes]
    assert gaussian_w2_squared(x, y) > 20
    assert class_gaussian_w2_squared(x, y, *classes) < 0.3
    parts = [gaussian_w2_squared(x[codes[0] == c], y[codes[1] == c]) for c in (False, True)]
    assert class_gaussian_w2_squared(x, y, *classes) == pytest.approx(np.mean(parts))
    assert np.isnan(class_gaussian_w2_squared(x, y, classes[0], np.full(400, -1)))
    assert np.isnan(class_gaussian_w2_squared(x, y, np.full(400, -1), np.full(400, -1)))


def test_proxy_a_distance_limits():
    groups = np.repeat(np.arange(10), 12)
    far = proxy_a_distance(sample(120), sample(120, seed=1, shift=9), groups, groups + 10)
    assert far == pytest.approx(2)
    assert np.isnan(proxy_a_distance(sample(120), sample(120, seed=1), np.zeros(120, int), np.ones(120, int)))
    same = [proxy_a_distance(sample(120, seed=s), sample(120, seed=s + 40), groups, groups + 10) for s in range(6)]
    assert abs(np.mean(same)) < 0.15
    x, y = sample(2000, seed=3), sample(2000, seed=4, shift=0.4)
    groups = np.arange(2000) % 20
    model = LogisticRegression().fit(np.vstack([x, y]), np.repeat([0, 1], 2000))
    fresh = np.vstack([sample(4000, seed=5), sample(4000, seed=6, shift=0.4)])
    error = 1 - model.score(fresh, np.repeat([0, 1], 4000))
    assert proxy_a_distance(x, y, groups, groups + 20) == pytest.approx(2 * (1 - 2 * error), abs=0.06)


def test_scales():
    x = sample(100) + 2
    np.testing.assert_allclose(np.linalg.norm(to_scale(x, "l2"), axis=1), 1)
    white = to_scale(x, "whitened")
    np.testing.assert_allclose(np.cov(white.T, ddof=0), np.eye(6) / 6, atol=1e-12)
    flat = to_scale(np.hstack([x, np.ones((100, 2))]), "whitened")
    assert flat.shape == (100, 6)
    with pytest.raises(OptionError, match=r"no such scale. Received: zca. Valid: l2, whitened"):
        to_scale(x, "zca")
    with pytest.raises(OptionError, match=r"too few tiles to whiten. Received: 10 tiles of 6 dimensions"):
        to_scale(x[:10], "whitened")


def two_batches(shift: float = 0.0, seed: int = 0, d: int = 12) -> tuple[np.ndarray, ...]:
    """Two batches of eight patients, two classes that go along one direction, a shift of the second batch."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(16), 15)
    batches, labels = (groups >= 8).astype(int), random.integers(0, 2, 240)
    x = random.normal(size=(240, d)) + 0.3 * random.normal(size=(16, d))[groups]
    x[:, 0] += 4 * labels
    x[:, 1] += shift * batches
    return x, batches, groups, labels


def test_no_difference_stays_at_the_floor_and_a_planted_one_leaves_it():
    x, batches, groups, labels = two_batches()
    frame = compare_batches(x, batches, groups, labels=labels).to_frame()
    assert list(frame["distance"]) == list(DISTANCES)
    assert not frame["above_floor"].any()
    assert (frame["floor"] <= frame["floor_p95"]).all()
    x, batches, groups, labels = two_batches(4)
    found = compare_batches(x, batches, groups, labels=labels, repeats=8)
    assert found.to_frame()["above_floor"].all()
    assert found.label_accuracy > 0.85
    assert found.halves_by == "group"
    shifts = [compare_batches(*two_batches(s)[:3], repeats=1).to_frame()["value"].to_numpy() for s in (0.5, 2, 8)]
    assert (np.diff(shifts, axis=0) > 0).all()


def test_the_floor_holds_at_its_nominal_rate():
    """Batches that are drawn alike lie above the 95th percentile of their floor at most about one time in twenty."""
    names = ("gaussian_w2_squared", "sliced_w2_squared")
    above = []
    for seed in range(60):
        x, batches, groups, _ = two_batches(seed=seed)
        above.append([item.above_floor for item in compare_batches(x, batches, groups, distances=names).distances])
    assert np.mean(above) <= 0.08


def test_collapse_lowers_distances_and_is_seen_beside_them():
    x, batches, groups, labels = two_batches(2)
    collapsed = np.ones((240, 1)) * 30 + 0.01 * x
    collapsed[:, 2:] = 30
    names = ("gaussian_w2_squared", "sliced_w2_squared")
    plain, flat = (compare_batches(v, batches, groups, labels=labels, distances=names) for v in (x, collapsed))
    assert (flat.to_frame()["value"] < 1e-3 * plain.to_frame()["value"]).all()
    assert flat.effective_rank < 2.5 < plain.effective_rank
    constant = compare_batches(np.ones((240, 4)), batches, groups, labels=labels)
    assert "worth nothing" in constant.reason
    assert constant.to_frame()[["value", "floor", "effective_rank"]].isna().all(axis=None)


def test_few_groups_are_halved_by_tile():
    x, batches, groups, _ = two_batches()
    found = compare_batches(x, batches, groups // 4, distances=("gaussian_w2_squared",), scale="whitened")
    assert (found.halves_by, found.scale, found.distances[0].tiles) == ("tile", "whitened", 60)
    assert np.isnan(found.label_accuracy)


def test_a_comparison_is_seeded():
    x, batches, groups, _ = two_batches()
    runs = [compare_batches(x, batches, groups, distances=("sliced_w2_squared",), seed=s).to_frame() for s in (1, 1, 2)]
    assert runs[0].equals(runs[1])
    assert not runs[0].equals(runs[2])


def test_messages(monkeypatch):
    x, batches, groups, _ = two_batches()
    with pytest.raises(OptionError, match=r"no distance is called 'fid'"):
        compare_batches(x, batches, groups, distances=("fid",))
    with pytest.raises(InputError, match=r"two batches, 0 and 1, are compared. Received: 0: 240 tiles"):
        compare_batches(x, np.zeros(240, int), groups)
    with pytest.raises(InputError, match=r"not of the same tiles. Received: \(240, 9, 240\)"):
        compare_batches(x, batches[:9], groups)
    with pytest.raises(OptionError, match=r"too few repeats"):
        compare_batches(x, batches, groups, repeats=0)
    for measure in MEASURES:
        with pytest.raises(InputError, match=r"differ in their number of dimensions"):
            measure(x, x[:, :3])
        with pytest.raises(InputError, match=r"the second sample hold NaN or infinity"):
            measure(x, np.where(np.arange(240)[:, None] == 2, np.nan, x))
        with pytest.raises(InputError, match=r"the first sample: too few rows"):
            measure(x[:1], x)
    with pytest.raises(OptionError, match=r"too few projections"):
        sliced_w2_squared(x, x, projections=0)
