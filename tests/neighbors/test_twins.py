"""Twins and matched pairs against references by the letter of their definitions."""

import numpy as np
import pytest

from histolatent.errors import InputError
from histolatent.neighbors import cross_retrieval, space, twin_ranks, unit_rows


def by_hand(pool, twins, owners):
    """Count, tile by tile, who is closer to the twin than its own tile."""

    def cosine(a, b):
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    ranks = []
    for twin, owner in zip(twins, owners, strict=True):
        rank = 0.0
        for other in range(len(pool)):
            if other != owner:
                gap = cosine(twin, pool[other]) - cosine(twin, pool[owner])
                rank += 0.5 if abs(gap) < 1e-6 else float(gap > 0)
        ranks.append(rank)
    return ranks


@pytest.fixture
def case():
    rng = np.random.default_rng(4)
    pool = rng.normal(size=(31, 5)).astype(np.float32)
    owners = rng.integers(0, 31, 43)
    twins = (pool[owners] + rng.normal(0, 1.0, (43, 5))).astype(np.float32)
    pool[7] = 2 * pool[3]  # the same direction: a tie
    return pool, twins, owners


def test_against_the_reference(case):
    pool, twins, owners = case
    np.testing.assert_array_equal(twin_ranks(pool, twins, owners), by_hand(pool, twins, owners))


def test_chunks_scale_and_order_do_not_matter(case, monkeypatch):
    pool, twins, owners = case
    whole = twin_ranks(pool, twins, owners)
    monkeypatch.setattr(space, "CHUNK_BYTES", 4 * 31 * 3)
    np.testing.assert_array_equal(twin_ranks(pool, twins, owners), whole)
    np.testing.assert_array_equal(twin_ranks(7 * pool, 0.1 * twins, owners), whole)
    order = np.random.default_rng(0).permutation(31)
    moved = np.argsort(order)[owners]
    np.testing.assert_array_equal(twin_ranks(pool[order], twins, moved), whole)


def test_limits():
    pool = np.eye(9, dtype=np.float32)
    owners = np.arange(9)
    assert (twin_ranks(pool, pool, owners) == 0).all()
    assert (twin_ranks(pool, -pool, owners) == 8).all()
    constant = np.ones((9, 4), np.float32)
    assert (twin_ranks(constant, constant, owners) == 4).all()  # (n - 1) / 2, chance
    assert (twin_ranks(np.zeros((9, 4), np.float32), constant, owners) == 4).all()


def test_a_constant_of_many_dimensions_is_at_chance():
    """A float32 sum of 900 equal products rounds one way, by more than rounding at random does."""
    constant = np.full((300, 900), 0.3, np.float32)
    assert (twin_ranks(constant, constant[:50], np.arange(50)) == 299 / 2).all()


def test_random_twins_are_at_chance():
    rng = np.random.default_rng(1)
    pool, twins = rng.normal(size=(2, 400, 8)).astype(np.float32)
    ranks = twin_ranks(pool, twins, np.arange(400))
    assert abs(ranks.mean() - 399 / 2) < 4 * 400 / np.sqrt(12 * 400)


def test_different_widths_are_said():
    with pytest.raises(InputError, match=r"differ in their number of dimensions. Received: \(\(2, 3\), \(1, 4\)\)"):
        twin_ranks(np.ones((2, 3), np.float32), np.ones((1, 4)), np.array([0]))


def test_unit_rows():
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0]])
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0, 0], [1, 0]])


def test_half_precision_has_no_overflow():
    rows = np.full((3, 256), 60000, np.float16)
    assert np.isfinite(unit_rows(rows)).all()
    np.testing.assert_allclose(np.linalg.norm(unit_rows(rows), axis=1), 1, rtol=1e-5)


@pytest.fixture
def pairs():
    rng = np.random.default_rng(5)
    first = rng.normal(size=(120, 12)) + 0.5
    second = first + 0.6 * rng.normal(size=(120, 12)) + 0.8 * rng.normal(size=12)
    return first.astype(np.float32), second.astype(np.float32)


def retrieval_by_hand(first, second, k):
    """plismbench's definition with a full sort in float64: both sets are the pool, the tile itself is left out."""
    both = np.concatenate([first, second]).astype(float)
    units = both / np.linalg.norm(both, axis=1, keepdims=True)
    similarity = units @ units.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1)
    n = len(first)
    twin = np.concatenate([np.arange(n, 2 * n), np.arange(n)])
    return np.mean(order[:, :k] == twin[:, None], axis=0).sum()


def test_retrieval_against_a_full_sort(pairs):
    found = cross_retrieval(*pairs)
    assert found.accuracy() == pytest.approx({k: retrieval_by_hand(*pairs, k) for k in (1, 3, 5, 10)}, abs=1e-12)
    assert 0.05 < found.accuracy()[1] < 0.95
    first, second = (part.astype(float) for part in pairs)
    exact = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    np.testing.assert_allclose(found.cosine, exact, rtol=1e-12)


