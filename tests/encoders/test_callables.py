"""Python functions as encoders."""

import textwrap

import numpy as np
import pytest

from histolatent.encoders import encode, encoder
from histolatent.errors import EncoderError, OptionError
from histolatent.provenance import file_digest

GOOD = """
import numpy as np

def mean(tiles):
    return tiles.mean(axis=(1, 2))

def carded(tiles):
    return tiles.reshape(len(tiles), -1)[:, :5].astype(float)

carded.card = {"name": "five", "licence": "MIT", "revision": "v2",
               "preprocessing": {"resize": "squash", "input_px": 16}}

value = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"

    def write(code: str = GOOD):
        path.write_text(textwrap.dedent(code))
        return path

    return write


def test_a_function_of_a_file(file, tiles):
    path = file()
    found = encoder(f"callable:{path}:mean")
    assert found.card.dim == 3
    assert found.card.name == "mine.py:mean"
    assert found.card.revision == f"sha256:{file_digest(path)}"
    np.testing.assert_allclose(encode(found, tiles), tiles.mean(axis=(1, 2)), rtol=1e-6)


def test_its_card_is_used(file, tiles):
    found = encoder(f"callable:{file()}:carded")
    assert (found.card.name, found.card.licence, found.card.revision) == ("five", "MIT", "v2")
    assert found.card.dim == 5
    assert found.card.preprocessing.input_px == 16
    assert encode(found, tiles).shape == (5, 5)


def test_weights_of_the_card_are_hashed(file, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"weights")
    path = file(GOOD + f"mean.card = dict(weights={str(tmp_path / 'w.bin')!r})")
    found = encoder(f"callable:{path}:mean")
    assert found.card.weights_sha256 == file_digest(tmp_path / "w.bin")
    with pytest.raises(EncoderError, match=r"the weights file of mean is missing"):
        encoder(f"callable:{file(GOOD + 'mean.card = dict(weights=str(1))')}:mean")


def test_a_function_of_a_module(file, monkeypatch, tiles):
    path = file()
    (path.parent / "mine_as_module.py").write_text(path.read_text())
    monkeypatch.syspath_prepend(path.parent)
    assert encode(encoder("callable:mine_as_module:mean"), tiles).shape == (5, 3)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("callable:mine", "a callable is named by its module and its function"),
        ("callable:mine:", "a callable is named by its module and its function"),
        ("callable:no_such_module:f", "there is no module 'no_such_module'"),
        ("callable:nowhere/mine.py:f", "there is no such Python file"),
    ],
)
def test_wrong_places_are_said(target, says):
    with pytest.raises((OptionError, EncoderError), match=says):
        encoder(target)


def test_a_wrong_function_is_answered_with_the_nearest(file):
    with pytest.raises(EncoderError, match=r"no function 'meen'. Valid: carded, mean. Fix: did you mean 'mean'"):
        encoder(f"callable:{file()}:meen")
    with pytest.raises(EncoderError, match=r"no function 'value'"):
        encoder(f"callable:{file()}:value")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("tiles.mean(axis=(1, 2)).tolist()", r"Received: builtins.list.*Fix: return np.asarray"),
        ("tiles.mean(axis=(0, 1, 2))", r"Received: float64 array \(3,\).*return array\[None\]"),
        ("np.ones((7, 2))", r"Received: float64 array \(7, 2\). Valid: a NumPy array of numbers \(1, d\)"),
        ("np.array([['a']] * len(tiles))", "Received: <U1 array"),
        ("None", "Received: builtins.NoneType"),
        ("np.ones((len(tiles), 0))", "returns no numbers"),
    ],
)
def test_wrong_answers_are_said(file, body, says):
    path = file(f"import numpy as np\ndef f(tiles):\n    return {body}\n")
    with pytest.raises(EncoderError, match=says):
        encoder(f"callable:{path}:f")


def test_a_tensor_is_told_how_to_become_an_array(file):
    pytest.importorskip("torch")
    path = file("import torch\ndef f(tiles): return torch.ones(len(tiles), 2)")
    with pytest.raises(EncoderError, match=r"torch.Tensor.*tensor.detach\(\).cpu\(\).numpy\(\)"):
        encoder(f"callable:{path}:f")


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ("[1]", "the attribute card of f is not a dict. Received: list"),
        ("{'nam': 'x'}", "card is not valid.*nam: Extra"),
    ],
)
def test_a_wrong_card_is_said(file, card, says):
    path = file(f"def f(tiles): return tiles.mean(axis=(1, 2))\nf.card = {card}\n")
    with pytest.raises(EncoderError, match=says):
        encoder(f"callable:{path}:f")


def test_an_import_that_fails_is_said(file):
    with pytest.raises(EncoderError, match=r"the module of the callable cannot be imported"):
        encoder(f"callable:{file('def f(:')}:f")
    with pytest.raises(EncoderError, match=r"there is no module 'not_there_at_all'.*pip install"):
        encoder(f"callable:{file('import not_there_at_all')}:f")


def test_a_function_may_write_into_its_tiles(file, tiles):
    body = "def f(tiles):\n    tiles[:] = 255 - tiles\n    return tiles.mean((1, 2))\n"
    found = encoder(f"callable:{file(body)}:f")
    np.testing.assert_array_equal(encode(found, tiles), encode(found, tiles))


def test_a_function_that_ends_the_program_is_said(file, tiles):
    body = "def f(tiles):\n    if len(tiles) > 1:\n        raise SystemExit(0)\n    return tiles.mean((1, 2))\n"
    with pytest.raises(EncoderError, match=r"mine\.py:f raised SystemExit \(0\) at mine\.py:3"):
        encode(encoder(f"callable:{file(body)}:f"), tiles)


def test_what_a_function_raises_is_said_in_one_line(file, tiles):
    lines = ("def f(tiles):", "    if len(tiles) > 1:", "        raise ValueError('no more\\nthan one')")
    broken = "\n".join([*lines, "    return tiles.mean((1, 2))", ""])
    found = encoder(f"callable:{file(broken)}:f")
    with pytest.raises(
        EncoderError, match=r"the function mine\.py:f raised ValueError \(no more than one\) at mine\.py:3"
    ):
        encode(found, tiles)
