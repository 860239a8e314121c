"""The documentation says what is so: commands parse, marked examples run, links lead somewhere, lists are complete."""

import importlib.util
import json
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import histolatent
from histolatent.audit import result as schema
from histolatent.cli.app import app
from histolatent.encoders.catalogue import entry_names
from histolatent.encoders.source import CATALOGUE_KEYS, KEYS, check_keys, parse_source

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def verbs_of(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb with its name, `stain fit` for one of a group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs_of(command, f"{before}{name} ")
        else:
            yield before + name, command


VERBS: dict[str, Any] = dict(verbs_of(typer.main.get_command(app)))
GROUPS = {verb.rpartition(" ")[0] for verb in VERBS if " " in verb}
OTHER_FLAGS = {"--quick", "--version", "--help"}
OWN_FOLDERS = {"saved", "vae/encoder", "lmc/"}  # encoders that an example of the same page has written
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNNABLE = re.compile(r"^<!-- runnable(?:: ([\w.-]+))? -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def commands_of(page: Path) -> Iterator[list[str]]:
    """Every `histolatent ...` line of the fenced blocks, lines that end in a backslash joined."""
    for language, block in FENCE.findall(text_of(page)):
        if language in ("sh", "bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words[:1] == ["histolatent"]:
                    yield words[1:]


def spans_of(page: Path) -> Iterator[list[str]]:
    """Every `histolatent ...` in running text."""
    for span in SPAN.findall(prose_of(page)):
        if span.startswith("histolatent "):
            yield shlex.split(span)[1:]


def split_verb(words: list[str]) -> tuple[str, list[str]]:
    """The verb, of two words in a group, and what follows it."""
    length = 2 if words[0] in GROUPS else 1
    return " ".join(words[:length]), words[length:]


COMMANDS = [pytest.param(words, id=f"{name_of(p)}: {' '.join(words)[:60]}") for p in PAGES for words in commands_of(p)]
SPANS = [pytest.param(words, id=f"{name_of(p)}: {' '.join(words)[:60]}") for p in PAGES for words in spans_of(p)]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_parses(words: list[str]) -> None:
    verb, arguments = split_verb(words)
    assert verb in VERBS, f"no verb {verb!r}: {', '.join(VERBS)}"
    values = VERBS[verb].make_context(verb, arguments).params
    names = values.get("encoder") or []
    for name in [names] if isinstance(names, str) else names:
        source = parse_source(name)
        check_keys(source, KEYS[source.scheme] if source.scheme else CATALOGUE_KEYS)
        assert source.scheme or source.rest in {*entry_names(), *OWN_FOLDERS}, f"no encoder {name!r}"


@pytest.mark.parametrize("words", SPANS)
def test_a_command_in_running_text_has_its_verb_and_flags(words: list[str]) -> None:
    verb, words = split_verb(words)
    if verb.startswith("-"):
        assert verb in OTHER_FLAGS
        return
    if verb in GROUPS:
        return
    assert verb in VERBS, f"no verb {verb!r}: {', '.join(VERBS)}"
    known = {flag for item in VERBS[verb].params for flag in (*item.opts, *item.secondary_opts)} | OTHER_FLAGS
    assert {word for word in words if word.startswith("-")} <= known


def test_every_flag_in_running_text_exists() -> None:
    known = {flag for verb in VERBS.values() for item in verb.params for flag in (*item.opts, *item.secondary_opts)}
    found = {
        (name_of(page), flag)
        for page in PAGES
        for span in SPAN.findall(prose_of(page))
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)
    }
    assert not {(page, flag) for page, flag in found if flag not in known | OTHER_FLAGS}


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"(?:^|`)make ([a-z]+)\b", text_of(page), re.MULTILINE)}
    assert named and named <= targets


def examples() -> Iterator[Any]:
    """Blocks marked runnable; those of one name on one page run one after the other, files are left to their tests."""
    for page in PAGES:
        parts: dict[str, list[str]] = {}
        for number, (name, code) in enumerate(RUNNABLE.findall(text_of(page))):
            if not name.endswith(".py"):
                parts.setdefault(name or f"block {number + 1}", []).append(code)
        for name, codes in parts.items():
            code = "\n".join(codes)
            marks = [pytest.mark.slow] if "timm" in code else []  # torch alone takes seconds to import
            yield pytest.param(code, id=f"{name_of(page)}: {name}", marks=marks)


def file_block(page: str, name: str) -> str:
    return next(code for found, code in RUNNABLE.findall(text_of(DOCS / page)) if found == name)


@pytest.mark.parametrize("code", list(examples()))
def test_an_example_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "timm" in code:
        pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {"__name__": "example"})


