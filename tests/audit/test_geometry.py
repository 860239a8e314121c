"""Effective rank, CKA, Procrustes and neighbours: five-line references, closed forms, invariances, chance."""

import numpy as np
import pytest
from scipy.spatial import procrustes
from sklearn.neighbors import KNeighborsClassifier

from histolatent.audit.geometry import linear_cka, mutual_neighbours, procrustes_residual
from histolatent.errors import InputError
from histolatent.probes import neighbour_accuracy
from histolatent.spectrum import effective_rank, is_constant


def sample(n: int = 60, d: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(0.3, 2, d) + 1.5


def rotation(d: int, seed: int = 2) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.mark.parametrize("shape", [(60, 7), (9, 30)])
@pytest.mark.parametrize("centred", [True, False])
def test_effective_rank_against_the_singular_values(shape, centred):
    x = sample(*shape)
    values = np.linalg.svd(x - x.mean(axis=0) * centred, compute_uv=False)
    shares = values[values > 1e-9] / values.sum()
    assert effective_rank(x, centred=centred) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-9)


def test_effective_rank_limits():
    random = np.random.default_rng(0)
    line = random.normal(size=(50, 1)) @ random.normal(size=(1, 6)) + 3
    assert effective_rank(line) == pytest.approx(1, abs=1e-6)
    assert effective_rank(np.repeat(np.eye(8), 5, axis=0), centred=False) == pytest.approx(8)
    assert np.isnan(effective_rank(np.full((20, 3), 7.1)))
    assert effective_rank(np.full((20, 3), 7.1), centred=False) == pytest.approx(1)
    assert np.isnan(effective_rank(np.zeros((20, 3)), centred=False))


def test_effective_rank_ignores_rotation_scale_and_order():
    x = sample()
    rank = effective_rank(x)
    assert effective_rank(4 * x @ rotation(7)) == pytest.approx(rank)
    assert effective_rank(x[::-1] + 100) == pytest.approx(rank)
    assert effective_rank(np.hstack([x, np.zeros((60, 5))])) == pytest.approx(rank)


