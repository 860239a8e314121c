"""A cohort divided for a study: tiles of one site to train on, and tiles at sites that nothing is trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from .._types import Tile
from ..errors import InputError
from ..images import TileSource, known_mpp, select_rows
from ..images.selected import truth_of
from ..perturb import VirtualSite, virtual_sites
from ..probes import grouped_folds
from ..training.holdout import group_codes

#: Of a cohort of one site, one patient in so many is kept for reading.
KEPT = 4
SOURCE, UNSEEN = "source", "unseen"
Rows = Int[np.ndarray, " _rows"]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Tiles of one site to train on, and at others to read.

    `unseen` are rows by site. `kept` are the source's own rows of the patients that were kept out of training; it is
    empty where all patients of the source are trained on, and the source is read by leaving out some in turn. `groups`
    is a code for the patient of each tile, else for its slide, else for the tile, which is one and the same at all
    virtual sites. `column` is that of the labels.
    """

    tiles: TileSource
    train: Rows
    unseen: Mapping[str, Rows]
    kept: Rows
    groups: Rows
    column: str | None = "label"

    @property
    def labels(self) -> pd.Series:
        """The label of each tile; one and the same of all where there is no column of labels."""
        table = self.tiles.table
        return pd.Series("", table.index) if self.column is None else pd.Series(table[self.column])

    @property
    def virtual(self) -> bool:
        """Whether the unseen sites are virtual: the source's own tiles, of the patients kept, as these render them."""
        return len(self.kept) > 0

    @property
    def source(self) -> TileSource:
        """The tiles to train on, of which the label is not used."""
        return select_rows(self.tiles, self.train)

    @property
    def own(self) -> Rows:
        """All rows of the source: those to train on, and those of the patients kept."""
        return np.setdiff1d(np.arange(len(self.tiles.table)), np.concatenate(list(self.unseen.values())))

    @property
    def asked(self) -> dict[str, Rows]:
        """Rows to be read, by site: the source's, of the patients kept if any, then the unseen sites'."""
        return {SOURCE: self.kept if self.virtual else self.train, **self.unseen}

    @property
    def slides(self) -> Rows:
        """A code for the slide of each tile, by which tiles of a site are left out; that of `groups` where it has none.

        Virtual sites show the same slides: there it is `groups` too.
        """
        if self.virtual or not has_slides(self.tiles):
            return self.groups
        return np.unique(self.tiles.table["slide"].astype(str), return_inverse=True)[1]


def split_cohort(
    whole: TileSource,
    train_site: str | None = None,
    *,
    fold: int = 0,
    virtual: int | None = None,
    column: str | None = "label",
) -> Cohort:
    """Divide a cohort by site. Where there is one site, or none is named, some patients are kept for virtual sites.

    Without `train_site` the site with most tiles is trained on, the first of these by name. `fold` says which quarter
    of the patients of one site is kept, which need not have every label; after the last comes the first again.
    `virtual` is how many of the virtual sites show them, the mildest first; all by default. `column` has the labels, of
    which all are trained on; None where none are read. Patients are named by the column `patient`, else `slide`,
    else each tile is its own.

    Raises
    ------
    InputError
        If there is no such site, no label, a tile without a site among others, or too few patients to keep some out.
    """
    table = whole.table
    if column is not None and column not in table:
        raise InputError(
            "the cohort has no label to read" if column == "label" else f"the cohort has no column {column!r} to read",
            received=f"{whole.name} with columns {', '.join(map(str, table.columns))}",
            fix=f"--column label=NAME{'' if column == 'label' else ', or --tasks NAME=COLUMN'}",
        )
    _check_sites_known(whole)
    known = "site" in table and bool(table["site"].notna().all())
    sites = table["site"].astype(str) if known else pd.Series("", index=table.index)
    counts = sites.value_counts().sort_index()
    if train_site is not None and train_site not in counts:
        raise InputError("there is no such site", received=train_site, valid=", ".join(map(str, counts.index)))
    if len(counts) > 1:
        chosen = train_site or str(counts.idxmax())
        others = {_other(str(name)): np.flatnonzero(sites == name) for name in counts.index if name != chosen}
        return Cohort(whole, np.flatnonzero(sites == chosen), others, np.array([], int), group_codes(table), column)
    groups = group_codes(table)
    labels = np.zeros(len(table), int) if column is None else _codes(table[column])
    train, kept = _keep_patients(labels, groups, fold)
    names = tuple(virtual_sites())[:virtual]
    shown = at_virtual_sites(whole, kept, names)
    places = shown.table["site"].to_numpy()
    unseen = {name: np.flatnonzero(places == name) for name in names}
    return Cohort(shown, train, unseen, kept, groups[shown.rows], column)


