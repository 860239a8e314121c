"""Operations of other packages: found by their entry point; what is broken is named, and stops nothing."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from histolatent.errors import OptionError
from histolatent.perturb import OPERATIONS
from histolatent.perturb.operation import PLUGINS, Operation, _take
from histolatent.registry import PluginWarning, Registry

MODULE = """
from dataclasses import replace
import numpy as np
from histolatent.perturb import OPERATIONS, Operation

def darken(tile, mpp, random):
    return lambda levels: np.maximum(tile.astype(int) - int(levels), 0).astype(np.uint8)

DARKEN = Operation(
    name="{name}", family="photometric", role="must-ignore", parameter="subtracted", unit="grey levels",
    levels=(5.0, 10.0, 15.0, 20.0, 25.0), path=darken, describes="so many levels taken away", limits=(1.0, 255.0),
)
BOTH = [DARKEN, replace(DARKEN, name="{name}-more", levels=(20.0, 40.0, 60.0, 80.0, 100.0))]
NOTHING = 3
EMPTY = []
NAMESAKE = replace(DARKEN, name="blur")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution on the path, as pip leaves one: a module, metadata, entry points."""

    def add(package: str, points: dict[str, str], version: str = "1.2", code: str | None = None) -> Path:
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(MODULE.format(name=package) if code is None else code)
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = "\n".join(f"{name} = {module}{value}" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{PLUGINS}]\n{lines}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return tmp_path

    return add


def fresh() -> Registry[Operation]:
    """A registry that holds what comes with histolatent, and has looked for no plug-in yet."""
    registry = Registry[Operation]("perturbation", PLUGINS, _take)
    for operation in (OPERATIONS["blur"], OPERATIONS["flip"]):
        registry.register(operation.name, operation)
    return registry


def test_one_operation_or_several_are_found_and_work(install):
    install("plug-one", {"dark": ":DARKEN"})
    install("plug-two", {"darks": ":BOTH"}, version="3")
    registry = fresh()
    assert list(registry)[:2] == ["blur", "flip"]
    assert set(registry) == {"blur", "flip", "plug-one", "plug-two", "plug-two-more"}
    assert dict(registry.added) == {
        "plug-one": "dark (plug-one 1.2)",
        "plug-two": "darks (plug-two 3)",
        "plug-two-more": "darks (plug-two 3)",
    }
    tile = np.full((8, 8, 3), 100, np.uint8)
    assert (registry["plug-one"].path(tile, 0.5, np.random.default_rng())(10.0) == 90).all()


def test_a_broken_one_is_named_and_the_others_work(install):
    install("plug-broken", {"bad": ":DARKEN"}, code="import module_that_is_not_there")
    install("plug-raises", {"worse": ":DARKEN"}, code="raise SystemError('no luck')")
    install("plug-lacks", {"none": ":MISSING"})
    install("plug-good", {"dark": ":DARKEN"})
    registry = fresh()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert set(registry) == {"blur", "flip", "plug-good"}
    said = sorted(str(item.message) for item in caught if item.category is PluginWarning)
    assert said == [
        "the plug-in bad (plug-broken 1.2) could not be loaded, and is left out: ModuleNotFoundError: No module named "
        "'module_that_is_not_there'",
        "the plug-in none (plug-lacks 1.2) could not be loaded, and is left out: AttributeError: module 'plug_lacks' "
        "has no attribute 'MISSING'",
        "the plug-in worse (plug-raises 1.2) could not be loaded, and is left out: SystemError: no luck",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "plug-good" in registry  # said once


@pytest.mark.parametrize(("value", "received"), [(":NOTHING", "int"), (":EMPTY", "NoneType"), ("", "module")])
def test_what_is_no_operation_is_left_out(install, value, received):
    install("plug-odd", {"odd": value})
    registry = fresh()
    with pytest.warns(PluginWarning, match=rf"odd \(plug-odd 1.2\).*it names no operation. Received: {received}"):
        assert len(registry) == 2


def test_a_wrong_operation_is_left_out_with_its_own_reason(install):
    code = MODULE.format(name="plug-bad").replace("15.0, 20.0, 25.0", "15.0, 20.0, 999.0")
    install("plug-bad", {"bad": ":DARKEN"}, code=code)
    registry = fresh()
    with pytest.warns(PluginWarning, match=r"OptionError: plug-bad: a level is out of its limits"):
        assert "plug-bad" not in registry


def test_a_name_that_is_taken_is_left_out_and_ours_stays(install):
    install("plug-namesake", {"mine": ":NAMESAKE"})
    registry = fresh()
    with pytest.warns(PluginWarning, match=r"mine \(plug-namesake 1.2\) is left out: another perturb.* 'blur'"):
        assert registry["blur"] is OPERATIONS["blur"]


def test_nothing_is_loaded_before_it_is_asked_for(install):
    install("plug-late", {"late": ":DARKEN"})
    registry = fresh()
    assert "plug_late" not in sys.modules
    with pytest.raises(OptionError, match=r"no perturbation is called 'plug-lat'.*did you mean 'plug-late'"):
        registry["plug-lat"]
    assert "plug_late" in sys.modules


def test_a_plug_in_may_read_the_registry_while_it_is_loaded(install):
    code = MODULE.format(name="plug-reads") + "\nassert OPERATIONS['blur'].name == 'blur'\n"
    install("plug-reads", {"reads": ":DARKEN"}, code=code)
    assert "plug-reads" in fresh()
