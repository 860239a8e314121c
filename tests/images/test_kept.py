"""Tiles kept on disk: the same tiles, read once."""

import numpy as np
import pandas as pd
import pytest

from histolatent.errors import InputError
from histolatent.images import keep_tiles, open_tiles
from histolatent.images.phantom import PhantomSpec, PhantomTiles


class Counted:
    """Tiles that count how often they are read."""

    name = "counted"

    def __init__(self, tiles, broken=()):
        self.tiles, self.broken, self.reads = tiles, broken, 0
        self.table = pd.DataFrame({"slide": "a"}, index=pd.Index([f"t{i}" for i in range(len(tiles))], name="tile"))

    def read(self, index):
        self.reads += 1
        if index in self.broken:
            raise InputError("broken", received=f"t{index}")
        return self.tiles[index]


def noise(*shapes):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def test_the_tiles_are_the_same_and_read_once(tmp_path):
    tiles = noise((32, 40), (32, 40), (32, 40))
    source = Counted(tiles)
    kept = keep_tiles(source, tmp_path)
    assert source.reads == 3
    assert [np.array_equal(kept.read(i), tile) for i, tile in enumerate(tiles)] == [True] * 3
    pd.testing.assert_frame_equal(kept.table, source.table)
    keep_tiles(source, tmp_path)
    assert source.reads == 3
    assert len(open_tiles(next(tmp_path.glob("tiles-????????????????.npy"))).table) == 3


def test_workers_change_nothing(tmp_path):
    source = PhantomTiles(PhantomSpec(sites=1, tiles_per_site=6, tile_px=32))
    kept = keep_tiles(source, tmp_path, workers=2)
    np.testing.assert_array_equal(kept.read(5), source.read(5))


def test_tiles_of_several_sizes_or_too_many_bytes_are_not_kept(tmp_path):
    several, large = Counted(noise((32, 40), (40, 32))), Counted(noise((32, 40)))
    assert keep_tiles(several, tmp_path) is several
    assert keep_tiles(large, tmp_path, most_bytes=32 * 40 * 3 - 1) is large
    assert list(tmp_path.iterdir()) == []


def test_a_broken_tile_stops_or_is_left_out(tmp_path):
    tiles = noise((32, 40), (32, 40), (32, 40))
    with pytest.raises(InputError, match="broken"):
        keep_tiles(Counted(tiles, broken=(1,)), tmp_path)
    assert list(tmp_path.iterdir()) == []
    kept = keep_tiles(Counted(tiles, broken=(1,)), tmp_path, on_error="skip")
    assert list(kept.table.index) == ["t0", "t2"]
    np.testing.assert_array_equal(kept.read(1), tiles[2])


def test_the_first_tile_may_be_the_broken_one(tmp_path):
    tiles = noise((32, 40), (32, 40), (32, 40), (32, 40))
    kept = keep_tiles(Counted(tiles, broken=(0, 1, 3)), tmp_path, on_error="skip")
    assert list(kept.table.index) == ["t2"]
    np.testing.assert_array_equal(kept.read(0), tiles[2])
