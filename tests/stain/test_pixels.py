"""What an image may be, and what is said of one that may not."""

from typing import Any

import numpy as np
import pytest
import torch

from histolatent.errors import InputError, OptionError
from histolatent.stain.pixels import as_bytes, read_levels, write_levels

TILE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_uint8_is_taken_as_it_is_and_float_is_scaled():
    assert read_levels(TILE) is TILE
    levels = read_levels(TILE / 255)
    assert levels.dtype == np.float32
    np.testing.assert_allclose(levels, TILE, atol=1e-4)
    np.testing.assert_array_equal(as_bytes(levels), TILE)


@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_reading_and_writing_are_inverse(layout, dtype):
    image = (TILE if dtype == np.uint8 else TILE / 255).astype(dtype)
    image = image if layout == "HWC" else np.ascontiguousarray(image.transpose(2, 0, 1))
    image.setflags(write=False)
    back = write_levels(read_levels(image, layout), image, layout)
    assert back.dtype == image.dtype
    np.testing.assert_allclose(back.astype(float), image.astype(float), atol=1e-3 if dtype == np.float16 else 1e-7)


@pytest.mark.parametrize(
    ("image", "layout", "said"),
    [
        (TILE.astype(np.uint16), "HWC", r"type of an image.*uint16.*convert levels of 0 to 255 to uint8"),
        (TILE.astype(np.int64), "HWC", r"type of an image.*int64"),
        (TILE > 9, "HWC", r"type of an image.*bool"),
        (TILE.astype(np.float32), "HWC", r"from 0 to 1.*to 2\d\d\. Fix: divide levels by 255"),
        (TILE / 255 - 0.5, "HWC", r"from 0 to 1.*-0\.5"),
        (TILE[..., 0], "HWC", r"must be RGB.*\(5, 7\).*a grey image holds none"),
        (TILE[..., :1], "HWC", r"must be RGB.*\(5, 7, 1\).*a grey image holds none"),
        (TILE[..., [0, 1, 2, 0]], "HWC", r"must be RGB.*\(5, 7, 4\).*composite the alpha channel"),
        (TILE.transpose(2, 0, 1), "HWC", r'must be RGB.*\(3, 5, 7\).*pass layout="CHW"'),
        (TILE, "CHW", r'must be RGB.*\(5, 7, 3\).*pass layout="HWC"'),
        (TILE[:0], "HWC", r"at least one pixel.*\(0, 7, 3\)"),
        (TILE[None], "HWC", r"must be RGB.*\(1, 5, 7, 3\)"),
        (np.where(TILE[0, 0, 0] == TILE, np.nan, TILE / 255), "HWC", r"not finite.*of them"),
        (np.full((2, 2, 3), np.inf), "HWC", r"not finite. Received: 12 of them"),
        (TILE.tolist(), "HWC", r"NumPy array.*list.*np\.asarray"),
        (torch.zeros(4, 4, 3), "HWC", r"NumPy array.*Tensor"),
    ],
)
def test_messages_of_unusable_images(image: Any, layout: str, said: str):
    with pytest.raises(InputError, match=said):
        read_levels(image, layout)


def test_unknown_layout():
    with pytest.raises(OptionError, match=r"unknown layout.*hwc.*HWC, CHW"):
        read_levels(TILE, "hwc")