def _other(site: str) -> str:
    """Return what an unseen site is called: its own name, unless that is what the site trained on is called."""
    return f"site {site}" if site in (SOURCE, UNSEEN) else site


def _check_sites_known(whole: TileSource) -> None:
    if "site" not in whole.table:
        return
    absent = whole.table["site"].isna()
    if bool(absent.any()) and not bool(absent.all()):
        raise InputError(
            f"{int(absent.sum())} of {len(absent)} tiles have no site, and others have one",
            received=f"{whole.name}: {whole.table.index[absent.to_numpy()][0]!r}",
            fix="fill in the column site, or leave these tiles out",
        )


def _codes(values: Any) -> Rows:
    return np.unique(np.asarray(values, str), return_inverse=True)[1]


def _keep_patients(labels: Rows, groups: Rows, fold: int) -> tuple[Rows, Rows]:
    count = len(np.unique(groups))
    if count < 2:
        raise InputError("too few patients or slides to keep some out of training", received=count, valid="2")
    folds = grouped_folds(labels, groups, min(KEPT, count), 0)
    if not folds:
        raise InputError(
            "no patients or slides can be kept out of training so that every label is still trained on",
            received=f"{count} patients or slides",
            fix="take a cohort with more patients of each label",
        )
    train, kept = folds[fold % len(folds)]
    return np.sort(train), np.sort(kept)


def has_slides(tiles: TileSource) -> bool:
    """Whether the slide of every tile is known."""
    return "slide" in tiles.table and bool(tiles.table["slide"].notna().all())


@dataclass(frozen=True, eq=False)
class VirtualTiles:
    """The tiles of a cohort, and after them some of them again, as virtual sites render them.

    `rows` are those of the cohort that each tile shows, `sites` who renders it: None shows it as it is.
    """

    source: TileSource
    rows: Rows
    sites: tuple[VirtualSite | None, ...]
    slides: tuple[str, ...]
    table: pd.DataFrame

    @property
    def name(self) -> str:
        """The name of the cohort."""
        return self.source.name

    @property
    def truth(self) -> pd.DataFrame | None:
        """What the cohort knows of the tissue of these tiles, as the phantom does; None where it knows nothing."""
        return truth_of(self.source, self.rows)

    def read(self, index: int) -> Tile:
        """Return a tile as its site renders it."""
        row, site = int(self.rows[index]), self.sites[index]
        tile = self.source.read(row)
        if site is None:
            return tile
        table = self.source.table
        return site(tile, mpp=known_mpp(table, row), slide=self.slides[index], tile_id=str(table.index[row]))


def at_virtual_sites(whole: TileSource, rows: Rows, names: Sequence[str]) -> VirtualTiles:
    """Return a cohort of one site, called `source`, and after its tiles those of `rows` at virtual sites.

    There a tile is called `SITE/ID`, and its slide `SITE/SLIDE`, as it would be another slide; its patient stays.
    """
    own = whole.table.assign(site=SOURCE)
    tables, taken = [own], [np.arange(len(own))]
    for name in names:
        table = whole.table.iloc[rows].assign(site=name)
        if "slide" in table:
            table["slide"] = [slide if pd.isna(slide) else f"{name}/{slide}" for slide in table["slide"]]
        table.index = pd.Index([f"{name}/{tile}" for tile in table.index], name=own.index.name)
        tables.append(table)
        taken.append(rows)
    shown = np.concatenate(taken)
    slides = whole.table["slide"].fillna("").astype(str) if "slide" in whole.table else pd.Series("", own.index)
    sites = [None] * len(own) + [virtual_sites()[name] for name in names for _ in rows]
    return VirtualTiles(whole, shown, tuple(sites), tuple(slides.iloc[shown]), pd.concat(tables))
