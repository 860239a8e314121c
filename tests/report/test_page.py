"""The page: whole, self-contained, true to the document, and safe with any name."""

import html
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from histolatent.audit import Plan, audit_encoders
from histolatent.audit.result import Figure
from histolatent.encoders import EncoderCard, encoder
from histolatent.encoders.callables import CallableEncoder
from histolatent.encoders.vectors import VectorEncoder
from histolatent.errors import InputError, OutputError
from histolatent.report import read_result, render, to_json, write_report
from histolatent.report.figures import draw_doses, draw_probes, draw_selectivity
from histolatent.report.page import SYMBOLS

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
    return {"dose-response": draw_doses(result), "probes": draw_probes(result), "selectivity": draw_selectivity(result)}


def page_of(result, source) -> Page:
    return Page(render(result, source, draw(result)))


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
        in_matrix = sum(check.status == status for item in audited.encoders for check in item.checks)
        verdicts = 2 * sum(item.verdict == status for item in audited.encoders)
        assert statuses.count(status) == in_matrix + verdicts, status


def test_the_page_states_limits_and_methods(page, audited):
    assert "Research use. Not a medical device" in page.text
    assert "The thresholds are conventions, not measurements" in page.text
    assert "24 tiles were perturbed by 9 operations (rotation, flip, blur," in page.text
    assert "random pairs of tiles of different slides" in page.text
    assert "95 % BCa intervals (Efron 1987) from 100 bootstrap resamples of whole groups (patient)" in page.text
    assert "(baseline)" in page.text
    for item in audited.encoders:
        assert item.identity[:12] in page.text
    assert audited.tiles["pixels_sha256"] in page.text


def test_every_picture_has_words(page):
    pictures = [given for tag, given in page.tags if tag == "img"]
    assert len(pictures) > 45
    assert all(given.get("alt") for given in pictures)


def test_every_figure_of_the_table_is_in_the_page(page, audited):
    frame = audited.to_frame()
    rows = frame[(frame["severity"] == 3) & (frame["metric"] == "displacement")].dropna()
    for value, low, high in rows[["value", "low", "high"]].itertuples(index=False):
        assert f"{value:.2f} [{low:.2f}, {high:.2f}]" in page.text


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
    text = render(result, source, draw(result))
    page = Page(text)
    assert_self_contained(page)
    assert "<script" not in text
    assert EVIL in page.text
    assert "&lt;script&gt;" in text


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


def test_vectors_beside_pixels_make_a_page(cohort):
    result = audit_encoders(cohort, [vectors(24), means("means")], plan=QUICK).result
    page = page_of(result, cohort)
    assert "precomputed vectors: no tile could be perturbed" in page.text
    assert "Tiles that moved most" in page.text


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
    assert "What toy:od-moments reacts to" in page_of(one, cohort).text
    assert "What 3 encoders react to" in page_of(audited, cohort).text


def test_eight_encoders_are_told_apart(audited, cohort):
    moments = audited.encoders[0]
    eight = [moments.model_copy(update={"name": f"encoder-{i}-of-a-long-name"}) for i in range(8)]
    # Each with figures of its own, or two lines would lie on one another.
    result = audited.model_copy(update={"encoders": eight})
    page = page_of(result, cohort)
    assert "What 8 encoders react to" in page.text
    from histolatent.report.figures import _look

    looks = [tuple(_look(result, item).items()) for item in eight]
    assert len(set(looks)) == 8
    for svg in draw(result).values():
        assert all(f"encoder-{i}-of-a-long-name" in svg for i in range(8))


def test_an_encoder_looks_the_same_in_every_figure(audited):
    """The constant has no dose line; those after it keep their colour all the same."""
    from histolatent.report.figures import COLOURS

    baseline = COLOURS[2].lower()
    assert all(baseline in svg.lower() for svg in draw(audited).values())
    assert COLOURS[1].lower() not in draw_doses(audited).lower()


def test_questions_stand_in_their_order_whoever_comes_first(audited):
    """The constant is asked less, and must not decide the order."""
    from histolatent.report.page import _matrix

    order = [name for name, _ in _matrix(audited)]
    turned = audited.model_copy(update={"encoders": [audited.encoders[1], audited.encoders[0], audited.encoders[2]]})
    assert [name for name, _ in _matrix(turned)] == order
    assert order == [check.name for check in audited.encoders[0].checks]
    answers = dict(_matrix(turned))
    assert answers["selectivity"][0] is None
    assert answers["selectivity"][1] == audited.encoders[0].checks[order.index("selectivity")]


