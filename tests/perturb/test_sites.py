"""Virtual sites: keyed by slide and tile, plausible, told in numbers. `test_unseen_sites` says what they are for."""

import ast
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.perturb import VirtualSite, sites, virtual_sites
from histolatent.perturb.sites import CODECS

NAMES = list(virtual_sites())


def bare(**fields) -> VirtualSite:
    return VirtualSite(name="test", describes="a test", **{"spread": 0.0, **fields})


def test_nothing_is_shared_with_the_manifold():
    tree = ast.parse(Path(sites.__file__).read_text(encoding="utf-8"))
    named = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in named if re.search("stain|torch|scanner|acquisition|glass", name)]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_slide_and_tile_give_the_same_pixels(name, tile):
    site, before = virtual_sites()[name], tile.copy()
    here = site(tile, mpp=0.5, slide="s1", seed=3, tile_id="t1")
    assert here.shape == tile.shape and here.dtype == np.uint8 and here.flags.c_contiguous
    np.testing.assert_array_equal(tile, before)
    assert not np.shares_memory(here, tile)
    moved = pickle.loads(pickle.dumps(site))
    np.testing.assert_array_equal(moved(tile, mpp=0.5, slide="s1", seed=3, tile_id="t1"), here)
    for other in ({"slide": "s2"}, {"seed": 4}, {"tile_id": "t2"}):
        found = site(tile, mpp=0.5, **{"slide": "s1", "seed": 3, "tile_id": "t1", **other})
        assert (found != here).mean() > 0.05, other
    np.testing.assert_array_equal(site(np.asfortranarray(tile), mpp=None, slide="s1", seed=3, tile_id="t1"), here)


@pytest.mark.parametrize("name", NAMES)
def test_slides_differ_less_than_sites(name, tile):
    site = virtual_sites()[name]
    means = np.array([site(tile, mpp=0.5, slide=f"s{k}").mean((0, 1)) for k in range(8)])
    assert 0.3 < means.std(0).max() < 6


@pytest.mark.parametrize("name", NAMES)
def test_glass_stays_bright_and_tissue_stays_pink_and_purple(name, phantom):
    site = virtual_sites()[name]
    glass = site(np.full((64, 64, 3), (243, 242, 245), np.uint8), mpp=0.5, slide="a").mean((0, 1))
    assert glass.min() > 220 and np.ptp(glass) < 16
    for i in range(0, 24, 3):  # the source
        h, e = phantom.concentrations(i)
        found = site(phantom.read(i), mpp=0.5, slide="a").astype(float)
        for dye, mask in (("h", h > 0.8), ("e", (h < 0.15) & (e > 0.4))):
            if mask.sum() > 30:
                r, g, b = glass - found[mask].mean(0)
                assert g > b and g > 0.9 * r, (name, dye)
                assert dye == "e" or r > 0.9 * b, "nuclei are blue to purple"


@pytest.mark.parametrize("name", NAMES)
def test_any_tile_comes_through(name, odd):
    found = virtual_sites()[name](odd, mpp=0.25, slide="a", tile_id="b")
    assert found.shape == odd.shape and found.dtype == np.uint8


def test_a_site_without_effects_changes_nothing(tile):
    np.testing.assert_array_equal(bare()(tile, mpp=0.5), tile)
    np.testing.assert_allclose(bare(tint=(0.9, 1.0, 0.8))(tile, mpp=0.5), tile * [0.9, 1.0, 0.8], atol=0.51)


