"""An adapter: states of a tile become the tile, and the geometry of the source stays."""

import numpy as np
import pytest

from histolatent.compact.adapter import fit_adapter
from histolatent.errors import InputError

N, V, D = 200, 6, 8
FITTED, JUDGED = np.arange(150), np.arange(150, N)


def views(seed=0):
    """Tiles, and states that bend them: what moves depends on the tile, so that no linear map takes it back."""
    random = np.random.default_rng(seed)
    tiles = random.normal(size=(N, 1, D))
    amount = random.normal(size=(N, V, 1))
    amount[:, 0], amount[:, -2:] = 0, 1.5 * amount[:, -2:]
    directions = np.where(tiles[..., :1] > 0, 1.0, -1.0) * np.eye(D)[7] + np.eye(D)[6]
    return (tiles + 3 * amount * directions).astype(np.float32)


def test_states_come_together_and_tiles_stay_where_they_are():
    given = views()
    made = fit_adapter(given, FITTED, JUDGED, width=64)
    assert made.after.ratio < 0.5 * made.before.ratio
    assert made.after.twin_top1 > made.before.twin_top1
    assert made.epochs > 0
    tiles = given[JUDGED, 0]
    moved = made.map.apply(tiles)
    assert np.linalg.norm(moved - tiles) < 0.6 * np.linalg.norm(tiles - tiles.mean(axis=0))
    kept = [np.corrcoef(moved[:, k], tiles[:, k])[0, 1] for k in range(6)]
    assert min(kept) > 0.95


def test_the_same_seed_gives_the_same_weights():
    first, second = (fit_adapter(views(), FITTED, JUDGED, width=16, seed=3) for _ in range(2))
    for one, other in zip(vars(first.map).values(), vars(second.map).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    third = fit_adapter(views(), FITTED, JUDGED, width=16, seed=4)
    assert not np.array_equal(first.map.inward, third.map.inward)


def test_too_few_tiles():
    with pytest.raises(InputError, match=r"too few tiles.*3 to fit and 1 to judge"):
        fit_adapter(views(), FITTED[:3], JUDGED[:1])
