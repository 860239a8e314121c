"""The stain manifold: what a state means, by formulas written out, planted protocols, and what must not matter."""

import json
import math
import pickle
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histolatent.errors import InputError, OptionError
from histolatent.images.phantom import PhantomSpec, PhantomTiles, protocols
from histolatent.images.phantom.render import render_site, stain_slide
from histolatent.stain import MACENKO_REFERENCE, StainModel, canonical_vectors, fit_stains, separate
from histolatent.stain.manifold import AXES, ProtocolState, StainManifold, fit_prior, fixed_prior, state_between
from histolatent.stain.manifold.staining import coordinates_between, stained_vectors
from histolatent.stain.model import StainBook
from histolatent.stain.vectors import angle, complete, unit_rows

SOURCE = PhantomTiles(PhantomSpec(sites=1, patients=2, slides=1, tiles_per_site=12, tile_px=64))
POINTWISE = [name for name in AXES if name not in ("blur", "noise", "jpeg")]


def model_of(**changes) -> StainModel:
    rows = unit_rows([MACENKO_REFERENCE["hematoxylin"], MACENKO_REFERENCE["eosin"]])
    values = {
        "method": "macenko",
        "stains": ("hematoxylin", "eosin"),
        "vectors": tuple(map(tuple, rows.tolist())),
        "max_concentrations": (1.6, 1.1),
        "canonical_degrees": (0.0, 0.0),
        "spread_degrees": (0.0, 0.0),
        "white": (242.0, 238.0, 245.0),
        "white_source": "background",
        "tissue_colour": (180.0, 120.0, 170.0),
        "stained_colour": (180.0, 120.0, 170.0),
        "tissue_pixels": 5000,
        "tiles": 4,
        "tiles_used": 4,
        "reason": "ok",
    }
    return StainModel.model_validate(values | changes)


@cache
def manifold() -> StainManifold:
    return StainManifold(model_of(), fixed_prior())


