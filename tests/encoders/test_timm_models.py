"""timm encoders: oracles against timm itself, weights from files, seeds."""

import json
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from histolatent.encoders import encode, encoder, timm_models  # noqa: E402
from histolatent.encoders.torch_models import choose_device, choose_precision, normalise, to_device  # noqa: E402
from histolatent.errors import EncoderError, OptionError  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # what the fixture `cached` puts there

VIT = "timm-random:vit_tiny_patch16_224?img_size=32"


def vit_file(folder, *, seed: int = 0, classes: int = 0, **kwargs):
    torch.manual_seed(seed)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=classes, img_size=32, **kwargs).eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    return model, folder / "model.safetensors"


def timm_config(**more) -> dict:
    return {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 0,
        "model_args": {"img_size": 32},
        "pretrained_cfg": {
            "input_size": [3, 32, 32], "fixed_input_size": True, "interpolation": "bilinear", "crop_pct": 1.0,
            "mean": [0.7, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "num_classes": 0, "classifier": "head",
            "license": "apache-2.0", **more,
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t"])
def test_whole_chain_equals_timm(name, tiles):
    found = encoder(f"timm-random:{name}?img_size=32&seed=4")
    config = timm.data.resolve_data_config({"img_size": 32}, model=found.model)
    transform = timm.data.create_transform(**{**config, "input_size": (3, 32, 32)})
    images = torch.stack([transform(Image.fromarray(tile)) for tile in tiles])
    with torch.inference_mode():
        oracle = found.model(images).numpy()
    np.testing.assert_allclose(encode(found, tiles), oracle, rtol=1e-5, atol=1e-5)


def test_normalisation_equals_torchvision_bit_for_bit(tiles):
    transforms = pytest.importorskip("torchvision.transforms")
    found = encoder(VIT).card.preprocessing
    chain = transforms.Compose([transforms.ToTensor(), transforms.Normalize(found.mean, found.std)])
    oracle = torch.stack([chain(Image.fromarray(tile)) for tile in tiles])
    assert torch.equal(normalise(to_device(tiles, "cpu"), found), oracle)


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean", "pooled"])
def test_pooling_leaves_register_tokens_out(pooling):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, reg_tokens=4).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        tokens = model.forward_features(images)
        assert tokens.shape[1] == 1 + 4 + 4
        oracle = {
            "cls": tokens[:, 0],
            "mean": tokens[:, 5:].mean(1),
            "cls+mean": torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=1),
            "pooled": model(images),
        }[pooling]
        assert torch.equal(timm_models.embed_timm(model, images, pooling), oracle)


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1), "embed_dim": 24, "num_heads": (2, 2)}),
        ("resnet10t", {}),
    ],
)
def test_mean_of_maps_equals_average_pooling(name, small):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **small).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        pooled = model(images)
        assert torch.equal(timm_models.embed_timm(model, images, "pooled"), pooled)
        mean = timm_models.embed_timm(model, images, "mean")
    np.testing.assert_allclose(mean, pooled, rtol=1e-4, atol=1e-5)


def test_batches_and_order_do_not_matter(tiles):
    found = encoder(VIT)
    whole = encode(found, tiles)
    np.testing.assert_allclose(whole, encode(found, tiles, batch_size=1), atol=1e-5)
    np.testing.assert_allclose(whole, encode(found, tiles[::-1], batch_size=2)[::-1], atol=1e-5)
    assert whole.dtype == np.float32


def test_read_only_and_flipped_input(tiles):
    found = encoder(VIT)
    prepared = np.ascontiguousarray(tiles[:, :32, :32])
    kept = prepared.copy()
    prepared.setflags(write=False)
    np.testing.assert_array_equal(found.forward(prepared), found.forward(kept))
    np.testing.assert_array_equal(found.forward(prepared[:, ::-1]), found.forward(kept[:, ::-1].copy()))
    np.testing.assert_array_equal(prepared, kept)


