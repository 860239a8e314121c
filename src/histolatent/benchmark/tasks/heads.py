"""Heads of classes: trained on the source alone, the same way for every method, and asked about patients apart."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ..._types import Codes, Vectors
from ...errors import InputError
from ...probes import NotReadable, Reading, fit_probe
from ..cohort import Cohort
from .task import Task, labels_of

Rows = Int[np.ndarray, " _r"]


@dataclass(frozen=True, eq=False)
class Read:
    """The vectors of a cohort's tiles, in order; `copies` are those of what is trained on, augmented: `(k, t, d)`."""

    vectors: Vectors
    copies: Float[np.ndarray, "k t d"]


def read_classes(task: Task, cohort: Cohort, read: Read, *, seed: int = 0) -> pd.DataFrame:
    """Return a row for each tile with a label at the source and each unseen site: truth, predicted, score.

    `score` is the probability of the last class.
    """
    labels, times, n = labels_of(task, cohort.tiles.table), len(read.copies), len(read.vectors)
    vectors = np.concatenate([read.vectors, read.copies.reshape(-1, read.vectors.shape[1])])
    labels = labels + [labels[row] for row in cohort.train] * times
    groups = np.concatenate([cohort.groups, *[cohort.groups[cohort.train]] * times])
    trained = np.concatenate([cohort.train, np.arange(n, len(vectors))])
    return _rows(task, vectors, labels, groups, trained, cohort.asked, seed)


def read_slides(task: Task, cohort: Cohort, read: Read, *, seed: int = 0) -> pd.DataFrame:
    """Return a row for each slide, which is known by the mean of its tiles."""
    slides = slides_of(task, cohort)
    bags = [read.vectors[rows] for rows in slides.rows]
    bags += [bag for row in slides.trained for bag in copies_of(cohort, read, slides.rows[row])]
    owners = np.concatenate([np.arange(len(slides.rows)), np.repeat(slides.trained, len(read.copies))])
    means, labels = np.stack([bag.mean(axis=0) for bag in bags]), [slides.labels[row] for row in owners]
    trained = np.concatenate([slides.trained, np.arange(len(slides.rows), len(bags))])
    return _rows(task, means, labels, slides.groups[owners], trained, slides.asked, seed)


def copies_of(cohort: Cohort, read: Read, rows: Rows) -> list[Vectors]:
    """Return the vectors of augmented copies of some tiles that are trained on, those of each copy by themselves."""
    return [copy[np.searchsorted(cohort.train, rows)] for copy in read.copies]


@dataclass(frozen=True, eq=False)
class Slides:
    """Slides with a label: the rows of their tiles, label and patient; which are trained on, and asked at each site."""

    rows: tuple[Rows, ...]
    labels: tuple[str, ...]
    groups: Codes
    trained: Rows
    asked: Mapping[str, Rows]


def slides_of(task: Task, cohort: Cohort) -> Slides:
    """Return the slides of a cohort that are trained on, and those of each site.

    Raises
    ------
    InputError
        If a slide has tiles of several labels.
    """
    labels, names = labels_of(task, cohort.tiles.table), cohort.tiles.table["slide"].astype(str).to_numpy()
    rows, found, groups = [], [], []

    def number(theirs: Rows) -> Rows:
        """Add the slides that these tiles are of, and return their numbers."""
        first = len(rows)
        for name in dict.fromkeys(names[theirs]):
            mine = theirs[names[theirs] == name]
            there = sorted({label for row in mine if (label := labels[row]) is not None})
            if len(there) > 1:
                raise InputError(f"a slide has several values of {task.column}", received=f"{name}: {', '.join(there)}")
            if there:
                rows.append(mine)
                found.append(there[0])
                groups.append(cohort.groups[mine[0]])
        return np.arange(first, len(rows))

    trained = number(cohort.train)
    asked = {name: trained if theirs is cohort.train else number(theirs) for name, theirs in cohort.asked.items()}
    return Slides(tuple(rows), tuple(found), np.array(groups), trained, asked)


def _rows(
    task: Task,
    vectors: Vectors,
    labels: list[str | None],
    groups: Codes,
    trained: Rows,
    asked: Mapping[str, Rows],
    seed: int,
) -> pd.DataFrame:
    found = read_apart(vectors, labels, groups, trained, asked, seed=seed)
    if isinstance(found, NotReadable):
        raise InputError(
            f"the task {task.name} cannot be read of {task.column!r}: {found.reason}",
            fix="take a cohort with more patients of each class, or leave the task out",
        )
    return found


def read_apart(
    vectors: Vectors,
    labels: list[str | None],
    groups: Codes,
    trained: Rows,
    asked: Mapping[str, Rows],
    *,
    seed: int = 0,
) -> pd.DataFrame | NotReadable:
    """Fit on what is trained on, and ask about each site: about what is itself trained on, in folds of patients."""
    split: list[str | None] = [None] * len(vectors)
    own: list[str | None] = [None] * len(vectors)
    for row in trained:
        split[row], own[row] = "train", labels[row]
    inside = {name: rows for name, rows in asked.items() if len(np.intersect1d(rows, trained))}
    outside = {name: rows for name, rows in asked.items() if name not in inside}
    for row in np.concatenate(list(outside.values())):
        split[row] = "test"
    parts = []
    if inside:
        within = fit_probe(vectors, own, groups, seed=seed)
        if isinstance(within, NotReadable):
            return within
        found = within.read(vectors)
        parts += [_asked(found, groups, name, rows) for name, rows in inside.items()]
    across = fit_probe(vectors, labels, groups, split=split, every_class_tested=False, seed=seed)
    if isinstance(across, NotReadable):
        return across
    found = across.read(vectors)
    parts += [_asked(found, groups, name, rows) for name, rows in outside.items()]
    return pd.concat(parts, ignore_index=True)


def _asked(found: Reading, groups: Codes, site: str, rows: Rows) -> pd.DataFrame:
    """Return what was read of some rows."""
    mine = np.isin(found.rows, rows)
    return pd.DataFrame(
        {
            "site": site,
            "unit": found.rows[mine],
            "group": groups[found.rows[mine]],
            "truth": found.codes[mine],
            "predicted": found.predicted[mine],
            "score": found.scores[mine, -1],
        }
    )
