"""What a task is scored by: functions of weighted rows, so that an interval can be drawn over patients and seeds."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from jaxtyping import Float

from ...stats import Statistic, balanced_accuracy, weighted_auroc, weighted_mean

#: False detections per mm2 at which sensitivities are averaged.
FROC_RATES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
#: Rows of a detection task: a tile, with its number of objects and its area; or what was found, and whether it is one.
TILE, FOUND = "tile", "found"
Weights = Float[np.ndarray, "b n"]


def _balanced_accuracy(rows: pd.DataFrame) -> Statistic:
    return balanced_accuracy(_right(rows), rows["truth"].to_numpy(int))


def _accuracy(rows: pd.DataFrame) -> Statistic:
    return weighted_mean(_right(rows))


def _right(rows: pd.DataFrame) -> np.ndarray:
    return (rows["truth"] == rows["predicted"]).to_numpy(float)


def _auroc(rows: pd.DataFrame) -> Statistic:
    return weighted_auroc(rows["score"].to_numpy(float), rows["truth"].to_numpy(int))


def _macro_f1(rows: pd.DataFrame) -> Statistic:
    truth, predicted = rows["truth"].to_numpy(int), rows["predicted"].to_numpy(int)
    classes = np.unique(truth)

    def statistic(weights: Weights) -> Float[np.ndarray, " b"]:
        # A resample may have lost a class: it is averaged over those that it has.
        parts, present = [], []
        for code in classes:
            mine, named = (truth == code).astype(float), (predicted == code).astype(float)
            there = weights @ mine
            parts.append(2 * (weights @ (mine * named)) / np.maximum(there + weights @ named, 1e-12))
            present.append(there > 0)
        return np.where(present, parts, 0).sum(axis=0) / np.sum(present, axis=0)

    return statistic


def _detected(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of what was found, from the surest on; whether each is an object; and rows of tiles."""
    kind = rows["kind"].to_numpy()
    found = np.flatnonzero(kind == FOUND)
    found = found[np.argsort(-rows["score"].to_numpy(float)[found], kind="stable")]
    return found, rows["truth"].to_numpy(float)[found], np.flatnonzero(kind == TILE)


def _f1(rows: pd.DataFrame) -> Statistic:
    found, hit, tiles = _detected(rows)
    kept, objects = rows["predicted"].to_numpy(float)[found], rows["truth"].to_numpy(float)[tiles]

    def statistic(weights: Weights) -> Float[np.ndarray, " b"]:
        right, named = weights[:, found] @ (hit * kept), weights[:, found] @ kept
        return 2 * right / np.maximum(named + weights[:, tiles] @ objects, 1e-12)

    return statistic


def _average_precision(rows: pd.DataFrame) -> Statistic:
    found, hit, tiles = _detected(rows)
    objects = rows["truth"].to_numpy(float)[tiles]

    def statistic(weights: Weights) -> Float[np.ndarray, " b"]:
        right = np.cumsum(weights[:, found] * hit, axis=1)
        named = np.cumsum(weights[:, found], axis=1)
        precision = right / np.maximum(named, 1e-12)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        return (best * weights[:, found] * hit).sum(axis=1) / np.maximum(weights[:, tiles] @ objects, 1e-12)

    return statistic


def _froc(rows: pd.DataFrame) -> Statistic:
    found, hit, tiles = _detected(rows)
    objects, area = (rows[name].to_numpy(float)[tiles] for name in ("truth", "area_mm2"))

    def statistic(weights: Weights) -> Float[np.ndarray, " b"]:
        right = np.cumsum(weights[:, found] * hit, axis=1) / np.maximum(weights[:, tiles] @ objects, 1e-12)[:, None]
        wrong = np.cumsum(weights[:, found] * (1 - hit), axis=1) / (weights[:, tiles] @ area)[:, None]
        reached = [np.where(wrong <= rate, right, 0).max(axis=1, initial=0) for rate in FROC_RATES]
        return np.mean(reached, axis=0)

    return statistic


#: Every score: from rows of one site to a statistic of weighted rows. All of them are better when higher, 0 to 1.
SCORES: Mapping[str, Callable[[pd.DataFrame], Statistic]] = MappingProxyType(
    {
        "balanced accuracy": _balanced_accuracy,
        "accuracy": _accuracy,
        "AUROC": _auroc,
        "macro F1": _macro_f1,
        "F1": _f1,
        "AP": _average_precision,
        "FROC": _froc,
    }
)