def hsic_unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5, word for word."""
    n, one = len(x), np.ones(len(x))
    k, h = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(h, 0)
    total = (
        np.trace(k @ h) + (one @ k @ one) * (one @ h @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ h @ one)
    )
    return total / (n * (n - 3))


def hsic_biased(x: np.ndarray, y: np.ndarray) -> float:
    centre = np.eye(len(x)) - 1 / len(x)
    return float(np.trace(x @ x.T @ centre @ y @ y.T @ centre))


@pytest.mark.parametrize(("n", "d", "e"), [(60, 7, 5), (12, 30, 40), (20, 8, 90)])
@pytest.mark.parametrize("debiased", [True, False])
def test_cka_against_gram_matrices(n, d, e, debiased):
    x = sample(n, d)
    y = np.tanh(x @ np.random.default_rng(4).normal(size=(d, e))) + sample(n, e, 5)
    hsic = hsic_unbiased if debiased else hsic_biased
    oracle = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert linear_cka(x, y, debiased=debiased) == pytest.approx(oracle, rel=1e-9)


def test_cka_ignores_rotation_scale_shift_and_common_order():
    x, y = sample(), sample(seed=1) + sample()
    for debiased in (True, False):
        plain = linear_cka(x, y, debiased=debiased)
        assert linear_cka(3 * x @ rotation(7) - 5, y[:, ::-1], debiased=debiased) == pytest.approx(plain)
        assert linear_cka(x[::-1], y[::-1], debiased=debiased) == pytest.approx(plain)
        assert linear_cka(x, x, debiased=debiased) == pytest.approx(1)
        assert np.isnan(linear_cka(x, np.ones((60, 3)), debiased=debiased))


def test_cka_of_independent_embeddings_is_biased_unless_debiased():
    pairs = [(sample(40, 200, seed), sample(40, 200, 100 + seed)) for seed in range(30)]
    assert np.mean([linear_cka(x, y, debiased=False) for x, y in pairs]) > 0.7
    unbiased = np.array([linear_cka(x, y) for x, y in pairs])
    assert abs(unbiased.mean()) < 3 * unbiased.std() / np.sqrt(30) + 1e-3
    assert (unbiased < 0).any()


@pytest.mark.parametrize("shape", [(60, 7), (9, 30)])
def test_procrustes_against_scipy(shape):
    x, y = sample(*shape), sample(*shape, seed=3) + 0.5 * sample(*shape)
    assert procrustes_residual(x, y) == pytest.approx(procrustes(x, y)[2], abs=1e-12)


def test_procrustes_limits():
    x = sample()
    assert procrustes_residual(x, 0.2 * x @ rotation(7) + 9) == pytest.approx(0, abs=1e-12)
    wider = np.hstack([x, np.zeros((60, 2))])
    assert procrustes_residual(x, wider @ rotation(9)) == pytest.approx(0, abs=1e-12)
    assert procrustes_residual(sample(2000), sample(2000, seed=8)) > 0.95
    assert np.isnan(procrustes_residual(x, np.ones((60, 7))))


def test_mutual_neighbours_limits_and_chance():
    x = sample(200)
    assert (mutual_neighbours(x, x) == 1).all()
    assert (mutual_neighbours(x, 3 * x @ rotation(7)) == 1).all()
    assert np.isnan(mutual_neighbours(x, np.ones((200, 3)))).all()
    shares = [mutual_neighbours(sample(200, seed=s), sample(200, seed=s + 50), k=20).mean() for s in range(12)]
    assert np.mean(shares) == pytest.approx(20 / 199, abs=0.01)
    noise = np.random.default_rng(1).normal(size=x.shape)
    assert (np.diff([mutual_neighbours(x, x + s * noise).mean() for s in (0, 0.2, 0.8, 3)]) < 0).all()


def test_neighbour_accuracy_against_scikit_learn_and_limits():
    codes, groups = np.arange(60) % 3, np.arange(60)  # every tile its own group: plain leave-one-out
    x = sample()
    x[np.arange(60), codes] += 3
    right = []
    for row in range(60):
        rest = np.delete(np.arange(60), row)
        model = KNeighborsClassifier(10, metric="cosine", algorithm="brute").fit(x[rest], codes[rest])
        right.append(model.predict(x[[row]])[0] == codes[row])
    oracle = np.mean([np.mean(np.array(right)[codes == code]) for code in range(3)])
    assert neighbour_accuracy(x, codes, groups) == pytest.approx(oracle)
    assert np.isnan(neighbour_accuracy(x, np.zeros(60, int), groups))
    assert np.isnan(neighbour_accuracy(x, codes, np.zeros(60, int)))
    assert np.isnan(neighbour_accuracy(np.ones((60, 4)), codes, groups))


def test_neighbour_accuracy_does_not_read_the_group():
    groups = np.repeat(np.arange(12), 20)
    found = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        x = random.normal(size=(12, 8))[groups] + 0.01 * random.normal(size=(240, 8))
        found.append(neighbour_accuracy(x, random.permutation(np.arange(12) % 2)[groups], groups))
    assert np.mean(found) < 0.65


def test_a_constant_is_judged_by_its_own_size():
    assert is_constant(np.full((9, 2), 1e6))
    assert is_constant(np.zeros((9, 2)))
    assert not is_constant(1e-9 * sample())
    assert not is_constant(sample() + 1e3)


def test_messages():
    x = sample()
    with pytest.raises(InputError, match=r"not of the same tiles. Received: 60 and 59 rows"):
        linear_cka(x, x[:59])
    with pytest.raises(InputError, match=r"hold NaN or infinity. Received: 1 of 60 rows"):
        procrustes_residual(x, np.where(np.arange(60)[:, None] == 4, np.nan, x))
    with pytest.raises(InputError, match=r"too few rows to measure"):
        linear_cka(x[:3], x[:3])
    with pytest.raises(InputError, match=r"k has to be below the number of tiles. Received: k 60, 60 tiles"):
        mutual_neighbours(x, x, k=60)
