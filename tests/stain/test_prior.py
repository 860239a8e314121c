"""The prior of the stain manifold: its law, what is fitted to slides, and how it is written down."""

import json
import math
import pickle
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from histolatent.errors import InputError, OptionError
from histolatent.images.phantom import PhantomSpec, PhantomTiles, protocols
from histolatent.images.phantom.render import FIXATION_SD, THICKNESS_SD
from histolatent.provenance import stream
from histolatent.stain import MACENKO_REFERENCE, StainModel, fit_stains
from histolatent.stain.manifold import AXES, Prior, ProtocolState, fit_prior, fixed_prior
from histolatent.stain.manifold.staining import stained_vectors
from histolatent.stain.vectors import complete, unit_rows

NAMES = list(AXES)
ROWS = unit_rows([MACENKO_REFERENCE["hematoxylin"], MACENKO_REFERENCE["eosin"]])


def slide(state: ProtocolState | None = None, **changes) -> StainModel:
    """Return the model of a slide that stands at a state, seen from the reference."""
    state = state or ProtocolState()
    amounts = np.array([1.6, 1.1]) * np.exp(state.to_array()[:2])
    values = {
        "method": "macenko",
        "stains": ("hematoxylin", "eosin"),
        "vectors": tuple(map(tuple, stained_vectors(complete(ROWS), state)[:2].tolist())),
        "max_concentrations": tuple(amounts.tolist()),
        "canonical_degrees": (0.0, 0.0),
        "spread_degrees": (0.0, 0.0),
        "white": tuple((np.full(3, 200.0) * np.exp(state.to_array()[8:11])).tolist()),
        "white_source": "background",
        "tissue_colour": (180.0, 120.0, 170.0),
        "stained_colour": (180.0, 120.0, 170.0),
        "tissue_pixels": 5000,
        "tiles": 4,
        "tiles_used": 4,
        "reason": "ok",
    }
    return StainModel.model_validate(values | changes)


def draws(prior: Prior, count: int = 2000) -> np.ndarray:
    rng = stream(0, "draws")
    return np.array([prior.draw(rng).to_array() for _ in range(count)])


def test_draws_follow_the_law():
    prior = fixed_prior()
    found = draws(prior)
    for k, axis in enumerate(AXES.values()):
        law = "halfnorm" if axis.one_sided else "norm"
        assert kstest(found[:, k] / axis.sd, law).pvalue > 1e-3, axis.name
    wanted = prior.covariance
    signed = [k for k, axis in enumerate(AXES.values()) if not axis.one_sided]
    measured = np.corrcoef(found[:, signed].T) - np.array(prior.correlation)[np.ix_(signed, signed)]
    assert np.abs(measured).max() < 0.1
    assert wanted[8, 9] == pytest.approx(0.5 * 0.03**2) and np.count_nonzero(wanted - np.diag(wanted.diagonal())) == 6


def test_nothing_piles_up_at_the_limits():
    found = draws(fixed_prior().widened(30), 800)
    for k, axis in enumerate(AXES.values()):
        low, high = axis.limits
        assert ((found[:, k] > low) & (found[:, k] < high)).all(), axis.name
        # So wide a law is almost even between the limits; the light's channels lean on each other.
        assert kstest((found[:, k] - low) / (high - low), "uniform").pvalue > 1e-4 or "illuminant" in axis.name, (
            axis.name
        )


def test_correlated_axes_are_drawn_together():
    models = [
        slide(ProtocolState(hematoxylin_gain=x, eosin_gain=0.9 * x + y))
        for x, y in [(-0.2, 0.05), (0.3, 0), (0, -0.1), (0.2, 0.1)]
    ]
    prior = fit_prior(models, inflation=1, prior_slides=0)
    found = draws(prior)
    assert np.corrcoef(found[:, 0], found[:, 1])[0, 1] == pytest.approx(prior.correlation[0][1], abs=0.02)
    # Two slides lie on a line, and so do the states drawn from them alone.
    line = fit_prior([slide(), slide(ProtocolState(hematoxylin_gain=0.2, eosin_gain=-0.1))], prior_slides=0)
    np.testing.assert_allclose(draws(line, 50)[:, 1], -0.5 * draws(line, 50)[:, 0], atol=1e-6)


def test_only_switches_axes_off():
    stain = fixed_prior().only("stain")
    assert {name for name, sd in stain.sd.items() if sd} == {
        axis.name for axis in AXES.values() if axis.part == "stain"
    }
    assert (draws(stain, 20)[:, 8:] == 0).all()
    both = fixed_prior().only("stain", "blur")
    assert both.sd["blur"] == AXES["blur"].sd and both.sd["gamma"] == 0
    assert fixed_prior().only("stain", "camera") == fixed_prior()
    assert fixed_prior().only("illuminant_red", "illuminant_blue").correlation[8][9:11] == (0.0, 0.5)
    with pytest.raises(OptionError, match="no axis 'stian'"):
        fixed_prior().only("stian")
    with pytest.raises(OptionError, match=r"no axis is left. Valid: stain, camera, or names of axes"):
        fixed_prior().only()


