"""Suites by name and by file, and what an operation and a ladder refuse."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from histolatent.errors import HistolatentError, InputError, OptionError
from histolatent.perturb import OPERATIONS, SUITES, Donor, Ladder, Operation, perturb, read_suite, suite

NAMES = ("quick", "standard", "full", "stain", "scanner", "geometry", "must-react")
FAMILIES = {"geometric", "photometric", "acquisition", "stain", "artefact", "must-react"}


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write


def invert(tile: np.ndarray, mpp: float, random: np.random.Generator):
    """A path that a test can pickle."""
    return lambda share: (tile * (1 - share) + (255 - tile) * share).astype(np.uint8)


INVERT = Operation(
    name="invert",
    family="photometric",
    role="must-ignore",
    parameter="share",
    unit="",
    levels=(0.1, 0.2, 0.3, 0.4, 0.5),
    path=invert,
    describes="toward the negative",
    limits=(0.0, 1.0),
)


def test_there_are_seven_suites_and_all_six_families():
    assert tuple(SUITES) == NAMES
    assert {operation.family for operation in OPERATIONS.values()} == FAMILIES
    assert len(OPERATIONS) >= 24
    assert {operation.name for operation in suite("full")} == set(OPERATIONS)
    assert {operation.family for operation in suite("standard")} == FAMILIES


def test_quick_is_what_it_was():
    names = "rotation flip blur jpeg brightness hematoxylin-gain eosin-gain nuclei-erased rotation-there-and-back"
    assert " ".join(operation.name for operation in suite("quick")) == names


def test_controls_that_are_named_exist_and_are_controls():
    for operation in OPERATIONS.values():
        if operation.control is not None:
            assert OPERATIONS[operation.control].role == "control"


def test_every_operation_says_what_it_is():
    for operation in OPERATIONS.values():
        assert operation.describes and operation.parameter
        assert not operation.describes.endswith(".")
        low, high = operation.limits
        assert np.isfinite([low, high]).all(), operation.name


def test_a_file_picks_and_sets_levels(written):
    path = written(
        'include = ["quick"]\noperations = ["pen", "blur"]\nexclude = ["flip"]\n'
        "[levels]\nblur = [0.1, 0.2, 0.3, 0.4, 5]\n"
    )
    found = suite(path)
    names = [operation.name for operation in found]
    assert names == [name for name in SUITES["quick"] if name != "flip"] + ["pen"]
    blur = found[names.index("blur")]
    assert blur.levels == (0.1, 0.2, 0.3, 0.4, 5.0)
    assert OPERATIONS["blur"].levels != blur.levels
    assert suite(str(path)) == read_suite(path) == found


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("operatons = ['blur']", OptionError, r"mine.toml: unknown key 'operatons'.*did you mean 'operations'\?"),
        ("operations = ['blurr']", OptionError, r"mine.toml: operations: no perturbation is called 'blurr'.*'blur'"),
        ("operations = 'blur'", OptionError, r"mine.toml: operations is no list of names. Received: 'blur'"),
        ("operations = [3]", OptionError, r"operations is no list of names"),
        ("include = ['quik']", OptionError, r"mine.toml: include: no suite is called 'quik'.*'quick'"),
        (
            "include = ['quick']\nexclude = ['pen']",
            OptionError,
            r"exclude: 'pen' is not in the suite. Valid: rotation,",
        ),
        ("include = ['quick']\nexclude = ['bluur']", OptionError, r"exclude: no perturbation is called 'bluur'"),
        ("", OptionError, r"mine.toml: the suite holds no operation. Fix: operations = "),
        ("operations = ['flip']\nexclude = ['flip']", OptionError, r"the suite holds no operation"),
        ("operations = ['blur']\nlevels = 3", OptionError, r"levels is no table. Received: 3"),
        ("operations = ['blur']\n[levels]\njpeg = [1]", OptionError, r"levels: 'jpeg' is not in the suite"),
        ("operations = ['blur']\n[levels]\nblr = [1]", OptionError, r"levels: no perturbation is called 'blr'.*'blur'"),
        ("operations = ['blur']\n[levels]\nblur = 3", OptionError, r"levels.blur is no list of numbers. Received: 3"),
        ("operations = ['blur']\n[levels]\nblur = ['a']", OptionError, r"levels.blur is no list of numbers"),
        ("operations = ['blur']\n[levels]\nblur = [true]", OptionError, r"levels.blur is no list of numbers"),
        ("operations = ['blur']\n[levels]\nblur = [1, 2]", OptionError, r"levels: blur: there are 2 levels.*five"),
        (
            "operations = ['blur']\n[levels]\nblur = [1, 2, 3, 4, 99]",
            OptionError,
            r"levels: blur: a level is out of its limits. Received: 1, 2, 3, 4, 99. Valid: 0.01 to 50 um \(Gaussian",
        ),
        ("operations = ['blur']\n[levels]\nblur = [1, 2, 2, 3, 4]", OptionError, r"neither all rise nor all fall"),
        ("operations = ['blur']\n[levels]\nblur = [nan, 1, 2, 3, 4]", OptionError, r"out of its limits"),
        (
            "operations = ['jpeg']\n[levels]\njpeg = [7, 10, 20, 30, 50]",
            OptionError,
            r"strong to weak.*levels that fall",
        ),
        ("operations = ['flip']\n[levels]\nflip = [5, 4, 3, 2, 1]", OptionError, r"flip has five variants"),
        ("operations = ['blur'", InputError, r"the suite file is no TOML: Unclosed array"),
    ],
)
def test_a_wrong_file_is_answered_with_file_and_field(written, text, kind, said):
    with pytest.raises(kind, match=said):
        suite(written(text))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="the suite file cannot be read: No such file"):
        suite(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"operations = ['\xe9']")
    with pytest.raises(InputError, match="it is not UTF-8"):
        suite(tmp_path / "latin.toml")


def test_a_name_that_is_no_suite_mentions_files():
    with pytest.raises(OptionError, match=r"no suite is called 'quik'.*or a file.toml.*did you mean 'quick'"):
        suite("quik")


def test_a_ladder_of_a_file_travels_and_uses_its_levels(written, tile):
    path = written("operations = ['jpeg', 'flip']\n[levels]\njpeg = [90, 80, 70, 60, 55]\n")
    ladder = pickle.loads(pickle.dumps(Ladder(suite(path), seed=3)))
    assert ladder.names[1:3] == ("jpeg@1", "jpeg@2")
    views = ladder(tile, "t", 0.5)
    np.testing.assert_array_equal(views[5], perturb(tile, OPERATIONS["jpeg"].at((90, 80, 70, 60, 55)), 5, tile_id="t"))
    assert (views[5] != perturb(tile, "jpeg", 5, tile_id="t")).any()


def test_an_operation_that_is_not_registered_travels_too(tile):
    known = len(OPERATIONS)
    ladder = pickle.loads(pickle.dumps(Ladder((INVERT, "blur"))))
    np.testing.assert_array_equal(ladder(tile, "t", None)[5], perturb(tile, INVERT, 5, tile_id="t"))
    assert len(OPERATIONS) == known


def test_a_ladder_holds_an_operation_once():
    with pytest.raises(OptionError, match="an operation is in the ladder twice"):
        Ladder(("blur", "flip", "blur"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "In vert"}, "an operation's name is not plain. Received: 'In vert'"),
        ({"levels": (0.1, 0.2, 0.3, 0.4, 2.0)}, "invert: a level is out of its limits"),
        ({"levels": (0.1, 0.3, 0.2, 0.4, 0.5)}, "invert: the levels neither all rise nor all fall"),
    ],
)
def test_an_operation_checks_itself(change, said):
    with pytest.raises(OptionError, match=said):
        replace(INVERT, **change)


def test_levels_of_the_same_numbers_are_the_same_operation():
    assert OPERATIONS["blur"].at([0.25, 0.5, 0.75, 1.0, 1.5]) is OPERATIONS["blur"]
    assert OPERATIONS["flip"].at([1, 2, 3, 4, 5]) is OPERATIONS["flip"]


def test_captions_have_units():
    assert [OPERATIONS["blur"].caption(severity) for severity in (0, 2)] == ["none", "0.5 um"]
    assert OPERATIONS["jpeg"].caption(1) == "50"
    assert OPERATIONS["flip"].caption(4) == "variant 4"


def test_a_dictionary_has_everything_but_the_path():
    document = OPERATIONS["rotation"].to_dict()
    assert document["levels"] == [5.0, 10.0, 20.0, 30.0, 45.0]
    assert document["control"] == "rotation-there-and-back"
    assert "path" not in document


def test_donors_of_a_ladder_reach_the_swap(tile, phantom):
    other = phantom.read(list(phantom.table["label"]).index("mucosa"))
    ladder = Ladder(("tissue-swap",), donors=(Donor(other, 0.5, "other"),))
    given, drawn = ladder(tile, "t", 0.5)[5], Ladder(("tissue-swap",))(tile, "t", 0.5)[5]
    assert (given != drawn).any()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ladder))(tile, "t", 0.5)[5], given)


def test_every_error_of_the_room_is_of_one_kind():
    assert issubclass(OptionError, HistolatentError) and issubclass(InputError, HistolatentError)
