"""An encoder read at sites that nothing was fitted to: the label, and what sets the sites apart."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .._types import Tile
from ..audit.factors import FittedFactor, fit_factor
from ..audit.robustness import robustness_index
from ..audit.silhouettes import batch_silhouettes
from ..audit.undefined import Undefined
from ..encoders import Encoder
from ..encoders.embed import embed_views
from ..errors import InputError
from ..images import TileSource, select_rows
from ..neighbors import find_neighbors
from ..perturb import VirtualSite, virtual_sites
from ..probes import FittedProbe, NotReadable, fit_probe, grouped_folds
from ..spectrum import effective_rank
from ..stats import balanced_accuracy

#: Known factors of the tissue that are asked for where the source knows them.
FACTORS = ("nuclear_area_um2", "nuclear_density_per_mm2", "pleomorphism")
#: Neighbours whose types the robustness index counts.
NEIGHBOURS = 50
#: Of a cohort of one site, one in so many patients is kept for reading.
KEPT = 4
SOURCE = "source"


@dataclass(frozen=True, eq=False)
class Cohort:
    """Tiles of one site to train on, and tiles at sites that were not seen.

    With sites of its own, the cohort is trained on at one, and read at the others. With one site, some patients are
    kept out of training, and read as they are and as virtual sites render them; `virtual` then says so.
    """

    whole: TileSource
    train: np.ndarray
    read: Mapping[str, np.ndarray]
    virtual: bool

    @property
    def source(self) -> TileSource:
        """The tiles to train on, of which the label is not used."""
        return select_rows(self.whole, self.train)


def split_cohort(whole: TileSource, train_site: str | None = None, *, fold: int = 0) -> Cohort:
    """Divide a cohort by site; without a column `site`, or with one site, by patient, else slide.

    Without `train_site` the site with most tiles is trained on, the first of these by name. `fold` says which quarter
    of the patients of one site is kept, which need not have every label; after the last comes the first again.

    Raises
    ------
    InputError
        If there is no such site, no label, or too few patients to keep some out.
    """
    table = whole.table
    if "label" not in table:
        raise InputError("the cohort has no label to read", received=whole.name, fix="--column label=NAME")
    sites = table["site"].astype(str) if "site" in table else pd.Series("", index=table.index)
    counts = sites.value_counts().sort_index()
    if train_site is not None and train_site not in counts:
        raise InputError("there is no such site", received=train_site, valid=", ".join(map(str, counts.index)))
    if len(counts) > 1:
        chosen = train_site or str(counts.idxmax())
        others = {str(name): np.flatnonzero(sites == name) for name in counts.index if name != chosen}
        return Cohort(whole, np.flatnonzero(sites == chosen), others, False)
    groups = groups_of(table)
    labels = np.unique(table["label"].astype(str), return_inverse=True)[1]
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
    rest, kept = folds[fold % len(folds)]
    return Cohort(whole, np.sort(rest), dict.fromkeys(virtual_sites(), np.sort(kept)), True)


def groups_of(table: pd.DataFrame) -> np.ndarray:
    """Return a code for the patient of each tile, else for its slide, else for the tile."""
    column = next((name for name in ("patient", "slide") if name in table and table[name].nunique() > 1), None)
    names = table.index if column is None else table[column].astype(str)
    return np.unique(names, return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class Unseen:
    """What a reading left. `right` says of each tile of a site whether its label was read, `groups` whose it is.

    `figures` are by name; those that cannot be had are missing:

    - `source`, `unseen`: accuracy of a linear probe of the label, trained on the source as it is; `unseen` is the mean
      over sites. On the source, patients are left out.
    - `silhouette`: of sites within labels, 0 where they cannot be told apart.
    - `site_above_chance`: balanced accuracy of a fresh probe of the site, slides left out, less chance.
    - `robustness`: the robustness index of 50 neighbours.
    - `rank`: effective rank on the source.
    - `r2_NAME`: of a factor of the tissue, patients left out, on the source.
    """

    right: Mapping[str, np.ndarray]
    groups: Mapping[str, np.ndarray]
    figures: Mapping[str, float]


def read_unseen(
    cohort: Cohort,
    encoder: Encoder,
    *,
    seed: int = 0,
    workers: int = 0,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Unseen:
    """Embed a cohort and read it."""
    table = cohort.whole.table
    views = AtSites(tuple(virtual_sites().items()), slides_of(table)) if cohort.virtual else None
    with tempfile.TemporaryDirectory() as folder:
        embedded = embed_views(
            cohort.whole,
            [encoder],
            [Path(folder) / "vectors"],
            views=views,
            workers=workers,
            batch_size=batch_size,
            progress=progress,
        )
        vectors = np.array(embedded.stores[0].vectors())
    labels: list[str | None] = [None if pd.isna(value) else str(value) for value in table["label"]]
    groups = groups_of(table)
    if cohort.virtual:
        right = _read_views(cohort, vectors, labels, groups, seed)
        whose = {name: groups[cohort.read[next(iter(cohort.read))]] for name in right}
        figures: dict[str, float] = {}
    else:
        right = _read_sites(cohort, vectors[:, 0], labels, groups, seed)
        whose = {SOURCE: groups[cohort.train], **{name: groups[rows] for name, rows in cohort.read.items()}}
        figures = _separation(vectors[:, 0], table, groups, seed)
        figures |= _factors(cohort, vectors[:, 0], groups, seed)
    figures["rank"] = effective_rank(vectors[cohort.train, 0])
    figures[SOURCE] = float(right[SOURCE].mean())
    figures["unseen"] = float(np.mean([right[name].mean() for name in cohort.read]))
    return Unseen(right, whose, figures)


@dataclass(frozen=True, eq=False)
class AtSites:
    """Views of a tile: as it is, and at each virtual site."""

    sites: tuple[tuple[str, VirtualSite], ...]
    slides: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """`source`, then those of the sites."""
        return (SOURCE, *(name for name, _ in self.sites))

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sequence[Tile]:
        """Return all views."""
        slide = self.slides.get(tile_id, "")
        return [tile, *(site(tile, mpp=mpp, slide=slide, tile_id=tile_id) for _, site in self.sites)]


def slides_of(table: pd.DataFrame) -> dict[str, str]:
    """Return the slide of each tile that has one."""
    named = table["slide"].dropna() if "slide" in table else pd.Series(dtype=str)
    return dict(zip(named.index.astype(str), named.astype(str), strict=True))


def _read_sites(
    cohort: Cohort, vectors: np.ndarray, labels: list[str | None], groups: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    trained = set(cohort.train.tolist())
    own = [label if row in trained else None for row, label in enumerate(labels)]
    right = {SOURCE: _right(_fitted(fit_probe(vectors, own, groups, seed=seed)), vectors, cohort.train)}
    others = _right(_fitted(_across(cohort, vectors, labels, groups, seed)), vectors, np.arange(len(labels)))
    return right | {name: others[rows] for name, rows in cohort.read.items()}


def _read_views(
    cohort: Cohort, vectors: np.ndarray, labels: list[str | None], groups: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    rows = next(iter(cohort.read.values()))
    probe = _fitted(_across(cohort, vectors[:, 0], labels, groups, seed))
    names = (SOURCE, *cohort.read)
    return {name: _right(probe, vectors[:, view], rows) for view, name in enumerate(names)}


def _across(
    cohort: Cohort, vectors: np.ndarray, labels: list[str | None], groups: np.ndarray, seed: int
) -> FittedProbe | NotReadable:
    """Fit a probe to the tiles that were trained on, to be read on all others."""
    split = np.full(len(labels), "test", object)
    split[cohort.train] = "train"
    return fit_probe(vectors, labels, groups, split=split.tolist(), every_class_tested=False, seed=seed)


def _fitted(probe: FittedProbe | NotReadable) -> FittedProbe:
    if isinstance(probe, NotReadable):
        raise InputError(f"the label cannot be read: {probe.reason}", fix="take a cohort with more patients a class")
    return probe


def _right(probe: FittedProbe, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return whether the label of each of `rows` was read; one without a label was not."""
    reading = probe.read(vectors)
    found = np.zeros(len(vectors), bool)
    found[reading.rows] = reading.correct > 0
    return found[rows]


