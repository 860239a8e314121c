"""An encoder read at sites that nothing was fitted to: the label, and what sets the sites apart."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from ..audit.factors import FittedFactor, fit_factor
from ..encoders import Encoder
from ..encoders.embed import embed_views
from ..encoders.views import Views
from ..errors import InputError
from ..images import TileSource
from ..probes import NotReadable
from ..spectrum import effective_rank
from ..stats import Statistic, balanced_accuracy, whole_value
from .cohort import SOURCE, Cohort
from .separation import measure_separation
from .tasks.heads import read_apart

#: Known factors of the tissue that are asked for where the source knows them.
FACTORS = ("nuclear_area_um2", "nuclear_density_per_mm2", "pleomorphism")


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
    - those of `measure_separation`.
    - `rank`: effective rank on the source.
    - `r2_NAME`: of a factor of the tissue, patients left out, on the source.
    """

    read: Mapping[str, LabelsRead]
    figures: Mapping[str, float]


def read_unseen(cohort: Cohort, encoder: Encoder, *, seed: int = 0, workers: int = 0, batch_size: int = 64) -> Unseen:
    """Embed a cohort and read it."""
    vectors = embed_tiles(cohort.tiles, encoder, workers=workers, batch_size=batch_size)[:, 0]
    labels: list[str | None] = [None if pd.isna(value) else str(value) for value in cohort.tiles.table["label"]]
    found = read_apart(vectors, labels, cohort.groups, cohort.train, cohort.asked, seed=seed)
    if isinstance(found, NotReadable):
        raise InputError(f"the label cannot be read: {found.reason}", fix="take a cohort with more patients a class")
    read = {name: _labels_read(found.query("site == @name")) for name in cohort.asked}
    figures = measure_separation(cohort, vectors, seed=seed)
    figures |= _factors(cohort, vectors, seed)
    figures["rank"] = effective_rank(vectors[cohort.train])
    for name, sites in ((SOURCE, [SOURCE]), ("unseen", list(cohort.unseen))):
        at = [read[site] for site in sites]
        figures[name] = whole_value(mean_accuracy(at), sum(len(site.right) for site in at))
    return Unseen(read, figures)


def embed_tiles(
    source: TileSource, encoder: Encoder, views: Views | None = None, *, workers: int = 0, batch_size: int = 64
) -> Float32[np.ndarray, "_n _v _d"]:
    """Return the vectors of all tiles of a source, and of all views of each."""
    with tempfile.TemporaryDirectory() as folder:
        target = [Path(folder) / "vectors"]
        found = embed_views(source, [encoder], target, views=views, workers=workers, batch_size=batch_size)
        return np.array(found.stores[0].vectors())


def _labels_read(rows: pd.DataFrame) -> LabelsRead:
    right = (rows["truth"] == rows["predicted"]).astype(int)
    return LabelsRead(*(tuple(values.tolist()) for values in (right, rows["truth"], rows["group"])))


def _factors(cohort: Cohort, vectors: np.ndarray, seed: int) -> dict[str, float]:
    truth = getattr(cohort.tiles, "truth", None)
    figures: dict[str, float] = {}
    if truth is None:
        return figures
    for name in FACTORS:
        values = truth[name].to_numpy(float)[cohort.train]
        fitted = fit_factor(vectors[cohort.train], values, cohort.groups[cohort.train], seed=seed)
        if isinstance(fitted, FittedFactor):
            foretold = fitted.read(vectors[cohort.train])
            residual = ((fitted.values - foretold) ** 2).sum() / ((fitted.values - fitted.values.mean()) ** 2).sum()
            figures[f"r2_{name}"] = float(1 - residual)
    return figures
