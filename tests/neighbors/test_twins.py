"""twin_ranks against a reference by the letter of its definition."""

import numpy as np
import pytest

from histolatent import neighbors
from histolatent.errors import InputError
from histolatent.neighbors import twin_ranks, unit_rows


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
    monkeypatch.setattr(neighbors, "CHUNK_BYTES", 4 * 31 * 3)
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
