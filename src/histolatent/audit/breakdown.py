"""Which tiles a mean hides: the same figure by class, by slide and over the worst tenth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from .._types import Column
from ..errors import InputError
from ..stats import RESAMPLES, Estimate, Statistic, bootstrap, bootstrap_means

WORST_SHARE = 0.1


@dataclass(frozen=True)
class Part:
    """A part of the tiles: its mean with interval, and its share of all tiles."""

    by: str
    name: str
    mean: Estimate
    tiles: int
    groups: int


@dataclass(frozen=True)
class Breakdown:
    """The mean of a per-tile figure over all tiles, per class, per slide and over the worst tenth."""

    parts: tuple[Part, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per part, the whole first."""
        rows = [
            {
                "by": part.by,
                "name": part.name,
                "value": part.mean.value,
                "low": part.mean.low,
                "high": part.mean.high,
                "tiles": part.tiles,
                "groups": part.groups,
            }
            for part in self.parts
        ]
        return pd.DataFrame(rows, columns=pd.Index(["by", "name", "value", "low", "high", "tiles", "groups"]))

    def worst(self, by: str, *, higher_is_worse: bool = True) -> Part | None:
        """Return the part of one kind with the worst mean, None if there is none of that kind."""
        parts = [part for part in self.parts if part.by == by]
        sign = 1 if higher_is_worse else -1
        return max(parts, key=lambda part: sign * part.mean.value, default=None)


def break_down(
    values: Column,
    groups: Int[np.ndarray, " _m"],
    *,
    labels: Sequence[str | None] | None = None,
    slides: Sequence[str | None] | None = None,
    higher_is_worse: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Breakdown:
    """Split the mean of a per-tile figure by class and by slide, and take the mean over the worst tenth of all tiles.

    Intervals are from a bootstrap of whole groups within the part; a part of one group has none. The worst tenth is
    chosen anew in each resample. Tiles with NaN, or without a class or slide, are left out of what they lack.

    Misleads: the worst of many slides is bad by chance alone; ask for an interval that excludes the mean of all.

    Raises
    ------
    InputError
        If lengths differ, or no value is finite.
    """
    for name, column in (("groups", groups), ("labels", labels), ("slides", slides)):
        if column is not None and len(column) != len(values):
            raise InputError(f"values and {name} are not of the same tiles", received=(len(values), len(column)))
    known = np.isfinite(values)
    if not known.any():
        raise InputError("no value is finite: there is nothing to break down", received=f"{len(values)} values")
    options = {"resamples": resamples, "seed": seed}
    parts = [_part("all", "all tiles", values, groups, known, options)]
    for by, column in (("class", labels), ("slide", slides)):
        if column is not None:
            names = np.array([name if name is not None else "" for name in column], dtype=object)
            given = known & np.array([name is not None for name in column])
            parts += [
                _part(by, str(name), values, groups, given & (names == name), options)
                for name in sorted(set(names[given].tolist()))
            ]
    codes = np.unique(groups[known], return_inverse=True)[1]
    worst = bootstrap(_worst_mean(values[known], higher_is_worse), codes, **options)
    tiles = int(np.ceil(WORST_SHARE * known.sum()))
    parts.append(Part("worst tenth", "worst tenth", worst, tiles, int(codes.max()) + 1))
    return Breakdown(tuple(parts))


def _part(by: str, name: str, values: Column, groups: np.ndarray, rows: np.ndarray, options: dict[str, int]) -> Part:
    codes = np.unique(groups[rows], return_inverse=True)[1]
    mean = bootstrap_means(values[rows].astype(np.float64)[:, None], codes, **options)[0]
    return Part(by, name, mean, int(rows.sum()), int(codes.max()) + 1)


def _worst_mean(values: Column, higher_is_worse: bool) -> Statistic:
    """Return the statistic: the weighted mean of the worst tenth of the weight."""
    order = np.argsort(-values if higher_is_worse else values, kind="stable")
    ordered = values[order].astype(np.float64)

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        weights = weights[:, order]
        budget = WORST_SHARE * weights.sum(axis=1, keepdims=True)
        before = np.cumsum(weights, axis=1) - weights
        taken = np.clip(budget - before, 0, weights)
        return taken @ ordered / budget[:, 0]

    return statistic
