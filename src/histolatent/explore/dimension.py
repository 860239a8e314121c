"""In how many directions a space varies where its tiles are."""

import numpy as np

from .._types import GivenCodes, Matrix
from ..errors import InputError
from ..stats import Estimate, bootstrap
from .graph import make_graph

#: Neighbours by which the dimension is told, the nearest first: from noise to shape.
SIZES = (2, 5, 10, 20, 50)


def intrinsic_dimension(
    vectors: Matrix, *, sizes: tuple[int, ...] = SIZES, groups: GivenCodes | None = None, seed: int = 0
) -> dict[int, Estimate]:
    r"""Return the dimension of the surface on which tiles lie, by how many neighbours of each are asked.

    It is the maximum-likelihood estimate $\frac{n (k - 1) - 1}{\sum_i \sum_{j<k} \log (r_{ik} / r_{ij})}$, with r the
    Euclidean distances to the k nearest; k = 2 is TwoNN. Few neighbours see noise, many see the surface bend: where
    figures agree over sizes, they mean something. Intervals are 95 %, of a bootstrap of `groups` (tiles without them)
    with neighbours held fixed. Tiles that have one vector count once.

    Misleads: too low where tiles are few for the dimension, by half at 20 and more; noise in every direction counts.

    Reference: Levina & Bickel 2004, NeurIPS, averaged as by MacKay & Ghahramani 2005; Facco et al. 2017, Sci. Rep.

    Raises
    ------
    InputError
        If there are not more different tiles than neighbours, or values are not finite.
    """
    first = np.unique(vectors, axis=0, return_index=True)[1]
    first.sort()
    most = max(sizes)
    if min(sizes) < 2 or len(first) <= most:
        raise InputError(
            "the dimension is told from neighbours, 2 or more, among more tiles than these",
            received=f"sizes {', '.join(map(str, sizes))}; {len(first)} different tiles",
        )
    codes = np.arange(len(first)) if groups is None else np.unique(np.asarray(groups)[first], return_inverse=True)[1]
    logs = np.log(make_graph(vectors[first], k=most, metric="euclidean").distance)
    found = {}
    for k in sizes:
        spent = (logs[:, k - 1 : k] - logs[:, : k - 1]).sum(axis=1)
        found[k] = bootstrap(
            lambda weights, spent=spent, k=k: (weights.sum(axis=1) * (k - 1) - 1) / (weights @ spent), codes, seed=seed
        )
    return found
