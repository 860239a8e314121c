"""Mixing and silhouettes against references of a few lines and scikit-learn, limits, planted shifts, reasons."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from sklearn.metrics import silhouette_samples

from histolatent.audit import silhouettes as room
from histolatent.audit.mixing import acceptance, local_mixing
from histolatent.audit.silhouettes import batch_silhouettes
from histolatent.audit.undefined import Undefined
from histolatent.errors import InputError
from histolatent.neighbors import find_neighbors
from histolatent.stats import bootstrap

N = 260


def cohort(site=0.7, seed=0, n=N):
    """Unit noise, three sites of unequal size apart by `site`, two labels."""
    rng = np.random.default_rng(seed)
    sites, labels = rng.choice(3, n, p=[0.5, 0.3, 0.2]), rng.integers(0, 2, n)
    vectors = rng.normal(size=(n, 6)) + site * rng.normal(size=(3, 6))[sites] + rng.normal(size=(2, 6))[labels]
    return vectors, sites, labels


def rotation(d):
    return np.linalg.qr(np.random.default_rng(9).normal(size=(d, d)))[0]


def lisi_by_hand(vectors, codes, perplexity):
    """Solve for the entropy exactly, tile by tile."""
    distance = cdist(vectors, vectors)
    values = []
    for i in range(len(vectors)):
        others = np.argsort(distance[i])[1 : int(3 * perplexity)]
        d = distance[i, others]

        def weights(beta, d=d):
            raw = np.exp(-beta * (d - d.min()))
            return raw / raw.sum()

        def excess(beta, d=d, weights=weights):
            p = weights(beta, d)
            return -(p * np.log(p)).sum() - np.log(perplexity)

        p = weights(brentq(excess, 1e-6, 60))
        values.append(1 / sum(p[codes[others] == code].sum() ** 2 for code in range(3)))
    return np.array(values)


def test_lisi_against_an_exact_solution():
    vectors, sites, _ = cohort()
    found = local_mixing(find_neighbors(vectors, 29, metric="euclidean"), sites, perplexity=10)
    exact = lisi_by_hand(vectors, sites, 10)
    np.testing.assert_allclose(found.values, exact, atol=2e-5)
    assert found.ilisi == pytest.approx((np.median(exact) - 1) / 2, abs=2e-5)
    assert found.clisi == pytest.approx((3 - np.median(exact)) / 2, abs=2e-5)


def test_lisi_limits():
    vectors, sites, _ = cohort(0, n=900)
    assert local_mixing(find_neighbors(vectors, 89), sites).ilisi > 0.6
    apart = local_mixing(find_neighbors(vectors + 900 * np.eye(3, 6)[sites], 89, metric="euclidean"), sites)
    assert apart.ilisi == 0
    assert apart.clisi == 1
    even = np.tile([0, 1], 150)
    line = np.arange(300.0)[:, None] // 2 * np.ones((1, 2)) + [[0, 1]]
    assert local_mixing(find_neighbors(line, 89, metric="euclidean"), even).ilisi == pytest.approx(1, abs=0.02)


def test_lisi_of_far_neighbours_does_not_vanish():
    """exp(-distance) is 0 at distances above 745: weights are relative to the nearest."""
    vectors, sites, _ = cohort()
    near, far = (
        local_mixing(find_neighbors(scale * vectors, 29, metric="euclidean"), sites, perplexity=10)
        for scale in (1, 1e5)
    )
    np.testing.assert_allclose(far.values, near.values, atol=1e-4)


@pytest.mark.parametrize("grouped", [False, True])
def test_acceptance_against_scipy(grouped):
    vectors, sites, _ = cohort()
    groups = np.random.default_rng(1).integers(0, 20, N)
    near = find_neighbors(vectors, 30, groups=groups if grouped else None)
    found = acceptance(near, sites, k=20)
    for i in range(N):
        chosen = near.plain.index[i, :20] if grouped else np.append(near.plain.index[i, :19], i)
        pool = sites[groups != groups[i]] if grouped else sites
        wanted = 20 * np.bincount(pool, minlength=3) / len(pool)
        statistic, p_value = chisquare(np.bincount(sites[chosen], minlength=3), wanted)
        assert found.statistic[i] == pytest.approx(statistic)
        assert found.p_value[i] == pytest.approx(p_value, abs=1e-12)
    assert found.value == np.mean(found.p_value >= 0.05)


def test_acceptance_limits_and_a_growing_site():
    found = []
    for site in (0.0, 0.5, 1.0, 2.0, 9.0):
        vectors, sites, _ = cohort(site, n=900)
        found.append(acceptance(find_neighbors(vectors, 49, metric="euclidean"), sites).value)
    assert 0.9 < found[0] < 1
    assert (np.diff(found) <= 0).all()
    assert found[-1] == 0


def test_a_site_that_lies_in_the_own_group_is_no_degree_of_freedom():
    vectors, _, _ = cohort()
    sites = np.repeat([0, 1, 2], [100, 100, 60])
    found = acceptance(find_neighbors(vectors, 30, groups=sites), sites, k=20)
    assert len(found.rows) == N
    assert found.p_value.max() <= 1
    two = acceptance(find_neighbors(vectors, 30, groups=sites // 2), sites // 2, k=20)
    assert two == Undefined("no tile has two classes outside its group")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_silhouettes_against_scikit_learn(metric, monkeypatch):
    vectors, sites, labels = cohort()
    sites[labels == 0] = np.where(sites[labels == 0] == 2, 3, sites[labels == 0])
    labels[:40], sites[:40] = 2, 0  # a label at one site
    sites[57] = 5  # a site of one tile
    found = batch_silhouettes(vectors, sites, labels, metric=metric)
    np.testing.assert_allclose(found.values, silhouette_samples(vectors, sites, metric=metric), atol=1e-9)
    assert found.mean == pytest.approx(found.values.mean())
    parts = []
    for label in (0, 1):
        inside = labels == label
        exact = silhouette_samples(vectors[inside], sites[inside], metric=metric)
        np.testing.assert_allclose(found.within[found.strata == label], exact, atol=1e-9)
        parts.append(np.mean(1 - np.abs(exact)))
    assert not (found.strata == 2).any()
    assert found.scib == pytest.approx(np.mean(parts))
    monkeypatch.setattr(room, "CHUNK_BYTES", 8 * N * 7)
    np.testing.assert_allclose(
        batch_silhouettes(vectors, sites, labels, metric=metric).values, found.values, atol=1e-12
    )


def test_the_scib_figure_is_a_mean_of_labels():
    vectors, sites, labels = cohort()
    found = batch_silhouettes(vectors, sites, labels)
    means = [
        np.mean(1 - np.abs(silhouette_samples(vectors[labels == one], sites[labels == one], metric="cosine")))
        for one in (0, 1)
    ]
    assert found.scib == pytest.approx(np.mean(means))
    assert batch_silhouettes(vectors, sites).scib is None


def test_a_zero_row_is_at_one_from_all_but_itself():
    vectors, sites, _ = cohort()
    vectors[3] = 0
    found = batch_silhouettes(vectors, sites)
    np.testing.assert_allclose(found.values, silhouette_samples(vectors, sites, metric="cosine"), atol=1e-9)


def test_silhouettes_ignore_order_rotation_and_scale():
    vectors, sites, labels = cohort()
    order = np.random.default_rng(2).permutation(N)
    for metric in ("cosine", "euclidean"):
        plain = batch_silhouettes(vectors, sites, labels, metric=metric)
        for changed in (800 * vectors, vectors @ rotation(6)):
            other = batch_silhouettes(changed, sites, labels, metric=metric)
            np.testing.assert_allclose(other.values, plain.values, atol=1e-9)
        moved = batch_silhouettes(vectors[order], sites[order], labels[order], metric=metric)
        np.testing.assert_allclose(moved.values, plain.values[order], atol=1e-9)
        assert moved.scib == pytest.approx(plain.scib)


def test_silhouettes_of_half_precision_and_long_rows():
    vectors, sites, labels = cohort()
    long = 800 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for metric in ("cosine", "euclidean"):
        exact = batch_silhouettes(long, sites, labels, metric=metric)
        half = batch_silhouettes(long.astype(np.float16), sites, labels, metric=metric)
        np.testing.assert_allclose(half.values, exact.values, atol=2e-3)


def test_silhouettes_follow_a_growing_site():
    rows = []
    for site in (0.0, 0.5, 1.0, 2.0, 4.0):
        vectors, sites, labels = cohort(site)
        found = batch_silhouettes(vectors, sites, labels, metric="euclidean")
        rows.append([found.mean, -found.scib, local_mixing(find_neighbors(vectors, 89), sites).clisi])
    assert (np.diff(rows, axis=0) > 0).all()


def test_intervals_hold_the_value():
    vectors, sites, labels = cohort()
    groups = np.random.default_rng(1).integers(0, 20, N)
    found = batch_silhouettes(vectors, sites, labels)
    mixed = local_mixing(find_neighbors(vectors, 89), sites)
    for statistic, rows in (
        (found.mean_statistic(), np.arange(N)),
        (found.scib_statistic(), found.rows),
        (mixed.ilisi_statistic(), mixed.rows),
        (mixed.clisi_statistic(), mixed.rows),
    ):
        estimate = bootstrap(statistic, groups[rows], resamples=200)
        assert estimate.low < estimate.value < estimate.high


def test_what_cannot_be_said_has_a_reason():
    vectors, sites, _ = cohort()
    one, constant = np.zeros(N, int), np.ones((N, 4))
    for figure in (
        lambda near, codes: local_mixing(near, codes, perplexity=5),
        lambda near, codes: acceptance(near, codes, k=9),
    ):
        assert figure(find_neighbors(vectors, 20), one) == Undefined("all tiles are of one class")
        assert "all embeddings are the same" in figure(find_neighbors(constant, 20), sites).reason
    assert batch_silhouettes(vectors, one) == Undefined("all tiles are of one batch")
    assert batch_silhouettes(vectors, np.arange(N)) == Undefined("each batch has one tile")
    assert "all embeddings are the same" in batch_silhouettes(constant, sites).reason


def test_messages():
    vectors, sites, labels = cohort()
    near = find_neighbors(vectors, 20)
    with pytest.raises(InputError, match=r"too few neighbours were searched for. Received: 20, 89 are needed"):
        local_mixing(near, sites)
    with pytest.raises(InputError, match="the perplexity has to be at least 1"):
        local_mixing(near, sites, perplexity=0.5)
    with pytest.raises(InputError, match=r"one code from 0 per tile. Received: 3 codes for 260 tiles"):
        acceptance(near, sites[:3], k=10)
    with pytest.raises(InputError, match=r"labels have to be one code from 0 per tile. Received: 3 codes"):
        batch_silhouettes(vectors, sites, labels[:3])
    with pytest.raises(InputError, match="NaN or infinite"):
        batch_silhouettes(np.where(np.eye(N, 6) > 0, np.nan, vectors), sites)
