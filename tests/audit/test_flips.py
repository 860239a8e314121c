"""Label flips: by hand from fits of scikit-learn, limits, planted strength, permuted labels, messages."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from histolatent.audit.flips import FlipTable, label_flips
from histolatent.errors import InputError
from histolatent.probes import FittedProbe, NotReadable, fit_probe, probe

GROUPS = np.repeat(np.arange(12), 15)
CODES = np.random.default_rng(0).integers(0, 3, 180)
LABELS: list[str | None] = [f"class-{code}" for code in CODES]


def vectors(strength: float = 3.0, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(180, 8)).astype(np.float32)
    x[np.arange(180), CODES] += strength
    return x


def flips(moved: dict[str, np.ndarray], x: np.ndarray | None = None, **options) -> FlipTable:
    found = label_flips(vectors() if x is None else x, moved, LABELS, GROUPS, **{"resamples": 200} | options)
    assert isinstance(found, FlipTable)
    return found


def test_a_view_is_read_by_the_fit_of_the_vectors():
    x = vectors()
    plain = probe(x, LABELS, GROUPS)
    fitted = fit_probe(x, LABELS, GROUPS)
    assert isinstance(fitted, FittedProbe)
    first, same, other = (fitted.read(view) for view in (x, x.copy(), x[::-1].copy()))
    for reading in (first, same):
        np.testing.assert_array_equal(reading.scores, plain.scores)
        np.testing.assert_array_equal(reading.predicted, plain.predicted)
    assert (other.predicted != plain.predicted).mean() > 0.4


def test_no_move_flips_nothing_and_a_move_to_another_class_flips_all():
    x = vectors(12)
    turned = np.roll(x[:, :3], 1, axis=1)
    found = flips({"none": x, "turned": np.hstack([turned, x[:, 3:]])}, x).flips
    assert (found["none"].share.value, found["none"].share.high) == (0, 0)
    assert found["none"].before == found["none"].after
    assert found["none"].change.value == 0
    assert found["turned"].share.value == 1
    assert found["turned"].before.value == 1
    assert found["turned"].after.value == 0
    assert (found["turned"].broken.value, found["turned"].mended.value) == (1, 0)


def test_figures_by_hand():
    x = vectors(2)
    moved = x + np.random.default_rng(5).normal(size=x.shape).astype(np.float32)
    item = flips({"noise": moved}, x).flips["noise"]
    fitted = fit_probe(x, LABELS, GROUPS)
    assert isinstance(fitted, FittedProbe)
    before, after = fitted.read(x), fitted.read(moved)
    assert item.share.value == pytest.approx(np.mean(before.predicted != after.predicted))
    assert item.before.value == pytest.approx(balanced_accuracy_score(CODES, before.predicted))
    assert item.after.value == pytest.approx(balanced_accuracy_score(CODES, after.predicted))
    assert item.change.value == pytest.approx(item.after.value - item.before.value)
    net = item.mended.value - item.broken.value
    assert net == pytest.approx(np.mean(after.predicted == CODES) - np.mean(before.predicted == CODES))
    assert item.broken.value + item.mended.value <= item.share.value
    assert item.flipped.mean() == pytest.approx(item.share.value)


def test_flips_grow_with_the_move_and_end_at_independence():
    x, noise = vectors(), np.random.default_rng(5).normal(size=(180, 8)).astype(np.float32)
    found = flips(
        {str(s): x + s * noise for s in (0.2, 1, 3)} | {"other": x[np.random.default_rng(2).permutation(180)]}
    )
    shares = [item.share.value for item in found.flips.values()]
    assert (np.diff(shares[:3]) > 0).all()
    assert shares[3] == pytest.approx(found.flips["other"].independent, abs=0.08)


def test_a_constant_encoder_never_flips_and_is_at_chance():
    constant = np.ones((180, 4), np.float32)
    item = flips({"none": constant}, constant).flips["none"]
    assert item.share.value == 0
    assert item.before.value == pytest.approx(1 / 3, abs=0.07)  # folds differ in their most common class


def test_permuted_labels_are_at_chance_before_and_after():
    accuracies = []
    for seed in range(6):
        labels = list(np.random.default_rng(seed).permutation(np.array(LABELS, dtype=object)))
        found = label_flips(vectors(), {"shift": vectors() + 0.1}, labels, GROUPS, resamples=100, seed=seed)
        accuracies += [found.flips["shift"].before.value, found.flips["shift"].after.value]
    assert np.mean(accuracies) == pytest.approx(1 / 3, abs=0.06)


def test_the_table():
    found = flips({"a": vectors(), "b": vectors(seed=1)})
    frame = found.to_frame()
    assert list(frame.columns) == ["perturbation", "metric", "value", "low", "high"]
    assert len(frame) == 12
    assert (frame["low"] <= frame["value"]).all() and (frame["value"] <= frame["high"]).all()
    assert found.classes == ("class-0", "class-1", "class-2")


def test_a_split_is_kept():
    split: list[str | None] = ["train" if group < 8 else "test" for group in GROUPS]
    found = flips({"none": vectors()}, split=split)
    assert found.folds == 1
    np.testing.assert_array_equal(found.flips["none"].rows, np.flatnonzero(GROUPS >= 8))


def test_messages():
    assert label_flips(vectors(), {}, ["a"] * 180, GROUPS) == NotReadable("it has one value (a)")
    with pytest.raises(InputError, match=r"the vectors of 'blur' are not of the same tiles"):
        label_flips(vectors(), {"blur": vectors()[:5]}, LABELS, GROUPS)
    with pytest.raises(InputError, match=r"the vectors of 'blur' hold NaN or infinity"):
        label_flips(vectors(), {"blur": np.full((180, 8), np.nan, np.float32)}, LABELS, GROUPS)
