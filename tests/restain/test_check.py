"""The check of a cohort: what is not usable, who stands out, in words."""

import json

import numpy as np
import pytest

from histolatent.errors import OptionError, OutputError
from histolatent.restain import check_book, check_source, fit_source
from histolatent.restain.check import FARTHEST_Z, _kind, robust_z, write_check
from histolatent.stain import StainBook, StainModel
from histolatent.stain.model import Provenance

from .conftest import Memory


@pytest.fixture
def six(book: StainBook) -> StainBook:
    """Six slides that differ little, the last of twice the hematoxylin."""
    base = book.overall
    assert isinstance(base, StainModel)
    slides = {}
    for number in range(6):
        strength = base.max_concentrations[0] * (1 + 0.01 * number) * (2.05 if number == 5 else 1)
        slides[f"s{number}"] = base.model_copy(update={"max_concentrations": (strength, base.max_concentrations[1])})
    return book.model_copy(update={"slides": slides, "provenance": Provenance()})


def test_the_slide_that_stands_out_comes_first_in_words(six):
    found = check_book(six)
    assert found.slides[0].slide == "s5"
    assert found.slides[0].outliers == ("hematoxylin 2.1x the cohort's median",)
    assert found.slides[0].farthest_z > FARTHEST_Z
    assert all(item.fine for item in found.slides[1:])
    assert found.advice[0].startswith("1 out of line with the others: look at")
    frame = found.to_frame()
    assert frame.index[0] == "s5"
    assert frame.loc["s5", "outliers"] == "hematoxylin 2.1x the cohort's median"
    assert {"hematoxylin_degrees", "eosin_spread_degrees", "separation_degrees", "white_green", "tissue_share"} <= set(
        frame.columns
    )


def test_not_usable_comes_before_outliers(six):
    dab = six.slides["s0"].model_copy(update={"reason": "looks-like-dab"})
    found = check_book(six.model_copy(update={"slides": {**six.slides, "s0": dab}}))
    assert [item.slide for item in found.slides][:2] == ["s0", "s5"]
    assert "immunohistochemistry" in found.slides[0].why
    assert found.advice[0] == "1 looks-like-dab: if they are immunohistochemistry, give them apart, with --stains H-DAB"


def test_slides_that_are_not_usable_are_no_measure_for_others(six):
    """Their figures, which are canonical, would pull every median; and they make no fifth slide."""
    found = check_book(six)
    strange = {"reason": "one-stain", "max_concentrations": (90.0, 0.0), "white": (120.0, 120.0, 120.0)}
    more = {f"x{k}": six.slides["s0"].model_copy(update=strange) for k in range(20)}
    with_more = check_book(six.model_copy(update={"slides": {**six.slides, **more}}))
    usable = [item for item in with_more.slides if item.valid]
    assert usable == list(found.slides)
    four = dict(list(six.slides.items())[2:])
    few = check_book(six.model_copy(update={"slides": {**four, **more}}))
    assert not any(item.outliers for item in few.slides)


def test_fewer_than_five_slides_are_not_compared(cohort, book):
    found = check_source(cohort)
    assert len(found.slides) == 4
    assert not any(item.outliers for item in found.slides)
    assert any("it takes 5 to say which stand out" in note for note in found.notes)
    assert found.advice == ("nothing to do: every fit is usable",)
    assert found.to_dict() == check_book(book).to_dict()
    assert all(item.tissue_share is not None and 0 < item.tissue_share <= 1 for item in found.slides)
    assert all((item.tiles, item.tiles_read) == (4, 4) and 0 < item.tiles_used <= 4 for item in found.slides)


def test_without_slides_there_is_one_row():
    blank = np.full((64, 64, 3), 243, np.uint8)
    found = check_source(Memory({"a": blank}, {}))
    assert [item.slide for item in found.slides] == ["all tiles"]
    assert found.slides[0].reason == "too-little-tissue"
    assert found.advice[0].startswith("1 too-little-tissue: choose tiles with more tissue")


def test_brown_and_blue_given_as_h_and_e_is_said():
    rng = np.random.default_rng(0)
    amounts = rng.exponential(0.5, (96, 96, 2)) * (rng.random((96, 96, 2)) > 0.3)
    vectors = np.array([[0.65, 0.70, 0.29], [0.30, 0.62, 0.72]])
    density = amounts @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    tile = np.rint(240 * np.exp(-density)).astype(np.uint8)
    source = Memory({"a": tile}, {"slide": ["ihc"]})
    assert check_source(source, white=240).slides[0].reason == "looks-like-dab"
    assert check_source(source, white=240, stains="H-DAB").slides[0].valid


def test_robust_z():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    assert robust_z(100.0, values, _kind("angle eosin")) == pytest.approx(97 / 1.4826)
    same = np.full(5, 10.0)
    assert robust_z(13.0, same, _kind("separation")) == 3.0  # no spread: the floor of one degree
    assert robust_z(2.0, np.ones(5), _kind("strength eosin")) == pytest.approx(np.log(2) / 0.05)


def test_fits_of_colours_are_refused(cohort):
    with pytest.raises(OptionError, match=r"looks at stains.*Valid: macenko, vahadane, fixed"):
        check_source(cohort, "reinhard")
    with pytest.raises(OptionError, match="looks at stains"):
        check_book(fit_source(cohort, "reinhard", max_tiles=1))
    with pytest.raises(OptionError, match="did you mean 'macenko'"):
        check_source(cohort, "macenk")


def test_written_as_csv_and_json(six, tmp_path):
    found = check_book(six)
    write_check(found, tmp_path / "c.csv")
    write_check(found, tmp_path / "c.json")
    assert (tmp_path / "c.csv").read_text().splitlines()[1].startswith("s5,ok,usable,hematoxylin 2.1x")
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["slides"][0]["slide"] == "s5"
    assert document["advice"] == list(found.advice)
    with pytest.raises(OptionError, match=r"Valid: \.csv, \.json"):
        write_check(found, tmp_path / "c.txt")
    with pytest.raises(OutputError, match="exists already"):
        write_check(found, tmp_path / "c.csv")


@pytest.mark.data
def test_a_real_cohort(data):
    found = check_source(data / "osteosarcoma" / "manifest.csv", max_tiles=2)
    assert len(found.slides) == 26
    assert sum(item.valid for item in found.slides) >= 20
