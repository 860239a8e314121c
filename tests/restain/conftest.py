"""A small cohort as files, and ways to spoil it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histolatent.images.phantom import PhantomSpec, write_phantom
from histolatent.restain import fit_source
from histolatent.stain import StainBook

SPEC = PhantomSpec(sites=2, patients=2, slides=1, tiles_per_site=8, tile_px=64, seed=3)


@dataclass(frozen=True, eq=False)
class Memory:
    """Tiles in memory, by id."""

    tiles: dict[str, np.ndarray]
    columns: dict[str, list]
    name: str = "memory"

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.columns, index=pd.Index(list(self.tiles), name="tile"))

    def read(self, index: int) -> np.ndarray:
        return list(self.tiles.values())[index]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites, four slides, four tiles of 64 px each, with their manifest. Not to be changed."""
    return write_phantom(SPEC, tmp_path_factory.mktemp("phantom") / "cohort")


@pytest.fixture(scope="session")
def book(cohort: Path) -> StainBook:
    """Macenko fits of the cohort."""
    return fit_source(cohort)


@pytest.fixture
def mine(cohort: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the tiles to a folder of one's own, with a manifest of these rows' `change`."""

    def build(change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame, name: str = "mine") -> Path:
        folder = tmp_path / name
        frame = pd.read_csv(cohort / "manifest.csv", dtype=str)
        for path in frame["path"]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes((cohort / path).read_bytes())
        change(frame).to_csv(folder / "manifest.csv", index=False)
        return folder

    return build


@pytest.fixture
def white(tmp_path: Path) -> Path:
    """An image of nothing."""
    path = tmp_path / "white.png"
    Image.new("RGB", (64, 64), (244, 243, 245)).save(path)
    return path


def pixels_of(folder: Path) -> dict[str, bytes]:
    """Every PNG of a folder as bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def card_of(folder: Path) -> dict:
    """The card without its time."""
    return {**json.loads((folder / "card.json").read_text()), "created": "", "stain_sha256": ""}


def without_time(book: StainBook) -> dict:
    """A book as plain values, without its time."""
    plain = book.model_dump(mode="json")
    return {**plain, "provenance": {**plain["provenance"], "created": ""}}
