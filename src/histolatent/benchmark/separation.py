"""How far the sites of a cohort lie apart in an embedding, each figure beside what collapse would do to it."""

from collections.abc import Mapping

import numpy as np

from .._types import Vectors
from ..audit.robustness import robustness_index, robustness_margin
from ..audit.silhouettes import batch_silhouettes
from ..audit.undefined import Undefined
from ..distances import FEWEST_TILES, compare_batches
from ..neighbors import find_neighbors
from ..probes import FittedProbe, fit_probe
from .cohort import SOURCE, Cohort

#: Neighbours whose types the robustness index counts.
NEIGHBOURS = 50
#: Distances of a site from the source, and what their columns are called.
DISTANCES: Mapping[str, str] = {"gaussian_w2_squared": "w2", "class_gaussian_w2_squared": "class_w2"}


def measure_separation(cohort: Cohort, vectors: Vectors, *, seed: int = 0) -> dict[str, float]:
    """Return figures of the sites of a cohort, of which `vectors` has all tiles; those that cannot be had are missing.

    - `silhouette`: of sites within labels, 0 where they cannot be told apart.
    - `site_above_chance`: balanced accuracy of a fresh probe of the site, slides left out, less chance.
    - `robustness`: the robustness index of 50 neighbours; `margin`: the median of CRoMa.
    """
    rows = np.concatenate(list(cohort.asked.values()))
    table, slides, groups = cohort.tiles.table.iloc[rows], cohort.slides[rows], cohort.groups[rows]
    vectors, figures = vectors[rows], dict[str, float]()
    read = cohort.labels.iloc[rows]
    known = np.flatnonzero(read.notna())
    codes, labels = (np.unique(values.astype(str), return_inverse=True)[1][known] for values in (table["site"], read))
    apart = batch_silhouettes(vectors[known], codes, labels)
    if not isinstance(apart, Undefined) and len(apart.within):
        figures["silhouette"] = float(apart.within.mean())
    sites = [str(site) for site in table["site"]]
    probe = fit_probe(vectors, list(sites), slides, seed=seed)
    if isinstance(probe, FittedProbe):
        figures["site_above_chance"] = probe.read(vectors).balanced_accuracy - 1 / len(set(sites))
    k = min(NEIGHBOURS, len(known) - 1)
    near = find_neighbors(vectors[known], k, labels=labels, confounders=codes, groups=groups[known])
    index, margin = robustness_index(near, k), robustness_margin(near)
    if not isinstance(index, Undefined):
        figures["robustness"] = index.value
    if not isinstance(margin, Undefined):
        figures["margin"] = margin.median
    return figures


def measure_distances(cohort: Cohort, vectors: Vectors, *, seed: int = 0) -> dict[str, float]:
    """Return squared Wasserstein-2 distances of unseen sites from the source, mean over sites, and their floors.

    Sites with fewer tiles than `compare_batches` asks for are left out.

    `w2` is of normal distributions with the tiles' moments, `class_w2` that within labels; `w2_floor` and
    `class_w2_floor` are between halves of one site. See `compare_batches`: both ends have halves of the same size.
    """
    found = []
    known = cohort.labels
    codes = np.where(known.isna(), -1, np.unique(known.astype(str), return_inverse=True)[1])
    source = cohort.asked[SOURCE]
    for rows in cohort.unseen.values():
        if min(len(source), len(rows)) < FEWEST_TILES:
            continue
        both, batches = np.concatenate([source, rows]), np.repeat([0, 1], [len(source), len(rows)])
        whose = np.unique(cohort.groups[both], return_inverse=True)[1]
        made = compare_batches(vectors[both], batches, whose, labels=codes[both], distances=tuple(DISTANCES), seed=seed)
        found.append({DISTANCES[item.name]: item.between for item in made.distances})
        found[-1] |= {f"{DISTANCES[item.name]}_floor": item.floor for item in made.distances}
    names = {name for item in found for name, value in item.items() if not np.isnan(value)}
    return {name: float(np.mean([item[name] for item in found])) for name in sorted(names)}
