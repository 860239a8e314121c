"""Changes from fits, references, per-tile normalisation, and what is refused."""

import warnings

import numpy as np
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.stain import (
    NORMALIZERS,
    DensityChange,
    NoChange,
    PerTileWarning,
    SparseChange,
    colour_change,
    fit_colour,
    fit_stains,
    fit_tile,
    normalize,
    normalize_tile,
    recolour,
    reference_names,
    separate,
    shipped_reference,
    tile_change,
)
from histolatent.stain.vectors import RUIFROK, complete

WHITE_TILE = np.full((64, 64, 3), 244, np.uint8)


def test_amounts_come_out_as_the_references(others):
    """After the change the 99th percentiles and vectors of a noise-free slide are the reference's."""
    fit, reference = fit_stains(others), shipped_reference("phantom", "macenko")
    positive = colour_change(fit, reference)
    assert isinstance(positive, SparseChange)
    assert positive.penalty == 0
    np.testing.assert_array_equal(positive.vectors_out, reference.rows)
    np.testing.assert_allclose(positive.gains, np.array(reference.max_concentrations) / fit.max_concentrations)
    change = colour_change(fit, reference, signed=True)
    assert isinstance(change, DensityChange)
    np.testing.assert_allclose(change.white_out, reference.white)
    # Where no amount is negative, the sign makes no difference.
    rng = np.random.default_rng(0)
    inside = 240 * np.exp(-rng.uniform(0.05, 0.8, (40, 40, 2)) @ fit.rows) / 255
    keep = np.abs(recolour(inside, change) - recolour(inside, positive)).max(axis=2) < 1e-3
    assert keep.mean() > 0.95
    # Each fitted vector at its own 99th percentile becomes the reference's at its own.
    for row, top, row_out, top_out in zip(
        fit.rows, fit.max_concentrations, reference.rows, reference.max_concentrations, strict=True
    ):
        np.testing.assert_allclose(change.matrix @ (top * row), top_out * row_out, atol=1e-4)
    # What the two stains do not explain is dropped.
    assert np.linalg.matrix_rank(change.matrix, tol=1e-6) == 2


def test_a_slide_looks_like_the_reference_afterwards(others):
    for method in ("macenko", "vahadane"):
        reference = shipped_reference("phantom", method)
        change = colour_change(fit_stains(others, method), reference)
        again = fit_stains([recolour(tile, change) for tile in others], method, white=reference.white)
        np.testing.assert_allclose(again.rows, reference.rows, atol=0.06)
        np.testing.assert_allclose(again.max_concentrations, reference.max_concentrations, rtol=0.12)


@pytest.mark.parametrize("space", ["lab", "ruderman"])
def test_colours_come_out_as_the_references(others, space):
    method = {"lab": "reinhard", "ruderman": "reinhard-ruderman"}[space]
    reference = shipped_reference("phantom", method)
    change = colour_change(fit_colour(others, space), reference)
    again = fit_colour([recolour(tile, change) for tile in others], space, white=reference.white)
    scale = 50 if space == "lab" else 1
    np.testing.assert_allclose(again.mean, reference.mean, atol=0.06 * scale)
    np.testing.assert_allclose(again.sd, reference.sd, atol=0.06 * scale)


def test_vahadane_changes_are_sparse(others):
    change = colour_change(fit_stains(others, "vahadane"), shipped_reference("phantom", "vahadane"))
    assert isinstance(change, SparseChange)


def test_modified_reinhard_is_its_formula(others):
    fit, reference = fit_colour(others), shipped_reference("phantom", "reinhard")
    change = colour_change(fit, reference, modified=True)
    assert not isinstance(change, NoChange)
    wider = (reference.sd[0] - fit.sd[0]) / reference.sd[0]
    np.testing.assert_allclose(change.scale, [1 + (wider if wider > 0 else 0.05), 1, 1])
    np.testing.assert_allclose(change.scale * fit.mean + change.shift, [fit.mean[0], *reference.mean[1:]], atol=1e-9)


