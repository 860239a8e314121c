"""The clustering score against scikit-learn, its limits, a planted site, reasons."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from histolatent.audit.clustering import adjusted_rand, clustering_score
from histolatent.audit.undefined import Undefined
from histolatent.errors import InputError
from histolatent.stats import bootstrap

N = 180
QUICK = {"largest": 6, "starts": 2, "trials": 3}


def cohort(label=3.0, site=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels, sites = rng.integers(0, 2, N), rng.integers(0, 3, N)
    offsets = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    return rng.normal(size=(N, 8)) + label * offsets[labels] + site * offsets[2 + sites], labels, sites


def test_against_scikit_learn():
    vectors, labels, sites = cohort()
    found = clustering_score(vectors, labels, sites, **QUICK)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def cluster(k, starts, seed):
        return KMeans(k, init="random", n_init=starts, random_state=seed).fit_predict(units)

    tried = [silhouette_score(units, cluster(k, 2, 1337), metric="cosine") for k in range(2, 7)]
    np.testing.assert_allclose(found.silhouette, tried, atol=1e-9)
    assert found.count == 2 + int(np.argmax(tried))
    scores = []
    for trial in range(3):
        clusters = cluster(found.count, 5, 1337 + trial)
        scores.append(adjusted_rand_score(labels, clusters) - adjusted_rand_score(sites, clusters))
    assert found.value == pytest.approx(np.mean(scores), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_adjusted_rand_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    counts = rng.integers(0, 3, 60)
    found = adjusted_rand(first, second, np.stack([np.ones(60), counts]).astype(float))
    repeated = [np.repeat(codes, counts) for codes in (first, second)]
    exact = [adjusted_rand_score(first, second), adjusted_rand_score(*repeated)]
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_limits_and_a_growing_site():
    assert clustering_score(*cohort(40, 0), **QUICK).value > 0.9
    assert clustering_score(*cohort(0, 40), **QUICK).value < -0.9
    assert clustering_score(*cohort(0, 0), **QUICK).value == pytest.approx(0, abs=0.05)
    found = [clustering_score(*cohort(4, site), **QUICK).value for site in (0, 4, 12)]
    assert found[0] > found[1] > found[2]


def test_scale_and_row_order_do_not_matter():
    vectors, labels, sites = cohort(20)
    plain = clustering_score(vectors, labels, sites, **QUICK)
    order = np.random.default_rng(1).permutation(N)
    assert clustering_score(800 * vectors, labels, sites, **QUICK).value == pytest.approx(plain.value)
    moved = clustering_score(vectors[order], labels[order], sites[order], **QUICK)
    assert moved.value == pytest.approx(plain.value, abs=0.05)


def test_an_interval_holds_the_value():
    vectors, labels, sites = cohort()
    found = clustering_score(vectors, labels, sites, **QUICK)
    groups = np.random.default_rng(2).integers(0, 20, N)
    estimate = bootstrap(found.statistic(), groups, resamples=100)
    assert estimate.value == pytest.approx(found.value)
    assert estimate.low < estimate.value < estimate.high


def test_few_distinct_tiles_are_no_trouble():
    vectors = np.repeat(np.eye(3), 20, axis=0)
    found = clustering_score(vectors, np.repeat([0, 1, 2], 20), np.tile([0, 1], 30), **QUICK)
    assert found.count == 3
    assert found.label == 1
    assert found.confounder == pytest.approx(0, abs=0.05)


def test_reasons_and_messages():
    vectors, labels, sites = cohort()
    assert clustering_score(vectors, 0 * labels, sites) == Undefined("all tiles have one label")
    assert clustering_score(vectors, labels, 0 * sites) == Undefined("all tiles have one confounder")
    assert "same" in clustering_score(np.ones((N, 3)), labels, sites).reason
    with pytest.raises(InputError, match=r"labels have to be one code from 0 per tile. Received: 5 codes"):
        clustering_score(vectors, labels[:5], sites)
    with pytest.raises(InputError, match="nothing to try"):
        clustering_score(vectors, labels, sites, largest=1)
    with pytest.raises(InputError, match="NaN"):
        clustering_score(vectors * np.nan, labels, sites)
