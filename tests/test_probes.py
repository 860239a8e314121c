"""What a probe may and may not read: planted signals, permuted labels, leaking groups, odd columns."""

import numpy as np
import pytest

from histolatent.probes import FittedProbe, NotReadable, Reading, fit_probe, grouped_folds, measure_chance, probe

GROUPS, PER_GROUP, DIM = 12, 12, 8
CODES = np.repeat(np.arange(GROUPS), PER_GROUP)


def noise(seed: int = 0, d: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(CODES), d)).astype(np.float32)


def labels(classes: int = 3, seed: int = 0) -> list[str]:
    return [f"class-{code}" for code in np.random.default_rng(seed).integers(0, classes, len(CODES))]


def planted(target: list[str], strength: float = 4.0, seed: int = 0) -> np.ndarray:
    vectors = noise(seed)
    for number, name in enumerate(sorted(set(target))):
        vectors[[value == name for value in target], number] += strength
    return vectors


def accuracy(reading: Reading | NotReadable) -> float:
    assert isinstance(reading, Reading)
    return float(reading.accuracy()(np.ones((1, len(reading.rows))))[0])


def area(reading: Reading | NotReadable) -> float:
    assert isinstance(reading, Reading)
    return float(reading.auroc()(np.ones((1, len(reading.rows))))[0])


def test_a_planted_signal_is_found():
    target = labels()
    reading = probe(planted(target, 8.0), target, CODES)
    assert accuracy(reading) > 0.97
    assert area(reading) > 0.99
    assert reading.classes == ("class-0", "class-1", "class-2")
    assert reading.folds == 5
    assert (reading.predicted >= 0).all()


def test_accuracy_grows_with_the_signal():
    target = labels()
    found = [accuracy(probe(planted(target, strength), target, CODES)) for strength in (0.0, 1.0, 2.5, 6.0)]
    assert (np.diff(found) > 0).all()


