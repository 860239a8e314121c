"""What can be read from an embedding by a fresh probe, on groups that it was not trained on."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import cho_factor, cho_solve

from ._types import Codes, Column, Matrix, Vectors
from .neighbors import find_neighbors
from .spectrum import is_constant
from .stats import Statistic, balanced_accuracy, cluster_spread, deal, shortfall, weighted_auroc, whole_value
from .threads import one_blas_thread

FOLDS = 5
ATTEMPTS = 10
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
PERMUTATIONS = 400
#: So many cells of dealt labels (tiles x classes x deals) are worked on at a time.
DEALT_CELLS = 2**24


@dataclass(frozen=True)
class Reading:
    """Out-of-fold predictions of a probe. `rows` are the tiles that it covers, `codes` their true classes."""

    rows: Codes
    codes: Codes
    predicted: Codes
    scores: Float[np.ndarray, "n c"]
    classes: tuple[str, ...]
    folds: int

    @property
    def correct(self) -> Column:
        """1 where the prediction is right."""
        return (self.predicted == self.codes).astype(float)

    def accuracy(self) -> Statistic:
        """Return the balanced accuracy as a statistic over weighted tiles."""
        return balanced_accuracy(self.correct, self.codes)

    @property
    def balanced_accuracy(self) -> float:
        """The balanced accuracy, each tile counted once."""
        return whole_value(self.accuracy(), len(self.rows))

    def auroc(self) -> Statistic:
        """Return the AUROC, one class against the rest, mean over classes (one class if there are two)."""
        which = [1] if len(self.classes) == 2 else range(len(self.classes))
        parts = [weighted_auroc(self.scores[:, c], (self.codes == c).astype(int)) for c in which]
        return lambda weights: np.mean([part(weights) for part in parts], axis=0)


@dataclass(frozen=True)
class NotReadable:
    """Why a target could not be probed."""

    reason: str


@dataclass(frozen=True)
class FittedProbe:
    """Logistic regressions of a target, one per fold, each to be asked about the groups that it was not trained on.

    `rows` are the tiles whose target is known, `codes` their classes; `parts` trains and tests places in `rows`.
    """

    rows: Codes
    codes: Codes
    classes: tuple[str, ...]
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    models: tuple["_Model", ...]

    def read(self, vectors: Vectors) -> Reading:
        """Predict each tile from a fit that has not seen its group; `vectors` `(n, d)` may be other views of the tiles.

        With a split only its test part is covered.
        """
        covered = np.sort(np.concatenate([test for _, test in self.parts]))
        predicted = np.empty(len(self.rows), int)
        scores = np.zeros((len(self.rows), len(self.classes)))
        for (_, test), model in zip(self.parts, self.models, strict=True):
            probability = model.scores(vectors[self.rows[test]])
            scores[test[:, None], model.classes[None, :]] = probability
            predicted[test] = model.classes[probability.argmax(axis=1)]
        return Reading(
            self.rows[covered],
            self.codes[covered],
            predicted[covered],
            scores[covered],
            self.classes,
            len(self.parts),
        )


@dataclass(frozen=True)
class Chance:
    """What probes read where labels are dealt anew.

    From `low` to `high` lies the middle 95 % of the balanced accuracy: what is above chance has to be above it.
    `wider` is the factor by which an interval that holds the fits fixed is too narrow (`shortfall`).
    """

    low: float
    high: float
    wider: float


@dataclass(frozen=True)
class _Model:
    """What is taken from each dimension, what it is divided by, and the regression."""

    mean: Float[np.ndarray, " d"]
    spread: Float[np.ndarray, " d"]
    regression: Any

    @property
    def classes(self) -> Codes:
        return self.regression.classes_

    def scores(self, vectors: np.ndarray) -> Float[np.ndarray, "_n _c"]:
        return self.regression.predict_proba(((vectors - self.mean) / self.spread).astype(np.float32))


def probe(
    vectors: Vectors, target: list[str | None], groups: Codes, *, split: list[str | None] | None = None, seed: int = 0
) -> Reading | NotReadable:
    """Fit a probe of `target` as `fit_probe` does, and read the same vectors with it."""
    fitted = fit_probe(vectors, target, groups, split=split, seed=seed)
    return fitted if isinstance(fitted, NotReadable) else fitted.read(vectors)


def fit_probe(
    vectors: Vectors,
    target: list[str | None],
    groups: Codes,
    *,
    split: list[str | None] | None = None,
    every_class_tested: bool = True,
    strength: float | None = None,
    seed: int = 0,
) -> FittedProbe | NotReadable:
    """Fit a logistic regression to `target` in folds of whole groups, so that each tile is read without its group.

    Classes count alike, as in the balanced accuracy: where most tiles are of one class, a regression of tiles foretells
    that class for all of them, and what can be read of the others looks like nothing. Features are standardised; the
    penalty (`1 / strength`) is chosen on one inner grouped split unless it is given.
    Rows whose target is None are left out. With `split`, the probe is trained where it is `train` and scored where it
    is `test`; a class that is trained on may be missing there only where not `every_class_tested`.

    Returns NotReadable with the reason where there is one class, or groups leave no fair test of every class.
    """
    rows = np.flatnonzero([value is not None for value in target])
    names, codes = np.unique([str(target[row]) for row in rows], return_inverse=True)
    classes = tuple(map(str, names))
    if len(classes) < 2:
        return NotReadable(f"it has {'one value (' + classes[0] + ')' if classes else 'no values'}")
    groups = groups[rows]
    if split is not None:
        train, test = (np.flatnonzero([split[row] == part for row in rows]) for part in ("train", "test"))
        asked = (train, test) if every_class_tested else (train,)
        missing = [name for code, name in enumerate(classes) if any(code not in codes[part] for part in asked)]
        if missing:
            where = "in both parts" if every_class_tested else "in the trained part"
            return NotReadable(f"{missing[0]!r} is not {where} of the split")
        parts = [(train, test)]
    else:
        spread = [len(np.unique(groups[codes == code])) for code in range(len(classes))]
        folds = min(FOLDS, *spread)
        if folds < 2:
            return NotReadable(
                f"{classes[int(np.argmin(spread))]!r} occurs in one group only, so it cannot be tested on another"
            )
        parts = grouped_folds(codes, groups, folds, seed)
        if not parts:
            return NotReadable("its groups cannot be split so that every class is trained on and tested")
    models = _fit_folds(vectors[rows], codes, groups, parts, strength, seed)
    return FittedProbe(rows, codes, classes, tuple(parts), models)


def measure_chance(
    fitted: FittedProbe, vectors: Vectors, groups: Codes, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Chance:
    """Return what such a probe reads where labels have nothing to do with tiles.

    Labels are dealt anew as `deal` does, in blocks of whole groups. For each deal, ridge regressions on the same folds,
    of about the same penalty, stand in for the logistic ones: they have a closed form.
    """
    codes, groups = fitted.codes, np.unique(groups[fitted.rows], return_inverse=True)[1]
    dealt = deal(codes, groups, permutations, seed)
    classes = len(fitted.classes)
    right = np.zeros((len(codes), permutations), bool)
    covered = np.zeros(len(codes), bool)
    with one_blas_thread():
        for (train, test), model in zip(fitted.parts, fitted.models, strict=True):
            x, asked = (((vectors[fitted.rows[part]] - model.mean) / model.spread) for part in (train, test))
            # The curvature of the logistic loss is about 1/4 of that of squares.
            penalty = 4 / model.regression.C
            gram = cho_factor(x.T @ x + penalty * np.eye(x.shape[1]))
            step = max(1, DEALT_CELLS // (len(train) * classes))
            for start in range(0, permutations, step):
                deals = dealt[:, start : start + step]
                onehot = deals[train][:, None, :] == np.arange(classes)[None, :, None]
                target = onehot.astype(np.float32).reshape(len(train), -1)
                # Each class counts alike: dealt labels are not stratified, and a class that is rarer where it is taught
                # than where it is asked would be missed for that reason alone.
                share = np.maximum(target.mean(axis=0), 1 / len(train))
                scores = asked @ cho_solve(gram, x.T @ ((target - share) / share))
                right[test, start : start + step] = scores.reshape(len(test), classes, -1).argmax(axis=1) == deals[test]
            covered[test] = True
    accuracy, spread = _dealt_accuracy(right[covered], dealt[covered], groups[covered])
    # Of p deals and the labels themselves, each is as likely to be the k-th: quantiles are taken at k / (p + 1).
    low, high = np.nanquantile(accuracy, [0.025, 0.975], method="weibull")
    return Chance(float(low), float(high), shortfall(accuracy, spread))


def _dealt_accuracy(
    right: Bool[np.ndarray, "n p"], dealt: Int[np.ndarray, "n p"], groups: Codes
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Return the balanced accuracy of each deal, over the classes that it has, and its standard error by groups."""
    groups = np.unique(groups, return_inverse=True)[1]
    accuracy, influence, present = np.zeros(right.shape[1]), np.zeros(right.shape), np.zeros(right.shape[1])
    for code in np.unique(dealt):
        mine = dealt == code
        count = mine.sum(axis=0)
        recall = (right & mine).sum(axis=0) / np.maximum(count, 1)
        accuracy += recall
        influence += np.where(mine, right - recall, 0) / np.maximum(count, 1)
        present += count > 0
    return accuracy / present, cluster_spread(influence / present, groups)


