"""Small pictures, and folders of them."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

JOBS = """
import os
from histolatent.errors import EncoderError

def describe(tile, tile_id, mpp):
    return tile_id, mpp, tile[0, 0].tolist(), int(tile.sum())

def end(tile, tile_id, mpp):
    os._exit(3)

def fail(tile, tile_id, mpp):
    raise EncoderError("no", received=tile_id)
"""


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth asymmetric tile, 40 high and 52 wide: no turn or mirror of it equals it."""
    y, x = np.mgrid[0:40, 0:52]
    return np.stack([4 * x + 20, 5 * y + 30, 2 * x + 3 * y], axis=2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, picture: np.ndarray) -> Callable[..., Path]:
    """Return a function that writes PNG tiles of the given names, each a little different, into a new folder."""

    def write(*names: str, into: str = "tiles") -> Path:
        root = tmp_path / into
        root.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(picture, number, axis=0)).save(path)
        return root

    return write


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """A module that fresh processes can import too."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "stream_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield importlib.import_module("stream_jobs")
    del sys.modules["stream_jobs"]
