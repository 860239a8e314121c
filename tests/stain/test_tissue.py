"""Background, tissue, and neither."""

import numpy as np
import pytest

from histolatent.stain.tissue import absorbing, background_level, densities, tissue, tissue_weight
from histolatent.stain.vectors import canonical_vectors, complete

WHITE = np.array([242.0, 238.0, 243.0])
UNMIX = np.linalg.inv(complete(canonical_vectors())).T


def columns(*colours: tuple[int, int, int], each: int = 1) -> np.ndarray:
    return np.repeat(np.array(colours, np.uint8).T, each, axis=1)


def find(pixels: np.ndarray, white: np.ndarray = WHITE) -> list[int]:
    return tissue(pixels, densities(pixels, white, 0), UNMIX, 2)[0].tolist()


def test_background_is_the_commonest_brightness_per_channel():
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal(WHITE[:, None], 1.2, (3, 3000)).round(), 0, 255)
    pale = np.clip(rng.normal(210, 10, (3, 1000)).round(), 0, 255)
    stained = rng.integers(40, 170, (3, 4000))
    found = background_level(np.concatenate([glass, pale, stained], axis=1).astype(np.uint8))
    assert found is not None
    np.testing.assert_allclose(found, WHITE, atol=1)


def test_too_little_background_is_none():
    assert background_level(columns((240, 240, 240), each=99)) is None
    np.testing.assert_array_equal(background_level(columns((240, 240, 240), each=100)), [240, 240, 240])
    assert background_level(columns((245, 200, 220), each=500)) is None
    assert background_level(columns((170, 170, 170), each=500)) is None


def test_densities_follow_the_formula():
    pixels = np.random.default_rng(1).integers(0, 256, (3, 500), dtype=np.uint8)
    for offset in (0, 1):
        expected = -np.log(np.maximum(pixels + float(offset), 1) / WHITE[:, None])
        np.testing.assert_allclose(densities(pixels, WHITE, offset), expected, atol=1e-5)


@pytest.mark.parametrize("offset", [0, 1])
def test_absorbing_is_macenkos_rule(offset):
    pixels = np.random.default_rng(2).integers(0, 256, (3, 5000), dtype=np.uint8)
    density = -np.log(np.maximum(pixels + float(offset), 1) / WHITE[:, None])
    np.testing.assert_array_equal(absorbing(pixels, WHITE, offset, 0.15), ~np.any(density < 0.15, axis=0))


@pytest.mark.parametrize(
    ("colour", "counts"),
    [
        ((242, 238, 243), False),  # glass
        ((225, 220, 226), False),  # thinner than 0.15
        ((90, 60, 130), True),  # hematoxylin
        ((215, 140, 170), True),  # eosin
        ((10, 12, 14), False),  # ink, a fold, outside the scan
        ((20, 140, 90), False),  # green pen
        ((240, 230, 60), False),  # yellow marker
    ],
)
def test_what_counts_as_tissue(colour, counts):
    assert find(columns(colour)) == ([0] if counts else [])


def test_ink_is_no_tissue_but_no_background_either():
    pixels = columns((242, 238, 243), (90, 60, 130), (20, 140, 90), (10, 12, 14))
    found, absorbs = tissue(pixels, densities(pixels, WHITE, 0), UNMIX, 2)
    assert found.tolist() == [1]
    assert absorbs.tolist() == [False, True, True, True]


def test_weight_rises_smoothly_from_background_to_tissue():
    grey = np.arange(256)
    weight = tissue_weight(grey, WHITE)
    level = float(WHITE @ (0.299, 0.587, 0.114))
    assert (weight[grey >= level * np.exp(-0.05)] == 0).all()
    assert (weight[grey <= level * np.exp(-0.15)] == 1).all()
    assert (np.diff(weight) <= 0).all()
    assert weight[grey == round(level * np.exp(-0.1))] == pytest.approx(0.5, abs=0.06)
