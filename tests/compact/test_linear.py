"""The closed form: what is planted as nuisance goes, what is planted as signal stays."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.linalg import eigh
from sklearn.covariance import OAS

from histolatent.compact.linear import find_directions, remove, shrink, shrunk, whiten, whiten_and_remove
from histolatent.compact.scatter import Scatter
from histolatent.errors import InputError, OptionError

N, V, D = 400, 4, 12


def planted(*, nuisance: float = 3.0, noise: float = 0.05, seed: int = 0):
    """Tiles `(n, v, d)`: signal in three directions, nuisance of the views in two others, noise in all."""
    random = np.random.default_rng(seed)
    basis = random.normal(size=(D, D))  # oblique on purpose
    signal = random.normal(size=(N, 1, 3)) @ basis[:3]
    states = nuisance * random.normal(size=(N, V, 2)) @ basis[3:5]
    return signal + states + noise * random.normal(size=(N, V, D)) + random.normal(size=D), basis


def scatter_of(views) -> Scatter:
    return Scatter(views.shape[2]).add(views)


def test_scatter_against_five_lines():
    views, _ = planted()
    means = views.mean(axis=1)
    within = sum((tile - mean).T @ (tile - mean) for tile, mean in zip(views, means, strict=True))
    total = np.cov(views.reshape(-1, D).T, bias=True) * N * V
    found = scatter_of(views)
    np.testing.assert_allclose(found.within, within, rtol=1e-10)
    np.testing.assert_allclose(found.total, total, rtol=1e-10)
    assert found.ratio == pytest.approx(V / (V - 1) * np.trace(within) / np.trace(total))
    assert (found.tiles, found.views) == (N, N * V)


def test_views_that_are_all_that_differs_have_a_ratio_of_one_whatever_their_number():
    random = np.random.default_rng(0)
    for v in (2, 3, 8):
        assert scatter_of(random.normal(size=(4000 // v, v, 20))).ratio == pytest.approx(1, abs=0.03)


def test_a_stream_adds_up_in_any_order():
    views, _ = planted()
    whole, order = scatter_of(views), np.random.default_rng(1).permutation(N)
    parts = [scatter_of(views[part]) for part in np.array_split(order, 7)]
    streamed = Scatter(D)
    for part in parts:
        streamed.merge(part)
    for name in ("within", "between", "mean"):
        np.testing.assert_allclose(getattr(streamed, name), getattr(whole, name), rtol=1e-9, atol=1e-9)
    assert Scatter(D).add(views[:0]).tiles == 0


def test_a_constant_far_away_costs_no_precision():
    views, _ = planted()
    far = scatter_of(views + 1e6)
    np.testing.assert_allclose(far.within, scatter_of(views).within, rtol=1e-6)


def test_planted_nuisance_is_removed_and_planted_signal_kept():
    views, basis = planted()
    found = find_directions(scatter_of(views))
    assert (found.shares[:3] < 0.05).all() and (found.shares[-2:] > 0.95).all()
    compact = remove(found, 0.7)
    after = compact.apply(views.reshape(-1, D)).reshape(views.shape)
    assert scatter_of(after).ratio < 0.02 < 0.5 < scatter_of(views).ratio
    means = views.mean(axis=1) - views.mean(axis=(0, 1))
    signal = np.linalg.lstsq(np.vstack([basis[:5]]).T, means.T, rcond=None)[0][:3].T
    kept = np.linalg.lstsq(basis[:3].T, (after.mean(axis=1) - after.mean(axis=(0, 1))).T, rcond=None)[0].T
    assert np.corrcoef(signal.ravel(), kept.ravel())[0, 1] > 0.995
    moved = compact.apply(basis[3:5] + compact.mean) - compact.mean
    assert np.linalg.norm(moved) < 0.05 * np.linalg.norm(basis[3:5])


def test_strength_one_is_the_best_linear_guess_of_a_tile_s_mean():
    random = np.random.default_rng(2)
    views = random.normal(size=(N, 1, D)) @ random.normal(size=(D, D)) + 0.5 * random.normal(size=(N, V, D))
    scatter = scatter_of(views)
    found = shrink(find_directions(scatter), 1.0)
    within = scatter.within / (N * V - N)
    everything = scatter.total / (N * V)
    rows = views.reshape(-1, D) - scatter.mean
    expected = scatter.mean + rows @ np.linalg.solve(everything, everything - within)
    apart = np.linalg.norm(found.apply(views.reshape(-1, D)) - expected) / np.linalg.norm(expected - scatter.mean)
    assert apart < 0.05  # but for the shrinkage of the covariances, which is small for 400 tiles of 12 dimensions


def test_limits_of_the_strength():
    views, _ = planted()
    directions, rows = find_directions(scatter_of(views)), planted()[0].reshape(-1, D)
    np.testing.assert_array_equal(shrink(directions, 0.0).apply(rows), rows)
    ratios = [scatter_of(shrink(directions, s).apply(rows).reshape(views.shape)).ratio for s in (0, 0.5, 1, 2, 8)]
    assert all(after < before for before, after in pairwise(ratios))


def test_a_direction_in_which_no_tile_differed_is_not_taken_for_nuisance():
    random = np.random.default_rng(4)
    # 30 tiles in 60 dimensions: there are directions in which their means do not differ, and states do.
    views = 3 * random.normal(size=(30, 1, 60)) + random.normal(size=(30, V, 60))
    shares = find_directions(scatter_of(views)).shares
    assert shares.max() < 0.2  # 0.1 in truth, everywhere
    unshrunk = scatter_of(views)
    plain = eigh(unshrunk.within, unshrunk.total + 1e-9 * np.eye(60), eigvals_only=True)
    assert plain.max() > 0.95


def test_shrinkage_is_that_of_scikit_learn():
    random = np.random.default_rng(5)
    rows = random.normal(size=(50, 300)) * np.linspace(0.1, 3, 300)
    reference = OAS(assume_centered=True).fit(rows).covariance_  # which leaves 2 / d out: it is small
    found = shrunk(rows.T @ rows / 50, 50)
    assert np.linalg.norm(found - reference) < 0.005 * np.linalg.norm(reference)
    assert np.linalg.norm(found - rows.T @ rows / 50) > 0.3 * np.linalg.norm(reference)


def test_scale_and_rotation_change_nothing():
    views, _ = planted()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(D, D)))[0]
    plain, turned = (find_directions(scatter_of(x)) for x in (views, 5 * views @ turn))
    np.testing.assert_allclose(plain.shares, turned.shares, atol=1e-8)
    rows = views.reshape(-1, D)
    np.testing.assert_allclose(shrink(turned).apply(5 * rows @ turn), 5 * shrink(plain).apply(rows) @ turn, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Scatter(3).add(np.zeros((4, 1, 3))), "two views or more"),
        (lambda: Scatter(3).add(np.zeros((4, 2, 5))), r"\(tiles, views, 3\)"),
        (lambda: Scatter(3).add(np.full((4, 2, 3), np.nan)), "NaN or infinity.*tiles 0 to 4"),
        (lambda: Scatter(3).merge(Scatter(4)), "do not add up"),
        (lambda: find_directions(Scatter(3)), "nothing to compact.*0 tiles"),
        (lambda: find_directions(Scatter(3).add(np.ones((4, 2, 3)))), "nothing to compact"),
        (lambda: shrink(find_directions(scatter_of(planted()[0]))).apply(np.zeros((2, 3))), "another dimension"),
    ],
)
def test_what_cannot_be_compacted(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_options_out_of_range():
    directions = find_directions(scatter_of(planted()[0]))
    for make in (
        lambda: shrink(directions, -1.0),
        lambda: remove(directions, 1.5),
    ):
        with pytest.raises(OptionError):
            make()


@pytest.mark.parametrize("most", [1.0, 0.3])
def test_a_channel_that_is_silent_on_the_source_stays_as_it_is(most):
    views, _ = planted()
    silent = np.zeros((*views.shape[:2], 2))
    silent[..., 1] = 7.0
    seen = np.concatenate([views[..., :2], silent, views[..., 2:]], axis=2)
    change = whiten_and_remove(scatter_of(seen), 0.5, most)
    rows = seen[:, 0]
    np.testing.assert_array_equal(change.apply(rows)[:, 2:4], rows[:, 2:4])
    rows[3, 2] = 0.01  # a channel wakes at another site
    np.testing.assert_allclose(change.apply(rows)[3, 2], 0.01)
    expected = whiten_and_remove(scatter_of(views), 0.5, most).apply(views[:, 1])
    np.testing.assert_allclose(np.delete(change.apply(seen[:, 1]), [2, 3], axis=1), expected, atol=1e-9)


def test_the_last_map_is_the_steps_one_after_the_other():
    views, _ = planted()
    scatter = scatter_of(views)
    flat = views.reshape(-1, D)
    white = whiten(scatter, 0.5).apply(flat)
    np.testing.assert_allclose(whiten_and_remove(scatter, 0.5, 1.0).apply(flat), white, atol=1e-9)
    only = remove(find_directions(scatter), 0.3).apply(flat)
    np.testing.assert_allclose(whiten_and_remove(scatter, 0.0, 0.3).apply(flat), only, atol=1e-9)
    after = find_directions(scatter_of(white.reshape(views.shape)))
    both = whiten_and_remove(scatter, 0.5, 0.3).apply(flat)
    np.testing.assert_allclose(both, remove(after, 0.3).apply(white), atol=1e-9)
    assert (after.shares > 0.3).sum() == 2
    assert np.linalg.matrix_rank(both - both.mean(axis=0), tol=1e-6) == D - 2
    assert scatter_of(both.reshape(views.shape)).ratio < 0.1 < scatter_of(white.reshape(views.shape)).ratio