def grouped_folds(codes: Codes, groups: Codes, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into up to `folds` stratified folds that never share a group; every class is in every training part.

    A probe that was never shown a class would miss it for that reason alone. Where no such folds are found, not even
    two, there are none.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    classes = len(np.unique(codes))
    for count in range(folds, 1, -1):
        for attempt in range(ATTEMPTS):
            splitter = StratifiedGroupKFold(count, shuffle=True, random_state=(seed + attempt) % 2**32)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
                parts = [pair for pair in splitter.split(np.zeros(len(codes)), codes, groups) if len(pair[1])]
            if all(len(np.unique(codes[train])) == classes for train, _ in parts):
                return parts
    return []


def neighbour_votes(near: Int[np.ndarray, "q k"], codes: Codes) -> Int[np.ndarray, " q"]:
    """Return the class of most of the nearest tiles of each row (-1: no tile); of as many, the lowest code."""
    votes = np.stack(
        [((codes[near] == code) & (near >= 0)).sum(axis=1) for code in range(int(codes.max()) + 1)], axis=1
    )
    return votes.argmax(axis=1)


def neighbour_accuracy(vectors: Matrix, codes: Codes, groups: Codes, *, k: int = 10) -> float:
    """Return the balanced accuracy of a majority vote of the `k` nearest tiles of other groups (ties: lowest code).

    1 / classes is chance. NaN with one class, where all tiles are of one group, or where all embeddings are the same.
    Misleads where a label goes with a site: neighbours of the same site then vote for it.
    """
    if len(np.unique(codes)) < 2 or len(np.unique(groups)) < 2 or is_constant(vectors):
        return float("nan")
    near = find_neighbors(vectors, min(k, len(vectors) - 1), groups=groups).plain.index
    right = neighbour_votes(near, codes) == codes
    return float(np.mean([right[codes == code].mean() for code in np.unique(codes)]))


def _fit_folds(
    vectors: Vectors,
    codes: Codes,
    groups: Codes,
    parts: list[tuple[np.ndarray, np.ndarray]],
    strength: float | None,
    seed: int,
) -> tuple[_Model, ...]:
    """Return the fit of the training rows of each part."""
    from sklearn.exceptions import ConvergenceWarning

    inner = [None if strength else _inner_split(codes[train], groups[train], seed) for train, _ in parts]

    def fit_fold(fold: int) -> _Model:
        train = parts[fold][0]
        mean, spread = _standard(vectors[train])
        x = ((vectors[train] - mean) / spread).astype(np.float32)
        return _Model(mean, spread, _fit(x, codes[train], strength or _choose_strength(x, codes[train], inner[fold])))

    with warnings.catch_warnings():
        # A probe stopped at 500 steps reads as well; the figure is its score, not its likelihood.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # One BLAS thread per fit: the same sums whatever the number of cores, and folds run beside each other.
        with one_blas_thread(), ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
            return tuple(pool.map(fit_fold, range(len(parts))))


def _standard(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is taken from each dimension, and what it is divided by."""
    mean, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    # A dimension that is constant but for rounding carries nothing, and would blow up. It is judged by its own size,
    # so that one of large scale does not silence the others.
    return mean, np.where(spread > 1e-6 * np.abs(train).max(axis=0), spread, np.inf)


def _inner_split(codes: Codes, groups: Codes, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return one grouped split of a training part, None if it has none."""
    spread = min(len(np.unique(groups[codes == code])) for code in np.unique(codes))
    parts = grouped_folds(codes, groups, min(4, spread), seed) if spread > 1 else []
    return parts[0] if parts else None


def _choose_strength(x: np.ndarray, codes: Codes, inner: tuple[np.ndarray, np.ndarray] | None) -> float:
    if inner is None:
        return STRENGTHS[1]
    train, test = inner
    correct = [_fit(x[train], codes[train], strength).predict(x[test]) == codes[test] for strength in STRENGTHS]
    weights = np.ones((1, len(test)))
    accuracy = [float(balanced_accuracy(right.astype(float), codes[test])(weights)[0]) for right in correct]
    return STRENGTHS[int(np.argmax(accuracy))]


def _fit(x: np.ndarray, codes: Codes, strength: float):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=500, class_weight="balanced").fit(x, codes)
