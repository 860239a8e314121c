"""The catalogue: complete, checked, and sure of nothing that is not published."""

import pytest
from pydantic import ValidationError

from histolatent.errors import OptionError
from histolatent.images.published import Cohort, cohorts, cohorts_frame, find_cohort
from histolatent.images.published.catalogue import Series
from histolatent.images.published.layouts import lay_out

NAMES = [cohort.name for cohort in cohorts()]


def test_every_cohort_that_is_promised_is_there():
    assert NAMES == [
        "camelyon16",
        "camelyon17-wilds",
        "midog-plus-plus",
        "plism",
        "pathorob-camelyon",
        "pathorob-tcga",
        "pathorob-tolkach-esca",
        "tcga-ut",
        "nct-crc",
        "pcam",
        "pathmnist",
    ]
    assert list(cohorts_frame()["name"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_cohort_says_what_it_is_for_and_when_it_misleads(name):
    cohort = find_cohort(name)
    for fact in ("title", "what", "licence", "notice", "good_for", "misleads"):
        assert getattr(cohort, fact).strip()
    assert ("NC" in cohort.licence) == ("NON-COMMERCIAL" in cohort.notice) == ("Non-commercial" in cohort.misleads)
    assert (cohort.hub is None) == all(file.address for file in cohort.listed())
    assert __import__(lay_out.__module__ + "." + cohort.layout)


def test_files_that_follow_a_rule():
    plism, midog, tcga = (find_cohort(name).listed() for name in ("plism", "midog-plus-plus", "tcga-ut"))
    assert len(plism) == 91 and plism[0].name == "GIV_AT2_to_GMH_S60.tif.h5"
    images = [file for file in midog if file.name.startswith("images/")]
    assert [file.name for file in images] == [f"images/{n:03d}.tiff" for n in (*range(1, 151), *range(201, 554))]
    assert len({file.address for file in images}) == 503
    assert images[1].address == "https://figshare.com/ndownloader/files/40282102?=bcb4228247770ff4e03e"
    assert len(tcga) == 32


def test_values_that_go_together_stay_together():
    series = Series(name="{b}/{a}", address="http://h/{c}", values={"a": ("x", "y"), "b c": ("1 2", "3 4")})
    assert [(file.name, file.address) for file in series.files()] == [
        ("1/x", "http://h/2"),
        ("3/x", "http://h/4"),
        ("1/y", "http://h/2"),
        ("3/y", "http://h/4"),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"files": ({"name": "../a", "address": "http://h/a"},)}, "not a path below"),
        ({"files": ({"name": "a", "address": "http://h/a", "md5": "xyz"},)}, "md5"),
        ({"files": ({"name": "a"},)}, "without address"),
        ({"files": ()}, "no files"),
        ({"files": ({"name": "a", "address": "http://h/a"},) * 2}, "twice"),
        ({"commit": "0" * 40}, "no repository"),
        ({"colour": "pink"}, "colour"),
    ],
)
def test_what_is_wrong_in_the_data_file_is_said(change, says):
    known = find_cohort("pathmnist").model_dump()
    with pytest.raises(ValidationError, match=says):
        Cohort.model_validate({**known, **change})


def test_a_mistyped_name_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match=r"no cohort is called 'camelyon17-wild'.*did you mean 'camelyon17-wilds'"):
        find_cohort("camelyon17-wild")
