"""Tasks by name: what is read of tiles or slides, and by what it is scored."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd

from ...errors import InputError, OptionError, unknown
from ..cohort import SOURCE, Cohort

Kind = Literal["classes", "objects", "slides", "bags"]
#: A value that stands for no label at all, such as the grade of tissue without a tumour.
NOTHING = ("", "0", "0.0", "nan", "None")


@dataclass(frozen=True)
class Task:
    """What is read, from which column, and its scores, of which the first decides."""

    name: str
    kind: Kind
    column: str
    describes: str
    scores: tuple[str, ...]
    zero_is_none: bool = False


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task("subtype", "classes", "label", "classes of tiles", ("balanced accuracy", "accuracy")),
            Task("tumour", "classes", "tumour", "tiles with a tumour", ("AUROC", "balanced accuracy")),
            Task("grading", "classes", "grade", "grades of tiles with a tumour", ("macro F1", "accuracy"), True),
            Task("mitoses", "objects", "", "mitotic figures, found within 7.5 um", ("F1", "AP", "FROC")),
            Task(
                "slides", "slides", "diagnosis", "classes of slides, by their mean", ("balanced accuracy", "accuracy")
            ),
            Task("bags", "bags", "diagnosis", "classes of slides, by attention", ("balanced accuracy", "accuracy")),
        )
    }
)


def parse_task(text: str) -> Task:
    """Return a task from `NAME` or `NAME=COLUMN`.

    Raises
    ------
    OptionError
        If there is no such task, or one of objects is given a column.
    """
    name, equals, column = text.partition("=")
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    task = TASKS[name]
    if equals and (task.kind == "objects" or not column):
        raise OptionError("a task of objects has no column" if column else "which column?", received=text)
    return replace(task, column=column) if equals else task


def labels_of(task: Task, table: pd.DataFrame) -> list[str | None]:
    """Return the label of each tile for a task, None where it has none."""
    values = table[task.column]
    absent = set(NOTHING) if task.zero_is_none else set(NOTHING) - {"0", "0.0"}
    return [None if pd.isna(value) or str(value) in absent else str(value) for value in values]


def check_task(task: Task, cohort: Cohort) -> None:
    """Raise InputError if a task cannot be read of a cohort: before anything is trained.

    Objects themselves are checked where they are looked up.
    """
    table = cohort.tiles.table
    if task.kind == "objects":
        absent = table["mpp"].isna() if "mpp" in table else pd.Series(True, table.index)
        if bool(absent.any()):
            raise unknown_mpp(int(absent.sum()), len(table), str(table.index[absent.to_numpy()][0]))
        return
    if task.column not in table:
        raise InputError(
            f"the task {task.name} needs a column {task.column!r}",
            received=cohort.tiles.name,
            valid=", ".join(map(str, table.columns)),
            fix=f"--tasks {task.name}=COLUMN",
        )
    if task.kind != "classes" and "slide" not in table:
        raise InputError(f"the task {task.name} needs the column 'slide'", received=cohort.tiles.name)
    labels = np.array(labels_of(task, table), object)
    known = {name: {label for label in labels[rows] if label is not None} for name, rows in _sites(cohort).items()}
    if len(known[SOURCE]) < 2:
        raise InputError(
            f"the source has fewer than two classes of {task.column}",
            received=", ".join(sorted(known[SOURCE])) or "none",
            fix=f"leave the task {task.name} out, or train on another site",
        )
    if "AUROC" in task.scores and len(known[SOURCE]) > 2:
        raise InputError(
            f"the task {task.name} is of two classes", received=", ".join(sorted(known[SOURCE])), fix="--tasks subtype"
        )
    for site, there in known.items():
        new = sorted(there - known[SOURCE])
        if new:
            raise InputError(
                f"a class of {task.column} is at an unseen site, and not in what is trained on",
                received=f"{', '.join(new)} at {site}",
                valid=", ".join(sorted(known[SOURCE])),
                fix="leave these tiles out, or train on a site that has them",
            )


def unknown_mpp(absent: int, total: int, first: str) -> InputError:
    """Return the error of tiles in which no distance in um is known."""
    return InputError(
        f"objects are found within um, and of {absent} of {total} tiles um per pixel is not known",
        received=first,
        fix="add the column mpp, or --column mpp=NAME; or cut tiles by --tile-mpp, of files that tell their own",
    )


def _sites(cohort: Cohort) -> dict[str, np.ndarray]:
    return {SOURCE: cohort.train, **cohort.unseen}
