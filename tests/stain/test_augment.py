"""Random staining: the formulas as they are written, their limits and distributions, and tiles that are none."""

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from skimage.color import hed2rgb, rgb2hed

from histolatent.errors import InputError, OptionError
from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.stain import (
    RUIFROK,
    ColourModel,
    DensityChange,
    NoChange,
    SpaceChange,
    fit_colour,
    fit_stains,
    recolour,
    sample_pixels,
    separate,
)
from histolatent.stain.augment import (
    HED_STRENGTHS,
    RandStainNAModel,
    concentration_jitter,
    fit_randstainna,
    hed_jitter,
    randstainna_change,
)
from histolatent.stain.colour import to_space
from histolatent.stain.tissue import tissue_weight

PHANTOM = PhantomTiles(PhantomSpec(sites=3, tiles_per_site=24, tile_px=128, seed=4))
COHORT = [PHANTOM.read(i) for i in range(0, 72, 4)]
TILE = PHANTOM.read(list(PHANTOM.table["label"]).index("solid carcinoma"))
SLIDE = [PHANTOM.read(i) for i in range(0, 24, 3)]
MODEL = fit_stains(SLIDE)
TEMPLATES = {space: fit_randstainna(COHORT, space) for space in ("lab", "ruderman")}
GLASS = np.full((8, 9, 3), (242, 237, 243), np.uint8)
SEEDS = range(400)


def odd_tiles() -> dict[str, np.ndarray]:
    return {
        "white": np.full((48, 48, 3), 255, np.uint8),
        "black": np.zeros((48, 48, 3), np.uint8),
        "purple": np.full((33, 33, 3), (120, 60, 150), np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8),
        "one pixel": np.array([[[120, 60, 150]]], np.uint8),
    }


def same(first, second) -> bool:
    return all(np.array_equal(value, getattr(second, name)) for name, value in vars(first).items())


def shift_of(tile: np.ndarray, change) -> float:
    return float(np.abs(recolour(tile, change).astype(int) - tile).mean())


def weight_of(tile: np.ndarray, white: np.ndarray) -> np.ndarray:
    return tissue_weight(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY), white)[..., None]


