"""Factors read by ridge regressions: scikit-learn as reference, planted factors, what cannot be read."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from histolatent.audit.factors import PENALTIES, FittedFactor, fit_factor
from histolatent.errors import InputError
from histolatent.probes import NotReadable

N, GROUPS = 300, np.arange(300) % 20


def vectors(d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, d)).astype(np.float32)


def fitted(x: np.ndarray, values: np.ndarray) -> FittedFactor:
    found = fit_factor(x, values, GROUPS)
    assert isinstance(found, FittedFactor)
    return found


def test_a_planted_factor_is_read_and_noise_is_not():
    x = vectors()
    found = fitted(x, 3 * x[:, 2].astype(float) + 7)
    assert found.r2(found.read(x), GROUPS, resamples=100).value > 0.999
    found = fitted(x, np.random.default_rng(1).normal(size=N))
    estimate = found.r2(found.read(x), GROUPS, resamples=200)
    assert estimate.value < 0.05
    assert estimate.low < 0


def test_folds_keep_groups_apart_and_equal_scikit_learn():
    x, values = vectors(), vectors(1, 3)[:, 0].astype(float) + vectors()[:, 0]
    found = fitted(x, values)
    oracle = np.empty(N)
    for test in found.folds:
        train = np.setdiff1d(np.arange(N), test)
        assert not set(GROUPS[test]) & set(GROUPS[train])
        part = x[train].astype(float)
        mean, spread = part.mean(axis=0), part.std(axis=0)
        ridge = RidgeCV(alphas=[penalty * len(train) for penalty in PENALTIES]).fit(
            (part - mean) / spread, values[train]
        )
        oracle[test] = ridge.predict((x[test] - mean) / spread)
    np.testing.assert_allclose(found.read(x), oracle)
    assert found.r2(oracle, GROUPS, resamples=100).value == pytest.approx(r2_score(values, oracle))


def test_another_view_is_read_by_the_same_fit():
    x = vectors()
    found = fitted(x, x[:, 0].astype(float))
    lost = x.copy()
    lost[:, 0] = 0
    assert found.r2(found.read(lost), GROUPS, resamples=100).value < 0.05


def test_unknown_values_are_left_out():
    x, values = vectors(), vectors()[:, 0].astype(float)
    values[::3] = np.nan
    found = fitted(x, values)
    assert len(found.rows) == N - 100
    assert found.r2(found.read(x), GROUPS, resamples=100).value > 0.99


def test_reasons_and_messages():
    x = vectors()
    assert fit_factor(x, np.full(N, 3.0), GROUPS) == NotReadable("it has one value")
    assert fit_factor(x, np.where(np.arange(N) < 9, np.arange(N), np.nan), GROUPS) == NotReadable(
        "it is known for 9 tiles only"
    )
    assert fit_factor(x, np.arange(N) * 1.0, np.arange(N) % 3) == NotReadable(
        "3 groups are too few to fit on some and test on others"
    )
    constant = fit_factor(np.ones_like(x), np.arange(N) * 1.0, GROUPS)
    assert constant == NotReadable("every tile has practically the same embedding")
    with pytest.raises(InputError, match=r"one value per tile. Received: 3 for 300 tiles"):
        fit_factor(x, np.ones(3), GROUPS)
