"""The page: whole, self-contained, true to the document, and safe with any name."""

import html
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from histolatent.audit import Plan, Policy, audit_encoders
from histolatent.audit.findings import find
from histolatent.audit.result import Figure, show
from histolatent.audit.verdict import judged as judge_again
from histolatent.encoders import EncoderCard, encoder
from histolatent.encoders.callables import CallableEncoder
from histolatent.encoders.vectors import VectorEncoder
from histolatent.errors import InputError, OutputError
from histolatent.report import read_result, render, to_json, write_report
from histolatent.report.canvas import COLOURS, look
from histolatent.report.figures import draw_all
from histolatent.report.page import SYMBOLS
from histolatent.report.pictures import Shown
from histolatent.report.sections import judged_severity, question_matrix
from histolatent.report.tables import all_tables

QUICK = Plan(resamples=100)
EVIL = "<script>alert('$x_{')</script>&\"$^"
VOID = {"meta", "img", "br", "hr", "input", "link", "col"}


class Page(HTMLParser):
    """What stands in a page: tags with their attributes, text, and whether tags close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.parts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.parts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.parts))


def draw(result) -> dict[str, str]:
    return {name: drawn.svg for name, drawn in draw_all(result).items()}


def page_of(result, source) -> Page:
    return Page(render(result, source and Shown(result, source), draw(result)))


def words_of(result, source) -> str:
    """The text of the page, without its figures: drawing them takes most of the time."""
    return Page(render(result, source and Shown(result, source), {})).text


def without_figures(audited):
    """The result of one encoder that there is nothing to draw for."""
    bare = audited.encoders[1].model_copy(update={"probes": [], "factors": []})
    return audited.model_copy(update={"encoders": [bare]})


def assert_self_contained(page: Page) -> None:
    for tag, given in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base"), tag
        for name, value in given.items():
            if name in ("src", "href", "xlink:href", "srcset", "poster", "data", "action"):
                assert (value or "").startswith(("data:", "#")), f"{tag} {name}={value}"
            assert not name.startswith("on"), f"{tag} {name}"


@dataclass(frozen=True, eq=False)
class Memory:
    """Tiles in memory."""

    pixels: np.ndarray
    table: pd.DataFrame
    name: str = "memory"

    def read(self, index: int) -> np.ndarray:
        return self.pixels[index]


def memory(n: int = 12, *, prefix: str = "t", name: str = "memory", **columns) -> Memory:
    pixels = np.random.default_rng(0).integers(60, 255, (n, 24, 24, 3), dtype=np.uint8)
    return Memory(pixels, pd.DataFrame(columns, index=pd.Index([f"{prefix}{i}" for i in range(n)], name="tile")), name)


def vectors(n: int, name: str = "npy:v.npy") -> VectorEncoder:
    card = EncoderCard(name=name, kind="vectors", source=name, dim=4, revision="1")
    return VectorEncoder(card, np.random.default_rng(1).normal(size=(n, 4)).astype(np.float32))


def means(name: str, power: float = 1.0) -> CallableEncoder:
    card = EncoderCard(name=name, kind="callable", source=f"callable:{name}", dim=3, revision="1")
    return CallableEncoder(
        card, lambda tiles: (tiles.reshape(len(tiles), -1, 3).mean(axis=1) / 255).astype(np.float32) ** power
    )


@pytest.fixture(scope="module")
def page(audited, cohort) -> Page:
    return page_of(audited, cohort)


def test_the_page_needs_nothing_else(page):
    assert_self_contained(page)
    assert page.open == []


def test_the_page_says_all_that_was_found(page, audited):
    assert audited.findings == find(audited)
    for finding in audited.findings:
        assert finding in page.text
    for item in audited.encoders:
        assert item.name in page.text
        for check in item.checks:
            assert check.name in page.text
            if check.status != "PASS":
                assert check.sentence in page.text
    chips = [given for tag, given in page.tags if tag == "span" and "chip" in (given.get("class") or "")]
    statuses = [(given.get("class") or "").split()[1] for given in chips]
    for status in SYMBOLS:
        asked = sum(check.status == status for item in audited.encoders for check in item.checks)
        families = sum(family.status == status for item in audited.encoders for family in item.families)
        contract = sum(kept.status == status != "PASS" for item in audited.encoders for kept in item.contract)
        verdicts = sum(item.verdict == status for item in audited.encoders)
        assert statuses.count(status) == asked + families + contract + verdicts, status
    for tag, given in page.tags:
        assert tag != "span" or "chip" not in (given.get("class") or "") or given["class"].split()[1] in SYMBOLS


def test_the_page_states_limits_and_methods(page, audited):
    assert "Research use. Not a medical device" in page.text
    assert "The thresholds are conventions, not measurements" in page.text
    assert "24 tiles were perturbed by 9 operations (rotation, flip, blur," in page.text
    assert "random pairs of tiles of different slides" in page.text
    assert "from 100 bootstrap resamples of whole groups (patient, n = 12)" in page.text
    assert "(baseline)" in page.text
    for item in audited.encoders:
        assert item.identity[:12] in page.text
    assert audited.tiles["pixels_sha256"] in page.text


def test_every_picture_has_words(page):
    pictures = [given for tag, given in page.tags if tag == "img"]
    assert len(pictures) > 45
    assert all((given.get("src") or "").startswith("data:image/png;base64,") for given in pictures)
    assert all(given.get("alt") for given in pictures)


def test_every_figure_of_the_table_is_in_the_page(page, audited):
    frame = audited.to_frame()
    judged = {operation.name: judged_severity(audited, operation) for operation in audited.operations}
    rows = frame[(frame["severity"] == frame["operation"].map(judged)) & frame["low"].notna()]
    shown = rows[rows["metric"].isin(["displacement", "auroc_null", "move", "label_flips", "balanced_accuracy"])]
    assert len(shown) > 50
    for value, low, high in shown[["value", "low", "high"]].itertuples(index=False):
        assert show(Figure(value=value, low=low, high=high)) in page.text


def test_an_undefined_figure_is_said_to_be_undefined(page):
    assert "not defined" in page.text
    assert "nan" not in page.text.lower().replace("finance", "")


def test_names_are_never_markup():
    source = memory(
        prefix=EVIL,
        name=EVIL,
        label=[EVIL, "b"] * 6,
        site=[f"{EVIL}1"] * 6 + ["y"] * 6,
        patient=[f"{EVIL}{i // 3}" for i in range(12)],
        mpp=0.5,
    )
    plan = Plan(resamples=100, columns={"label": EVIL, "site": EVIL + "2"})
    result = audit_encoders(source, [means(EVIL)], plan=plan).result
    text = render(result, Shown(result, source), draw(result))
    page = Page(text)
    assert_self_contained(page)
    assert "<script" not in text
    assert EVIL in page.text
    assert "&lt;script&gt;" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["$\\frac{", "_hidden", "a & b <c>", "ß→µ", "%s {0}"])
def test_any_encoder_name_can_be_drawn(audited, name):
    first = audited.encoders[0].model_copy(update={"name": name})
    result = audited.model_copy(update={"encoders": [first, *audited.encoders[1:]]})
    for svg in draw(result).values():
        assert html.escape(name, quote=False) in svg


def test_vectors_alone_make_a_page(cohort):
    result = audit_encoders(cohort, [vectors(24)], plan=QUICK).result
    page = page_of(result, cohort)
    assert_self_contained(page)
    assert "precomputed vectors: no tile could be perturbed" in page.text
    assert "were audited without pixels" in page.text
    assert "0 operations" not in page.text
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_without_a_source_there_are_no_pictures(audited, tmp_path):
    out = write_report(audited, None, tmp_path / "audit")
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert_self_contained(page)
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert "How far each change moves a tile" in page.text
    assert "What was done to the tiles" not in page.text
    pair = audited.encoders[0].discordance.alike_but_far[0]
    assert f"{pair.first} · {pair.second}" in page.text  # named, if not shown


def as_real_pairs(result):
    """The result as one of two scans of each tile would be: one step, no level, nothing that can be done again."""
    operation = result.operations[0].model_copy(
        update={
            "name": "scanner B",
            "family": "acquisition",
            "parameter": "B",
            "unit": "",
            "graded": False,
            "control": None,
        }
    )
    step = operation.steps[0].model_copy(update={"level": None})
    operation = operation.model_copy(update={"steps": [step]})
    old = result.operations[0].name
    kept = ("doses", "equivariance", "flips", "parts")
    encoders = []
    for item in result.encoders:
        mine = {
            part: [
                one.model_copy(update={"operation": "scanner B", "severity": 1})
                for one in getattr(item, part)
                if one.operation == old and (part != "doses" or one.severity == 3)
            ]
            for part in kept
        }
        mine |= {
            "responses": [],
            "selectivity": None,
            "selectivities": [],
            "selectivity_against": [],
            "worst": [],
            "sensitivity": [],
        }
        encoders.append(item.model_copy(update=mine))
    judged = {"encoders": encoders, "operations": [operation], "comparisons": []}
    checked = result.model_copy(update=judged)
    policy = Policy.model_validate(result.plan["policy"])
    again = [judge_again(item, checked.operations, policy) for item in checked.encoders]
    return checked.model_copy(update={"encoders": again})


def test_real_pairs_make_a_page(audited, tmp_path):
    result = as_real_pairs(audited)
    out = write_report(result, None, tmp_path / "audit")
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert "24 tiles were compared with their counterparts (scanner B;" in page.text
    assert "scanner B" in page.text
    assert "Biology before nuisance?" not in page.text
    assert "What was done to the tiles" not in page.text


def test_real_pairs_with_a_source_show_no_rendering(audited, cohort):
    text = words_of(as_real_pairs(audited), cohort)
    assert "What was done to the tiles" not in text
    assert "Where eye and encoder disagree" in text


@pytest.mark.slow
def test_vectors_beside_pixels_make_a_page(cohort):
    result = audit_encoders(cohort, [vectors(24), means("means")], plan=QUICK).result
    text = words_of(result, cohort)
    assert "precomputed vectors: no tile could be perturbed" in text
    assert "Tiles that moved most" in text


def test_one_encoder_without_any_column_makes_a_page():
    source = memory()
    result = audit_encoders(source, [encoder("toy:constant")], plan=QUICK).result
    page = page_of(result, source)
    assert_self_contained(page)
    assert "What toy:constant reacts to" in page.text
    assert "every tile counts as independent" in page.text
    assert "um per pixel is not known for 12 tiles" in page.text
    assert "no label was given" in page.text
    assert "How far each change moves a tile" not in page.text  # no null, no scale to draw on


def test_one_encoder_is_titled_by_its_name(audited, cohort):
    one = audited.model_copy(update={"encoders": audited.encoders[:1]})
    assert "What toy:od-moments reacts to" in words_of(one, cohort)
    assert "What 3 encoders react to" in words_of(audited, cohort)


@pytest.mark.slow
def test_eight_encoders_are_told_apart(audited, cohort):
    moments = audited.encoders[0]
    eight = [moments.model_copy(update={"name": f"encoder-{i}-of-a-long-name"}) for i in range(8)]
    # Each with figures of its own, or two lines would lie on one another.
    result = audited.model_copy(update={"encoders": eight})
    assert "What 8 encoders react to" in words_of(result, cohort)
    looks = [tuple(look(result, item).items()) for item in eight]
    assert len(set(looks)) == 8
    for svg in draw(result).values():
        assert all(f"encoder-{i}-of-a-long-name" in svg for i in range(8))


def test_an_encoder_looks_the_same_in_every_figure(audited):
    """The constant has no dose line; those after it keep their colour all the same."""
    drawn = draw(audited)
    assert all(COLOURS[2].lower() in drawn[name].lower() for name in drawn if name != "factors")
    assert COLOURS[1].lower() not in drawn["dose-response"].lower()


def test_questions_stand_in_their_order_whoever_comes_first(audited):
    """The constant is asked less, and must not decide the order."""
    order = [name for name, _ in question_matrix(audited)]
    turned = audited.model_copy(update={"encoders": [audited.encoders[1], audited.encoders[0], audited.encoders[2]]})
    assert [name for name, _ in question_matrix(turned)] == order
    assert order == [check.name for check in audited.encoders[0].checks]
    answers = dict(question_matrix(turned))
    assert answers["selectivity"][0] is None
    assert answers["selectivity"][1] == audited.encoders[0].checks[order.index("selectivity")]


def test_every_link_of_the_contents_leads_to_a_section(page):
    targets = {given["id"] for tag, given in page.tags if tag in ("h2", "section") and given.get("id")}
    links = [(given.get("href") or "")[1:] for tag, given in page.tags if tag == "a"]
    assert len(links) > 12
    assert set(links) <= targets


def test_only_what_was_measured_is_explained(audited, cohort, page):
    assert "robustness margin" in page.text
    quick = audited.model_copy(
        update={
            "encoders": [e.model_copy(update={"space": [], "batches": [], "transfer": []}) for e in audited.encoders]
        }
    )
    text = words_of(quick, cohort)
    assert "robustness margin" not in text
    assert "Gaussian W2" not in text
    assert "A site left out" not in text


def test_very_long_names_stay_whole_on_the_page_and_short_in_figures(audited, cohort):
    name = "hf:" + "some-organisation/" * 6 + "encoder"
    named = audited.encoders[0].model_copy(update={"name": name})
    result = audited.model_copy(update={"encoders": [named, *audited.encoders[1:]]})
    assert name in words_of(result, cohort)
    for svg in draw(result).values():
        assert name not in svg
        assert "hf:some-organisa" in svg


def test_two_long_names_of_one_shape_are_told_apart_in_figures(audited):
    ends = [f"{'a' * 40}-{middle}-{'z' * 40}" for middle in "xy"]
    pair = [audited.encoders[0].model_copy(update={"name": name}) for name in ends]
    for svg in draw(audited.model_copy(update={"encoders": pair})).values():
        assert all(name in svg for name in ends)


def test_figures_are_the_same_bytes_twice(audited):
    first = draw_all(audited)
    assert first == draw_all(audited)
    for drawn in first.values():
        assert drawn.svg.startswith("<svg")
        assert "<dc:date>" not in drawn.svg
        assert drawn.png.startswith(b"\x89PNG")


def test_nothing_is_drawn_of_nothing(audited):
    assert draw(without_figures(audited)) == {}


def test_figures_without_intervals_can_be_drawn(audited):
    item = audited.encoders[0]
    doses = [
        dose.model_copy(update={"metrics": {k: Figure(value=v.value) for k, v in dose.metrics.items()}})
        for dose in item.doses
    ]
    alone = item.model_copy(update={"doses": doses, "selectivity": Figure(value=0.5)})
    drawn = draw(audited.model_copy(update={"encoders": [alone]}))
    assert {"dose-response", "selectivity", "probes", "leakage-signal"} <= set(drawn)


def test_skipped_tiles_are_counted_in_the_page(audited, cohort):
    tiles = {**audited.tiles, "skipped": {"a/b.png": "it is broken", "c.png": "it is empty"}}
    text = words_of(audited.model_copy(update={"tiles": tiles}), cohort)
    assert "2 tiles could not be read and were skipped" in text
    assert "it is broken" in text
    one = {**audited.tiles, "skipped": {"a/b.png": "it is broken"}}
    text = words_of(audited.model_copy(update={"tiles": one}), cohort)
    assert "1 tile could not be read and was skipped" in text


def test_all_files_are_written(audited, cohort, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "x.zarr").write_text("an embedding")
    out = write_report(audited, cohort, tmp_path / "audit", seconds={"total": 1.5}, embeddings=tmp_path / "work")
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    drawn = [f"figures/{name}.{kind}" for name in draw_all(audited) for kind in ("svg", "png")]
    tables = [f"{name}.csv" for name in all_tables(audited)]
    alone = ["audit.json", "embeddings/x.zarr", "figures/sheet.png", "model-card.md", "report.html", "timings.json"]
    assert files == sorted([*drawn, *tables, *alone])
    assert json.loads((out / "timings.json").read_text()) == {"total": 1.5}
    assert read_result(out) == read_result(out / "audit.json") == audited
    assert (out / "figures.csv").read_text(encoding="utf-8") == audited.to_frame().to_csv(index=False)
    assert list(pd.read_csv(out / "probes.csv")["target"]) == list(audited.probes_frame()["target"])
    assert Page((out / "report.html").read_text(encoding="utf-8")).open == []


def test_an_audit_without_probes_still_has_a_table_of_probes(tmp_path):
    source = memory()
    result = audit_encoders(source, [encoder("toy:constant")], plan=QUICK).result
    out = write_report(result, source, tmp_path / "audit")
    assert pd.read_csv(out / "probes.csv").empty
    assert not (out / "timings.json").exists()


def test_an_output_that_exists_is_refused(audited, tmp_path):
    result = without_figures(audited)
    out = write_report(result, None, tmp_path / "audit")
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"exists already.*pass --overwrite"):
        write_report(result, None, out)
    assert (out / "mine.txt").exists()
    write_report(result, None, out, overwrite=True)
    assert not (out / "mine.txt").exists()
    assert read_result(out) == result


def test_a_folder_that_is_no_audit_is_never_replaced(audited, cohort, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"was not written by this command.*Valid: a new folder, or an older one"):
        write_report(audited, cohort, tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_a_failure_midway_leaves_nothing_that_looks_whole(audited, tmp_path, monkeypatch):
    from histolatent.report import page as module

    result = without_figures(audited)
    out = write_report(result, None, tmp_path / "audit")
    before = (out / "report.html").read_bytes()

    def fails(result):
        raise ValueError("in the middle")

    monkeypatch.setattr(module, "to_json", fails)
    with pytest.raises(ValueError, match="in the middle"):
        write_report(result, None, out, overwrite=True)
    with pytest.raises(ValueError, match="in the middle"):
        write_report(result, None, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]
    assert (out / "report.html").read_bytes() == before


def test_the_document_is_json_with_sorted_keys_and_without_nan(audited):
    text = to_json(audited)

    def refuse(word):
        raise AssertionError(word)

    document = json.loads(text, parse_constant=refuse)
    assert list(document) == sorted(document)
    assert document["schema_version"] == 3
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", r"another schema version. Valid: 3"),
        ('{"schema_version": 99}', r"another schema version. Received: 99. Valid: 3"),
        ("[1]", "another schema version"),
        ("not json", "not JSON"),
        ('{"schema_version": 3}', "does not fit its schema, first at histolatent: Field required"),
    ],
)
def test_documents_that_cannot_be_read_are_said(tmp_path, text, says):
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(InputError, match=says):
        read_result(tmp_path)


def test_a_document_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match=r"there is no audit.json"):
        read_result(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"there is no audit.json"):
        read_result(tmp_path)
