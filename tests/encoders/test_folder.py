"""Encoders as folders, and golden numbers."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from safetensors.torch import load_file, save_file  # noqa: E402

from histolatent.encoders import encode, encoder, save_encoder, verify  # noqa: E402
from histolatent.errors import EncoderError, OutputError  # noqa: E402

VIT = "timm-random:vit_tiny_patch16_224?img_size=32&seed=5"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    original = encoder(VIT)
    return original, save_encoder(original, tmp_path_factory.mktemp("written") / "encoder")


@pytest.fixture
def saved(written, tmp_path):
    original, folder = written
    return original, shutil.copytree(folder, tmp_path / "saved")


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_a_folder_gives_the_same_encoder(saved, tiles):
    original, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "config.json", "model.safetensors"]
    again = encoder(f"{folder}?verify=yes")
    assert again.card.identity == original.card.identity
    assert len(again.card.golden) == 8
    np.testing.assert_array_equal(encode(again, tiles), encode(original, tiles))
    twice = encoder(f"folder:{save_encoder(again, folder.with_name('twice'))}")
    assert twice.card == again.card


def test_a_folder_is_not_overwritten_unasked(saved):
    original, folder = saved
    with pytest.raises(OutputError, match=r"exists already"):
        save_encoder(original, folder)
    save_encoder(original, folder, overwrite=True)


def test_changed_weights_are_refused(saved):
    _, folder = saved
    weights = load_file(folder / "model.safetensors")
    weights["norm.bias"] += 1e-3
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(EncoderError, match=r"the weights are not those of the card: the file was changed"):
        encoder(str(folder))


def test_damaged_and_missing_weights_are_refused(saved):
    _, folder = saved
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(EncoderError, match=r"the weights file is damaged"):
        encoder(str(folder))
    path.unlink()
    with pytest.raises(EncoderError, match=r"the weights file cannot be read|damaged"):
        encoder(str(folder))


def test_verify_says_how_far_off(saved):
    _, folder = saved
    change(folder / "card.json", lambda card: card["golden"].__setitem__(0, card["golden"][0] + 1))
    with pytest.raises(EncoderError, match=r"does not give the numbers of its card: they differ by .* of the largest"):
        encoder(f"{folder}?verify=yes")
    encoder(str(folder))


def test_verify_notices_wrong_preprocessing(saved):
    _, folder = saved
    change(folder / "card.json", lambda card: card["preprocessing"].update(mean=[0.2, 0.5, 0.5]))
    with pytest.raises(EncoderError, match=r"weights, preprocessing or libraries"):
        encoder(f"{folder}?verify=yes")


def test_verify_needs_golden_numbers():
    with pytest.raises(EncoderError, match=r"has no golden numbers to verify"):
        verify(encoder(VIT))


@pytest.mark.parametrize(
    ("file", "edit", "says"),
    [
        ("config.json", lambda config: config.update(version=2), "another format version. Received: 2"),
        ("config.json", lambda config: config.update(format="x"), "the folder is not a histolatent encoder"),
        ("config.json", lambda config: config.update(builder="os:system"), "of an unknown make. Received: os:system"),
        ("card.json", lambda card: card.pop("dim"), "the card is not valid.*dim: Field required"),
        ("card.json", lambda card: card.update(dims=3), "dims: Extra inputs"),
    ],
)
def test_a_folder_that_is_not_right_is_refused(saved, file, edit, says):
    _, folder = saved
    change(folder / file, edit)
    with pytest.raises(EncoderError, match=says):
        encoder(str(folder))


def test_what_has_no_weights_is_not_saved(tmp_path):
    with pytest.raises(EncoderError, match=r"toy:constant cannot be saved as a folder"):
        save_encoder(encoder("toy:constant"), tmp_path / "x")
    assert not (tmp_path / "x").exists()
