"""Sites in physical units."""

import numpy as np
import pytest

from histolatent.images.phantom import protocols
from histolatent.images.phantom.render import render, stain_slide
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
    expected = 255 * (np.asarray(scanner.illuminant) / 255) ** (1 / scanner.gamma)
    np.testing.assert_allclose(glass.mean((0, 1)), expected, atol=1.0)


def test_beer_lambert_holds_without_optics_and_noise():
    """Oracle: on a plain scanner, -ln(I / I0) is the sum of concentrations times vectors."""
    import dataclasses

    plain = dataclasses.replace(
        protocols()["source"].scanner, blur_um=0.0, read_noise=0.0, full_well=1e12, jpeg_quality=None
    )
    staining = stain_slide(0, "source/p01/s1", protocols()["source"].stain)
    h, e = np.full((8, 8), 0.7, np.float32), np.full((8, 8), 0.4, np.float32)
    pixels = render(h, e, staining, plain, 0.5, stream(0, "test"))
    density = -np.log(pixels.mean((0, 1)) / np.asarray(plain.illuminant))
    expected = np.array([0.7, 0.4]) * staining.gains @ staining.vectors
    np.testing.assert_allclose(density, expected, atol=0.01)


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
