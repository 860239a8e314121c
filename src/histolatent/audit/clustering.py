"""Whether clusters found without labels follow the label or the site."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .._types import Codes, GivenCodes, Matrix
from ..errors import InputError
from ..neighbors import is_collapsed, unit_rows
from ..neighbors.space import check_vectors
from ..stats import Statistic
from .silhouettes import cell_distances, silhouettes
from .undefined import COLLAPSED, Undefined

LARGEST = 30


@dataclass(frozen=True)
class ClusteringScore:
    """Clusters of each of `t` trials, `(t, n)`, and the silhouette of every number of clusters tried, from 2."""

    clusters: Int[np.ndarray, "t n"]
    labels: Codes
    confounders: Codes
    silhouette: Float[np.ndarray, " s"]

    @property
    def count(self) -> int:
        """The number of clusters, of the highest mean silhouette."""
        return int(np.argmax(self.silhouette)) + 2

    @property
    def label(self) -> float:
        """The adjusted Rand index of clusters and labels, mean over trials."""
        return float(np.mean(self._agreement(self.labels, np.ones((1, len(self.labels))))))

    @property
    def confounder(self) -> float:
        """The adjusted Rand index of clusters and confounders, mean over trials."""
        return float(np.mean(self._agreement(self.confounders, np.ones((1, len(self.labels))))))

    @property
    def value(self) -> float:
        """The score: that of the label less that of the confounder, -1 to 1 but for chance below 0."""
        return self.label - self.confounder

    def statistic(self) -> Statistic:
        """Return the score as a statistic over weighted tiles; the clusters stay."""

        def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
            label, confounder = (self._agreement(codes, weights) for codes in (self.labels, self.confounders))
            return (label - confounder).mean(axis=0)

        return statistic

    def _agreement(self, codes: Codes, weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "t b"]:
        return np.stack([adjusted_rand(clusters, codes, weights) for clusters in self.clusters])


def clustering_score(
    vectors: Matrix,
    labels: GivenCodes,
    confounders: GivenCodes,
    *,
    largest: int = LARGEST,
    starts: int = 5,
    trials: int = 10,
    seed: int = 1337,
) -> ClusteringScore | Undefined:
    """Cluster the tiles by k-means on unit rows, and compare clusters with the label and with the confounder.

    The number of clusters, 2 to `largest`, has the highest mean cosine silhouette; then k-means runs `trials` times
    with other seeds, five random starts each. The score is the adjusted Rand index of the label less that of the
    confounder. Higher is better, about -1 to 1; 0 where clusters follow neither, or both alike (PathoROB, arXiv
    2507.17845).

    PathoROB has 20 starts, 50 trials and this seed, on each pair of labels at each pair of sites, and keeps the number
    of clusters of its first pair for all others; here each call chooses its own.

    Undefined for one label, one confounder, or a constant encoder.

    Raises
    ------
    InputError
        NaN, codes of another length, or no number of clusters to try.

    Misleads: it sees the few largest directions only, and clusters that cross label and site give 0 as noise does.
    """
    check_vectors(vectors)
    for name, codes in (("labels", labels), ("confounders", confounders)):
        if len(codes) != len(vectors) or codes.min() < 0:
            raise InputError(f"{name} have to be one code from 0 per tile", received=f"{len(codes)} codes")
        if len(np.unique(codes)) < 2:
            return Undefined(f"all tiles have one {name[:-1]}")
    if largest < 2 or starts < 1 or trials < 1:
        raise InputError("nothing to try", received=f"largest {largest}, starts {starts}, trials {trials}")
    if is_collapsed(vectors):
        return Undefined(COLLAPSED)
    units = unit_rows(vectors)
    sizes = range(2, min(largest, len(vectors) - 1) + 1)
    found = [_mean_silhouette(units, _cluster(units, size, starts, seed)) for size in sizes]
    count = sizes[int(np.argmax(found))]
    clusters = np.stack([_cluster(units, count, 5, seed + trial) for trial in range(trials)])
    return ClusteringScore(clusters, labels, confounders, np.array(found))


def adjusted_rand(first: Codes, second: Codes, weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
    """Return the adjusted Rand index of two partitions of weighted tiles, 1 where each is one class or all agree.

    >>> adjusted_rand(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), np.ones((1, 4))).tolist()
    [1.0]
    """
    from scipy.sparse import csr_array

    n, width = len(first), int(second.max()) + 1
    joint = csr_array((np.ones(n), (np.arange(n), first * width + second)), shape=(n, (int(first.max()) + 1) * width))
    table = (weights @ joint).reshape(len(weights), -1, width)
    together, one, two = (_pairs(part) for part in (table, table.sum(axis=2), table.sum(axis=1)))
    everyone = _pairs(weights.sum(axis=1)[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = one * two / everyone
        index = (together - expected) / (0.5 * (one + two) - expected)
    return np.where(np.isfinite(index), index, 1.0)


def _pairs(counts: np.ndarray) -> np.ndarray:
    return (counts * (counts - 1) / 2).reshape(len(counts), -1).sum(axis=1)


def _cluster(units: np.ndarray, count: int, starts: int, seed: int) -> Codes:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Fewer distinct tiles than clusters: those that are left empty take no part.
        warnings.simplefilter("ignore", ConvergenceWarning)
        starting: Any = starts  # scikit-learn's annotation is a word only
        found = KMeans(count, init="random", n_init=starting, random_state=seed % 2**32).fit_predict(units)
    return np.unique(found, return_inverse=True)[1]


def _mean_silhouette(units: np.ndarray, clusters: Codes) -> float:
    if int(clusters.max()) == 0:
        return -1.0
    return float(silhouettes(cell_distances(units, clusters, "cosine"), np.bincount(clusters), clusters).mean())
