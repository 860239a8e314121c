"""Numbers that make a cohort, and the errors of those that do not."""

import pytest

from histolatent.errors import OptionError
from histolatent.images.phantom import PhantomSpec, protocols
from histolatent.images.phantom.spec import BOUNDS


def test_defaults_are_one_source_and_four_unseen_sites():
    spec = PhantomSpec()
    assert spec.site_names == ("source", "new-scanner", "new-stain", "faded", "blue-shift")
    assert spec.tile_um == 48


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tile_px", 31),
        ("tile_px", 2049),
        ("mpp", 0.09),
        ("mpp", 2.01),
        ("mpp", float("nan")),
        ("sites", 0),
        ("patients", 0),
        ("slides", 10),
        ("tiles_per_site", 0),
        ("seed", -1),
    ],
)
def test_a_number_out_of_bounds_is_named_with_its_bounds(name, value):
    with pytest.raises(OptionError, match=f"the phantom's {name} is out of bounds") as caught:
        PhantomSpec(**{name: value})
    low, high, _ = BOUNDS[name]
    assert f"Received: {value}" in str(caught.value)
    assert f"{low:g} to {high:g}" in str(caught.value)


@pytest.mark.parametrize(("name", "edge"), [(name, bound[i]) for name, bound in BOUNDS.items() for i in (0, 1)])
def test_bounds_are_inclusive(name, edge):
    assert getattr(PhantomSpec(**{name: edge}), name) == edge


def test_too_many_sites_names_those_that_there_are():
    with pytest.raises(OptionError, match="source, new-scanner, new-stain"):
        PhantomSpec(sites=len(protocols()) + 1)


def test_an_unknown_option_is_an_error_with_the_nearest_name():
    with pytest.raises(OptionError, match="did you mean 'patients'"):
        PhantomSpec(patient=3)


def test_text_that_is_no_number_is_an_error():
    with pytest.raises(OptionError, match="tile_px is not a number of the right kind"):
        PhantomSpec(tile_px="large")


def test_a_spec_is_frozen_and_equal_by_value():
    spec = PhantomSpec(seed=5)
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 6
    assert spec == PhantomSpec(seed=5)
    assert PhantomSpec(**spec.model_dump()) == spec
