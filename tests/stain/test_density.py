"""Optical density and separation, against the formulas as they are written."""

import numpy as np
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.stain import (
    RUIFROK,
    add_stain,
    concentrations,
    hematoxylin,
    label_nuclei,
    optical_density,
    stain_matrix,
    tissue_mask,
    to_tile,
    white_level,
)

WHITE = np.array([250, 240, 245], np.float32)


@pytest.fixture
def tile() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)


def test_density_is_the_natural_logarithm_and_keeps_its_sign(tile):
    found = optical_density(tile, WHITE)
    np.testing.assert_allclose(found, -np.log(np.maximum(tile, 1) / WHITE), atol=1e-6)
    assert found.dtype == np.float32
    assert found.min() < 0
    assert found[tile == 0].min() > 5


def test_vectors_are_those_of_ruifrok_and_johnston():
    assert RUIFROK["hematoxylin"] == (0.65, 0.70, 0.29)
    assert RUIFROK["eosin"] == (0.07, 0.99, 0.11)
    assert RUIFROK["dab"] == (0.27, 0.57, 0.78)
    matrix = stain_matrix()
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-6)
    for row, name in enumerate(("hematoxylin", "eosin")):
        expected = np.array(RUIFROK[name]) / np.linalg.norm(RUIFROK[name])
        np.testing.assert_allclose(matrix[row], expected, atol=1e-6)
    np.testing.assert_allclose(matrix[:2] @ matrix[2], 0, atol=1e-6)


def test_separation_undoes_mixing(tile):
    amounts = np.random.default_rng(1).gamma(1.0, 0.5, (9, 14, 3)).astype(np.float32)
    density = (amounts.reshape(-1, 3) @ stain_matrix()).reshape(amounts.shape)
    np.testing.assert_allclose(concentrations(density), amounts, atol=1e-5)
    found = optical_density(tile, WHITE)
    back = (concentrations(found).reshape(-1, 3) @ stain_matrix()).reshape(found.shape)
    np.testing.assert_allclose(back, found, atol=1e-5)


@pytest.mark.parametrize(
    ("tile", "white", "error", "said"),
    [
        (np.zeros((4, 4), np.uint8), 240, InputError, "an image must be RGB"),
        (np.zeros((4, 4, 3)), 240, InputError, r"works on uint8 only. Received: float64"),
        (np.zeros((4, 4, 3), np.uint16), 240, InputError, "type of an image is not usable"),
        (np.zeros((4, 4, 3), np.uint8), 0, OptionError, "white is not one or three levels"),
        (np.zeros((4, 4, 3), np.uint8), (240, 240), OptionError, "white is not one or three levels"),
    ],
)
def test_messages(tile, white, error, said):
    with pytest.raises(error, match=said):
        optical_density(tile, white)
    if error is InputError:
        for read in (white_level, hematoxylin, tissue_mask, lambda image: label_nuclei(image, 0.5)):
            with pytest.raises(error, match=said):
                read(tile)


def test_density_and_back_is_the_tile(tile):
    lit = np.maximum(tile, 1)
    np.testing.assert_array_equal(to_tile((WHITE * np.exp(-optical_density(lit, WHITE))).astype(np.float32)), lit)


def test_rounding_is_to_the_nearest_and_stays_in_range():
    assert to_tile(np.array([[[-3.0, 254.6, 300.0]]], np.float32)).tolist() == [[[0, 255, 255]]]
    assert to_tile(np.array([[[0.4, 0.6, 99.5]]], np.float32)).tolist() == [[[0, 1, 100]]]


def test_white_is_the_99th_percentile_but_never_dark():
    tile = np.full((20, 20, 3), (100, 180, 90), np.uint8)
    tile[:2] = (230, 240, 250)
    np.testing.assert_array_equal(white_level(tile), [230, 240, 250])
    np.testing.assert_array_equal(white_level(tile[5:]), [200, 200, 200])
    noise = np.random.default_rng(0).integers(190, 256, (64, 64, 3), dtype=np.uint8)
    oracle = np.percentile(noise.reshape(-1, 3), 99, axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(white_level(noise), oracle)


@pytest.mark.parametrize("stain", [0, 1])
def test_adding_stain_moves_along_its_vector(stain):
    tile = np.full((8, 8, 3), 240, np.uint8)
    amount = np.linspace(-0.05, 1, 64, dtype=np.float32).reshape(8, 8)
    found = add_stain(tile, amount, stain)
    np.testing.assert_array_equal(
        found, np.clip(np.rint(240 * np.exp(-amount[..., None] * stain_matrix()[stain])), 0, 255)
    )
    np.testing.assert_array_equal(add_stain(tile, np.zeros((8, 8), np.float32), stain), tile)
    assert (tile == 240).all()