def draws(strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Read alpha and beta back from a change."""
    vectors = np.array([RUIFROK[name] for name in ("hematoxylin", "eosin", "dab")])
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    change = hed_jitter(seed, "tile", strength)
    inverse = np.linalg.inv(rows.T)
    return np.diag(inverse @ change.matrix @ rows.T), inverse @ change.bias


@pytest.mark.parametrize("background", ["keep", "map"])
def test_hed_jitter_is_the_formula(background):
    alpha, beta = draws(0.2, 3)
    white = np.full(3, 240.0)
    vectors = np.array([RUIFROK[name] for name in ("hematoxylin", "eosin", "dab")])
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    density = -np.log(np.maximum(TILE.astype(float), 1) / white)
    weight = weight_of(TILE, white)
    stains = density @ np.linalg.inv(rows)
    jittered = stains * alpha + beta * (weight if background == "keep" else 1)
    expected = white * np.exp(-jittered @ rows)
    if background == "keep":
        expected = weight * expected + (1 - weight) * TILE
    found = recolour(TILE, hed_jitter(3, "tile", "strong", background=background))
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 0.52


def test_alpha_and_beta_fill_their_ranges():
    alpha, beta = (np.array(values) for values in zip(*(draws(0.2, seed) for seed in SEEDS), strict=True))
    for values, centre in ((alpha, 1.0), (beta, 0.0)):
        assert (np.abs(values - centre) <= 0.2 + 1e-9).all()
        assert (values.min(axis=0) < centre - 0.19).all()
        assert (values.max(axis=0) > centre + 0.19).all()
        np.testing.assert_allclose(values.mean(axis=0), centre, atol=0.025)
        np.testing.assert_allclose(values.std(axis=0), 0.2 / np.sqrt(3), rtol=0.1)
    assert np.abs(np.corrcoef(np.hstack([alpha, beta]).T) - np.eye(6)).max() < 0.2


def test_strengths_go_the_same_way():
    weak, strong = draws(0.01, 5), draws(0.5, 5)
    np.testing.assert_allclose((weak[0] - 1) * 50, strong[0] - 1, rtol=1e-6)
    np.testing.assert_allclose(weak[1] * 50, strong[1], rtol=1e-6)
    for name, sigma in HED_STRENGTHS.items():
        assert same(hed_jitter(5, "tile", name), hed_jitter(5, "tile", sigma))


def test_light_moves_few_levels_where_the_unit_of_scikit_image_moves_many():
    def in_their_unit(seed: int) -> np.ndarray:
        alpha, beta = draws(0.05, seed)
        return np.clip(np.rint(255 * hed2rgb(rgb2hed(TILE) * alpha + beta)), 0, 255).astype(int)

    light = np.mean([shift_of(TILE, hed_jitter(seed, "tile", 0.05)) for seed in range(40)])
    strong = np.mean([shift_of(TILE, hed_jitter(seed, "tile", 0.2)) for seed in range(40)])
    theirs = np.mean([np.abs(in_their_unit(seed) - TILE).mean() for seed in range(40)])
    assert 2 < light < 6
    assert 3 * light < strong < 5 * light
    assert theirs > 8 * light
    assert 34 < theirs < 58


@pytest.mark.parametrize("offset", [0, 1])
def test_concentration_jitter_is_the_formula(offset):
    model = fit_stains(SLIDE, offset=offset)
    change = concentration_jitter(7, "tile", model, gain_sd=0.3, bias_sd=0.1, background="map")
    amounts = separate(TILE, model).reshape(-1, 3).astype(float)
    changed = separate(recolour(TILE / 255.0, change), model).reshape(-1, 3)
    clear = ((recolour(TILE / 255.0, change) < 1).all(axis=2) & (TILE > 3).all(axis=2)).ravel()
    for stain in range(2):
        gain, bias = np.polyfit(amounts[clear, stain], changed[clear, stain], 1)
        np.testing.assert_allclose(changed[clear, stain], gain * amounts[clear, stain] + bias, atol=1e-3)
        assert abs(gain - 1) > 0.01
    np.testing.assert_allclose(changed[clear, 2], amounts[clear, 2], atol=1e-3)


def test_gains_are_log_normal_and_biases_normal():
    rows = MODEL.rows
    full = np.vstack([rows, np.cross(*rows) / np.linalg.norm(np.cross(*rows))]).T
    changes = [concentration_jitter(seed, "tile", MODEL, gain_sd=0.3, bias_sd=0.1) for seed in SEEDS]
    gains = np.array([np.diag(np.linalg.inv(full) @ change.matrix @ full) for change in changes])
    biases = np.array([np.linalg.inv(full) @ change.bias for change in changes])
    np.testing.assert_allclose(gains[:, 2], 1, atol=1e-9)
    np.testing.assert_allclose(biases[:, 2], 0, atol=1e-9)
    for values, sd in ((np.log(gains[:, :2]), 0.3), (biases[:, :2], 0.1)):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=3 * sd / 20)
        np.testing.assert_allclose(values.std(axis=0), sd, rtol=0.12)


def test_three_stains_are_all_jittered():
    model = fit_stains(SLIDE, "fixed", stains="H&E-DAB")
    change = concentration_jitter(1, "tile", model, gain_sd=0.3)
    gains = np.diag(np.linalg.inv(model.rows.T) @ change.matrix @ model.rows.T)
    assert (np.abs(gains - 1) > 0.01).all()


def test_templates_are_drawn_from_the_fitted_normals():
    model = TEMPLATES["lab"].model_copy(update={"mean_sd": (4.0, 2.0, 2.0), "sd_sd": (1.5, 0.6, 0.7)})
    fit = fit_colour(COHORT)
    changes = [randstainna_change(fit, model, seed, "tile") for seed in range(600)]
    assert all(isinstance(change, SpaceChange) for change in changes)
    scale, shift = (np.array([getattr(change, name) for change in changes]) for name in ("scale", "shift"))
    drawn = {"sd": scale * fit.sd, "mean": shift + scale * fit.mean}
    assert drawn["sd"].min() > 0
    for name, values in drawn.items():
        mean, sd = np.array(getattr(model, f"{name}_mean")), np.array(getattr(model, f"{name}_sd"))
        assert (np.abs(values.mean(axis=0) - mean) < 0.2 * sd).all()
        np.testing.assert_allclose(values.std(axis=0), sd, rtol=0.12)


def test_wide_spreads_are_drawn_again_and_pile_up_nowhere():
    wide = TEMPLATES["lab"].model_copy(update={"sd_sd": TEMPLATES["lab"].sd_mean, "mean_sd": (0.0, 0.0, 0.0)})
    fit = fit_colour(COHORT)
    scale = np.array([randstainna_change(fit, wide, seed, "tile").scale for seed in SEEDS])
    drawn = scale * fit.sd / np.array(wide.sd_mean)
    assert drawn.min() > 0
    assert (np.sort(drawn, axis=0)[:20].std(axis=0) > 0.01).all()
    # A normal of mean 1 and sd 1 without what is not positive has mean 1.288.
    np.testing.assert_allclose(drawn.mean(axis=0), 1.288, atol=0.12)


@pytest.mark.parametrize("space", ["lab", "ruderman"])
def test_randstainna_is_reinhard_to_a_virtual_template(space):
    fit = fit_colour([TILE], space, white=(242, 238, 243))
    change = randstainna_change(TILE, TEMPLATES[space], 2, "tile", white=(242, 238, 243))
    assert same(change, randstainna_change(fit, TEMPLATES[space], 2, "tile"))
    pixels = sample_pixels(TILE)
    assert same(change, randstainna_change(pixels, TEMPLATES[space], 2, "tile", white=(242, 238, 243)))
    near = {"mean_mean": fit.mean, "sd_mean": fit.sd, "mean_sd": tuple(np.multiply(fit.sd, 0.2))}
    mild = randstainna_change(fit, TEMPLATES[space].model_copy(update=near), 2, "tile")
    levels = np.array([[[150, 90, 140], [180, 120, 170], [120, 90, 130]]], np.uint8)
    moved = recolour((levels / 255).astype(np.float32), mild) * np.float32(255)
    expected = to_space(levels, space) * mild.scale + mild.shift
    np.testing.assert_allclose(to_space(moved, space), expected, atol=0.02 if space == "lab" else 1e-4)
    assert np.abs(moved - levels).max() > 2


def test_the_fit_is_means_and_standard_deviations_over_usable_images():
    blank = np.full((32, 32, 3), 245, np.uint8)
    model = fit_randstainna([*COHORT, blank], "lab")
    assert (model.images, model.left_out) == (len(COHORT), 1)
    fits = [fit_colour([tile]) for tile in COHORT]
    np.testing.assert_allclose(model.mean_mean, np.mean([fit.mean for fit in fits], axis=0))
    np.testing.assert_allclose(model.mean_sd, np.std([fit.mean for fit in fits], axis=0, ddof=1))
    np.testing.assert_allclose(model.sd_mean, np.mean([fit.sd for fit in fits], axis=0))
    np.testing.assert_allclose(model.sd_sd, np.std([fit.sd for fit in fits], axis=0, ddof=1))
    assert fit_randstainna([sample_pixels(tile) for tile in [*COHORT, blank]]) == model
    assert fit_randstainna([*fits, fit_colour([blank])]) == model
    assert fit_randstainna([tile.transpose(2, 0, 1) for tile in [*COHORT, blank]], layout="CHW") == model


def test_the_model_is_frozen_and_survives_json():
    model = TEMPLATES["ruderman"]
    assert RandStainNAModel.model_validate_json(model.model_dump_json()) == model
    with pytest.raises(ValidationError, match="frozen"):
        model.space = "lab"
    with pytest.raises(ValidationError, match="extra"):
        RandStainNAModel(**model.model_dump(), spread=1)
    with pytest.raises(ValidationError, match="sd_sd"):
        RandStainNAModel(**{**model.model_dump(), "sd_sd": (-1, 1, 1)})
    with pytest.raises(ValidationError, match="sd_mean"):
        RandStainNAModel(**{**model.model_dump(), "sd_mean": (0, 1, 1)})


def all_changes(seed: int, tile_id: str, tile: np.ndarray = TILE) -> list:
    return [
        hed_jitter(seed, tile_id),
        concentration_jitter(seed, tile_id, MODEL),
        randstainna_change(tile, TEMPLATES["lab"], seed, tile_id),
    ]


def test_a_change_depends_on_seed_and_tile_only():
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = all_changes(1, "a")
    for other in (all_changes(2, "a"), all_changes(1, "b")):
        assert not any(same(*pair) for pair in zip(first, other, strict=True))
    assert all(same(*pair) for pair in zip(first, all_changes(1, "a"), strict=True))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert not np.allclose(first[0].matrix, first[1].matrix)


def test_no_strength_is_no_change():
    assert np.abs(recolour(TILE, hed_jitter(0, "tile", 1e-6)).astype(int) - TILE).max() <= 1
    still = concentration_jitter(0, "tile", MODEL, gain_sd=0, bias_sd=0)
    assert np.abs(recolour(TILE, still).astype(int) - TILE).max() <= 1
    fit = fit_colour([TILE])
    alone = RandStainNAModel(
        space="lab", mean_mean=fit.mean, mean_sd=(0, 0, 0), sd_mean=fit.sd, sd_sd=(0, 0, 0), images=2, left_out=0
    )
    assert np.abs(recolour(TILE, randstainna_change(fit, alone, 0, "tile")).astype(int) - TILE).max() <= 1


def test_glass_keeps_its_colour_unless_it_is_mapped():
    model = MODEL.model_copy(update={"white": (242.0, 237.0, 243.0)})
    fit = fit_colour(SLIDE, white=(242, 237, 243))
    tinted = []
    for seed in range(20):
        for keep in (
            hed_jitter(seed, "tile", "strong"),
            concentration_jitter(seed, "tile", model, bias_sd=0.2),
            randstainna_change(fit, TEMPLATES["lab"], seed, "tile"),
        ):
            np.testing.assert_array_equal(recolour(GLASS, keep), GLASS)
        tinted += [
            shift_of(GLASS, hed_jitter(seed, "tile", "strong", white=255, background="map")),
            shift_of(GLASS, concentration_jitter(seed, "tile", model, bias_sd=0.2, background="map")),
            shift_of(GLASS, randstainna_change(fit, TEMPLATES["lab"], seed, "tile", background="map")),
        ]
    assert np.mean(tinted) > 5


@pytest.mark.parametrize("name", list(odd_tiles()))
def test_odd_tiles_do_not_fail(name):
    tile = odd_tiles()[name]
    for change in all_changes(0, "tile", tile):
        for image, layout in ((tile, "HWC"), (tile.transpose(2, 0, 1), "CHW"), (tile.astype(np.float32) / 255, "HWC")):
            found = recolour(image, change, layout=layout)
            assert found.shape == image.shape
            assert found.dtype == image.dtype
    virtual = randstainna_change(tile, TEMPLATES["lab"], 0, "tile")
    if name in ("white", "black", "one pixel"):
        assert isinstance(virtual, NoChange)
        assert virtual.reason == "too-little-tissue"


def test_fits_that_are_not_usable_change_nothing():
    blank = fit_stains([np.full((40, 40, 3), 250, np.uint8)])
    change = concentration_jitter(0, "tile", blank)
    assert isinstance(change, NoChange)
    assert change.reason == "too-little-tissue"
    # Green tissue, far from every template of the cohort.
    green = ColourModel(**{**fit_colour([TILE]).model_dump(), "tissue_colour": (60, 160, 60), "mean": (60, -45, 40)})
    far = randstainna_change(green, TEMPLATES["lab"], 0, "tile")
    assert isinstance(far, NoChange)
    assert far.reason == "hue-flip"


def test_layouts_and_floats_give_the_same_change():
    change = randstainna_change(TILE, TEMPLATES["lab"], 0, "tile")
    assert same(change, randstainna_change(TILE.transpose(2, 0, 1), TEMPLATES["lab"], 0, "tile", layout="CHW"))
    assert same(change, randstainna_change(TILE / np.float32(255), TEMPLATES["lab"], 0, "tile"))
    assert isinstance(hed_jitter(0, 7), DensityChange)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hed_jitter(0, "t", "lite"), r"no strength of HED jitter is called 'lite'.*did you mean 'light'"),
        (lambda: hed_jitter(0, "t", 1.0), r"out of range.*1\.0.*above 0 and below 1"),
        (lambda: hed_jitter(0, "t", 0.0), "out of range"),
        (lambda: hed_jitter(0, "t", float("nan")), "out of range.*nan"),
        (lambda: hed_jitter(-1, "t"), "a seed is not negative.*-1"),
        (lambda: hed_jitter(0, "t", white=0.9), "white.*0.9.*1 to 256"),
        (lambda: hed_jitter(0, "t", background="drop"), "background.*drop.*keep, map"),
        (lambda: concentration_jitter(0, "t", MODEL, gain_sd=-0.1), "gain_sd.*-0.1"),
        (lambda: concentration_jitter(0, "t", MODEL, bias_sd=float("inf")), "bias_sd.*inf"),
        (lambda: concentration_jitter(0, "t", MODEL, background="no"), "background"),
        (lambda: fit_randstainna(COHORT, "labs"), "no colour space is called 'labs'.*'lab'"),
        (lambda: fit_randstainna([fit_colour([TILE], "ruderman")], "lab"), "another space.*ruderman.*lab"),
        (lambda: randstainna_change(fit_colour([TILE], "ruderman"), TEMPLATES["lab"], 0, "t"), "another space"),
        (lambda: randstainna_change(TILE, TEMPLATES["lab"], 0, "t", background="no"), "background"),
    ],
)
def test_options_that_are_wrong(call, message):
    with pytest.raises(OptionError, match=message):
        call()


def test_too_few_usable_images():
    blank = np.full((32, 32, 3), 245, np.uint8)
    with pytest.raises(InputError, match=r"two usable images.*3 images, 1 usable, 2 too-little-tissue.*several slides"):
        fit_randstainna([TILE, blank, blank])
    with pytest.raises(InputError, match="0 images, 0 usable"):
        fit_randstainna([])