@pytest.mark.parametrize("name", [*NORMALIZERS])
def test_normalising_per_tile_warns_and_says_what_was_done(others, name):
    with pytest.warns(PerTileWarning, match=r"fitted to one tile.*Fit per slide"):
        out, change = normalize_tile(others[0], shipped_reference("phantom", name), name)
    np.testing.assert_array_equal(out, recolour(others[0], change))


@pytest.mark.parametrize("name", [*NORMALIZERS])
@pytest.mark.filterwarnings("ignore::histolatent.stain.PerTileWarning")
def test_a_white_tile_is_unchanged_with_the_reason(name):
    out, change = normalize_tile(WHITE_TILE, shipped_reference("phantom", name), name)
    assert isinstance(change, NoChange)
    assert change.reason == "too-little-tissue"
    assert "100 pixels" in change.why
    np.testing.assert_array_equal(out, WHITE_TILE)


def test_normalize_is_change_and_recolour(others, slide_fits):
    fit = fit_stains(others)
    expected = recolour(others[1], colour_change(fit, slide_fits["macenko"]))
    np.testing.assert_array_equal(normalize(others[1], fit, slide_fits["macenko"]), expected)
    chw = normalize(others[1].transpose(2, 0, 1), fit, slide_fits["macenko"], layout="CHW")
    np.testing.assert_array_equal(chw.transpose(1, 2, 0), expected)


def test_a_hue_flip_is_refused(make_model):
    """A slide of brown tissue, made to look like blue: more than 40 degrees of hue."""
    brown = make_model(tissue_colour=(180.0, 120.0, 70.0), stained_colour=(180.0, 120.0, 70.0))
    blue = make_model(rows=np.array([(0.8, 0.55, 0.2), (0.7, 0.65, 0.3)]))
    change = colour_change(brown, blue)
    assert isinstance(change, NoChange)
    assert change.reason == "hue-flip"
    assert "more than 40" in change.why
    # Ink beside the tissue counts as well, and so does grey that would be coloured.
    fitted = {"method": "macenko", "stains": ("hematoxylin", "eosin")}
    green = make_model(stained_colour=(60.0, 150.0, 90.0), **fitted)
    assert isinstance(colour_change(green, make_model(**fitted)), NoChange)
    assert not isinstance(colour_change(make_model(**fitted), make_model(**fitted)), NoChange)
    grey = make_model(tissue_colour=(120.0, 120.0, 122.0), **fitted)
    assert "would turn by 180.0 degrees" in colour_change(grey, make_model(**fitted)).why
    assert not isinstance(colour_change(grey, make_model(**fitted), hue_limit=180), NoChange)


@pytest.mark.parametrize("method", ["macenko", "vahadane", "reinhard"])
def test_a_tile_of_ink_in_a_slide_is_left_alone(others, method):
    """The slide's mean hue does not turn, but that of a tile full of green pen does."""
    target = NORMALIZERS[method]
    fit = fit_stains(others, target) if target == method else fit_colour(others, target)
    change = colour_change(fit, shipped_reference("phantom", method))
    assert not isinstance(change, NoChange)
    ink = others[0].copy()
    ink[20:140] = (40, 140, 90)
    left = tile_change(ink, fit, change)
    assert isinstance(left, NoChange)
    assert left.reason == "hue-flip"
    assert left.why.startswith("the mean hue of the ink, which is most of the tile, would turn by ")
    assert tile_change(ink, fit, change, hue_limit=180) is change
    assert tile_change(ink.transpose(2, 0, 1), fit, change, layout="CHW").reason == "hue-flip"
    for tile in (*others, WHITE_TILE, np.zeros((8, 8, 3), np.uint8)):
        assert tile_change(tile, fit, change) is change
    assert tile_change(others[0], fit, left) is left


