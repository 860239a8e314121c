"""Finding nuclei, against the annotations of the phantom, which shares no code with it."""

import numpy as np
import pytest

from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.stain import hematoxylin, label_nuclei, tissue_mask


def count_hits(tiles: PhantomTiles, indices: range) -> tuple[float, float]:
    """Return recall (true centres that lie in an object) and precision (objects with a true centre)."""
    true = hit = found = matched = 0
    for index in indices:
        drawn = tiles.draw(index)
        count, labels = label_nuclei(drawn.pixels, tiles.spec.mpp)
        centres = drawn.annotations[drawn.annotations["kind"] != "apoptotic body"]
        at = labels[centres["y"].astype(int), centres["x"].astype(int)]
        true, hit, found = true + len(at), hit + int((at > 0).sum()), found + count
        matched += len(set(at[at > 0].tolist()))
    return hit / true, matched / found


@pytest.mark.parametrize(("tile_px", "mpp"), [(96, 0.5), (192, 0.25)])
def test_nuclei_of_the_phantom_are_found_at_two_scales(tile_px, mpp):
    # Touching nuclei and those cut by the border are what is lost.
    tiles = PhantomTiles(PhantomSpec(sites=3, tiles_per_site=24, tile_px=tile_px, mpp=mpp, seed=9))
    recall, precision = count_hits(tiles, range(0, 72, 4))
    assert recall > 0.78
    assert precision > 0.78


def test_nuclei_are_found_in_dark_tissue_and_in_pale():
    """Beside a few nuclei that are far darker, and in a cytoplasm as blue as other tiles' nuclei."""
    y, x = np.mgrid[0:120, 0:120]
    centres = [(row, column) for row in (20, 60, 100) for column in (20, 60, 100)]
    for ground, nucleus in (((225, 190, 215), (170, 130, 190)), ((120, 90, 160), (85, 60, 130))):
        tile = np.full((120, 120, 3), ground, np.uint8)
        for place, (row, column) in enumerate(centres):
            tile[(y - row) ** 2 + (x - column) ** 2 < 7**2] = (30, 20, 60) if place < 2 else nucleus
        count, labels = label_nuclei(tile, 0.5)
        assert {int(labels[centre]) for centre in centres} == set(range(1, 10)) and count == 9


def test_a_wrong_scale_is_noticed():
    tiles = PhantomTiles(PhantomSpec(sites=1, tiles_per_site=24, seed=9))
    counts = [sum(label_nuclei(tiles.read(i), mpp)[0] for i in range(0, 24, 4)) for mpp in (0.5, 0.1)]
    assert counts[1] < 0.5 * counts[0]


def test_labels_are_numbered_without_a_gap():
    tile = PhantomTiles(PhantomSpec(sites=1, tiles_per_site=24, seed=2)).read(3)
    count, labels = label_nuclei(tile, 0.5)
    assert count > 3
    assert np.unique(labels).tolist() == list(range(count + 1))
    areas = np.bincount(labels.ravel())[1:] * 0.25
    assert areas.min() >= 8
    assert areas.max() <= 400


def test_discs_are_counted():
    tile = np.full((120, 120, 3), (225, 170, 200), np.uint8)
    y, x = np.mgrid[0:120, 0:120]
    centres = [(20, 20), (20, 60), (60, 100), (95, 40), (100, 100)]
    for row, column in centres:
        tile[(y - row) ** 2 + (x - column) ** 2 < 7**2] = (110, 70, 150)
    count, labels = label_nuclei(tile, 0.5)
    assert count == 5
    assert {int(labels[row, column]) for row, column in centres} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (230, 120, 160)])
@pytest.mark.parametrize("side", [1, 7, 64])
def test_one_colour_has_no_nuclei(colour, side):
    tile = np.full((side, side, 3), colour, np.uint8)
    count, labels = label_nuclei(tile, 0.5)
    assert count == 0
    assert not labels.any()
    assert (hematoxylin(tile) >= 0).all()


def test_tissue_is_what_is_dark():
    tile = np.full((10, 10, 3), 245, np.uint8)
    tile[3:6, 2:8] = (180, 110, 160)
    mask = tissue_mask(tile)
    assert mask.sum() == 18
    assert mask[3:6, 2:8].all()
