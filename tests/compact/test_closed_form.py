"""The strength of a linear compaction: chosen on what it was not fitted to."""

import numpy as np
import pytest

from histolatent.compact.closed_form import GAINED, STRENGTHS, Judged, choose, fit_closed_form
from histolatent.errors import InputError, OptionError
from histolatent.training.holdout import make_folds

N, V, D = 120, 6, 10


def views(nuisance=4.0, seed=0):
    """Tiles with signal in all directions, and states that move them in two."""
    random = np.random.default_rng(seed)
    tiles = random.normal(size=(N, 1, D))
    states = nuisance * random.normal(size=(N, V, 2)) @ random.normal(size=(2, D))
    states[:, 0] = 0
    states[:, -2:] *= 1.5
    return (tiles + states + 0.05 * random.normal(size=(N, V, D))).astype(np.float32)


FOLDS = np.array_split(np.arange(N), 4)


def test_planted_states_are_compacted_and_tiles_found_again():
    made = fit_closed_form(views(), FOLDS)
    before = made.judged[0]
    after = next(entry for entry in made.judged if entry.strength == made.strength)
    assert before.twin_top1 < 0.3 and after.twin_top1 > 0.9
    assert after.ratio < 0.1 < 0.6 < before.ratio
    assert after.rank > 0.5 * before.rank
    assert len(before.found) == N and [entry.strength for entry in made.judged] == list(STRENGTHS)


def test_where_there_is_no_nuisance_nothing_is_changed():
    random = np.random.default_rng(1)
    same = (random.normal(size=(N, 1, D)) + 1e-4 * random.normal(size=(N, V, D))).astype(np.float32)
    made = fit_closed_form(same, FOLDS)
    assert made.strength == 0
    np.testing.assert_array_equal(made.map.apply(same[:, 0]), same[:, 0])


def test_a_given_strength_is_taken():
    made = fit_closed_form(views(), FOLDS, strength=3.0)
    assert made.strength == 3 and [entry.strength for entry in made.judged] == [0, 3]


def test_the_order_of_tiles_changes_nothing():
    given, order = views(), np.random.default_rng(2).permutation(N)
    place = np.argsort(order)
    turned = fit_closed_form(given[order], [place[fold] for fold in FOLDS])
    plain = fit_closed_form(given, FOLDS)
    assert turned.strength == plain.strength
    np.testing.assert_allclose(turned.map.apply(given[:, 0]), plain.map.apply(given[:, 0]), atol=1e-4)


def judged(strength, share, rank=10.0, n=400):
    return Judged(strength, np.arange(n) < share * n, 0.5, rank)


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        ([judged(0, 0.5), judged(1, 0.55), judged(2, 0.69), judged(4, 0.7)], 2),
        ([judged(0, 0.5), judged(1, 0.5 + GAINED * 0.2), judged(2, 0.6), judged(4, 0.7)], 1),
        ([judged(0, 0.5), judged(1, 0.6), judged(2, 0.9, rank=4.9)], 1),  # too few directions left
        ([judged(0, 0.9), judged(1, 0.8)], 0),
        ([judged(0, 0.5), judged(1, 0.5025)], 0),  # one tile in 400 is no gain
    ],
)
def test_the_mildest_that_brings_most_of_the_gain(entries, chosen):
    assert choose(entries).strength == chosen


def test_folds_hold_whole_patients_of_about_equal_number():
    import pandas as pd

    patients = np.repeat([f"p{i}" for i in range(7)], [40, 10, 10, 10, 5, 5, 20])
    table = pd.DataFrame({"patient": patients, "slide": [f"{p}/1" for p in patients]})
    folds, column = make_folds(table, 3, seed=0)
    assert column == "patient" and sorted(np.concatenate(folds)) == list(range(100))
    of_fold = [set(patients[fold]) for fold in folds]
    assert not (of_fold[0] & of_fold[1] or of_fold[1] & of_fold[2] or of_fold[0] & of_fold[2])
    assert max(map(len, folds)) <= 40
    assert make_folds(table.assign(patient="one"), 3, seed=0)[1] == "slide"
    assert make_folds(pd.DataFrame(index=range(5)), 3, seed=0)[1] == "tile"


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: fit_closed_form(views(), FOLDS, held_out=1), InputError, "1 held-out states"),
        (lambda: fit_closed_form(views(), FOLDS[:1]), InputError, "folds of 30 tiles"),
        (lambda: fit_closed_form(views(), [np.arange(3), np.array([4])]), InputError, "folds of 3, 1 tiles"),
        (lambda: fit_closed_form(views(), FOLDS, strength=-1.0), OptionError, "strength"),
    ],
)
def test_what_cannot_be_chosen(make, kind, said):
    with pytest.raises(kind, match=said):
        make()
