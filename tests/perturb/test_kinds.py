"""What each operation promises of its own."""

import io
from itertools import pairwise

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from histolatent.perturb import OPERATIONS, SEVERITIES, climb, perturb
from histolatent.perturb.acquisition import blur, compress
from histolatent.perturb.geometric import flip, rotate
from histolatent.perturb.photometric import brighten
from histolatent.perturb.staining import stain_gain
from histolatent.perturb.tissue import MARGIN_UM
from histolatent.stain import hematoxylin, label_nuclei, optical_density, stain_matrix, tissue_mask, white_level


@pytest.mark.parametrize("which", [1, 2, 3, 4, 5])
def test_mirrors_are_exact_and_undo_themselves(tile, which):
    once = flip(tile, which)
    np.testing.assert_array_equal(flip(once, which), tile)
    assert (once != tile).any()
    np.testing.assert_array_equal(np.sort(once.reshape(-1, 3), axis=0), np.sort(tile.reshape(-1, 3), axis=0))


def test_each_mirror_is_the_one_it_says(tile):
    oracle = [
        tile[:, ::-1],
        tile[::-1],
        np.transpose(tile, (1, 0, 2)),
        np.rot90(tile, 2).transpose(1, 0, 2),
        np.rot90(tile, 2),
    ]
    for severity, expected in zip(SEVERITIES, oracle, strict=True):
        np.testing.assert_array_equal(perturb(tile, "flip", severity, tile_id="t"), expected)


@pytest.mark.parametrize("which", [1, 2, 3, 4, 5])
def test_mirrors_of_oblong_tiles_keep_every_pixel(which):
    oblong = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    once = flip(oblong, which)
    assert once.shape == oblong.shape
    np.testing.assert_array_equal(flip(once, which), oblong)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_right_angles_against_numpy(tile, degrees, turns):
    found = rotate(tile, degrees)
    np.testing.assert_allclose(found[1:-1, 1:-1], np.rot90(tile, turns)[1:-1, 1:-1], atol=1)


def test_free_angles_against_scipy(tile):
    smooth = np.asarray(cv2.GaussianBlur(tile, (0, 0), 2.0))
    found = rotate(smooth, 20.0)
    oracle = ndimage.rotate(smooth.astype(float), 20.0, axes=(0, 1), reshape=False, order=3, mode="nearest")
    inner = slice(24, 72)
    assert np.abs(found[inner, inner] - oracle[inner, inner]).mean() < 1.0


def test_corners_are_filled_with_the_white_of_the_slide(tile):
    white = white_level(tile)
    assert white.min() > 200
    turned = rotate(tile, 45.0)
    for corner in (turned[:5, :5], turned[:5, -5:], turned[-5:, :5], turned[-5:, -5:]):
        np.testing.assert_allclose(corner.reshape(-1, 3), np.tile(white, (25, 1)), atol=1)


def test_rotation_turns_either_way(tile):
    found = {perturb(tile, "rotation", 5, tile_id=str(i)).tobytes() for i in range(12)}
    assert found == {rotate(tile, 45.0).tobytes(), rotate(tile, -45.0).tobytes()}


def test_there_and_back_is_closer_than_there(tile):
    there, back = (perturb(tile, name, 3, tile_id="t") for name in ("rotation", "rotation-there-and-back"))
    inner = slice(24, 72)
    change = [np.abs(view[inner, inner].astype(int) - tile[inner, inner]).mean() for view in (there, back)]
    assert change[1] < 0.5 * change[0]


@pytest.mark.parametrize("factor", [0.7, 0.95, 1.3])
def test_brightness_multiplies(tile, factor):
    np.testing.assert_array_equal(brighten(tile, factor), np.clip(np.rint(tile * factor), 0, 255))


@pytest.mark.parametrize(("sigma_um", "mpp"), [(1.0, 0.5), (1.0, 0.25), (0.5, 0.25)])
def test_blur_is_as_wide_as_it_says(sigma_um, mpp):
    edge = np.zeros((81, 81, 3), np.uint8)
    edge[:, 40:] = 250
    slope = np.diff(blur(edge, sigma_um, mpp)[40, :, 0].astype(float))
    places = np.arange(len(slope))
    mean = (slope * places).sum() / slope.sum()
    sigma_px = np.sqrt((slope * (places - mean) ** 2).sum() / slope.sum())
    assert sigma_px == pytest.approx(sigma_um / mpp, rel=0.05)


