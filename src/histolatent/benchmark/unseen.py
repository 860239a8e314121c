"""An encoder read at sites that nothing was fitted to: the label, and what sets the sites apart."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .._types import Tile
from ..audit.factors import FittedFactor, fit_factor
from ..audit.robustness import robustness_index
from ..audit.silhouettes import batch_silhouettes
from ..audit.undefined import Undefined
from ..compact.frozen import slides_of
from ..encoders import Encoder
from ..encoders.embed import embed_views
from ..errors import InputError
from ..images import TileSource, select_rows
from ..neighbors import find_neighbors
from ..perturb import VirtualSite, virtual_sites
from ..probes import FittedProbe, NotReadable, Reading, fit_probe, grouped_folds
from ..spectrum import effective_rank
from ..stats import Statistic, balanced_accuracy, whole_value

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
    def kept(self) -> np.ndarray:
        """The rows of the patients that were kept out, the same at each virtual site."""
        return next(iter(self.read.values()))

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


@dataclass(frozen=True)
class LabelsRead:
    """Of each tile of a site that has a label: 1 where it was read, else 0; the label's code; whose tile it is."""

    right: tuple[int, ...]
    labels: tuple[int, ...]
    groups: tuple[int, ...]


def pooled(sites: Sequence[LabelsRead]) -> LabelsRead:
    """Return the tiles of several readings as those of one."""
    return LabelsRead(*(sum((getattr(site, key) for site in sites), ()) for key in ("right", "labels", "groups")))


def mean_accuracy(sites: Sequence[LabelsRead]) -> Statistic:
    """Return the statistic: the mean over sites of the balanced accuracy, over the tiles of one site after the other.

    Labels count alike, however many tiles have them: where three of four tiles have one label, a probe that knows no
    other is right three times of four.
    """
    ends = np.cumsum([len(site.right) for site in sites])
    parts = [
        (slice(end - len(site.right), end), balanced_accuracy(np.array(site.right, float), np.array(site.labels)))
        for site, end in zip(sites, ends, strict=True)
    ]
    return lambda weights: np.mean([statistic(weights[:, part]) for part, statistic in parts], axis=0)


@dataclass(frozen=True, eq=False)
class Unseen:
    """What a reading left: labels that were read, by site, and figures by name; those that cannot be had are missing.

    - `source`, `unseen`: balanced accuracy of a linear probe of the label, trained on the source as it is; `unseen` is
      the mean over sites. On the source, patients are left out.
    - `silhouette`: of sites within labels, 0 where they cannot be told apart.
    - `site_above_chance`: balanced accuracy of a fresh probe of the site, slides left out, less chance.
    - `robustness`: the robustness index of 50 neighbours.
    - `rank`: effective rank on the source.
    - `r2_NAME`: of a factor of the tissue, patients left out, on the source.
    """

    read: Mapping[str, LabelsRead]
    figures: Mapping[str, float]


def read_unseen(cohort: Cohort, encoder: Encoder, *, seed: int = 0, workers: int = 0, batch_size: int = 64) -> Unseen:
    """Embed a cohort and read it."""
    table = cohort.whole.table
    labels: list[str | None] = [None if pd.isna(value) else str(value) for value in table["label"]]
    groups = groups_of(table)

    def embed(source: TileSource, views: AtSites | None = None) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            target = [Path(folder) / "vectors"]
            found = embed_views(source, [encoder], target, views=views, workers=workers, batch_size=batch_size)
            return np.array(found.stores[0].vectors())

    figures: dict[str, float] = {}
    if cohort.virtual:
        trained = embed(cohort.source)[:, 0]
        views = AtSites(tuple(virtual_sites().items()), slides_of(cohort.whole))
        seen = embed(select_rows(cohort.whole, cohort.kept), views)
        read = _read_views(cohort, trained, seen, labels, groups, seed)
    else:
        vectors = embed(cohort.whole)[:, 0]
        trained = vectors[cohort.train]
        read = _read_sites(cohort, vectors, labels, groups, seed)
        figures = _separation(vectors, table, groups, seed)
        figures |= _factors(cohort, vectors, groups, seed)
    figures["rank"] = effective_rank(trained)
    for name, sites in ((SOURCE, [SOURCE]), ("unseen", list(cohort.read))):
        at = [read[site] for site in sites]
        figures[name] = whole_value(mean_accuracy(at), sum(len(site.right) for site in at))
    return Unseen(read, figures)


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


def _read_sites(
    cohort: Cohort, vectors: np.ndarray, labels: list[str | None], groups: np.ndarray, seed: int
) -> dict[str, LabelsRead]:
    trained = set(cohort.train.tolist())
    own = [label if row in trained else None for row, label in enumerate(labels)]
    within = _fitted(fit_probe(vectors, own, groups, seed=seed)).read(vectors)
    across = _fitted(_across(vectors, labels, groups, cohort.train, seed)).read(vectors)
    read = {SOURCE: _labels_read(within, cohort.train, groups)}
    return read | {name: _labels_read(across, rows, groups) for name, rows in cohort.read.items()}


def _read_views(
    cohort: Cohort,
    trained: np.ndarray,
    seen: np.ndarray,
    labels: list[str | None],
    groups: np.ndarray,
    seed: int,
) -> dict[str, LabelsRead]:
    """Read the tiles that were kept from each view, with a probe of the tiles that were trained on, as they are."""
    order = np.concatenate([cohort.train, cohort.kept])
    asked = np.arange(len(trained), len(order))
    own, whose = [labels[row] for row in order], groups[order]
    views = [np.concatenate([trained, seen[:, view]]) for view in range(seen.shape[1])]
    across = _fitted(_across(views[0], own, whose, np.arange(len(trained)), seed))
    names = (SOURCE, *cohort.read)
    return {name: _labels_read(across.read(view), asked, whose) for name, view in zip(names, views, strict=True)}


def _across(
    vectors: np.ndarray, labels: list[str | None], groups: np.ndarray, train: np.ndarray, seed: int
) -> FittedProbe | NotReadable:
    """Fit a probe to the rows that were trained on, to be read on all others."""
    split = np.full(len(labels), "test", object)
    split[train] = "train"
    return fit_probe(vectors, labels, groups, split=split.tolist(), every_class_tested=False, seed=seed)


def _fitted(probe: FittedProbe | NotReadable) -> FittedProbe:
    if isinstance(probe, NotReadable):
        raise InputError(f"the label cannot be read: {probe.reason}", fix="take a cohort with more patients a class")
    return probe


def _labels_read(reading: Reading, rows: np.ndarray, groups: np.ndarray) -> LabelsRead:
    """Return what was read of those of `rows` that have a label."""
    asked = np.isin(reading.rows, rows)
    of = (reading.correct[asked].astype(int), reading.codes[asked], groups[reading.rows[asked]])
    return LabelsRead(*(tuple(values.tolist()) for values in of))


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
        figures["site_above_chance"] = probe.read(vectors).balanced_accuracy - 1 / len(set(sites))
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
