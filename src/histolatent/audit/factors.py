"""Which known factors of the tissue can be read from an embedding, before and after a perturbation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from .._types import Codes, Vectors
from ..errors import InputError
from ..probes import NotReadable
from ..spectrum import is_constant
from ..stats import RESAMPLES, Estimate, bootstrap
from .linear_maps import group_folds

FOLDS = 5
#: Ridge penalties of standardised dimensions, as multiples of the number of tiles.
PENALTIES = tuple(10.0**power for power in range(-4, 3))


@dataclass(frozen=True)
class FittedFactor:
    """Ridge regressions of one factor, one per fold, each to be asked about groups that it was not fitted on.

    `rows` are the tiles whose factor is known, `values` its values.
    """

    rows: Codes
    values: Float[np.ndarray, " m"]
    folds: tuple[np.ndarray, ...]
    models: tuple["_Model", ...]

    def read(self, vectors: Vectors) -> Float[np.ndarray, " _m"]:
        """Return the factor of each of `rows`, foretold from `vectors` `(n, d)`, which may be another view of them."""
        foretold = np.empty(len(self.rows))
        for test, model in zip(self.folds, self.models, strict=True):
            foretold[test] = model.predict(vectors[self.rows[test]])
        return foretold

    def r2(
        self, foretold: Float[np.ndarray, " _m"], groups: Codes, *, resamples: int = RESAMPLES, seed: int = 0
    ) -> Estimate:
        """Return the share of variance that was foretold, 1 at best, below 0 where the mean is nearer.

        `groups` codes those of all tiles, from 0. The interval is of a bootstrap of groups with the fits held fixed.
        """
        errors, values = (self.values - foretold) ** 2, self.values

        def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
            total = weights.sum(axis=1)
            mean = weights @ values / total
            with np.errstate(invalid="ignore", divide="ignore"):
                return 1 - (weights @ errors) / (weights @ values**2 - total * mean**2)

        codes = np.unique(groups[self.rows], return_inverse=True)[1]
        return bootstrap(statistic, codes, resamples=resamples, seed=seed)


@dataclass(frozen=True)
class _Model:
    mean: Float[np.ndarray, " d"]
    spread: Float[np.ndarray, " d"]
    ridge: Any

    def predict(self, vectors: np.ndarray) -> Float[np.ndarray, " _m"]:
        return self.ridge.predict((vectors - self.mean) / self.spread)


def fit_factor(
    vectors: Vectors, values: Float[np.ndarray, " _n"], groups: Codes, *, seed: int = 0
) -> FittedFactor | NotReadable:
    """Fit a ridge regression of a factor in five folds of whole groups; NaN is unknown.

    The penalty is chosen within each training part by leaving out one tile at a time, which is done in closed form.

    Returns NotReadable with the reason where the factor is constant, known for too few tiles or groups, or all
    embeddings are the same.

    Raises
    ------
    InputError
        If there is not one value per tile.
    """
    from sklearn.linear_model import RidgeCV

    if len(values) != len(vectors):
        raise InputError("a factor needs one value per tile", received=f"{len(values)} for {len(vectors)} tiles")
    rows = np.flatnonzero(np.isfinite(values))
    known = values[rows].astype(np.float64)
    if len(rows) < 2 * FOLDS:
        return NotReadable(f"it is known for {len(rows)} tiles only")
    if known.std() <= 1e-12 * max(1.0, float(np.abs(known).max())):
        return NotReadable("it has one value")
    codes = np.unique(groups[rows], return_inverse=True)[1]
    if int(codes.max()) + 1 < FOLDS:
        return NotReadable(f"{int(codes.max()) + 1} groups are too few to fit on some and test on others")
    if is_constant(vectors):
        return NotReadable("every tile has practically the same embedding")
    folds = group_folds(codes, FOLDS, seed)
    models = []
    for test in folds:
        train = np.setdiff1d(np.arange(len(rows)), test)
        x = vectors[rows[train]].astype(np.float64)
        mean, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread > 1e-6 * np.abs(x).max(axis=0), spread, np.inf)
        ridge = RidgeCV(alphas=[penalty * len(train) for penalty in PENALTIES])
        models.append(_Model(mean, spread, ridge.fit((x - mean) / spread, known[train])))
    return FittedFactor(rows, known, folds, tuple(models))
