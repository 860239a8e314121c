"""The grammar of names, and what is said about wrong ones."""

import subprocess
import sys

import pytest

from histolatent.encoders import encoder
from histolatent.encoders.source import Source, parse_source
from histolatent.errors import EncoderError, OptionError


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("toy:constant", Source("toy", "constant")),
        ("hf:owkin/phikon@v1?precision=fp16", Source("hf", "owkin/phikon", "v1", {"precision": "fp16"})),
        ("hf:owkin/phikon?revision=v1", Source("hf", "owkin/phikon", "v1")),
        ("timm:hf-hub:a/b.c@d", Source("timm", "hf-hub:a/b.c", "d")),
        ("timm:a?weights=/x%20y/w.bin", Source("timm", "a", None, {"weights": "/x y/w.bin"})),
        ("timm:a?pooling=cls+mean", Source("timm", "a", None, {"pooling": "cls+mean"})),
        ("npy:/data/me@home/v.npy", Source("npy", "/data/me@home/v.npy")),
        ("onnx:C:\\models\\a.onnx", Source("onnx", "C:\\models\\a.onnx")),
        ("C:\\models\\a", Source("", "C:\\models\\a")),
        ("uni2-h@abc", Source("", "uni2-h", "abc")),
        ("npy:what?.npy", Source("npy", "what?.npy")),
    ],
)
def test_names_are_split(name, parsed):
    assert parse_source(name) == parsed


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tim:resnet50", "no encoder scheme is called 'tim'.*did you mean 'timm'"),
        ("toy:constant?sed=1", "toy does not take the key 'sed'.*did you mean 'seed'"),
        ("toy:random-conv?seed=one", "seed is not a whole number. Received: 'one'"),
        ("toy:constant?verify=maybe", "verify is neither yes nor no. Received: 'maybe'"),
        ("toy:random-conv?=1", "the query is not key=value|no toy encoder"),
        ("toy:constant?seed=1", "constant has no random weights, and takes no seed"),
        ("toy:constant?seed=1&seed=2", "the query is not key=value"),
        ("toy:constant?precision=fp8", "no precision is called 'fp8'. Valid: bf16, fp16, fp32"),
        ("toy:constant?precision=fp16", "toy encoders have no fp16 version"),
        ("toy:", "the encoder has no name"),
        ("hf:a/b@c?revision=d", "the revision is given twice"),
        ("uni2h", "no encoder is called 'uni2h'.*did you mean 'uni2-h'"),
        ("owkin/phikon", "there is no such folder.*write hf:owkin/phikon"),
    ],
)
def test_wrong_names_are_answered(name, says):
    with pytest.raises(OptionError, match=says):
        encoder(name)


def test_a_file_without_a_scheme_is_told_its_scheme(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"")
    with pytest.raises(OptionError, match=r"write npy:"):
        encoder(str(path))


def test_precision_by_argument_and_by_key_must_agree():
    with pytest.raises(OptionError, match=r"two precisions are given"):
        encoder("toy:constant?precision=fp32", precision="fp16")
    assert encoder("toy:constant?precision=fp32", precision="fp32").card.precision == "fp32"


def test_an_empty_folder_is_no_encoder(tmp_path):
    with pytest.raises(EncoderError, match=r"the folder has no card.json"):
        encoder(str(tmp_path))
    with pytest.raises(EncoderError, match=r"there is no such folder"):
        encoder(f"folder:{tmp_path / 'no'}")


def test_importing_and_using_toys_loads_nothing_heavy():
    code = (
        "import sys, numpy; from histolatent.encoders import encoder, encode, catalogue; catalogue();"
        "encode(encoder('toy:random-conv'), numpy.zeros((1, 9, 9, 3), 'uint8'));"
        "heavy = {'torch', 'timm', 'transformers', 'onnxruntime', 'huggingface_hub', 'torchvision'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
