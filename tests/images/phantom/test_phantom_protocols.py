"""Sites in physical units."""

import math
from dataclasses import replace

import numpy as np
import pytest

from histolatent.images.phantom import protocols
from histolatent.images.phantom.optics import point_spread
from histolatent.images.phantom.protocols import Scanner, Stain
from histolatent.images.phantom.render import illuminate, render, see, stain_slide, tone, vary_thickness
from histolatent.provenance import stream

RUIFROK = {"hematoxylin": (0.65, 0.70, 0.29), "eosin": (0.07, 0.99, 0.11)}
MACENKO_EOSIN = (0.2159, 0.8012, 0.5581)


def angle(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


def test_the_design_moves_one_thing_at_a_time():
    sites = protocols()
    assert sites["new-scanner"].stain == sites["source"].stain
    assert sites["new-scanner"].scanner != sites["source"].scanner
    assert sites["new-stain"].scanner == sites["source"].scanner
    assert sites["new-stain"].stain != sites["source"].stain
    assert len(sites) >= 5


def test_equal_names_mean_equal_things():
    for kind in ("stain", "scanner"):
        by_name = {}
        for protocol in protocols().values():
            part = getattr(protocol, kind)
            assert by_name.setdefault(part.name, part) == part


@pytest.mark.parametrize("site", protocols())
def test_vectors_are_hematoxylin_and_eosin(site):
    stain = protocols()[site].stain
    assert angle(stain.hematoxylin, RUIFROK["hematoxylin"]) < 20
    assert min(angle(stain.eosin, RUIFROK["eosin"]), angle(stain.eosin, MACENKO_EOSIN)) < 20
    assert angle(stain.hematoxylin, stain.eosin) > 20


@pytest.mark.parametrize("site", protocols())
def test_empty_glass_is_the_illuminant(site):
    scanner = protocols()[site].scanner
    empty = np.zeros((64, 64), np.float32)
    staining = stain_slide(0, "source/p01/s1", protocols()[site].stain)
    glass = render(empty, empty, staining, scanner, 0.5, stream(0, "test"))
    share = (np.asarray(scanner.illuminant) / 255) ** (1 / scanner.gamma)
    odds = (share / (1 - share) * (1 - scanner.pivot) / scanner.pivot) ** scanner.contrast
    odds = odds * scanner.pivot / (1 - scanner.pivot)
    expected = 255 * odds / (1 + odds)
    np.testing.assert_allclose(glass.mean((0, 1)), expected, atol=1.0)


def test_beer_lambert_holds_without_optics_and_noise():
    """Oracle: on a plain scanner, -ln(I / I0) is the sum of concentrations times vectors."""
    plain = replace(protocols()["source"].scanner, blur_um=0.0, read_noise=0.0, full_well=1e12, jpeg_quality=None)
    staining = stain_slide(0, "source/p01/s1", protocols()["source"].stain)
    h, e = np.full((8, 8), 0.7, np.float32), np.full((8, 8), 0.4, np.float32)
    pixels = render(h, e, staining, plain, 0.5, stream(0, "test"))
    density = -np.log(pixels.mean((0, 1)) / np.asarray(plain.illuminant))
    expected = np.array([0.7, 0.4]) * staining.gains @ staining.vectors
    np.testing.assert_allclose(density, expected, atol=0.01)


def test_the_source_is_plain_and_no_other_site_is():
    for site, protocol in protocols().items():
        assert (protocol.plain() == protocol) == (site == "source")
    far = protocols()["far"]
    assert far.plain().stain == replace(
        far.stain, chatter_um=0.0, hematoxylin_capacity=math.inf, eosin_capacity=math.inf
    )
    assert (
        stain_slide(0, "a/p01/s1", far.stain).gains.tolist()
        == stain_slide(0, "a/p01/s1", far.plain().stain).gains.tolist()
    )


def test_amounts_grow_with_the_section_and_bend_at_the_capacity():
    stain = Stain("test", (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), direction_sd=0.0)
    h, e = np.array([[0.5, 2.0]]), np.array([[2.0, 0.5]])
    white = Scanner("white", illuminant=(255.0, 255.0, 255.0))

    def held(changed):
        light = illuminate(h, e, stain_slide(0, "a/p01/s1", changed), white)
        return -np.log(light[..., :2] / 255)

    plain = held(stain)
    np.testing.assert_allclose(held(replace(stain, section_um=5.0)), 1.25 * plain)
    bent = held(replace(stain, hematoxylin_capacity=3.0))
    np.testing.assert_allclose(bent[..., 0], plain[..., 0] / (1 + plain[..., 0] / 3))
    np.testing.assert_array_equal(bent[..., 1], plain[..., 1])


def test_chatter_is_a_wave_of_its_amplitude_and_period():
    stain = replace(protocols()["new-stain"].stain, section_um=4.0, chatter_um=0.8, chatter_period_um=64.0)
    waves = [vary_thickness(0, f"a/p01/s1/t{k}", "a/p01/s1", stain, (512, 512), 0.5) for k in range(2)]
    assert waves[0].min() == pytest.approx(0.8, abs=2e-3) and waves[0].max() == pytest.approx(1.2, abs=2e-3)
    spectra = [np.abs(np.fft.fft2(wave - 1)) for wave in waves]
    at = [np.unravel_index(spectrum[:, :256].argmax(), (512, 256)) for spectrum in spectra]
    assert at[0] == at[1], "one knife cuts a slide"
    assert not np.allclose(*waves), "tiles lie at different places of a wave"
    row, column = at[0]
    assert 256 / math.hypot(min(row, 512 - row), column) == pytest.approx(64.0, rel=0.15)
    assert vary_thickness(0, "t", "s", protocols()["source"].stain, (8, 8), 0.5) is None


def test_a_point_out_of_focus_is_a_disk_in_micrometres():
    """Oracle: a disk of radius r has the second moment r^2 / 4 along each axis."""
    scanner = Scanner("test", focus_um=(0.0, 4.0, -4.0), astigmatism_um=2.0, red_um=(0.6, -0.2))
    slope = math.tan(math.asin(0.75 / 1.515))
    for mpp in (0.1, 0.25):
        for channel, planes, beside in ((0, (1, 1), (0.6, -0.2)), (1, (5, 3), (0, 0)), (2, (3, 5), (0, 0))):
            kernel = point_spread(scanner, channel, mpp).astype(float)
            assert kernel.sum() == pytest.approx(1, abs=1e-5)
            reach = len(kernel) // 2
            place = (np.arange(len(kernel)) - reach) * mpp
            for axis, plane, centre in ((0, planes[0], beside[0]), (1, planes[1], beside[1])):
                marginal = kernel.sum(axis)
                assert marginal @ place == pytest.approx(centre, abs=0.01)
                spread = marginal @ (place - centre) ** 2
                assert spread == pytest.approx((plane * slope) ** 2 / 4, abs=0.3 * mpp**2)


def test_red_falls_where_it_is_said_to():
    scanner = Scanner("test", blur_um=0.0, red_um=(1.0, 0.5), blue_um=(-0.5, 0.0))
    light = np.full((16, 16, 3), 200.0)
    light[8, 8] = 50.0
    seen = see(light, scanner, 0.5)
    assert [np.unravel_index(seen[..., c].argmin(), (16, 16)) for c in range(3)] == [(9, 10), (8, 8), (8, 7)]


def test_the_tone_curve_has_a_toe_and_a_shoulder():
    x = np.linspace(0, 255, 256)
    hard, flat = (tone(x, Scanner("test", contrast=c, pivot=0.6)) for c in (1.5, 0.7))
    for curve, slope in ((hard, 1.5), (flat, 0.7)):
        np.testing.assert_allclose(curve[[0, 153, 255]], [0, 153, 255], atol=1e-6)
        assert (np.diff(curve) > 0).all()
        assert np.gradient(curve)[153] == pytest.approx(slope, rel=0.02)
    assert (hard[1:150] < x[1:150]).all() and (hard[156:255] > x[156:255]).all()
    np.testing.assert_array_equal(tone(x, Scanner("test")), x)


def test_blur_is_in_micrometres():
    """The same edge, twice as fine a pixel: twice as many pixels wide."""
    scanner = protocols()["soft-focus"].scanner
    staining = stain_slide(0, "source/p01/s1", protocols()["source"].stain)
    widths = {}
    for mpp in (0.25, 0.5):
        edge = np.zeros((96, 96), np.float32)
        edge[:, 48:] = 1.0
        level = render(edge, edge * 0, staining, scanner, mpp, stream(0, "test")).mean((0, 2))
        share = (level - level.min()) / (level.max() - level.min())
        widths[mpp] = ((share > 0.1) & (share < 0.9)).sum() * mpp
    assert widths[0.25] == pytest.approx(widths[0.5], abs=0.6)


def test_slides_of_one_laboratory_differ_but_little():
    stain = protocols()["source"].stain
    stainings = [stain_slide(0, f"source/p{p:02d}/s1", stain) for p in range(1, 41)]
    gains = np.log([s.gains for s in stainings])
    assert 0.08 < gains.std(0).max() < 0.4
    assert max(angle(s.vectors[0], stain.hematoxylin) for s in stainings) < 8
    assert stain_slide(0, "source/p01/s1", stain).gains.tolist() == stainings[0].gains.tolist()
