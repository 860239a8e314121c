"""The dimension of planted surfaces is found, whatever space they are in; duplicates and too few tiles."""

import numpy as np
import pytest

from histolatent.errors import InputError
from histolatent.explore.dimension import intrinsic_dimension


def surface(dimension, n=1500, seed=0):
    """A flat piece of so many dimensions, turned into 30, on a slight bend."""
    random = np.random.default_rng(seed)
    flat = random.uniform(size=(n, dimension))
    turned = np.hstack([flat, np.zeros((n, 30 - dimension))]) @ np.linalg.qr(random.normal(size=(30, 30)))[0]
    turned[:, 0] += 0.1 * flat[:, 0] ** 2
    return turned.astype(np.float32)


@pytest.mark.parametrize(("dimension", "sizes"), [(1, (2, 10, 50)), (2, (2, 10, 50)), (5, (2, 10))])
def test_a_planted_dimension_is_found(dimension, sizes):
    for found in intrinsic_dimension(surface(dimension), sizes=sizes).values():
        assert found.value == pytest.approx(dimension, rel=0.12)
        assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_tiles_of_one_vector_count_once_and_groups_widen_the_interval():
    x = surface(2, 600)
    once, twice = (intrinsic_dimension(each, sizes=(10,))[10] for each in (x, np.concatenate([x, x[:300]])))
    assert twice.value == pytest.approx(once.value, rel=1e-6)
    patients = np.argsort(np.argsort(x[:, 0])) // 60
    assert intrinsic_dimension(x, sizes=(10,), groups=patients)[10].value == pytest.approx(once.value)


def test_noise_counts_where_neighbours_are_few():
    x = surface(2) + np.random.default_rng(1).normal(scale=0.01, size=(1500, 30)).astype(np.float32)
    found = intrinsic_dimension(x)
    assert found[2].value > 1.5 * found[50].value


def test_too_few_tiles_are_refused():
    with pytest.raises(InputError, match="among more tiles"):
        intrinsic_dimension(surface(2, 40))
    with pytest.raises(InputError, match="2 or more"):
        intrinsic_dimension(surface(2, 40), sizes=(1,))
    assert intrinsic_dimension(surface(2, 40), sizes=(5,))[5].value > 1
