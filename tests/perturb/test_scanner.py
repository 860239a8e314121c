"""The virtual scanner: each part alone, their order, and numbers got back from pairs of tiles."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.perturb import SCANNERS, Scanner, climb, fit_scanner, scan
from histolatent.perturb.acquisition import compress
from histolatent.perturb.glass import slide_white
from histolatent.stain.manifold import AXES

MIX = ((0.9, 0.06, 0.04), (0.05, 0.92, 0.03), (-0.02, 0.1, 0.92))


@pytest.fixture(scope="module")
def tiles(phantom) -> list[np.ndarray]:
    return [phantom.read(i) for i in range(4)]


def test_without_arguments_nothing_changes(tile):
    found = scan(tile, Scanner(), tile_id="t")
    np.testing.assert_array_equal(found, tile)
    assert found is not tile
    assert repr(Scanner()) == "Scanner()"


def test_light_multiplies_and_moves_white():
    tile = np.full((20, 20, 3), 200, np.uint8)
    found = scan(tile, Scanner(light=(1.1, 1.0, 0.9)), tile_id="t")
    np.testing.assert_array_equal(found[5, 5], [220, 200, 180])


def test_colours_mix_light_relative_to_white():
    white = np.array([220.0, 210.0, 230.0])
    tile = np.full((8, 8, 3), (110, 84, 184), np.uint8)
    found = scan(tile, Scanner(colours=MIX), tile_id="t", white=tuple(white))
    np.testing.assert_allclose(found[4, 4], white * (np.array(MIX) @ (tile[4, 4] / white)), atol=0.51)
    glass = np.broadcast_to(white.astype(np.uint8), (8, 8, 3)).copy()
    np.testing.assert_array_equal(scan(glass, Scanner(colours=MIX), tile_id="t", white=tuple(white)), glass)


def test_gamma_is_the_tone_curve():
    tile = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    found = scan(tile, Scanner(gamma=1.25), tile_id="t")
    expected = 255 * (tile / 255) ** (1 / 1.25)
    np.testing.assert_allclose(found[tile > 0], expected[tile > 0], atol=0.6)  # 0 reads as 1, as optical density does


def test_blur_and_noise_have_their_units():
    step = np.zeros((61, 61, 3), np.uint8)
    step[:, 30:] = 240
    slope = np.diff(scan(step, Scanner(blur_um=1.0), tile_id="t", mpp=0.25)[30, :, 0].astype(float))
    at = np.arange(60)
    sigma = np.sqrt((slope * (at - (slope * at).sum() / slope.sum()) ** 2).sum() / slope.sum())
    assert sigma == pytest.approx(4.0, rel=0.03)
    flat = np.full((128, 128, 3), 150, np.uint8)
    assert scan(flat, Scanner(noise_levels=5.0), tile_id="t").std() == pytest.approx(5.0, rel=0.05)


def test_the_file_comes_last_and_noise_before_the_tone():
    tile = np.random.default_rng(0).integers(60, 240, (64, 64, 3), dtype=np.uint8)
    whole = Scanner(0.5, MIX, (0.95, 1.0, 1.02), 3.0, 1.2, 60)
    without = replace(whole, jpeg_quality=None)
    np.testing.assert_array_equal(
        scan(tile, whole, tile_id="t", seed=2), compress(scan(tile, without, tile_id="t", seed=2), 60)
    )
    # The tone curve lifts the mid-tones, where it is flatter than at black: noise made before it is bent with it.
    dark = np.full((128, 128, 3), 40, np.uint8)
    plain, bent = (scan(dark, Scanner(noise_levels=4.0, gamma=g), tile_id="t").astype(float).std() for g in (1.0, 1.5))
    assert bent > 1.2 * plain


def test_optics_come_before_the_sensor():
    """Blurred noise would be smooth: next pixels of sensor noise have nothing to do with one another."""
    flat = np.full((96, 96, 3), 150, np.uint8)
    noise = scan(flat, Scanner(blur_um=1.0, noise_levels=6.0), tile_id="t").astype(float)[..., 0] - 150
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("name", SCANNERS)
def test_named_scanners_are_within_their_range_and_differ(name, tile):
    scanner = SCANNERS[name]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    np.testing.assert_allclose(np.array(scanner.colours).sum(axis=1), 1)
    own = scan(tile, scanner, tile_id="t")
    for other in SCANNERS.values():
        if other is not scanner:
            assert np.abs(own.astype(int) - scan(tile, other, tile_id="t")).mean() > 2


@pytest.mark.parametrize("name", SCANNERS)
def test_a_state_and_back_is_the_same_scanner(name):
    scanner, back = SCANNERS[name], Scanner.from_state(SCANNERS[name].state(7))
    np.testing.assert_allclose(back.colours, scanner.colours, atol=1e-12)
    np.testing.assert_allclose(back.light, scanner.light, atol=1e-12)
    assert (back.blur_um, back.noise_levels, back.jpeg_quality) == (
        scanner.blur_um,
        scanner.noise_levels,
        scanner.jpeg_quality,
    )
    assert back.gamma == pytest.approx(scanner.gamma)


def test_part_of_a_scanner_is_part_of_every_coordinate():
    scanner = SCANNERS["dim-noisy"]
    half, whole = scanner.part(0.5).state(), scanner.state()
    for name in AXES:
        assert half[name] == pytest.approx(whole[name] / 2, abs=1e-9 if name != "jpeg" else 0.5)
    assert scanner.part(0.0) == Scanner()
    assert scanner.part(0.25).gamma == pytest.approx(math.exp(0.25 * math.log(scanner.gamma)))


def test_the_operation_goes_toward_one_of_them(tile):
    for tile_id in ("a", "b", "c"):
        views = climb(tile, "virtual-scanner", tile_id=tile_id, mpp=0.5)
        change = [np.abs(view.astype(int) - tile).mean() for view in views]
        assert change == sorted(change)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"blur_um": 9.0}, r"blur is out of its limits. Received: 9. Valid: 0 to 5 \(um\)"),
        ({"gamma": 0.0}, "gamma is no number above 0"),
        ({"light": (1.0, -1.0, 1.0)}, "light of green is no number above 0"),
        ({"light": (9.0, 1.0, 1.0)}, "illuminant_red is out of its limits"),
        ({"colours": ((1.0, 0.1, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))}, "do not sum to 1. Received: 1.1, 1, 1"),
        ({"noise_levels": -1.0}, "noise is out of its limits"),
        ({"jpeg_quality": 100}, "jpeg_quality is out of its range. Received: 100. Valid: 5 to 99, or None"),
    ],
)
def test_scanners_out_of_range_are_refused(wrong, said):
    with pytest.raises(OptionError, match=said):
        Scanner(**wrong)


def seen_by(scanner: Scanner, tiles: list[np.ndarray], seed: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(t, scan(t, scanner, tile_id=f"z{i}", seed=seed, mpp=0.5)) for i, t in enumerate(tiles)]


PLANTED = Scanner(0.5, MIX, (1.02, 0.96, 0.9), 3.0, 1.1)


def test_planted_parameters_are_got_back(tiles):
    found = fit_scanner(seen_by(PLANTED, tiles), mpp=0.5)
    scanner = found.scanner
    assert scanner.blur_um == pytest.approx(PLANTED.blur_um, abs=0.05)
    assert scanner.gamma == pytest.approx(PLANTED.gamma, rel=0.02)
    assert scanner.noise_levels == pytest.approx(PLANTED.noise_levels, rel=0.1)
    assert scanner.jpeg_quality is None
    np.testing.assert_allclose(scanner.light, PLANTED.light, atol=0.02)
    np.testing.assert_allclose(scanner.colours, PLANTED.colours, atol=0.04)
    assert found.after < 0.5 * found.before
    assert found.tiles == len(tiles)
    np.testing.assert_allclose(found.white, np.median([slide_white(t) for t in tiles], axis=0))


@pytest.mark.parametrize("blur_um", [0.0, 0.3, 1.2])
@pytest.mark.parametrize("gamma", [0.85, 1.3])
def test_blur_and_gamma_alone_are_got_back(tiles, blur_um, gamma):
    found = fit_scanner(seen_by(Scanner(blur_um=blur_um, gamma=gamma), tiles[:2]), mpp=0.5).scanner
    assert found.blur_um == pytest.approx(blur_um, abs=0.04)
    assert found.gamma == pytest.approx(gamma, rel=0.01)
    assert found.noise_levels < 0.6


@pytest.mark.parametrize("quality", [40, 75, 90])
def test_the_jpeg_quality_is_got_back(tiles, quality):
    found = fit_scanner(seen_by(Scanner(0.2, noise_levels=2.0, jpeg_quality=quality), tiles), mpp=0.5).scanner
    assert found.jpeg_quality == quality


def test_the_same_scanner_is_found_to_change_nothing(tiles):
    found = fit_scanner([(t, t.copy()) for t in tiles], mpp=0.5)
    assert (found.scanner.blur_um, found.scanner.noise_levels, found.scanner.jpeg_quality) == (0.0, 0.0, None)
    assert found.scanner.gamma == pytest.approx(1, abs=1e-3)
    assert found.before == 0


def test_a_fitted_scanner_shows_new_tiles_as_the_second_one_does(tiles, phantom):
    found = fit_scanner(seen_by(PLANTED, tiles), mpp=0.5)
    new = phantom.read(12)
    quiet = replace(found.scanner, noise_levels=0.0)
    expected = scan(new, replace(PLANTED, noise_levels=0.0), tile_id="n", mpp=0.5)
    apart = np.abs(scan(new, quiet, tile_id="n", mpp=0.5, white=found.white).astype(int) - expected).mean()
    assert apart < 1.5 < np.abs(new.astype(int) - expected).mean()


def test_the_fit_is_deterministic(tiles):
    pairs = seen_by(PLANTED, tiles[:2])
    assert fit_scanner(pairs, mpp=0.5) == fit_scanner(pairs, mpp=0.5)


def test_pairs_that_tell_nothing_are_refused(tile):
    with pytest.raises(InputError, match="no pairs of tiles"):
        fit_scanner([])
    with pytest.raises(InputError, match=r"the tiles of pair 1 differ in size. Received: \(96, 96, 3\), \(90, 96, 3\)"):
        fit_scanner([(tile, tile), (tile, np.ascontiguousarray(tile[:90]))])
    black = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(InputError, match=r"hardly any part of the pairs is neither black nor white.*0 blocks"):
        fit_scanner([(black, black)])
