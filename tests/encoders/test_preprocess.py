"""Preprocessing against the transforms that the encoders' authors use."""

import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from histolatent.encoders import Preprocessing, prepare, prepare_many
from histolatent.errors import InputError

SIZES = [(300, 400), (400, 300), (224, 224), (225, 313), (100, 37), (511, 512)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("resize_px", "input_px"), [(224, 224), (256, 224), (101, 96)])
def test_shorter_side_crop_equals_torchvision(size, interpolation, resize_px, input_px):
    transforms = pytest.importorskip("torchvision.transforms")
    from PIL import Image

    tile = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    mode = transforms.InterpolationMode(interpolation)
    oracle = transforms.Compose([transforms.Resize(resize_px, mode), transforms.CenterCrop(input_px)])
    rule = Preprocessing(
        resize="shorter-side-crop", resize_px=resize_px, input_px=input_px, interpolation=interpolation
    )
    np.testing.assert_array_equal(prepare(tile, rule), np.asarray(oracle(Image.fromarray(tile))))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize_px", [None, 256])
def test_squash_equals_torchvision(size, resize_px):
    transforms = pytest.importorskip("torchvision.transforms")
    from PIL import Image

    tile = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    side = resize_px or 224
    steps = [transforms.Resize((side, side), transforms.InterpolationMode.BILINEAR), transforms.CenterCrop(224)]
    rule = Preprocessing(resize="squash", input_px=224, resize_px=resize_px, interpolation="bilinear")
    np.testing.assert_array_equal(prepare(tile, rule), np.asarray(transforms.Compose(steps)(Image.fromarray(tile))))


def test_the_input_is_not_changed_and_may_be_read_only_or_a_view():
    tile = np.random.default_rng(2).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    kept = tile.copy()
    tile.setflags(write=False)
    rule = Preprocessing(resize="squash", input_px=32)
    expected = prepare(tile, rule)
    np.testing.assert_array_equal(tile, kept)
    bgr = tile[..., ::-1]
    np.testing.assert_array_equal(prepare(bgr, rule), expected[..., ::-1])


def test_nothing_to_do_returns_the_tile():
    tile = np.zeros((60, 80, 3), np.uint8)
    assert prepare(tile, Preprocessing()) is tile


def test_a_rule_pickles_and_is_frozen():
    rule = Preprocessing(resize="squash", input_px=32)
    assert pickle.loads(pickle.dumps(rule)) == rule
    with pytest.raises(ValidationError):
        rule.input_px = 3


@pytest.mark.parametrize(
    ("tile", "says", "fix"),
    [
        (np.zeros((8, 8, 3)), "not uint8. Received: float64 array (8, 8, 3)", "(tile * 255).round()"),
        (np.zeros((8, 8, 3), np.uint16), "not uint8", "scale it to 0-255"),
        (np.zeros((3, 8, 8), np.uint8), "channels first", "np.moveaxis(tile, 0, -1)"),
        (np.zeros((8, 8, 4), np.uint8), "alpha channel", "tile[..., :3]"),
        (np.zeros((8, 8), np.uint8), "grey", "np.repeat"),
        (np.zeros((8, 8, 2), np.uint8), "does not have three channels", "red, green and blue"),
        (np.zeros((1, 8, 8, 3), np.uint8), "a batch was given", "encode(encoder, tiles)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels", "(height, width, 3)"),
        ([[1, 2, 3]], "not a NumPy array. Received: list", "np.asarray"),
    ],
)
def test_what_is_not_a_tile_is_said(tile, says, fix):
    with pytest.raises(InputError) as caught:
        prepare(tile, Preprocessing())
    assert says in str(caught.value)
    assert fix in str(caught.value)
    assert "Valid: uint8 RGB array (height, width, 3)" in str(caught.value)


def test_a_bad_tile_is_numbered():
    with pytest.raises(InputError, match=r"tile 1: a tile is grey"):
        prepare_many([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)], Preprocessing())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"resize": "squash"}, "needs input_px"),
        ({"resize": "shorter-side-crop", "input_px": 8}, "needs resize_px"),
        ({"resize": "shorter-side-crop", "input_px": 8, "resize_px": 7}, "smaller than input_px"),
        ({"input_px": 8}, "takes tiles as they are"),
        ({"mean": (0, 0, 0)}, "mean and std go together"),
        ({"mean": (0, 0, 0), "std": (1, 1, 0)}, "std must be positive"),
        ({"resise": "none"}, "Extra inputs are not permitted"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields, says):
    with pytest.raises(ValidationError, match=says):
        Preprocessing(**fields)
