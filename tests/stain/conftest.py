"""Phantom tiles of one slide, tiles of known vectors, a valid stain model, and real pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.stain import NORMALIZERS, ColourChange, Fit, StainModel, colour_change, fit_colour, fit_stains
from histolatent.stain import shipped_reference as shipped
from histolatent.stain.vectors import MACENKO_REFERENCE, unit_rows


@pytest.fixture(scope="session")
def tiles() -> list[np.ndarray]:
    """Seven tiles of one slide of the phantom, 160 px wide."""
    source = PhantomTiles(PhantomSpec(sites=1, patients=1, slides=1, tiles_per_site=7, tile_px=160, seed=21))
    return [source.read(index) for index in range(7)]


@pytest.fixture(scope="session")
def others() -> list[np.ndarray]:
    """Five tiles of one slide of another laboratory."""
    source = PhantomTiles(PhantomSpec(sites=3, patients=1, slides=1, tiles_per_site=5, tile_px=160, seed=22))
    return [source.read(index) for index in range(len(source.table)) if source.table["site"].iat[index] == "new-stain"]


@pytest.fixture(scope="session")
def slide_fits(tiles: list[np.ndarray]) -> dict[str, Fit]:
    """What every normalisation method fits to the slide."""
    return {
        name: fit_stains(tiles, target) if target == name else fit_colour(tiles, target)
        for name, target in NORMALIZERS.items()
    }


@pytest.fixture(scope="session")
def changes(others: list[np.ndarray]) -> dict[str, ColourChange]:
    """One change for each normalisation method, of the other laboratory to the phantom's reference."""
    made = {}
    for name, target in NORMALIZERS.items():
        fit = fit_stains(others, target) if target == name else fit_colour(others, target)
        made[name] = colour_change(fit, shipped("phantom", name), modified=name == "reinhard-modified")
    return made


@pytest.fixture
def make_model() -> Callable[..., StainModel]:
    """Return a function that makes a valid model; arguments replace its fields."""

    def make(**fields: Any) -> StainModel:
        rows = fields.pop("rows", unit_rows([*MACENKO_REFERENCE.values()]))
        count = len(rows)
        values: dict[str, Any] = {
            "method": "given",
            "stains": tuple(f"stain {k + 1}" for k in range(count)),
            "vectors": tuple(tuple(map(float, row)) for row in unit_rows(rows)),
            "max_concentrations": (1.5, 1.0, 0.8)[:count],
            "canonical_degrees": (0.0,) * count,
            "spread_degrees": (0.0,) * count,
            "white": (240.0, 240.0, 240.0),
            "white_source": "given",
            "tissue_colour": (170.0, 110.0, 160.0),
            "stained_colour": (170.0, 110.0, 160.0),
            "tissue_pixels": 500,
            "tiles": 1,
            "tiles_used": 1,
            "reason": "ok",
        }
        return StainModel(**(values | fields))

    return make


@pytest.fixture
def pair(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Two real H&E images of different stain."""
    source, target = (cv2.imread(str(data / "stain_pair" / f"{name}.png"))[..., ::-1] for name in ("source", "target"))
    return np.ascontiguousarray(source), np.ascontiguousarray(target)