def test_a_tile_that_a_fit_of_all_tiles_does_not_suit_is_left_alone(others):
    fit = fit_stains(others, "macenko")
    change = colour_change(fit, shipped_reference("phantom", "macenko"))
    left = tile_change(others[0], fit, change, mixed=True, hue_limit=0.01)
    assert isinstance(left, NoChange) and left.reason == "hue-flip"
    assert left.why.startswith("the mean hue of all that the tile shows would turn by ")
    assert tile_change(others[0], fit, change, hue_limit=0.01) is change  # of a slide, only ink is looked for
    assert tile_change(others[0], fit, change, mixed=True) is change


def test_vectors_given_are_as_good_as_published_ones(others):
    """The Ruifrok-Johnston vectors by hand do what `fixed` does: what they leave over stays."""
    rows = [RUIFROK["hematoxylin"], RUIFROK["eosin"]]
    fit, given = fit_stains(others, "fixed"), fit_stains(others, "fixed", vectors=rows)
    reference = shipped_reference("phantom", "fixed")
    one, other = colour_change(fit, reference), colour_change(given, reference)
    np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-4)
    assert np.linalg.matrix_rank(other.matrix, tol=1e-6) == 3
    # Between two sets of vectors, each stain goes to its own, and the residual to the residual.
    moved = fit_stains(others, "fixed", vectors=[(0.6, 0.72, 0.3), (0.15, 0.95, 0.2)])
    across = colour_change(given, moved, hue_limit=180)
    gains = np.array(moved.max_concentrations) / given.max_concentrations
    for k in range(2):
        np.testing.assert_allclose(across.matrix @ given.rows[k], gains[k] * moved.rows[k], atol=1e-5)
    np.testing.assert_allclose(across.matrix @ complete(given.rows)[2], complete(moved.rows)[2], atol=1e-5)


def test_a_slide_of_one_stain_with_a_prior_is_not_made_black(make_model):
    """A fixed fit of tissue with next to no eosin: eosin is not blown up to the reference's."""
    colour = (110.0, 80.0, 140.0)
    faint = make_model(max_concentrations=(1.5, 0.001), tissue_colour=colour, stained_colour=colour)
    change = colour_change(faint, make_model(max_concentrations=(1.5, 0.9)))
    assert not isinstance(change, NoChange)
    assert np.abs(change.matrix).max() < 20


@pytest.mark.parametrize("method", ["macenko", "fixed", "reinhard", "reinhard-ruderman"])
def test_the_background_can_be_mapped(others, method):
    reference = shipped_reference("phantom", method)
    target = NORMALIZERS[method]
    fit = fit_stains(others, target) if target == method else fit_colour(others, target)
    kept, mapped = (recolour(others[0], colour_change(fit, reference, background=how)) for how in ("keep", "map"))
    bright = others[0].min(axis=2) >= 228
    np.testing.assert_array_equal(kept[bright], others[0][bright])
    if method in ("macenko", "fixed"):
        glass = np.rint(fit.white).astype(np.uint8).reshape(1, 1, 3)
        out = recolour(glass, colour_change(fit, reference, background="map"))
        np.testing.assert_allclose(out.ravel(), reference.white, atol=1)
    dark = others[0].max(axis=2) < 180
    np.testing.assert_array_equal(kept[dark], mapped[dark])


def test_messages(make_model, others, slide_fits):
    model, colours = make_model(), slide_fits["reinhard"]
    with pytest.raises(OptionError, match=r"a stain model and a colour model cannot be matched.*same method"):
        colour_change(model, colours)
    with pytest.raises(OptionError, match=r"in different colour spaces.*lab.*ruderman"):
        colour_change(colours, slide_fits["reinhard-ruderman"])
    with pytest.raises(OptionError, match=r"different stains"):
        colour_change(make_model(), make_model(rows=np.eye(3)))
    dab = fit_tile(others[0], "fixed", stains="H-DAB")
    with pytest.raises(OptionError, match=r"different stains.*hematoxylin, eosin.*hematoxylin, dab"):
        colour_change(slide_fits["fixed"], dab)
    with pytest.raises(OptionError, match=r"cannot be a reference: fewer than 100 pixels.*0 tissue pixels"):
        colour_change(model, fit_tile(WHITE_TILE))
    with pytest.raises(OptionError, match=r"cannot be a reference: fewer than 100 pixels"):
        colour_change(colours, fit_colour([WHITE_TILE]))
    with pytest.raises(OptionError, match=r"no reference is called 'fantom'.*did you mean 'phantom'"):
        shipped_reference("fantom", "macenko")
    with pytest.raises(OptionError, match=r"no normalisation method is called 'reinhart'.*did you mean 'reinhard'"):
        shipped_reference("phantom", "reinhart")
    with pytest.raises(OptionError, match=r"'macenko' has no numbers for reinhard.*macenko, vahadane"):
        shipped_reference("macenko", "reinhard")