def test_a_rare_class_is_read_as_well_as_a_common_one():
    random = np.random.default_rng(0)
    rare = random.random(2400) < 0.08
    vectors = random.normal(size=(2400, DIM)).astype(np.float32)
    vectors[:, 0] += rare
    found = probe(vectors, ["rare" if one else "common" for one in rare], np.arange(2400) // 12)
    # Of two normal laws one standard deviation apart, the best threshold tells 69 %; one that counts tiles, 50 %.
    assert accuracy(found) > 0.64
    recalls = [found.correct[found.codes == code].mean() for code in (0, 1)]
    assert abs(recalls[0] - recalls[1]) < 0.15


def test_figures_against_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    target = labels()
    reading = probe(planted(target, 1.5), target, CODES)
    assert isinstance(reading, Reading)
    assert accuracy(reading) == pytest.approx(balanced_accuracy_score(reading.codes, reading.predicted))
    oracle = roc_auc_score(reading.codes, reading.scores, multi_class="ovr")
    assert area(reading) == pytest.approx(oracle)


def test_permuted_labels_are_at_chance():
    signal = labels(2)
    vectors = planted(signal, 3.0)
    found = [accuracy(probe(vectors, labels(2, seed), CODES, seed=seed)) for seed in range(1, 9)]
    # 144 coin throws have a standard deviation of 0.042, eight such means 0.015.
    assert abs(np.mean(found) - 0.5) < 0.06
    assert max(found) < 0.68


def test_group_identity_alone_reads_nothing():
    """A target that is constant in a group, and an embedding that knows the group only: perfect if folds leak."""
    found = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        vectors = random.normal(size=(GROUPS, DIM)).astype(np.float32)[CODES]
        target = [f"side-{code}" for code in random.permutation(np.arange(GROUPS) % 2)[CODES]]
        found.append(accuracy(probe(vectors, target, CODES, seed=seed)))
    assert np.mean(found) < 0.65


def test_a_target_that_is_the_group_is_not_readable():
    reading = probe(noise(), [f"p{code:02d}" for code in CODES], CODES)
    assert reading == NotReadable("'p00' occurs in one group only, so it cannot be tested on another")


def test_one_class_in_one_group_is_named():
    target = ["rare" if code == 3 else "common" for code in CODES]
    reading = probe(noise(), target, CODES)
    assert reading == NotReadable("'rare' occurs in one group only, so it cannot be tested on another")


@pytest.mark.parametrize(("value", "reason"), [("a", "it has one value (a)"), (None, "it has no values")])
def test_one_value_or_none_is_not_readable(value, reason):
    assert probe(noise(), [value] * len(CODES), CODES) == NotReadable(reason)


def test_tiles_without_a_label_are_left_out():
    target: list[str | None] = list(labels())
    for row in range(0, len(target), 3):
        target[row] = None
    vectors = planted([value or "class-0" for value in target], 8.0)
    reading = probe(vectors, target, CODES)
    assert isinstance(reading, Reading)
    assert reading.rows.tolist() == [row for row in range(len(target)) if row % 3]
    whole = [target[row] for row in reading.rows]
    assert [reading.classes[code] for code in reading.codes] == whole
    vectors[::3] = 1e6  # what is left out cannot matter
    assert accuracy(probe(vectors, target, CODES)) == accuracy(reading)


def test_folds_never_share_a_group_and_cover_every_row():
    codes = np.array([int(name[-1]) for name in labels()])
    parts = grouped_folds(codes, CODES, 4, seed=1)
    for train, test in parts:
        assert not set(CODES[train]) & set(CODES[test])
    assert sorted(np.concatenate([test for _, test in parts])) == list(range(len(CODES)))


def test_the_split_is_honoured():
    target = labels(2)
    vectors = planted(target, 8.0)
    split = ["train" if code < 8 else "test" if code < 11 else None for code in CODES]
    vectors[CODES == 11] = 1e6
    reading = probe(vectors, target, CODES, split=split)
    assert isinstance(reading, Reading)
    assert reading.rows.tolist() == np.flatnonzero((CODES >= 8) & (CODES < 11)).tolist()
    assert reading.folds == 1
    assert accuracy(reading) > 0.97
    # Turned round in the test part only, the signal is read the wrong way round: the test part trained nothing.
    vectors[CODES >= 8] *= -1
    assert accuracy(probe(vectors, target, CODES, split=split)) < 0.2


def test_a_class_that_one_part_of_the_split_lacks_is_named():
    target = ["late" if code > 9 else ("a", "b")[i % 2] for i, code in enumerate(CODES)]
    split = ["train" if code < 8 else "test" for code in CODES]
    assert probe(noise(), target, CODES, split=split) == NotReadable("'late' is not in both parts of the split")


def test_labels_that_look_like_numbers_stay_text():
    target = [("1", "10", "2", "01")[i % 4] for i in range(len(CODES))]
    reading = probe(noise(), target, CODES)
    assert isinstance(reading, Reading)
    assert reading.classes == ("01", "1", "10", "2")
    assert [reading.classes[code] for code in reading.codes] == target


def test_classes_do_not_depend_on_the_order_of_rows():
    target = labels()
    order = np.random.default_rng(3).permutation(len(target))
    first = probe(planted(target), target, CODES)
    second = probe(planted(target)[order], [target[i] for i in order], CODES[order])
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    assert first.classes == second.classes


def test_the_same_seed_reads_the_same():
    target = labels()
    first, second = (probe(planted(target, 1.0), target, CODES, seed=2) for _ in range(2))
    assert isinstance(first, Reading)
    assert isinstance(second, Reading)
    np.testing.assert_array_equal(first.scores, second.scores)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_does_not_matter(scale):
    target = labels()
    vectors = planted(target, 3.0)
    assert accuracy(probe(vectors * np.float32(scale), target, CODES)) == pytest.approx(
        accuracy(probe(vectors, target, CODES)), abs=0.03
    )


@pytest.mark.parametrize(
    "extra",
    [
        np.zeros(len(CODES)),
        np.full(len(CODES), 7.0),
        7 + 1e-6 * np.random.default_rng(4).normal(size=len(CODES)),
        1e9 * np.random.default_rng(4).normal(size=len(CODES)),
        1e25 * np.random.default_rng(4).normal(size=len(CODES)),
    ],
    ids=["zero", "constant", "constant but for rounding", "huge", "beyond the square of float32"],
)
def test_a_useless_dimension_does_not_hide_the_signal(extra):
    target = labels()
    vectors = np.concatenate([planted(target, 8.0), extra[:, None].astype(np.float32)], axis=1)
    assert accuracy(probe(vectors, target, CODES)) > 0.95


def test_a_constant_embedding_is_not_above_chance():
    target = labels()
    for vectors in (np.full((len(CODES), 4), 0.125, np.float32), np.zeros((len(CODES), 4), np.float32)):
        assert accuracy(probe(vectors, target, CODES)) <= 1 / 3 + 1e-9


def test_every_class_is_in_every_training_part():
    """Two groups of each class: left to chance, both are tested at once and the class was never seen."""
    codes = np.repeat([0, 0, 1, 1, 2, 2], 5)
    for seed in range(10):
        parts = grouped_folds(codes, np.repeat(np.arange(6), 5), 2, seed)
        assert parts
        assert all(set(codes[train]) == {0, 1, 2} for train, _ in parts)


def test_any_seed_of_a_plan_will_do():
    assert accuracy(probe(planted(labels()), labels(), CODES, seed=2**40 + 1)) > 0.8


@pytest.mark.parametrize("seed", range(25))
def test_few_and_unequal_groups_never_break_a_probe(seed):
    """Two to six groups, two to four classes, classes nested in groups or not: an answer, or a reason."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 7))
    groups = np.unique(random.choice(count, size=40, p=random.dirichlet(np.ones(count))), return_inverse=True)[1]
    nested = random.integers(0, random.integers(2, 5), size=count)[groups]
    free = random.integers(0, 3, size=40)
    target = [f"c{code}" for code in np.where(random.random(40) < 0.8, nested, free)]
    reading = probe(random.normal(size=(40, 5)).astype(np.float32), target, groups)
    if isinstance(reading, Reading):
        assert (reading.predicted >= 0).all()
        assert np.isfinite(area(reading))
    else:
        assert reading.reason


def test_chance_is_what_dealt_labels_give():
    """With many dimensions and few tiles, labels that teach by accident also test by accident."""
    fitted = fit_probe(noise(d=64), labels(2), CODES, strength=0.1)
    assert isinstance(fitted, FittedProbe)
    chance = measure_chance(fitted, noise(d=64), CODES)
    assert chance.low < 0.5 < chance.high
    assert 1 < chance.wider < 3
    assert measure_chance(fitted, noise(d=64), CODES) == chance
