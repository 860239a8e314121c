"""Erasure: after it no linear probe reads the concept, and nothing else is moved more than that asks for."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from histolatent.errors import InputError
from histolatent.explore.erasure import fit_leace, measure_leak


def planted(n=1200, d=24, seed=0):
    """Four sites whose means and labels lie in their own directions, amid correlated noise."""
    random = np.random.default_rng(seed)
    codes, labels = random.integers(4, size=n), random.integers(2, size=n)
    mix = random.normal(size=(d, d)) / np.sqrt(d)
    noise = random.normal(size=(n, d)) @ mix
    return noise + 1.5 * random.normal(size=(4, d))[codes] + np.outer(labels, random.normal(size=d)), codes, labels


def accuracy(x, y, half):
    return LogisticRegression(max_iter=2000, C=100).fit(x[:half], y[:half]).score(x[half:], y[half:])


def test_no_linear_probe_reads_what_was_erased_above_chance():
    x, codes, labels = planted()
    erased = fit_leace(x, codes).apply(x)
    assert accuracy(x, codes, 600) > 0.9
    # On the tiles that it was fitted to, class means are equal: a probe of these finds nothing at all.
    means = np.stack([erased[codes == code].mean(axis=0) for code in range(4)])
    assert np.abs(means - means[0]).max() < 1e-8
    fitted = LogisticRegression(max_iter=2000, C=100).fit(erased, codes)
    assert fitted.score(erased, codes) <= np.bincount(codes).max() / len(codes) + 1e-9
    assert accuracy(erased, labels, 600) > accuracy(x, labels, 600) - 0.06


def test_it_is_the_formula():
    x, codes, _ = planted(n=400, d=6)
    z = np.eye(4)[codes]
    xc, zc = x - x.mean(axis=0), z - z.mean(axis=0)
    values, axes = np.linalg.eigh(xc.T @ xc / len(x))
    w, back = axes @ np.diag(values**-0.5) @ axes.T, axes @ np.diag(values**0.5) @ axes.T
    u, s, _ = np.linalg.svd(w @ xc.T @ zc / len(x))
    p = u[:, :3] @ u[:, :3].T
    assert s[3] < 1e-9  # of four columns that sum to 0, three are independent
    np.testing.assert_allclose(fit_leace(x, codes).apply(x), x - xc @ (back @ p @ w).T, atol=1e-9)


def test_vectors_that_span_less_than_their_dimensions():
    x, codes, _ = planted(d=8)
    wide = x @ np.random.default_rng(1).normal(size=(8, 40))
    erased = fit_leace(wide, codes).apply(wide)
    means = np.stack([erased[codes == code].mean(axis=0) for code in range(4)])
    assert np.isfinite(erased).all() and np.abs(means - means[0]).max() < 1e-6 * np.abs(wide).max()


def test_dimensions_that_are_silent_stay_so():
    x, codes, _ = planted(d=8)
    silent = np.full((len(x), 8), [0, 0, 0, 0, 0.1, 0.1, 3, 3])
    wide = np.stack([x, silent], axis=2).reshape(len(x), 16)
    erased = fit_leace(wide, codes).apply(wide)
    np.testing.assert_array_equal(erased[:, 1::2], silent)
    groups = codes + 4 * (np.arange(len(x)) % 5)
    assert measure_leak(wide, codes, groups).loc["logistic", "after"] < 0.35


def test_nothing_is_moved_where_there_is_nothing_to_erase():
    x, codes, _ = planted()
    centred = x - np.stack([x[codes == code].mean(axis=0) for code in range(4)])[codes]
    np.testing.assert_allclose(fit_leace(centred, codes).apply(centred), centred, atol=1e-8)


def test_what_a_forest_still_reads_is_said_beside_what_a_line_does_not():
    """Half of the codes differ by their mean, which erasure takes, and by how far they lie from it, which it leaves."""
    random = np.random.default_rng(0)
    codes, groups = random.integers(2, size=600), np.arange(600) // 20
    x = random.normal(size=(600, 6)) * (1 + 2 * codes[:, None]) + 2 * codes[:, None]
    found = measure_leak(x, codes, groups)
    assert list(found.columns) == ["before", "after", "chance"] and set(found["chance"]) == {0.5}
    assert found.loc["logistic", "before"] > 0.75 and found.loc["logistic", "after"] == pytest.approx(0.5, abs=0.1)
    assert found.loc["forest"][["before", "after"]].min() > 0.8
    nothing = measure_leak(x, random.integers(2, size=600), groups)
    assert nothing[["before", "after"]].to_numpy() == pytest.approx(0.5, abs=0.1)
    with pytest.raises(InputError, match=r"cannot be read on other groups.*one of them in 1 groups"):
        measure_leak(x, codes, codes)
    with pytest.raises(InputError, match="one for each vector"):
        measure_leak(x, codes[:9], groups)


@pytest.mark.parametrize("codes", [np.zeros(10, int), np.arange(9)])
def test_codes_that_say_nothing(codes):
    with pytest.raises(InputError, match="one code for each vector, of at least two classes"):
        fit_leace(np.random.default_rng(0).normal(size=(10, 3)), codes)


def test_what_one_tile_has_does_not_tell_the_classes_of_all_others():
    """A dimension that moves in one tile: its covariance with the classes would be taken from every other one."""
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, codes, _ = planted()
    codes = (codes > 1).astype(int)
    wide = np.hstack([x, np.zeros((len(x), 4))])
    wide[np.arange(4), 24 + np.arange(4)] = 1e-3
    erased = fit_leace(wide, codes).apply(wide)
    read = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=10, class_weight="balanced"))
    assert cross_val_score(read, erased, codes, cv=5, scoring="balanced_accuracy").mean() < 0.55
    assert np.ptp(erased[:, 24:], axis=0).max() < 1e-12
    means = np.stack([erased[codes == code].mean(axis=0) for code in range(2)])
    assert np.abs(means[0] - means[1]).max() < 1e-8
