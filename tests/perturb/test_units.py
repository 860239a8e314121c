"""A level is what its unit says: measured on tiles where it can be measured."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from histolatent.images import decode
from histolatent.perturb import OPERATIONS, SEVERITIES, climb, perturb
from histolatent.perturb.acquisition import defocus, pixelate, smear, vignette
from histolatent.perturb.geometric import magnify, quarter_turn, resample, rotate, shear, translate
from histolatent.perturb.glass import slide_white
from histolatent.perturb.photometric import bend_tone, change_contrast, saturate, shift_white, turn_hue
from histolatent.perturb.staining import in_state, restain
from histolatent.stain import (
    ProtocolState,
    concentrations,
    fit_tile,
    hematoxylin,
    label_nuclei,
    optical_density,
    shipped_reference,
    tissue_mask,
)


def impulse(side: int = 101) -> np.ndarray:
    tile = np.zeros((side, side, 3), np.uint8)
    tile[side // 2, side // 2] = 255
    return tile


def spread_px(tile: np.ndarray) -> tuple[float, float]:
    """Standard deviation along x and y of the light of a tile."""
    light = tile[..., 0].astype(float)
    y, x = np.mgrid[: tile.shape[0], : tile.shape[1]]
    total = light.sum()
    at = (light * x).sum() / total, (light * y).sum() / total
    return tuple(float(np.sqrt((light * (axis - c) ** 2).sum() / total)) for axis, c in zip((x, y), at, strict=True))


def blob(x: float, y: float, side: int = 128, sigma: float = 4.0) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    dark = 150 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(240 - dark)[..., None], 3, axis=2).astype(np.uint8)


def place(tile: np.ndarray) -> np.ndarray:
    """Where the dark blob is, x and y, from the centre of the tile."""
    dark = np.clip(238.0 - tile[..., 0], 0, None)
    rows, columns = np.mgrid[: tile.shape[0], : tile.shape[1]]
    middle = (np.array(tile.shape[1::-1]) - 1) / 2
    return np.array([(dark * columns).sum(), (dark * rows).sum()]) / dark.sum() - middle


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_blur_is_a_gaussian_of_that_sigma(severity, mpp):
    sigma_px = OPERATIONS["blur"].levels[severity - 1] / mpp
    step = np.zeros((61, 61, 3), np.uint8)
    step[:, 30:] = 255
    slope = np.diff(perturb(step, "blur", severity, tile_id="t", mpp=mpp)[30, :, 0].astype(float))
    at = np.arange(len(slope))
    mean = (at * slope).sum() / slope.sum()
    assert np.sqrt(((at - mean) ** 2 * slope).sum() / slope.sum()) == pytest.approx(sigma_px, rel=0.05, abs=0.06)


@pytest.mark.parametrize(("radius_um", "mpp"), [(2.0, 0.5), (3.0, 0.5), (3.0, 0.25)])
def test_defocus_is_a_disk_of_that_radius(radius_um, mpp):
    area = float((defocus(impulse(), radius_um, mpp) > 0).any(axis=2).sum())
    assert np.sqrt(area / np.pi) == pytest.approx(radius_um / mpp, abs=0.7)


@pytest.mark.parametrize("length_um", [4.0, 6.0])
def test_motion_blur_is_a_line_of_that_length(length_um):
    along, across = spread_px(smear(impulse(), length_um, 0.5, 0.0))
    assert along * np.sqrt(12) == pytest.approx(length_um / 0.5, rel=0.1)  # of a box, length / sqrt(12)
    assert across < 0.5


@pytest.mark.parametrize("degrees", [5.0, 20.0, 45.0])
def test_rotation_turns_by_that_angle_counterclockwise(degrees):
    found = place(rotate(blob(94, 63.5), degrees))
    assert np.degrees(np.arctan2(-found[1], found[0])) == pytest.approx(degrees, abs=0.7)
    assert np.hypot(*found) == pytest.approx(30.5, abs=0.4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_translation_is_a_shift_of_that_length(severity):
    um = OPERATIONS["translation"].levels[severity - 1]
    found = place(perturb(blob(63.5, 63.5), "translation", severity, tile_id="t", mpp=0.5))
    assert np.hypot(*found) * 0.5 == pytest.approx(um, abs=0.5)


def test_translation_is_exact_and_white_comes_in():
    tile = np.random.default_rng(0).integers(0, 220, (20, 30, 3), dtype=np.uint8)
    moved = translate(tile, 4, -3)
    np.testing.assert_array_equal(moved[:-3, 4:], tile[3:, :-4])
    np.testing.assert_array_equal(moved[-3:], np.broadcast_to(slide_white(tile), (3, 30, 3)).round())
    assert (translate(tile, 99, 0) == slide_white(tile).round()).all()


@pytest.mark.parametrize("factor", [1.05, 1.5, 0.95, 0.6])
def test_scale_is_that_magnification(factor):
    found = place(magnify(blob(90, 50), factor))
    np.testing.assert_allclose(found, factor * np.array([26.5, -13.5]), atol=0.6)


@pytest.mark.parametrize("degrees", [4.0, 16.0, -8.0])
def test_shear_leans_by_that_angle(degrees):
    found = place(shear(blob(63.5, 90), degrees)) - np.array([0.0, 26.5])
    assert np.degrees(np.arctan2(found[0], 26.5)) == pytest.approx(degrees, abs=0.5)
    assert found[1] == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("which", [1, 2, 3, 4, 5])
def test_quarter_turns_against_numpy(tile, which):
    mirrored = tile[:, ::-1]
    oracle = [np.rot90(tile, 1), np.rot90(tile, 2), np.rot90(tile, 3), np.rot90(mirrored, 1), np.rot90(mirrored, 3)]
    np.testing.assert_array_equal(quarter_turn(tile, which), oracle[which - 1])


def test_the_eight_right_angles_and_mirrors_are_all_different(tile):
    views = [view.tobytes() for name in ("flip", "quarter-turn") for view in climb(tile, name, tile_id="t")]
    # Ten variants; the half turn is in both, and two mirrored turns are the mirrors about the diagonals.
    assert len(set(views)) == 7


def test_elastic_moves_by_that_root_mean_square():
    ramp = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (256, 1))[..., None], 3, axis=2)
    for severity in (3, 5):
        moved = perturb(ramp, "elastic", severity, tile_id="t", mpp=0.5)[20:-20, 20:-20, 0].astype(float)
        shift_px = moved - ramp[20:-20, 20:-20, 0]  # the x part only: half of the square
        um = np.sqrt(2 * np.mean(shift_px**2)) * 0.5
        assert um == pytest.approx(OPERATIONS["elastic"].levels[severity - 1], rel=0.4)


def test_elastic_severities_are_one_field():
    ramp = np.repeat(np.tile(np.arange(128, dtype=np.uint8), (128, 1))[..., None], 3, axis=2)
    one, two = (
        perturb(ramp, OPERATIONS["elastic"].at((1.0, 2.0, 3.0, 4.0, 5.0)), severity, tile_id="t", mpp=0.5).astype(float)
        for severity in (2, 4)
    )
    inner = slice(30, -30)
    np.testing.assert_allclose((two - ramp)[inner, inner], 2 * (one - ramp)[inner, inner], atol=1.6)


def test_resampling_moves_nothing():
    for pixels in OPERATIONS["resampling"].levels:
        np.testing.assert_allclose(place(resample(blob(80, 50), pixels)), [16.5, -13.5], atol=0.1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_of_that_quality(severity):
    tile = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    quality = int(OPERATIONS["jpeg"].levels[severity - 1])
    found = perturb(tile, "jpeg", severity, tile_id="t").astype(int)

    def pillow(at: int) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "JPEG", quality=at, subsampling="4:2:0")
        return np.asarray(Image.open(buffer)).astype(int)

    apart = {at: np.abs(pillow(at) - found).mean() for at in (quality - 4, quality, quality + 4)}
    assert min(apart, key=lambda at: apart[at]) == quality


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_that_standard_deviation_at_white(severity):
    level = OPERATIONS["noise"].levels[severity - 1]
    tile = np.full((128, 128, 3), 160, np.uint8)
    tile[:, 64:] = 60
    found = perturb(tile, "noise", severity, tile_id="t").astype(float)
    assert found[:, :64].std() == pytest.approx(level, rel=0.05, abs=0.1)
    share = np.sqrt(0.1 + 0.9 * 60 / 160)
    assert found[:, 64:].std() == pytest.approx(level * share, rel=0.06, abs=0.12)


def test_noise_severities_are_one_field():
    tile = np.full((48, 48, 3), 150, np.uint8)
    low, high = (perturb(tile, "noise", severity, tile_id="t").astype(float) - 150 for severity in (2, 5))
    assert np.corrcoef(low.ravel(), high.ravel())[0, 1] > 0.99


def test_vignetting_is_that_much_in_the_corners():
    found = vignette(np.full((51, 51, 3), 200, np.uint8), 30.0)
    assert found[25, 25, 0] == 200
    assert found[0, 0, 0] == found[-1, -1, 0] == 140


def test_pixelation_keeps_the_mean_and_loses_detail():
    tile = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    found = pixelate(tile, 0.25)
    assert found.mean() == pytest.approx(tile.mean(), abs=2)
    assert found.std() < 0.4 * tile.std()


@pytest.mark.parametrize("factor", [1.6, 0.55])
def test_contrast_is_that_factor_on_the_spread(factor):
    tile = np.random.default_rng(0).integers(100, 150, (40, 40, 3), dtype=np.uint8)
    found = change_contrast(tile, factor)
    assert found.std() == pytest.approx(factor * tile.std(), rel=0.02)
    assert found.mean() == pytest.approx(tile.mean(), abs=1)


def test_gamma_is_that_power():
    tile = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    found = bend_tone(tile, 0.5)
    np.testing.assert_allclose(found, 255 * np.sqrt(tile / 255), atol=0.5)


@pytest.mark.parametrize("factor", [1.25, 0.2])
def test_saturation_is_that_factor_on_the_distance_from_grey(factor):
    tile = np.array([[[120, 100, 140], [90, 90, 90]]], np.uint8)
    found = saturate(tile, factor).astype(float)
    weights = np.array([0.299, 0.587, 0.114])
    before, after = tile - (tile @ weights)[..., None], found - (found @ weights)[..., None]
    np.testing.assert_allclose(after, factor * before, atol=1)
    np.testing.assert_array_equal(found[0, 1], 90)


@pytest.mark.parametrize("degrees", [3.0, 20.0, -15.0])
def test_hue_turns_by_that_angle_about_the_grey_axis(degrees):
    tile = np.array([[[150, 90, 120]]], np.uint8)
    found = turn_hue(tile, degrees)[0, 0].astype(float)
    across, up = np.array([1, -1, 0]) / np.sqrt(2), np.array([1, 1, -2]) / np.sqrt(6)

    def angle(colour: np.ndarray) -> float:
        return np.degrees(np.arctan2(colour @ up, colour @ across))

    turned = angle(tile[0, 0].astype(float)) - angle(found)
    assert abs(turned) == pytest.approx(abs(degrees), abs=1.0)
    assert found.sum() == pytest.approx(360, abs=2)


def test_white_balance_is_that_share():
    found = shift_white(np.full((2, 2, 3), 200, np.uint8), 10.0)
    np.testing.assert_array_equal(found[0, 0], [220, 200, 180])


def stained(hematoxylin: float, eosin: float) -> np.ndarray:
    """A tile of one mixture with glass of 240 beside it."""
    from histolatent.stain import stain_matrix

    tile = np.full((40, 80, 3), 240, np.uint8)
    rows = stain_matrix()
    tile[:, 40:] = np.rint(240 * np.exp(-(hematoxylin * rows[0] + eosin * rows[1])))
    return tile


@pytest.mark.parametrize(("name", "stains"), [("stain-gain", (0, 1)), ("fading", (0, 1)), ("eosin-gain", (1,))])
@pytest.mark.parametrize("severity", [2, 3])
def test_stain_factors_are_factors_on_optical_density(name, stains, severity):
    tile = stained(0.5, 0.4)
    factor = OPERATIONS[name].levels[severity - 1]
    before, after = (
        concentrations(optical_density(view, np.full(3, 240.0)))[20, 60]
        for view in (tile, perturb(tile, name, severity, tile_id="t"))
    )
    for stain in (0, 1):
        expected = factor if stain in stains else 1.0
        assert after[stain] / before[stain] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("amounts", "stain"), [((0.8, 0.0), 0), ((0.0, 0.8), 1)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_stain_rotation_turns_optical_density_by_that_angle(amounts, stain, severity):
    tile = stained(*amounts)
    found = perturb(tile, "stain-rotation", severity, tile_id="t")
    np.testing.assert_array_equal(found[:, :40], tile[:, :40])
    before, after = (optical_density(x, np.full(3, 240.0))[20, 60].astype(float) for x in (tile, found))
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert np.degrees(np.arccos(cosine)) == pytest.approx(OPERATIONS["stain-rotation"].levels[severity - 1], abs=0.8)
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=0.03)


def test_a_state_moves_tissue_and_keeps_glass():
    tile = stained(0.6, 0.3)
    found = in_state(tile, ProtocolState(hematoxylin_gain=0.3, eosin_bias=0.1, illuminant_red=0.2))
    np.testing.assert_array_equal(found[:, :40], tile[:, :40])
    assert (found[:, 40:] < tile[:, 40:]).any()


@pytest.mark.parametrize("name", ["hematoxylin-gain", "stain-gain", "fading", "stain-rotation", "hed-jitter"])
@pytest.mark.parametrize("white", [245, 205, 170])
def test_glass_beside_tissue_is_never_tinted(tile, name, white):
    scaled = np.rint(tile * (white / 255.0)).astype(np.uint8)
    glass = np.random.default_rng(0).integers(white - 3, white + 4, (96, 64, 1)).repeat(3, axis=2).astype(np.uint8)
    both = np.hstack([scaled, glass])
    for view in climb(both, name, tile_id="t", mpp=0.5):
        apart = np.abs(view[:, -60:].astype(int) - both[:, -60:])
        assert apart.max() <= 3, name


def test_restaining_goes_a_share_of_the_way(tile):
    reference = shipped_reference("macenko", "macenko")
    go = restain(tile)
    ends = [fit_tile(go(share), "macenko") for share in (0.0, 0.5, 1.0)]
    apart = [np.abs(np.array(fit.vectors) - np.array(reference.vectors)).max() for fit in ends]  # pyright: ignore
    assert apart[0] > apart[1] > apart[2]
    assert apart[2] < 0.08
    np.testing.assert_allclose(go(0.0), tile, atol=1)


def test_what_cannot_be_fitted_is_not_restained():
    blank = np.full((48, 48, 3), 250, np.uint8)
    np.testing.assert_array_equal(restain(blank)(1.0), blank)


@pytest.mark.parametrize("name", ["blur", "defocus", "motion-blur", "translation", "nuclei-dilated", "elastic"])
def test_um_are_fewer_pixels_where_a_pixel_is_larger(tile, name):
    near, far = (perturb(tile, name, 2, tile_id="t", mpp=mpp) for mpp in (0.25, 1.0))
    assert np.abs(near.astype(int) - tile).mean() > np.abs(far.astype(int) - tile).mean()


@pytest.mark.parametrize("name", ["jpeg", "noise", "brightness", "rotation", "hue", "pixelate"])
def test_what_is_not_in_um_does_not_depend_on_mpp(tile, name):
    near, far = (perturb(tile, name, 3, tile_id="t", mpp=mpp) for mpp in (0.25, 1.0))
    np.testing.assert_array_equal(near, far)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_artefacts_cover_what_they_say(severity):
    tile = np.full((100, 100, 3), 150, np.uint8)
    tile[::2] = 140
    hole = (perturb(tile, "cut-out", severity, tile_id="t") == slide_white(tile).round()).all(axis=2).mean()
    assert hole == pytest.approx(OPERATIONS["cut-out"].levels[severity - 1], abs=0.01)
    dust = (perturb(tile, "dust", severity, tile_id="t") < 0.95 * tile).all(axis=2).mean()
    assert 100 * dust == pytest.approx(OPERATIONS["dust"].levels[severity - 1], rel=0.35, abs=0.1)
    bubble = perturb(tile, "bubble", severity, tile_id="t", mpp=0.5)
    across = np.flatnonzero((np.abs(bubble.astype(int) - tile).max(axis=2) > 8).any(axis=1))
    reach = (across[-1] - across[0] + 1) / 100
    assert reach == pytest.approx(OPERATIONS["bubble"].levels[severity - 1], abs=0.12)


@pytest.mark.parametrize("name", ["pen", "fold", "bubble", "dust", "tissue-swap"])
def test_artefacts_and_swaps_are_nested(tile, name):
    changed = [(view != tile).any(axis=2) for view in climb(tile, name, tile_id="t", mpp=0.5)]
    for smaller, larger in pairwise(changed):
        # A rim or a donor may show the very level that was there before.
        assert (smaller & ~larger).sum() <= 0.12 * smaller.sum()
        assert larger.sum() > smaller.sum()


def test_a_fold_adds_densities():
    tile = stained(0.4, 0.2)[:, 40:]
    tile = np.hstack([tile, np.full((40, 4, 3), 240, np.uint8)])
    found = perturb(tile, OPERATIONS["fold"].at((0.1, 0.2, 0.4, 0.6, 0.9)), 5, tile_id="t").astype(float)
    single = optical_density(tile, np.full(3, 240.0))[20, 20]
    densest = optical_density(found.astype(np.uint8), np.full(3, 240.0)).max(axis=(0, 1))
    np.testing.assert_allclose(densest, 2 * single, rtol=0.05)


def test_nuclei_grow_and_shrink_by_that_much():
    """Disks of 5 um on eosin, with an outline that can be measured."""
    mpp, rows = 0.5, np.mgrid[:160, :160]
    tile = np.full((160, 160, 3), 245, np.uint8)
    tile[:, :150] = (225, 130, 175)
    for cx, cy in [(30, 30), (80, 40), (120, 90), (40, 110), (85, 130)]:
        tile[(rows[1] - cx) ** 2 + (rows[0] - cy) ** 2 <= 10**2] = (95, 60, 140)

    def radius_um(view: np.ndarray) -> float:
        dark = (view[..., 0] < 160)[:, :148]
        return float(np.sqrt(dark.sum() / 5 / np.pi)) * mpp

    assert label_nuclei(tile, mpp)[0] == 5
    assert radius_um(tile) == pytest.approx(5.0, abs=0.1)
    for name in ("nuclei-dilated", "nuclei-eroded"):
        for severity in (1, 2, 4):
            um = OPERATIONS[name].levels[severity - 1]
            assert radius_um(perturb(tile, name, severity, tile_id="t", mpp=mpp)) == pytest.approx(5.0 + um, abs=0.45)


@pytest.mark.parametrize("across", [2, 3, 4, 6, 8])
def test_shuffled_patches_are_the_same_pixels(tile, across):
    severity = [2, 3, 4, 6, 8].index(across) + 1
    found = perturb(tile, "patch-shuffle", severity, tile_id="t")
    side = tile.shape[0] // across
    np.testing.assert_array_equal(
        np.sort(found[: side * across, : side * across].reshape(-1, 3), axis=0),
        np.sort(tile[: side * across, : side * across].reshape(-1, 3), axis=0),
    )
    corners = {
        tile[i * side : (i + 1) * side, j * side : (j + 1) * side].tobytes()
        for i in range(across)
        for j in range(across)
    }
    assert found[:side, :side].tobytes() in corners


def test_scrambled_phases_keep_the_spectrum(tile):
    found = perturb(tile, "phase-scramble", 5, tile_id="t").astype(float)
    before, after = (np.abs(np.fft.rfft2(x.astype(float), axes=(0, 1))) for x in (tile, found))
    assert np.corrcoef(np.log1p(before).ravel(), np.log1p(after).ravel())[0, 1] > 0.9
    np.testing.assert_allclose(found.mean(axis=(0, 1)), tile.mean(axis=(0, 1)), atol=4)
    assert abs(np.corrcoef(found[..., 1].ravel(), tile[..., 1].ravel())[0, 1]) < 0.35


@pytest.mark.data
def test_must_react_operations_change_real_tiles_and_their_nuclei(data):
    path = sorted((data / "osteosarcoma" / "Viable").glob("*.jpg"))[4]
    tile = decode(path)[256:512, 256:512]
    count, labels = label_nuclei(tile, 0.5)
    assert count > 40
    around = tissue_mask(tile) & (labels == 0)
    erased = perturb(tile, "nuclei-erased", 5, tile_id="t", mpp=0.5)
    stands_out = [hematoxylin(view)[labels > 0].mean() - hematoxylin(view)[around].mean() for view in (tile, erased)]
    assert stands_out[1] < 0.15 * stands_out[0]
    larger = perturb(tile, "nuclei-dilated", 2, tile_id="t", mpp=0.5)
    assert (label_nuclei(larger, 0.5)[1] > 0).mean() > 1.3 * (label_nuclei(tile, 0.5)[1] > 0).mean()
    smaller = perturb(tile, "nuclei-eroded", 3, tile_id="t", mpp=0.5)
    assert (label_nuclei(smaller, 0.5)[1] > 0).mean() < 0.7 * (label_nuclei(tile, 0.5)[1] > 0).mean()
