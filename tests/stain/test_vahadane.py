"""Sparse codes against NNLS, and vectors against scikit-learn's dictionary learning and factorisation."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.decomposition import MiniBatchDictionaryLearning, non_negative_factorization

from histolatent.stain import fit_tile
from histolatent.stain.vahadane import sparse_codes, vahadane_vectors
from histolatent.stain.vectors import angle, canonical_vectors, unit_rows


def loss(density: np.ndarray, vectors: np.ndarray, codes: np.ndarray, penalty: float) -> np.ndarray:
    return 0.5 * np.square(density - vectors.T @ codes).sum(axis=0) + penalty * codes.sum(axis=0)


@given(seed=st.integers(0, 2**32 - 1), degrees=st.floats(6, 88), penalty=st.sampled_from([0.0, 0.01, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_codes_are_those_of_non_negative_least_squares(seed, degrees, penalty):
    """`min |v - W'c|^2 / 2 + p sum(c)` is `nnls(L', inv(L) (W v - p))` with `L L' = W W'`."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(3, 2)))[0].T
    turn = np.radians(degrees)
    vectors = np.stack([frame[0], np.cos(turn) * frame[0] + np.sin(turn) * frame[1]])
    density = rng.normal(0.3, 0.7, (3, 40))
    codes = sparse_codes(density, vectors, penalty)
    root = np.linalg.cholesky(vectors @ vectors.T)
    expected = np.stack([nnls(root.T, np.linalg.solve(root, vectors @ v - penalty))[0] for v in density.T], axis=1)
    np.testing.assert_allclose(codes, expected, atol=1e-8)
    assert (codes >= 0).all()


def test_no_other_codes_are_better():
    rng = np.random.default_rng(0)
    vectors, density = canonical_vectors(), rng.normal(0.4, 0.5, (3, 30))
    codes = sparse_codes(density, vectors, 0.1)
    best = loss(density, vectors, codes, 0.1)
    for _ in range(300):
        tried = np.maximum(codes + rng.normal(0, 0.2, codes.shape), 0)
        assert (loss(density, vectors, tried, 0.1) >= best - 1e-12).all()


def test_codes_are_sparse_and_not_negative_in_the_type_given():
    density = np.random.default_rng(1).normal(0.3, 0.4, (3, 100)).astype(np.float32)
    codes = sparse_codes(density, canonical_vectors().astype(np.float32), 0.1)
    assert codes.dtype == np.float32
    assert (codes == 0).any(axis=1).all()


def test_separable_mixtures_give_their_vectors_exactly():
    """Each pixel holds one stain: the sparse factorisation is then the mixture itself."""
    true = unit_rows([(0.56, 0.72, 0.41), (0.22, 0.80, 0.56)])
    rng = np.random.default_rng(2)
    amounts = rng.uniform(0.3, 1.6, (2, 4000)) * np.eye(2)[:, rng.integers(0, 2, 4000)]
    pixels = np.clip(np.rint(240 * np.exp(-true.T @ amounts)), 1, 255).astype(np.uint8)
    density = np.log(240.0) - np.log(pixels).astype(np.float32)
    found = vahadane_vectors(pixels, density.astype(np.float32), canonical_vectors())
    assert found is not None
    assert max(angle(*rows) for rows in zip(found, true, strict=True)) < 0.3


def test_one_stain_is_none():
    amounts = np.linspace(0.1, 2, 800)
    pixels = np.rint(240 * np.exp(-np.outer(canonical_vectors()[0], amounts))).astype(np.uint8)
    density = (np.log(240.0) - np.log(np.maximum(pixels, 1))).astype(np.float32)
    assert vahadane_vectors(pixels, density, canonical_vectors()) is None


def staintools_pixels(tile: np.ndarray, every: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Return StainTools' mask (CIELab lightness under 0.8), thinned, and its densities (I0 255) as rows."""
    inside = np.flatnonzero(cv2.cvtColor(tile, cv2.COLOR_RGB2LAB)[..., 0] / 255 < 0.8)[::every]
    mask = np.zeros(tile.shape[:2], bool)
    mask.ravel()[inside] = True
    return mask, -np.log(np.maximum(tile[mask], 1) / 255)


def dictionary(density: np.ndarray) -> np.ndarray:
    """Return StainTools' vectors: online dictionary learning, l1 of 0.1 on the codes, all non-negative, unit norm.

    The objective and the algorithm (Mairal et al. 2009) of `spams.trainDL`, which StainTools calls, in scikit-learn.
    """
    learned = MiniBatchDictionaryLearning(
        2,
        alpha=0.1,
        fit_algorithm="cd",
        positive_code=True,
        positive_dict=True,
        dict_init=canonical_vectors(),
        batch_size=64,
        max_iter=8,
        max_no_improvement=None,
        tol=0,
        random_state=0,
    ).fit(density)
    rows = unit_rows(learned.components_)
    return rows if rows[0, 0] > rows[1, 0] else rows[::-1]


def check_against_staintools(tile: np.ndarray) -> None:
    """Check that vectors are within 3 degrees of the peer's, and that their loss is not larger."""
    mask, density = staintools_pixels(tile)
    ours = fit_tile(tile, "vahadane", mask=mask, limit=None, white=255).rows
    theirs = dictionary(density)
    assert max(angle(*rows) for rows in zip(ours, theirs, strict=True)) < 3
    losses = [loss(density.T, rows, sparse_codes(density.T, rows, 0.1), 0.1).mean() for rows in (ours, theirs)]
    assert losses[0] < losses[1] * (1 + 1e-4)


def test_vectors_are_those_of_staintools_on_phantom_tiles(tiles):
    for tile in tiles[:2]:
        check_against_staintools(tile)


@pytest.mark.data
@pytest.mark.parametrize(("which", "y", "x"), [(0, 0, 0), (0, 180, 100), (0, 200, 300), (1, 200, 300)])
def test_vectors_are_those_of_staintools_on_real_tiles(pair, which, y, x):
    check_against_staintools(np.ascontiguousarray(pair[which][y : y + 224, x : x + 224]))


def test_codes_are_those_of_scikit_learns_factorisation(tiles):
    """scikit-learn's NMF with the vectors held fixed and an l1 penalty on the codes minimises the same function."""
    vectors = canonical_vectors()
    _, density = staintools_pixels(tiles[0], 5)
    expected, _, _ = non_negative_factorization(
        density, H=vectors, n_components=2, update_H=False, alpha_W=0.1 / 3, l1_ratio=1.0, tol=1e-10, max_iter=5000
    )
    np.testing.assert_allclose(sparse_codes(density.T, vectors, 0.1).T, expected, atol=1e-3)
