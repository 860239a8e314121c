"""`gate`, `compare`, `policy`, and the options of `audit` that serve them."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from typer.testing import CliRunner

from histolatent.audit import PARTS
from histolatent.audit.policy import policy_text
from histolatent.cli import audit as audit_command
from histolatent.cli.app import app
from histolatent.cli.console import printable
from histolatent.report import read_result

TILES = "phantom:sites=2,patients=3,slides=1,tiles_per_site=6,tile_px=32"
QUICKLY = ("--resamples", "100", "--workers", "0", "--quiet", *(word for part in PARTS for word in ("--skip", part)))
NAME = "toy:od-moments"
LOOSE = """title = "loose"
undefined = "allow"
ignore = {pass_at = 0, fail_below = 0}
react = {pass_at = 0, fail_below = 0}
react_each = {pass_at = 0, fail_below = 0}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """One small audit with its baseline; nobody writes to it."""
    out = tmp_path_factory.mktemp("audits") / "audit"
    words = ("audit", TILES, "-e", NAME, "-o", str(out), "--label", "diagnosis", *QUICKLY)
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    return out


@pytest.fixture
def audit(done: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(done, tmp_path / "audit"))


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    path = tmp_path / "loose.toml"
    path.write_text(LOOSE)
    return path


def change(folder: Path, **values) -> None:
    path = folder / "audit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_policy_that_is_met_ends_with_0(run, done, loose):
    found = run("gate", done, "--policy", loose)
    assert found.exit_code == 0
    text = found.output
    assert f"{NAME}, policy 'loose'" in text and "colour-histogram" not in text
    for part in ("ignores blur", "PASS if the lower bound is at least 0", "families: contract PASS; yardstick PASS; "):
        assert part in text
    assert text.splitlines()[-1].startswith("PASS: 1 of 1 encoder meets the policy 'loose'")
    quiet = run("gate", done, "--policy", loose, "--quiet")
    assert quiet.output.splitlines() == text.splitlines()[-1:]


def test_a_policy_that_is_not_met_ends_with_1_and_says_why(run, done, tmp_path):
    policy = tmp_path / "strict.toml"
    policy.write_text(
        'ignore = {pass_at = 1, fail_below = 1}\nundefined = "allow"\n[[require]]\nfigure = "leak"\nat_most = -9'
    )
    found = run("gate", done, "--policy", policy)
    assert found.exit_code == 1
    lines = found.output.splitlines()
    assert lines[-1] == f"FAIL: 0 of 1 encoder meets the policy 'default'; not {NAME}"
    assert any(line.startswith("FAIL ignores blur: blur (Gaussian sigma") for line in lines)
    assert any(line.startswith("FAIL requires ") and " at most -9: " in line for line in lines)


def test_warn_and_undefined_are_let_through_or_not(run, done, tmp_path):
    warns = LOOSE.replace("ignore = {pass_at = 0,", "ignore = {pass_at = 1,")
    open_question = '[[require]]\nfigure = "ilisi"\nat_least = 0.1\n'
    cases = [
        (warns, 0, "WARN"),
        (warns + 'warn = "refuse"\n', 1, f"not {NAME}"),
        (warns + 'refuse_warn = ["stain"]\n', 1, f"not {NAME}"),
        (LOOSE + open_question, 0, "UNDEFINED let through)"),
        (LOOSE.replace('"allow"', '"refuse"') + open_question, 1, f"not {NAME}"),
    ]
    for number, (text, code, says) in enumerate(cases):
        policy = tmp_path / f"{number}.toml"
        policy.write_text(text)
        found = run("gate", done, "--policy", policy, "--quiet")
        assert (found.exit_code, says in found.output) == (code, True), (text, found.output)


def test_the_policy_of_the_audit_is_the_default(run, done):
    found = run("gate", done)
    own = next(item for item in read_result(done).encoders if item.name == NAME)
    assert "policy 'default'" in found.output
    assert found.exit_code == (0 if own.verdict == "PASS" else found.exit_code)
    for check in own.checks:
        assert check.name in found.output


