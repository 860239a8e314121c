"""`histolatent data`: list, fetch, verify."""

import hashlib
import http.server
import io
import json
import threading

import numpy as np
import pytest

from histolatent.images import open_tiles
from histolatent.images.published import catalogue, cohorts, find_cohort


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server that has PathMNIST, three tiles of it, at the path where it is published; and its address."""
    stream = io.BytesIO()
    arrays = {f"{split}_images": np.full((1, 28, 28, 3), 90, np.uint8) for split in ("train", "val", "test")}
    np.savez(stream, **arrays, **{name.replace("images", "labels"): np.zeros((1, 1), np.uint8) for name in arrays})
    file = tmp_path / "served" / "records/10519652/files/pathmnist.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(stream.getvalue())
    known = {cohort.name: cohort for cohort in cohorts()}
    published = known["pathmnist"].files[0]
    update = {"bytes": len(stream.getvalue()), "md5": hashlib.md5(stream.getvalue()).hexdigest()}
    known["pathmnist"] = known["pathmnist"].model_copy(update={"files": (published.model_copy(update=update),)})
    monkeypatch.setattr(catalogue, "_cohorts", lambda: known)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_list_says_size_licence_and_what_is_known(run):
    shown = run("data", "list").output
    for cohort in cohorts():
        assert cohort.name in shown and cohort.licence in shown
    assert "label, site, scanner, patient or slide" in shown
    assert "NC forbid commercial use" in shown


def test_one_cohort_with_all_that_is_known(run):
    shown = run("data", "list", "pcam").output
    cohort = find_cohort("pcam")
    for text in (cohort.what, cohort.home, cohort.misleads, "sites     none published", "6.4 GB (md5, sha256)"):
        assert text in shown
    assert "and 493 more" in run("data", "list", "midog-plus-plus").output
    assert "checksums.md5 lists them" in run("data", "list", "camelyon16").output


def test_the_list_as_json(run):
    (entry,) = json.loads(run("data", "list", "nct-crc", "--json").output)
    assert entry["files"][1]["md5"] == "2fd1651b4f94ebd818ebf90ad2b6ce06"
    assert len(json.loads(run("data", "list", "--json").output)) == len(cohorts())


def test_fetch_then_verify_then_tamper(run, mirror, tmp_path):
    out = tmp_path / "cohort"
    done = run("data", "fetch", "pathmnist", "--out", out, "--mirror", mirror, "--accept-licence", "--quiet")
    assert done.exit_code == 0
    assert "Licence: CC-BY-4.0." in done.output
    assert done.output.endswith(f"{out}: 3 rows in manifest.csv, 1 published files, card.json\n")
    assert len(open_tiles(out).table) == 3
    checked = run("data", "verify", out, "--quiet")
    assert (checked.exit_code, checked.output) == (0, f"{out}: pathmnist, 6 files, all as they came\n")
    next((out / "tiles").rglob("*.png")).unlink()
    (out / "manifest.csv").write_text("path\n")
    checked = run("data", "verify", out, "--quiet")
    assert checked.exit_code == 1
    assert "missing: tiles/pathmnist/" in checked.output and "changed: manifest.csv" in checked.output
    assert json.loads(run("data", "verify", out, "--quiet", "--json").output)["ok"] is False


def test_a_file_without_published_checksum_is_said(run, mirror, tmp_path, monkeypatch):
    known = catalogue._cohorts()
    bare = known["pathmnist"].files[0].model_copy(update={"md5": None})
    known["pathmnist"] = known["pathmnist"].model_copy(update={"files": (bare,)})
    done = run("data", "fetch", "pathmnist", "-o", tmp_path / "c", "--mirror", mirror, "--accept-licence", "--quiet")
    assert "no checksum is published: what came is recorded, and compared from then on" in done.output


def test_a_licence_is_a_question_on_a_terminal_and_an_option_elsewhere(fails, run, mirror, tmp_path, monkeypatch):
    code, line = fails("data", "fetch", "pathmnist", "--out", tmp_path / "cohort", "--mirror", mirror, "--quiet")
    assert code == 2
    assert "the licence of MedMNIST PathMNIST has not been accepted" in line and "--accept-licence" in line
    assert not (tmp_path / "cohort").exists()
    asked = []

    def confirm(text):
        asked.append(text)
        return True

    monkeypatch.setattr("histolatent.cli.data.on_terminal", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    assert run("data", "fetch", "pathmnist", "-o", tmp_path / "cohort", "--mirror", mirror, "--quiet").exit_code == 0
    assert asked == ["Do you accept it?"]


def test_errors_are_one_line_with_code_2(fails, tmp_path):
    code, line = fails("data", "fetch", "pathmist", "--out", tmp_path / "cohort", "--accept-licence")
    assert code == 2 and "did you mean 'pathmnist'" in line
    code, line = fails("data", "verify", tmp_path, "--quiet")
    assert code == 2 and "not a cohort that histolatent has fetched" in line


@pytest.mark.parametrize("words", [("data",), ("data", "list"), ("data", "fetch"), ("data", "verify")])
def test_help(run, words):
    shown = run(*words, "--help")
    assert shown.exit_code == 0
    assert "Usage" in shown.output
