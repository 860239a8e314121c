"""Registry: a mapping in order, with helpful errors."""

import pytest

from histolatent.errors import OptionError
from histolatent.registry import Registry


@pytest.fixture
def shapes() -> Registry[int]:
    registry = Registry[int]("shape")
    registry.register("square", 4)
    registry.register("line", 2)
    return registry


def test_it_is_a_mapping_in_order_of_registration(shapes):
    assert list(shapes) == ["square", "line"]
    assert dict(shapes) == {"square": 4, "line": 2}
    assert len(shapes) == 2
    assert "square" in shapes
    assert "circle" not in shapes


def test_unknown_names_are_answered_with_the_nearest(shapes):
    with pytest.raises(OptionError, match=r"no shape is called 'sqare'. Valid: line, square.*mean 'square'"):
        shapes["sqare"]


def test_asking_with_a_default_is_no_error(shapes):
    assert shapes.get("square") == 4
    assert shapes.get("circle") is None
    assert shapes.get("circle", 0) == 0


def test_a_name_is_registered_once(shapes):
    with pytest.raises(ValueError, match="shape 'line' is registered twice"):
        shapes.register("line", 3)
    assert shapes["line"] == 2
