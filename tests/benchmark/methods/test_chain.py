"""Methods by name, chains of them, and a method of one's own in one file."""

import pickle

import pytest

from histolatent.benchmark.methods import METHODS, Method, parse_chain
from histolatent.benchmark.methods.base import STAGES
from histolatent.errors import OptionError

OWN = '''
"""Tiles in grey: a method of one's own."""

import numpy as np

from histolatent.benchmark.methods import ChangedTiles, Method


def to_grey(tile):
    """Return the tile with the mean of its channels in each."""
    return np.repeat(tile.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)


def fit(source, target, work):
    """Nothing is fitted."""
    return lambda tiles, site: ChangedTiles(tiles, to_grey)


GREY = Method("grey", "tiles", "tiles without colour", fit)
'''


def test_every_method_says_what_it_is():
    for name, method in METHODS.items():
        assert method.name == name and method.stage in STAGES and method.describes
    needy = {name for name, method in METHODS.items() if method.needs_target}
    assert needy == {"cyclegan", "stainnet", "combat", "leace", "ot"}


def test_a_chain_has_a_name_and_shares_its_network():
    chain = parse_chain("macenko+compact+combat")
    assert [method.stage for method in chain.methods] == ["tiles", "encoder", "vectors"]
    assert chain.name == "macenko+compact+combat" and chain.needs_target and chain.network == "macenko+compact"
    assert parse_chain("combat").network == "none" and parse_chain("none").network == "none"
    assert parse_chain("macenko+linear").network == parse_chain("macenko").network == "macenko"
    assert not parse_chain("macenko+linear").needs_target


def test_a_chain_travels_as_its_text():
    chain = parse_chain("reinhard+adapter")
    assert pickle.loads(pickle.dumps(chain)) == chain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("macenco", "no method is called 'macenco'.*did you mean 'macenko'"),
        ("macenko+reinhard", "two methods of a chain act at the same stage.*macenko and reinhard"),
        ("combat+macenko", "not stand in the order"),
        ("", "no method is called ''"),
        ("nowhere.py:GREY", "no such file"),
    ],
)
def test_what_is_no_chain(text, said):
    with pytest.raises(OptionError, match=said):
        parse_chain(text)


def test_a_method_in_a_file(tmp_path):
    file = tmp_path / "grey.py"
    file.write_text(OWN)
    chain = parse_chain(f"{file}:GREY+linear")
    assert chain.name == "grey+linear" and pickle.loads(pickle.dumps(chain)).tiles.describes == "tiles without colour"
    with pytest.raises(OptionError, match=r"this is no Method.*Valid: GREY"):
        parse_chain(f"{file}:grey")


def test_a_method_has_a_name_that_is_one_of_a_file():
    with pytest.raises(OptionError, match=r"cannot be called so.*'a/b'"):
        Method("a/b", "tiles", "", None)
