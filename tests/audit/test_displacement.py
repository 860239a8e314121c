"""Distances, their null, ranks and selectivity: closed forms, oracles, planted moves."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu
from sklearn.metrics.pairwise import paired_cosine_distances

from histolatent.audit import displacement
from histolatent.audit.displacement import (
    cosine_distances,
    euclidean_distances,
    measure_moves,
    measure_ranks,
    random_pair_null,
    selectivity,
)

SHAPE = (90, 7)


@pytest.fixture
def vectors() -> np.ndarray:
    """90 rows of 7 numbers, off the origin, in 6 groups of unequal size."""
    return (np.random.default_rng(1).normal(size=SHAPE) + 0.7).astype(np.float32)


@pytest.fixture
def groups() -> np.ndarray:
    return np.repeat(np.arange(6), [5, 10, 12, 18, 20, 25])


def rotation(d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(2).normal(size=(d, d)))[0]


def test_cosine_limits(vectors):
    assert (cosine_distances(vectors, vectors) == 0).all()
    np.testing.assert_allclose(cosine_distances(vectors, -vectors), 2, rtol=1e-12)
    first, second = np.eye(4)[[0, 1, 2]], 5 * np.eye(4)[[1, 2, 3]]
    np.testing.assert_allclose(cosine_distances(first, second), 1, rtol=1e-12)


def test_zero_vectors_are_at_one_from_all_but_themselves():
    zero, other = np.zeros((1, 3)), np.ones((1, 3))
    assert cosine_distances(zero, zero).tolist() == [0]
    assert cosine_distances(zero, other).tolist() == cosine_distances(other, zero).tolist() == [1]


def test_distances_against_scikit_learn_and_scipy(vectors):
    other = vectors[::-1].copy()
    oracle = paired_cosine_distances(vectors.astype(float), other.astype(float))
    np.testing.assert_allclose(cosine_distances(vectors, other), oracle, atol=1e-12)
    oracle = np.diag(cdist(vectors.astype(float), other.astype(float)))
    np.testing.assert_allclose(euclidean_distances(vectors, other), oracle, rtol=1e-12)


def test_cosine_ignores_scale_and_rotation_and_euclidean_only_rotation(vectors):
    first, second, turn = vectors.astype(float), vectors[::-1].astype(float), rotation(7)
    plain = cosine_distances(first, second)
    np.testing.assert_allclose(cosine_distances(3 * first, 0.1 * second), plain, atol=1e-12)
    np.testing.assert_allclose(cosine_distances(first @ turn, second @ turn), plain, atol=1e-12)
    lengths = euclidean_distances(first, second)
    np.testing.assert_allclose(euclidean_distances(first @ turn, second @ turn), lengths, atol=1e-12)
    assert (euclidean_distances(3 * first, 3 * second) > 2 * lengths).sum() == (lengths > 0).sum()


def test_a_tiny_move_is_not_lost_in_rounding():
    first = np.array([[1.0, 0.0]])
    second = np.array([[1.0, 1e-9]])
    np.testing.assert_allclose(cosine_distances(first, second), 0.5e-18, rtol=1e-6)


def test_the_null_never_pairs_within_a_group(groups):
    one_per_group = np.eye(6, dtype=np.float32)[groups]  # distance 0 within a group, 1 across
    null = random_pair_null(one_per_group, groups, apart="slide")
    np.testing.assert_allclose(null.cosine, 1)
    assert null.apart == "slide"


def test_same_label_pairs_are_of_one_known_label(groups):
    labels = np.tile([0, 1, -1], 30)
    vectors = np.eye(3, dtype=np.float32)[labels]  # -1 is the third row: unknown, and alike
    null = random_pair_null(vectors, groups, apart="patient", labels=labels)
    assert null.same_label is not None
    assert (null.same_label == 0).all()
    pairs = len(null.cosine)
    assert 0.1 * pairs < len(null.same_label) < 0.35 * pairs  # 2 of 9, and none of the unknown
    assert random_pair_null(vectors, groups, apart="patient").same_label is None
    unknown = np.full(90, -1)
    assert random_pair_null(vectors, groups, apart="patient", labels=unknown).same_label is None


def test_of_many_tiles_fewer_pairs_are_drawn_for_each(vectors, groups, monkeypatch):
    whole = random_pair_null(vectors, groups, apart="slide")
    monkeypatch.setattr(displacement, "MOST_PAIRS", 450)
    part = random_pair_null(vectors, groups, apart="slide")
    assert 350 < len(part.cosine) <= 450 < len(whole.cosine) <= 1800
    assert abs(part.median - whole.median) < 0.1


def test_the_null_is_seeded(vectors, groups):
    first, again, other = (random_pair_null(vectors, groups, apart="slide", seed=seed).cosine for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or (first != other).any()


def test_the_null_converges_to_the_mean_over_all_unrelated_pairs(vectors, groups):
    exact = cdist(vectors.astype(float), vectors.astype(float), "cosine")
    exact = exact[groups[:, None] != groups[None, :]]
    null = random_pair_null(vectors, groups, apart="slide", partners=400)
    error = exact.std() / np.sqrt(len(null.cosine))
    assert abs(null.cosine.mean() - exact.mean()) < 5 * error
    assert abs(null.median - np.median(exact)) < 10 * error


@pytest.mark.parametrize("value", [0.0, 0.125, 1e30])
def test_a_constant_has_no_null(groups, value):
    constant = np.full((90, 4), value, np.float32)
    null = random_pair_null(constant, groups, apart="slide")
    assert not null.is_defined
    moves = measure_moves(constant, constant, null)
    assert np.isnan(moves["displacement"]).all()
    assert np.isnan(moves["displacement_euclidean"]).all()
    assert (moves["auroc_null"] == 0.5).all()  # every pair ties


def test_identical_views_do_not_move(vectors, groups):
    null = random_pair_null(vectors, groups, apart="slide")
    assert null.is_defined
    moves = measure_moves(vectors, vectors, null)
    assert (moves["displacement"] == 0).all()
    assert (moves["displacement_euclidean"] == 0).all()
    assert (moves["auroc_null"] == 1).all()
    ranks = measure_ranks(vectors, vectors[:20], np.arange(20))
    assert (ranks["twin_rank"] == 0).all()
    assert (ranks["twin_top1"] == 1).all()


def test_ranks_of_a_constant_are_chance():
    constant = np.full((30, 4), 0.5, np.float32)
    ranks = measure_ranks(constant, constant, np.arange(30))
    assert (ranks["twin_rank"] == 0.5).all()
    assert (ranks["twin_top1"] == 0).all()


def test_shuffled_twins_are_at_one_and_at_chance(vectors, groups):
    null = random_pair_null(vectors, groups, apart="slide")
    order = np.roll(np.arange(90), 40)  # to another group
    moves = measure_moves(vectors, vectors[order], null)
    assert 0.6 < np.median(moves["displacement"]) < 1.6
    assert 0.35 < moves["auroc_null"].mean() < 0.65
    assert 0.35 < measure_ranks(vectors, vectors[order], np.arange(90))["twin_rank"].mean() < 0.65


def test_figures_are_monotone_in_a_planted_shift(vectors, groups):
    null = random_pair_null(vectors, groups, apart="slide")
    direction = np.random.default_rng(5).normal(size=vectors.shape).astype(np.float32)
    strengths = (0.0, 0.3, 0.6, 1.0, 3.0)
    moves = [measure_moves(vectors, vectors + strength * direction, null) for strength in strengths]
    ranks = [measure_ranks(vectors, vectors + strength * direction, np.arange(90)) for strength in strengths]
    for name in ("displacement", "displacement_euclidean", "cosine_distance"):
        assert (np.diff([move[name].mean() for move in moves]) > 0).all(), name
    areas = [move["auroc_null"].mean() for move in moves]
    assert areas[0] == 1
    assert (np.diff(areas) < 0).all()
    assert (np.diff([rank["twin_rank"].mean() for rank in ranks][1:]) > 0).all()


def test_the_auroc_is_that_of_the_mann_whitney_test(vectors, groups):
    null = random_pair_null(vectors, groups, apart="slide")
    moved = vectors + 0.8 * np.random.default_rng(6).normal(size=vectors.shape).astype(np.float32)
    found = measure_moves(vectors, moved, null)
    u = mannwhitneyu(null.cosine, found["cosine_distance"]).statistic
    assert found["auroc_null"].mean() == pytest.approx(u / (len(null.cosine) * len(vectors)), abs=1e-12)
    np.testing.assert_allclose(found["displacement"], found["cosine_distance"] / np.median(null.cosine))


def test_selectivity_limits():
    react, ignore = np.array([1.0, 2.0]), np.array([[0.1, 0.5, 0.9], [0.0, 1.0, 1.5]])
    assert selectivity(react, ignore).tolist() == [1, 1]
    assert selectivity(np.zeros(2), ignore).tolist() == [0, pytest.approx(0.5 / 3)]
    assert selectivity(np.zeros(2), np.zeros((2, 3))).tolist() == [0.5, 0.5]  # a constant encoder
    assert selectivity(np.array([0.5, 0.5]), ignore).tolist() == pytest.approx([0.5, 1 / 3])
    squared = selectivity(react**2, ignore**2)  # only the order counts
    np.testing.assert_array_equal(squared, selectivity(react, ignore))
