"""Sites brought together in the space of vectors, from unlabelled tiles of all of them: ComBat, LEACE, transport."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..._types import Matrix, Vectors
from ...errors import InputError, require
from ...explore.erasure import fit_leace
from ..cohort import SOURCE
from .base import Method, OfSite, Space, Work

Apply = Callable[[Vectors, str], Vectors]
#: ComBat stops when no estimate moves by more than this share.
TOLERANCE = 1e-4
MOST_ROUNDS = 1000


@dataclass(frozen=True, eq=False)
class SiteMaps:
    """An affine change of the vectors of each site: `x @ matrix + shift`, or `x * matrix + shift` where it is a row."""

    maps: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def __call__(self, vectors: Vectors, site: str) -> Vectors:
        """Return the vectors of a site, changed."""
        matrix, shift = self.maps[site]
        changed = vectors @ matrix if matrix.ndim == 2 else vectors * matrix
        return (changed + shift).astype(np.float32)


def fit_combat(sites: Mapping[str, OfSite]) -> SiteMaps:
    r"""Fit location and scale of each dimension at each site, shrunk towards those of the site's other dimensions.

    Parametric empirical Bayes without covariates: $\hat Z = (x - \alpha) / \sigma$ has mean $\gamma$ and variance
    $\delta^2$ at a site, with priors normal and inverse gamma, their posterior means found in turn until nothing moves
    by more than 1e-4 of itself; $x' = \sigma (\hat Z - \gamma^*) / \delta^* + \alpha$. Constant dimensions stay.

    Misleads where sites differ in tissue: with other shares of each class, that difference is taken out too.

    Reference: Johnson, Li & Rabinovic 2007, Biostatistics 8:118.

    Raises
    ------
    InputError
        If a site has fewer than two vectors.
    """
    for name, vectors in sites.items():
        if len(vectors) < 2:
            raise InputError("ComBat needs two tiles or more at each site", received=f"{len(vectors)} at {name}")
    whole = np.concatenate([vectors.astype(np.float64) for vectors in sites.values()])
    means = {name: vectors.mean(axis=0, dtype=np.float64) for name, vectors in sites.items()}
    alpha = whole.mean(axis=0)
    rest = np.concatenate([vectors - means[name] for name, vectors in sites.items()])
    sigma = np.sqrt((rest**2).mean(axis=0))
    varies = sigma > 1e-6 * np.maximum(np.abs(whole).max(axis=0), 1e-30)
    maps = {}
    for name, vectors in sites.items():
        scale, shift = np.ones(whole.shape[1]), np.zeros(whole.shape[1])
        gamma, delta = _posterior(((vectors - alpha) / np.where(varies, sigma, 1))[:, varies])
        scale[varies] = 1 / np.sqrt(delta)
        shift[varies] = (alpha - alpha * scale)[varies] - sigma[varies] * gamma * scale[varies]
        maps[name] = scale, shift
    return SiteMaps(maps)


def _posterior(z: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Return location and variance of each dimension of a site."""
    n, found, spread = len(z), z.mean(axis=0), z.var(axis=0, ddof=1)
    if z.shape[1] < 2:
        return found, spread
    prior, variance = found.mean(), found.var(ddof=1)
    m, s2 = spread.mean(), spread.var(ddof=1)
    if s2 == 0 or variance == 0:
        return found, spread
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    gamma, delta = found, spread
    for _ in range(MOST_ROUNDS):
        new_gamma = (n * variance * found + delta * prior) / (n * variance + delta)
        new_delta = (0.5 * ((z - new_gamma) ** 2).sum(axis=0) + b) / (n / 2 + a - 1)
        moved = max(np.max(np.abs(new_gamma - gamma) / np.abs(gamma)), np.max(np.abs(new_delta - delta) / delta))
        gamma, delta = new_gamma, new_delta
        if moved <= TOLERANCE:
            break
    return gamma, delta


def fit_transport(source: Matrix, sites: Mapping[str, OfSite]) -> SiteMaps:
    """Fit the optimal transport of each site onto the source, as between normal distributions: an affine map.

    Covariances are shrunk as Ledoit and Wolf do, without which there is no map where tiles are fewer than dimensions.
    Dimensions that are constant at the source become so everywhere.

    Misleads where sites differ in tissue, as `fit_combat` does.

    Reference: Flamary et al. 2019 (arXiv 1905.10155); computed by POT.
    """
    gaussian = require("ot.gaussian", "explore")
    from sklearn.covariance import ledoit_wolf

    there, spread = source.mean(axis=0, dtype=np.float64), ledoit_wolf(source.astype(np.float64))[0]
    silent = source.min(axis=0) == source.max(axis=0)
    maps = {SOURCE: (np.ones(len(there)), np.zeros(len(there)))}
    for name, vectors in sites.items():
        here, own = vectors.mean(axis=0, dtype=np.float64), ledoit_wolf(vectors.astype(np.float64))[0]
        matrix, _ = gaussian.bures_wasserstein_mapping(here, there, own, spread)
        matrix[:, silent] = 0  # what rounding leaves there would tell the site
        maps[name] = matrix, there - here @ matrix
    return SiteMaps(maps)


def _combat(source: Space, target: Mapping[str, OfSite] | None, work: Work) -> Apply:
    return fit_combat({SOURCE: source.vectors, **_known(target)})


def _leace(source: Space, target: Mapping[str, OfSite] | None, work: Work) -> Apply:
    sites = [source.vectors, *_known(target).values()]
    codes = np.repeat(np.arange(len(sites)), [len(vectors) for vectors in sites])
    erase = fit_leace(np.concatenate(sites), codes)
    return lambda vectors, site: erase.apply(vectors)


def _transport(source: Space, target: Mapping[str, OfSite] | None, work: Work) -> Apply:
    return fit_transport(source.vectors, _known(target))


def _known(target: Mapping[str, OfSite] | None) -> Mapping[str, OfSite]:
    assert target is not None  # these methods are marked as needing it
    return target


METHODS = (
    Method(
        "combat",
        "vectors",
        "location and scale of each site, by empirical Bayes",
        _combat,
        "Johnson et al. 2007, Biostatistics 8:118",
        needs_target=True,
        of_places=True,
    ),
    Method(
        "leace",
        "vectors",
        "the site erased from what linear probes read",
        _leace,
        "Belrose et al. 2023, arXiv 2306.03819",
        needs_target=True,
        of_places=True,
    ),
    Method(
        "ot",
        "vectors",
        "optimal transport of each site onto the source, as between normal distributions: an affine map",
        _transport,
        "Flamary et al. 2019, arXiv 1905.10155",
        needs_target=True,
        of_places=True,
    ),
)
