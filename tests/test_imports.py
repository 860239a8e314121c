"""Nothing happens at import: no torch, no environment writes, no log handlers, and every name is there."""

import json
import subprocess
import sys

import pytest

import histolatent

#: Prints what an import did. The modules listed are those that make a start slow, or that not everyone has.
SPY = """
import json, logging, os, sys, warnings
def environment():
    # When they are imported, OpenCV's wheel prepends its own folder to the one, and threadpoolctl sets the other.
    others = ("LD_LIBRARY_PATH", "KMP_DUPLICATE_LIB_OK")
    return {{name: value for name, value in os.environ.items() if name not in others}}
before = environment()
handlers = len(logging.getLogger().handlers)
filters = list(warnings.filters)
{code}
heavy = ("torch", "anndata", "matplotlib", "pandas", "numpy", "sklearn", "scipy", "cv2", "timm", "zarr", "h5py")
print(json.dumps({{
    "loaded": [name for name in heavy if name in sys.modules],
    "environment": environment() == before,
    "handlers": len(logging.getLogger().handlers) == handlers and not logging.getLogger("histolatent").handlers,
    "filters": list(warnings.filters) == filters,
}}))
"""


def spy(code: str) -> dict:
    done = subprocess.run([sys.executable, "-c", SPY.format(code=code)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_package_alone_loads_nothing():
    found = spy("import histolatent")
    assert found == {"loaded": [], "environment": True, "handlers": True, "filters": True}


def test_help_loads_nothing_heavy():
    code = "import contextlib, io\nfrom histolatent.cli.app import app\n"
    code += "with contextlib.redirect_stdout(io.StringIO()): app(['--help'], standalone_mode=False)"
    found = spy(code)
    assert not {"torch", "anndata", "matplotlib", "pandas", "sklearn"} & set(found["loaded"])


@pytest.mark.parametrize(
    "room", ["audit", "stats", "neighbors", "stain", "embeddings", "images", "perturb", "encoders", "encoders.embed"]
)
def test_rooms_that_do_without_torch(room):
    found = spy(f"import histolatent.{room}")
    assert "torch" not in found["loaded"]
    assert "timm" not in found["loaded"]
    assert found["environment"]
    assert found["handlers"]


def test_every_public_name_resolves():
    assert len(set(histolatent.__all__)) == len(histolatent.__all__)
    for name in histolatent.__all__:
        assert getattr(histolatent, name) is not None
    assert set(histolatent.__all__) <= set(dir(histolatent))
    assert histolatent.__version__
    with pytest.raises(AttributeError, match="module 'histolatent' has no attribute 'no_such_name'"):
        histolatent.no_such_name  # noqa: B018


def test_no_public_name_is_also_a_room():
    # `import histolatent.perturb` would put the room where the name was: which one wins would depend on the order.
    code = "import pkgutil, histolatent; print(*(module.name for module in pkgutil.iter_modules(histolatent.__path__)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = set(done.stdout.split())
    assert "audit" in rooms
    assert not rooms & set(histolatent.__all__)
