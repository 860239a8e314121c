"""`histolatent stain`: the four verbs, and every message that a user meets first."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from histolatent.cli.stain import parse_vectors, parse_white
from histolatent.errors import OptionError
from histolatent.images import decode, open_tiles
from histolatent.images.phantom import PhantomSpec, write_phantom
from histolatent.stain import read_book

VERBS = ("fit", "normalize", "show", "check")
TILES = "phantom:sites=2,patients=2,slides=1,tiles_per_site=4,tile_px=64"
QUIETLY = ("--workers", "0", "--quiet")


@pytest.fixture
def run(run):
    """Run `histolatent stain`."""
    return lambda *words: run("stain", *words)


@pytest.fixture
def fails(fails):
    """Fail `histolatent stain`."""
    return lambda *words: fails("stain", *words)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Five slides of two tiles each."""
    spec = PhantomSpec(sites=1, patients=5, slides=1, tiles_per_site=10, tile_px=64)
    return write_phantom(spec, tmp_path_factory.mktemp("cli") / "cohort")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example(run, verb):
    found = run(verb, "--help")
    assert found.exit_code == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", found.output)
    assert f"Example: histolatent stain {verb}" in text
    examples = re.findall(r"--[a-z-]+", text.partition("Example:")[2].splitlines()[0])
    assert set(examples) <= set(re.findall(r"--[a-z-]+", text.partition("Example:")[0]))


def test_the_help_of_the_group_names_every_verb(run):
    text = run("--help").output
    assert all(re.search(rf"\b{verb}\b", text) for verb in VERBS)


def test_fit_then_check_then_normalize(run, cohort, tmp_path):
    stain, out = tmp_path / "a [bold] stain.json", tmp_path / "out"
    found = run("fit", cohort, "-o", stain, *QUIETLY)
    assert (found.exit_code, found.output) == (0, f"{stain}: 5 slides, 5 usable\n")
    assert len(read_book(stain).slides) == 5
    found = run("check", stain, "-o", tmp_path / "check.csv")
    assert found.exit_code == 0
    assert "staining of cohort/manifest.csv, worst first" in found.output
    table = pd.read_csv(tmp_path / "check.csv")
    assert len(table) == 5
    found = run("normalize", cohort, "--to", "phantom", "--background", "map", "--stain", stain, "-o", out, *QUIETLY)
    assert (found.exit_code, found.output) == (0, f"{out}: 10 tiles in the look of phantom (macenko)\n")
    assert len(open_tiles(out).table) == 10
    assert (out / "stain.json").read_bytes() == stain.read_bytes()


def test_check_of_tiles_says_what_to_do(run, cohort, tmp_path):
    blank = tmp_path / "c"
    frame = pd.read_csv(cohort / "manifest.csv")
    for path in frame["path"]:
        (blank / path).parent.mkdir(parents=True, exist_ok=True)
        (blank / path).write_bytes((cohort / path).read_bytes())
    frame.to_csv(blank / "manifest.csv", index=False)
    for path in frame["path"][:2]:
        Image.new("RGB", (64, 64), (243, 243, 243)).save(blank / path)
    found = run("check", blank, "-o", tmp_path / "c.json", *QUIETLY)
    assert found.exit_code == 0
    assert "too-little-tissue: fewer than 100 pixels of stained tissue" in found.output
    assert "1 too-little-tissue: choose tiles with more tissue" in found.output
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["slides"][0]["reason"] == "too-little-tissue"
    found = run("normalize", blank, "--to", "phantom", "-o", tmp_path / "o", *QUIETLY)
    assert ", but for 2 left as they were (2 too-little-tissue): see stain_reason in manifest.csv" in found.output
    assert f"unchanged: {document['slides'][0]['slide']}: fewer than 100 pixels" in found.output
    found = run("fit", blank, "-o", tmp_path / "s.json", *QUIETLY)
    assert found.output.endswith("s.json: 5 slides, 4 usable\n")