def _separation(vectors: np.ndarray, table: pd.DataFrame, groups: np.ndarray, seed: int) -> dict[str, float]:
    sites = [str(site) for site in table["site"]]
    codes, labels = (np.unique(values, return_inverse=True)[1] for values in (sites, table["label"].astype(str)))
    figures: dict[str, float] = {}
    apart = batch_silhouettes(vectors, codes, labels)
    if not isinstance(apart, Undefined) and len(apart.within):
        figures["silhouette"] = float(apart.within.mean())
    slides = np.unique(table["slide"].astype(str), return_inverse=True)[1] if "slide" in table else groups
    probe = fit_probe(vectors, list(sites), slides, seed=seed)
    if isinstance(probe, FittedProbe):
        reading = probe.read(vectors)
        accuracy = balanced_accuracy(reading.correct, reading.codes)(np.ones((1, len(reading.codes))))[0]
        figures["site_above_chance"] = float(accuracy) - 1 / len(set(sites))
    near = find_neighbors(vectors, NEIGHBOURS, labels=labels, confounders=codes, groups=groups)
    index = robustness_index(near, NEIGHBOURS)
    if not isinstance(index, Undefined):
        figures["robustness"] = index.value
    return figures


def _factors(cohort: Cohort, vectors: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, float]:
    truth = getattr(cohort.whole, "truth", None)
    figures: dict[str, float] = {}
    if truth is None:
        return figures
    for name in FACTORS:
        values = truth[name].to_numpy(float)[cohort.train]
        fitted = fit_factor(vectors[cohort.train], values, groups[cohort.train], seed=seed)
        if isinstance(fitted, FittedFactor):
            foretold = fitted.read(vectors[cohort.train])
            residual = ((fitted.values - foretold) ** 2).sum() / ((fitted.values - fitted.values.mean()) ** 2).sum()
            figures[f"r2_{name}"] = float(1 - residual)
    return figures
