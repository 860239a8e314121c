"""The exact and the approximate search against every pair in float64."""

import importlib
import sys

import numpy as np
import pytest

from histolatent.errors import InputError, MissingExtraError, OptionError
from histolatent.neighbors import TYPES, approximate_neighbors, find_neighbors, is_collapsed, space


def every_distance(vectors, metric):
    """By the letter of the definition, in float64."""
    rows = vectors.astype(float)
    if metric == "cosine":
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return 1 - units @ units.T
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)


def kind_of(labels, confounders, i, j):
    return ("S" if labels[i] == labels[j] else "O") + ("S" if confounders[i] == confounders[j] else "O")


def cohort(n=240, d=9, labels=3, sites=4, seed=0):
    """Vectors off the origin with a copied row, three labels, four sites, groups of unequal size within and across."""
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n, d)) + 2).astype(np.float32)
    vectors[17] = vectors[5]
    return vectors, rng.integers(0, labels, n), rng.integers(0, sites, n), rng.integers(0, n // 6, n)


def search(data, k=20, m=5, **options):
    vectors, labels, confounders, groups = data
    return find_neighbors(vectors, k, m=m, labels=labels, confounders=confounders, groups=groups, **options)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("n", "labels", "sites", "k"), [(240, 3, 4, 20), (700, 2, 2, 30), (60, 6, 7, 59)])
def test_against_every_pair(metric, n, labels, sites, k):
    data = cohort(n, labels=labels, sites=sites)
    vectors, label, site, group = data
    found = search(data, k=k, metric=metric)
    distance = every_distance(vectors, metric)
    for i in range(n):
        others = [j for j in np.argsort(np.round(distance[i], 11), kind="stable") if group[j] != group[i]]
        wanted = others[:k]
        assert found.plain.index[i][: len(wanted)].tolist() == wanted
        np.testing.assert_allclose(found.plain.distance[i][: len(wanted)], distance[i, wanted], atol=1e-7)
        assert (found.plain.index[i][len(wanted) :] == -1).all()
        assert np.isinf(found.plain.distance[i][len(wanted) :]).all()
        for place, kind in enumerate(TYPES):
            of_kind = [j for j in others if kind_of(label, site, i, j) == kind]
            assert found.available[i, place] == len(of_kind)
            index = found.typed[kind].index[i]
            assert index[index >= 0].tolist() == of_kind[:5]
    kinds = found.types()
    assert all(
        TYPES[kinds[i, 0]] == kind_of(label, site, i, found.plain.index[i, 0]) for i in range(n) if kinds[i, 0] >= 0
    )


def test_without_codes_only_the_tile_itself_is_left_out():
    vectors = cohort()[0]
    found = find_neighbors(vectors, 20)
    distance = every_distance(vectors, "cosine")
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(found.plain.index, np.argsort(np.round(distance, 11), axis=1, kind="stable")[:, :20])
    assert found.typed == {}
    assert (found.available == 239).all()
    with pytest.raises(InputError, match="have no types"):
        found.types()


def test_chunks_do_not_matter(monkeypatch):
    data = cohort()
    whole = search(data)
    monkeypatch.setattr(space, "CHUNK_BYTES", 4 * 300 * 7)
    pieces = search(data)
    np.testing.assert_array_equal(pieces.plain.index, whole.plain.index)
    np.testing.assert_array_equal(pieces.plain.distance, whole.plain.distance)
    for kind in TYPES:
        np.testing.assert_array_equal(pieces.typed[kind].index, whole.typed[kind].index)


def test_chosen_rows_have_the_same_neighbours():
    data = cohort()
    rows = np.array([200, 3, 17, 100])
    some, whole = search(data, rows=rows), search(data)
    np.testing.assert_array_equal(some.plain.index, whole.plain.index[rows])
    np.testing.assert_array_equal(some.typed["SO"].index, whole.typed["SO"].index[rows])
    np.testing.assert_array_equal(some.available, whole.available[rows])


