"""Separation by a frozen model, against scikit-image and by putting it together again."""

import numpy as np
import pytest
from skimage.color import separate_stains

from histolatent.errors import InputError
from histolatent.stain import STAIN_SETS, canonical_vectors, separate, stain_image
from histolatent.stain.vahadane import CODE_PENALTY, sparse_codes
from histolatent.stain.vectors import complete

TILE = np.random.default_rng(0).integers(1, 256, (9, 13, 3), dtype=np.uint8)
#: scikit-image divides by ln(1e-6), and so states amounts in other units; it also cuts them at 0.
SCIKIT_IMAGE_UNIT = -np.log(1e-6)


@pytest.mark.parametrize("stains", [*STAIN_SETS])
def test_amounts_are_scikit_images(make_model, stains):
    rows = canonical_vectors(stains)
    ours = separate(TILE, make_model(rows=rows, white=(255.0,) * 3))
    theirs = separate_stains(TILE, np.linalg.inv(complete(rows))) * SCIKIT_IMAGE_UNIT
    np.testing.assert_allclose(np.maximum(ours, 0), theirs, atol=2e-5)
    assert (ours < 0).any()


@pytest.mark.parametrize("offset", [0, 1])
def test_amounts_and_vectors_make_the_tile_again(make_model, offset):
    model = make_model(offset=offset)
    planes = separate(TILE, model)
    assert planes.dtype == np.float32
    back = 240 * np.exp(-planes.reshape(-1, 3) @ complete(model.rows)) - offset
    np.testing.assert_allclose(back.reshape(TILE.shape), TILE, atol=0.01)


def test_the_first_two_planes_are_least_squares(make_model):
    model = make_model()
    density = -np.log(TILE / 240.0).reshape(-1, 3)
    expected = np.linalg.lstsq(model.rows.T, density.T, rcond=None)[0].T
    np.testing.assert_allclose(separate(TILE, model).reshape(-1, 3)[:, :2], expected, atol=1e-5)


def test_a_vahadane_model_gives_sparse_amounts(make_model):
    model = make_model(method="vahadane", stains=("hematoxylin", "eosin"))
    planes = separate(TILE, model).reshape(-1, 3)
    density = (-np.log(TILE / 240.0)).reshape(-1, 3)
    np.testing.assert_allclose(planes[:, :2].T, sparse_codes(density.T, model.rows, CODE_PENALTY), atol=1e-4)
    assert (planes[:, :2] >= 0).all()
    np.testing.assert_array_equal(planes[:, 2], separate(TILE, make_model()).reshape(-1, 3)[:, 2])


def test_layouts_and_types_agree(make_model):
    model, chw = make_model(), np.ascontiguousarray(TILE.transpose(2, 0, 1))
    expected = separate(TILE, model)
    np.testing.assert_array_equal(separate(chw, model, layout="CHW"), expected)
    np.testing.assert_allclose(separate(TILE / 255, model), expected, atol=1e-4)
    np.testing.assert_array_equal(separate(TILE[2:7, 3:9], model), expected[2:7, 3:9])


def test_an_image_of_one_stain(make_model):
    model = make_model()
    planes = separate(TILE, model)
    shown = stain_image(TILE, model, 0)
    np.testing.assert_allclose(
        shown, 255 * np.exp(-np.maximum(planes[..., :1], 0) * model.rows[0]), rtol=1e-4, atol=1e-3
    )
    residual = stain_image(TILE, model, 2)
    np.testing.assert_allclose(
        residual, 255 * np.exp(-np.abs(planes[..., 2:]) * np.abs(complete(model.rows)[2])), rtol=1e-4, atol=1e-3
    )
    assert shown.max() <= 255


def test_an_unusable_image_is_refused(make_model):
    with pytest.raises(InputError, match="type of an image"):
        separate(TILE.astype(np.int32), make_model())
