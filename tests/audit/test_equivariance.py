"""Maps from embeddings to moves: scikit-learn as reference, planted maps, independent pairs, constants, verdicts."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from histolatent.audit.equivariance import (
    MAPS,
    EquivariancePolicy,
    direction_consistency,
    measure_equivariance,
)
from histolatent.audit.linear_maps import FOLDS, fit_maps, prepare_inputs
from histolatent.errors import InputError, OptionError

N, D = 240, 9
GROUPS = np.sort(np.random.default_rng(0).integers(0, 15, N))


def tiles(seed: int = 0, n: int = N, d: int = D) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) + 0.5).astype(np.float32)


def measure(vectors, moved, groups=GROUPS, **options):
    return measure_equivariance(vectors, moved.astype(np.float32), groups, **{"resamples": 300} | options)


def test_the_same_embedding_is_invariant():
    found = measure(tiles(), tiles())
    assert found.verdict == "invariant"
    assert found.move.value == 0
    assert found.to_frame().empty


def test_a_small_move_is_invariant_and_its_size_is_that_of_the_distances():
    z = tiles()
    noise = np.random.default_rng(1).normal(size=z.shape)
    found = measure(z, z + 0.01 * noise)
    assert found.verdict == "invariant"
    pairs = ((z[:, None].astype(float) - z[None]) ** 2).sum(axis=2)
    unrelated = pairs.sum() / N**2  # mean squared distance of two tiles drawn at random
    move = np.sqrt(((0.01 * noise) ** 2).sum(axis=1).mean() / unrelated)
    assert found.move.value == pytest.approx(move, rel=1e-4)


def test_a_common_shift_is_a_shared_direction():
    z = tiles()
    found = measure(z, z + np.linspace(-1, 2, D))
    assert found.verdict == "shared direction"
    assert found.direction_consistency == pytest.approx(1)
    assert found.effective_rank == pytest.approx(1, abs=1e-3)
    shift = found.maps["shift"]
    assert [part.value for part in (shift.explained, shift.gap_closed, shift.r2)] == pytest.approx([1, 1, 1], abs=1e-9)
    assert found.ranks == (0,) * FOLDS
    assert np.isinf(found.penalties).all()


def test_a_linear_encoder_under_a_gain_is_linear():
    """An encoder W x of densities x: a gain of one stain is W G W+ z, which a linear map holds exactly."""
    random = np.random.default_rng(3)
    densities, encoder = random.gamma(0.3, size=(N, 6)), random.normal(size=(6, 20))
    gain = np.diag([1.6, 1, 1, 1, 0.5, 1])
    z, moved = (densities @ encoder).astype(np.float32), densities @ gain @ encoder
    found = measure(z, moved)
    assert found.verdict == "linear"
    assert found.maps["ridge"].explained.value == pytest.approx(1, abs=1e-6)
    assert found.maps["low_rank"].explained.value == pytest.approx(1, abs=1e-6)
    assert found.ranks == (2,) * FOLDS
    everything = measure(z, 1.5 * z)  # the same gain of all: no cosine changes
    assert everything.verdict == "linear"
    assert np.isnan(everything.maps["ridge"].gap_closed.value)
    assert np.isnan(everything.gaps["ridge"]).all()


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_independent_embeddings_are_entangled_though_the_gap_closes(offset):
    z, other = tiles() + np.float32(offset), tiles(7) + np.float32(offset)
    found = measure(z, other)
    assert found.verdict == "entangled"
    assert found.maps["ridge"].explained.value < 0.02
    # The trap that the docstring names: the average alone closes part of the gap.
    assert found.maps["average"].gap_closed.value > 0.25
    plain = 1 - ((other - other.mean(axis=0)) ** 2).sum() / ((other - z) ** 2).sum()
    assert plain == pytest.approx(0.5, abs=0.05)


def test_a_large_shift_does_not_hide_a_lost_tile():
    found = measure(tiles(), tiles(7) + 10)
    assert found.direction_consistency > 0.9
    assert found.verdict == "entangled"


def test_permuted_pairs_are_never_called_explained():
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(N)
        found = measure(tiles(seed), (1.3 * tiles(seed) + 1)[order], resamples=100, seed=seed)
        assert found.verdict == "entangled"
        assert found.maps["ridge"].explained.value < 0.02


def test_verdicts_follow_a_planted_mixture():
    """A shift, then a linear part, then noise of growing size."""
    random = np.random.default_rng(5)
    z, matrix, noise = tiles(), random.normal(size=(D, D)), random.normal(size=(N, D))
    verdicts = [measure(z, z + 2 + 0.2 * noise), measure(z, z + (z - 0.5) @ matrix + 0.2 * noise)]
    assert [found.verdict for found in verdicts] == ["shared direction", "linear"]
    explained = [measure(z, z + (z - 0.5) @ matrix + s * noise).maps["ridge"].explained.value for s in (0.1, 1, 4, 20)]
    assert (np.diff(explained) < 0).all()
    blurred = z + 2 + 0.8 * noise
    value = measure(z, blurred).maps["shift"].explained.value
    edge = measure(z, blurred, policy=EquivariancePolicy(explained=value))
    assert edge.verdict == "undecided"
    assert "more groups are needed" in edge.reason


def test_constants_and_few_groups_are_undefined_with_a_reason():
    z, constant = tiles(), np.full((N, D), 0.3, np.float32)
    assert "that it does not move is worth nothing" in measure(constant, constant).reason
    assert "the tile is lost" in measure(z, constant).reason
    few = measure(z, z + 1, GROUPS % 4)
    assert few.reason == "4 groups are too few to fit on some and test on others: at least 5"
    for found in (measure(constant, constant), measure(z, constant), few):
        assert found.verdict == "undefined"
        assert np.isnan(found.move.value)


def test_what_leaks_within_a_group_is_not_learnt():
    """Each group moves its own way: within a group it is a shift, across groups nothing foretells it."""
    random = np.random.default_rng(4)
    groups = np.repeat(np.arange(12), 20)
    centres = 5 * random.normal(size=(12, D))
    z = (centres[groups] + random.normal(size=(240, D))).astype(np.float32)
    found = measure(z, z + 3 * random.normal(size=(12, D))[groups], groups)
    assert found.maps["ridge"].explained.high < 0.3
    alone = measure(z, z + 3 * np.random.default_rng(4).normal(size=(12, D))[groups], np.arange(240))
    assert alone.maps["ridge"].explained.value > 0.3


def test_rotation_scale_and_order_change_nothing():
    random = np.random.default_rng(6)
    z = tiles().astype(float)
    moved = z + np.tanh(z @ random.normal(size=(D, D)))
    turn, order = np.linalg.qr(random.normal(size=(D, D)))[0], random.permutation(N)
    plain = measure_equivariance(z, moved, GROUPS, resamples=200)
    for other in (
        measure_equivariance(4 * z @ turn, 4 * moved @ turn, GROUPS, resamples=200),
        measure_equivariance(z[order], moved[order], GROUPS[order], resamples=200),
        measure_equivariance(z, moved, GROUPS * 7 + 3, resamples=200),
    ):
        assert other.verdict == plain.verdict
        assert other.effective_rank == pytest.approx(plain.effective_rank)
        np.testing.assert_allclose(other.to_frame()["value"], plain.to_frame()["value"], atol=1e-7)
        np.testing.assert_allclose(other.to_frame()["low"], plain.to_frame()["low"], atol=1e-7)


def test_ridge_against_scikit_learn():
    z = tiles().astype(float)
    moved = z + np.tanh(z @ np.random.default_rng(6).normal(size=(D, D)))
    inputs = prepare_inputs(z, GROUPS)
    for fold, maps in enumerate(fit_maps(inputs, moved - z)):
        train = np.concatenate([rows for other, rows in enumerate(inputs.folds) if other != fold])
        assert not set(GROUPS[train]) & set(GROUPS[inputs.folds[fold]])
        scatter = ((z[train] - z[train].mean(axis=0)) ** 2).sum()
        oracle = Ridge(maps.penalty * scatter).fit(z[train], (moved - z)[train])
        for rows, block in inputs.rows(inputs.folds[fold]):
            np.testing.assert_allclose(maps.moves(block)["ridge"], oracle.predict(z[rows]), atol=1e-8)
        fitted = oracle.predict(z[train]) - oracle.predict(z[train]).mean(axis=0)
        # Ridge is least squares on rows that the penalty adds; their fitted values belong to the projection as well.
        added = np.sqrt(maps.penalty * scatter) * oracle.coef_.T
        right = np.linalg.svd(np.vstack([fitted, added]), full_matrices=False)[2][: maps.rank]
        for rows, block in inputs.rows(inputs.folds[fold]):
            away = (z[rows] - z[train].mean(axis=0)) @ oracle.coef_.T @ right.T @ right
            np.testing.assert_allclose(maps.moves(block)["low_rank"], maps.shift + away, atol=1e-8)


def test_figures_against_their_definitions():
    z = tiles().astype(float)
    moved = z + np.tanh(z @ np.random.default_rng(6).normal(size=(D, D)))
    inputs = prepare_inputs(z, GROUPS)
    predicted, average = np.empty_like(z), np.empty_like(z)
    for maps, rows in zip(fit_maps(inputs, moved - z), inputs.folds, strict=True):
        predicted[rows] = z[rows] + maps.moves(z[rows] - inputs.center)["ridge"]
        average[rows] = np.delete(moved, rows, axis=0).mean(axis=0)

    def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    found = measure_equivariance(z, moved, GROUPS, inputs=inputs, resamples=100)
    gap = (cosine(predicted, moved) - cosine(z, moved)) / (1 - cosine(z, moved))
    np.testing.assert_allclose(found.gaps["ridge"], gap, atol=1e-9)
    ridge = found.maps["ridge"]
    left, still, mean = (((other - moved) ** 2).sum() for other in (predicted, z, average))
    assert ridge.gap_closed.value == pytest.approx(np.average(gap, weights=1 - cosine(z, moved)))
    assert ridge.r2.value == pytest.approx(1 - left / mean)
    assert ridge.explained.value == pytest.approx(1 - left / min(still, mean))
    d = moved - z
    assert found.direction_consistency == pytest.approx((d.mean(axis=0) ** 2).sum() / (d**2).sum(axis=1).mean())


def test_more_dimensions_than_tiles_change_nothing():
    """Columns of zeros, and a rotation of the wide space, are no information."""
    z = tiles().astype(float)
    moved = z + np.tanh(z @ np.random.default_rng(6).normal(size=(D, D)))
    turn = np.linalg.qr(np.random.default_rng(8).normal(size=(300, 300)))[0][:D]
    narrow = measure_equivariance(z, moved, GROUPS, resamples=100)
    wide = measure_equivariance(z @ turn, moved @ turn, GROUPS, resamples=100)
    assert prepare_inputs(z @ turn, GROUPS).x.shape == (N, N)
    np.testing.assert_allclose(wide.to_frame()["value"], narrow.to_frame()["value"], atol=1e-6)


def test_a_wide_embedding_of_few_tiles():
    random = np.random.default_rng(2)
    hidden, encoder = random.normal(size=(200, 10)), random.normal(size=(10, 1536))
    z = (hidden @ encoder).astype(np.float32)
    found = measure(z, hidden @ np.diag(np.linspace(0.5, 1.5, 10)) @ encoder, np.arange(200) % 10)
    assert found.verdict == "linear"
    assert found.maps["ridge"].explained.value > 0.999


def test_consistency_between_groups_by_hand():
    moves, groups = np.random.default_rng(1).normal(size=(30, 4)) + 0.4, np.sort(np.arange(30) % 7)
    other = groups[:, None] != groups[None]
    oracle = (moves @ moves.T)[other].mean() / (moves**2).sum(axis=1).mean()
    plain, shared = direction_consistency(moves, groups, resamples=200)
    assert shared.value == pytest.approx(oracle)
    assert plain == pytest.approx((moves @ moves.T).mean() / (moves**2).sum(axis=1).mean())
    assert shared.low < shared.value < shared.high
    same = direction_consistency(np.ones((30, 4)), groups, resamples=200)
    assert (same[0], same[1].value, same[1].low) == pytest.approx((1, 1, 1))


def test_consistency_of_random_moves_excludes_chance_at_most_at_its_nominal_rate():
    """Each group has a direction of its own, which is none that groups share."""
    excluded, groups = [], np.repeat(np.arange(30), 5)
    for seed in range(300):
        random = np.random.default_rng(seed)
        moves = random.normal(size=(30, 6))[groups] + random.normal(size=(150, 6))
        shared = direction_consistency(moves, groups, resamples=300, seed=seed)[1]
        excluded.append(shared.low > 0)
    assert np.mean(excluded) < 0.07


def test_the_table_and_the_seed():
    z = tiles()
    moved = np.tanh(z).astype(np.float32)
    first, again, other = (measure(z, moved, seed=seed) for seed in (0, 0, 1))
    assert first.to_frame().equals(again.to_frame())
    assert not first.to_frame().equals(other.to_frame())
    assert list(first.to_frame().columns) == ["map", "metric", "value", "low", "high"]
    assert set(first.to_frame()["map"]) == set(MAPS)


def test_messages():
    z = tiles()
    with pytest.raises(InputError, match=r"do not fit each other"):
        measure(z, z[:, :4])
    with pytest.raises(InputError, match=r"do not fit each other"):
        measure(z, z, GROUPS[:9])
    with pytest.raises(InputError, match=r"not of the same tiles"):
        measure(z, z[:9])
    with pytest.raises(InputError, match=r"hold NaN or infinity"):
        measure(z, np.where(np.arange(N)[:, None] == 3, np.inf, z))
    with pytest.raises(OptionError, match=r"policy of equivariance is out of range"):
        replace(EquivariancePolicy(), least_groups=2)
