"""Tiles to perturb: drawn tissue, and everything that is hardly a tile."""

import numpy as np
import pytest

from histolatent.images.phantom import PhantomSpec, PhantomTiles


@pytest.fixture(scope="session")
def phantom() -> PhantomTiles:
    return PhantomTiles(PhantomSpec(sites=2, tiles_per_site=24, seed=4))


@pytest.fixture(scope="session")
def tile(phantom) -> np.ndarray:
    """A tile of tumour."""
    return phantom.read(list(phantom.table["label"]).index("solid carcinoma"))


def odd_tiles() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    speck = np.full((40, 40, 3), 250, np.uint8)
    speck[18:22, 18:22] = (90, 40, 130)
    return {
        "white": np.full((48, 48, 3), 255, np.uint8),
        "black": np.zeros((48, 48, 3), np.uint8),
        "purple": np.full((33, 33, 3), (120, 60, 150), np.uint8),
        "eosin": np.full((33, 33, 3), (230, 120, 160), np.uint8),
        "speck": speck,
        "noise": rng.integers(0, 256, (37, 61, 3), dtype=np.uint8),
        "wide": rng.integers(100, 256, (16, 90, 3), dtype=np.uint8),
        "tall": rng.integers(100, 256, (90, 16, 3), dtype=np.uint8),
        "two pixels": np.array([[[10, 20, 30], [200, 100, 0]]], np.uint8),
        "one pixel": np.array([[[120, 60, 150]]], np.uint8),
    }


@pytest.fixture(params=list(odd_tiles()))
def odd(request) -> np.ndarray:
    return odd_tiles()[request.param]
