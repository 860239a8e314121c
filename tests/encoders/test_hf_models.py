"""transformers encoders against transformers itself, from a cache with the true layout."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from PIL import Image  # noqa: E402

from histolatent.encoders import encode, encoder, save_encoder  # noqa: E402
from histolatent.encoders.hf_models import preprocessing_from  # noqa: E402
from histolatent.encoders.torch_models import normalise, to_device  # noqa: E402
from histolatent.errors import EncoderError, OptionError  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # what the fixture `cached` puts there

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PREPROCESSOR = {
    "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4],
    "image_processor_type": "ViTImageProcessor",
}  # fmt: skip


def vit(folder, *, image_size=32, **more):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL, image_size=image_size, patch_size=16)
    model = transformers.ViTModel(config, **more).eval()
    model.save_pretrained(folder)
    return model


def files(folder, **more):
    return {name: folder / name for name in ("config.json", "model.safetensors")} | {
        "preprocessor_config.json": PREPROCESSOR, **more
    }  # fmt: skip


def test_vit_equals_transformers(cached, tmp_path, tiles):
    model = vit(tmp_path)
    cached("lab/vit", files(tmp_path))
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6],
                                               image_std=[0.2, 0.3, 0.4])  # fmt: skip
    images = [Image.fromarray(tile).resize((32, 32), Image.Resampling.BILINEAR) for tile in tiles]
    pixels = processor(images, return_tensors="pt", do_resize=False)["pixel_values"]
    with torch.inference_mode():
        hidden = model(pixel_values=pixels).last_hidden_state
    found = encoder("hf:lab/vit")
    assert (found.card.revision, found.card.pooling, found.card.dim) == (COMMIT, "cls", 32)
    np.testing.assert_allclose(encode(found, tiles), hidden[:, 0].numpy(), atol=1e-5)
    both = encode(encoder("hf:lab/vit?pooling=cls+mean"), tiles)
    np.testing.assert_allclose(both, torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], 1).numpy(), atol=1e-5)


def test_a_missing_pooler_is_no_matter_of_chance(cached, tmp_path, tiles):
    vit(tmp_path, add_pooling_layer=False)
    cached("lab/bare", files(tmp_path))
    first, second = encoder("hf:lab/bare"), encoder("hf:lab/bare")
    assert first.card == second.card
    with pytest.raises(OptionError, match=r"cannot be pooled like this. Received: pooled"):
        encoder("hf:lab/bare?pooling=pooled")


def test_registers_stay_out_of_the_mean(cached, tmp_path, tiles):
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16, num_register_tokens=4
    )
    model = transformers.Dinov2WithRegistersModel(config).eval()
    model.save_pretrained(tmp_path)
    cached("lab/dino", files(tmp_path))
    found = encoder("hf:lab/dino?pooling=mean")
    prepared = np.ascontiguousarray(tiles[:, :32, :32])
    with torch.inference_mode():
        hidden = model(normalise(to_device(prepared, "cpu"), found.card.preprocessing)).last_hidden_state
    np.testing.assert_allclose(found.forward(prepared), hidden[:, 5:].mean(1).numpy(), atol=1e-5)


def test_clip_gives_image_features(cached, tmp_path, tiles):
    torch.manual_seed(0)
    vision = {**SMALL, "image_size": 32, "patch_size": 16, "projection_dim": 24}
    text = {**SMALL, "vocab_size": 50, "projection_dim": 24}
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    ).eval()
    model.save_pretrained(tmp_path)
    cached("lab/clip", files(tmp_path))
    found = encoder("hf:lab/clip")
    assert (found.card.pooling, found.card.dim) == ("image-features", 24)
    prepared = np.ascontiguousarray(tiles[:, :32, :32])
    pixels = normalise(to_device(prepared, "cpu"), found.card.preprocessing)
    with torch.inference_mode():
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        oracle = model.visual_projection(pooled).numpy()
    np.testing.assert_allclose(found.forward(prepared), oracle, atol=1e-5)
    again = encoder(str(save_encoder(found, tmp_path / "saved")))
    np.testing.assert_array_equal(again.forward(prepared), found.forward(prepared))


def test_a_folder_gives_the_same_encoder(cached, tmp_path, tiles):
    vit(tmp_path)
    cached("lab/vit", files(tmp_path))
    found = encoder("hf:lab/vit")
    again = encoder(f"{save_encoder(found, tmp_path / 'saved')}?verify=yes")
    assert again.card.identity == found.card.identity
    np.testing.assert_array_equal(encode(again, tiles), encode(found, tiles))


def test_a_catalogue_card_goes_before_the_repository(cached, tmp_path):
    vit(tmp_path, image_size=224)
    cached("owkin/phikon", files(tmp_path))
    with pytest.raises(EncoderError, match=r"phikon does not have the dimension of its card. Received: 32. Valid: 768"):
        encoder("phikon")
    found = encoder("hf:owkin/phikon?pooling=mean").card
    assert (found.name, found.licence, found.dim) == ("phikon", "Owkin non-commercial", 32)
    assert found.preprocessing.mean == (0.485, 0.456, 0.406)


def test_a_size_that_the_model_does_not_take_is_said(cached, tmp_path):
    vit(tmp_path)
    wrong = {**PREPROCESSOR, "size": {"height": 48, "width": 48}}
    cached("lab/vit", files(tmp_path, **{"preprocessor_config.json": wrong}))
    with pytest.raises(EncoderError, match=r"the model cannot embed a tile of 48 x 48 px"):
        encoder("hf:lab/vit")


def test_pickled_weights_and_shards(cached, tmp_path, tiles):
    model = vit(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    cached("lab/pickled", {
        "config.json": tmp_path / "config.json", "pytorch_model.bin": tmp_path / "pytorch_model.bin",
        "preprocessor_config.json": PREPROCESSOR,
    })  # fmt: skip
    model.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    parts = {path.name: path for path in (tmp_path / "shards").iterdir()}
    assert len(parts) > 3
    cached("lab/shards", {**parts, "preprocessor_config.json": PREPROCESSOR})
    a, b = encoder("hf:lab/pickled"), encoder("hf:lab/shards")
    assert a.card.weights_sha256 == b.card.weights_sha256
    np.testing.assert_array_equal(encode(a, tiles), encode(b, tiles))


def test_local_weights(tmp_path, tiles):
    vit(tmp_path)
    with pytest.raises(EncoderError, match=r"does not say how to prepare its input"):
        encoder(f"hf:lab/vit?weights={tmp_path / 'model.safetensors'}")
    import json

    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    found = encoder(f"hf:lab/vit?weights={tmp_path / 'model.safetensors'}")
    assert found.card.revision.startswith("sha256:")
    assert encode(found, tiles).shape == (5, 32)
    (tmp_path / "model.safetensors").rename(tmp_path / "mine.safetensors")
    with pytest.raises(EncoderError, match=r"transformers finds weights by name. Received: mine.safetensors"):
        encoder(f"hf:lab/vit?weights={tmp_path / 'mine.safetensors'}")


def test_a_weight_that_is_missing_is_an_error(cached, tmp_path):
    from safetensors.torch import load_file, save_file

    vit(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("layernorm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    cached("lab/gap", files(tmp_path))
    with pytest.raises(EncoderError, match=r"does not hold all weights of the model. Received: 1 missing"):
        encoder("hf:lab/gap")


def test_remote_code_needs_a_pin_and_a_yes(cached):
    config = {"model_type": "hibou", "auto_map": {"AutoModel": "modeling.Model"}}
    cached("histai/hibou-b", {"config.json": config, "model.safetensors": b""})
    for name in ("hibou-b", f"hibou-b@{COMMIT}", "hibou-b?trust_remote_code=yes", "hf:histai/hibou-b"):
        with pytest.raises(EncoderError, match=r"runs Python code of its repository") as caught:
            encoder(name)
        assert f"hf:histai/hibou-b@{COMMIT}?trust_remote_code=yes" in str(caught.value)


def test_conch_says_how_it_is_used():
    with pytest.raises(EncoderError, match=r"can be built by its own package 'conch' only.*callable:FILE.py"):
        encoder("conch")


@pytest.mark.parametrize(
    ("change", "resize", "sizes"),
    [
        ({}, "squash", (32, None)),
        ({"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 32}, "shorter-side-crop", (32, 40)),
        ({"size": 40, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}, "shorter-side-crop", (32, 40)),
        ({"size": 32}, "squash", (32, None)),
    ],
)
def test_preprocessor_configs_are_read(change, resize, sizes):
    rule = preprocessing_from({**PREPROCESSOR, **change})
    assert (rule.resize, (rule.input_px, rule.resize_px)) == (resize, sizes)
    assert rule.interpolation == "bilinear"


@pytest.mark.parametrize(
    "change", [{"do_resize": False}, {"rescale_factor": 2 / 255}, {"size": {"height": 3, "width": 4}}, {"resample": 5}]
)
def test_preprocessor_configs_that_cannot_be_expressed_are_refused(change):
    with pytest.raises(EncoderError, match=f"not supported. Received: .*{next(iter(change))}"):
        preprocessing_from({**PREPROCESSOR, **change})
