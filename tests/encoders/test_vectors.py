"""Precomputed vectors."""

import numpy as np
import pytest

from histolatent.encoders import encode, encoder
from histolatent.encoders.vectors import VectorEncoder
from histolatent.errors import EncoderError, InputError


def saved(tmp_path, array, **options):
    np.save(tmp_path / "v.npy", array, **options)
    return f"npy:{tmp_path / 'v.npy'}"


def test_rows_are_read_as_float32(tmp_path):
    rows = np.arange(12.0).reshape(4, 3)
    found = encoder(saved(tmp_path, rows))
    assert isinstance(found, VectorEncoder)
    np.testing.assert_array_equal(found.vectors, rows)
    assert found.vectors.dtype == np.float32
    assert found.card.dim == 3
    assert found.card.kind == "vectors"
    assert found.card.revision == f"sha256:{found.card.weights_sha256}"


def test_pixels_cannot_be_embedded(tmp_path):
    found = encoder(saved(tmp_path, np.ones((4, 3))))
    with pytest.raises(EncoderError, match=r"cannot embed pixels. Received: 1 tiles. Fix: use its rows"):
        encode(found, np.zeros((1, 4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones(3), r"not a table of numbers. Received: float64 array \(3,\)"),
        (np.ones((0, 3)), "not a table of numbers"),
        (np.ones((2, 2), complex), "not a table of numbers. Received: complex128"),
        (np.array([["a", "b"]]), "not a table of numbers"),
        (np.array([[1, np.nan], [2, 3], [np.inf, 1]]), "not finite in float32. Received: NaN or infinity in row 0, 2"),
        (np.array([[1e300, 1.0]]), "not finite in float32"),
        (np.array([[{}, 1]], object), "holds Python objects"),
    ],
)
def test_what_is_not_a_table_is_said(tmp_path, array, says):
    with pytest.raises(InputError, match=says):
        encoder(saved(tmp_path, array))


def test_files_that_are_no_arrays_are_said(tmp_path):
    with pytest.raises(InputError, match=r"there is no such file"):
        encoder(f"npy:{tmp_path / 'none.npy'}")
    (tmp_path / "text.npy").write_text("1,2,3")
    with pytest.raises(InputError, match=r"npy array|Python objects"):
        encoder(f"npy:{tmp_path / 'text.npy'}")
    np.savez(tmp_path / "a.npz", a=np.ones((2, 2)))
    with pytest.raises(InputError, match=r"an .npz archive"):
        encoder(f"npy:{tmp_path / 'a.npz'}")
