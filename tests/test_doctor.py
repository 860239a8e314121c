"""Each diagnosis under faked conditions: the right status, and a fix wherever something is wrong."""

import importlib
import importlib.util
import os
import sys
from collections import namedtuple

import pytest

from histolatent import doctor
from histolatent.doctor import EXTRAS, Diagnosis, diagnose


def hide(monkeypatch, *names: str) -> None:
    """Make modules look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in names else find(name, *rest))


def break_import(monkeypatch, module: str, error: Exception) -> None:
    """Make one module fail when it is imported."""
    imports = importlib.import_module

    def broken(name, *rest):
        if name == module:
            raise error
        return imports(name, *rest)

    monkeypatch.setattr(importlib, "import_module", broken)


def test_everything_is_looked_at_here(tmp_path):
    found = diagnose(tmp_path)
    names = [item.name for item in found]
    assert names == [
        "python",
        "core libraries",
        "image formats",
        "embedding tables",
        *[f"extra [{extra}]" for extra in EXTRAS],
        "accelerator",
        "memory",
        "disk",
        "model hub",
    ]
    for item in found:
        assert item.says
        assert (item.fix == "") == (item.status == "PASS"), item
    by_name = {item.name: item for item in found}
    assert by_name["core libraries"].status == "PASS"
    assert by_name["embedding tables"].status == "PASS"
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_was_not_tested_is_a_warning(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 15, 0, "final", 0))
    found = doctor._python()
    assert (found.status, found.fix) == ("WARN", "tested with Python 3.11, 3.12 and 3.13")


def test_a_core_library_that_does_not_import_fails(monkeypatch):
    break_import(monkeypatch, "h5py", ImportError("libhdf5.so: cannot open"))
    assert doctor._core() == Diagnosis(
        "core libraries",
        "FAIL",
        "h5py does not import: libhdf5.so: cannot open",
        "pip install --upgrade histolatent",
    )


def test_missing_codecs_are_named(monkeypatch):
    from PIL import features

    monkeypatch.setattr(features, "check_codec", lambda name: name != "jpg_2000")
    monkeypatch.setattr(features, "check_module", lambda name: name != "webp")
    found = doctor._codecs()
    assert (found.status, found.says) == ("WARN", "Pillow reads no JPEG 2000, WebP")
    assert found.fix == "pip install --upgrade pillow"


def test_a_table_that_comes_back_changed_fails(monkeypatch):
    import numpy as np

    from histolatent import embeddings

    def changed(path):
        return type("Table", (), {"X": np.zeros((2, 3))})()

    monkeypatch.setattr(embeddings, "read_table", changed)
    found = doctor._tables()
    assert (found.status, found.fix) == ("FAIL", "pip install --upgrade anndata zarr")


def test_tables_that_cannot_be_written_fail(monkeypatch):
    from histolatent import embeddings

    def broken(*given, **options):
        raise RuntimeError("no such codec: blosc")

    monkeypatch.setattr(embeddings, "write_table", broken)
    found = doctor._tables()
    assert found.status == "FAIL"
    assert "no such codec: blosc" in found.says


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_a_warning_with_its_install_line(monkeypatch, extra):
    hide(monkeypatch, EXTRAS[extra][0])
    found = doctor._extra(extra)
    assert found.status == "WARN"
    assert EXTRAS[extra][0] in found.says
    assert f"pip install 'histolatent[{extra}]'" in found.fix


def test_an_extra_that_is_there_passes(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: object())
    assert doctor._extra("ray") == Diagnosis("extra [ray]", "PASS", "installed")


def test_without_torch_the_accelerator_is_a_warning(monkeypatch):
    hide(monkeypatch, "torch")
    found = doctor._torch()
    assert (found.status, found.says) == ("WARN", "torch is not installed")
    assert found.fix == "pip install 'histolatent[encoders]'"


@pytest.mark.parametrize(
    "error", [RuntimeError("operator torchvision::nms does not exist"), ImportError("undefined symbol"), OSError("x")]
)
def test_a_torchvision_of_another_torch_fails(monkeypatch, error):
    pytest.importorskip("torch")
    break_import(monkeypatch, "torchvision.ops", error)
    found = doctor._torch()
    assert found.status == "FAIL"
    assert str(error) in found.says
    assert "from the same index" in found.fix


def test_a_torch_that_does_not_import_fails(monkeypatch):
    break_import(monkeypatch, "torch", OSError("libcudart.so.12: cannot open shared object file"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: object())
    found = doctor._torch()
    assert found.status == "FAIL"
    assert "libcudart.so.12" in found.says
    assert found.fix


def test_the_accelerator_that_there_is(monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (64 * 2**30, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Fast 9000")
    found = doctor._torch()
    assert (found.status, found.says) == ("PASS", f"Fast 9000, 64 GiB free, torch {torch.__version__}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert doctor._torch().says.startswith("Apple GPU")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    found = doctor._torch()
    assert (found.status, "--max-tiles" in found.fix) == ("WARN", True)


@pytest.mark.parametrize(("gib", "status"), [(2, "WARN"), (64, "PASS")])
def test_little_memory_is_a_warning(monkeypatch, gib, status):
    pages = {"SC_PHYS_PAGES": gib * 2**18, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    found = doctor._memory()
    assert (found.status, found.says) == (status, f"{gib} GiB")
    assert ("--workers 1" in found.fix) == (status == "WARN")


def test_memory_that_is_not_known_is_no_fault(monkeypatch):
    monkeypatch.setattr(os, "sysconf_names", {})
    assert doctor._memory().status == "PASS"


@pytest.mark.parametrize(("free", "status"), [(1, "WARN"), (500, "PASS")])
def test_little_disk_is_a_warning(monkeypatch, tmp_path, free, status):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(0, 0, free * 2**30))
    found = doctor._disk(tmp_path)
    assert found.status == status
    assert ("free space" in found.fix) == (status == "WARN")


def test_a_folder_that_cannot_be_written_to_fails(monkeypatch, tmp_path):
    def refused(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    found = doctor._disk(tmp_path)
    assert (found.status, found.fix) == ("FAIL", "work in another folder")
    assert str(tmp_path) in found.says


def test_a_folder_that_is_not_there_fails(tmp_path):
    found = doctor._disk(tmp_path / "nowhere")
    assert found.status == "FAIL"
    assert "cannot be written to" in found.says


@pytest.mark.parametrize(("token", "status"), [(None, "WARN"), ("a token", "PASS")])
def test_the_hub_is_looked_at_without_contact(monkeypatch, tmp_path, token, status):
    hub = pytest.importorskip("huggingface_hub")
    constants = pytest.importorskip("huggingface_hub.constants")
    (tmp_path / "models--a--b").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "get_token", lambda: token)
    found = doctor._hub()
    assert found.status == status
    assert found.says.startswith("1 model in the cache")
    assert token is None or token not in found.says + found.fix


def test_without_the_hub_library_the_hub_is_a_warning(monkeypatch):
    hide(monkeypatch, "huggingface_hub")
    assert doctor._hub().fix == "pip install 'histolatent[encoders]'"
