"""Transport against an assignment, closed forms and POT; the way between sets; middles; pixels as mass."""

import numpy as np
import pytest
from ot.gaussian import bures_wasserstein_barycenter
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from histolatent.distances import gaussian_w2_squared
from histolatent.errors import InputError, OptionError
from histolatent.explore.transport import (
    Gaussian,
    barycentre,
    bures_barycentre,
    compare_sets,
    pixel_barycentre,
    transport,
)


def sets(n=40, m=40, d=5, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)), random.normal(size=(m, d)) * 2 + 3


def covariances(k=4, d=6, seed=0):
    random = np.random.default_rng(seed)
    made = random.normal(size=(k, d, 3 * d))
    return made @ made.transpose(0, 2, 1) / d


def test_of_equal_numbers_transport_is_the_best_assignment():
    x, y = sets()
    found = transport(x, y)
    cost = cdist(x, y, "sqeuclidean")
    first, second = linear_sum_assignment(cost)
    assert found.pairs.tolist() == np.stack([first, second], axis=1).tolist()
    assert found.distance == pytest.approx(np.sqrt(cost[first, second].mean()))
    np.testing.assert_allclose(found.weights, 1 / 40)


def test_of_unequal_numbers_every_tile_is_moved_whole():
    x, y = sets(30, 45)
    found = transport(x, y)
    for side, count in ((0, 30), (1, 45)):
        mass = np.zeros(count)
        np.add.at(mass, found.pairs[:, side], found.weights)
        np.testing.assert_allclose(mass, 1 / count)
    moves = found.moves()
    assert set(moves["tile"]) == set(range(30)) and moves["length"].is_monotonic_decreasing
    assert np.sqrt((moves["length"] ** 2).mean()) == pytest.approx(found.distance)


def test_a_shift_is_found_as_such_and_the_way_is_even():
    x, _ = sets()
    shift = [3, 0, 0, 0, 4.0]
    found = transport(x, x + np.array(shift))
    assert found.distance == pytest.approx(5)
    assert (found.pairs[:, 0] == found.pairs[:, 1]).all()
    for t in (0, 0.25, 1):
        vectors, weights = found.at(t)
        np.testing.assert_allclose(np.average(vectors, axis=0, weights=weights), x.mean(axis=0) + t * np.array(shift))
        assert transport(x, vectors).distance == pytest.approx(5 * t)
    with pytest.raises(OptionError, match="from 0 to 1"):
        found.at(1.2)


def test_many_tiles_are_drawn_by_the_seed():
    x, y = sets(300, 300)
    first, again, other = (transport(x, y, tiles=50, seed=seed) for seed in (0, 0, 1))
    assert first.distance == again.distance != other.distance
    assert len(first.first) == 50
    np.testing.assert_array_equal(first.first, x[first.rows[0]])


def test_the_middle_of_normal_distributions_is_pots_in_fewer_steps():
    spread = covariances()
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    parts = [Gaussian(np.full(6, float(k)), each) for k, each in enumerate(spread)]
    found, steps = bures_barycentre(parts, weights.tolist())
    mean, theirs, log = bures_wasserstein_barycenter(
        np.stack([part.mean for part in parts]), spread, weights, num_iter=2000, eps=1e-12, log=True
    )
    np.testing.assert_allclose(found.covariance, theirs, atol=1e-7)
    np.testing.assert_allclose(found.mean, mean)
    assert steps < log["num_iter"]


def test_the_middle_of_two_is_on_their_geodesic_and_of_one_is_itself():
    one, other = covariances(2)
    middle = bures_barycentre([Gaussian(np.zeros(6), one), Gaussian(np.zeros(6), other)])[0].covariance
    random = np.random.default_rng(0)

    def sample(covariance):  # with exactly this covariance
        x = random.normal(size=(200, 6))
        x -= x.mean(axis=0)
        x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / 199)).T
        return x @ np.linalg.cholesky(covariance).T

    whole, halves = (gaussian_w2_squared(sample(one), sample(end)) ** 0.5 for end in (other, middle))
    assert halves == pytest.approx(whole / 2, rel=1e-6)
    np.testing.assert_allclose(bures_barycentre([Gaussian(np.zeros(6), one)])[0].covariance, one)


def test_a_normal_distribution_of_few_tiles_is_positive_and_its_distance_the_known_one():
    random = np.random.default_rng(0)
    few = Gaussian.of(random.normal(size=(8, 12)))
    assert np.linalg.eigvalsh(few.covariance).min() > 0
    many = random.normal(size=(4000, 5)) * (1, 2, 3, 1, 1) + 4
    np.testing.assert_allclose(Gaussian.of(many).covariance, np.cov(many.T), atol=0.1)
    one, other = (Gaussian.of(part) for part in (many, 2 * many[:, ::-1]))
    plain = gaussian_w2_squared(many, 2 * many[:, ::-1])
    assert one.distance(other) ** 2 == pytest.approx(plain, rel=0.01)
    assert one.distance(one) == pytest.approx(0, abs=1e-5)
    middle = bures_barycentre([one, other])[0]
    assert middle.distance(one) == pytest.approx(one.distance(other) / 2, rel=1e-4)


