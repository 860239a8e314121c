"""Macenko's vectors against a float64 reference, torchstain and numpy.percentile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

from histolatent.stain import NoChange, colour_change, fit_tile, recolour
from histolatent.stain.macenko import macenko_vectors, tail_percentile, tail_percentiles
from histolatent.stain.vectors import angle


def reference_vectors(density: np.ndarray, alpha: float) -> np.ndarray:
    """Macenko et al. 2009, in float64."""
    density = density.astype(np.float64).T
    plane = np.linalg.eigh(np.cov(density.T))[1][:, [2, 1]]
    plane = plane * np.where(density.mean(axis=0) @ plane < 0, -1, 1)
    turned = density @ plane
    angles = np.arctan2(turned[:, 1], turned[:, 0])
    ends = np.percentile(angles, [alpha, 100 - alpha])
    return np.stack([plane @ [np.cos(end), np.sin(end)] for end in ends])


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("count", [60, 5000, 20_001])
def test_vectors_against_the_formula(alpha, count):
    rng = np.random.default_rng(count)
    amounts = rng.gamma(1.5, 0.5, (2, count))
    density = (np.array([[0.56, 0.22], [0.72, 0.8], [0.41, 0.56]]) @ amounts + rng.normal(0, 0.02, (3, count))).astype(
        np.float32
    )
    found = macenko_vectors(density, alpha)
    assert found is not None
    for row, true in zip(found, reference_vectors(density, alpha), strict=True):
        assert angle(row, true) < 0.01
        assert np.linalg.norm(row) == pytest.approx(1)


def test_a_fan_beyond_the_half_turn_is_not_torn():
    """Densities on both sides of the plane's axis: their angles pass 180 degrees, and the ends are still the ends."""
    rng = np.random.default_rng(3)
    angles = np.radians(rng.uniform(-100, 100, 4000))
    plane = np.stack([np.cos(angles), np.sin(angles), np.full(4000, 0.01)])
    found = macenko_vectors((plane * rng.uniform(0.5, 1, 4000)).astype(np.float32), 1.0)
    assert found is not None
    opening = [angle(row, np.array([1.0, 0.0, 0.0])) for row in found]
    assert opening == pytest.approx([98, 98], abs=3)


def test_no_plane_no_vectors():
    assert macenko_vectors(np.full((3, 500), 0.5, np.float32)) is None
    line = np.outer([0.5, 0.75, 0.25], np.linspace(0.25, 2, 512)).astype(np.float32)
    found = macenko_vectors(line)
    assert found is None or angle(*found) < 0.01


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 9000),
    percent=st.floats(50.5, 99.9),
    kind=st.sampled_from(["normal", "ties", "sorted", "reversed", "one large"]),
)
@settings(max_examples=120, deadline=None)
def test_percentiles_are_numpys(seed, count, percent, kind):
    values = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    if kind == "ties":
        values = np.round(values)
    elif kind in ("sorted", "reversed"):
        values = np.sort(values)[:: 1 if kind == "sorted" else -1]
    elif kind == "one large":
        values[::64] += 10
    expected = np.percentile(values.astype(np.float64), [100 - percent, percent])
    assert tail_percentile(values, percent) == pytest.approx(expected[1], abs=1e-5)
    np.testing.assert_allclose(tail_percentiles(values, 100 - percent), expected, atol=1e-5)


def torchstain_difference(image: np.ndarray, target: np.ndarray) -> int | None:
    """Return the largest difference in levels to torchstain with the same choices: all pixels, I0 240, I + 1.

    None where ours leaves the image as it is.
    """
    peer = NumpyMacenkoNormalizer()
    peer.fit(target)
    theirs, _, _ = peer.normalize(image.copy(), stains=False)
    fits = [
        fit_tile(tile, mask=np.ones(tile.shape[:2], bool), limit=None, white=240, offset=1) for tile in (image, target)
    ]
    np.testing.assert_allclose(fits[1].rows.T, peer.HERef, atol=1e-4)
    np.testing.assert_allclose(fits[1].max_concentrations, peer.maxCRef, rtol=1e-3)
    change = colour_change(*fits, background="map", signed=True)
    ours = recolour(image, change)
    return None if isinstance(change, NoChange) else int(np.abs(ours.astype(int) - theirs).max())


def test_torchstain_on_phantom_tiles(tiles, others):
    found = [torchstain_difference(image, target) for image in tiles[:4] for target in (tiles[5], *others[:2])]
    compared = [difference for difference in found if difference is not None]
    assert len(compared) >= 6
    assert max(compared) <= 1


@pytest.mark.data
def test_torchstain_on_real_tiles(pair):
    for image, target in (pair, pair[::-1]):
        difference = torchstain_difference(image, target)
        assert difference is not None
        assert difference <= 1
