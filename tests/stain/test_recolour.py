"""Frozen changes on images: a pixel comes out by itself alone, in any tile, layout and type."""

import numpy as np
import pytest

from histolatent.errors import InputError
from histolatent.stain import (
    NORMALIZERS,
    ColourChange,
    DensityChange,
    NoChange,
    SpaceChange,
    SparseChange,
    canonical_vectors,
    colour_change,
    recolour,
)
from histolatent.stain.recolour import tissue_plane

WHITE = np.full(3, 240.0)
EVERY = pytest.mark.parametrize("name", [*NORMALIZERS])


@pytest.fixture
def tile(others) -> np.ndarray:
    return others[0][:91, :133]


def test_every_method_makes_a_change(changes):
    assert [name for name, change in changes.items() if isinstance(change, NoChange)] == []


@EVERY
def test_a_crop_recoloured_is_the_recolouring_cropped(changes, tile, name):
    """Odd sizes and views with strides: the same pixel is the same level, bit for bit."""
    whole = recolour(tile, changes[name])
    rng = np.random.default_rng(0)
    for _ in range(12):
        top, left = rng.integers(0, 60, 2)
        height, width = rng.integers(1, 30, 2)
        window = slice(top, top + height), slice(left, left + width)
        np.testing.assert_array_equal(recolour(tile[window], changes[name]), whole[window])
    np.testing.assert_array_equal(recolour(tile[::-2, ::3], changes[name]), whole[::-2, ::3])
    np.testing.assert_array_equal(recolour(np.asfortranarray(tile), changes[name]), whole)


@EVERY
@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (1, 65), (37, 1), (3, 3)])
def test_small_images(changes, tile, name, shape):
    part = tile[20 : 20 + shape[0], 30 : 30 + shape[1]]
    expected = recolour(tile, changes[name])[20 : 20 + shape[0], 30 : 30 + shape[1]]
    np.testing.assert_array_equal(recolour(part, changes[name]), expected)


@EVERY
def test_layouts_agree(changes, tile, name):
    chw = recolour(np.ascontiguousarray(tile.transpose(2, 0, 1)), changes[name], layout="CHW")
    np.testing.assert_array_equal(chw.transpose(1, 2, 0), recolour(tile, changes[name]))


def apart(image: np.ndarray, change: ColourChange) -> tuple[float, float]:
    """Return the largest difference in levels of float and uint8: where pixels fade, and elsewhere."""
    assert not isinstance(change, NoChange)
    weight = tissue_plane(image, change.white_in)
    fading = (weight > 0) & (weight < 1)
    off = np.abs(recolour(image / 255, change) * 255 - recolour(image, change)).max(axis=2)
    return float(off[fading].max(initial=0)), float(off[~fading].max(initial=0))


def rounding(name: str) -> float:
    """Return how far uint8 may be from the same change of floats: in CIELab its tables take 0.75 of a level."""
    return 1.26 if name in ("reinhard", "reinhard-modified") else 0.51


@EVERY
def test_float_is_unrounded_uint8(changes, tile, name):
    """To half a level; where a pixel fades to 2, since uint8 rounds the brightness that says how far."""
    fading, elsewhere = apart(tile, changes[name])
    assert elsewhere <= rounding(name)
    assert fading <= 2


@EVERY
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_stays_in_its_type_and_range(changes, tile, name, dtype):
    out = recolour((tile / 255).astype(dtype), changes[name])
    assert out.dtype == dtype
    assert out.min() >= 0
    assert out.max() <= 1
    np.testing.assert_allclose(out, recolour(tile / 255, changes[name]), atol=5e-3 if dtype == np.float16 else 1e-6)


@EVERY
def test_the_input_is_left_alone(changes, tile, name):
    for image in (tile.copy(), tile / 255):
        image.setflags(write=False)
        before = image.copy()
        out = recolour(image, changes[name])
        np.testing.assert_array_equal(image, before)
        assert not np.shares_memory(out, image)
        assert out.flags.writeable


@EVERY
def test_background_is_kept_and_can_be_mapped(changes, name):
    change = changes[name]
    assert not isinstance(change, NoChange)
    glass = np.rint(change.white_in).astype(np.uint8) * np.ones((6, 7, 1), np.uint8)
    np.testing.assert_array_equal(recolour(glass, change), glass)


@EVERY
def test_all_that_uint8_can_be_comes_out(changes, name):
    """Every corner of the cube, and black: no warning, no overflow that wraps around."""
    cube = np.stack(np.meshgrid(*[[0, 1, 2, 128, 254, 255]] * 3, indexing="ij"), -1).reshape(6, 36, 3).astype(np.uint8)
    fading, elsewhere = apart(cube, changes[name])
    assert elsewhere <= rounding(name)
    assert fading <= 6  # of colours that no tissue has


