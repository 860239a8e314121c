"""What every registered metric says of itself, and that figures stay within what is said."""

import numpy as np
import pytest

from histolatent.audit import METRICS
from histolatent.audit.clustering import clustering_score
from histolatent.audit.equivariance import measure_equivariance
from histolatent.audit.mixing import acceptance, local_mixing
from histolatent.audit.performance_drop import measure_drop
from histolatent.audit.robustness import margin_index, robustness_index, robustness_margin
from histolatent.audit.silhouettes import batch_silhouettes
from histolatent.distances import DISTANCES
from histolatent.neighbors import find_neighbors

#: How far apart labels, or sites, of a planted encoder are, in units of its noise.
STRONG = 6.0


def figures(label: float, site: float) -> dict[str, float]:
    """Every neighbour metric of a planted cohort, by its registered name."""
    rng = np.random.default_rng(0)
    labels, sites = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    groups = 15 * sites + rng.integers(0, 15, 400)
    offsets = np.eye(8)
    noise = rng.normal(size=(400, 8))
    vectors = (noise + label * offsets[labels] + site * offsets[2 + sites]).astype(np.float32)
    near = find_neighbors(vectors, 89, labels=labels, confounders=sites, groups=groups)
    index, margin = robustness_index(near), robustness_margin(near)
    cosine, euclidean = (batch_silhouettes(vectors, sites, labels, metric=name) for name in ("cosine", "euclidean"))
    return {
        "robustness_index": index.value,
        "robustness_ratio": index.ratio,
        "margin_index": margin_index(near).value,
        "margin_median": margin.median,
        "margin_worst": margin.worst,
        "margin_confounded": margin.confounded,
        "clustering_score": clustering_score(vectors, labels, sites, largest=4, starts=2, trials=2).value,
        "performance_drop": measure_drop(vectors, labels, sites, groups, levels=(0.0, 1.0), repeats=1).value,
        "ilisi": local_mixing(near, sites).ilisi,
        "clisi": local_mixing(near, labels).clisi,
        "kbet": acceptance(near, sites).value,
        "batch_silhouette": cosine.mean,
        "batch_silhouette_euclidean": euclidean.mean,
        "batch_silhouette_scib": cosine.scib,
    }


@pytest.fixture(scope="module")
def extremes() -> tuple[dict[str, float], dict[str, float]]:
    return figures(STRONG, 0.0), figures(0.5, STRONG)


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_says_what_a_reader_has_to_know(name):
    metric = METRICS[name]
    assert metric.name == name
    assert metric.title
    assert metric.describes
    assert metric.misleads
    assert not metric.describes.endswith(".")
    assert not metric.misleads.endswith(".")
    low, high = metric.range
    assert low is None or high is None or low < high
    if metric.chance is not None:
        assert low is None or low <= metric.chance
        assert high is None or metric.chance <= high


def test_neighbour_metrics_stay_in_their_range_and_go_their_way(extremes):
    for name, good in extremes[0].items():
        metric, bad = METRICS[name], extremes[1][name]
        for value in (good, bad):
            assert np.isfinite(value), name
            assert metric.range[0] is None or value >= metric.range[0], name
            assert metric.range[1] is None or value <= metric.range[1], name
        assert good > bad if metric.better == "higher" else good < bad, name


def test_figures_of_the_functions_are_registered():
    z = np.random.default_rng(0).normal(size=(60, 4))
    found = measure_equivariance(z, np.tanh(z), np.arange(60) % 6, resamples=50)
    names = set(found.to_frame()["metric"]) - {"r2"}  # a standard figure that needs no card of its own
    names |= {"move", "direction_consistency", "shared_consistency", "effective_rank"}
    names |= {name for name in DISTANCES if not name.startswith("class_")}
    assert names <= set(METRICS)
