"""Donors of an audit: which tiles, in which order, and only where something needs them."""

import numpy as np
import pytest

from histolatent.audit.donors import DONORS, find_donors
from histolatent.errors import InputError
from histolatent.images import open_tiles
from histolatent.perturb import suite

NEEDS, NOT = suite("must-react"), suite("quick")


@pytest.fixture(scope="module")
def source():
    return open_tiles("phantom:sites=2,patients=4,slides=1,tiles_per_site=24,tile_px=64")


def test_without_a_swap_no_tile_is_read(source, monkeypatch):
    monkeypatch.setattr(type(source), "read", lambda self, index: pytest.fail("it was read"))
    assert find_donors(source, NOT, seed=0, mpp=None) == ()


def test_they_are_drawn_by_the_seed_from_every_label(source):
    found = find_donors(source, NEEDS, seed=1, mpp=None)
    assert len(found) == DONORS
    labels = {str(source.table.loc[donor.name, "label"]) for donor in found}
    assert len(labels) >= 4  # mucosa is mostly glass here
    assert [donor.name for donor in find_donors(source, NEEDS, seed=1, mpp=None)] == [donor.name for donor in found]
    assert [donor.name for donor in find_donors(source, NEEDS, seed=2, mpp=None)] != [donor.name for donor in found]
    assert all(donor.tissue >= 0.5 and donor.mpp == 0.5 for donor in found)
    index = list(source.table.index).index(found[0].name)
    np.testing.assert_array_equal(found[0].pixels, source.read(index))


def test_broken_tiles_are_passed_over(source, monkeypatch):
    first = find_donors(source, NEEDS, seed=1, mpp=None)[0].name
    read, broken = type(source).read, list(source.table.index).index(first)

    def reads(self, index):
        if index == broken:
            raise InputError("broken")
        return read(self, index)

    monkeypatch.setattr(type(source), "read", reads)
    found = find_donors(source, NEEDS, seed=1, mpp=None)
    assert len(found) == DONORS and first not in {donor.name for donor in found}


def test_the_scale_is_the_tables_else_the_assumed_one(tmp_path):
    np.save(tmp_path / "tiles.npy", np.stack([open_tiles("phantom:tile_px=64").read(i) for i in range(12)]))
    bare = open_tiles(tmp_path / "tiles.npy")
    assert {donor.mpp for donor in find_donors(bare, NEEDS, seed=0, mpp=0.25)} == {0.25}
    assert {donor.mpp for donor in find_donors(bare, NEEDS, seed=0, mpp=None)} == {0.5}
