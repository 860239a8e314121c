"""`histolatent pairs`: tables, folders and layers in, a report out, and every message that a user meets first."""

import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from histolatent.cli import main
from histolatent.embeddings import make_table, write_table

QUICKLY = ("--resamples", "100", "--quiet", "--skip", "distances", "--skip", "equivariance", "--skip", "neighbours")
N = 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Vectors of 60 tiles on three scanners, in every form, by two encoders; a manifest."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    before = random.normal(size=(N, 8)).astype(np.float32)
    ids = [f"t{i:02d}" for i in range(N)]
    obs = pd.DataFrame({"diagnosis": list("abc") * 20, "case": [f"p{i // 5}" for i in range(N)]}, index=pd.Index(ids))
    obs.assign(path=ids).rename_axis("tile").to_csv("tiles.csv")
    scans = {
        name: (before + size * random.normal(size=before.shape)).astype(np.float32)
        for name, size in (("a", 0.0), ("b", 0.2), ("c", 0.5))
    }
    for name, vectors in scans.items():
        np.save(f"{name}.npy", vectors)
        AnnData(X=vectors, obs=obs).write_h5ad(f"{name}.h5ad")  # as others write it: no card
        Path(f"scan_{name}").mkdir()
        for encoder in ("one", "two"):
            table = make_table(vectors if encoder == "one" else vectors**3, obs, {"origin": name})
            write_table(table, f"scan_{name}/{encoder}.zarr")
    write_table(make_table(before, obs, {"origin": "a"}, views={"jpeg@3": scans["b"]}), "layers.zarr")
    return tmp_path


@pytest.fixture
def run(run):
    """Run `histolatent pairs`."""
    return lambda *words: run("pairs", *words)


@pytest.fixture
def fails(monkeypatch, capsys):
    """Run the command through `main`; return the last line that it prints, which is the error."""

    def call(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["histolatent", "pairs", *map(str, words), "--out", "audit", "--quiet"])
        with pytest.raises(SystemExit) as stop, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Observation names are not unique")
            main()
        captured = capsys.readouterr()
        assert stop.value.code == 2
        assert "Traceback" not in captured.err
        assert not Path("audit").exists()
        return captured.err.strip()

    return call


def document(out: str = "audit") -> dict:
    return json.loads(Path(out, "audit.json").read_text())


def test_help_shows_an_example(run):
    text = re.sub(r"\x1b\[[0-9;]*m", "", run("--help").output)
    assert "Example: histolatent pairs scanner_a.h5ad" in text
    examples = re.findall(r"--[a-z-]+", text.partition("Example:")[2].splitlines()[0])
    assert set(examples) <= set(re.findall(r"--[a-z-]+", text.partition("Example:")[0]))


def test_two_arrays_and_a_manifest(folder, run):
    given = ("a.npy", "scanner B=b.npy", "--tiles", "tiles.csv", "--label", "diagnosis", "--group", "case")
    found = run(*given, "--encoder", "ours", "--out", "audit", *QUICKLY)
    assert found.exit_code == 0, found.output
    assert "60 tiles, 1 change" in found.output
    assert re.search(r"ours +│ scanner B +│ 0\.0\d+", found.output)
    assert "no tile ids in ours, before; ours, scanner B: rows are taken to be in the order" in found.output
    result = document()
    assert [encoder["name"] for encoder in result["encoders"]] == ["ours"]
    assert [operation["name"] for operation in result["operations"]] == ["scanner B"]
    assert result["clusters"]["by"] == "patient"
    assert result["plan"]["columns"] == {"label": "diagnosis", "patient": "case"}
    assert {path.name for path in Path("audit").iterdir()} >= {"report.html", "figures.csv", "tiles.parquet"}
    figures = pd.read_csv("audit/figures.csv")
    assert "cross_top1" in set(figures["metric"])


def test_tables_of_others_with_their_columns(folder, run):
    found = run("a.h5ad", "b.h5ad", "c.h5ad", "--label", "diagnosis", "--role", "c=control", "--out", "audit", *QUICKLY)
    assert found.exit_code == 0, found.output
    result = document()
    assert {operation["name"]: operation["role"] for operation in result["operations"]} == {
        "b": "must-ignore",
        "c": "control",
    }
    assert result["encoders"][0]["name"] == "a"
    assert result["encoders"][0]["probes"][0]["title"] == "diagnosis"


def test_folders_with_a_table_per_encoder(folder, run):
    found = run("scan_a", "B=scan_b", "scan_c/", "--out", "audit", *QUICKLY)
    assert found.exit_code == 0, found.output
    result = document()
    assert [encoder["name"] for encoder in result["encoders"]] == ["one", "two"]
    assert [operation["name"] for operation in result["operations"]] == ["B", "scan_c"]
    assert {item["operation"] for item in result["comparisons"]} >= {"B", "scan_c"}
    assert run("scan_a", "scan_b", "-e", "two", "--out", "two", *QUICKLY).exit_code == 0
    assert [encoder["name"] for encoder in document("two")["encoders"]] == ["two"]


