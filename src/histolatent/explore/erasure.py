"""What a concept leaves in a linear probe, erased by the smallest change of vectors: LEACE."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from .._types import Matrix
from ..encoders.maps import LinearMap
from ..errors import InputError
from ..probes import FOLDS, grouped_folds
from ..spectrum import check_vectors
from ..stats import balanced_accuracy, whole_value

#: Directions of less than this share of the largest spread, or of the largest covariance, are rounding.
TOLERANCE = 1e-6
#: Dimensions that move in less than so many tiles' worth, or than this share of all tiles, are made constant.
RARE, RARE_SHARE = 30, 0.05
TREES = 200


def fit_leace(vectors: Matrix, codes: Int[np.ndarray, " _n"]) -> LinearMap:
    r"""Fit the smallest linear change after which no linear probe reads `codes` better than the shares of its classes.

    $r(x) = x - W^+ P W (x - \bar x)$ with $W = (\Sigma_{XX}^{1/2})^+$ and $P$ the projector on the columns of
    $W \Sigma_{XZ}$, where $Z$ is one column for each class: integer codes would leave what they do not order. It is
    exact on the vectors that it is fitted to, in float64.

    Dimensions that move in a few tiles alone are made constant: by their covariance with the classes, what one tile has
    there would be taken from all others, and tell their classes.

    Misleads: probes that are not linear still read the classes, and on other tiles linear ones read a little. Where the
    classes go with tissue, that tissue is erased too. It takes from each tile part of the mean of its class, the more
    the fewer tiles there are for each dimension, and all of it of no more tiles than dimensions: a probe fitted to some
    of these tiles then reads others of them well below chance, which tells their class as well. Fit it to other tiles
    than those that are read.

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
    silent, rare = _still(x)
    still = silent | rare
    x[:, still] = 0
    covariance = x.T @ x / len(x)
    values, axes = np.linalg.eigh(covariance)
    kept = values > TOLERANCE**2 * max(values[-1], 0)
    spread, axes = np.sqrt(values[kept]), axes[:, kept]
    whitened = (axes / spread).T @ (x.T @ z / len(x))
    left, size, _ = np.linalg.svd(whitened, full_matrices=False)
    found = left[:, size > TOLERANCE * max(size[0], TOLERANCE)]
    # Rounding, too, would leave something there.
    read, write = (np.where(still[:, None], 0, (axes * scale) @ found) for scale in (1 / spread, spread))
    own = np.eye(len(still))[:, rare]
    return LinearMap(mean, np.hstack([read, own]), np.hstack([write, own]), np.zeros(found.shape[1] + own.shape[1]))


def _still(around: Matrix) -> tuple[Bool[np.ndarray, " d"], Bool[np.ndarray, " d"]]:
    """Return which dimensions are silent but for rounding, and which others move in a few tiles alone.

    In how many is said by the fourth moment: of a dimension that is the same in all tiles but k, about k.
    """
    squares = around**2
    total = squares.sum(axis=0)
    silent = total <= TOLERANCE**2 * total.max()
    worth = total**2 / np.maximum((squares**2).sum(axis=0), np.finfo(float).tiny)
    return silent, ~silent & (worth < min(RARE, RARE_SHARE * len(around)))


def measure_leak(
    vectors: Matrix, codes: Int[np.ndarray, " _n"], groups: Int[np.ndarray, " _n"], *, seed: int = 0
) -> pd.DataFrame:
    """Return how well probes read codes before and after erasure, on groups that neither they nor it were fitted to.

    A row for each probe: `logistic`, which erasure is made against, and `forest`, which it is not. `before` and `after`
    are balanced accuracies, `chance` is 1 over the number of classes.

    Misleads: what no forest reads, another probe may read; and of few groups, chance is wide.

    Raises
    ------
    InputError
        If values are not finite, lengths differ, or groups cannot be split so that each class is trained on.
    """
    check_vectors(vectors)
    if not len(vectors) == len(codes) == len(groups):
        raise InputError(
            "codes and groups are one for each vector", received=f"{len(codes)} and {len(groups)} for {len(vectors)}"
        )
    classes, own = np.unique(codes, return_inverse=True)
    least = min(len(np.unique(groups[own == code])) for code in range(len(classes)))
    parts = grouped_folds(own, groups, min(FOLDS, least), seed) if min(least, len(classes)) > 1 else []
    if not parts:
        raise InputError(
            "what is erased cannot be read on other groups",
            received=f"{len(classes)} classes, one of them in {least} groups",
            valid="two classes or more, each in two groups or more",
        )
    right = {(name, when): np.zeros(len(own)) for name in _probes(seed) for when in ("before", "after")}
    for train, test in parts:
        erase = fit_leace(vectors[train], own[train])
        for when, x in (("before", vectors), ("after", erase.apply(vectors))):
            for name, make in _probes(seed).items():
                right[name, when][test] = make().fit(x[train], own[train]).predict(x[test]) == own[test]
    read = {name: whole_value(balanced_accuracy(correct, own), len(own)) for name, correct in right.items()}
    return pd.Series(read).unstack()[["before", "after"]].assign(chance=1 / len(classes))


def _probes(seed: int) -> Mapping[str, Callable[[], Any]]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic": lambda: make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
        ),
        "forest": lambda: RandomForestClassifier(TREES, class_weight="balanced", random_state=seed % 2**32),
    }
