"""Tiles that break stain code: no exception, no hue flip, no tinted background, by any method, per tile."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from histolatent.stain import (
    NORMALIZERS,
    ColourChange,
    Fit,
    NoChange,
    fit_colour,
    fit_tile,
    normalize_tile,
    shipped_reference,
)

suite = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "_edge_suite.py")))
TILES = suite.synthetic()
pytestmark = pytest.mark.filterwarnings("ignore::histolatent.stain.PerTileWarning")


def check(tile: np.ndarray, reference: Fit, method: str) -> ColourChange:
    made: list[ColourChange] = []

    def normalized(image: np.ndarray) -> np.ndarray:
        out, change = normalize_tile(image, reference, method)
        made.append(change)
        return out

    assert suite.failure(tile, normalized) == ""
    if isinstance(made[0], NoChange):
        assert made[0].reason
        assert made[0].why
        np.testing.assert_array_equal(normalized(tile), tile)
    return made[0]


@pytest.mark.parametrize("method", [*NORMALIZERS])
@pytest.mark.parametrize("name", [*TILES])
def test_synthetic_tiles(name, method):
    check(TILES[name], shipped_reference("phantom", method), method)


@pytest.mark.parametrize("method", [*NORMALIZERS])
@pytest.mark.parametrize("name", ["white", "near-white noise", "black", "2 % tissue", "5 tissue pixels", "1 pixel"])
def test_tiles_without_enough_tissue_say_so(name, method):
    change = check(TILES[name], shipped_reference("phantom", method), method)
    assert isinstance(change, NoChange)
    assert change.reason == "too-little-tissue"


@pytest.mark.data
def test_real_tiles_and_a_real_target(data):
    target = np.ascontiguousarray(cv2.imread(str(data / "stain_pair" / "target.png"))[..., ::-1])
    tiles = suite.real(data / "edge_tiles")
    assert len(tiles) == 14
    for method, kind in NORMALIZERS.items():
        own = fit_tile(target, method) if kind == method else fit_colour([target], kind)
        assert own.valid
        for reference in (shipped_reference("phantom", method), own):
            for tile in (tiles | TILES).values():
                check(tile, reference, method)


def test_the_judge_sees_what_it_is_for():
    """Each kind of failure, made on purpose."""
    white, tissue = TILES["white"], TILES["pen on tissue"]

    def broken(image: np.ndarray) -> np.ndarray:
        raise ValueError("no tissue")

    assert suite.failure(white, broken) == "ValueError"
    assert suite.failure(white, lambda image: image - np.uint8(5)) == "tinted background, 5 levels"
    plain = np.full_like(white, (200, 120, 160))
    assert suite.failure(plain, lambda image: np.roll(image, 1, axis=2)) == "hue flip"
    assert suite.failure(TILES["hematoxylin only"], lambda image: np.minimum(image, image // 6)) != ""
    purple = np.full_like(TILES["grey"], (90, 30, 120))
    assert suite.failure(TILES["grey"], lambda image: purple) == "grey made coloured"
    assert suite.failure(tissue, lambda image: image[:5]) == "another shape or type"
    assert suite.failure(tissue, lambda image: image) == ""
