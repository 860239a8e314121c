"""How often a perturbation changes what a linear probe says of a tile."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._types import Codes, Column
from ..errors import InputError
from ..probes import NotReadable, Reading, fit_probe
from ..spectrum import check_vectors
from ..stats import RESAMPLES, Estimate, balanced_accuracy, bootstrap, bootstrap_means


@dataclass(frozen=True)
class Flips:
    """Predictions before and after one perturbation, on held-out tiles.

    - `share`: tiles whose predicted label changes. `independent` is what it would be if predictions after had nothing
      to do with those before, at the same frequencies.
    - `broken`, `mended`: tiles that were right and are wrong, that were wrong and are right.
    - `before`, `after`: balanced accuracy; `change`: after less before, on the same resamples.
    - `rows`, `flipped`: the tiles covered, and 1 where the label changed.
    """

    share: Estimate
    broken: Estimate
    mended: Estimate
    before: Estimate
    after: Estimate
    change: Estimate
    independent: float
    rows: Codes
    flipped: Column


@dataclass(frozen=True)
class FlipTable:
    """Flips under each perturbation, by name, of one probe; chance accuracy is 1 / classes."""

    classes: tuple[str, ...]
    folds: int
    flips: dict[str, Flips]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per perturbation and figure, with the interval."""
        names = ("share", "broken", "mended", "before", "after", "change")
        rows = [
            {"perturbation": name, "metric": metric, "value": part.value, "low": part.low, "high": part.high}
            for name, item in self.flips.items()
            for metric in names
            for part in (getattr(item, metric),)
        ]
        return pd.DataFrame(rows, columns=pd.Index(["perturbation", "metric", "value", "low", "high"]))


def label_flips(
    vectors: np.ndarray,
    moved: Mapping[str, np.ndarray],
    target: list[str | None],
    groups: Codes,
    *,
    split: list[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> FlipTable | NotReadable:
    """Count how many held-out tiles change their predicted label when they are perturbed.

    A logistic regression is fitted to `target` on unperturbed `vectors` `(n, d)` of other groups (see `probe`), and
    predicts each tile before and after: `moved` holds the perturbed vectors by name, each `(n, d)`. Intervals are from
    a bootstrap of whole groups, and hold the probe fixed.

    Misleads: a probe at chance flips at random, or never if it always says the same: read it beside the accuracy. Flips
    count tiles near the boundary, so that an easy task hides large moves; see the displacement.

    Raises
    ------
    InputError
        If shapes differ or values are not finite.
    """
    check_vectors(vectors)
    for name, view in moved.items():
        if view.shape != vectors.shape:
            raise InputError(
                f"the vectors of {name!r} are not of the same tiles", received=view.shape, valid=vectors.shape
            )
        check_vectors(view, name=f"the vectors of {name!r}")
    fitted = fit_probe(vectors.astype(np.float32, copy=False), target, groups, split=split, seed=seed)
    if isinstance(fitted, NotReadable):
        return fitted
    first = fitted.read(vectors)
    flips = {
        name: count_flips(first, fitted.read(view), groups, resamples=resamples, seed=seed)
        for name, view in moved.items()
    }
    return FlipTable(first.classes, first.folds, flips)


def count_flips(before: Reading, after: Reading, groups: Codes, *, resamples: int = RESAMPLES, seed: int = 0) -> Flips:
    """Compare what one probe says of the tiles before and after; `groups` codes those of all tiles, from 0."""
    codes = np.unique(groups[before.rows], return_inverse=True)[1]
    flipped = (before.predicted != after.predicted).astype(float)
    right, still = before.correct, after.correct
    columns = np.stack([flipped, right * (1 - still), (1 - right) * still], axis=1)
    share, broken, mended = bootstrap_means(columns, codes, resamples=resamples, seed=seed)
    first, second = balanced_accuracy(right, before.codes), balanced_accuracy(still, before.codes)
    accuracy, later, change = (
        bootstrap(statistic, codes, resamples=resamples, seed=seed)
        for statistic in (first, second, lambda weights: second(weights) - first(weights))
    )
    classes = len(before.classes)
    shares = [np.bincount(reading.predicted, minlength=classes) / len(flipped) for reading in (before, after)]
    return Flips(share, broken, mended, accuracy, later, change, 1 - float(shares[0] @ shares[1]), before.rows, flipped)