def test_a_layer_is_a_change(folder, run):
    words = ("--layer", "compressed=jpeg@3", "--policy", "policy.toml", "--max-tiles", "40", "--seed", "1")
    Path("policy.toml").write_text("severity = 4\n")
    found = run("layers.zarr", "again=a.h5ad", *words, "--out", "audit", *QUICKLY)
    assert found.exit_code == 0, found.output
    assert "the vectors of again are those of the tiles before" in found.output
    result = document()
    assert [operation["name"] for operation in result["operations"]] == ["again", "compressed"]
    assert {dose["severity"] for dose in result["encoders"][0]["doses"]} == {4}
    assert result["tiles"]["tiles"] == 40


def test_what_is_wrong_is_said(folder, fails):
    first = np.load("a.npy")
    np.save("short.npy", first[:50])
    np.save("few.npy", first[:9])
    np.save("wide.npy", first[:, :5])
    np.save("objects.npy", np.array([[None, 1]] * N), allow_pickle=True)
    holed = first.copy()
    holed[3, 1] = np.nan
    np.save("holed.npy", holed)
    strangers = AnnData(X=first, obs=pd.DataFrame(index=pd.Index([f"u{i}" for i in range(N)])))
    strangers.write_h5ad("strangers.h5ad")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Observation names are not unique")
        AnnData(
            X=first, obs=pd.DataFrame(index=pd.Index(["t00", "t00", *(f"t{i:02d}" for i in range(2, N))]))
        ).write_h5ad("twice.h5ad")
    for words, message in (
        (("a.npy",), "there is nothing to compare with"),
        (("a.npy", "none.npy"), "there is no embedding table at this path"),
        (("a.npy", "short.npy"), "rows without tile ids cannot be matched where their numbers differ"),
        (("few.npy", "few.npy"), "too few tiles to audit"),
        (("a.npy", "wide.npy"), "different dimensions. Received: a, before: 8; a, wide: 5"),
        (("a.npy", "objects.npy"), "not a NumPy array (Object arrays"),
        (("a.npy", "holed.npy"), "holed.npy: 1 of 60 vectors hold NaN"),
        (
            ("a.h5ad", "strangers.h5ad"),
            "no tile is in all tables. Received: a, before: t00, t01, t02, ...; a, strangers",
        ),
        (("a.h5ad", "twice.h5ad"), "twice.h5ad: tile ids stand more than once. Received: t00"),
        (("a.h5ad", "b.h5ad", "b.npy"), "two changes have one name"),
        (("layers.zarr", "--layer", "jpg@3"), "did you mean 'jpeg@3'?"),
        (("a.npy", "b.npy", "--label", "diagnosis"), "the vectors come without columns"),
        (("a.h5ad", "b.h5ad", "--label", "diagnoses"), "there is no column 'diagnoses' to use as label"),
        (("a.h5ad", "b.h5ad", "--role", "mustreact"), "did you mean 'must-react'?"),
        (("a.h5ad", "b.h5ad", "--role", "bb=control"), "no change is called 'bb'"),
        (("a.h5ad", "b.h5ad", "--skip", "distance"), "did you mean 'distances'?"),
        (("a.h5ad", "b.h5ad", "--resamples", "3"), "--resamples: Input should be greater"),
        (("a.h5ad", "b.h5ad", "--policy", "strict"), "policy"),
        (("a.h5ad", "b.h5ad", "-e", "one", "-e", "two"), "two tables are of one encoder"),
        (("a.h5ad", "scan_b"), "a table is compared with a folder of tables"),
        (("scan_a", "b.h5ad"), "a folder of tables is compared with a table"),
        (("scan_a", "scan_d"), "there is no such folder"),
        (("scan_a", "scan_b", "-e", "three"), "no encoder is called 'three'"),
    ):
        assert message in fails(*words), words
    Path("scan_b/two.zarr").rename("scan_b/three.zarr")
    assert "there are no vectors of two. Received: scan_b" in fails("scan_a", "scan_b")
    Path("empty").mkdir()
    assert "there is no table in this folder" in fails("empty", "scan_b")


def test_an_output_that_is_there_is_kept(folder, monkeypatch, capsys):
    Path("audit").mkdir()
    Path("audit/mine.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["histolatent", "pairs", "a.npy", "b.npy", "--out", "audit"])
    with pytest.raises(SystemExit):
        main()
    assert "exists" in capsys.readouterr().err
