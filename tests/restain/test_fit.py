"""Fits of cohorts: the same whatever the workers, and honest about what they looked at."""

import numpy as np
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.images import open_tiles, select_rows
from histolatent.provenance import version
from histolatent.restain import Fitter, fit_source
from histolatent.restain.groups import choose_rows, find_groups
from histolatent.stain import RUIFROK, ColourModel, StainModel, fit_stains, read_book

from .conftest import Memory, without_time


def test_a_slide_is_fitted_as_the_raw_function_does(cohort, book):
    source = open_tiles(cohort)
    slide = source.table["slide"].iloc[0]
    rows = np.flatnonzero(source.table["slide"] == slide)
    alone = fit_stains([source.read(int(row)) for row in rows])
    found = book.of(slide)
    assert isinstance(found, StainModel)
    np.testing.assert_allclose(found.rows, alone.rows, atol=1e-5)
    assert found.tiles == alone.tiles == 4
    assert set(book.slides) == set(source.table["slide"])


def test_the_book_says_how_it_was_made(cohort, book, tmp_path):
    facts = book.provenance.model_dump()
    assert facts["source"]["name"] == "cohort/manifest.csv" == book.source
    assert {"slide", "patient", "diagnosis"} <= set(facts["source"]["columns"])
    assert (facts["by"], facts["max_tiles"], facts["seed"], facts["skipped"]) == ("slide", 200, 0, {})
    assert facts["environment"]["histolatent"] == version()
    assert facts["options"]["method"] == "macenko"
    assert facts["overall"]["tiles"] == facts["overall"]["sampled"] == 16
    assert all(0 < each["tissue_share"] <= 1 and each["tiles"] == 4 for each in facts["slides"].values())
    book.write(tmp_path / "stain.json")
    assert read_book(tmp_path / "stain.json") == book


def test_workers_change_nothing(cohort, book):
    seen: list[tuple[int, int]] = []
    again = fit_source(cohort, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert without_time(again) == without_time(book)
    assert seen == [(done, 16) for done in range(1, 17)]


def test_the_same_tiles_are_drawn_whatever_else_is_there(cohort):
    source = open_tiles(cohort)
    part = select_rows(source, np.arange(8)[::-1])
    drawn = []
    for tiles in (source, part):
        chosen = choose_rows(tiles, find_groups(tiles, "slide"), 2, 0)
        assert all(len(rows) == 2 for rows in chosen.values())
        drawn.append({name: [tiles.table.index[row] for row in rows] for name, rows in chosen.items()})
    assert all(drawn[0][name] == drawn[1][name] for name in drawn[1])
    other = choose_rows(source, find_groups(source, "slide"), 2, 1)
    assert other != choose_rows(source, find_groups(source, "slide"), 2, 0)


@pytest.mark.parametrize(
    ("method", "kind"),
    [("vahadane", StainModel), ("fixed", StainModel), ("reinhard", ColourModel), ("reinhard-ruderman", ColourModel)],
)
def test_every_method(cohort, method, kind):
    book = fit_source(cohort, method, by="site", max_tiles=3)
    assert sorted(book.slides) == sorted(open_tiles(cohort).table["site"].unique())
    assert all(isinstance(fit, kind) and fit.valid for fit in (*book.slides.values(), book.overall))
    if isinstance(book.overall, ColourModel):
        assert book.overall.space == {"reinhard": "lab", "reinhard-ruderman": "ruderman"}[method]


def test_without_slides_there_is_one_fit_and_a_note(mine):
    folder = mine(lambda frame: frame.drop(columns="slide"))
    book = fit_source(folder)
    assert book.slides == {}
    assert book.overall.valid
    note = "the tiles have no column 'slide': one fit over all of them. Name yours with --column slide=YOURS"
    assert book.provenance.notes[0] == note
    assert note not in fit_source(folder, by="all").provenance.notes


def test_tiles_without_a_slide_go_by_the_whole(mine):
    def blank(frame):
        frame.loc[:3, "slide"] = ""
        return frame

    book = fit_source(mine(blank))
    assert len(book.slides) == 3
    assert book.overall.tiles == 16
    assert book.provenance.notes == ["4 tiles without a slide go by the fit over all tiles"]


def test_a_cohort_of_one_tile(cohort):
    book = fit_source(select_rows(open_tiles(cohort), np.arange(1)))
    assert (len(book.slides), book.overall.tiles, book.overall.valid) == (1, 1, True)


def test_a_cohort_of_nothing_but_white_is_no_error():
    blank = np.full((64, 64, 3), 243, np.uint8)
    book = fit_source(Memory({"a": blank, "b": blank}, {"slide": ["s1", "s2"]}))
    assert {fit.reason for fit in (*book.slides.values(), book.overall)} == {"too-little-tissue"}


def test_an_unreadable_tile_stops_or_is_skipped(mine):
    folder = mine()
    tile = sorted(folder.rglob("*.png"))[0]
    tile.write_bytes(b"no image")
    with pytest.raises(InputError, match=tile.name):
        fit_source(folder)
    book = fit_source(folder, on_error="skip")
    (name,) = book.provenance.skipped
    assert name.endswith(tile.stem)
    assert "not an image" in book.provenance.skipped[name]
    for other in folder.rglob("*.png"):
        other.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"no tile could be read: all 16 were skipped. Received: not an image"):
        fit_source(folder, on_error="skip")


