"""`histolatent ablate` and `histolatent export`: what is written, and what a user gets wrong first."""

import json
import re

import numpy as np
import pytest

from histolatent.encoders import encode, encoder
from histolatent.images import open_tiles

TILES = "phantom:sites=2,patients=4,slides=1,tiles_per_site=32,tile_px=64"
SHORT = ("--set", "training.steps=3", "--set", "training.batch_size=8", "--set", "projector=16")
ASKED = ("--variant", "no compaction", "--seeds", "1", "--train-site", "source", "--device", "cpu")


@pytest.mark.slow
def test_a_table_and_its_cells(run, tmp_path):
    words = ("ablate", TILES, *SHORT, *ASKED, "--workers", "0", "--out", tmp_path / "a")
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "| as planned |" in done.output and "| no compaction |" in done.output
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["cells", "table.csv", "table.md"]
    cells = [json.loads(path.read_text()) for path in (tmp_path / "a" / "cells").glob("*.json")]
    assert {cell["variant"] for cell in cells} == {"as planned", "no compaction"}
    again = run(*words).output  # given again, it reads the cells
    assert "2 of 2 done" in again and "1 of 2 done" not in again


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--variant", "no compactoin"), "did you mean 'no compaction'"),
        (("--variant", "vicreg"), "the plan is already so"),
        (("--train-site", "Source"), "no such site"),
        (("--plan", "dmeo"), "did you mean 'demo'"),
    ],
)
def test_what_cannot_be_ablated(fails, tmp_path, words, said):
    code, line = fails("ablate", TILES, *words, "--quiet", "--out", tmp_path / "a")
    assert code == 2 and re.search(said, line), line
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_what_is_exported_is_an_encoder(run, tmp_path):
    pytest.importorskip("onnxscript")
    made = run("compact", TILES, "--out", tmp_path / "lmc", *SHORT, "--workers", "0", "--quiet")
    assert made.exit_code in (0, 1)
    done = run("export", tmp_path / "lmc", "--out", tmp_path / "lmc.onnx")
    assert done.exit_code == 0, done.output
    assert "vectors differ by at most" in done.output
    tiles = [open_tiles(TILES).read(row) for row in range(3)]
    one, other = (encode(encoder(name), tiles) for name in (str(tmp_path / "lmc"), f"onnx:{tmp_path / 'lmc.onnx'}"))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(one).max())


def test_what_cannot_be_exported(fails, tmp_path):
    pytest.importorskip("onnxscript")
    code, line = fails("export", "toy:od-moments", "--out", tmp_path / "m.onnx")
    assert code == 2 and "no torch model" in line
    code, line = fails("export", "toy:od-moments", "--out", tmp_path / "m.bin")
    assert code == 2 and "end in .onnx" in line
    assert not list(tmp_path.iterdir())
