"""Dose-response and breakdown: SciPy, closed forms, planted thresholds, coverage, messages."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from histolatent.audit.breakdown import break_down
from histolatent.audit.dose import dose_response, first_crossing, spearman
from histolatent.errors import InputError

STEPS = np.arange(6.0)
GROUPS = np.repeat(np.arange(20), 10)


def responses(slope: float = 0.2, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    """Each patient has a slope of its own."""
    random = np.random.default_rng(seed)
    slopes = slope + noise * random.normal(size=20)
    return slopes[GROUPS][:, None] * STEPS + 0.02 * random.normal(size=(200, 6))


def test_spearman_against_scipy():
    curves = np.random.default_rng(0).integers(0, 4, size=(40, 6)).astype(float)
    curves = curves[np.ptp(curves, axis=1) > 0]
    oracle = [spearmanr(curve, STEPS).statistic for curve in curves]
    np.testing.assert_allclose(spearman(curves, STEPS), oracle, atol=1e-12)


def test_the_threshold_is_where_it_was_planted():
    found = dose_response(responses(), STEPS, GROUPS, level=0.5, resamples=500)
    assert found.monotonicity.value == 1
    threshold = found.threshold
    assert threshold.value.outcome == "crosses"
    assert threshold.value.severity == pytest.approx(2.5, abs=0.35)
    assert threshold.early.severity < threshold.value.severity < threshold.late.severity
    assert threshold.surely.severity > threshold.value.severity
    assert threshold.never == 0
    mean = [estimate.value for estimate in found.means]
    assert np.interp(threshold.value.severity, STEPS, mean) == pytest.approx(0.5)
    low = [estimate.low for estimate in found.means]
    assert np.interp(threshold.surely.severity, STEPS, low) == pytest.approx(0.5)


def test_the_interval_of_the_threshold_covers_the_truth():
    covered = []
    for seed in range(60):
        threshold = dose_response(responses(seed=seed), STEPS, GROUPS, level=0.5, resamples=200, seed=seed).threshold
        covered.append(threshold.early.severity <= 2.5 <= threshold.late.severity)
    assert np.mean(covered) > 0.85  # of 20 groups, a percentile interval of 95 % covers some 93 %


def test_what_never_crosses_and_what_crossed_at_once_is_said():
    flat = dose_response(responses(0.0, 0.0), STEPS, GROUPS, level=0.5, resamples=200).threshold
    assert (flat.value.outcome, flat.surely.outcome, flat.never) == ("never crosses",) * 2 + (1,)
    assert str(flat) == "never crosses [never crosses, never crosses]"
    high = dose_response(responses() + 1, STEPS, GROUPS, level=0.5, resamples=200).threshold
    assert (high.value.outcome, high.surely.outcome, high.never) == ("crossed at once",) * 2 + (0,)
    partly = dose_response(responses(0.1, 0.1), STEPS, GROUPS, level=0.5, resamples=400).threshold
    assert partly.late.outcome == "never crosses"
    assert 0 < partly.never < 1
    falling = dose_response(1 - responses(), STEPS, GROUPS, level=0.5, upward=False, resamples=200).threshold
    upward = dose_response(responses(), STEPS, GROUPS, level=0.5, resamples=200).threshold
    assert falling.value.severity == pytest.approx(upward.value.severity)


def test_crossings_on_straight_lines():
    curve = np.array([0, 1.0, 0.5, 2.0])
    assert first_crossing(curve, np.array([0, 2.0, 4, 8]), 0.25).severity == pytest.approx(0.5)
    assert first_crossing(curve, np.array([0, 2.0, 4, 8]), 1.5).severity == pytest.approx(4 + 4 * 2 / 3)
    assert first_crossing(curve, np.arange(4.0), 1.0).severity == 1
    assert first_crossing(curve, np.arange(4.0), 0.0).outcome == "crossed at once"
    assert first_crossing(-curve, np.arange(4.0), -3.0, upward=False).outcome == "never crosses"


def test_monotonicity_of_noise_has_an_interval_that_holds_zero_and_of_a_constant_is_undefined():
    noise = np.random.default_rng(3).normal(size=(200, 6))
    found = dose_response(noise, STEPS, GROUPS).monotonicity
    assert found.low < 0 < found.high
    assert np.isnan(dose_response(np.ones((200, 6)), STEPS, GROUPS, resamples=100).monotonicity.value)


def test_order_and_names_of_groups_change_nothing():
    order = np.random.default_rng(0).permutation(200)
    plain = dose_response(responses(), STEPS, GROUPS, level=0.5, resamples=200)
    other = dose_response(responses()[order], STEPS, GROUPS[order] * 3 + 7, level=0.5, resamples=200)
    np.testing.assert_allclose(plain.to_frame(), other.to_frame(), atol=1e-12)
    assert plain.threshold.early.severity == pytest.approx(other.threshold.early.severity)


def test_one_group_has_no_interval():
    found = dose_response(responses(), STEPS, np.zeros(200, int), level=0.5)
    assert found.means[1].low is None
    assert found.threshold.surely.outcome == "never crosses"
    assert found.threshold.early == found.threshold.value
    assert np.isnan(found.threshold.never)


def test_a_breakdown_by_hand():
    values = np.concatenate([np.full(100, 0.1), np.full(90, 0.2), np.full(10, 5.0)])
    labels = ["a"] * 100 + ["b"] * 100
    slides: list[str | None] = [f"s{i // 20}" for i in range(200)]
    slides[0] = None
    found = break_down(values, GROUPS, labels=labels, slides=slides, resamples=200)
    frame = found.to_frame().set_index(["by", "name"])
    assert frame.loc[("all", "all tiles"), "value"] == pytest.approx(values.mean())
    assert frame.loc[("class", "a"), "value"] == pytest.approx(0.1)
    assert frame.loc[("class", "b"), "value"] == pytest.approx((90 * 0.2 + 50) / 100)
    assert frame.loc[("worst tenth", "worst tenth"), "value"] == pytest.approx((50 + 10 * 0.2) / 20)
    assert frame.loc[("slide", "s0"), "tiles"] == 19
    assert frame.loc[("slide", "s0"), "groups"] == 2
    assert len(frame) == 1 + 2 + 10 + 1
    assert found.worst("slide").name == "s9"
    assert found.worst("class", higher_is_worse=False).name == "a"
    assert found.worst("site") is None


def test_the_worst_tenth_is_on_the_side_that_is_asked_for_and_skips_nan():
    values = np.arange(200.0)
    values[5] = np.nan
    low = break_down(values, GROUPS, higher_is_worse=False, resamples=100).parts[-1]
    assert low.mean.value == pytest.approx((np.arange(20).sum() - 5 + 0.9 * 20) / 19.9)
    assert low.tiles == 20
    high = break_down(values, GROUPS, resamples=100).parts[-1]
    assert high.mean.value > 185
    assert high.mean.low <= high.mean.value <= high.mean.high


def test_messages():
    with pytest.raises(InputError, match=r"severities and groups do not fit each other"):
        dose_response(responses(), STEPS[:4], GROUPS)
    with pytest.raises(InputError, match=r"needs severities that increase. Received: \[0.0, 1.0, 1.0"):
        dose_response(responses(), np.minimum(STEPS, 1), GROUPS)
    with pytest.raises(InputError, match=r"values hold NaN or infinity. Received: 200 of them"):
        dose_response(np.where(STEPS == 2, np.nan, responses()), STEPS, GROUPS)
    with pytest.raises(InputError, match=r"values and labels are not of the same tiles. Received: \(200, 3\)"):
        break_down(np.ones(200), GROUPS, labels=["a", "b", "c"])
    with pytest.raises(InputError, match=r"no value is finite"):
        break_down(np.full(200, np.nan), GROUPS)
