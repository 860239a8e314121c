"""Colour spaces against scikit-image and the formulas; Reinhard's method against torchstain."""

import numpy as np
import pytest
from skimage.color import rgb2lab
from torchstain.numpy.normalizers import NumpyReinhardNormalizer

from histolatent.stain import ColourModel, colour_change, fit_colour_samples, recolour, sample_pixels
from histolatent.stain.colour import SPACES, shift_in_space, to_space

COLOURS = (
    np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3, indexing="ij"), axis=-1).reshape(18, -1, 3).astype(np.uint8)
)


def ruderman(levels: np.ndarray) -> np.ndarray:
    """Ruderman et al. 1998 as in Reinhard et al. 2001, on levels of at least 1 in each cone."""
    cones = levels @ np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]).T
    x, y, z = np.moveaxis(np.log10(np.maximum(cones, 1)), -1, 0)
    return np.stack([(x + y + z) / np.sqrt(3), (x + y - 2 * z) / np.sqrt(6), (x - y) / np.sqrt(2)], axis=-1)


def test_lab_is_scikit_images():
    # scikit-image rounds the white point to five digits: 0.02 of 100.
    np.testing.assert_allclose(to_space(COLOURS, "lab"), rgb2lab(COLOURS), atol=0.02)


def test_ruderman_is_the_formula():
    np.testing.assert_allclose(to_space(COLOURS, "ruderman"), ruderman(COLOURS.astype(float)), atol=2e-5)


@pytest.mark.parametrize("space", [*SPACES])
def test_float_levels_are_the_same_colours(space):
    np.testing.assert_allclose(to_space(COLOURS.astype(np.float32), space), to_space(COLOURS, space), atol=2e-3)


@pytest.mark.parametrize("space", [*SPACES])
def test_no_shift_changes_nothing(space):
    levels = COLOURS.astype(np.float32)
    back = shift_in_space(levels, space, np.ones(3), np.zeros(3))
    # Ruderman's logarithm is cut at 1: only there black is not itself.
    usable = (
        np.ones(levels.shape[:2], bool)
        if space == "lab"
        else (levels @ [[0.0241], [0.1288], [0.8444]]).squeeze(-1) > 1.2
    )
    usable &= (levels @ [[0.3811], [0.5783], [0.0402]]).squeeze(-1) > 1.2
    np.testing.assert_allclose(back[usable], levels[usable], atol=0.02)


@pytest.mark.parametrize("space", [*SPACES])
def test_a_shift_is_an_affine_change_in_the_space(space):
    """Where the changed colour is inside the gamut, it has the changed components."""
    levels = np.random.default_rng(0).integers(90, 170, (20, 30, 3)).astype(np.float32)
    scale = np.array([0.9, 1.1, 0.8])
    shift = np.array([6.0, 3.0, -2.0]) * (1 if space == "lab" else 0.01)
    moved = shift_in_space(levels, space, scale, shift)
    assert moved.min() > 1
    assert moved.max() < 255
    expected = scale * to_space(levels, space) + shift
    np.testing.assert_allclose(to_space(moved, space), expected, atol=2e-4 * SPACES[space])


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (6.0, 3.0, -2.0), (-30.0, 20.0, 20.0), (60.0, -60.0, -90.0)])
def test_levels_of_8_bits_are_changed_as_floats_are(shift):
    """By tables to a level, and by the formulas where colours leave the tables, as those of the last shift do."""
    change = "lab", np.array([0.9, 1.1, 1.3]), np.array(shift)
    exact = shift_in_space(COLOURS.astype(np.float32), *change)
    np.testing.assert_allclose(np.minimum(shift_in_space(COLOURS, *change), 255), np.minimum(exact, 255), atol=0.8)


def whole(image: np.ndarray, space: str) -> ColourModel:
    """Fit to all pixels, as the peers do."""
    return fit_colour_samples([sample_pixels(image, np.ones(image.shape[:2], bool), limit=None)], space, white=255)


def torchstain_difference(image: np.ndarray, target: np.ndarray, method: str | None) -> int:
    peer = NumpyReinhardNormalizer(method)
    peer.fit(target)
    fits = whole(image, "lab"), whole(target, "lab")
    # The peer keeps L from 0 to 100 in its statistics.
    np.testing.assert_allclose(fits[1].mean, peer.target_means, atol=0.02)
    np.testing.assert_allclose(fits[1].sd, peer.target_stds, atol=0.02)
    ours = recolour(image, colour_change(*fits, modified=method == "modified", background="map"))
    return int(np.abs(ours.astype(int) - peer.normalize(image.copy())).max())


@pytest.mark.parametrize("method", [None, "modified"])
def test_reinhard_is_torchstains(tiles, others, method):
    """The peer truncates, ours rounds: at most one level."""
    assert torchstain_difference(tiles[0], others[0], method) <= 1
    assert torchstain_difference(others[1], tiles[2], method) <= 1


@pytest.mark.data
@pytest.mark.parametrize("method", [None, "modified"])
def test_reinhard_is_torchstains_on_real_images(pair, method):
    assert torchstain_difference(*pair, method) <= 1


@pytest.mark.parametrize("space", [*SPACES])
def test_mean_and_spread_come_out_as_the_references(tiles, others, space):
    fits = whole(others[0], space), whole(tiles[0], space)
    made = recolour(others[0].astype(np.float64) / 255, colour_change(*fits, background="map"))
    components = to_space((made * 255).astype(np.float32), space).reshape(-1, 3)
    inside = ((made > 0.001) & (made < 0.999)).all(axis=2).mean()
    assert inside > 0.8
    np.testing.assert_allclose(components.mean(axis=0), fits[1].mean, atol=0.02 * SPACES[space])