def test_a_baseline_is_judged_where_it_is_named(run, done, loose):
    found = run("gate", done, "--policy", loose, "-e", "toy:colour-histogram")
    assert "toy:colour-histogram (baseline), policy 'loose'" in found.output
    assert NAME not in found.output


def test_junit(run, done, loose, tmp_path):
    path = tmp_path / "out" / "gate.xml"
    words = ("gate", done, "--policy", loose, "--junit", path, "--quiet")
    assert run(*words).exit_code == 0
    [suite] = ElementTree.parse(path).getroot()
    asked = next(item for item in read_result(done).encoders if item.name == NAME).checks
    assert suite.get("name") == NAME
    assert [case.get("name") for case in suite.findall("testcase")] == [check.name for check in asked]
    first = path.read_bytes()
    assert run(*words).exit_code == 0  # an older report is replaced
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("severity = 9", r"policy.toml: severity is not a whole number from 1 to 5. Received: 9"),
        ("severity = 5", "selectivity was measured at other severities"),
        ("severty = 5", "did you mean 'severity'?"),
    ],
)
def test_a_policy_that_cannot_be_used_ends_with_2(fails, done, tmp_path, text, says):
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    code, line = fails("gate", done, "--policy", policy)
    assert code == 2
    assert says in line


def test_an_audit_that_cannot_be_judged_ends_with_2(fails, audit, tmp_path):
    cases = [
        (("gate", tmp_path / "nowhere"), "there is no audit.json. Received: "),
        (("gate", tmp_path), "there is no audit.json. Received: "),
        (("gate", audit, "-e", "toy:od-moment"), f"did you mean '{NAME}'?"),
        (("gate", audit, "--policy", "second_site"), "did you mean 'second-site'?"),
        (("gate", audit, "--policy", tmp_path / "no.toml"), "the policy cannot be read (No such file"),
        (("gate", audit, "--junit", tmp_path), "is no JUnit report, so it is not replaced"),
    ]
    for words, says in cases:
        code, line = fails(*words)
        assert (code, says in line) == (2, True), line
    change(audit, schema_version=1)
    code, line = fails("gate", audit)
    assert code == 2
    assert "another schema version. Received: 1 in " in line and "Valid: 3. Fix: " in line and "run it again" in line
    (audit / "audit.json").write_text("{")
    code, line = fails("gate", audit)
    assert (code, "not JSON" in line and "audit.json" in line) == (2, True)


def test_names_with_control_characters_reach_no_terminal(run, audit, loose, tmp_path):
    result = json.loads((audit / "audit.json").read_text())
    result["encoders"][0]["name"] = "evil\x1b[31m\x07[bold]"
    change(audit, encoders=result["encoders"])
    found = run("gate", audit, "--policy", loose, "--junit", tmp_path / "j.xml")
    assert found.exit_code == 0
    assert "\x1b" not in found.output and "\x07" not in found.output
    assert "evil\\x1b[31m\\x07[bold]" in found.output
    assert ElementTree.parse(tmp_path / "j.xml").getroot()[0].get("name") == "evil\\x1b[31m\\x07[bold]"
    assert printable("a\nb\tü\u202e") == "a\nb\\tü\\u202e"


def test_policies_are_shown_and_checked(run, fails, tmp_path):
    found = run("policy", "show", "second-site")
    assert (found.exit_code, found.output) == (0, policy_text("second-site"))
    assert run("policy", "show").output == found.output
    copy = tmp_path / "mine.toml"
    copy.write_text(found.output)
    said = run("policy", "check", copy).output
    assert "'deploy at a second site': nuisances at severity 3, must-react at 5" in said
    assert "ignore, stain: PASS from 0.98, FAIL below 0.9" in said
    assert "require robustness margin above chance, column site at least 0" in said
    assert fails("policy", "show", "third-site")[0] == 2
    copy.write_text("warn = 1")
    assert fails("policy", "check", copy) == (2, f"error: {copy}: warn is not 'allow' or 'refuse'. Received: 1")


