"""Export to ONNX, and maps of features: the same numbers as the encoder gives."""

import json

import numpy as np
import pytest

pytest.importorskip("onnxscript")

from histolatent.encoders import encode, encode_dense, encoder, export_onnx, save_encoder
from histolatent.encoders.mapped import map_encoder
from histolatent.encoders.maps import LinearMap, ResidualMap
from histolatent.errors import EncoderError, InputError, OptionError, OutputError

RNG = np.random.default_rng(5)
TILES = RNG.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
SMALL = "timm-random:resnet18?img_size=64&pooling=mean"


@pytest.fixture(scope="module")
def conv(tmp_path_factory):
    """An encoder as compaction leaves it: any tile size, its card complete."""
    from histolatent.compact.backbones import finished, make_backbone

    return finished(make_backbone("conv-small", 64, 3).encoder, name="conv", source="test", notes="")


def linear(dim):
    directions = np.linalg.qr(RNG.standard_normal((dim, 4)))[0]
    return LinearMap(RNG.standard_normal(dim), directions, directions, np.array([0.0, 0.1, 0.5, 0.9]))


def residual(dim, hidden=8):
    return ResidualMap(
        RNG.standard_normal(dim),
        RNG.uniform(0.5, 2, dim),
        RNG.standard_normal((dim, hidden)),
        RNG.standard_normal(hidden),
        RNG.standard_normal((hidden, dim)),
        RNG.standard_normal(dim),
    )


@pytest.mark.slow
@pytest.mark.parametrize("change", [None, linear, residual], ids=["plain", "linear", "adapter"])
def test_what_is_exported_gives_the_same_vectors(change, tmp_path):
    base = encoder(SMALL, device="cpu")
    made = base if change is None else map_encoder(base, SMALL, change(base.card.dim))
    difference = export_onnx(made, tmp_path / "m.onnx")
    loaded = encoder(f"onnx:{tmp_path / 'm.onnx'}", device="cpu")
    expected = encode(made, TILES)
    assert difference < 1e-4
    np.testing.assert_allclose(encode(loaded, TILES), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(encode(loaded, TILES[:1]), expected[:1], rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert loaded.card.dim == made.card.dim and loaded.card.licence == made.card.licence


@pytest.mark.slow
def test_a_trained_encoder_takes_tiles_of_any_size_still(conv, tmp_path):
    export_onnx(conv, tmp_path / "m.onnx")
    loaded = encoder(f"onnx:{tmp_path / 'm.onnx'}", device="cpu")
    tiles = [RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((32, 32), (75, 96), (224, 224))]
    expected = encode(conv, tiles)
    np.testing.assert_allclose(encode(loaded, tiles), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    card = json.loads((tmp_path / "m.onnx.card.json").read_text())
    assert card["settings"]["layout"] == "NHWC" and card["name"] == "conv"


def test_what_cannot_be_exported_says_so(conv, tmp_path, monkeypatch):
    with pytest.raises(EncoderError, match="no torch model"):
        export_onnx(encoder("toy:od-moments"), tmp_path / "m.onnx")
    with pytest.raises(OptionError, match=r"to end in \.onnx"):
        export_onnx(conv, tmp_path / "m.bin")
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        export_onnx(conv, tmp_path / "m.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.slow
def test_vectors_that_differ_are_not_written(conv, tmp_path, monkeypatch):
    from histolatent.encoders import export

    monkeypatch.setattr(export, "encode", lambda given, tiles: encode(given, tiles) * (2 if given is conv else 1))
    with pytest.raises(EncoderError, match="other vectors once exported"):
        export_onnx(conv, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_mean_over_places_is_the_vector(conv, tmp_path):
    for made in (conv, encoder(SMALL, device="cpu")):
        maps = encode_dense(made, TILES, batch_size=2)
        assert maps.dtype == np.float32 and maps.shape == (3, made.card.dim, 2, 2)
        np.testing.assert_allclose(maps.mean(axis=(2, 3)), encode(made, TILES), rtol=1e-4, atol=1e-5)


def test_a_linear_compaction_acts_on_each_place(conv, tmp_path):
    save_encoder(conv, tmp_path / "base")
    made = map_encoder(encoder(str(tmp_path / "base"), device="cpu"), str(tmp_path / "base"), linear(conv.card.dim))
    maps = encode_dense(made, TILES)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), encode(made, TILES), rtol=1e-3, atol=1e-4)
    assert not np.allclose(maps, encode_dense(conv, TILES), atol=1e-3)


@pytest.mark.slow
def test_the_largest_over_places_stands_beside_the_mean(conv, tmp_path):
    from histolatent.compact.backbones import pooled

    both = pooled(conv, "mean+max", conv.card.dim)
    places = encode_dense(conv, TILES)
    expected = np.concatenate([places.mean(axis=(2, 3)), places.max(axis=(2, 3))], axis=1)
    np.testing.assert_allclose(encode(both, TILES), expected, rtol=1e-4, atol=1e-5)
    assert both.card.identity != conv.card.identity and pooled(conv, "own", conv.card.dim) is conv
    save_encoder(both, tmp_path / "both")
    loaded = encoder(str(tmp_path / "both"), device="cpu")
    np.testing.assert_allclose(encode(loaded, TILES), expected, rtol=1e-4, atol=1e-5)
    # A place is embedded as a tile of that place alone, and a linear map acts on it as on the whole.
    one = [tile[:32, :32] for tile in TILES]
    made = map_encoder(loaded, str(tmp_path / "both"), linear(both.card.dim))
    np.testing.assert_allclose(encode_dense(made, one)[:, :, 0, 0], encode(made, one), rtol=1e-3, atol=1e-4)
    export_onnx(made, tmp_path / "m.onnx")
    again = encode(encoder(f"onnx:{tmp_path / 'm.onnx'}", device="cpu"), TILES)
    np.testing.assert_allclose(again, encode(made, TILES), rtol=1e-3, atol=1e-4 * np.abs(again).max())


@pytest.mark.parametrize(
    "made",
    [
        lambda: encoder("toy:od-moments"),
        lambda: map_encoder(encoder(SMALL, device="cpu"), SMALL, residual(512)),
        lambda: map_encoder(encoder("toy:od-moments"), "toy:od-moments", linear(12)),
    ],
    ids=["toy", "adapter", "linear on a toy"],
)
def test_an_encoder_without_maps_says_so(made):
    with pytest.raises(EncoderError, match="no map of features"):
        encode_dense(made(), TILES)


def test_maps_are_of_tiles_of_one_size(conv):
    with pytest.raises(InputError, match="of one size"):
        encode_dense(conv, [TILES[0], TILES[0][:32]])
