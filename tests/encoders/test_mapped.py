"""Encoders with a map on their vectors: saved, loaded, refused."""

import json

import numpy as np
import pytest
import torch

from histolatent.encoders import EncoderCard, encode, encoder, save_encoder
from histolatent.encoders.mapped import lasting_name, map_encoder, runs_code
from histolatent.encoders.maps import LinearMap, ResidualMap
from histolatent.errors import EncoderError, InputError

D = 5
TILES = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(4)]
CALLABLE = """
import numpy as np


def five(tiles):
    return tiles.reshape(len(tiles), -1)[:, :5].astype(np.float32)
"""


def linear(d=D):
    random = np.random.default_rng(0)
    return LinearMap(random.normal(size=d), random.normal(size=(d, 2)), random.normal(size=(d, 2)), np.array([0.5, 0]))


def residual(d=D):
    random = np.random.default_rng(1)
    return ResidualMap(
        random.normal(size=d),
        random.uniform(1, 2, size=d),
        random.normal(size=(d, 3)),
        random.normal(size=3),
        random.normal(size=(3, d)),
        random.normal(size=d),
    )


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "five.py"
    path.write_text(CALLABLE)
    return f"callable:{path}:five"


def test_a_linear_map_against_its_formula():
    made, x = linear(), np.random.default_rng(2).normal(size=(6, D))
    coordinates = (x - made.mean) @ made.read
    expected = x + (coordinates * (made.gains - 1)) @ made.write.T
    np.testing.assert_allclose(made.apply(x), expected)


def test_a_residual_map_is_that_of_torch():
    made, x = residual(), np.random.default_rng(3).normal(size=(6, D))
    inward, outward = torch.nn.Linear(D, 3, dtype=torch.float64), torch.nn.Linear(3, D, dtype=torch.float64)
    for layer, weight, bias in ((inward, made.inward, made.bias), (outward, made.outward, made.shift)):
        layer.weight.data, layer.bias.data = torch.from_numpy(weight.T.copy()), torch.from_numpy(bias)
    y = torch.from_numpy((x - made.mean) / made.sd)
    expected = x + made.sd * outward(torch.relu(inward(y))).detach().numpy()
    np.testing.assert_allclose(made.apply(x), expected)


@pytest.mark.parametrize("make", [linear, residual])
def test_a_row_depends_on_itself_and_keeps_its_type(make):
    x = np.random.default_rng(4).normal(size=(6, D)).astype(np.float32)
    whole = make().apply(x)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(np.concatenate([make().apply(row[None]) for row in x]), whole, rtol=1e-5)
    with pytest.raises(InputError, match="another dimension"):
        make().apply(x[:, :3])


@pytest.mark.parametrize("make", [linear, residual])
def test_what_is_saved_is_what_was_made(tmp_path, base, make):
    mapped = map_encoder(encoder(base), base, make())
    save_encoder(mapped, tmp_path / "lmc")
    loaded = encoder(f"{tmp_path / 'lmc'}?verify=yes&trust_base=yes")
    np.testing.assert_array_equal(encode(mapped, TILES), encode(loaded, TILES))
    assert loaded.card.identity == mapped.card.identity
    assert loaded.card.identity != encoder(base).card.identity
    raw = encode(encoder(base), TILES)
    np.testing.assert_allclose(encode(loaded, TILES), make().apply(raw), rtol=1e-3, atol=1e-2)


def test_a_base_that_is_a_folder_travels_along(tmp_path):
    name = "timm-random:test_vit2.r160_in1k"
    save_encoder(encoder(name), tmp_path / "base")
    mapped = map_encoder(encoder(str(tmp_path / "base")), str(tmp_path / "base"), linear(encoder(name).card.dim))
    save_encoder(mapped, tmp_path / "lmc")
    expected = encode(mapped, TILES)
    (tmp_path / "base").rename(tmp_path / "gone")
    (tmp_path / "lmc").rename(tmp_path / "moved")
    np.testing.assert_array_equal(encode(encoder(str(tmp_path / "moved")), TILES), expected)


def test_another_base_is_refused(tmp_path, base):
    save_encoder(map_encoder(encoder(base), base, linear()), tmp_path / "lmc")
    file = tmp_path / "five.py"
    file.write_text(CALLABLE.replace("astype(np.float32)", "astype(np.float32) + 1"))
    with pytest.raises(EncoderError, match=r"not the one that it was fitted to.*fit the compaction again"):
        encoder(f"{tmp_path / 'lmc'}?trust_base=yes")
    file.unlink()
    with pytest.raises(EncoderError, match=r"cannot be loaded: there is no such Python file.*five\.py"):
        encoder(f"{tmp_path / 'lmc'}?trust_base=yes")


def test_changed_weights_are_refused(tmp_path, base):
    save_encoder(map_encoder(encoder(base), base, linear()), tmp_path / "lmc")
    save_encoder(map_encoder(encoder(base), base, residual()), tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "lmc" / "model.safetensors")
    with pytest.raises(EncoderError, match="not those of the card"):
        encoder(f"{tmp_path / 'lmc'}?trust_base=yes")
    (tmp_path / "lmc" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EncoderError, match="cannot be read"):
        encoder(f"{tmp_path / 'lmc'}?trust_base=yes")


def test_code_of_a_base_runs_only_when_it_is_trusted(tmp_path, base):
    save_encoder(map_encoder(encoder(base), base, linear()), tmp_path / "lmc")
    (tmp_path / "five.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(EncoderError, match=r"runs code of its own.*five\.py.*trust_base=yes"):
        encoder(str(tmp_path / "lmc"))
    assert runs_code(base) and runs_code("hf:a/b?trust_remote_code=yes") and not runs_code("hf:a/b")


def test_a_compaction_on_a_compaction_asks_too(tmp_path, base):
    save_encoder(map_encoder(encoder(base), base, linear()), tmp_path / "first")
    trusted = f"{tmp_path / 'first'}?trust_base=yes"
    save_encoder(map_encoder(encoder(trusted), trusted, residual()), tmp_path / "second")
    with pytest.raises(EncoderError, match="runs code of its own"):
        encoder(str(tmp_path / "second"))
    assert encode(encoder(f"{tmp_path / 'second'}?trust_base=yes"), TILES).shape == (4, D)


@pytest.mark.parametrize(
    ("name", "lasting"),
    [
        ("timm:vit_tiny_patch16_224?pooling=cls", "timm:vit_tiny_patch16_224@abc?pooling=cls"),
        ("hf:owkin/phikon@main", "hf:owkin/phikon@main"),
        ("timm-random:resnet18?seed=1", "timm-random:resnet18?seed=1"),
        ("toy:colour-mean", "toy:colour-mean"),
    ],
)
def test_names_that_last(name, lasting):
    card = EncoderCard(name="x", kind="timm", source=name, dim=2, revision="abc")
    assert lasting_name(name, card) == lasting


def test_a_callable_is_named_in_full(tmp_path, base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_encoder(map_encoder(encoder("callable:five.py:five"), "callable:five.py:five", linear()), tmp_path / "lmc")
    assert json.loads((tmp_path / "lmc" / "config.json").read_text())["base"] == base