def test_nothing_is_worse_than_itself(run, done, tmp_path):
    found = run("compare", done, done, "--out", tmp_path / "c.csv")
    assert found.exit_code == 0
    assert "not decided" in found.output and "0 worse, 0 better, " in found.output.splitlines()[-1]
    frame = pd.read_csv(tmp_path / "c.csv")
    assert set(frame["outcome"]) == {"undecided"} and set(frame["first"]) == {NAME}
    assert run("compare", done, done, "-o", tmp_path / "c.json").exit_code == 0
    assert json.loads((tmp_path / "c.json").read_text())["tiles"] == 12


def test_what_is_worse_ends_with_1(run, done, audit, tmp_path):
    first = Path(shutil.copytree(done, tmp_path / "first"))
    for folder, more in ((first, 0.0), (audit, 0.5)):  # each tile a group of its own: of few, nothing is decided
        tiles = pd.read_parquet(folder / "tiles.parquet")
        tiles["group"] = tiles.groupby("encoder").cumcount()
        tiles["displacement: blur"] += more
        tiles.to_parquet(folder / "tiles.parquet")
    found = run("compare", first, audit)
    assert found.exit_code == 1
    assert f"{NAME}: worse in the second run" in found.output
    assert found.output.splitlines()[-1].startswith("1 worse, 0 better, ")
    assert run("compare", audit, first).exit_code == 0


def test_one_encoder_with_another(run, done):
    found = run("compare", done, done, "--between", f"{NAME}=toy:colour-histogram")
    assert f"{NAME} and then toy:colour-histogram" in found.output
    assert "note: " not in found.output


def test_names_with_an_equals_sign(fails, audit):
    result = json.loads((audit / "audit.json").read_text())
    result["encoders"][0]["name"] = "timm-random:vit?img_size=96"
    change(audit, encoders=result["encoders"])
    first = read_result(audit)
    from histolatent.cli.compare import split_pair

    pair = ("timm-random:vit?img_size=96", "toy:colour-histogram")
    assert split_pair("=".join(pair), first, first) == pair
    assert split_pair("=".join(pair[::-1]), first, first) == pair[::-1]
    code, line = fails("compare", audit, audit, "--between", "timm-random:vit?img_size=96=toy:colour-histogam")
    assert (code, "did you mean 'toy:colour-histogram'?" in line) == (2, True), line


def test_what_cannot_be_compared_ends_with_2(fails, done, audit, tmp_path):
    cases = [
        (("compare", done, tmp_path), "there is no audit.json"),
        (("compare", done, done, "--encoder", "toy:x"), "no encoder of the first run is called 'toy:x'"),
        (("compare", done, done, "--between", "toy:x"), "two encoders are named as NAME_A=NAME_B. Received: toy:x"),
        (("compare", done, done, "--out", "c.txt"), "a comparison is a table. Received: c.txt. Valid: .csv, .json"),
        (("compare", done, done, "--out", done / "figures.csv"), "exists already"),
    ]
    for words, says in cases:
        code, line = fails(*words)
        if "figures.csv" in str(words) and not (done / "figures.csv").exists():
            continue
        assert (code, says in line) == (2, True), line
    (audit / "tiles.parquet").write_text("no table")
    assert "tiles.parquet cannot be read" in fails("compare", done, audit)[1]
    pd.DataFrame({"tile": ["a"]}).to_parquet(audit / "tiles.parquet")
    assert "is not that of an audit: it has no column encoder" in fails("compare", done, audit)[1]
    (audit / "tiles.parquet").unlink()
    assert "there is no tiles.parquet beside audit.json" in fails("compare", done, audit)[1]