def test_products_and_bend_are_what_they_say():
    tile = np.full((8, 8, 3), (51, 102, 204), np.uint8)
    a = 1 - tile[0, 0] / 255
    products = ((0.0, 0.2, 0.0, 0.0, 0.0, 0.0), (0.0,) * 6, (0.0, 0.0, 0.0, 0.3, 0.0, 0.0))
    mixing = ((0.9, 0.1, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    wanted = 255 * (1 - (np.array(mixing) @ a + [0.2 * a[1] ** 2, 0, 0.3 * a[0] * a[1]]))
    np.testing.assert_allclose(bare(mixing=mixing, products=products)(tile, mpp=0.5)[4, 4], wanted, atol=0.51)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    x, bend = ramp / 255, np.array([0.3, 0.0, -0.3])
    wanted = 255 * (x + 4 * bend * x * (1 - x) * (x - 0.5))
    np.testing.assert_allclose(bare(bend=tuple(bend.tolist()))(ramp, mpp=0.5), wanted, atol=0.51)


def test_the_blur_is_an_ellipse_in_micrometres():
    """Oracle: an evenly lit ellipse of radius r has the second moment r^2 / 4 along each axis."""
    for mpp in (0.1, 0.2):
        spot = np.zeros((101, 101, 3), np.uint8)
        spot[50, 50] = 255
        share = spot.astype(np.float32) / 255
        seen = sites._spread_light(share, bare(defocus_um=1.5, elongation=2.0), 1.5 / mpp)[..., 1]
        place = (np.arange(101) - 50) * mpp
        assert seen.sum() == pytest.approx(1, abs=1e-4)
        assert seen.sum(0) @ place**2 == pytest.approx(3.0**2 / 4, rel=0.02)
        assert seen.sum(1) @ place**2 == pytest.approx(1.5**2 / 4, rel=0.03)


def test_colours_fall_beside_each_other():
    tile = np.full((21, 21, 3), 255, np.uint8)
    tile[10, 10] = 0
    seen = bare(fringe_um=1.0)(tile, mpp=0.5)
    assert [np.unravel_index(seen[..., c].argmin(), (21, 21)) for c in range(3)] == [(10, 12), (10, 10), (10, 8)]


def test_grain_is_correlated_and_largest_at_mid_grey():
    site = bare(grain_levels=6.0, grain_um=0.6)
    spread = {}
    for level in (10, 128, 245):
        field = site(np.full((256, 256, 3), level, np.uint8), mpp=0.5)[..., 0].astype(float)
        spread[level] = field.std()
    assert spread[128] == pytest.approx(6.0, rel=0.1)
    assert max(spread[10], spread[245]) < 0.35 * spread[128]
    field = site(np.full((256, 256, 3), 128, np.uint8), mpp=0.5)[..., 0].astype(float)
    assert np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1] > 0.5
    stripes = bare(stripe_levels=4.0)(np.full((128, 128, 3), 128, np.uint8), mpp=0.5).astype(float)
    assert stripes.mean(0).std() > 3 and np.ptp(stripes, axis=0).max() == 0


def test_files_keep_colour_at_full_resolution(tile):
    for codec in ("jpeg444", "webp"):
        fine, coarse = (np.abs(CODECS[codec](tile, q).astype(float) - tile).mean() for q in (98, 20))
        assert 0 < fine < coarse < 15
    # A checkerboard of two colours of one grey: halved colour would leave none of it.
    board = np.full((32, 32, 3), (180, 120, 150), np.uint8)
    board[::2, 1::2] = board[1::2, ::2] = (120, 151, 150)
    found = CODECS["jpeg444"](board, 95).astype(float)
    assert np.abs(found - board).mean() < 8


def test_sites_are_told_in_numbers():
    for name, site in virtual_sites().items():
        assert site.name == name
        document = json.loads(json.dumps(site.to_dict()))
        assert document["defocus_um"] == site.defocus_um and document["bend"] == list(site.bend)
        line = site.describe()
        assert line.startswith(f"{name}: {site.describes} (") and f"quality {site.quality}" in line
        assert "\n" not in line
    assert bare().describe() == "test: a test (spread 0)"
    with pytest.raises(TypeError):
        virtual_sites()["soft"] = bare()  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"another type or shape. Received: float32 \(8, 8, 3\). Valid: uint8"),
        (np.zeros((8, 8), np.uint8), r"Received: uint8 \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"Received: uint8 \(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"Received: uint8 \(0, 8, 3\)"),
    ],
)
def test_what_is_no_tile_is_said(given, message):
    with pytest.raises(InputError, match=message):
        virtual_sites()["soft"](given, mpp=0.5)
    with pytest.raises(InputError, match=r"a tile is no array\. Received: list"):
        sites._check_tile([[1]])


@pytest.mark.parametrize("mpp", [0, -1.0, float("nan"), float("inf")])
def test_a_resolution_has_to_be_one(mpp, tile):
    with pytest.raises(OptionError, match="mpp is not a finite number above 0"):
        virtual_sites()["soft"](tile, mpp=mpp)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("defocus_um", -1.0, "defocus_um is out of its range. Received: -1. Valid: 0 to 5"),
        ("defocus_um", float("nan"), "defocus_um is out of its range. Received: nan"),
        ("bend", (0.0, 0.6, 0.0), "bend is out of its range. Received: 0.6. Valid: -0.45 to 0.45"),
        ("tint", (1.0, 0.1, 1.0), "tint is out of its range"),
        ("scale", 0.0, "scale is out of its range"),
        ("quality", 0, "quality is out of its range. Received: 0. Valid: 1 to 100"),
        ("codec", "gif", "no such codec. Received: 'gif'. Valid: none, jpeg444, webp"),
        ("mixing", ((1.0, 0.1, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "a row of mixing does not sum to 1"),
    ],
)
def test_numbers_out_of_range_are_named(field, value, message):
    with pytest.raises(OptionError, match=message):
        replace(virtual_sites()["soft"], **{field: value})