def test_wider_priors_reach_further():
    wide = fixed_prior().widened(2)
    np.testing.assert_allclose(wide.covariance, 4 * fixed_prior().covariance)
    assert wide.source == "fixed"
    for factor in (0, -1, math.nan, math.inf):
        with pytest.raises(OptionError, match="factor of a wider prior is no number above 0"):
            fixed_prior().widened(factor)
    with pytest.raises(OptionError, match="standard deviation of blur"):
        fixed_prior(blur=-1)
    with pytest.raises(OptionError, match="did you mean 'gamma'"):
        fixed_prior(gama=1)


def test_a_switched_off_axis_leaves_the_others_as_they_are():
    full, part = fixed_prior().draw(stream(1)), fixed_prior(gamma=0.0).draw(stream(1))
    assert part == full.moved(gamma=0) and full["gamma"] != 0


# Fitting.


def test_the_fit_is_the_stated_rule():
    gains = np.array([0.0, 0.3, -0.1, 0.15, -0.35])
    models = [slide(ProtocolState(hematoxylin_gain=g, eosin_tilt=10 * g, illuminant_green=g / 5)) for g in gains]
    prior = fit_prior(models, inflation=3, prior_slides=6)
    weight = 4 / (4 + 6)
    assert (prior.source, prior.slides, prior.inflation, prior.weight) == ("fitted", 5, 3.0, weight)
    wanted = fixed_prior().covariance
    wanted[:8, :8] *= np.where(np.isin(np.arange(8), (2, 3)), 1, 1 - weight)
    wanted[8:11, 8:11] *= 1 - weight
    variance = weight * 9 * gains.var(ddof=1)
    tilt = NAMES.index("eosin_tilt")
    wanted[0, 0] += variance
    wanted[tilt, tilt] += 100 * variance
    wanted[0, tilt] = wanted[tilt, 0] = 10 * variance
    wanted[9, 9] += variance / 25
    np.testing.assert_allclose(prior.covariance, wanted, atol=1e-7)


def test_the_centre_does_not_matter():
    """The prior has mean 0: a cohort that is darker as a whole has the same one."""
    states = [ProtocolState(hematoxylin_gain=g, blur=0) for g in (0.0, 0.1, 0.3)]
    darker = [state.moved(hematoxylin_gain=state["hematoxylin_gain"] + 0.4) for state in states]
    first, second = (fit_prior([slide(state) for state in each]) for each in (states, darker))
    np.testing.assert_allclose(first.covariance, second.covariance, atol=1e-9)


def test_what_slides_do_not_tell_comes_from_the_fixed_prior():
    states = [ProtocolState(hematoxylin_gain=g, eosin_turn=5 * g, illuminant_red=g / 9) for g in (0.0, 0.3, -0.4)]
    told = [slide(state) for state in states]
    blind = fit_prior([model.model_copy(update={"white_source": "default"}) for model in told])
    assert (blind.covariance[8:, 8:] == fixed_prior().covariance[8:, 8:]).all() and blind.sd["eosin_turn"] != 3
    given_vectors = fit_prior([model.model_copy(update={"method": "fixed"}) for model in told])
    assert given_vectors.sd["eosin_turn"] == 3 and given_vectors.sd["hematoxylin_gain"] != 0.22
    for name in ("eosin_bias", "gamma", "blur", "noise", "jpeg", "mix_red_blue"):
        assert fit_prior(told).sd[name] == AXES[name].sd


def test_unusable_models_are_left_out():
    good = [slide(), slide(ProtocolState(eosin_gain=0.2))]
    bad = slide(ProtocolState(eosin_gain=1.4), reason="one-stain")
    faint = slide().model_copy(update={"max_concentrations": (0.0, 1.0)})
    assert fit_prior([good[0], bad, faint, good[1]]) == fit_prior(good)
    for few in ([], good[:1], [good[0], bad]):
        assert fit_prior(few) == fixed_prior() and fit_prior(few).source == "fixed"
    assert repr(fit_prior(few)).startswith("Prior(fixed: hematoxylin_gain 0.22")
    assert repr(fit_prior(good)).startswith("Prior(fitted: 2 slides, inflation 2, weight 0.11: ")
    with pytest.raises(OptionError, match=r"inflation is no number above 0. Received: 0"):
        fit_prior(good, inflation=0)
    with pytest.raises(OptionError, match="prior_slides is no number of at least 0"):
        fit_prior(good, prior_slides=-1)
    with pytest.raises(OptionError, match=r"not of hematoxylin and eosin. Received: hematoxylin, dab"):
        fit_prior([good[0].model_copy(update={"stains": ("hematoxylin", "dab")})])


