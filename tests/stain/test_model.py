"""Frozen fits: their JSON, and what is said of a stain file that is wrong."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from histolatent.errors import InputError, OptionError, OutputError
from histolatent.stain import REASONS, ColourModel, StainBook, StainModel, fit_colour, fit_stains, read_book
from histolatent.stain.model import Provenance, need_valid
from histolatent.stain.vectors import canonical_vectors

unit = st.floats(0.01, 1.0)
level = st.floats(1, 256)
amount = st.floats(0.1, 50)
CANONICAL = canonical_vectors("H&E-DAB")


@st.composite
def stain_models(draw: Callable[..., Any], method: str) -> dict[str, Any]:
    count = draw(st.integers(2, 3)) if method == "given" else 2
    jitter = np.array([[draw(unit) for _ in range(3)] for _ in range(count)])
    rows = CANONICAL[:count] + 0.04 * jitter
    looked_at = draw(st.integers(1, 10**6))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    triples = st.tuples(level, level, level)
    return {
        "method": method,
        "stains": tuple(f"s{k}" for k in range(count)) if method == "given" else ("hematoxylin", "eosin"),
        "vectors": tuple(tuple(row) for row in rows.tolist()),
        "max_concentrations": tuple(draw(amount) for _ in range(count)),
        "canonical_degrees": tuple(draw(amount) for _ in range(count)),
        "spread_degrees": tuple(draw(amount) for _ in range(count)),
        "white": draw(triples),
        "white_source": draw(st.sampled_from(["background", "default", "given"])),
        "offset": draw(st.sampled_from([0, 1])),
        "tissue_colour": draw(triples),
        "stained_colour": draw(triples),
        "tissue_pixels": draw(st.integers(100, 10**9)),
        "tiles": looked_at,
        "tiles_used": draw(st.integers(1, looked_at)),
        "reason": draw(st.sampled_from([*REASONS])),
    }


@pytest.mark.parametrize("method", ["fixed", "given", "macenko", "vahadane"])
@given(data=st.data(), name=st.text(max_size=8))
@settings(max_examples=15, deadline=None)
def test_a_book_comes_back_from_json_as_it_was(method, data, name):
    fits = [StainModel(**fields) for fields in data.draw(st.lists(stain_models(method), min_size=1, max_size=3))]
    kind, slides = "fixed" if method == "given" else method, {f"{name}{k}": fit for k, fit in enumerate(fits)}
    book = StainBook(source=name, method=kind, overall=fits[0], slides=slides)
    text = json.dumps(book.model_dump(mode="json"), allow_nan=False)
    assert StainBook.model_validate(json.loads(text)) == book


@pytest.fixture
def book(tiles) -> StainBook:
    fits = {"a/1": fit_stains(tiles[:2]), "a/2": fit_stains(tiles[2:4])}
    more = Provenance.model_validate({"seed": 3, "notes": ["seen"], "slides": {"a/1": {"tiles": 2, "name": "one"}}})
    return StainBook(source="tiles", method="macenko", overall=fits["a/1"], slides=fits, provenance=more)


@pytest.fixture
def colours(tiles) -> StainBook:
    fit = fit_colour(tiles[:2])
    return StainBook(source="tiles", method="reinhard", overall=fit, slides={"b/1": fit})


def test_a_file_comes_back_as_it_was(book, colours, tmp_path):
    colours.write(tmp_path / "colours.json")
    assert read_book(tmp_path / "colours.json") == colours
    assert isinstance(colours.of("b/1"), ColourModel)
    path = tmp_path / "stain.json"
    book.write(path)
    back = read_book(path)
    assert back == book
    assert back.provenance.model_dump()["seed"] == 3
    assert isinstance(back.of("a/2"), StainModel)
    with pytest.raises(OutputError, match="exists"):
        book.write(path)
    book.write(path, overwrite=True)


def test_a_slide_that_is_not_there(book):
    with pytest.raises(OptionError, match=r"no slide in the stain file is called 'a/3'.*did you mean 'a/"):
        book.of("a/3")


def test_fits_are_frozen_and_closed(make_model):
    model = make_model()
    with pytest.raises(ValidationError):
        model.reason = "one-stain"
    with pytest.raises(ValidationError, match="extra"):
        make_model(maximum=3)
    with pytest.raises(ValidationError):
        make_model(white=(240.0, 240.0, float("nan")))


def test_what_a_model_says(make_model):
    model = make_model(rows=np.array([(1.0, 0, 0), (0, 1.0, 0)]), reason="one-stain")
    assert not model.valid
    assert model.why == "the colours do not span two stains"
    assert model.separation_degrees == pytest.approx(90)
    assert model.rows.shape == (2, 3)
    with pytest.raises(
        OptionError, match=r"this fit cannot be a reference: the colours do not span.*500 tissue pixels"
    ):
        need_valid(model, "this fit")
    assert set(REASONS) == {
        "ok",
        "too-little-tissue",
        "one-stain",
        "unclear-order",
        "far-from-canonical",
        "looks-like-dab",
        "flat-colour",
    }


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that puts a value at a dotted path of a document; ... takes it away."""

    def apply(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            document = document[key]
        if value is ...:
            del document[last]
        else:
            document[last] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change("overall.vectors", ...), r"field overall\.vectors: Field required"),
        (change("overall.vectors", "red"), r"field overall\.vectors: .*tuple"),
        (change("overall.vectors", [[1, 2, 3], [0.6, 0.8, 0.0]]), r"field overall: vectors must be of length 1"),
        (
            change("overall.vectors", [[1.0, 0.0, 0.0]]),
            r"field overall: vectors must have one entry for each of 2",
        ),
        (change("overall.max_concentrations", [1.0, -2.0]), r"field overall\.max_concentrations\.1: .*-2"),
        (change("overall.white", [240, 240]), r"field overall\.white"),
        (change("overall.white", [240, 240, 0]), r"field overall\.white\.2: .*greater than or equal to 1"),
        (change("overall.reason", "fine"), r"field overall\.reason: .*'too-little-tissue'.*fine"),
        (change("overall.vectrs", [[1, 0, 0]]), r"field overall\.vectrs: .*did you mean 'vectors'"),
        (change("overall.reason", ...), r"field overall\.reason: Field required"),
        (change("overall.white", [True, True, True]), r"field overall\.white\.0: .*number.*True"),
        (change("overall.white", ["240", 240, 240]), r"field overall\.white\.0: .*number.*240"),
        (change("overall.tissue_pixels", 0), r"field overall: a usable fit has at least 100 tissue_pixels"),
        (change("overall.kind", "colours"), r"field overall: .*'stain', 'colour'"),
        (change("slides.a/1.tiles", "many"), r"field slides\.a/1\.tiles: .*integer.*many"),
        (
            change("overall.vectors", [[0.6, 0.8, 0], [0.6, 0.8, 0]]),
            r"overall: vectors must not lie on one ",
        ),
        (change("overall.max_concentrations", [1.0, 1e9]), r"overall\.max_concentrations\.1: .*equal to 100"),
        (
            change("overall.max_concentrations", [1.0, 0.05]),
            r"overall: max_concentrations of a usable",
        ),
        (change("overall.stains", ["hematoxylin", "azan"]), r"overall: stains must be one of \('hematoxylin'"),
        (change("overall.canonical_degrees", [1.0, -3.0]), r"overall\.canonical_degrees\.1: .*-3"),
        (change("overall.method", "vahadane"), r"overall is a fit of vahadane, not of macenko"),
        (
            change("overall.vectors", [[-0.6, -0.8, 0.0], [0.0, -0.8, -0.6]]),
            r"overall: vectors of a usable fit",
        ),
        (change("overall.tissue_colour", [1e308, 0, 0]), r"overall\.tissue_colour\.0: .*equal to 256"),
        (change("provenance.slides.a/1.tissue_share", 7), r"provenance\.slides\.a/1\.tissue_share: .*equal to 1"),
        (change("source", "a\ud800"), r"field source: character 2 is half of a pair"),
        (change("provenance.deep", json.loads("[" * 300 + "]" * 300)), "cannot be written again"),
        (change("method", "reinhard"), r"overall is a fit of macenko, not of reinhard"),
        (change("method", "best"), r"method must be one of macenko, vahadane"),
        (change("provenance.notes", "seen"), r"field provenance\.notes: .*list.*seen"),
        (change("provenance.slides.a/1.tiles", "two"), r"field provenance\.slides\.a/1\.tiles: .*integer.*two"),
        (change("provenance.skipped", ["x"]), r"field provenance\.skipped: .*dictionary"),
        (change("format", True), r"unknown format of a stain file. Received: True. Valid: 1"),
        (change("sorce", "x"), r"field sorce: .*Extra"),
        (change("source", ...), r"field source: Field required"),
        (change("format", 2), r"unknown format of a stain file. Received: 2. Valid: 1"),
        (change("format", ...), r"unknown format of a stain file. Valid: 1"),
        (change("overall", ...), r"no stain file: it has no 'overall'"),
    ],
)
def test_a_corrupted_file_names_the_field(book, tmp_path, spoil, said):
    document = book.model_dump(mode="json")
    spoil(document)
    path = tmp_path / "stain.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        read_book(path)
    assert "stain file" in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change("slides.b/1.mean", ...), r"field slides\.b/1\.mean: Field required"),
        (change("slides.b/1.sd", [1, 2, float("nan")]), r"field slides\.b/1\.sd\.2: .*finite"),
        (change("slides.b/1.sd", [1, 2, 1e308]), r"field slides\.b/1\.sd\.2: .*equal to 1000"),
        (change("slides.b/1.mean", [1, -1e308, 2]), r"field slides\.b/1\.mean\.1: .*equal to -1000"),
        (change("method", "macenko"), r"overall is a fit of lab, not of macenko"),
        (change("slides.b/1.space", "ruderman"), r"slides\.b/1 is a fit of ruderman, not of reinhard"),
    ],
)
def test_a_corrupted_file_of_colours_names_the_field(colours, tmp_path, spoil, said):
    test_a_corrupted_file_names_the_field(colours, tmp_path, spoil, said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "cannot be read"),
        (b"{", "cannot be read"),
        (b"", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[1, 2]", "no stain file: it has no 'overall'"),
        (b"null", "no stain file: it has no 'overall'"),
    ],
)
def test_what_is_no_stain_file(tmp_path, content, said):
    path = tmp_path / "stain.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_book(path)


def test_files_that_are_not_there_or_folders(tmp_path):
    with pytest.raises(InputError, match=r"stain file not found.*histolatent stain fit"):
        read_book(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_book(tmp_path)


def test_vectors_in_the_wrong_order_are_refused(book):
    document = book.model_dump(mode="json")
    document["overall"]["vectors"].reverse()
    with pytest.raises(ValueError, match="vectors of a usable fit lead from hematoxylin to eosin"):
        StainBook.model_validate(document)
    document["overall"]["reason"] = "unclear-order"
    assert not StainBook.model_validate(document).overall.valid
