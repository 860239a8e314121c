"""One tile, and whose fit it is looked at with."""

import pytest

from histolatent.errors import InputError, OptionError
from histolatent.images import open_tiles
from histolatent.restain import Fitter, find_tile, fit_of, fit_source


def test_a_file_and_a_row_of_a_source(cohort, book):
    source = open_tiles(cohort)
    name, slide = str(source.table.index[2]), str(source.table["slide"].iloc[2])
    row = find_tile(cohort, name)
    assert (row.name, row.slide) == (name, slide)
    file = find_tile(cohort / "tiles" / f"{name}.png")
    assert (file.pixels == row.pixels).all()
    assert file.slide is None
    assert fit_of(row, Fitter(), book) == (book.of(slide), f"slide {slide}")
    assert fit_of(file, Fitter(), book, slide) == (book.of(slide), f"slide {slide}")
    fit, whose = fit_of(row, Fitter())
    assert (fit.tiles, whose) == (1, "this tile alone")
    whole = fit_source(cohort, by="all")
    assert fit_of(row, Fitter(), whole) == (whole.overall, "all tiles of cohort/manifest.csv")


def test_errors(cohort, book, tmp_path):
    name = str(open_tiles(cohort).table.index[0])
    with pytest.raises(OptionError, match=r"holds 16 tiles. Received: no --tile.*for the first"):
        find_tile(cohort)
    with pytest.raises(OptionError, match=f"did you mean '{name[:-1]}"):
        find_tile(cohort, name[:-1] + "x")
    file = next(cohort.rglob("*.png"))
    with pytest.raises(OptionError, match="an image file is one tile"):
        find_tile(file, "a")
    with pytest.raises(InputError, match="image file not found"):
        find_tile(tmp_path / "a.png")
    with pytest.raises(InputError, match="there is nothing at this path"):
        find_tile(tmp_path / "nowhere", "a")
    (tmp_path / "notes").write_text("x")
    with pytest.raises(InputError, match="not an image, and not a set of tiles"):
        find_tile(tmp_path / "notes")
    tile = find_tile(file)
    with pytest.raises(OptionError, match="which slide is this tile from"):
        fit_of(tile, Fitter(), book)
    with pytest.raises(OptionError, match="no slide in the stain file is called 'x'"):
        fit_of(tile, Fitter(), book, "x")
    with pytest.raises(OptionError, match="give --stain too"):
        fit_of(tile, Fitter(), None, "x")