@cache
def phantom_models() -> list[StainModel]:
    tiles = PhantomTiles(PhantomSpec(sites=1, patients=20, slides=1, tiles_per_site=160, seed=5))
    groups = tiles.table.reset_index().groupby("slide")
    return [fit_stains([tiles.read(i) for i in rows.index], "vahadane") for _, rows in groups]


def test_the_fit_recovers_the_phantoms_spread():
    """Within 40 %: twenty slides leave a standard error of 16 %, and fits err by a degree or so of their own."""
    stain = protocols()["source"].stain
    prior = fit_prior(phantom_models(), inflation=1, prior_slides=0)
    strength = math.hypot(stain.strength_sd, FIXATION_SD, THICKNESS_SD)
    for name in ("hematoxylin_gain", "eosin_gain"):
        assert prior.sd[name] == pytest.approx(strength, rel=0.4)
    for name in ("hematoxylin_turn", "eosin_turn", "hematoxylin_tilt", "eosin_tilt"):
        assert prior.sd[name] == pytest.approx(stain.direction_sd, rel=0.4)
    # The sections are of one thickness for both stains.
    assert prior.correlation[0][1] > 0
    # One scanner: the light hardly moves.
    assert max(prior.sd[f"illuminant_{colour}"] for colour in ("red", "green", "blue")) < 0.015
    inflated = fit_prior(phantom_models(), inflation=2.5, prior_slides=0)
    np.testing.assert_allclose(inflated.covariance[:2, :2], 6.25 * prior.covariance[:2, :2])


# Written down.


@given(
    st.lists(st.floats(-0.4, 0.4), min_size=2, max_size=6), st.floats(0.5, 4), st.sampled_from(["stain", "gamma", ""])
)
def test_priors_survive_json(gains, inflation, part):
    models = [slide(ProtocolState(hematoxylin_gain=g, eosin_turn=9 * g * g)) for g in gains]
    prior = fit_prior(models, inflation=inflation)
    prior = prior.only(part) if part else prior
    again = Prior.from_dict(json.loads(json.dumps(prior.to_dict(), allow_nan=False)))
    assert again == prior == pickle.loads(pickle.dumps(prior)) and hash(again) == hash(prior)
    assert again.draw(stream(0)) == prior.draw(stream(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sds": {}}, "field sds is unknown.*did you mean 'sd'"),
        ({"format": 2}, "field format is of another version. Received: 2. Valid: 1"),
        ({"source": "guessed"}, "field source is neither. Received: 'guessed'. Valid: fixed, fitted"),
        ({"slides": -1}, "field slides is no count. Received: -1"),
        ({"inflation": "2"}, "field inflation is no finite number in its range. Received: '2'"),
        ({"weight": 1.5}, "field weight is no finite number in its range. Received: 1.5. Valid: 0 to 1"),
        ({"sd": [1]}, "field sd is no mapping"),
        ({"sd": {"gama": 1.0}}, r"field sd.gama is no axis.*did you mean 'gamma'"),
        ({"sd": {"gamma": -1.0}}, r"field sd.gamma is no finite number in its range. Received: -1.0"),
        ({"sd": {"gamma": float("nan")}}, r"field sd.gamma is no finite number"),
        ({"correlations": {}}, "field correlations is no list"),
        (
            {"correlations": [{"axes": ["gamma", "gama"], "value": 0}]},
            r"field correlations.0.axes does not name two axes",
        ),
        ({"correlations": [{"axes": ["gamma", "blur"], "value": 2}]}, r"field correlations.0.value.*Valid: -1 to 1"),
        (
            {
                "correlations": [
                    {"axes": ["gamma", "blur"], "value": 0.9},
                    {"axes": ["gamma", "noise"], "value": 0.9},
                    {"axes": ["blur", "noise"], "value": -0.9},
                ]
            },
            "field correlations contradict each other",
        ),
    ],
)
def test_a_wrong_field_is_named(change, message):
    with pytest.raises(InputError, match=message):
        Prior.from_dict(fixed_prior().to_dict() | change)


def test_a_missing_field_is_named():
    document = fixed_prior().to_dict()
    del document["weight"]
    with pytest.raises(InputError, match="field weight is missing"):
        Prior.from_dict(document)
    few = Prior.from_dict(fixed_prior().to_dict() | {"sd": {"blur": 0.3}, "correlations": []})
    assert few == fixed_prior(blur=0.3).only("blur")
