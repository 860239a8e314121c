"""What a concept leaves in a linear probe, erased by the smallest change of vectors: LEACE."""

import numpy as np
from jaxtyping import Int

from .._types import Matrix
from ..encoders.maps import LinearMap
from ..errors import InputError
from ..spectrum import check_vectors

#: Directions of less than this share of the largest spread, or of the largest covariance, are rounding.
TOLERANCE = 1e-6


def fit_leace(vectors: Matrix, codes: Int[np.ndarray, " _n"]) -> LinearMap:
    r"""Fit the smallest linear change after which no linear probe reads `codes` better than the shares of its classes.

    $r(x) = x - W^+ P W (x - \bar x)$ with $W = (\Sigma_{XX}^{1/2})^+$ and $P$ the projector on the columns of
    $W \Sigma_{XZ}$, where $Z$ is one column for each class: integer codes would leave what they do not order. It is
    exact on the vectors that it is fitted to, in float64.

    Misleads: probes that are not linear still read the classes, and on other tiles linear ones read a little. Where the
    classes go with tissue, that tissue is erased too. Of no more tiles than dimensions it takes from each tile the mean
    of its class, whatever that is: a fresh probe of those tiles is then far from chance, on either side.

    Reference: Belrose et al. 2023, NeurIPS (arXiv 2306.03819).

    Raises
    ------
    InputError
        If values are not finite, or codes are of another length or of one class.

    >>> random = np.random.default_rng(0)
    >>> codes = random.integers(3, size=500)
    >>> erase = fit_leace(random.normal(size=(500, 8)) + np.eye(3, 8)[codes], codes)
    >>> len(erase.gains)
    2
    """
    check_vectors(vectors)
    classes = np.unique(codes)
    if len(codes) != len(vectors) or len(classes) < 2:
        raise InputError(
            "what is erased has to be one code for each vector, of at least two classes",
            received=f"{len(codes)} codes of {len(classes)} classes for {len(vectors)} vectors",
        )
    x = vectors.astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    z = (codes[:, None] == classes).astype(float)
    z -= z.mean(axis=0)
    values, axes = np.linalg.eigh(x.T @ x / len(x))
    kept = values > TOLERANCE**2 * max(values[-1], 0)
    spread, axes = np.sqrt(values[kept]), axes[:, kept]
    whitened = (axes / spread).T @ (x.T @ z / len(x))
    left, size, _ = np.linalg.svd(whitened, full_matrices=False)
    found = left[:, size > TOLERANCE * max(size[0], TOLERANCE)]
    return LinearMap(mean, (axes / spread) @ found, (axes * spread) @ found, np.zeros(found.shape[1]))