@pytest.mark.filterwarnings("ignore::histolatent.stain.PerTileWarning")
def test_messages_per_tile():
    reference = shipped_reference("phantom", "macenko")
    with pytest.raises(OptionError, match=r"no normalisation method is called 'macenco'.*did you mean 'macenko'"):
        normalize_tile(WHITE_TILE, reference, "macenco")
    with pytest.raises(InputError, match=r"must be RGB.*CHW"):
        normalize_tile(WHITE_TILE.transpose(2, 0, 1), reference)
    with pytest.raises(InputError, match="type of an image"):
        normalize_tile(WHITE_TILE.astype(np.uint16), reference)


def test_every_shipped_reference_is_valid_and_serves():
    assert reference_names() == ("macenko", "phantom")
    for name in NORMALIZERS:
        assert shipped_reference("phantom", name).valid
    for name in ("macenko", "vahadane"):
        np.testing.assert_allclose(shipped_reference("macenko", name).max_concentrations, (1.9705, 1.0308))


def test_nothing_warns_per_slide(others):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        normalize(others[0], fit_stains(others), shipped_reference("phantom", "macenko"))


def test_overlapping_tiles_agree_with_one_fit(others):
    """The same pixels in two overlapping tiles: equal with the slide's fit, not with each tile's own."""
    whole = others[0]
    left, right = whole[:, :120], whole[:, 40:]
    change = colour_change(fit_stains(others), shipped_reference("phantom", "macenko"))
    np.testing.assert_array_equal(recolour(left, change)[:, 40:], recolour(right, change)[:, :80])
    reference = shipped_reference("phantom", "macenko")
    own = [recolour(tile, colour_change(fit_tile(tile), reference)) for tile in (left, right)]
    assert (own[0][:, 40:] != own[1][:, :80]).mean() > 0.05


def test_what_lies_beyond_the_stains_does_not_come_out_white(make_model):
    """Red bone, redder than eosin: with the sign kept, its negative hematoxylin is blown up until it is white."""
    fitted = {"method": "macenko", "stains": ("hematoxylin", "eosin")}
    pale = make_model(max_concentrations=(0.8, 1.6), tissue_colour=(200.0, 110.0, 150.0), **fitted)
    deep = make_model(max_concentrations=(2.2, 0.9), **fitted)
    red = np.full((4, 4, 3), (200, 60, 70), np.uint8)
    signed, positive = (colour_change(pale, deep, signed=signed, hue_limit=180) for signed in (True, False))
    assert recolour(red, signed).max(axis=2).min() == 255
    out = recolour(red, positive)
    assert out.min() < 200
    codes = separate(out, deep)[0, 0]
    assert codes[0] == pytest.approx(0, abs=0.03) and codes[1] > 0.3


def test_separation_after_normalising_is_in_the_references_terms(others):
    reference = shipped_reference("phantom", "macenko")
    fit = fit_stains(others)
    out = normalize(others[0], fit, reference, background="map")
    before, after = separate(others[0], fit), separate(out, reference)
    gains = np.array(reference.max_concentrations) / fit.max_concentrations
    inside = (out < 255).all(axis=2) & (out > 20).all(axis=2) & (before[..., :2] > 0).all(axis=2)
    np.testing.assert_allclose(after[inside][:, :2], before[inside][:, :2] * gains, atol=0.12)