def test_a_slide_without_a_readable_tile_is_not_usable(mine):
    folder = mine()
    slide = open_tiles(folder).table["slide"].iloc[0]
    for tile in (folder / "tiles" / slide).glob("*.png"):
        tile.write_bytes(b"")
    book = fit_source(folder, on_error="skip")
    assert book.of(slide).reason == "too-little-tissue"
    assert book.provenance.slides[slide].model_dump() == {"tiles": 4, "sampled": 0, "tissue_share": None}


def test_given_vectors_and_white(cohort):
    vectors = [RUIFROK["hematoxylin"], RUIFROK["eosin"]]
    book = fit_source(cohort, "fixed", vectors=vectors, white=(240, 241, 242))
    assert isinstance(book.overall, StainModel)
    assert (book.overall.method, book.overall.white_source) == ("given", "given")
    assert book.provenance.model_dump()["options"]["white"] == [240, 241, 242]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "macenco"}, "no normalisation method is called 'macenco'.*did you mean 'macenko'"),
        ({"by": "slid"}, "no column to group tiles by is called 'slid'.*did you mean 'slide'"),
        ({"max_tiles": 0}, "max_tiles is less than one"),
        ({"stains": "HE"}, "no set of stains is called 'HE'"),
        ({"stains": "H&E-DAB"}, "macenko finds two stains"),
        ({"method": "reinhard", "stains": "H-DAB"}, "reinhard fits colours and not stains"),
        ({"vectors": [[1, 0, 0], [0, 1, 0]]}, "macenko finds its own vectors.*--method fixed"),
        ({"white": (1, 2)}, "white is not one or three levels"),
        ({"alpha": 60.0}, "out of range"),
        ({"on_error": "go"}, "unknown way to handle"),
    ],
)
def test_options_are_checked(cohort, options, says):
    with pytest.raises(OptionError, match=says):
        fit_source(cohort, **options)


def test_the_share_of_tissue_is_by_the_white_that_was_given(cohort):
    """Seen against a darker white, less of the same pixels is tissue."""
    shares = [fit_source(cohort, "fixed", white=white).provenance.overall.tissue_share for white in (250, 170)]
    assert shares[0] > shares[1] > 0


def test_options_as_json():
    assert Fitter("fixed", vectors=np.eye(3), white=240).to_dict() == {
        "method": "fixed",
        "stains": "H&E",
        "vectors": np.eye(3).tolist(),
        "white": 240,
        "beta": 0.15,
        "alpha": 1.0,
    }


def test_tiles_without_one_staining_are_said():
    purple, pink = (np.array(each) for each in ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)))
    rng = np.random.default_rng(0)

    def tile(turn: float) -> np.ndarray:
        amounts = rng.exponential(0.4, (64, 64, 2)) * (rng.random((64, 64, 2)) > 0.3) + 0.05
        turned = pink + turn * (purple - pink)
        density = amounts @ np.stack([purple, turned / np.linalg.norm(turned)])
        return np.rint(240 * np.exp(-density)).astype(np.uint8)

    tiles = {str(number): tile(0.25 * number) for number in range(3)}
    mixed = fit_source(Memory(tiles, {}), white=240, beta=0.0, by="all").provenance.notes
    assert len(mixed) == 1
    assert "they have no one staining, and one fit does not suit them" in mixed[0]
    alike = {str(number): tile(0.2) for number in range(3)}
    assert fit_source(Memory(alike, {}), white=240, beta=0.0, by="all").provenance.notes == []
