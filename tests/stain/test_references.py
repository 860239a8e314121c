"""The shipped numbers are what the script that writes them computes."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from histolatent.stain import NORMALIZERS, shipped_reference

SCRIPT = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_references.py")))


def same(found, expected, where: str = "") -> None:
    """Check two documents; numbers may differ by what another machine's arithmetic does."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for key in expected:
            same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            same(one, other, f"{where}.{number}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=2e-3, rel=2e-3), where
    elif where.endswith("_pixels") or where.endswith("tiles_used"):
        assert found == pytest.approx(expected, rel=0.01), where
    else:
        assert found == expected, where


@pytest.mark.slow
def test_references_are_what_the_code_computes():
    computed = json.loads(json.dumps(SCRIPT.document()))
    same(json.loads(SCRIPT.FILE.read_text(encoding="utf-8")), computed)


@pytest.mark.parametrize("name", [*NORMALIZERS])
def test_the_phantom_reference_is_valid(name):
    fit = shipped_reference("phantom", name)
    assert fit.valid
    assert fit.tiles_used >= 0.9 * fit.tiles
    assert fit.white_source == "background"
