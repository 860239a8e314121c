"""Occlusion maps: a loop as reference, encoders that look at one place, limits, messages."""

import numpy as np
import pytest

from histolatent.audit.displacement import cosine_distances
from histolatent.audit.sensitivity import sensitivity_map
from histolatent.encoders.toys import repeat_constant, summarise_optical_density
from histolatent.errors import EncoderError, InputError, OptionError


def tile(height: int = 60, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def heat(encode, image: np.ndarray | None = None, **options):
    image = tile() if image is None else image
    return sensitivity_map(encode, image, **{"mpp": 1.0, "patch_um": 12.0, "null_median": 0.5} | options)


def quadrant(tiles: np.ndarray) -> np.ndarray:
    """Sees 20 x 16 pixels of one corner, each for itself."""
    return tiles[:, :20, :16].reshape(len(tiles), -1).astype(np.float32)


def test_against_a_loop():
    image = tile()
    total, cover = np.zeros((60, 48)), np.zeros((60, 48))
    whole = summarise_optical_density(image[None])
    for top in (0, 6, 12, 18, 24, 30, 36, 42, 48):
        for left in (0, 6, 12, 18, 24, 30, 36):
            window = np.zeros((60, 48), bool)
            window[max(top - 12, 0) : top + 24, max(left - 12, 0) : left + 24] = True
            window[top : top + 12, left : left + 12] = False
            other = image.copy()
            other[top : top + 12, left : left + 12] = np.rint(image[window].mean(axis=0))
            moved = cosine_distances(whole, summarise_optical_density(other[None]))[0] / 0.5
            total[top : top + 12, left : left + 12] += moved
            cover[top : top + 12, left : left + 12] += 1
    found = heat(summarise_optical_density)
    np.testing.assert_allclose(found.heat, total / cover, rtol=1e-5)
    assert (found.patches, found.patch_px) == (63, 12)
    assert found.heat.dtype == np.float32


def test_heat_is_where_the_encoder_looks():
    found = heat(quadrant)
    assert (found.heat[:20, :16] > 0).all()
    assert (found.heat[32:] == 0).all() and (found.heat[:, 28:] == 0).all()  # a patch further away
    assert found.concentration(0.2) > 0.8
    assert found.largest >= found.heat.max()


def test_a_finer_patch_sees_finer():
    spread = [(heat(quadrant, patch_um=um).heat > 0).sum() for um in (12.0, 6.0, 2.0)]
    assert (np.diff(spread) < 0).all()
    same = heat(quadrant, mpp=0.5, patch_um=6.0)
    np.testing.assert_array_equal(same.heat, heat(quadrant).heat)  # the same patch in pixels


def test_limits():
    assert (heat(repeat_constant).heat == 0).all()
    assert np.isnan(heat(repeat_constant).concentration())
    even = np.full((60, 48, 3), 137, np.uint8)
    assert (heat(quadrant, even).heat == 0).all()
    np.testing.assert_allclose(heat(quadrant, null_median=0.25).heat, 2 * heat(quadrant).heat, rtol=1e-6)


def test_the_batch_and_the_tile_do_not_change():
    image = tile()
    kept = image.copy()

    def vandal(tiles: np.ndarray) -> np.ndarray:
        vectors = quadrant(tiles)
        tiles[:] = 0
        return vectors

    np.testing.assert_array_equal(heat(vandal, image).heat, heat(quadrant, kept).heat)
    np.testing.assert_array_equal(image, kept)
    np.testing.assert_allclose(heat(quadrant, batch=1).heat, heat(quadrant, batch=50).heat, rtol=1e-6)


def test_turning_the_tile_turns_the_map():
    square = tile(48, 48)
    plain, turned = (heat(summarise_optical_density, image) for image in (square, np.rot90(square).copy()))
    np.testing.assert_allclose(np.rot90(plain.heat), turned.heat, rtol=1e-4)


def test_messages():
    with pytest.raises(OptionError, match=r"not fit the tile. Received: 12 um at 0.1 um per pixel is 120 px"):
        heat(quadrant, mpp=0.1)
    with pytest.raises(OptionError, match=r"patch does not fit the tile"):
        heat(quadrant, mpp=0.0)
    with pytest.raises(OptionError, match=r"null is not positive.*Received: 0"):
        heat(quadrant, null_median=0.0)
    with pytest.raises(OptionError, match=r"batch is empty"):
        heat(quadrant, batch=0)
    with pytest.raises(InputError, match=r"must be RGB, channels last. Received: \(60, 48\)"):
        heat(quadrant, tile()[..., 0])
    with pytest.raises(EncoderError, match=r"a finite row for each tile. Received: shape \(1, 960\) for 32 tiles"):
        heat(lambda tiles: quadrant(tiles)[:1])
    with pytest.raises(EncoderError, match=r"a finite row for each tile"):
        heat(lambda tiles: np.full((len(tiles), 3), np.nan))
    with pytest.raises(EncoderError, match=r"changes its dimension. Received: \(1, 32\)"):
        heat(lambda tiles: np.ones((len(tiles), len(tiles))))
