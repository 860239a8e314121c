"""The registry of figures: every entry is whole, and what the functions return is in it."""

import numpy as np
import pytest

from histolatent.audit.batches import DISTANCES
from histolatent.audit.equivariance import measure_equivariance
from histolatent.audit.metrics import METRICS, Metric


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_is_whole(metric: Metric):
    assert METRICS[metric.name] is metric
    assert metric.title and metric.describes and metric.misleads
    low, high = metric.range
    assert low is None or high is None or low < high
    if metric.chance is not None:
        assert (low is None or low <= metric.chance) and (high is None or metric.chance <= high)
    assert not metric.describes.endswith(".") and not metric.misleads.endswith(".")


def test_figures_of_the_functions_are_registered():
    z = np.random.default_rng(0).normal(size=(60, 4))
    found = measure_equivariance(z, np.tanh(z), np.arange(60) % 6, resamples=50)
    names = set(found.to_frame()["metric"]) - {"r2"}  # a standard figure that needs no card of its own
    names |= {"move", "direction_consistency", "shared_consistency", "effective_rank"}
    names |= {name for name in DISTANCES if not name.startswith("class_")}
    assert names <= set(METRICS)
