"""Compaction of a frozen encoder in closed form: a linear map, and the strength that held-out slides ask for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..encoders.maps import LinearMap
from ..errors import InputError, OptionError
from ..neighbors import twin_ranks
from ..spectrum import effective_rank
from .linear import Directions, find_directions, shrink
from .scatter import Scatter

#: Strengths that are tried; 0 is the encoder as it is.
STRENGTHS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: An embedding keeps at least this share of its effective rank.
LEAST_RANK = 0.5
#: Share of the gain in twin retrieval that a strength has to bring.
GAINED = 0.8
CHUNK = 1024

Rows = Int[np.ndarray, " _r"]
Apply = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Judged:
    """What a strength does to tiles and states that the map was not fitted to.

    `found` says of each tile whether it finds itself again, among the held-out tiles of its fold, between two states of
    a wider prior. `ratio` is the compaction ratio over the tile and those states, `rank` the effective rank of the
    tiles; both are means over folds.
    """

    strength: float
    found: Bool[np.ndarray, " n"] = field(repr=False)
    ratio: float
    rank: float

    @property
    def twin_top1(self) -> float:
        """The share of tiles that find themselves again."""
        return float(self.found.mean())

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers."""
        return {"strength": self.strength, "twin_top1": self.twin_top1, "ratio": self.ratio, "rank": self.rank}


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A linear compaction: the map, its strength, what it was chosen among, and the directions that it scales."""

    map: LinearMap
    strength: float
    judged: tuple[Judged, ...]
    directions: Directions

    def to_dict(self) -> dict[str, Any]:
        """Return what a card says of it, JSON-able."""
        return {
            "strength": self.strength,
            "judged": [entry.to_dict() for entry in self.judged],
            "nuisance_shares": [round(float(share), 6) for share in self.directions.shares],
        }


def fit_closed_form(
    vectors: Float[np.ndarray, "n v d"],
    folds: Sequence[Rows],
    *,
    held_out: int = 2,
    strength: float | None = None,
) -> ClosedForm:
    """Fit the map to the views of all rows in `folds`, and choose its strength by leaving out one fold at a time.

    View 0 is the tile; the last `held_out` views are states of a wider prior, which nothing is fitted to. Folds should
    share no slide. Of the strengths that keep half of the effective rank, the mildest is taken that brings 80 % of what
    the best of them gains in twin retrieval: the last fifth costs morphology out of proportion. A `strength` that is
    given is taken instead. `vectors` may be a memory map: it is read in parts.

    Raises
    ------
    InputError
        If there are too few folds, tiles or states, or nothing varies.
    OptionError
        If the strength is negative.
    """
    if held_out < 2 or len(folds) < 2 or min(map(len, folds)) < 2:
        raise InputError(
            "too few tiles or states to fit and to judge a compaction",
            received=f"folds of {', '.join(str(len(fold)) for fold in folds)} tiles, {held_out} held-out states",
            valid="two folds of 2 tiles each, and 2 states",
        )
    if strength is not None and not 0 <= strength < np.inf:
        raise OptionError("the strength of a compaction is no number of 0 or more", received=strength)
    seen = vectors.shape[1] - held_out
    scatters = [scatter_of(vectors, fold, seen) for fold in folds]
    tried = STRENGTHS if strength is None else (0.0, strength)
    parts: list[list[Judged]] = []
    for k, fold in enumerate(folds):
        others = Scatter(vectors.shape[2])
        for j, scatter in enumerate(scatters):
            if j != k:
                others.merge(scatter)
        directions, kept = find_directions(others), np.asarray(vectors[fold])
        parts.append([judge_map(shrink(directions, each).apply, kept, each) for each in tried])
    judged = tuple(_pooled(of_folds) for of_folds in zip(*parts, strict=True))
    whole = Scatter(vectors.shape[2])
    for scatter in scatters:
        whole.merge(scatter)
    directions = find_directions(whole)
    chosen = choose(judged).strength if strength is None else strength
    return ClosedForm(shrink(directions, chosen), chosen, judged, directions)


def scatter_of(vectors: Float[np.ndarray, "n v d"], rows: Rows, seen: int) -> Scatter:
    """Return the scatter of the first `seen` views of some rows, read in parts."""
    scatter = Scatter(vectors.shape[2])
    for start in range(0, len(rows), CHUNK):
        scatter.add(vectors[rows[start : start + CHUNK], :seen])
    return scatter


def judge_map(
    apply: Callable[[np.ndarray], np.ndarray], vectors: Float[np.ndarray, "n v d"], strength: float
) -> Judged:
    """Measure a map on tiles (view 0) that it was not fitted to, under their last two views: held-out states."""
    tiles, first, second = (apply(np.ascontiguousarray(vectors[:, view])) for view in (0, -2, -1))
    found = twin_ranks(first, second, np.arange(len(first))) < 1
    ratio = Scatter(vectors.shape[2]).add(np.stack([tiles, first, second], axis=1)).ratio
    return Judged(strength, found, ratio, effective_rank(tiles))


def _pooled(folds: Sequence[Judged]) -> Judged:
    ratio, rank = (float(np.mean([getattr(fold, name) for fold in folds])) for name in ("ratio", "rank"))
    return Judged(folds[0].strength, np.concatenate([fold.found for fold in folds]), ratio, rank)


def choose(judged: Sequence[Judged]) -> Judged:
    """Return the mildest that brings most of what can be gained in twin retrieval, and keeps enough effective rank.

    Most is `GAINED`. Where the best gains no more than two standard errors (of the difference, over tiles), nothing is
    to be gained, and it is the encoder as it is.
    """
    start = min(judged, key=lambda entry: entry.strength)
    wide = [entry for entry in judged if entry.rank >= LEAST_RANK * start.rank]
    best = max(wide, key=lambda entry: entry.twin_top1, default=start)
    gains = best.found.astype(float) - start.found
    gain = float(gains.mean())
    if not gain > 2 * float(gains.std()) / np.sqrt(len(gains)):
        return start
    enough = [entry for entry in wide if entry.twin_top1 - start.twin_top1 >= GAINED * gain]
    return min(enough, key=lambda entry: entry.strength)