def test_the_function_of_the_page_is_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_encoder.py").write_text(file_block("how-to/audit-your-encoder.md", "my_encoder.py"))
    monkeypatch.chdir(tmp_path)
    model = histolatent.encoder("callable:my_encoder.py:embed")
    tiles = histolatent.open_tiles("phantom:sites=1,patients=1,slides=1,tiles_per_site=2,tile_px=128")
    assert histolatent.encode(model, [tiles.read(0), tiles.read(1)]).shape == (2, 12)
    assert model.card.preprocessing.input_px == 96


def test_the_gate_of_the_page_reads_an_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate.py"
    gate.write_text(file_block("how-to/ci.md", "gate.py"))
    tiles = histolatent.open_tiles("phantom:sites=2,patients=2,slides=1,tiles_per_site=8,tile_px=64")
    model = histolatent.encoder("toy:colour-histogram")
    result = histolatent.audit_encoders(tiles, [model], plan=histolatent.Plan(resamples=100)).result
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["gate.py"])
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text(json.dumps(result.to_dict()))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(gate), run_name="__main__")
    assert ended.value.code == 1
    assert "toy:colour-histogram: brightness" in capsys.readouterr().out


def test_one_page_names_every_public_name_and_verb() -> None:
    page = text_of(DOCS / "one-page.md")
    spans = {span for row in re.findall(r"^\| (`.+?) \|", page, re.MULTILINE) for span in SPAN.findall(row)}
    names = {re.split(r"\W", span)[0] for span in spans}
    assert set(histolatent.__all__) <= names, "give each a line in docs/one-page.md"
    assert set(VERBS) <= spans, "give each verb a line in docs/one-page.md"


@pytest.mark.parametrize(
    "model",
    [
        schema.AuditResult,
        schema.EncoderResult,
        schema.OperationResult,
        schema.Step,
        schema.Dose,
        schema.NullResult,
        schema.ProbeResult,
        schema.Check,
        schema.WorstTile,
        schema.Figure,
    ],
)
def test_formats_names_every_field(model: type) -> None:
    page = text_of(DOCS / "formats.md")
    known = {word for span in SPAN.findall(page) for word in re.findall(r"\w+", span)}
    assert set(model.model_fields) <= known, "docs/formats.md is the contract: describe the field there"  # pyright: ignore[reportAttributeAccessIssue]


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_mark_becomes_a_table() -> None:
    module = hook("tables")
    marks = {mark for page in PAGES for mark in re.findall(r"<!-- table: (.*?) -->", text_of(page))}
    assert marks == set(module.TABLES)
    for mark in marks:
        filled = module.on_page_markdown(f"<!-- table: {mark} -->")
        assert "| --- |" in filled and "<!--" not in filled


def test_the_readme_has_the_figures_of_training() -> None:
    """After a benchmark, the table in the README is to be replaced by what is printed here."""
    assert hook("tables").unseen() in text_of(ROOT / "README.md")


def anchors_of(page: Path) -> set[str]:
    slugs = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in HEADING.findall(prose_of(page))]
    return {re.sub(r"[-\s]+", "-", slug) for slug in slugs}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    for link in LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.parent == DOCS / "gallery":  # made of a script when the site is built
            assert target.stem in hook("gallery").scripts() and not anchor, f"{link} leads nowhere that is known before"
            continue
        assert target.exists() and target.is_relative_to(ROOT), f"{link} leads nowhere"
        assert DOCS not in page.parents or target.is_relative_to(DOCS), f"{link} leaves the site"
        assert not anchor or anchor in anchors_of(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "mkdocs.yml", ROOT / "CITATION.cff"], ids=name_of)
def test_no_registry_no_machine_and_no_claim_too_many(page: Path) -> None:
    text = text_of(page)
    assert not re.search(r"pypi\.org|pythonhosted|npmjs|anaconda\.org|crates\.io|index-url|proxy\.golang", text)
    assert not re.search(r"(?<![\w.])/(work|root|home|tmp|usr|opt)/", text)
    assert not re.search(r"\breproduces?\b", text, re.IGNORECASE), "it implements the idea"
    assert not re.search("[\U0001f300-\U0001faff]", text)


def test_pictures_are_there_and_small() -> None:
    for name in ("report.png", "phantom.png"):
        data = (DOCS / "img" / name).read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) <= 300_000


def test_the_site_fetches_nothing() -> None:
    config = text_of(ROOT / "mkdocs.yml")
    assert "font: false" in config
    assert not re.search(r"https?://", config)


def test_citation_is_of_this_version() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == project["authors"]
    assert citation["title"] == project["name"] and citation["message"]