def test_order_rotation_and_scale_do_not_matter():
    vectors, labels, confounders, groups = cohort()
    vectors[17] += 0.1  # no tie: those are broken by row
    plain = search((vectors, labels, confounders, groups)).plain.index
    order = np.random.default_rng(1).permutation(240)
    moved = search(tuple(part[order] for part in (vectors, labels, confounders, groups))).plain.index
    np.testing.assert_array_equal(np.where(moved >= 0, order[moved], -1), plain[order])
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(9, 9)))[0]
    for changed in (vectors @ turn, 800 * vectors, (vectors * np.linspace(0.1, 9, 240)[:, None])):
        np.testing.assert_array_equal(search((changed, labels, confounders, groups)).plain.index, plain)
    for changed in (vectors @ turn + 100, 800 * vectors, 1e20 * vectors):
        np.testing.assert_array_equal(
            search((changed, labels, confounders, groups), metric="euclidean").plain.index,
            search((vectors, labels, confounders, groups), metric="euclidean").plain.index,
        )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_long_vectors_and_half_precision_are_no_nan(metric, kind):
    vectors, *codes = cohort(d=64)
    vectors = (800 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(kind)
    found = search((vectors, *codes), metric=metric)
    assert np.isfinite(found.plain.distance[found.plain.index >= 0]).all()
    exact = search((vectors.astype(float), *codes), metric=metric)
    np.testing.assert_array_equal(found.plain.index, exact.plain.index)
    np.testing.assert_allclose(found.plain.distance, exact.plain.distance, rtol=1e-12, atol=1e-12)


def test_near_ties_beyond_float32_are_ordered_as_in_float64():
    """A tight cloud far from the origin: float32 products cannot tell its tiles apart."""
    vectors = 1 + 1e-5 * np.random.default_rng(3).normal(size=(90, 12))
    for metric in ("cosine", "euclidean"):
        found = find_neighbors(vectors, 10, metric=metric)
        if metric == "cosine":
            assert found.collapsed  # 1e-10 apart: one point, to float32
            continue
        distance = every_distance(vectors, metric)
        np.fill_diagonal(distance, np.inf)
        np.testing.assert_array_equal(found.plain.index, np.argsort(distance, axis=1)[:, :10])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rounding_that_goes_one_way_is_allowed_for(metric):
    """Nearly constant positive rows: every product of a sum rounds alike, far more than rounding at random."""
    rng = np.random.default_rng(6)
    vectors = (0.3 + 3e-3 * rng.normal(size=(150, 3))[:, rng.integers(0, 3, 900)]).astype(np.float32)
    found = find_neighbors(vectors, 10, metric=metric)
    distance = every_distance(vectors, metric)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(found.plain.index, np.argsort(np.round(distance, 12), axis=1, kind="stable")[:, :10])


def test_copies_tie_and_the_lower_row_comes_first():
    vectors = np.repeat(np.eye(4, dtype=np.float32), 6, axis=0) + np.float32(0.1)
    found = find_neighbors(vectors, 5)
    assert found.plain.index[0].tolist() == [1, 2, 3, 4, 5]
    assert found.plain.index[5].tolist() == [0, 1, 2, 3, 4]
    assert (found.plain.distance == 0).all()


def test_a_zero_row_is_at_one_from_all():
    vectors = cohort()[0]
    vectors[4] = 0
    found = find_neighbors(vectors, 3)
    assert (found.plain.distance[4] == 1).all()
    assert found.plain.index[4].tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [0.0, 0.125, 1e20])
@pytest.mark.parametrize("find", [find_neighbors, approximate_neighbors])
def test_one_point_has_no_neighbours(value, find):
    constant = np.full((50, 4), value, np.float32)
    found = find(constant, 5)
    assert found.collapsed
    assert (found.plain.index == -1).all()
    noisy = constant * (1 + 1e-7 * np.random.default_rng(0).normal(size=(50, 4)))
    assert is_collapsed(noisy, "euclidean")
    assert not is_collapsed(cohort()[0])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_small_cells_are_searched_exactly_by_faiss_too(metric):
    pytest.importorskip("faiss")
    vectors, labels, confounders, groups = data = cohort()
    found = approximate_neighbors(
        vectors, 20, labels=labels, confounders=confounders, groups=groups, metric=metric, sample=50
    )
    exact = search(data, metric=metric)
    np.testing.assert_array_equal(found.plain.index, exact.plain.index)
    np.testing.assert_array_equal(found.typed["OS"].index, exact.typed["OS"].index)
    assert found.recall == dict.fromkeys(("plain", *TYPES), 1.0)
    rows = np.array([70, 3, 41])
    some = approximate_neighbors(
        vectors, 20, labels=labels, confounders=confounders, groups=groups, metric=metric, rows=rows
    )
    np.testing.assert_array_equal(some.plain.index, exact.plain.index[rows])
    np.testing.assert_array_equal(some.typed["SO"].index, exact.typed["SO"].index[rows])
    assert some.recall["plain"] == 1


def test_recall_is_measured(monkeypatch):
    pytest.importorskip("faiss")
    approximate = importlib.import_module("histolatent.neighbors.approximate")
    monkeypatch.setattr(approximate, "SMALL", 100)
    vectors = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
    few, many = (approximate_neighbors(vectors, 10, probes=probes, sample=200) for probes in (1, 54))
    assert 0.05 < few.recall["plain"] < 0.9
    assert many.recall["plain"] == 1
    exact = find_neighbors(vectors, 10).plain.index
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, few.plain.index, strict=True)])
    assert few.recall["plain"] == pytest.approx(share, abs=0.06)


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"histolatent\[explore\]"):
        approximate_neighbors(cohort()[0], 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 240}, r"k has to be below the number of tiles. Received: k 240, 240 tiles. Valid: 1 to 239"),
        ({"k": 0}, "k has to be below the number of tiles"),
        ({"m": 0}, "m has to be at least 1. Received: 0"),
        ({"labels": np.zeros(3, int)}, "labels have to be one code from 0 per tile. Received: 3 codes for 240 tiles"),
        ({"groups": np.full(240, -1)}, "groups have to be one code from 0 per tile"),
        ({"labels": None}, "labels and confounders are needed together. Fix: give both, or neither"),
    ],
)
def test_arguments_that_do_not_fit_are_said(change, message):
    vectors, labels, confounders, groups = cohort()
    options = {"labels": labels, "confounders": confounders, "groups": groups, "k": 20} | change
    with pytest.raises(InputError, match=message):
        find_neighbors(vectors, options.pop("k"), **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_said(value):
    vectors = cohort()[0]
    vectors[31, 2] = value
    with pytest.raises(InputError, match=r"NaN or infinite numbers. Received: first in row 31"):
        find_neighbors(vectors, 5)


def test_an_unknown_distance_is_said():
    with pytest.raises(OptionError, match=r"no distance is called 'cosin'. Valid: cosine, euclidean. Fix"):
        find_neighbors(cohort()[0], 5, metric="cosin")


def test_more_neighbours_than_were_searched_for_are_said():
    with pytest.raises(InputError, match=r"too few neighbours were searched for. Received: 5, 6 are needed"):
        find_neighbors(cohort()[0], 5).plain.first(6)
