"""What `--to` may be, and what it says when it cannot."""

import json

import numpy as np
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.images import open_tiles, select_rows
from histolatent.restain import Fitter, find_reference, fit_source
from histolatent.stain import shipped_reference


def test_every_kind(cohort, book, tmp_path):
    book.write(tmp_path / "stain.json")
    slide = next(iter(book.slides))
    tile = next(cohort.rglob("*.png"))
    found = {
        str(to): find_reference(to, Fitter())
        for to in ("phantom", "macenko", tmp_path / "stain.json", f"{tmp_path}/stain.json:{slide}", tile, cohort)
    }
    kinds = [reference.kind for reference in found.values()]
    assert kinds == ["shipped", "shipped", "stain file", "stain file", "image", "tiles"]
    fits = [reference.fit for reference in found.values()]
    assert fits[0] == shipped_reference("phantom", "macenko")
    assert fits[2] == book.overall == fits[5]
    assert fits[3] == book.of(slide)
    assert all(fit.valid for fit in fits)
    source = select_rows(open_tiles(cohort), np.arange(4))
    assert find_reference(source, Fitter("reinhard")).fit.kind == "colour"


@pytest.mark.data
def test_a_slide_is_cut(data):
    found = find_reference(data / "slides" / "CMU-1-Small-Region.svs", Fitter(), max_tiles=12)
    assert found.kind == "tiles" and found.fit.valid and found.fit.tiles == 12


def test_a_background_given_for_the_tiles_is_not_that_of_the_reference(cohort):
    reference = find_reference(next(cohort.rglob("*.png")), Fitter(white=255))
    assert reference.fit.white_source == "background"


@pytest.mark.parametrize(
    ("to", "method", "says"),
    [
        ("phantm", "macenko", "there is no such reference. Received: phantm.*did you mean 'phantom'"),
        ("", "macenko", "there is no such reference"),
        ("macenko", "reinhard", "'macenko' has no numbers for reinhard"),
        ("WHITE", "macenko", r"white.png cannot be a reference: fewer than 100 pixels of stained tissue"),
        ("BOOK:nowhere", "macenko", "no slide in the stain file is called 'nowhere'"),
        ("BOOK", "reinhard", "fitted for another method. Received: macenko in the file, reinhard asked for"),
        ("BOOK", "vahadane", "--method macenko, or fit again with --method vahadane"),
    ],
)
def test_errors_of_options(book, white, tmp_path, to, method, says):
    book.write(tmp_path / "stain.json")
    to = to.replace("WHITE", str(white)).replace("BOOK", str(tmp_path / "stain.json"))
    with pytest.raises(OptionError, match=says):
        find_reference(to, Fitter(method))


def test_other_stains(cohort, book, tmp_path):
    book.write(tmp_path / "stain.json")
    with pytest.raises(OptionError, match=r"is of other stains.*Valid: hematoxylin, dab"):
        find_reference(tmp_path / "stain.json", Fitter("macenko", "H-DAB"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: d["overall"].update(white=[240, 240, 900]), r"field overall\.white\.2"),
        (lambda d: d["overall"].update(vektors=1), r"overall\.vektors.*did you mean 'vectors'"),
        (lambda d: d.update(method="best"), "method must be one of macenko"),
        (lambda d: d.update(format=7), "unknown format of a stain file"),
        (lambda d: d.clear(), "has no 'overall'"),
    ],
)
def test_a_damaged_stain_file_names_the_field(book, tmp_path, damage, says):
    document = book.model_dump(mode="json")
    damage(document)
    (tmp_path / "stain.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=says):
        find_reference(tmp_path / "stain.json", Fitter())


def test_an_invalid_slide_of_a_file(cohort, white, tmp_path):
    book = fit_source(cohort, max_tiles=1)
    blank = book.overall.model_copy(update={"reason": "one-stain"})
    book.model_copy(update={"slides": {"s": blank}}).write(tmp_path / "stain.json")
    with pytest.raises(OptionError, match="cannot be a reference: the colours do not span two stains"):
        find_reference(f"{tmp_path}/stain.json:s", Fitter())
