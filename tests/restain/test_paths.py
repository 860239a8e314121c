"""File names from tile ids: none outside, none alike, none that a file system refuses."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histolatent.restain import tile_paths


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        ("source/p01/s1/t000", "tiles/source/p01/s1/t000.png"),
        ("Normal/a.JPG", "tiles/Normal/a.png"),
        ("../../etc/passwd", "tiles/%2E%2E/%2E%2E/etc/passwd.png"),
        ("/etc/passwd", "tiles/etc/passwd.png"),
        ("a\\..\\b", "tiles/a%5C..%5Cb.png"),
        ("C:/x", "tiles/C%3A/x.png"),
        ("..", "tiles/%2E%2E.png"),
        ("", "tiles/%25.png"),
        ("//", "tiles/%25.png"),
        ("a\nb\0c", "tiles/a%0Ab%00c.png"),
        (".hidden", "tiles/%2Ehidden.png"),
        ("end. ", "tiles/end.%20.png"),
        ("CON", "tiles/%43ON.png"),
        ("50%", "tiles/50%25.png"),
        ("Größe α/ü", "tiles/Größe α/ü.png"),
        ("a.png/b", "tiles/a%2Epng/b.png"),
        ("\udcff", "tiles/%FF.png"),
    ],
)
def test_names(tile, path):
    assert tile_paths([tile]) == {tile: path}


def test_ids_that_would_share_a_file_do_not():
    paths = tile_paths(["a.png", "a.jpg", "A", "a"])
    assert paths["a.png"] == "tiles/a.png"
    assert len({path.casefold() for path in paths.values()}) == 4


def test_long_ids_are_cut():
    paths = tile_paths(["x" * 300, "x" * 301, "ü" * 300])
    assert all(len(part.encode()) <= 200 for path in paths.values() for part in path.split("/"))
    assert len(set(paths.values())) == 3


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), unique=True, max_size=12))
def test_any_ids(ids):
    paths = tile_paths(ids)
    assert list(paths) == ids
    assert len({path.casefold() for path in paths.values()}) == len(ids)
    files = {PurePosixPath(path) for path in paths.values()}
    assert not any(parent in files for file in files for parent in file.parents)
    for path in paths.values():
        assert path.startswith("tiles/")
        assert path.endswith(".png")
        assert not set(path) & set('\\:*?"<>|\0\n')
        assert not {"", ".", ".."} & set(path.split("/"))
