"""Intervals against SciPy, figures against scikit-learn, splits that leak."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from histolatent import stats
from histolatent.errors import InputError
from histolatent.stats import (
    auroc,
    balanced_accuracy,
    bootstrap,
    bootstrap_means,
    check_split,
    cluster_counts,
    cluster_spread,
    deal,
    holm,
    paired_difference,
    pool_clusters,
    share_above,
    shortfall,
    weighted_auroc,
    weighted_mean,
)


def mean_of(values):
    return lambda weights: weights @ values / weights.sum(axis=1)


@pytest.mark.parametrize("draw", ["normal", "lognormal"])
def test_singleton_clusters_against_scipy(draw):
    values = getattr(np.random.default_rng(2), draw)(size=60)
    found = bootstrap(mean_of(values), np.arange(60), resamples=6000)
    oracle = scipy.stats.bootstrap((values,), np.mean, n_resamples=6000, method="BCa", rng=np.random.default_rng(0))
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=0.06 * width)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=0.06 * width)


def test_means_in_one_pass_equal_the_general_way():
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(np.arange(13), rng.integers(1, 9, 13)))
    values = rng.exponential(size=(len(groups), 4)) + groups[:, None]
    many = bootstrap_means(values, groups, seed=5)
    for column, found in zip(values.T, many, strict=True):
        single = bootstrap(mean_of(column), groups, seed=5)
        assert (found.value, found.low, found.high) == pytest.approx((single.value, single.low, single.high))


def test_chunks_do_not_matter(monkeypatch):
    values = np.random.default_rng(0).normal(size=40)
    whole = bootstrap(mean_of(values), np.arange(40) // 3)
    monkeypatch.setattr(stats, "CHUNK", 7)
    parts = bootstrap(mean_of(values), np.arange(40) // 3)
    assert (parts.value, parts.low, parts.high) == pytest.approx((whole.value, whole.low, whole.high))


def test_intervals_of_clusters_cover_and_those_of_tiles_do_not():
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(30), 6)
    covered = {"clusters": 0, "tiles": 0}
    runs = 200
    for run in range(runs):
        values = rng.normal(size=30)[groups] + 0.5 * rng.normal(size=180)
        for name, codes in {"clusters": groups, "tiles": np.arange(180)}.items():
            [found] = bootstrap_means(values[:, None], codes, resamples=400, seed=run)
            assert found.low is not None
            assert found.high is not None
            covered[name] += found.low <= 0 <= found.high
    # Nominal 0.95, standard error of the simulation 0.015; 30 clusters cost about 0.02.
    assert 0.88 <= covered["clusters"] / runs <= 0.99
    assert covered["tiles"] / runs < 0.75


def test_where_no_interval_can_be_had():
    values = np.array([1.0, 2.0, 4.0])
    for found in (bootstrap(mean_of(values), np.zeros(3, int)), *bootstrap_means(values[:, None], np.zeros(3, int))):
        assert (found.value, found.low, found.high) == (pytest.approx(7 / 3), None, None)
        assert str(found) == "2.333 (no interval)"
    nothing = bootstrap(lambda weights: np.full(len(weights), np.nan), np.arange(3))
    assert np.isnan(nothing.value)
    assert nothing.low is None


def test_a_constant_has_a_point_as_interval():
    found = bootstrap(mean_of(np.full(9, 2.0)), np.arange(9))
    assert (found.value, found.low, found.high) == (2, 2, 2)
    assert str(found) == "2.000 [2.000, 2.000]"


def test_a_figure_that_most_resamples_cannot_have_gets_no_interval():
    scores, positive = np.array([0.1, 0.2, 0.9]), np.array([0, 0, 1])
    assert bootstrap(weighted_auroc(scores, positive), np.array([0, 0, 1])).low is None


def test_a_figure_that_no_left_out_cluster_keeps_falls_back_to_percentiles():
    scores, positive = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1])
    groups = np.array([0, 1, 0, 1])
    whole = weighted_auroc(scores, positive)

    def statistic(weights):
        found = whole(weights)
        return np.where(np.isfinite(found), found, np.where(weights.max(axis=1) > 1, 0.5, np.nan))

    found = bootstrap(statistic, groups)
    assert found.low is not None
    assert found.low <= found.value <= found.high


def test_resamples_are_shared():
    counts = cluster_counts(7, resamples=50, seed=3)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    cluster_counts.cache_clear()
    np.testing.assert_array_equal(counts, cluster_counts(7, resamples=50, seed=3))
    assert (counts != cluster_counts(7, resamples=50, seed=4)).any()


@pytest.mark.parametrize("decimals", [0, 8])
def test_auroc_against_scikit_learn(decimals):
    rng = np.random.default_rng(6)
    positive = rng.integers(0, 2, 300)
    scores = np.round(rng.normal(size=300) + positive, decimals)
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    weights = rng.integers(0, 4, (5, 300)).astype(float)
    found = weighted_auroc(scores, positive)(weights)
    oracle = [roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(found, oracle)
    assert weighted_auroc(scores, positive)(np.ones((1, 300)))[0] == pytest.approx(auroc(scores, positive))


def test_auroc_without_one_class_is_not_a_number():
    assert np.isnan(auroc(np.array([1.0, 2.0]), np.array([1, 1])))
    assert np.isnan(weighted_auroc(np.array([1.0, 2.0]), np.array([0, 1]))(np.array([[1.0, 0.0]]))[0])


def test_balanced_accuracy_against_scikit_learn():
    rng = np.random.default_rng(7)
    truth, guess = rng.integers(0, 4, (2, 200))
    weights = rng.integers(0, 4, (3, 200)).astype(float)
    statistic = balanced_accuracy((truth == guess).astype(float), truth)
    oracle = [balanced_accuracy_score(truth, guess, sample_weight=row) for row in weights]
    np.testing.assert_allclose(statistic(weights), oracle)
    weights[:, truth == 2] = 0  # a resample that lost a class
    right = guess == truth
    lost = [np.mean([np.average(right[truth == c], weights=row[truth == c]) for c in (0, 1, 3)]) for row in weights]
    np.testing.assert_allclose(statistic(weights), lost)


@pytest.mark.parametrize("decimals", [1, 8])
def test_share_above_averages_to_the_auroc(decimals):
    rng = np.random.default_rng(9)
    values, null = np.round(rng.normal(size=80), decimals), np.round(rng.normal(0.5, 1, 130), decimals)
    oracle = roc_auc_score(np.repeat([0, 1], [80, 130]), np.concatenate([values, null]))
    assert share_above(values, null).mean() == pytest.approx(oracle)


def test_splits_that_leak_are_refused():
    check_split(["train", None, "test", "test"], ["p1", "p1", "p2", None], group_name="patient")
    with pytest.raises(InputError, match=r"2 patients stand in more than one part.*their tiles leak.*: p1 \(a, b\)"):
        check_split(["a", "b", "a", "b"], ["p1", "p1", "p2", "p2"], group_name="patient")


def test_clusters_are_pooled_whole():
    groups = np.repeat(np.arange(50), 3)
    pooled = pool_clusters(groups, 0, most=8)
    assert len(np.unique(pooled)) == 8
    assert all(len(set(pooled[groups == group])) == 1 for group in range(50))
    assert pool_clusters(groups, 0) is groups


@pytest.mark.parametrize("draw", ["normal", "lognormal"])
def test_a_paired_difference_against_scipy(draw):
    random = np.random.default_rng(4)
    first, second = getattr(random, draw)(size=(2, 70))
    found = paired_difference(mean_of(first), mean_of(second), np.arange(70), resamples=6000)
    oracle = scipy.stats.bootstrap(
        (first, second),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        n_resamples=6000,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = oracle.high - oracle.low
    assert found.estimate.value == pytest.approx(first.mean() - second.mean())
    assert found.estimate.low == pytest.approx(oracle.low, abs=0.06 * width)
    assert found.estimate.high == pytest.approx(oracle.high, abs=0.06 * width)
    single = bootstrap(mean_of(first - second), np.arange(70), resamples=6000)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((single.low, single.high))


def test_p_is_below_one_in_twenty_where_the_interval_excludes_zero():
    random = np.random.default_rng(5)
    agreed = 0
    for run in range(120):
        groups = np.repeat(np.arange(15), 3)
        first = random.normal(size=45) + 0.3 * random.normal() + random.exponential(size=45)
        second = random.normal(size=45) + random.exponential(size=45)
        found = paired_difference(mean_of(first), mean_of(second), groups, resamples=1000, seed=run)
        low, high = found.estimate.low, found.estimate.high
        assert low is not None and high is not None and found.p is not None
        touches = min(abs(low), abs(high)) < 0.02  # between two draws, either may be said
        assert touches or (found.p < 0.05) == (low > 0 or high < 0), (found, run)
        agreed += not touches
        mirrored = paired_difference(mean_of(second), mean_of(first), groups, resamples=1000, seed=run)
        assert mirrored.p == pytest.approx(found.p)
        assert (mirrored.estimate.low, mirrored.estimate.high) == pytest.approx((-high, -low))
    assert agreed > 90


@pytest.mark.slow
def test_p_is_uniform_where_nothing_differs():
    random = np.random.default_rng(6)
    groups = np.repeat(np.arange(60), 2)
    found = []
    for run in range(500):
        shared = random.normal(size=60)[groups]
        first, second = shared + random.normal(size=(2, 120))
        found.append(paired_difference(mean_of(first), mean_of(second), groups, resamples=500, seed=run).p)
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.09  # standard error 0.01; 60 clusters cost a little


def test_a_difference_that_is_constant():
    values = np.random.default_rng(7).normal(size=40)
    for shift, p in ((0.0, 1.0), (0.5, 2 / 201), (-0.5, 2 / 201)):
        found = paired_difference(mean_of(values + shift), mean_of(values), np.arange(40), resamples=200)
        assert found.estimate.value == pytest.approx(shift)
        assert found.estimate.low == pytest.approx(shift)
        assert found.estimate.high == pytest.approx(shift)
        assert found.p == pytest.approx(p)


def test_a_difference_in_one_group_has_no_p():
    values = np.arange(6.0)
    found = paired_difference(mean_of(values), mean_of(values + 1), np.zeros(6, int))
    assert (found.estimate.value, found.estimate.low, found.p) == (-1, None, None)


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.5, 0.9, 0.6])), [1, 1, 1])
    np.testing.assert_allclose(holm(np.array([0.02, 0.02])), [0.04, 0.04])
    assert holm(np.array([0.3])).tolist() == [0.3]
    assert holm(np.array([])).tolist() == []
    random = np.random.default_rng(8)
    for _ in range(50):
        p = random.uniform(size=random.integers(1, 12)) ** 2
        by_definition = []
        for value in p:  # the largest of (m - rank) p over all that are as small or smaller
            smaller = np.sort(p[p <= value])
            by_definition.append(min(1, max((len(p) - i) * small for i, small in enumerate(smaller))))
        found = holm(p)
        np.testing.assert_allclose(found, by_definition)
        order = np.argsort(p)
        assert (np.diff(found[order]) >= 0).all()
        assert (found >= p).all()


def test_of_few_groups_no_comparison_is_decided():
    """All four groups differ by the same: in one of eight cohorts without any difference all point one way."""
    groups = np.repeat(np.arange(4), 25)
    values = np.random.default_rng(0).normal(size=100)
    noise = np.random.default_rng(1).normal(size=100)
    found = paired_difference(weighted_mean(noise + 5), weighted_mean(values), groups)
    assert found.estimate.low > 0 and found.p == 0.125
    more = np.repeat(np.arange(10), 10)
    assert paired_difference(weighted_mean(noise + 5), weighted_mean(values), more).p == 2**-9
    assert paired_difference(weighted_mean(noise + 5), weighted_mean(values), more, resamples=199).p == 0.01


def test_codes_of_whole_groups_are_dealt_by_whole_groups():
    groups = np.repeat([4, 0, 2, 7, 5, 1], [3, 1, 2, 3, 2, 1])
    codes = np.array([0, 1, 0, 1, 0, 1])[np.unique(groups, return_inverse=True)[1]]
    dealt = deal(codes, groups, 50, seed=1)
    assert all(len(set(column[groups == group])) == 1 for column in dealt.T for group in set(groups))
    assert len({tuple(column) for column in dealt.T}) > 10


def test_codes_of_tiles_are_dealt_in_blocks():
    """A code that few tiles have, all of one group, stays together: nearly all of it lies in two groups at most."""
    groups = np.repeat(np.arange(8), 10)
    codes = np.where((groups == 3) & (np.arange(80) % 10 < 9), 1, 0)
    dealt = deal(codes, groups, 50, seed=1)
    assert (dealt.sum(axis=0) == 9).all()
    assert all(np.bincount(groups[column == 1]).max() == 9 for column in dealt.T)
    assert np.ptp([column.argmax() for column in dealt.T]) > 30


def test_the_shortfall_is_how_much_more_figures_vary_than_intervals_think():
    values = np.random.default_rng(0).normal(size=400)
    assert shortfall(values, np.full(400, 0.5)) == pytest.approx(2 * values.std(ddof=1))
    assert shortfall(values, np.full(400, 3.0)) == 1  # it never narrows an interval
    half = np.where(np.arange(400) < 210, np.nan, values)
    assert shortfall(half, np.full(400, 0.5)) == 1


def test_the_spread_of_clusters_is_that_of_the_bootstrap():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 900)
    values = rng.normal(size=60)[groups] + rng.normal(size=900)
    counts = cluster_counts(60, resamples=4000, seed=0)[:, groups]
    drawn = (counts @ values / counts.sum(axis=1)).std()
    expected = cluster_spread(((values - values.mean()) / 900)[:, None], groups)[0]
    assert expected == pytest.approx(drawn * np.sqrt(60 / 59), rel=0.05)
    assert np.isnan(cluster_spread(np.ones((5, 1)), np.zeros(5, int))).all()
