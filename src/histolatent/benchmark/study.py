"""What a benchmark compares, checked before anything is trained: a divided cohort, chains of methods, tasks, a base."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..encoders.embed import source_digest
from ..errors import InputError, OptionError
from ..images import TileSource
from ..images.inputs import input_files
from ..images.phantom import PhantomTiles
from ..images.selected import SelectedTiles
from ..provenance import digest, version
from .cohort import Cohort
from .methods import Base, Chain, Method
from .methods.base import files_key
from .methods.gan_plan import GanPlan
from .tasks import Task, check_task, find_objects

#: Columns that a method may know of target tiles.
KNOWN_OF_TARGET = ("slide", "patient", "mpp", "x", "y")
#: Kinds of nuclei of the phantom that are to be found.
MITOSIS = "mitosis"


@dataclass(frozen=True, eq=False)
class Study:
    """A cohort divided for one seed, the objects of its tiles if a task looks for any, and what all cells share.

    `pixels` changes with what the tiles are read from.
    """

    cohort: Cohort
    objects: tuple[np.ndarray, ...] | None
    base: Base
    tasks: tuple[Task, ...]
    pixels: str = ""
    gan: GanPlan = field(default_factory=GanPlan)

    @property
    def start(self) -> str:
        """What tells apart that which is made before tasks are read: of other tiles or another base, it is not used."""
        base = self.base.encoder.card.identity if self.base.encoder else self.base.plan.model_dump(exclude={"about"})
        facts = {
            "version": version(),
            "tiles": source_digest(self.cohort.tiles),
            "pixels": self.pixels,
            "trained": self.cohort.train.tolist(),
            "base": base,
            "gan": self.gan.model_dump(),
        }
        return digest(facts)[:12]

    def key(self, chain: Chain, seed: int) -> str:
        """Return what tells a cell from others: cells of another key are not used again."""
        facts = {
            "start": self.start,
            "chain": files_key(chain.methods),
            "tasks": [(task.name, task.column) for task in self.tasks],
            "objects": None if self.objects is None else [places.tolist() for places in self.objects],
            "seed": seed,
        }
        return digest(facts)[:12]


def pixels_digest(source: TileSource) -> str:
    """Return what changes with the pixels of a source: sizes and times of its files, or how the phantom is drawn.

    Misleads for a source of one's own, of which the table alone is known; and a file that is touched is another one.
    """
    stats = [Path(file).stat() for file in input_files(source)]
    while isinstance(source, SelectedTiles):
        source = source.source
    drawn = source.spec.model_dump(mode="json") if isinstance(source, PhantomTiles) else None
    return digest([drawn, [(stat.st_size, stat.st_mtime_ns) for stat in stats]])[:12]


def check_study(cohort: Cohort, chains: Sequence[Chain], tasks: Sequence[Task], *, single_source: bool) -> None:
    """Raise what stands in the way, before anything is trained.

    Raises
    ------
    OptionError
        If a chain needs target tiles, and only single-source methods are asked for; or two are called the same.
    InputError
        If a method lacks a column, a task cannot be read of the cohort, or a patient is at several sites.
    """
    _check_names(chains, tasks)
    for chain in chains:
        _check_columns(chain, cohort)
        if single_source and chain.needs_target:
            named = ", ".join(method.name for method in chain.methods if method.needs_target)
            raise OptionError(
                "a method needs tiles of the sites that it is judged at, and only one source is allowed",
                received=named,
                fix=f"leave {chain.name} out, or leave out --single-source",
            )
    if not cohort.virtual:
        _check_patients(cohort)
    for task in tasks:
        check_task(task, cohort)


def _check_names(chains: Sequence[Chain], tasks: Sequence[Task]) -> None:
    for what, names in (("methods", [chain.name for chain in chains]), ("tasks", [task.name for task in tasks])):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise OptionError(f"two {what} are called the same", received=", ".join(twice), fix="give each one once")


def _check_columns(chain: Chain, cohort: Cohort) -> None:
    for method in chain.methods:
        for column in lacking(method, cohort.tiles.table):
            raise InputError(
                f"{method.name} is fitted to each {column}, and not of every tile it is known",
                received=f"{cohort.tiles.name} with columns {', '.join(map(str, cohort.tiles.table.columns))}",
                fix=f"--column {column}=NAME, of another column that tells them apart, or leave {chain.name} out",
            )


def lacking(method: Method, table: pd.DataFrame) -> list[str]:
    """Return the columns that a method needs, and a table has not for every tile."""
    return [name for name in method.columns if name not in table or bool(table[name].isna().any())]


def _check_patients(cohort: Cohort) -> None:
    own = set(cohort.groups[cohort.train].tolist())
    for site, rows in cohort.unseen.items():
        shared = np.flatnonzero(np.isin(cohort.groups[rows], list(own)))
        if len(shared):
            table = cohort.tiles.table
            column = "patient" if "patient" in table else "slide"
            raise InputError(
                f"a {column} is both at the source and at an unseen site: what is read there was trained on",
                received=f"{table[column].iloc[rows[shared[0]]]!r} at {site}",
                fix=f"leave its tiles out at one of the sites, or tell apart names that each site gave by itself: "
                f"--column {column}=NAME",
            )


def objects_of(tiles: TileSource, table: pd.DataFrame | None) -> list[np.ndarray]:
    """Return the objects of each tile, in pixels: of the phantom its mitotic figures, else those of a table.

    Raises
    ------
    InputError
        If the tiles are not the phantom's, and there is no table; or none of its objects is on a tile.
    """
    if table is not None:
        return find_objects(tiles, table)
    if not isinstance(tiles, PhantomTiles):
        raise InputError(
            "the task mitoses needs to know where they are", fix="--objects FILE.csv, with the columns tile, x and y"
        )
    found = [tiles.annotations(row) for row in range(len(tiles.table))]
    return [each.loc[each[MITOSIS], ["x", "y"]].to_numpy(float) for each in found]


def as_target(cohort: Cohort) -> dict[str, TileSource]:
    """Return the tiles of each unseen site as a method may see them: without labels."""
    known = [name for name in KNOWN_OF_TARGET if name in cohort.tiles.table]
    table = cohort.tiles.table[known]
    return {
        site: SelectedTiles(cohort.tiles, rows, pd.DataFrame(table.iloc[rows])) for site, rows in cohort.unseen.items()
    }