def test_a_free_middle_of_shifted_sets_is_the_set_between():
    x, _ = sets(60)
    found = barycentre([x, x + 4.0], points=60)
    assert transport(found, x + 2.0).distance < 0.35 * transport(x, x + 2.0).distance
    near_first = barycentre([x, x[:45] - x[:45].mean(axis=0) + x.mean(axis=0) + 4.0], [3, 1], points=60)
    np.testing.assert_allclose(near_first.mean(axis=0), x.mean(axis=0) + 1, atol=0.2)


def test_pixels_move_where_a_mean_would_fade():
    y, x = np.mgrid[:48, :48]
    spots = [3.0 * np.exp(-((x - cx) ** 2 + (y - 24) ** 2) / 18) for cx in (12, 36)]
    middle = pixel_barycentre(spots)
    assert middle.sum() == pytest.approx(np.mean([spot.sum() for spot in spots]))
    assert abs(np.average(x, weights=middle) - 24) < 0.5
    assert middle[20:28, 20:28].sum() > 0.5 * middle.sum() > 10 * np.mean(spots, axis=0)[20:28, 20:28].sum()
    with pytest.raises(InputError, match="one size"):
        pixel_barycentre([spots[0], spots[1][:20]])
    with pytest.raises(InputError, match=r"none of the stain.*image 1"):
        pixel_barycentre([spots[0], 0 * spots[0]])
    with pytest.raises(InputError, match="not negative"):
        pixel_barycentre([spots[0], -spots[0]])


def test_sets_are_compared_beside_their_floor():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(260, 8)).astype(np.float32) + 2
    names = ["a"] * 80 + ["b"] * 80 + ["c"] * 80 + ["few"] * 10 + [None] * 10
    vectors[160:240] += 3 * np.eye(8)[0].astype(np.float32)
    table = compare_sets(vectors, names, repeats=8)
    assert len(table) == 9 and set(table["first"]) | set(table["second"]) == {"a", "b", "c"}
    apart = table[table["distance"] == "sliced_w2_squared"].set_index(["first", "second"])["above_floor"]
    assert apart["a", "c"] and apart["b", "c"] and not apart["a", "b"]
    assert (
        set(table["scale"]) == {"l2"} and set(table["halves_by"]) == {"tile"} and table["label_accuracy"].isna().all()
    )
    groups, labels = np.arange(260) // 8, [str(k % 2) if k % 5 else None for k in range(260)]
    grouped = compare_sets(vectors, names, groups=groups, labels=labels, repeats=8)
    assert set(grouped["halves_by"]) == {"group"} and grouped["label_accuracy"].between(0.2, 0.8).all()
    assert (grouped["effective_rank"] > 3).all()
    with pytest.raises(InputError, match="labels have to be given for each tile"):
        compare_sets(vectors, names, labels=labels[:9])
    with pytest.raises(InputError, match=r"too few sets.*few: 10 tiles"):
        compare_sets(vectors[160:], names[160:])
    with pytest.raises(InputError, match="named for each tile"):
        compare_sets(vectors, names[:5])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, y: transport(x, y[:, :3]), "two spaces.*5 and 3"),
        (lambda x, y: transport(x[:1], y), "the first set"),
        (lambda x, y: transport(x, np.where(y > 5, np.nan, y)), "the second set.*NaN"),
        (lambda x, y: barycentre([x, y], [1, -1]), "weights"),
        (lambda x, y: barycentre([]), "nothing to take the middle of"),
        (lambda x, y: bures_barycentre([Gaussian(np.zeros(2), np.diag([1.0, 0.0]))]), "not positive"),
        (lambda x, y: bures_barycentre([Gaussian(np.zeros(k), np.eye(k)) for k in (2, 3)]), "several spaces"),
        (lambda x, y: bures_barycentre([Gaussian(np.full(2, np.nan), np.eye(2))]), "NaN"),
        (
            lambda x, y: bures_barycentre([Gaussian(np.zeros(6), each) for each in covariances()], most=1),
            "not reached.*1 steps",
        ),
        (lambda x, y: Gaussian.of(x[:1]), "vectors"),
    ],
)
def test_what_cannot_be_transported_is_said(call, said):
    with pytest.raises(InputError, match=said):
        call(*sets())
