"""Vectors that no tile has: from the prior, and from a density fitted to the tiles that there are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ..._types import Matrix, Vectors
from ...errors import OptionError
from ...provenance import stream
from ...spectrum import check_vectors, principal_axes

#: Components of a mixture that are tried, and directions of the space that it is fitted in.
COMPONENTS = (1, 2, 4, 8, 16)
DIMENSIONS = 32
Others = Float[np.ndarray, "m _d"]


def sample_prior(count: int, dim: int, *, temperature: float = 1.0, seed: int = 0) -> Vectors:
    """Return vectors of a standard normal distribution: the prior of a variational model.

    `temperature` multiplies them: below 1 they are more alike, and more likely.

    Misleads of an `ae`, whose vectors follow no prior: take `fit_density` there.

    Raises
    ------
    OptionError
        If `count` or the temperature is not positive.
    """
    _check(count, temperature)
    return (temperature * stream(seed, "prior").standard_normal((count, dim))).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Density:
    """A mixture of normal distributions fitted to vectors, in the directions in which most of them varies.

    `mixture` is of coordinates `(z - mean) @ axes / spreads`; what lies beside them is normal with the variance `rest`.
    """

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "d q"]
    spreads: Float[np.ndarray, " q"]
    rest: float
    mixture: Any

    @property
    def components(self) -> int:
        """How many normal distributions it is made of."""
        return int(self.mixture.n_components)

    def sample(self, count: int, *, temperature: float = 1.0, seed: int = 0) -> Vectors:
        """Return vectors drawn from it; `temperature` below 1 draws them nearer to the middle of their component.

        Raises
        ------
        OptionError
            If `count` or the temperature is not positive.
        """
        _check(count, temperature)
        random = stream(seed, "density")
        which = random.choice(self.components, count, p=self.mixture.weights_)
        noise = random.standard_normal((count, len(self.spreads)))
        roots = np.linalg.cholesky(self.mixture.covariances_)
        inside = self.mixture.means_[which] + temperature * np.einsum("mqr,mr->mq", roots[which], noise)
        beside = temperature * np.sqrt(self.rest) * random.standard_normal((count, len(self.mean)))
        beside -= beside @ self.axes @ self.axes.T
        return (self.mean + (inside * self.spreads) @ self.axes.T + beside).astype(np.float32)

    def log_density(self, vectors: Others) -> Float[np.ndarray, " m"]:
        """Return the log density of the coordinates of vectors: higher is more like the tiles that there are."""
        return self.mixture.score_samples(((vectors - self.mean) @ self.axes) / self.spreads)


def fit_density(vectors: Matrix, *, seed: int = 0) -> Density:
    """Fit a mixture of normal distributions to vectors; how many is chosen by BIC.

    Raises
    ------
    InputError
        If there are fewer than 10 vectors, or values are not finite.
    """
    from sklearn.mixture import GaussianMixture

    check_vectors(vectors, least=10)
    mean, axes, spreads = principal_axes(vectors, max(1, min(DIMENSIONS, len(vectors) // 4)))
    spreads, moved = np.maximum(spreads, 1e-12), vectors - mean
    left = float((moved**2).sum() / len(vectors) - (spreads**2).sum())
    rest = max(left, 0.0) / max(vectors.shape[1] - len(spreads), 1)
    inside = moved @ axes / spreads
    fits = [
        GaussianMixture(count, reg_covar=1e-3, random_state=seed, n_init=1).fit(inside)
        for count in COMPONENTS
        if len(vectors) >= 5 * count
    ]
    best = min(fits, key=lambda made: made.bic(inside))
    return Density(mean, axes, spreads, rest, best)


def _check(count: int, temperature: float) -> None:
    if count < 1:
        raise OptionError("too few samples", received=count, valid="1 or more")
    if not temperature > 0:
        raise OptionError("a temperature is positive", received=temperature)