def test_without_slides_it_is_said(run, cohort, tmp_path):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "a.png").write_bytes(next(cohort.rglob("*.png")).read_bytes())
    found = run("fit", tmp_path / "tiles", "-o", tmp_path / "s.json", *QUIETLY)
    assert "note: the tiles have no column 'slide': one fit over all of them" in found.output
    assert found.output.endswith("s.json: one fit over all tiles, 1 usable\n")
    assert "all tiles" in run("check", tmp_path / "tiles", *QUIETLY).output


def test_skipped_tiles_are_counted(run, cohort, tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    for number, path in enumerate(sorted(cohort.rglob("*.png"))[:4]):
        (folder / f"{number}.png").write_bytes(path.read_bytes() if number else b"broken")
    words = (*QUIETLY, "--on-error", "skip")
    assert run("fit", folder, "-o", tmp_path / "s.json", *words).output.endswith(", 1 tiles skipped\n")
    assert run("normalize", folder, "--to", "macenko", "-o", tmp_path / "o", *words).output.endswith(", 1 skipped\n")
    assert "1 tiles could not be read" in run("check", folder, *words).output


def test_by_tile_says_what_it_costs(run, tmp_path):
    found = run("normalize", TILES, "--to", "phantom", "--by", "tile", "-o", tmp_path / "o", *QUIETLY)
    assert found.output.count("note: every tile is fitted by itself") == 1


def test_show(run, cohort, tmp_path):
    tile = next(cohort.rglob("*.png"))
    found = run("show", tile, "-o", tmp_path / "a.png")
    assert found.output.splitlines()[1] == f"{tmp_path / 'a.png'}: by the fit of this tile alone"
    assert found.output.startswith(f"{tile.name}: usable: hematoxylin ")
    assert decode(tmp_path / "a.png").shape == (900, 1400, 3)
    run("fit", cohort, "-o", tmp_path / "s.json", *QUIETLY)
    source = open_tiles(cohort)
    words = ("--tile", source.table.index[3], "--stain", tmp_path / "s.json")
    found = run("show", cohort, *words, "-o", tmp_path / "b.png")
    slide = source.table["slide"].iloc[3]
    assert found.output.endswith(f"b.png: by the fit of slide {slide}\n")
    found = run("show", tile, "--stain", tmp_path / "s.json", "--slide", slide, "-o", tmp_path / "b.png", "--overwrite")
    assert found.exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit", "nowhere", "-o", "s.json"], "there is nothing at this path. Received: nowhere"),
        (["fit", TILES, "-o", "s.json", "--method", "macenk"], r"called 'macenk'.*did you mean 'macenko'\?"),
        (["fit", TILES, "-o", "s.json", "--by", "patiant"], r"called 'patiant'.*did you mean 'patient'\?"),
        (["fit", TILES, "-o", "s.json", "--white", "white"], "--white takes numbers.*Received: white"),
        (["fit", TILES, "-o", "s.json", "--white", "999"], r"white is not one or three levels. Received: 999"),
        (["fit", TILES, "-o", "s.json", "--vector", "1,0,0"], "macenko finds its own vectors"),
        (["fit", TILES, "-o", "s.json", "--method", "fixed", "--vector", "1,0,0"], "two or three finite rows"),
        (["normalize", TILES, "--to", "phantm", "-o", "o"], r"no such reference.*did you mean 'phantom'\?"),
        (["normalize", TILES, "--to", "none.json", "-o", "o"], "stain file not found"),
        (["normalize", TILES, "--to", "phantom", "-o", "o", "--background", "x"], "Valid: keep, map"),
        (["normalize", TILES, "--to", "phantom", "-o", "o", "--on-error", "go"], "Valid: stop, skip"),
        (["check", TILES, "--out", "c.xls"], r"Valid: \.csv, \.json"),
        (["check", TILES, "--method", "reinhard"], "a check looks at stains"),
        (["show", TILES, "-o", "a.png"], "holds 8 tiles. Received: no --tile"),
        (["show", TILES, "-o", "a.jpg", "--tile", "x"], "the picture is a PNG"),
        (["show", "none.png", "-o", "a.png"], "image file not found"),
    ],
)
def test_errors_are_one_line_and_code_two(fails, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code, line = fails(*words, *(() if words[0] == "show" else QUIETLY))
    assert code == 2
    assert line.startswith("error: ")
    assert re.search(says, line), line
    assert not list(tmp_path.iterdir())


def test_a_damaged_stain_file_names_its_field(run, fails, tmp_path):
    stain = tmp_path / "s.json"
    run("fit", TILES, "-o", stain, *QUIETLY)
    document = json.loads(stain.read_text())
    next(iter(document["slides"].values()))["max_concentrations"] = [1.0, -2.0]
    stain.write_text(json.dumps(document))
    for words in (("check", stain), ("normalize", TILES, "--to", stain, "-o", tmp_path / "o", *QUIETLY)):
        code, line = fails(*words)
        assert code == 2
        assert re.search(r"stain file: field slides\..*\.max_concentrations\.1: .*greater than or equal", line)


def test_outputs_that_exist_are_kept(fails, tmp_path):
    for name in ("s.json", "c.csv", "a.png"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "x").write_text("mine")
    for words in (
        ("fit", TILES, "-o", tmp_path / "s.json"),
        ("check", TILES, "-o", tmp_path / "c.csv"),
        ("show", TILES, "--tile", "x", "-o", tmp_path / "a.png"),
        ("normalize", TILES, "--to", "phantom", "-o", tmp_path / "o"),
    ):
        code, line = fails(*words)
        assert code == 2
        foreign = words[0] == "normalize"  # a folder that it did not write is not replaced with --overwrite either
        assert ("was not written by this command" if foreign else "exists already") in line
        assert ("--overwrite" in line) != foreign


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("fit", TILES), "victim"),
        (("fit", TILES), "empty"),
        (("check", TILES), "victim.csv"),
        (("show", TILES, "--tile", "x"), "victim.png"),
        (("normalize", TILES, "--to", "phantom"), "victim"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_folder_of_tiles_is_never_replaced(fails, cohort, tmp_path, words, name, more):
    victim = tmp_path / name
    victim.mkdir()
    if name != "empty":
        (victim / "a.png").write_bytes(next(cohort.rglob("*.png")).read_bytes())
    before = sorted(tmp_path.rglob("*"))
    code, line = fails(*words, "-o", victim, *more)
    assert code == 2
    assert re.search("a folder is there, which is not replaced|was not written by this command", line)
    assert "--overwrite" not in line
    assert sorted(tmp_path.rglob("*")) == before


def test_the_input_is_never_the_output(fails, run, cohort, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, path in enumerate(sorted(cohort.rglob("*.png"))[:2]):
        (folder / f"{number}.png").write_bytes(path.read_bytes())
    (folder / "tiles.csv").write_text("path,slide\n0.png,a\n1.png,b\n")
    (folder / "manifest.csv").write_text("path,slide\n0.png,a\n1.png,b\n")
    (folder / "link.csv").symlink_to("tiles.csv")
    run("fit", folder, "-o", tmp_path / "s.json", *QUIETLY)
    manifest, tile = folder / "tiles.csv", folder / "0.png"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for words in (
        ("fit", manifest, "-o", manifest),
        ("fit", manifest, "-o", folder / "link.csv"),
        ("fit", folder, "-o", folder / "manifest.csv"),
        ("fit", folder, "-o", tile),
        ("check", manifest, "-o", manifest),
        ("check", tmp_path / "s.json", "-o", tmp_path / "s.json"),
        ("show", tile, "-o", tile),
        ("show", folder, "--tile", "1.png", "-o", tile),
    ):
        code, line = fails(*words, "--overwrite")
        assert code == 2
        assert "the output is what is read" in line, words
        assert "--overwrite" not in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_stain_file_and_options_of_a_fit_contradict(fails, run, cohort, tmp_path):
    stain, tile = tmp_path / "s.json", next(cohort.rglob("*.png"))
    run("fit", cohort, "-o", stain, *QUIETLY)
    normalize = ("normalize", cohort, "--to", "phantom", "--stain", stain, "-o", tmp_path / "o", *QUIETLY)
    show = ("show", tile, "--stain", stain, "-o", tmp_path / "a.png")
    check = ("check", stain, "-o", tmp_path / "c.csv")
    for words, option, value in (
        (normalize, "--white", "200"),
        (normalize, "--stains", "H&E"),
        (normalize, "--vector", "1,0,0"),
        (show, "--method", "vahadane"),
        (show, "--white", "200"),
        (show, "--stains", "H-DAB"),
        (check, "--method", "vahadane"),
        (check, "--stains", "H-DAB"),
        (check, "--white", "200"),
        (check, "--by", "all"),
        (check, "--max-tiles", "3"),
    ):
        code, line = fails(*words, option, value)
        assert code == 2
        assert f"the stain file holds fits already, so none is made. Received: {option}. Fix: drop {option}, or" in line
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


def test_a_check_does_not_contradict_itself(run, tmp_path):
    """Tiles of eight laboratories under one fit: it is usable, and there is something to do."""
    mixed = "phantom:sites=8,patients=1,slides=1,tiles_per_site=2,tile_px=64"
    found = run("check", mixed, "--by", "all", *QUIETLY)
    assert "one fit does not suit them" in found.output
    assert "nothing to do" not in found.output
    assert "the tiles have no one staining: name what belongs together with --by" in found.output


def test_numbers_of_options():
    assert parse_white(None) is None
    assert parse_white("240") == 240
    assert parse_white("240, 241,239.5") == (240, 241, 239.5)
    assert parse_vectors(None) is None
    assert parse_vectors(["1,0,0", "0,1,0"]) == [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(OptionError, match=r"--vector takes numbers.*Received: 1;2;3"):
        parse_vectors(["1;2;3"])


STOPPING = """
import os, signal, sys
from histolatent.restain import jobs
original, calls = jobs.recolour, []
def recolour(*words, **options):
    calls.append(1)
    if len(calls) == 4 and "GO_ON" not in os.environ:
        os.kill(os.getpid(), signal.SIGINT)
    return original(*words, **options)
jobs.recolour = recolour
from histolatent.cli import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_stopped_run_goes_on_in_a_new_process(tmp_path):
    """A real Ctrl-C in a real process: 130, no output; given again it ends."""
    command = ["stain", "normalize", TILES, "--to", "phantom", "-o", str(tmp_path / "o"), *QUIETLY]

    def give(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", STOPPING, *command],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    stopped = give()
    assert stopped.returncode == 130, stopped.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["o.unfinished"]
    ended = give(GO_ON="1")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(f"{tmp_path / 'o'}: 8 tiles in the look of phantom (macenko)\n")
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def processes_of(group: int) -> dict[int, str]:
    """Return the processes of a session with their command lines, those that have ended left out."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == group and fields[0] != "Z":
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has just ended
            continue
    return found


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("verb", ["normalize", "phantom"])
def test_workers_end_with_their_parent(tmp_path, verb, kill):
    """Asked to end, or killed outright: no worker lives on, and what was done is kept."""
    many = "phantom:sites=1,patients=1,slides=1,tiles_per_site=4000,tile_px=64"
    commands = {
        "normalize": ["stain", "normalize", many, "--by", "tile", "--to", "phantom"],
        "phantom": ["phantom", "--sites", "1", "--patients", "1", "--slides", "1", "--tiles-per-site", "20000"],
    }
    words = [*commands[verb], "-o", str(tmp_path / "o"), "--workers", "2", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "histolatent", *words],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert wait_until(lambda: any(tmp_path.rglob("*.png")), 120)
        workers = [number for number, line in processes_of(process.pid).items() if "popen_loky" in line]
        assert len(workers) == 2
        process.send_signal(kill)
        said = process.communicate(timeout=60)[1]
        assert wait_until(lambda: not processes_of(process.pid), 20), processes_of(process.pid)
    finally:
        for number in processes_of(process.pid):
            os.kill(number, signal.SIGKILL)
    if kill == signal.SIGTERM:
        assert process.returncode == 143, said
        assert "go on where they were" in said
        assert "Traceback" not in said
        left = ["o.unfinished"] if verb == "normalize" else []
        assert [path.name for path in tmp_path.iterdir()] == left


@pytest.mark.data
def test_a_real_manifest(run, data, tmp_path):
    found = run("check", data / "osteosarcoma" / "manifest.csv", "--max-tiles", "1", *QUIETLY)
    assert found.exit_code == 0
    assert "Case-3-A15" in found.output
