"""The white of the slide."""

import numpy as np
import pytest

from histolatent.perturb.glass import slide_white
from histolatent.stain import white_level


def test_where_there_is_bright_glass_it_is_the_stain_rooms(tile):
    assert white_level(tile).min() > 200
    np.testing.assert_array_equal(slide_white(tile), white_level(tile))


@pytest.mark.parametrize("glass", [(188, 195, 180), (150, 150, 160)])
def test_dim_glass_is_found(tile, glass):
    both = np.hstack([np.rint(tile * 0.6).astype(np.uint8), np.full((96, 30, 3), glass, np.uint8)])
    both[:, 96:] += np.random.default_rng(0).integers(0, 4, (96, 30, 1), dtype=np.uint8)
    assert white_level(both).min() == 200
    np.testing.assert_allclose(slide_white(both), glass, atol=3)


@pytest.mark.parametrize("colour", [(120, 60, 150), (200, 110, 160), (20, 20, 20)])
def test_tissue_and_black_are_no_glass(colour):
    flat = np.full((40, 40, 3), colour, np.uint8)
    np.testing.assert_array_equal(slide_white(flat), white_level(flat))


def test_rough_grey_tissue_is_no_glass():
    rough = np.random.default_rng(0).integers(120, 190, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    np.testing.assert_array_equal(slide_white(rough), white_level(rough))