def test_a_density_change_is_the_formula():
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    for offset in (0, 1):
        matrix = np.eye(3) + 0.1 * rng.standard_normal((3, 3))
        change = DensityChange(
            WHITE, np.array([250.0, 245, 248]), matrix, np.array([0.1, 0.2, -0.1]), offset, keep_background=False
        )
        density = -np.log(np.maximum(tile + float(offset), 1) / WHITE)
        weight = tissue_plane(tile, WHITE)[..., None]
        light = change.white_out * np.exp(-(density @ matrix.T + weight * change.bias)) - offset
        np.testing.assert_allclose(recolour(tile, change), np.clip(np.rint(light), 0, 255), atol=1)


def test_fading_is_between_the_old_colour_and_the_new():
    """From optical density 0.05, all old, to 0.15, all new; between the two, between the two."""
    change = DensityChange(WHITE, WHITE, 2 * np.eye(3))
    greys = np.arange(150, 241).astype(np.uint8)
    tile = np.repeat(greys[None, :, None], 3, axis=2)
    out = recolour(tile, change)[0, :, 0].astype(int)
    mapped = np.rint(240 * (greys / 240.0) ** 2).astype(int)
    density = -np.log(greys / 240.0)
    np.testing.assert_array_equal(out[density <= 0.05], greys[density <= 0.05])
    np.testing.assert_array_equal(out[density >= 0.15], mapped[density >= 0.15])
    assert ((out <= greys) & (out >= mapped)).all()


def test_fading_is_exact_where_a_float_image_is_background():
    change = DensityChange(WHITE, WHITE, 2 * np.eye(3))
    image = np.random.default_rng(0).uniform(0.93, 1, (8, 9, 3))
    np.testing.assert_allclose(recolour(image, change), image, atol=1e-7)


def test_a_sparse_change_is_codes_times_vectors():
    rows = canonical_vectors()
    gains = np.array([1.3, 0.7])
    tile = np.random.default_rng(0).integers(20, 230, (8, 9, 3), dtype=np.uint8)
    from histolatent.stain.vahadane import CODE_PENALTY, sparse_codes

    codes = sparse_codes(-np.log(tile.reshape(-1, 3).T / 240.0), rows, CODE_PENALTY)
    expected = (240 * np.exp(-(codes.T * gains) @ rows)).reshape(tile.shape)
    out = recolour(tile, SparseChange(WHITE, WHITE, rows, rows, gains, keep_background=False))
    np.testing.assert_allclose(out, expected, atol=0.51)


def test_no_change_is_a_copy():
    tile = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    out = recolour(tile, NoChange("one-stain", "why"))
    np.testing.assert_array_equal(out, tile)
    assert not np.shares_memory(out, tile)
    with pytest.raises(InputError, match="must be RGB"):
        recolour(tile[..., 0], NoChange("one-stain", "why"))


@pytest.mark.parametrize(
    "change",
    [
        DensityChange(WHITE, WHITE, 900 * np.eye(3)),
        SparseChange(WHITE, WHITE, canonical_vectors(), canonical_vectors(), np.array([900.0, 900.0])),
        SpaceChange(WHITE, "ruderman", np.full(3, 900.0), np.full(3, 5.0)),
        SpaceChange(WHITE, "lab", np.full(3, 900.0), np.full(3, 5.0)),
    ],
    ids=["density", "sparse", "ruderman", "lab"],
)
def test_huge_gains_do_not_overflow(change):
    image = np.random.default_rng(0).uniform(0, 1, (8, 9, 3)).astype(np.float32)
    image[0] = 1.0
    out = recolour(image, change)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[0], 1.0)


@EVERY
def test_matching_a_slide_to_itself_changes_little(tiles, slide_fits, name):
    fit = slide_fits[name]
    if name == "reinhard-modified":  # it widens lightness by 5 % whatever the reference
        return
    change: ColourChange = colour_change(fit, fit)
    assert not isinstance(change, NoChange)
    moved = np.concatenate([np.abs(recolour(tile, change).astype(int) - tile).ravel() for tile in tiles])
    if "reinhard" in name or name == "fixed":
        assert moved.max() <= 1
    else:
        # What the two stains do not explain is lost: sensor noise and JPEG, here.
        assert moved.mean() < 2.5
        assert np.percentile(moved, 99) <= 10
