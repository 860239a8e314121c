"""Outlines of metastases, and the labels of tiles that are cut from slides."""

import numpy as np
import pytest
from PIL import Image

from histolatent.errors import InputError, OptionError
from histolatent.images import Cut, open_tiles
from histolatent.images.published import Lesions, label_tiles, read_lesions, tumour_share

SQUARE = [(32, 0), (96, 0), (96, 64), (32, 64)]


def xml(*outlines):
    parts = []
    for group, corners in outlines:
        points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(corners))
        parts.append(
            f'<Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">'
            f"<Coordinates>{points}</Coordinates></Annotation>"
        )
    return f'<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>{"".join(parts)}</Annotations></ASAP_Annotations>'


@pytest.fixture
def cohort(tmp_path):
    """A folder as a fetch leaves it: a slide with tumour, one without, both 128 px wide."""
    for name in ("tumor_001", "normal_001"):
        (tmp_path / "published/images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 128, 3), 200, np.uint8)).save(tmp_path / f"published/images/{name}.png")
    (tmp_path / "published/annotations").mkdir()
    (tmp_path / "published/annotations/tumor_001.xml").write_text(
        xml(("_0", SQUARE), ("_2", [(64, 0), (96, 0), (96, 64)]))
    )
    (tmp_path / "manifest.csv").write_text(
        "path,tile,label,slide,annotation\n"
        "published/images/tumor_001.png,tumor_001,tumor,tumor_001,published/annotations/tumor_001.xml\n"
        "published/images/normal_001.png,normal_001,normal,normal_001,\n"
    )
    return tmp_path


def test_groups_of_outlines_are_told_apart(tmp_path):
    (tmp_path / "a.xml").write_text(xml(("Tumor", SQUARE), ("_1", SQUARE), ("_2", SQUARE), ("_0", SQUARE[:2])))
    found = read_lesions(tmp_path / "a.xml")
    assert (len(found.tumour), len(found.excluded)) == (2, 1)
    assert found.tumour[0].tolist() == [list(corner) for corner in SQUARE]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (xml(("Necrosis", SQUARE)), "a group that is not known.*'Necrosis'"),
        ("<no", "these are no outlines"),
        (xml(("_0", [("a", 0), (1, 1), (2, 2)])), "these are no outlines"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "a document type are not read"),
    ],
)
def test_what_is_no_file_of_outlines_is_said(tmp_path, text, says):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match=says):
        read_lesions(tmp_path / "a.xml")


def test_the_share_of_a_square():
    lesions = Lesions((np.array(SQUARE, float),))
    assert tumour_share(lesions, np.array([32, 0]), 32) == 1
    assert tumour_share(lesions, np.array([200, 0]), 32) == 0
    assert tumour_share(lesions, np.array([0, 0]), 64) == pytest.approx(0.5, abs=0.04)
    hole = Lesions(lesions.tumour, (np.array(SQUARE, float),))
    assert tumour_share(hole, np.array([32, 0]), 32) == 0


def test_tiles_are_labelled_by_outline(cohort):
    tiles = label_tiles(open_tiles(cohort, cut=Cut(32)), least=0.5)
    table = tiles.table
    labels = {name: label for name, label in table["label"].items() if str(name).startswith("tumor_001")}
    assert labels["tumor_001_x0_y0"] == "normal"
    assert labels["tumor_001_x32_y0"] == "tumor"
    assert labels["tumor_001_x96_y32"] == "normal"
    assert labels["tumor_001_x64_y0"] is None  # a triangle of it is excluded, more than half
    assert set(table["label"][table["slide"] == "normal_001"]) == {"normal"}
    assert 0 < table["tumor_share"]["tumor_001_x64_y0"] < 0.5
    assert tiles.read(0).shape == (32, 32, 3)


def test_outlines_that_are_not_there_are_asked_for(cohort):
    text = (cohort / "manifest.csv").read_text().replace(",published/annotations/tumor_001.xml", ",")
    (cohort / "manifest.csv").write_text(text)
    with pytest.raises(InputError, match=r"outlines of a slide with tumour are not there.*annotations/tumor_001.xml"):
        label_tiles(open_tiles(cohort, cut=Cut(32)))


def test_whole_slides_have_no_label_by_outline(cohort):
    with pytest.raises(OptionError, match=r"only tiles that are cut.*Cut\(256\)"):
        label_tiles(open_tiles(cohort))


def test_a_share_of_nothing_is_no_label(cohort):
    with pytest.raises(OptionError, match="above 0, up to 1"):
        label_tiles(open_tiles(cohort, cut=Cut(32)), least=0.0)
