"""A planted dictionary is found; codes are sparse; atoms are directions with names; the folder."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from histolatent.errors import InputError, OptionError
from histolatent.explore.dictionary import fit_dictionary, read_dictionary, save_dictionary


def planted(n=3000, d=32, atoms=24, k=3, seed=0):
    random = np.random.default_rng(seed)
    true = random.normal(size=(atoms, d))
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    codes = np.zeros((n, atoms))
    for row in codes:
        row[random.choice(atoms, k, replace=False)] = random.uniform(1, 3, k)
    vectors = 5 + codes @ true + 0.02 * random.normal(size=(n, d))
    return vectors.astype(np.float32), true, codes


@pytest.mark.slow
def test_a_planted_dictionary_is_recovered(tmp_path):
    vectors, true, codes = planted()
    made = fit_dictionary(vectors, atoms=32, k=4, steps=2500)
    cosines = true @ made.atoms.T
    rows, columns = linear_sum_assignment(-cosines)
    assert np.median(cosines[rows, columns]) > 0.95 and (cosines[rows, columns] > 0.9).mean() > 0.8
    assert made.explained > 0.9
    found = made.codes(vectors)
    assert ((found > 0).sum(axis=1) <= 4).all() and (found >= 0).all()
    best = rows[np.argmax(cosines[rows, columns])]
    atom = int(columns[list(rows).index(best)])
    assert np.corrcoef(found[:, atom], codes[:, best])[0, 1] > 0.9
    strongest = made.strongest(vectors, atom, 5)
    assert (codes[strongest["tile"], best] > 0).all() and strongest["code"].is_monotonic_decreasing
    table = pd.DataFrame({"planted": codes[:, best], "noise": np.random.default_rng(1).normal(size=len(codes))})
    named = {direction.name.partition(":")[0]: direction for direction in made.directions(vectors, table)}
    assert named[f"atom {atom}"].name.startswith(f"atom {atom}: planted (+")
    moved = vectors[:5] + named[f"atom {atom}"].vector
    change = made.codes(moved.astype(np.float32))[:, atom] - found[:5, atom]
    np.testing.assert_allclose(change, made.size[atom], rtol=0.35)
    back = read_dictionary(save_dictionary(made, tmp_path / "dictionary"))
    np.testing.assert_array_equal(back.codes(vectors), found)
    assert repr(back) == repr(made)


def test_the_same_seed_gives_the_same_dictionary():
    vectors = planted(300)[0]
    first, again, other = (fit_dictionary(vectors, atoms=16, k=2, steps=50, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.atoms, again.atoms)
    assert not np.array_equal(first.atoms, other.atoms)
    np.testing.assert_allclose(np.linalg.norm(first.atoms, axis=1), 1, rtol=1e-5)


def test_what_cannot_be_taken_apart_is_said(tmp_path):
    vectors = planted(100)[0]
    with pytest.raises(OptionError, match="k = 9 of 8"):
        fit_dictionary(vectors, atoms=8, k=9)
    with pytest.raises(InputError, match="all vectors are the same"):
        fit_dictionary(np.ones((20, 4), np.float32))
    made = fit_dictionary(vectors, atoms=8, k=2, steps=5)
    with pytest.raises(OptionError, match="0 to 7"):
        made.strongest(vectors, 8)
    with pytest.raises(InputError, match="another space"):
        made.codes(vectors[:, :5])
    with pytest.raises(InputError, match="this is no dictionary"):
        read_dictionary(tmp_path)