def test_figures_are_the_same_bytes_twice(audited):
    assert draw(audited) == draw(audited)
    for svg in draw(audited).values():
        assert svg.startswith("<svg")
        assert "<dc:date>" not in svg


def test_nothing_is_drawn_of_nothing(audited):
    bare = audited.encoders[1].model_copy(update={"probes": []})
    result = audited.model_copy(update={"encoders": [bare]})
    assert draw(result) == {"dose-response": "", "probes": "", "selectivity": ""}


def test_figures_without_intervals_can_be_drawn(audited):
    item = audited.encoders[0]
    doses = [
        dose.model_copy(update={"metrics": {k: Figure(value=v.value) for k, v in dose.metrics.items()}})
        for dose in item.doses
    ]
    alone = item.model_copy(update={"doses": doses, "selectivity": Figure(value=0.5)})
    assert all(draw(audited.model_copy(update={"encoders": [alone]})).values())


def test_skipped_tiles_are_counted_in_the_page(audited, cohort):
    tiles = {**audited.tiles, "skipped": {"a/b.png": "it is broken", "c.png": "it is empty"}}
    text = page_of(audited.model_copy(update={"tiles": tiles}), cohort).text
    assert "2 tiles could not be read and were skipped" in text
    assert "it is broken" in text
    one = {**audited.tiles, "skipped": {"a/b.png": "it is broken"}}
    text = page_of(audited.model_copy(update={"tiles": one}), cohort).text
    assert "1 tile could not be read and was skipped" in text


def test_all_files_are_written(audited, cohort, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "x.zarr").write_text("an embedding")
    out = write_report(audited, cohort, tmp_path / "audit", seconds={"total": 1.5}, embeddings=tmp_path / "work")
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [
        "audit.json",
        "doses.csv",
        "embeddings/x.zarr",
        "figures/dose-response.svg",
        "figures/probes.svg",
        "figures/selectivity.svg",
        "probes.csv",
        "report.html",
        "timings.json",
    ]
    assert json.loads((out / "timings.json").read_text()) == {"total": 1.5}
    assert read_result(out) == read_result(out / "audit.json") == audited
    doses = pd.read_csv(out / "doses.csv")
    pd.testing.assert_frame_equal(doses, audited.to_frame(), check_dtype=False)
    assert list(pd.read_csv(out / "probes.csv")["target"]) == list(audited.probes_frame()["target"])
    assert Page((out / "report.html").read_text(encoding="utf-8")).open == []


def test_an_audit_without_probes_still_has_a_table_of_probes(tmp_path):
    source = memory()
    result = audit_encoders(source, [encoder("toy:constant")], plan=QUICK).result
    out = write_report(result, source, tmp_path / "audit")
    assert pd.read_csv(out / "probes.csv").empty
    assert not (out / "timings.json").exists()


def test_an_output_that_exists_is_refused(audited, cohort, tmp_path):
    out = write_report(audited, cohort, tmp_path / "audit")
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"exists already.*pass --overwrite"):
        write_report(audited, cohort, out)
    assert (out / "mine.txt").exists()
    write_report(audited, cohort, out, overwrite=True)
    assert not (out / "mine.txt").exists()
    assert read_result(out) == audited


def test_a_folder_that_is_no_audit_is_never_replaced(audited, cohort, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"was not written by this command.*Valid: a new folder, or an older one"):
        write_report(audited, cohort, tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_a_failure_midway_leaves_nothing_that_looks_whole(audited, cohort, tmp_path, monkeypatch):
    from histolatent.report import page as module

    out = write_report(audited, cohort, tmp_path / "audit")
    before = (out / "report.html").read_bytes()

    def fails(result):
        raise ValueError("in the middle")

    monkeypatch.setattr(module, "to_json", fails)
    with pytest.raises(ValueError, match="in the middle"):
        write_report(audited, cohort, out, overwrite=True)
    with pytest.raises(ValueError, match="in the middle"):
        write_report(audited, cohort, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]
    assert (out / "report.html").read_bytes() == before


def test_the_document_is_json_with_sorted_keys_and_without_nan(audited):
    text = to_json(audited)

    def refuse(word):
        raise AssertionError(word)

    document = json.loads(text, parse_constant=refuse)
    assert list(document) == sorted(document)
    assert document["schema_version"] == 1
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", r"another schema version. Valid: 2"),
        ('{"schema_version": 99}', r"another schema version. Received: 99. Valid: 2"),
        ("[1]", "another schema version"),
        ("not json", "not JSON"),
        ('{"schema_version": 2}', r"does not fit its schema \(\d+ places\)"),
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
