"""Silhouettes of sites, over all tiles and within each label, without an n x n matrix in memory."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .._types import Codes, Column, GivenCodes, Matrix
from ..errors import InputError
from ..neighbors import is_collapsed
from ..neighbors.space import CHUNK_BYTES, check_vectors, row_norms
from ..stats import Statistic, weighted_mean, whole_value
from .undefined import COLLAPSED, Undefined


@dataclass(frozen=True)
class BatchSilhouettes:
    """Silhouettes of each tile's site. `within[i]` is that of tile `rows[i]` among the tiles of its label `strata[i]`.

    `rows` is empty without labels, and leaves out labels that are at one site only.
    """

    metric: str
    values: Column
    rows: Int[np.ndarray, " r"]
    within: Float[np.ndarray, " r"]
    strata: Int[np.ndarray, " r"]

    @property
    def mean(self) -> float:
        """The plain mean, -1 to 1: 0 where sites are mixed, 1 where each is a cluster of its own."""
        return float(self.values.mean())

    @property
    def scib(self) -> float | None:
        """The mean over labels of the mean of `1 - |s|` within the label, 0 to 1; 1 is mixed. None without labels."""
        return whole_value(self.scib_statistic(), len(self.rows)) if len(self.rows) else None

    def mean_statistic(self) -> Statistic:
        """Return the plain mean as a statistic over weighted tiles; the silhouettes themselves stay."""
        return weighted_mean(self.values)

    def scib_statistic(self) -> Statistic:
        """Return scIB's figure as a statistic over weighted tiles of `rows`; labels that are not drawn do not count."""
        mixed = 1 - np.abs(self.within)
        parts = [np.flatnonzero(self.strata == label) for label in np.unique(self.strata)]

        def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
            with np.errstate(invalid="ignore", divide="ignore"):
                means = np.stack([weights[:, part] @ mixed[part] / weights[:, part].sum(axis=1) for part in parts])
                known = np.isfinite(means)
                return np.where(known, means, 0).sum(axis=0) / known.sum(axis=0)

        return statistic


def batch_silhouettes(
    vectors: Matrix, batches: GivenCodes, labels: GivenCodes | None = None, *, metric: str = "cosine"
) -> BatchSilhouettes | Undefined:
    r"""Return the silhouettes of batches (sites, scanners): $s = (b - a) / \max(a, b)$.

    $a$ is the mean distance to the tile's own batch, $b$ to the nearest other (Rousseeuw 1987); a batch of one tile has
    0. With labels also within each label, from which scIB's figure is made (Luecken et al. 2022, Nature Methods 19:41):
    the mean of `1 - |s|` per label, then over labels; labels with one batch, or with batches of one tile only, do not
    count. The same as scikit-learn and scib-metrics. Cosine takes O(n d) per batch, Euclidean O(n^2 d).

    Undefined for one batch, for batches of one tile each, and for a constant encoder.

    Raises
    ------
    InputError
        NaN, or codes of another length.

    Misleads: below 0.10 it is weak evidence. Two batches that a probe separates with 99.8 % have 0.057, as distance is
    shared by all dimensions: read it beside a fresh probe of the batch. `1 - |s|` takes a tile amidst
    another batch for badly mixed.
    """
    check_vectors(vectors)
    for name, codes in (("batches", batches), ("labels", labels)):
        if codes is not None and (len(codes) != len(vectors) or codes.min() < 0):
            raise InputError(f"{name} have to be one code from 0 per tile", received=f"{len(codes)} codes")
    found = np.unique(batches)
    if len(found) < 2 or len(found) == len(vectors):
        return Undefined("all tiles are of one batch" if len(found) < 2 else "each batch has one tile")
    if is_collapsed(vectors, metric):
        return Undefined(COLLAPSED)
    strata = np.zeros(len(vectors), int) if labels is None else labels
    keys, cells = np.unique(np.stack([strata, batches], axis=1), axis=0, return_inverse=True)
    cells = cells.reshape(-1)
    sums, sizes = cell_distances(vectors, cells, metric), np.bincount(cells)
    batch_of = np.searchsorted(found, keys[:, 1])
    merged = np.zeros((len(keys), len(found)))
    merged[np.arange(len(keys)), batch_of] = 1
    values = silhouettes(sums @ merged, sizes @ merged, batch_of[cells])
    rows, within, names = np.empty(0, int), np.empty(0), np.empty(0, int)
    if labels is not None:
        parts = []
        for label in np.unique(labels):
            columns, inside = np.flatnonzero(keys[:, 0] == label), np.flatnonzero(labels == label)
            if 1 < len(columns) < len(inside):
                own = np.searchsorted(columns, cells[inside])
                parts.append((inside, silhouettes(sums[np.ix_(inside, columns)], sizes[columns], own)))
        if parts:
            rows, within = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
            names = labels[rows]
    return BatchSilhouettes(metric, values, rows, within, names)


def silhouettes(sums: Float[np.ndarray, "n c"], sizes: np.ndarray, own: Codes) -> Column:
    """Return silhouettes from each tile's summed distance to every cluster, and the clusters' sizes."""
    everyone = np.arange(len(sums))
    mates = sizes[own] - 1
    inside = sums[everyone, own] / np.maximum(mates, 1)
    means = sums / sizes
    means[everyone, own] = np.inf
    outside = means.min(axis=1)
    larger = np.maximum(inside, outside)
    return np.where((mates > 0) & (larger > 0), (outside - inside) / np.where(larger > 0, larger, 1), 0)


def cell_distances(vectors: Matrix, cells: Codes, metric: str) -> Float[np.ndarray, "n c"]:
    """Return the sum of distances of each tile to the tiles of each cell, in float64."""
    n, count = len(vectors), int(cells.max()) + 1
    step = max(1, CHUNK_BYTES // (8 * max(vectors.shape[1], 1)))
    if metric == "cosine":
        norms = row_norms(vectors)
        scale = np.where(norms > 0, norms, 1)[:, None]
        totals = np.zeros((count, vectors.shape[1]))
        for start in range(0, n, step):
            part = slice(start, start + step)
            np.add.at(totals, cells[part], vectors[part] / scale[part])
        sums = np.concatenate(
            [(vectors[at : at + step] / scale[at : at + step]) @ totals.T for at in range(0, n, step)]
        )
        sums = np.bincount(cells, minlength=count) - sums
        sums[norms == 0, cells[norms == 0]] -= 1  # a zero row is at 1 from all but itself
        return np.maximum(sums, 0)
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    squares = np.einsum("nd,nd->n", centred, centred)
    member = np.zeros((n, count))
    member[np.arange(n), cells] = 1
    sums = np.empty((n, count))
    step = max(1, CHUNK_BYTES // (8 * n))
    for start in range(0, n, step):
        part = np.arange(start, min(start + step, n))
        distance = centred[part] @ centred.T
        distance *= -2
        distance += squares[part][:, None]
        distance += squares
        distance[np.arange(len(part)), part] = 0
        np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
        sums[part] = distance @ member
    return sums