def tile(seed: int = 0, height: int = 37, width: int = 29) -> np.ndarray:
    """Return non-negative amounts of both stains on glass, and a strip of anything at all."""
    rng = np.random.default_rng(seed)
    amounts = rng.uniform(0, 0.9, (height, width, 2))
    levels = np.array(model_of().white) * np.exp(-amounts @ model_of().rows)
    levels[: height // 4] = rng.uniform(0, 255, levels[: height // 4].shape)
    return np.rint(levels).astype(np.uint8)


def states(names=tuple(AXES), share: float = 0.6):
    """Return a Hypothesis strategy of states."""
    each = {name: st.floats(share * AXES[name].limits[0], share * AXES[name].limits[1]) for name in names}
    return st.fixed_dictionaries({}, optional=each).flatmap(
        lambda found: st.builds(lambda seed: ProtocolState(seed=seed, **found), st.integers(0, 2**63 - 1))
    )


# What a state is.


def test_axes_are_sound():
    for axis in AXES.values():
        low, high = axis.limits
        assert axis.one_sided == (low == 0), axis.name
        assert 0 < 4 * axis.sd <= high and low in (0, -high), axis.name
        assert axis.part in ("stain", "camera") and axis.describes and axis.unit
    assert len(AXES) == 21


@given(states())
def test_states_survive_every_form(state):
    assert ProtocolState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert ProtocolState.from_array(state.to_array(), state.seed) == state
    assert pickle.loads(pickle.dumps(state)) == state and hash(pickle.loads(pickle.dumps(state))) == hash(state)
    assert [state[name] for name in AXES] == state.to_array().tolist()


def test_a_state_shows_what_is_not_zero():
    assert (
        repr(ProtocolState(gamma=0.125, eosin_gain=-0.25, blur=0.0)) == "ProtocolState(eosin_gain=-0.25, gamma=0.125)"
    )
    assert repr(ProtocolState()) == "ProtocolState()" and ProtocolState().is_tile
    assert repr(ProtocolState(seed=4)) == "ProtocolState(seed=4)" and ProtocolState(seed=4).is_tile
    moved = ProtocolState(gamma=0.1, seed=4).moved(blur=1)
    assert moved == ProtocolState(gamma=0.1, blur=1, seed=4) and moved.moved(seed=5).seed == 5
    assert ProtocolState(gamma=-0.0) == ProtocolState() and math.copysign(1, ProtocolState(gamma=-0.0)["gamma"]) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProtocolState(eosin_gian=0.1), "no axis 'eosin_gian'.*did you mean 'eosin_gain'"),
        (lambda: ProtocolState.from_dict({"hematoxilin_turn": 1}), "did you mean 'hematoxylin_turn'"),
        (lambda: ProtocolState()["bluur"], "did you mean 'blur'"),
        (lambda: ProtocolState(blur=-0.1), r"blur is out of its limits. Received: -0.1. Valid: 0 to 5 \(um\)"),
        (lambda: ProtocolState(eosin_turn=21), r"eosin_turn is out of its limits.*-20 to 20 \(degrees\)"),
        (lambda: ProtocolState(gamma=float("nan")), "gamma is no finite number. Received: nan"),
        (lambda: ProtocolState(gamma=float("inf")), "gamma is no finite number"),
        (lambda: ProtocolState(gamma="soft"), "gamma is no finite number. Received: 'soft'"),
        (lambda: ProtocolState(seed=1.5), "seed of a protocol state is no whole number. Received: 1.5"),
        (lambda: ProtocolState(seed=-1), "seed of a protocol state"),
        (lambda: manifold().grid(tile(), "gamma", "gamma"), "two different axes"),
        (lambda: manifold().grid(tile(), "gamma", "blur", []), "at least one value"),
        (lambda: manifold().grid(tile(), "gama", "blur"), "did you mean 'gamma'"),
        (lambda: manifold().render(tile(), ProtocolState(blur=1), mpp=0), "mpp is no positive number.*Received: 0"),
        (
            lambda: StainManifold(model_of(), slides={"s1": model_of()}).render(tile(), ProtocolState(), slide="s2"),
            "no slide in the stain manifold is called 's2'.*did you mean 's1'",
        ),
        (
            lambda: StainManifold(model_of(stains=("hematoxylin", "dab"))),
            "anchor model is not of hematoxylin and eosin",
        ),
        (lambda: state_between(model_of(), model_of(reason="one-stain")), "the second stain model is not usable"),
        (
            lambda: state_between(model_of(), model_of(max_concentrations=(0.1, 1.1))),
            "hematoxylin_gain is out of its limits",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(OptionError, match=re.compile(message, re.DOTALL)):
        make()


def test_wrong_arrays_and_documents_are_named():
    with pytest.raises(InputError, match=r"do not match the axes. Received: shape \(3,\)"):
        ProtocolState.from_array([0, 0, 0])
    document = manifold().to_dict()
    with pytest.raises(InputError, match="field prior is missing"):
        StainManifold.from_dict({"anchor": {}, "slides": {}})
    with pytest.raises(InputError, match=r"field anchor is no stain model.*white"):
        StainManifold.from_dict(document | {"anchor": document["anchor"] | {"white": [0, 0, 0]}})
    with pytest.raises(InputError, match="must be RGB"):
        manifold().render(np.zeros((4, 4), np.uint8), ProtocolState())


# What a state does.


def written_out(image: np.ndarray, state: ProtocolState, model: StainModel) -> np.ndarray:
    """Return levels of the pointwise axes: the definition, in float64, with nothing of the package but its numbers."""
    p, (h, e), white = state, model.rows, np.array(model.white)
    n = np.cross(h, e) / np.linalg.norm(np.cross(h, e))
    density = np.log(white) - np.log(np.maximum(image.astype(float), 1))
    amounts = np.linalg.solve(np.array([h, e, n]).T, density[..., None])[..., 0]
    grown = amounts * np.exp([p["hematoxylin_gain"], p["eosin_gain"], 0])
    grey = np.log(white @ [0.299, 0.587, 0.114]) - np.log(np.maximum(np.rint(image @ [0.299, 0.587, 0.114]), 1))
    step = np.clip((grey - 0.05) / 0.1, 0, 1)
    tissue = 3 * step**2 - 2 * step**3
    grown += tissue[..., None] * [p["hematoxylin_bias"], p["eosin_bias"], 0]
    turned = []
    for own, other, name in ((h, e, "hematoxylin"), (e, h, "eosin")):
        a, b = np.radians([p[f"{name}_turn"], p[f"{name}_tilt"]])
        along = (other - own * (own @ other)) / np.sin(np.arccos(own @ other))
        turned.append(np.cos(b) * (np.cos(a) * own + np.sin(a) * along) + np.sin(b) * n)
    white = white * np.exp([p["illuminant_red"], p["illuminant_green"], p["illuminant_blue"]])
    share = np.exp(-grown @ np.array([*turned, n]))
    red, green, blue = np.moveaxis(share, -1, 0)
    mixed = white * np.stack(
        [
            red + p["mix_red_green"] * (green - red) + p["mix_red_blue"] * (blue - red),
            green + p["mix_green_red"] * (red - green) + p["mix_green_blue"] * (blue - green),
            blue + p["mix_blue_red"] * (red - blue) + p["mix_blue_green"] * (green - blue),
        ],
        axis=-1,
    )
    return 255 * (np.clip(mixed, 0, 255) / 255) ** np.exp(-p["gamma"])


@given(states(POINTWISE), st.integers(0, 9))
def test_rendering_is_the_formula(state, seed):
    rendered = manifold().render(tile(seed), state)
    assert rendered.dtype == np.uint8
    if not state.is_tile:
        assert np.abs(rendered - written_out(tile(seed), state, model_of())).max() <= 0.51


@pytest.mark.parametrize("stain", ["hematoxylin", "eosin"])
def test_a_gain_of_ln_2_doubles_the_amounts(stain):
    image = (
        np.array(model_of().white) * np.exp(-np.random.default_rng(3).uniform(0, 0.6, (20, 20, 2)) @ model_of().rows)
    ) / 255
    before = separate(image, model_of())
    after = separate(manifold().render(image, ProtocolState(**{f"{stain}_gain": math.log(2)})), model_of())
    k = ["hematoxylin", "eosin"].index(stain)
    factors = np.ones(3)
    factors[k] = 2
    np.testing.assert_allclose(after, before * factors, atol=2e-5)


def test_bias_is_on_tissue_only():
    image = tile()[10:]
    image[:3] = model_of().white
    rendered = manifold().render(image, ProtocolState(eosin_bias=0.2))
    assert (rendered[:3] == image[:3]).all()
    stained = image @ [0.299, 0.587, 0.114] < 240 * math.exp(-0.16)
    gained = (separate(rendered, model_of()) - separate(image, model_of()))[stained]
    np.testing.assert_allclose(np.median(gained, axis=0), [0, 0.2, 0], atol=0.01)


@pytest.mark.parametrize("stain", ["hematoxylin", "eosin"])
def test_turns_are_degrees(stain):
    rows, k = complete(model_of().rows), ["hematoxylin", "eosin"].index(stain)
    turned = stained_vectors(rows, ProtocolState(**{f"{stain}_turn": 7.0}))
    assert angle(turned[k], rows[k]) == pytest.approx(7)
    assert angle(turned[k], rows[1 - k]) == pytest.approx(angle(rows[0], rows[1]) - 7)
    tilted = stained_vectors(rows, ProtocolState(**{f"{stain}_tilt": -4.0}))
    assert angle(tilted[k], rows[2]) == pytest.approx(94) and np.allclose(np.linalg.norm(tilted, axis=1), 1)
    assert (turned[[1 - k, 2]] == rows[[1 - k, 2]]).all() and (tilted[[1 - k, 2]] == rows[[1 - k, 2]]).all()


@given(states([*POINTWISE[:2], *POINTWISE[4:11]], share=0.9))
def test_coordinates_between_models_are_those_of_the_state(state):
    rows = stained_vectors(complete(model_of().rows), state)[:2]
    amounts = np.array([1.6, 1.1]) * np.exp([state["hematoxylin_gain"], state["eosin_gain"]])
    white = np.array([180.0, 170.0, 175.0]) * np.exp(state.to_array()[8:11])
    first = model_of(white=(180.0, 170.0, 175.0))
    second = first.model_copy(
        update={
            "vectors": tuple(map(tuple, rows.tolist())),
            "max_concentrations": tuple(amounts.tolist()),
            "white": tuple(white.tolist()),
        }
    )
    found = ProtocolState.from_dict(coordinates_between(first, second))
    np.testing.assert_allclose(found.to_array(), state.to_array(), atol=1e-7)


# The state 0, and what must not matter.

KINDS = {
    "white": np.full((9, 9, 3), 255, np.uint8),
    "black": np.zeros((9, 9, 3), np.uint8),
    "pen": np.full((9, 9, 3), (20, 60, 230), np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (33, 17, 3), dtype=np.uint8),
    "one pixel": np.full((1, 1, 3), (200, 100, 150), np.uint8),
    "phantom": SOURCE.read(0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_0_is_the_tile(kind):
    image = KINDS[kind]
    copy = manifold().render(image, ProtocolState(seed=7))
    assert copy is not image and (copy == image).all() and not np.shares_memory(copy, image)
    assert (manifold().render(image / 255, ProtocolState()) == image / 255).all()
    # Next to 0 there is no copy any more, but no jump either.
    for name in set(AXES) - {"jpeg"}:
        near = manifold().render(image, ProtocolState(**{name: 1e-6}))
        assert np.abs(near.astype(int) - image).max() <= 1, name


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("layout", ["HWC", "CHW"])
def test_type_and_layout_come_back(dtype, layout):
    image = tile() if dtype == np.uint8 else (tile() / 255).astype(dtype)
    image = np.ascontiguousarray(image.transpose(2, 0, 1)) if layout == "CHW" else image
    kept = image.copy()
    image.flags.writeable = False
    for state in (ProtocolState(eosin_gain=0.2, blur=0.4, noise=2), ProtocolState(jpeg=20), ProtocolState()):
        out = manifold().render(image, state, layout=layout)
        assert out.dtype == dtype and out.shape == image.shape and (image == kept).all()
        wanted = manifold().render(tile(), state)
        levels = (out.transpose(1, 2, 0) if layout == "CHW" else out).astype(float) * (1 if dtype == np.uint8 else 255)
        assert np.abs(levels - wanted).max() <= (0.7 if state["jpeg"] == 0 else 8)


def test_float_is_rounded_for_jpeg_only():
    image = tile() / 255
    levels = manifold().render(image, ProtocolState(gamma=0.1)) * 255
    assert np.abs(levels - np.rint(levels)).max() > 0.3
    levels = manifold().render(image, ProtocolState(gamma=0.1, jpeg=5)) * 255
    assert np.abs(levels - np.rint(levels)).max() < 1e-4


@given(states(POINTWISE), st.integers(0, 20), st.integers(0, 20))
def test_a_pixel_comes_out_the_same_in_every_tile_that_shows_it(state, top, left):
    image = tile()
    part = manifold().render(image[top : top + 13, left : left + 7], state)
    assert (part == manifold().render(image, state)[top : top + 13, left : left + 7]).all()


def test_the_slide_decides():
    pale = model_of(vectors=tuple(map(tuple, canonical_vectors().tolist())), white=(220.0, 221.0, 222.0))
    two = StainManifold(model_of(), slides={"a": model_of(), "b": pale})
    state = ProtocolState(hematoxylin_gain=0.4)
    assert (two.render(tile(), state, slide="a") == two.render(tile(), state)).all()
    assert (two.render(tile(), state, slide="b") == StainManifold(pale).render(tile(), state)).all()
    assert (two.render(tile(), state, slide="b") != two.render(tile(), state)).any()
    # Without models of slides, the anchor is every slide's.
    assert (manifold().render(tile(), state, slide="any") == manifold().render(tile(), state)).all()


def test_a_fit_that_is_not_usable_says_so():
    blank = fit_stains([np.full((64, 64, 3), 236, np.uint8)])
    assert not blank.valid
    alone = StainManifold(blank)
    anchor = alone.anchor_of(None)
    assert (anchor.source, anchor.why) == ("canonical", "fewer than 100 pixels of stained tissue")
    assert "anchor canonical, since fewer than 100 pixels of stained tissue" in repr(alone)
    np.testing.assert_allclose(anchor.vectors[:2], canonical_vectors())
    assert anchor.white.tolist() == [236] * 3 and min(anchor.max_concentrations) > 0.3
    # A slide without tissue takes the cohort's vectors, and keeps its own background.
    found = StainManifold(model_of(), slides={"blank": blank}).anchor_of("blank")
    assert found.source == "fitted" and found.why == blank.why and found.white.tolist() == [236] * 3
    np.testing.assert_allclose(found.vectors[:2], model_of().rows)


def test_stains_that_cannot_be_told_apart_are_no_anchor():
    """Unmixed by vectors 9 degrees apart, a little more eosin would turn glass blue and specks white."""
    rows = complete(model_of().rows)
    apart = angle(rows[0], rows[1])
    close = stained_vectors(rows, ProtocolState(eosin_turn=apart - 9))[:2]
    narrow = model_of(vectors=tuple(map(tuple, close.tolist())))
    anchor = StainManifold(narrow).anchor_of(None)
    assert narrow.valid and (anchor.source, anchor.why) == ("canonical", "the stains lie only 9.0 degrees apart")
    assert fit_prior([model_of(), narrow, model_of()]).slides == 2
    near = stained_vectors(rows, ProtocolState(eosin_turn=apart - 13))[:2]
    assert StainManifold(model_of(vectors=tuple(map(tuple, near.tolist())))).anchor_of(None).source == "fitted"


# Drawing, and grids.


def test_samples_depend_on_seed_and_names_only():
    drawn = manifold().sample(0, "tile", 3)
    manifold().sample(1)
    assert manifold().sample(0, "tile", 3) == drawn
    others = {manifold().sample(0, "tile", 4), manifold().sample(1, "tile", 3), manifold().sample(0, "tilf", 3)}
    assert len({drawn, *others}) == 4 and len({state.seed for state in others}) == 3
    narrow = manifold().with_prior(fixed_prior().only("stain"))
    wide = narrow.with_prior(narrow.prior.widened(1.001))
    np.testing.assert_allclose(narrow.sample(5).to_array(), wide.sample(5).to_array(), rtol=0.05)


def test_noise_depends_on_seed_and_tile():
    state = ProtocolState(noise=3, seed=1)
    image = tile()
    first = manifold().render(image, state, tile_id="a")
    assert (manifold().render(image, state, tile_id="a") == first).all()
    for other in (
        manifold().render(image, state, tile_id="b"),
        manifold().render(image, state.moved(seed=2), tile_id="a"),
    ):
        assert (other != first).mean() > 0.3


def test_grids():
    grid = manifold().grid(tile(), "eosin_gain", "blur", mpp=0.5)
    np.testing.assert_allclose(grid.values_a, np.linspace(-0.56, 0.56, 5))
    np.testing.assert_allclose(grid.values_b, np.linspace(0, 0.7, 5))
    assert grid.tiles.shape == (5, 5, 37, 29, 3) and (grid.tiles[2, 0] == tile()).all()
    wanted = manifold().render(tile(), ProtocolState(eosin_gain=grid.values_a[1], blur=grid.values_b[3]))
    assert (grid.tiles[1, 3] == wanted).all() and grid.states[1][3]["blur"] == grid.values_b[3]
    assert repr(grid).startswith("StateGrid(eosin_gain [-0.56, -0.28, 0, 0.28, 0.56] x blur [0, ")
    frame = grid.to_frame()
    assert len(frame) == 25 and frame["blur"].tolist()[:5] == list(grid.values_b)
    json.dumps(grid.to_dict())
    at = manifold().grid(tile() / 255, "gamma", "jpeg", [0.1], [0, 5], at=ProtocolState(noise=1, seed=9))
    assert at.tiles.shape == (1, 2, 37, 29, 3) and at.tiles.dtype == float
    assert at.states[0][1] == ProtocolState(gamma=0.1, jpeg=5, noise=1, seed=9)
    with pytest.raises(OptionError, match="switched gamma off"):
        manifold().with_prior(fixed_prior().only("stain")).grid(tile(), "eosin_gain", "gamma")


# The phantom knows the truth.


def truth(slide: str, site: str) -> StainModel:
    """Return the stain model of a slide as it was drawn."""
    drawn, protocol = stain_slide(SOURCE.spec.seed, slide, protocols()[site].stain), protocols()[site]
    return model_of(
        vectors=tuple(map(tuple, drawn.vectors.tolist())),
        max_concentrations=tuple((1.5 * drawn.gains).tolist()),
        white=protocol.scanner.illuminant,
    )


def restained(source: PhantomTiles, index: int) -> np.ndarray:
    """Return a tile as the laboratory of `new-stain` stains it, but for its chatter and limits of uptake.

    No state has those: what becomes of the site with them is in `tests/perturb/test_unseen_sites.py`.
    """
    tile = str(source.table.index[index])
    slide, protocol = tile.rpartition("/")[0], protocols()["new-stain"].plain()
    maps = source.concentrations(index)
    return render_site(maps, seed=source.spec.seed, tile=tile, slide=slide, protocol=protocol, mpp=source.spec.mpp)


def colour_error(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))).mean())