def test_an_audit_takes_a_policy_factors_and_parts(run, tmp_path):
    policy = tmp_path / "mine.toml"
    policy.write_text('title = "mine"\nseverity = 2')
    run("phantom", "-o", tmp_path / "c", "--sites", "2", "--patients", "2", "--slides", "1", "--tiles-per-site", "6",
        "--tile-px", "32", "--workers", "0", "--quiet")  # fmt: skip
    manifest = pd.read_csv(tmp_path / "c" / "manifest.csv")
    name = next(column for column in ("tile", "tile_id", "path") if column in manifest)
    factors = pd.DataFrame({"tile": manifest[name], "density": range(len(manifest))})
    factors.to_csv(tmp_path / "f.csv", index=False)
    rest = [word for part in PARTS if part != "factors" for word in ("--skip", part)]
    words = ("-e", "toy:od-moments", "--no-baseline", "--resamples", "100", "--workers", "0", "--quiet", *rest)
    more = ("--policy", policy, "--factors", tmp_path / "f.csv", "--space-tiles", "200")
    found = run("audit", tmp_path / "c", *words, *more, "-o", tmp_path / "a")
    assert found.exit_code == 0
    result = read_result(tmp_path / "a")
    assert (result.plan["policy"]["title"], result.plan["policy"]["severity"]) == ("mine", 2)
    assert result.plan["skip"] == [part for part in PARTS if part != "factors"]
    assert (result.plan["space_tiles"], result.plan["neighbors"]) == (200, "exact")
    assert [item.factor for item in result.encoders[0].factors] == ["density"]
    assert "severity 2" in str(run("policy", "check", policy).output)
    tiles = pd.read_parquet(tmp_path / "a" / "tiles.parquet")
    assert {"pixels", "pixels: blur"} <= set(tiles)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--skip", "neighbors"), "no part of an audit is called 'neighbors'. Valid: "),
        (("--neighbors", "rough"), "--neighbors: Input should be 'exact' or 'approximate'. Received: rough"),
        (("--space-tiles", "5"), "--space-tiles: Input should be greater than or equal to 100. Received: 5"),
        (("--policy", "third-site"), "no policy is called 'third-site'"),
        (("--factors", "no.csv"), "table of factors not found. Received: no.csv"),
        (("--factors", "no.txt"), "not a table of factors. Received: no.txt. Valid: .csv"),
    ],
)
def test_options_of_the_audit_that_are_wrong(fails, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code, line = fails("audit", TILES, "-e", "toy:constant", "-o", "OUT", *words)
    assert (code, says in line) == (2, True), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,x\na,1\n", "has no column 'tile'. Received: f.csv: name, x. Fix: "),
        ("tile,x\na,1\na,2\n", "names each tile once. Received: f.csv: a twice"),
        ("tile,x\n,1\n", "names each tile once. Received: f.csv: a row without a tile"),
        ("tile\na\n", "has no factor. Received: f.csv"),
        ("tile,x\na,1\nb,much\n", "a factor is a number per tile. Received: f.csv, column x, tile b: 'much'"),
        ("tile,x\na,inf\n", "a factor is a number per tile"),
        ("tile,x\na,1\n", "no tile of the audit is among the factors. Received: a"),
    ],
)
def test_factors_that_are_wrong_stop_the_audit_before_it_begins(fails, tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.csv").write_text(text)
    code, line = fails("audit", TILES, "-e", "toy:constant", "-o", "OUT", "--quiet", "--factors", "f.csv")
    assert (code, says in line) == (2, True), line
    assert not (tmp_path / "OUT").exists()


def test_the_parts_of_the_help_are_those_of_the_audit():
    assert audit_command.PARTS == PARTS


@pytest.mark.parametrize("verb", ["gate", "compare", "policy show", "policy check"])
def test_every_verb_shows_an_example(run, verb):
    text = run(*verb.split(), "--help").output
    assert f"Example: histolatent {verb}" in text


@pytest.mark.parametrize("name", ["audit.json", "figures.csv"])
def test_a_comparison_never_replaces_what_it_reads(fails, audit, name):
    before = (audit / name).read_bytes()
    code, said = fails("compare", audit, audit, "--out", audit / name, "--overwrite")
    assert code == 2 and "the output is what is read" in said
    assert (audit / name).read_bytes() == before
