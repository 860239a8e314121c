"""Arrays of tiles: NumPy and HDF5."""

import pickle

import h5py
import numpy as np
import pandas as pd
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.images import open_tiles


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (11, 20, 24, 3), dtype=np.uint8)


def test_npy(tmp_path, stack):
    np.save(tmp_path / "a.npy", stack)
    labels = pd.DataFrame({"label": list("abcdefghijk"), "patient": ["001"] * 11})
    source = open_tiles(tmp_path / "a.npy", table=labels, columns={"slide": "patient"})
    assert list(source.table.index[[0, 10]]) == ["a/00", "a/10"]
    assert list(source.table["label"]) == list("abcdefghijk")
    assert set(source.table["slide"]) == {"001"}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(7), stack[7])
    assert len(open_tiles(tmp_path / "a.npy").table) == 11


def test_h5_columns_and_coordinates(tmp_path, stack):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["imgs"] = stack
        file["coords"] = np.arange(22).reshape(11, 2)
        file["group/label"] = [b"tumour"] * 10 + [b"\xff"]
        file["mpp"] = np.full(11, 0.25)
        file["features"] = np.zeros((11, 4, 4, 2), np.float32)
        file["scalar"] = 1.0
        file["pairs"] = np.zeros(11, [("a", "i4"), ("b", "i4")])
    source = open_tiles(f"{tmp_path / 'a.h5'}")
    assert list(source.table.columns) == ["x", "y", "label", "mpp"]
    assert list(source.table["y"][:2]) == [1.0, 3.0]
    assert source.table["label"].iloc[0] == "tumour"
    np.testing.assert_array_equal(source.read(3), stack[3])
    np.testing.assert_array_equal(open_tiles(f"{tmp_path / 'a.h5'}:imgs").read(3), stack[3])


def test_h5_with_several_or_no_stacks(tmp_path, stack):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"] = stack
        file["two/three"] = stack[::-1]
        file["scalar"] = 1.0
    with pytest.raises(InputError, match=r"which dataset holds the tiles\?.*one \(11, 20, 24, 3\).*Fix: .*FILE.h5:"):
        open_tiles(tmp_path / "a.h5")
    np.testing.assert_array_equal(open_tiles(f"{tmp_path / 'a.h5'}:two/three").read(0), stack[10])
    with pytest.raises(InputError, match=r"no dataset 'four'. Received: .*. Valid: one, scalar, two/three"):
        open_tiles(f"{tmp_path / 'a.h5'}:four")
    with pytest.raises(InputError, match=r"must be a uint8 array \(n, h, w, 3\).*float64 \(\)"):
        open_tiles(f"{tmp_path / 'a.h5'}:scalar")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["features"] = np.zeros((3, 4))
    with pytest.raises(InputError, match="no dataset in this file has four axes"):
        open_tiles(tmp_path / "b.hdf5")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 20, 20, 3), np.float32),
            r"float32 \(2, 20, 20, 3\). Fix: if its values lie in 0 to 1",
        ),
        (np.zeros((2, 3, 20, 20), np.uint8), r"uint8 \(2, 3, 20, 20\). Fix: save RGB uint8, 0 to 255"),
        (np.zeros((2, 20, 20, 4), np.uint8), r"uint8 \(2, 20, 20, 4\)"),
        (np.zeros((20, 20, 3), np.uint8), r"uint8 \(20, 20, 3\)"),
        (np.zeros((), np.uint8), r"uint8 \(\)"),
        (np.zeros((0, 20, 20, 3), np.uint8), "there are no tiles"),
        (np.zeros((2, 1, 1, 3), np.uint8), "tile is 1 x 1 px, too small"),
        (np.zeros((1, 16, 9000, 3), np.uint8), "a slide, not a tile"),
        (np.array([{}]), "the array cannot be read"),
    ],
)
def test_arrays_that_are_no_tiles(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message) as raised:
        open_tiles(tmp_path / "a.npy")
    assert "a.npy" in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_files_that_are_no_arrays(tmp_path, content, suffix):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be (read|opened)"):
        open_tiles(tmp_path / f"a{suffix}")


def test_archives_are_not_arrays(tmp_path, stack):
    np.savez(tmp_path / "a.npz", stack)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"the array cannot be read .*Fix: save one array"):
        open_tiles(tmp_path / "a.npy")


def test_tables_of_the_wrong_length_or_place(tmp_path, stack, folder):
    np.save(tmp_path / "a.npy", stack)
    with pytest.raises(InputError, match="the table has 3 rows for 11 tiles"):
        open_tiles(tmp_path / "a.npy", table=pd.DataFrame({"label": list("abc")}))
    with pytest.raises(OptionError, match="only an array of tiles takes a table"):
        open_tiles(folder("a.png"), table=pd.DataFrame({"label": ["a"]}))


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_a_file_that_breaks_later_names_the_tile(tmp_path, stack, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, stack)
    else:
        with h5py.File(path, "w") as file:
            file["imgs"] = stack
    source = open_tiles(path)
    path.write_bytes(b"gone")
    with pytest.raises(InputError, match="tile 4 cannot be read"):
        source.read(4)