def test_random_weights_depend_on_the_seed_only():
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = encoder(f"{VIT}&seed=1")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(10)
    assert encoder(f"{VIT}&seed=1").card == first.card
    other = encoder(f"{VIT}&seed=2").card
    assert other.weights_sha256 != first.card.weights_sha256
    assert first.card.random_weights
    assert "random weights" in first.card.name


def test_local_weights(tmp_path, tiles):
    model, path = vit_file(tmp_path)
    found = encoder(f"timm:vit_tiny_patch16_224?weights={path}&img_size=32")
    assert found.card.revision.startswith("sha256:")
    with torch.inference_mode():
        oracle = model(normalise(to_device(tiles[:, :32, :32], "cpu"), found.card.preprocessing)).numpy()
    np.testing.assert_allclose(found.forward(tiles[:, :32, :32]), oracle, atol=1e-5)
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "w.pth")
    again = encoder(f"timm:vit_tiny_patch16_224?weights={tmp_path / 'w.pth'}&img_size=32")
    assert again.card.weights_sha256 == found.card.weights_sha256


def test_an_unreachable_timm_model_says_how_to_do_without(hub_cache):
    with pytest.raises(EncoderError, match=r"local weights: timm:resnet50.tv_in1k\?weights="):
        encoder("resnet50")


def test_a_classifier_is_dropped(tmp_path):
    _, path = vit_file(tmp_path, classes=7)
    found = encoder(f"timm:vit_tiny_patch16_224?weights={path}&img_size=32")
    assert found.card.dim == 192
    assert not any(name.startswith("head.") for name in found.model.state_dict())


def test_pretrained_from_the_cache(cached, tmp_path, tiles):
    _, path = vit_file(tmp_path, classes=1000)
    cached("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", {"model.safetensors": path})
    found = encoder("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k?img_size=32")
    local = encoder(f"timm:vit_tiny_patch16_224?weights={path}&img_size=32")
    assert found.card.revision == COMMIT
    assert found.card.weights_sha256 == local.card.weights_sha256
    assert found.card.licence == "apache-2.0"
    np.testing.assert_array_equal(encode(found, tiles), encode(local, tiles))


@pytest.mark.parametrize("name", ["hf:lab/vit", "timm:hf-hub:lab/vit", f"hf:lab/vit@{COMMIT}"])
def test_a_repository_with_a_timm_config(cached, tmp_path, tiles, name):
    model, path = vit_file(tmp_path)
    cached("lab/vit", {"config.json": timm_config(), "model.safetensors": path})
    found = encoder(name)
    assert found.card.revision == COMMIT
    assert found.card.preprocessing.mean == (0.7, 0.5, 0.6)
    assert (found.card.preprocessing.resize_px, found.card.preprocessing.input_px) == (32, 32)
    prepared = tiles[:, :32, :32]
    with torch.inference_mode():
        oracle = model(normalise(to_device(prepared, "cpu"), found.card.preprocessing)).numpy()
    np.testing.assert_allclose(found.forward(prepared), oracle, atol=1e-5)


def test_a_pickle_is_read_for_its_tensors_only(cached, tmp_path):
    model, _ = vit_file(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    cached("lab/pickled", {"config.json": timm_config(), "pytorch_model.bin": tmp_path / "pytorch_model.bin"})
    assert encoder("hf:lab/pickled").card.dim == 192

    class Code:
        def __reduce__(self):
            return print, ("code was run",)

    (tmp_path / "evil.bin").write_bytes(pickle.dumps({"a": Code()}, protocol=2))
    torch.save({"a": Code()}, tmp_path / "evil2.bin")
    for name in ("evil.bin", "evil2.bin"):
        with pytest.raises(EncoderError, match=r"holds more than tensors, and is not unpickled"):
            encoder(f"timm:vit_tiny_patch16_224?weights={tmp_path / name}")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    _, path = vit_file(tmp_path)
    with pytest.raises(EncoderError, match=r"the weights do not fit the architecture"):
        encoder(f"timm:resnet10t?weights={path}")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EncoderError, match=r"the weights file is damaged"):
        encoder(f"timm:vit_tiny_patch16_224?weights={path}&img_size=32")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:resnet5O?weights=x.safetensors", "timm has no architecture 'resnet5O'.*did you mean 'resnet50'"),
        ("timm-random:vit_tinny_patch16_224", "did you mean 'vit_tiny_patch16_224'"),
        ("timm:resnet50?weights=/no/x.safetensors", "there is no such weights file"),
        (
            "timm-random:resnet10t?pooling=cls",
            "cannot be pooled like this. Received: cls. Valid: pooled, mean",
        ),
    ],
)
def test_wrong_names_are_answered(name, says):
    with pytest.raises((OptionError, EncoderError), match=says):
        encoder(name)


