"""The command line: every verb, every message that a user meets first."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histolatent.cli import demo
from histolatent.cli.console import cells_told, parse_columns
from histolatent.doctor import Diagnosis
from histolatent.errors import OptionError
from histolatent.images import open_tiles
from histolatent.images.phantom import PhantomSpec, write_phantom
from histolatent.provenance import version
from histolatent.report import read_result

STOPPED = (
    "stopped; given again, audit, benchmark, compact, data fetch, embed, explore train and stain normalize "
    "go on where they were"
)

VERBS = ("demo", "audit", "embed", "convert", "phantom", "encoders", "doctor")
TILES = "phantom:sites=2,patients=3,slides=1,tiles_per_site=6,tile_px=32"
QUICKLY = ("--resamples", "100", "--workers", "0", "--quiet")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example(run, verb):
    found = run(verb, "--help")
    assert found.exit_code == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", found.output)
    assert f"Example: histolatent {verb}" in text
    examples = re.findall(r"--[a-z-]+", text.partition("Example:")[2].splitlines()[0])
    assert set(examples) <= set(re.findall(r"--[a-z-]+", text.partition("Example:")[0]))


def test_the_first_help_names_every_verb(run):
    text = run("--help").output
    assert all(re.search(rf"\b{verb}\b", text) for verb in VERBS)
    assert "not a medical device" in text


def test_the_version(run):
    found = run("--version")
    assert (found.exit_code, found.output.strip()) == (0, version())


def test_embed_and_convert(run, tmp_path):
    out = tmp_path / "a [bold] name.zarr"
    found = run("embed", TILES, "-e", "toy:od-moments", "-o", out, "--workers", "0", "--quiet")
    assert found.exit_code == 0
    assert found.output == f"{out}: 12 tiles x 12 numbers\n"  # brackets are a name, not markup
    found = run("convert", out, tmp_path / "emb.npy")
    assert found.output == f"{tmp_path / 'emb.npy'}: 12 tiles x 12 numbers\n"
    assert np.load(tmp_path / "emb.npy").shape == (12, 12)


def test_embed_counts_what_it_skipped(run, tmp_path):
    run("phantom", "-o", tmp_path / "c", *PHANTOM, "--workers", "0", "--quiet")
    tile = next((tmp_path / "c").rglob("*.png"))
    tile.write_bytes(b"broken")
    words = ("embed", tmp_path / "c", "-e", "toy:constant", "-o", tmp_path / "e.npy", "--workers", "0", "--quiet")
    assert run(*words, "--on-error", "skip").output.endswith("7 tiles x 64 numbers, 1 skipped\n")


PHANTOM = ("--sites", "2", "--patients", "2", "--slides", "1", "--tiles-per-site", "4", "--tile-px", "32")


def test_phantom(run, tmp_path):
    out = tmp_path / "cohort"
    found = run("phantom", "-o", out, *PHANTOM, "--workers", "0", "--quiet")
    assert found.exit_code == 0
    assert found.output == f"{out}: 8 tiles, manifest.csv, truth.parquet, annotations.geojson\n"
    assert len(list(out.rglob("*.png"))) == 8


def test_encoders(run):
    text = run("encoders").output
    assert "toy:random-projection" in text
    entries = json.loads(run("encoders", "--json").output)
    assert {"name", "dim", "licence", "gated", "cached"} <= set(entries[0])


def test_audit(run, tmp_path):
    out = tmp_path / "audit"
    words = ("audit", TILES, "-e", "toy:od-moments", "-o", out, *QUICKLY)
    found = run(*words)
    assert found.exit_code == 0
    result = read_result(out)
    assert [(item.name, item.baseline) for item in result.encoders] == [
        ("toy:od-moments", False),
        ("toy:colour-histogram", True),
    ]
    lines = found.output.splitlines()
    assert lines[: len(result.findings)] == [f"{i}. {text}" for i, text in enumerate(result.findings, 1)]
    assert lines[-1] == f"report: {out / 'report.html'}"
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]
    assert run(*words, "--overwrite", "--no-baseline").exit_code == 0
    assert [item.name for item in read_result(out).encoders] == ["toy:od-moments"]


@pytest.mark.slow
def test_an_audit_compares_with_a_reference(run, tmp_path):
    out, other = tmp_path / "audit", "toy:random-conv?seed=1"
    assert run("audit", TILES, "-e", "toy:random-conv", "-o", out, *QUICKLY, "--reference", other).exit_code == 0
    mine, colour = ({answer.name: answer.status for answer in item.contract} for item in read_result(out).encoders)
    assert mine[f"as {other}"] == "FAIL"
    assert f"as {other}" not in colour


def test_audit_checks_contracts_alone(run, fails):
    found = run("audit", TILES, "-e", "toy:random-conv", "--check-contract", "--reference", "toy:random-conv")
    assert found.exit_code == 0
    assert "rows come back in order" in found.output
    assert "gives the vectors of toy:random-conv" in found.output
    found = run("audit", TILES, "-e", "toy:random-conv", "-e", "toy:constant", "--check-contract")
    assert found.exit_code == 1
    assert "different tiles have the same vector" in found.output and "1 fault" in found.output
    assert fails("audit", TILES, "-e", "toy:constant")[1].endswith("Fix: --out audit/")


def test_audit_keeps_embeddings_where_asked(run, tmp_path):
    out = tmp_path / "audit"
    run("audit", TILES, "-e", "toy:constant", "-o", out, *QUICKLY, "--no-baseline", "--keep-embeddings")
    assert [path.name for path in (out / "embeddings").iterdir()] == ["toy_constant.zarr"]


def test_the_users_words_for_columns_reach_the_report(run, tmp_path):
    run("phantom", "-o", tmp_path / "c", *PHANTOM, "--tiles-per-site", "6", "--workers", "0", "--quiet")
    words = ("--label", "tumour", "--site", "scanner", "--group", "slide", "--no-baseline")
    found = run("audit", tmp_path / "c", "-e", "toy:constant", "-o", tmp_path / "a", *QUICKLY, *words)
    assert found.exit_code == 0
    result = read_result(tmp_path / "a")
    assert [probe.title for probe in result.encoders[0].probes][:2] == ["tumour", "scanner"]
    assert result.plan["columns"] == {"label": "tumour", "site": "scanner", "patient": "slide"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["embed", TILES, "-e", "toy:od-moment", "-o", "OUT.npy"],
            r"called 'od-moment'.*'od-moments'\?",
        ),
        (["audit", TILES, "-e", "toy:constnat", "-o", "OUT"], r"did you mean 'constant'\?"),
        (
            ["audit", TILES, "-e", "toy:constant", "-o", "OUT", "--suite", "quik"],
            r"suite is called 'quik'.*'quick'\?",
        ),
        (["audit", TILES, "-e", "toy:constant", "-o", "OUT", "--column", "label"], r"KNOWN=YOURS. Received: label"),
        (["audit", TILES, "-e", "toy:constant", "-o", "OUT", "--max-tiles", "5"], r"--max-tiles: .*10. Received: 5"),
        (["audit", TILES, "-e", "toy:constant", "-o", "OUT", "--on-error", "go"], r"--on-error: .*'stop' or 'skip'"),
        (["audit", "nowhere", "-e", "toy:constant", "-o", "OUT"], r"there is nothing at this path. Received: nowhere"),
        (["audit", "phantom:site=2", "-e", "toy:constant", "-o", "OUT"], r"did you mean 'sites'\?"),
        (["phantom", "-o", "OUT", "--tile-px", "8"], r"tile_px is out of bounds. Received: 8"),
        (["convert", "nowhere.zarr", "OUT.h5ad"], r"no embedding table at this path"),
    ],
)
def test_errors_are_one_line_and_code_two(fails, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code, line = fails(*words)
    assert code == 2
    assert line.startswith("error: ")
    assert re.search(says, line), line
    assert not list(tmp_path.iterdir())


def test_a_missing_column_is_said_with_those_there_are(fails, run, tmp_path):
    run("phantom", "-o", tmp_path / "c", *PHANTOM, "--workers", "0", "--quiet")
    code, line = fails("audit", tmp_path / "c", "-e", "toy:constant", "-o", tmp_path / "a", "--label", "diagnose")
    assert code == 2
    assert "there is no column 'diagnose' to use as label. Valid: " in line
    assert "diagnosis" in line
    code, line = fails(
        "embed", tmp_path / "c", "-e", "toy:constant", "-o", tmp_path / "e.npy", "--column", "lable=site"
    )
    assert "did you mean 'label'?" in line


def test_an_output_that_exists_is_kept(fails, tmp_path):
    (tmp_path / "e.npy").write_text("mine")
    code, line = fails("embed", TILES, "-e", "toy:constant", "-o", tmp_path / "e.npy")
    assert code == 2
    assert "exists already" in line
    assert "--overwrite" in line
    code, line = fails("audit", TILES, "-e", "toy:constant", "-o", tmp_path / "e.npy")
    assert code == 2
    assert "was not written by this command" in line
    assert (tmp_path / "e.npy").read_text() == "mine"


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_what_is_no_work_of_a_command_is_kept(fails, tmp_path, more):
    for name in ("cohort", "e.npy", "e.zarr", "e.csv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.png").write_text("mine")
    np.save(tmp_path / "table.npy", np.zeros((2, 3), np.float32))
    for words in (
        ("phantom", *PHANTOM, "--out", tmp_path / "cohort"),
        ("embed", TILES, "-e", "toy:constant", "--out", tmp_path / "e.npy"),
        ("embed", TILES, "-e", "toy:constant", "--out", tmp_path / "e.zarr"),
        ("convert", tmp_path / "table.npy", tmp_path / "e.csv"),
        ("convert", tmp_path / "table.npy", tmp_path / "e.zarr"),
    ):
        code, line = fails(*words, *more)
        assert code == 2
        assert "not replaced" in line
        assert "--overwrite" not in line
    assert len(list(tmp_path.rglob("mine.png"))) == 4


def test_what_is_read_is_never_the_output(fails, run, tmp_path):
    cohort = tmp_path / "c"
    run("phantom", "-o", cohort, *PHANTOM, "--workers", "0", "--quiet")
    np.save(tmp_path / "tiles.npy", np.zeros((2, 32, 32, 3), np.uint8))
    np.save(tmp_path / "table.npy", np.zeros((2, 3), np.float32))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for words in (
        ("embed", cohort / "manifest.csv", "-e", "toy:constant", "--out", cohort / "manifest.csv"),
        ("embed", tmp_path / "tiles.npy", "-e", "toy:constant", "--out", tmp_path / "tiles.npy"),
        ("convert", tmp_path / "table.npy", tmp_path / "table.npy"),
        ("audit", cohort, "-e", "toy:constant", "--out", cohort),
    ):
        code, line = fails(*words, "--overwrite")
        assert code == 2
        assert re.search("the output is what is read|what is read lies in the output", line)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_folder_that_is_no_audit_is_kept_even_with_overwrite(fails, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    code, line = fails("audit", TILES, "-e", "toy:constant", "-o", tmp_path / "thesis", "--overwrite")
    assert code == 2
    assert "was not written by this command, so it is not replaced" in line
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "mine"


def test_columns_are_pairs():
    assert parse_columns(["label=a=b", "site=c"]) == {"label": "a=b", "site": "c"}
    assert parse_columns(None) == {}
    for wrong in ("label", "=x", "label=", ""):
        with pytest.raises(OptionError, match="a column is named as KNOWN=YOURS"):
            parse_columns([wrong])


def test_doctor_passes_on_what_it_finds(run, monkeypatch):
    from histolatent import doctor

    found = [Diagnosis("extra [ray]", "WARN", "not installed: [ray]", "pip install 'histolatent[ray]'")]
    monkeypatch.setattr(doctor, "diagnose", lambda folder: found)
    shown = run("doctor")
    assert shown.exit_code == 0
    for text in ("WARN", "extra [ray]", "not installed: [ray]", "pip install 'histolatent[ray]'"):
        assert text in shown.output
    found.append(Diagnosis("disk", "FAIL", "full", "free some"))
    assert run("doctor").exit_code == 1


def test_ctrl_c_is_130_and_says_how_to_go_on(fails, monkeypatch):
    from histolatent import doctor

    def stopped(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "diagnose", stopped)
    code, line = fails("doctor")
    assert code == 130
    assert line == STOPPED


@pytest.mark.slow
def test_demo_end_to_end(run, monkeypatch, tmp_path):
    pytest.importorskip("lightning_fabric")
    monkeypatch.setattr(demo, "TILES", 24)
    monkeypatch.setattr(demo, "AUDITED", 4)
    monkeypatch.setattr("histolatent.compact.guards.fatal", lambda findings: False)  # of so short a training
    training = {"training.steps": 24, "training.batch_size": 8, "training.check_every": 24}
    changes = {**training, "projector": 16, "tile_px": 32}
    monkeypatch.setattr(demo, "CHANGES", changes)
    out = tmp_path / "demo"
    older = PhantomSpec(sites=1, patients=2, slides=1, tiles_per_site=4, tile_px=64)
    write_phantom(older, out / "cohort")  # what an older demo left is replaced
    found = run("demo", "-o", out, "--workers", "0", "--quiet")
    assert found.exit_code == 0, found.output
    assert "not what is good" in found.output
    assert re.search(r"untrained +label at the source 0\.\d\d, at 4 unseen sites 0\.\d\d", found.output)
    assert len(read_result(out / "audit").encoders) == 3
    assert (out / "audit" / "report.html").exists() and (out / "lmc" / "training.html").exists()
    assert sorted(path.name for path in out.iterdir()) == ["audit", "cohort", "lmc", "untrained"]
    assert len(open_tiles(out / "cohort").table) == 5 * 24


@pytest.mark.parametrize("file", ["mine.txt", "cohort/manifest.csv"])
def test_demo_refuses_a_folder_that_is_no_demo(fails, tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine")
    code, line = fails("demo", "--out", tmp_path)
    assert code == 2
    assert "was not written by this command" in line
    assert "--overwrite" not in line  # demo has no such option
    assert (tmp_path / file).read_text() == "mine"


INTERRUPTED = '''
import os, signal
import numpy as np

calls = []

def means(tiles):
    """Interrupt the run at the fifth batch, unless told otherwise."""
    calls.append(1)
    if len(calls) == 5 and "GO_ON" not in os.environ:
        os.kill(os.getpid(), signal.SIGINT)
    return tiles.reshape(len(tiles), -1, 3).mean(axis=1).astype(np.float32)
'''


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_stopped_audit_goes_on_in_a_new_process(tmp_path):
    """A real Ctrl-C in a real process: 130, one line, no report; given again it ends, as if it never stopped."""
    (tmp_path / "enc.py").write_text(INTERRUPTED)
    command = [sys.executable, "-m", "histolatent", "audit", TILES, "-e", "callable:enc.py:means", *QUICKLY]
    command.append("--no-baseline")

    def give(out: str, **more: str) -> subprocess.CompletedProcess[str]:
        signal_default = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
        return subprocess.run(
            [*command, "-o", out],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **more},
            capture_output=True,
            text=True,
            check=False,
            **signal_default,
        )

    stopped = give("a")
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.strip() == STOPPED
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "a.unfinished").exists()
    assert give("a", GO_ON="1").returncode == 0
    assert give("b", GO_ON="1").returncode == 0
    first, second = (read_result(tmp_path / name).to_dict() for name in "ab")
    assert {**first, "created": None} == {**second, "created": None}
    assert not (tmp_path / "a.unfinished").exists()


def test_an_error_in_a_real_process_has_no_traceback(tmp_path):
    command = [sys.executable, "-m", "histolatent", "embed", TILES, "-e", "toy:constnat", "-o", str(tmp_path / "e.npy")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("error: no toy encoder is called 'constnat'")
    assert len(found.stderr.strip().splitlines()) == 1
    assert not Path(tmp_path / "e.npy").exists()


@pytest.fixture
def large_images(tmp_path):
    """Two images of 100 x 130 px, in folders of their classes."""
    random = np.random.default_rng(0)
    for name in ("a/one.png", "b/two.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(random.integers(90, 200, (100, 130, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def test_larger_images_are_cut(run, large_images, tmp_path):
    out = tmp_path / "e.csv"
    done = run("embed", large_images, "--encoder", "toy:od-moments", "--out", out, "--tile-px", 32, "--workers", 0)
    assert done.exit_code == 0, done.output
    assert "24 tiles" in done.stdout
    assert "a/one_x96_y64" in out.read_text()


def test_cutting_is_asked_for_as_a_whole(fails, large_images, tmp_path):
    words = ("embed", large_images, "--encoder", "toy:od-moments", "--out", tmp_path / "e.csv", "--quiet")
    for option, value in (("--tile-mpp", 0.5), ("--tissue", 0.5)):
        code, said = fails(*words, option, value)
        assert code == 2 and f"Fix: {option} with --tile-px" in said
    code, said = fails(*words, "--tile-px", 8)
    assert code == 2 and "16 to 8192 px" in said
    code, said = fails(*words, "--tile-px", 64, "--tile-mpp", 0.5)
    assert code == 2 and "um per pixel is not known" in said


def test_the_time_left_is_of_cells_that_were_made_just_now(monkeypatch, capsys):
    clock = iter([0.0, 120.0])
    monkeypatch.setattr("histolatent.cli.console.time.monotonic", lambda: next(clock))
    told = cells_told("now", quiet=False)
    told("macenko, seed 0", 3, 6)  # three were kept
    told("linear, seed 0", 4, 6)
    told("done", 6, 6)
    assert capsys.readouterr().err.splitlines() == [
        "3 of 6 done; now: macenko, seed 0",
        "4 of 6 done; now: linear, seed 0; about 4 minutes left",
        "6 of 6 done",
    ]
