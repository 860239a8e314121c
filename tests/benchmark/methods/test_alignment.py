"""Alignment of sites: against the equations, closed forms, and what was planted."""

import numpy as np
import pytest

from histolatent.benchmark.cohort import SOURCE
from histolatent.benchmark.methods.alignment import fit_combat, fit_transport
from histolatent.errors import InputError


def sites(d=12, seed=0):
    random = np.random.default_rng(seed)
    sizes = {SOURCE: 90, "b": 70, "c": 50}
    own = {name: (random.normal(size=d), np.exp(0.4 * random.normal(size=d))) for name in sizes}
    return {
        name: (own[name][0] + own[name][1] * random.normal(size=(n, d))).astype(np.float32) for name, n in sizes.items()
    }


def test_combat_is_its_equations():
    given = sites()
    fitted = fit_combat(given)
    y = np.concatenate(list(given.values())).astype(float)
    batch = np.repeat(np.arange(3), [len(x) for x in given.values()])
    means = np.stack([y[batch == i].mean(0) for i in range(3)])
    alpha, sigma = y.mean(0), np.sqrt(((y - means[batch]) ** 2).mean(0))
    for i, (name, x) in enumerate(given.items()):
        z = ((y - alpha) / sigma)[batch == i]
        g_hat, d_hat, n = z.mean(0), z.var(0, ddof=1), len(z)
        g_bar, t2, m, s2 = g_hat.mean(), g_hat.var(ddof=1), d_hat.mean(), d_hat.var(ddof=1)
        a, b, g, d = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2, g_hat, d_hat
        for _ in range(200):
            g = (n * t2 * g_hat + d * g_bar) / (n * t2 + d)
            d = (0.5 * ((z - g) ** 2).sum(0) + b) / (n / 2 + a - 1)
        np.testing.assert_allclose(fitted(x, name), (z - g) / np.sqrt(d) * sigma + alpha, atol=2e-3)


def test_combat_brings_planted_sites_together():
    given = sites(d=40)
    fitted = fit_combat(given)
    changed = {name: fitted(x, name) for name, x in given.items()}
    before, after = (np.std([x.mean(0) for x in part.values()], axis=0).mean() for part in (given, changed))
    assert after < 0.2 * before
    spread = np.std([x.std(0) for x in changed.values()], axis=0).mean()
    assert spread < 0.4 * np.std([x.std(0) for x in given.values()], axis=0).mean()


def test_combat_leaves_constant_dimensions_alone():
    given = {name: np.concatenate([x, np.full((len(x), 1), 3, np.float32)], axis=1) for name, x in sites().items()}
    assert np.allclose(fit_combat(given)(given["b"], "b")[:, -1], 3)


def test_combat_needs_two_tiles():
    with pytest.raises(InputError, match="two tiles or more at each site"):
        fit_combat({SOURCE: np.ones((3, 2), np.float32), "b": np.ones((1, 2), np.float32)})


def test_transport_between_normal_distributions_is_the_closed_form():
    random = np.random.default_rng(0)
    n, d = 40_000, 3
    root = np.array([[1.0, 0.3, 0.0], [0.0, 0.8, 0.2], [0.0, 0.0, 1.4]])
    source = random.normal(size=(n, d))
    other = random.normal(size=(n, d)) @ root + [1.0, -2.0, 0.5]
    fitted = fit_transport(source.astype(np.float32), {"b": other.astype(np.float32)})
    values, axes = np.linalg.eigh(root.T @ root)
    expected = (other - [1.0, -2.0, 0.5]) @ (axes * values**-0.5) @ axes.T  # onto the standard normal
    np.testing.assert_allclose(fitted(other.astype(np.float32), "b"), expected, atol=0.06)
    np.testing.assert_array_equal(fitted(source.astype(np.float32), SOURCE), source.astype(np.float32))


def test_transport_of_fewer_tiles_than_dimensions():
    random = np.random.default_rng(0)
    given = sites(d=200)
    fitted = fit_transport(given[SOURCE], {"b": given["b"]})
    new = (given["b"].mean(0) + random.normal(size=(20, 200))).astype(np.float32)
    moved = fitted(new, "b")
    assert np.isfinite(moved).all() and np.abs(moved).max() < 20


def test_transport_keeps_silent_dimensions_silent():
    given = {name: np.hstack([x, np.full((len(x), 2), [0, 0.1], np.float32)]) for name, x in sites().items()}
    moved = fit_transport(given[SOURCE], {"b": given["b"]})(given["b"], "b")
    np.testing.assert_array_equal(moved[:, -2:], given["b"][:, -2:])