def test_the_true_state_turns_one_laboratory_into_another():
    before, after = [], []
    for i in range(len(SOURCE.table)):
        slide = str(SOURCE.table["slide"].iat[i])
        source, target = truth(slide, "source"), truth(slide, "new-stain")
        rendered = StainManifold(source).render(SOURCE.read(i), state_between(source, target))
        before.append(colour_error(SOURCE.read(i), restained(SOURCE, i)))
        after.append(colour_error(rendered, restained(SOURCE, i)))
    # What is left is blur, noise and JPEG of two renderings: the colour itself is the target's.
    assert np.mean(before) > 4
    assert np.mean(after) < 0.1 * np.mean(before)


@pytest.mark.parametrize(("method", "share"), [("macenko", 0.6), ("vahadane", 0.2)])
def test_the_fitted_state_comes_close_to_the_other_laboratory(method, share):
    tiles = PhantomTiles(PhantomSpec(sites=1, patients=3, slides=1, tiles_per_site=30))
    before, after = [], []
    for slide, rows in tiles.table.reset_index().groupby("slide"):
        mine = [tiles.read(i) for i in rows.index]
        theirs = [restained(tiles, int(i)) for i in rows.index]
        source, target = fit_stains(mine, method), fit_stains(theirs, method)
        fitted = StainManifold(source, slides={str(slide): source})
        state = state_between(source, target)
        before += [colour_error(*pair) for pair in zip(mine, theirs, strict=True)]
        after += [colour_error(fitted.render(a, state, slide=str(slide)), b) for a, b in zip(mine, theirs, strict=True)]
    assert np.mean(after) < share * np.mean(before)


