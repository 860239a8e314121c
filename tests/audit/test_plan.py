"""Plans, subsets and groups."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from histolatent.audit.plan import (
    Plan,
    check_tables,
    chosen_rows,
    describe_groups,
    find_groups,
    limit,
    scale_warnings,
)
from histolatent.errors import InputError, OptionError


@dataclass(frozen=True, eq=False)
class Numbered:
    """Tiles whose every pixel is their number."""

    table: pd.DataFrame
    name: str = "numbered"

    def read(self, index: int) -> np.ndarray:
        return np.full((4, 4, 3), index, np.uint8)


def table(n: int = 12, **columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index([f"t{i:02d}" for i in range(n)], name="tile"))


PATIENTS = ["p1"] * 4 + ["p2"] * 4 + ["p3"] * 4
SLIDES = [f"s{i // 2}" for i in range(12)]


def same(codes: np.ndarray, names: list) -> bool:
    """Whether two ways of naming groups make the same groups."""
    pairs = set(zip(codes.tolist(), names, strict=True))
    return len(pairs) == len(set(codes.tolist())) == len(set(names))


def test_patients_come_before_slides_and_slides_before_tiles():
    both = find_groups(table(patient=PATIENTS, slide=SLIDES))
    assert (both.by, both.apart_by) == ("patient", "slide")
    assert same(both.codes, PATIENTS)
    assert same(both.apart, SLIDES)
    slides = find_groups(table(slide=SLIDES))
    assert (slides.by, slides.apart_by) == ("slide", "slide")
    patients = find_groups(table(patient=PATIENTS))
    assert (patients.by, patients.apart_by) == ("patient", "patient")
    nothing = find_groups(table())
    assert (nothing.by, nothing.apart_by) == ("tile", "tile")
    assert len(set(nothing.codes.tolist())) == 12


def test_a_column_with_one_value_makes_no_groups():
    groups = find_groups(table(patient=["p1"] * 12, slide=SLIDES))
    assert groups.by == "slide"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_tiles_without_a_patient_stand_alone(missing):
    patients = ["p1"] * 5 + [missing] * 3 + ["t05"] * 4  # a patient called like a tile is still a patient
    groups = find_groups(table(patient=patients, split=["train"] * 6 + ["test"] * 6))
    assert same(groups.codes, ["p1"] * 5 + ["x", "y", "z"] + ["p2"] * 4)


def test_a_patient_on_both_sides_of_the_split_raises():
    split = ["train"] * 6 + ["test"] * 6
    with pytest.raises(
        InputError, match=r"1 patient stands in more than one part.*Received: p2 \(test, train\).*same split"
    ):
        find_groups(table(patient=PATIENTS, split=split))
    with pytest.raises(InputError, match="slide stands"):
        find_groups(table(slide=["a"] * 7 + ["b"] * 5, split=split))
    find_groups(table(patient=PATIENTS, split=["train"] * 4 + ["test"] * 4 + [None] * 4))


def test_no_groups_and_few_groups_are_warned_of():
    facts, warnings = describe_groups(find_groups(table()))
    assert facts == {"by": "tile", "count": 12, "null_apart_by": "tile"}
    assert warnings == [
        "no patient and no slide column: every tile counts as independent, so intervals are too narrow, and probes may "
        "be scored on slides that they were trained on"
    ]
    facts, warnings = describe_groups(find_groups(table(patient=PATIENTS)))
    assert facts["count"] == 3
    assert warnings == ["only 3 groups (patient): intervals from so few clusters are too narrow"]
    many = table(patient=[f"p{i}" for i in range(12)])
    assert describe_groups(find_groups(many))[1] == []


def test_a_subset_is_drawn_by_the_seed_and_keeps_the_order():
    source = Numbered(table(60, slide=[f"s{i}" for i in range(60)]))
    part = limit(source, 20, seed=3)
    again = limit(source, 20, seed=3)
    other = limit(source, 20, seed=4)
    assert list(part.table.index) == list(again.table.index) == sorted(part.table.index)
    assert list(part.table.index) != list(other.table.index)
    assert len(part.table) == 20
    for row, name in enumerate(part.table.index):
        assert part.read(row)[0, 0, 0] == int(name[1:])
    assert part.name == "numbered"
    rows = chosen_rows(60, 20, 3)
    assert list(source.table.index[rows]) == list(part.table.index)
    assert limit(source, 60, 0) is limit(source, None, 0) is source
    assert chosen_rows(5, None, 0).tolist() == [0, 1, 2, 3, 4]


def test_too_few_tiles_raise():
    check_tables(table(10))
    with pytest.raises(InputError, match=r"too few tiles to audit. Received: 9. Valid: at least 10"):
        check_tables(table(9))


def test_an_unknown_scale_is_warned_of():
    assert scale_warnings(table(), Plan()) == [
        "um per pixel is not known for 12 tiles: 0.5 is assumed (set it with --mpp)"
    ]
    assert scale_warnings(table(), Plan(mpp=0.25)) == []
    assert scale_warnings(table(mpp=[0.5] * 11 + [np.nan]), Plan())[0].startswith("um per pixel is not known for 1 t")
    assert scale_warnings(table(mpp=[0.5] * 12), Plan()) == []


def test_an_unknown_suite_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match=r"no suite is called 'quik'.*did you mean 'quick'\?"):
        Plan(suite="quik")


@pytest.mark.parametrize("wrong", [{"resamples": 99}, {"max_tiles": 9}, {"mpp": 0}, {"seed": -1}, {"severity": 3}])
def test_plans_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValidationError):
        Plan(**wrong)


def test_titles_are_the_users_words():
    plan = Plan(columns={"label": "diagnosis"})
    assert (plan.title("label"), plan.title("site")) == ("diagnosis", "site")
    assert len(plan.operations) == 9


def test_a_plan_holds_the_levels_of_its_suite(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("operations = ['blur', 'flip']\n[levels]\nblur = [0.1, 0.2, 0.3, 0.4, 0.5]\n")
    plan = Plan(suite=str(path))
    assert plan.operations == {"blur": (0.1, 0.2, 0.3, 0.4, 0.5), "flip": (1, 2, 3, 4, 5)}
    assert [operation.levels for operation in plan.perturbations] == list(plan.operations.values())
    path.unlink()
    again = Plan(**plan.model_dump())  # the plan of a result is enough: the file may be gone
    assert again.perturbations == plan.perturbations


def test_operations_that_do_not_exist_or_do_not_fit_are_refused():
    with pytest.raises(OptionError, match=r"no perturbation is called 'blurr'"):
        Plan(operations={"blurr": (1, 2, 3, 4, 5)})
    with pytest.raises(OptionError, match="blur: a level is out of its limits"):
        Plan(operations={"blur": (1, 2, 3, 4, 500)})