def test_an_unknown_kind_of_weights_is_refused(tmp_path):
    (tmp_path / "w.npz").touch()
    with pytest.raises(EncoderError, match=r"the weights are of an unknown kind"):
        encoder(f"timm:resnet50?weights={tmp_path / 'w.npz'}")


def test_catalogue_weights_need_no_hub(tmp_path, monkeypatch, tiles):
    small = {"img_size": 32, "depth": 1, "embed_dim": 48, "num_heads": 2}
    entry = timm_models.catalogue_entry("uni2-h")
    entry = entry.model_copy(update={"kwargs": {**entry.kwargs, **small}, "dim": 48})
    entry = entry.model_copy(
        update={"preprocessing": entry.preprocessing.model_copy(update={"input_px": 28, "resize_px": 28})}
    )
    from histolatent.encoders import hf_models

    for module in (timm_models, hf_models):
        monkeypatch.setattr(module, "catalogue_entry", lambda name: entry)
    model = timm_models.create(entry.architecture, {**entry.kwargs, "img_size": 28}, {})
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    found = encoder(f"uni2-h?weights={tmp_path / 'model.safetensors'}&img_size=28")
    assert found.card.name == "uni2-h"
    assert found.card.gated
    assert found.card.precision == "fp32"  # on a CPU, whatever the card recommends
    assert encode(found, tiles).shape == (5, 48)


def test_layers_are_named_from_a_list_only():
    with pytest.raises(EncoderError, match=r"the layer 'os.system' is not one that histolatent builds by name"):
        timm_models.create("vit_tiny_patch16_224", {"act_layer": "os.system"}, {})


@pytest.mark.parametrize(
    ("change", "says"), [({"input_size": [3, 32, 64]}, "32 x 64 px"), ({"crop_mode": "border"}, "crop_mode=border")]
)
def test_preprocessing_that_cannot_be_expressed_is_refused(change, says):
    config = timm_config(**change)
    model = encoder(VIT).model
    with pytest.raises(EncoderError, match=says):
        timm_models.preprocessing_of(model, config["pretrained_cfg"], None)


def test_devices_and_precisions():
    assert choose_device("cpu") == "cpu"
    with pytest.raises(OptionError, match=r"there is no such kind of device. Received: gpu"):
        choose_device("gpu")
    with pytest.raises(OptionError, match=r"this machine has no such device. Received: cuda:99"):
        choose_device("cuda:99")
    assert choose_precision(None, "bf16", "cuda:0") == "bf16"
    assert choose_precision(None, "bf16", "cpu") == "fp32"
    assert choose_precision("fp16", "fp32", "cpu") == "fp16"


def test_bf16_on_a_cpu_is_close_and_recorded(tiles):
    full, half = encoder(VIT, device="cpu"), encoder(VIT, device="cpu", precision="bf16")
    assert half.card.precision == "bf16"
    assert half.card.identity != full.card.identity
    a, b = encode(full, tiles), encode(half, tiles)
    assert b.dtype == np.float32
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()


def test_the_card_is_json(tmp_path):
    card = encoder(VIT).card
    assert json.loads(card.model_dump_json())["dim"] == 192