def test_a_manifold_is_fitted_to_slides_and_serialises():
    pairs = [(str(SOURCE.table["slide"].iat[i]), SOURCE.read(i)) for i in range(len(SOURCE.table))]
    fitted = StainManifold.fit(iter(pairs), inflation=3.0)
    assert sorted(fitted.slides) == ["source/p01/s1", "source/p02/s1"]
    assert fitted.prior.source == "fitted" and (fitted.prior.slides, fitted.prior.inflation) == (2, 3.0)
    assert fitted.slides["source/p01/s1"] == fit_stains([image for slide, image in pairs if "p01" in slide])
    assert fitted.anchor == fit_stains([image for _, image in sorted(pairs, key=lambda pair: pair[0])])
    again = StainManifold.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert (again.anchor, again.prior, again.slides) == (fitted.anchor, fitted.prior, fitted.slides)
    moved = pickle.loads(pickle.dumps(fitted))
    assert moved.sample(3) == fitted.sample(3) and moved.slides == fitted.slides
    book = StainBook(source="x", method="macenko", overall=fitted.anchor, slides=dict(fitted.slides))
    assert StainManifold.from_book(book, inflation=3.0).prior == fitted.prior
    with pytest.raises(InputError, match="no tiles"):
        StainManifold.fit([])


@pytest.mark.data
def test_real_tiles_stay_plausible(data):
    """Two standard deviations along any axis leave the tissue darker than the glass, and change it visibly."""
    import cv2

    image = cv2.cvtColor(cv2.imread(str(data / "oral_cancer/Normal/Normal_100x_18.jpg")), cv2.COLOR_BGR2RGB)
    real = StainManifold.fit([("s", image)])
    for name, axis in AXES.items():
        out = real.render(image, ProtocolState(**{name: 2 * axis.sd, "seed": 3}))
        assert 0.3 < np.abs(out.astype(float) - image).mean() < 60, name
        assert out.mean() < 235