def test_blur_in_um_scales_with_mpp(tile):
    np.testing.assert_array_equal(
        perturb(tile, "blur", 5, tile_id="t", mpp=1.0), perturb(tile, "blur", 3, tile_id="t", mpp=0.5)
    )
    fine, coarse = (perturb(tile, "blur", 3, tile_id="t", mpp=mpp).std() for mpp in (0.25, 1.0))
    assert fine < coarse < tile.std()


@pytest.mark.parametrize("quality", [50, 7])
def test_jpeg_against_pillow(tile, quality):
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    oracle = np.asarray(Image.open(buffer)).astype(int)
    found = compress(tile, quality)
    assert np.abs(found - oracle).mean() < 0.35 * np.abs(tile - oracle).mean()


@pytest.mark.parametrize(("stain", "name"), [(0, "hematoxylin-gain"), (1, "eosin-gain")])
def test_gains_move_along_their_stain_only(tile, stain, name):
    white = white_level(tile)
    before = optical_density(tile, white)
    for factor in OPERATIONS[name].levels[2:]:
        after = optical_density(stain_gain(tile, stain)(factor), white)
        change = (after - before).reshape(-1, 3)
        bright = tile.reshape(-1, 3).min(axis=1) > 60  # rounding to uint8 is coarse in the dark
        moved = (np.abs(change).max(axis=1) > 0.05) & bright
        assert moved.sum() > 100
        vector = stain_matrix()[stain]
        along = change[moved] @ vector
        assert (along > 0).all()
        away = np.linalg.norm(change[moved] - along[:, None] * vector, axis=1)
        assert np.median(away / along) < 0.1


def test_a_gain_is_the_factor_on_the_concentration(tile):
    from histolatent.stain import concentrations

    white = white_level(tile)
    before = concentrations(optical_density(tile, white))[..., 0]
    after = concentrations(optical_density(stain_gain(tile, 0)(1.5), white))[..., 0]
    strong = (before > 0.3) & (after < 1.5)
    assert strong.sum() > 200
    assert np.median(after[strong] / before[strong]) == pytest.approx(1.5, abs=0.03)


@pytest.mark.parametrize("name", ["hematoxylin-gain", "eosin-gain"])
def test_gains_keep_the_background(name):
    tile = np.full((40, 40, 3), 243, np.uint8)
    tile[10:20, 10:20] = (120, 60, 150)
    after = perturb(tile, name, 5, tile_id="t")
    outside = np.ones((40, 40), bool)
    outside[10:20, 10:20] = False
    np.testing.assert_array_equal(after[outside], tile[outside])
    assert (after[~outside] < tile[~outside]).all()


def test_erasing_nuclei_takes_hematoxylin_from_nuclei_and_leaves_the_rest(tile):
    mpp = 0.5
    count, labels = label_nuclei(tile, mpp)
    assert count > 5
    after = perturb(tile, "nuclei-erased", 5, tile_id="t", mpp=mpp)
    inside = labels > 0
    before_h, after_h = hematoxylin(tile)[inside].mean(), hematoxylin(after)[inside].mean()
    around = hematoxylin(tile)[~inside & tissue_mask(tile)].mean()
    assert after_h < before_h - 0.7 * (before_h - around)
    # Margin, then a soft edge of three sigmas.
    reach = round(MARGIN_UM / mpp) + int(np.ceil(4 * max(0.5 / mpp, 0.5))) + 1
    far = ndimage.distance_transform_edt(~inside) > reach
    assert far.any()
    np.testing.assert_array_equal(after[far], tile[far])


def test_severities_of_erasing_are_nested(tile):
    views = climb(tile, "nuclei-erased", tile_id="t", mpp=0.5)
    _, labels = label_nuclei(tile, 0.5)
    nuclei = np.unique(labels[labels > 0])
    gone: list[set[int]] = []
    for view in views:
        changed = (view != tile).any(axis=2)
        gone.append({int(nucleus) for nucleus in nuclei if changed[labels == nucleus].mean() > 0.97})
    for fewer, more in pairwise(gone):
        assert fewer <= more
        assert len(fewer) < len(more)
    assert gone[-1] == set(nuclei.tolist())


def test_without_nuclei_nothing_is_erased():
    pink = np.full((64, 64, 3), (230, 120, 160), np.uint8)
    assert label_nuclei(pink, 0.5)[0] == 0
    np.testing.assert_array_equal(perturb(pink, "nuclei-erased", 5, tile_id="t"), pink)
