"""Errors: what they say, in which order, and that they survive the way between processes."""

import pickle
from pathlib import Path

import pytest

from histolatent.errors import (
    EncoderError,
    HistolatentError,
    InputError,
    MissingExtraError,
    OptionError,
    OutputError,
    nearest,
    require,
    unknown,
)

KINDS = [HistolatentError, InputError, OptionError, EncoderError, OutputError, MissingExtraError]


def test_the_four_parts_come_in_order_and_none_is_made_up():
    error = InputError("tile is grey", received=0, valid="RGB", fix="repeat it")
    assert str(error) == "tile is grey. Received: 0. Valid: RGB. Fix: repeat it"
    assert str(OptionError("no", received="")) == "no. Received: "
    assert str(OptionError("no")) == "no"
    assert str(OptionError("no", fix="yes")) == "no. Fix: yes"


@pytest.mark.parametrize("kind", KINDS)
def test_errors_cross_processes(kind):
    error = kind("what", received=Path("/a"), valid=(1, 2), fix="so")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert isinstance(again, HistolatentError)
    assert str(again) == str(error)
    assert (again.what, again.received, again.valid, again.fix) == ("what", Path("/a"), (1, 2), "so")
    assert again.exit_code == 2


def test_the_nearest_name():
    assert nearest("gausian", ["jpeg", "gaussian"]) == "gaussian"
    assert nearest("zzz", ["jpeg", "gaussian"]) is None


def test_unknown_names():
    error = unknown("suite", "quik", {"quick": 1, "full": 2})
    assert str(error) == "no suite is called 'quik'. Valid: full, quick. Fix: did you mean 'quick'?"
    assert str(unknown("suite", "zzz", [])) == "no suite is called 'zzz'. Valid: none"
    assert str(unknown("slide", "zzz", map(str, range(1000, 2000)))).endswith(", 1059, and 940 more")


def test_missing_extras_say_how_to_install():
    assert require("json.decoder", "any").JSONDecoder
    with pytest.raises(MissingExtraError, match=r"^no_such_module is not installed.*'histolatent\[ray\]'$"):
        require("no_such_module.part", "ray")


def test_a_broken_dependency_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import another_missing_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="another_missing_module"):
        require("half_installed", "ray")
