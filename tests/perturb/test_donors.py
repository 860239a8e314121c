"""The tissue swap: where another tissue comes from, and what of it arrives."""

import numpy as np
import pytest

from histolatent.perturb import Donor, climb, perturb
from histolatent.perturb.donors import architecture, choose_donor, drawn_donors
from histolatent.perturb.glass import slide_white
from histolatent.stain import tissue_mask


@pytest.fixture(scope="module")
def kinds(phantom) -> dict[str, Donor]:
    labels = list(phantom.table["label"])
    return {label: Donor(phantom.read(labels.index(label)), 0.5, label) for label in dict.fromkeys(labels)}


def test_drawn_donors_are_one_of_each_tissue():
    donors = drawn_donors()
    assert len(donors) >= 4
    assert len({donor.name for donor in donors}) == len(donors)
    assert drawn_donors() is donors


def test_the_tissue_of_the_donor_arrives_and_the_tile_is_gone(tile, kinds):
    found = perturb(tile, "tissue-swap", 5, tile_id="t", mpp=0.5, donors=(kinds["mucosa"],))
    grey, donor, own = (x.astype(float).mean(axis=2) for x in (found, kinds["mucosa"].pixels, tile))
    assert np.corrcoef(grey.ravel(), donor.ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(grey.ravel(), own.ravel())[0, 1]) < 0.4


def test_it_comes_in_the_light_and_colours_of_the_tile(tile, kinds):
    dim = np.rint(tile * [0.8, 0.75, 0.85]).astype(np.uint8)
    found = perturb(dim, "tissue-swap", 5, tile_id="t", mpp=0.5, donors=(kinds["lymphoid"],))
    means = [view[tissue_mask(view)].mean(axis=0) for view in (dim, found, kinds["lymphoid"].pixels)]
    assert np.abs(means[1] - means[0]).max() < 0.5 * np.abs(means[2] - means[0]).max()
    assert np.abs(slide_white(found) - slide_white(dim)).max() < 15


def test_the_share_is_that_of_the_area(tile, kinds):
    for share, view in zip((0.1, 0.25, 0.5, 0.75, 1.0), climb(tile, "tissue-swap", tile_id="t", mpp=0.5), strict=True):
        changed = (view != tile).any(axis=2).mean()
        assert changed == pytest.approx(share, abs=0.09)


def test_the_donor_is_of_another_kind(kinds):
    tile = kinds["lymphoid"]
    near = Donor(np.ascontiguousarray(tile.pixels[:, ::-1]), 0.5, "the same, mirrored")
    others = (near, kinds["stroma"])
    for number in range(6):
        drawn = choose_donor(tile.pixels, others, 0.5, np.random.default_rng(number))
        apart = [np.abs(architecture(x, 0.5) - tile.architecture).sum() for x in (drawn, near.pixels)]
        assert apart[0] > apart[1]


def test_glass_is_no_donor(tile, kinds):
    glass = Donor(np.full((96, 96, 3), 244, np.uint8), 0.5)
    assert glass.tissue == 0
    for number in range(6):
        drawn = choose_donor(tile, (glass, kinds["mucosa"]), 0.5, np.random.default_rng(number))
        assert tissue_mask(drawn).mean() > 0.3
    # Where there is nothing else, glass it is.
    assert (choose_donor(tile, (glass,), 0.5, np.random.default_rng(0)) > 200).all()


def test_a_donor_of_another_scale_is_brought_to_that_of_the_tile():
    rows = np.mgrid[:128, :128][1]
    stripes = np.where((rows // 8) % 2, 90, 200).astype(np.uint8)[..., None].repeat(3, axis=2)
    donor = (Donor(stripes, 1.0),)
    fine = choose_donor(np.full((64, 64, 3), 150, np.uint8), donor, 0.5, np.random.default_rng(0)).astype(int)
    crossings = np.abs(np.diff((fine[32, :, 0] > fine[32, :, 0].mean()).astype(int))).sum()
    assert crossings == pytest.approx(64 / 16, abs=1)  # stripes of 8 um are 16 px at 0.5 um per pixel


@pytest.mark.parametrize("shape", [(16, 300), (300, 16), (1, 1), (2, 1), (513, 40)])
def test_any_shape_is_filled(shape, kinds):
    tile = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert choose_donor(tile, (kinds["mucosa"],), 0.5, np.random.default_rng(0)).shape == tile.shape
