"""`histolatent perturb`: the sheet, the list, and what each refuses; suite files and plug-ins as a user meets them."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.perturb import OPERATIONS, SUITES

TILES = "phantom:sites=2,patients=2,slides=1,tiles_per_site=8,tile_px=64"


@pytest.fixture(scope="module")
def tile(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tile") / "a [bold] tile.png"
    Image.fromarray(PhantomTiles(PhantomSpec(sites=1, tiles_per_site=4)).read(1)).save(path)
    return path


def test_what_is_read_is_never_the_output(fails, tile, tmp_path):
    before = tile.read_bytes()
    (tmp_path / "donor.png").write_bytes(before)
    for words, out in (((tile,), tile), ((tile, "--donor", tmp_path / "donor.png"), tmp_path / "donor.png")):
        code, line = fails("perturb", "show", *words, "--out", out, "--overwrite")
        assert code == 2
        assert "the output is what is read" in line
        assert out.read_bytes() == before
    (tmp_path / "folder.png").mkdir()
    code, line = fails("perturb", "show", tile, "--out", tmp_path / "folder.png", "--overwrite")
    assert (code, "a folder is there, which is not replaced" in line) == (2, True)


@pytest.fixture
def suite_file(tmp_path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text("operations = ['jpeg', 'nuclei-erased', 'flip']\n[levels]\njpeg = [90, 80, 70, 60, 55]\n")
    return path


@pytest.mark.parametrize("verb", ["show", "list"])
def test_every_verb_shows_an_example(run, verb):
    found = run("perturb", verb, "--help")
    assert found.exit_code == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", found.output)
    assert f"Example: histolatent perturb {verb}" in text
    examples = re.findall(r"--[a-z-]+", text.partition("Example:")[2].splitlines()[0])
    assert examples and set(examples) <= set(re.findall(r"--[a-z-]+", text.partition("Example:")[0]))


def test_show_writes_a_sheet_of_the_suite(run, tile, tmp_path):
    out = tmp_path / "sheet [1].png"
    found = run("perturb", "show", tile, "--suite", "quick", "--out", out, "--mpp", "0.5")
    assert found.output.strip() == f"{out}: a [bold] tile.png under 9 operations"
    with Image.open(out) as image:
        assert image.format == "PNG" and image.size[0] == 1280
    longer = tmp_path / "longer.png"
    run("perturb", "show", tile, "--suite", "geometry", "--out", longer)
    with Image.open(out) as short, Image.open(longer) as long:
        assert long.size[1] > short.size[1]


def test_show_is_the_same_for_the_same_seed_and_not_for_another(run, tile, tmp_path):
    names = ["--operation", "rotation", "--operation", "noise"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        found = run("perturb", "show", tile, *names, "--seed", seed, "--out", tmp_path / f"{name}.png")
        assert found.output.endswith("under 2 operations\n")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_show_takes_a_tile_of_a_set_a_file_of_a_suite_and_donors(run, tile, suite_file, tmp_path):
    words = ("--tile", "source/p01/s1/t001", "--suite", suite_file, "--out", tmp_path / "a.png")
    assert run("perturb", "show", TILES, *words).output.endswith("source/p01/s1/t001 under 3 operations\n")
    swap = ("perturb", "show", tile, "--operation", "tissue-swap")
    run(*swap, "--out", tmp_path / "drawn.png")
    run(*swap, "--donor", tile, "--out", tmp_path / "given.png")
    assert (tmp_path / "drawn.png").read_bytes() != (tmp_path / "given.png").read_bytes()


def test_list_names_every_operation_with_family_role_levels_and_what_misleads(run):
    text = run("perturb", "list").output
    for name, operation in OPERATIONS.items():
        assert name in text and operation.family in text and operation.role in text
        assert operation.describes in text
        assert f"Misleads: {operation.misleads}" in text or not operation.misleads
    assert "Gaussian sigma: 0.25, 0.5, 0.75, 1, 1.5 um" in text
    assert "mirror: five variants" in text
    assert all(f"{name} ({len(names)})" in text for name, names in SUITES.items())


def test_list_of_a_suite_and_as_json(run, suite_file):
    text = run("perturb", "list", "--suite", suite_file).output
    assert "quality: 90, 80, 70, 60, 55" in text and "rotation" not in text
    document = json.loads(run("perturb", "list", "--suite", "quick", "--json").output)
    assert [item["name"] for item in document] == list(SUITES["quick"])
    assert document[0]["unit"] == "degrees" and document[0]["limits"] == [0.1, 180.0]


def test_list_fits_a_narrow_terminal(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("perturb", "list").output.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert any("rotation-there-and-back" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--suite", "quik"], r"no suite is called 'quik'.*did you mean 'quick'\?"),
        (["show", "TILE", "--out", "a.jpg"], r"the picture is a PNG. Received: a.jpg. Fix: --out sheet.png"),
        (["show", "TILE", "--out", "OUT", "--operation", "blurr"], r"no perturbation is called 'blurr'.*'blur'\?"),
        (["show", "TILE", "--out", "OUT", "--operation", "blur", "--suite", "SUITE"], r"'blur' is not in the suite"),
        (["show", "TILE", "--out", "OUT", "--mpp", "0"], r"mpp is not a finite number above 0"),
        (["show", "TILE", "--out", "OUT", "--suite", "none.toml"], r"the suite file cannot be read: No such file"),
        (["show", "TILE", "--out", "OUT", "--donor", "none.png"], r"none.png"),
        (["show", TILES, "--out", "OUT"], r"holds 16 tiles. Received: no --tile"),
        (["show", "none.png", "--out", "OUT"], r"none.png"),
    ],
)
def test_what_is_wrong_is_one_line(fails, tile, suite_file, tmp_path, words, said):
    places = {"TILE": tile, "OUT": tmp_path / "out.png", "SUITE": suite_file}
    code, line = fails("perturb", *(places.get(word, word) for word in words))
    assert code == 2
    assert re.search(said, line), line
    assert not (tmp_path / "out.png").exists()


def test_an_output_is_not_overwritten_unasked(fails, run, tile, tmp_path):
    out = tmp_path / "sheet.png"
    out.write_text("mine")
    words = ("perturb", "show", tile, "--operation", "flip", "--out", out)
    code, _ = fails(*words)
    assert code == 2 and out.read_text() == "mine"
    assert run(*words, "--overwrite").exit_code == 0
    assert Image.open(io.BytesIO(out.read_bytes())).format == "PNG"


def test_an_audit_takes_a_suite_file_and_keeps_its_levels(run, suite_file, tmp_path):
    words = ("audit", TILES, "-e", "toy:colour-histogram", "--suite", suite_file, "--resamples", "100")
    found = run(*words, "--workers", "0", "--quiet", "--no-baseline", "-o", tmp_path / "out")
    assert found.exit_code == 0
    document = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert document["plan"]["suite"] == str(suite_file)
    assert document["plan"]["operations"]["jpeg"] == [90, 80, 70, 60, 55]
    jpeg = document["operations"][0]
    assert (jpeg["name"], [step["level"] for step in jpeg["steps"]]) == ("jpeg", [90, 80, 70, 60, 55])
    assert "90" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_an_audit_swaps_tissue_between_tiles_of_the_cohort(run, tmp_path):
    suite = tmp_path / "swap.toml"
    suite.write_text("operations = ['tissue-swap', 'flip']")
    words = ("audit", TILES, "-e", "toy:colour-histogram", "--suite", suite, "--resamples", "100", "--quiet")
    for name in ("a", "b"):
        out = ("--no-baseline", "-o", tmp_path / name, "--workers", "0")
        assert run(*words, *out).exit_code == 0
    documents = [json.loads((tmp_path / name / "audit.json").read_text()) for name in ("a", "b")]
    hashes = [[step["pixels_sha256"] for step in item["operations"][0]["steps"]] for item in documents]
    assert hashes[0] == hashes[1] and len(set(hashes[0])) == 5


def test_plug_ins_are_listed_and_broken_ones_noted(tmp_path, tile):
    (tmp_path / "plug_cli.py").write_text(
        "from dataclasses import replace\nfrom histolatent.perturb import OPERATIONS\n"
        "SOFT = replace(OPERATIONS['blur'], name='plug-soft', levels=(0.1, 0.2, 0.3, 0.4, 0.5))\n"
    )
    info = tmp_path / "plug_cli-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-cli\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[histolatent.operations]\nsoft = plug_cli:SOFT\nbad = plug_cli:NONE\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "histolatent", "perturb", *map(str, words)]
        return subprocess.run(line, capture_output=True, text=True, env=environment, check=True)

    done = call("list")
    assert "plug-soft" in done.stdout and "From soft (plug-cli 2.0)" in done.stdout
    assert done.stderr.startswith("note: the plug-in bad (plug-cli 2.0) could not be loaded, and is left out: Attr")
    assert len(done.stderr.splitlines()) == 1
    (tmp_path / "mine.toml").write_text("operations = ['plug-soft']")
    call("show", tile, "--suite", tmp_path / "mine.toml", "--out", tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).shape[1] == 1280