def test_retrieval_of_some_looks_among_all(pairs, monkeypatch):
    whole = cross_retrieval(*pairs)
    some = np.array([7, 3, 60, 119])
    found = cross_retrieval(*pairs, queries=some)
    np.testing.assert_array_equal(found.hits, whole.hits[some])
    np.testing.assert_array_equal(found.cosine, whole.cosine)
    monkeypatch.setattr(space, "CHUNK_BYTES", 2000)
    np.testing.assert_array_equal(cross_retrieval(*pairs, queries=some).hits, whole.hits[some])


def test_retrieval_ignores_chunks_order_scale_rotation_and_direction(pairs, monkeypatch):
    whole = cross_retrieval(*pairs).hits
    first, second = pairs
    order = np.random.default_rng(0).permutation(120)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    np.testing.assert_array_equal(cross_retrieval(second, first).hits, whole)
    np.testing.assert_array_equal(cross_retrieval(first[order], second[order]).hits, whole[order])
    np.testing.assert_array_equal(cross_retrieval(800 * first, second / 7).hits, whole)
    np.testing.assert_array_equal(cross_retrieval(first @ turn, second @ turn).hits, whole)
    monkeypatch.setattr(space, "CHUNK_BYTES", 4 * 240 * 11)
    np.testing.assert_array_equal(cross_retrieval(first, second).hits, whole)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_retrieval_of_long_vectors_is_no_nan(pairs, kind):
    """plismbench overflows at norms above 256 in float16: NaN, and no pair found."""
    first, second = (800 * part / np.linalg.norm(part, axis=1, keepdims=True) for part in pairs)
    found = cross_retrieval(first.astype(kind), second.astype(kind))
    assert np.isfinite(found.cosine).all()
    assert found.accuracy()[10] > 0.3


def test_retrieval_of_tiles_that_float32_cannot_order():
    """Alike to 1e-6: the order is that of float64."""
    rng = np.random.default_rng(2)
    first = 1 + 1e-3 * rng.normal(size=(40, 6))
    second = first + 5e-4 * rng.normal(size=(40, 6))
    found = cross_retrieval(first, second)
    assert found.accuracy() == pytest.approx({k: retrieval_by_hand(first, second, k) for k in (1, 3, 5, 10)})


def test_retrieval_among_many_copies_is_by_lot(pairs):
    """300 copies of one tile: more undecided tiles than are computed one by one."""
    first, second = (np.concatenate([part, np.repeat(part[:1], 300, axis=0)]) for part in pairs)
    found = cross_retrieval(first, second)
    np.testing.assert_allclose(found.hits[120:], np.broadcast_to(found.hits[0], (300, 4)))
    np.testing.assert_allclose(found.hits[0, 0], 0, atol=0.01)
    rivals = cross_retrieval(first[120:], second[120:]).hits  # two places, 300 times
    assert (rivals == 0).all()  # the copies of the tile itself are nearer than any twin


def test_retrieval_limits():
    eye = np.eye(20, dtype=np.float32)
    assert cross_retrieval(eye, eye).accuracy() == {1: 1.0, 3: 1.0, 5: 1.0, 10: 1.0}
    constant = np.full((20, 4), 0.3, np.float32)
    chance = {k: k / 39 for k in (1, 3, 5, 10)}
    assert cross_retrieval(constant, constant).accuracy() == pytest.approx(chance)
    rng = np.random.default_rng(3)
    unrelated = cross_retrieval(*rng.normal(size=(2, 400, 8)))
    assert unrelated.accuracy()[10] == pytest.approx(10 / 799, abs=0.02)


def test_retrieval_falls_with_a_growing_shift(pairs):
    first = pairs[0]
    rng = np.random.default_rng(8)
    shift, noise = rng.normal(size=12), rng.normal(size=(120, 12))
    found = [cross_retrieval(first, first + s * (shift + noise)).accuracy()[10] for s in (0.0, 0.2, 0.5, 1.0, 2.0)]
    assert found[0] == 1
    assert (np.diff(found) <= 0).all()
    assert found[-1] < 0.5


@pytest.mark.parametrize(
    ("second", "k", "message"),
    [
        (np.ones((4, 3)), (1,), r"matched sets need the same shape. Received: \(\(5, 3\), \(4, 3\)\)"),
        (np.full((5, 3), np.nan), (1,), "the second set hold NaN or infinite numbers"),
        (np.ones((5, 3)), (9,), r"k is outside the pool. Received: \(9,\). Valid: 1 to 8"),
        (np.ones((5, 3)), (0,), "k is outside the pool"),
    ],
)
def test_retrieval_says_what_does_not_fit(second, k, message):
    with pytest.raises(InputError, match=message):
        cross_retrieval(np.ones((5, 3)), second, k=k)
