"""Compaction of a frozen encoder in closed form: views embedded once, a linear map fitted, its strength chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ..encoders.linear_map import LinearMap
from ..errors import InputError
from ..neighbors import twin_ranks
from .linear import Directions, find_directions, shrink
from .scatter import Scatter

#: Strengths that are tried; 0 is the encoder as it is.
STRENGTHS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: An embedding keeps at least this share of its effective rank.
LEAST_RANK = 0.5
CHUNK = 1024


@dataclass(frozen=True)
class Judged:
    """What a strength does to tiles and states that nothing was fitted to.

    `twin_top1` is the share of tiles that find themselves again, among all held-out tiles, between two states of a
    wider prior; `error` its standard error. `ratio` is the compaction ratio over those states, `rank` the effective
    rank of the tiles.
    """

    strength: float
    twin_top1: float
    error: float
    ratio: float
    rank: float

@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A linear compaction: the map, what it was chosen among, and the directions that it scales."""

    map: LinearMap
    strength: float
    judged: tuple[Judged, ...]
    directions: Directions

    def to_dict(self) -> dict[str, Any]:
        """Return what a card says of it, JSON-able."""
        return {
            "strength": self.strength,
            "judged": [asdict(entry) for entry in self.judged],
            "nuisance_shares": [round(float(share), 6) for share in self.directions.shares],
        }


def fit_closed_form(
    vectors: Float[np.ndarray, "n v d"],
    fitted: Bool[np.ndarray, " n"],
    *,
    held_out: int,
    strengths: Sequence[float] = STRENGTHS,
) -> ClosedForm:
    """Fit the map to the views of the `fitted` tiles, and choose its strength on the others.

    View 0 is the tile; the last `held_out` views are states of a wider prior, which nothing is fitted to. Of the
    strengths that keep half of the effective rank, the mildest is taken whose twin retrieval is within one standard
    error of the best: what goes beyond it costs morphology and buys nothing that could be measured.

    Raises
    ------
    InputError
        If there are too few tiles on either side, or nothing varies.
    """
    if held_out < 2:
        raise InputError("a strength is chosen between two held-out states", received=held_out, valid="2 or more")
    if fitted.sum() < 2 or (~fitted).sum() < 2:
        raise InputError(
            "too few tiles to fit and to judge a compaction",
            received=f"{int(fitted.sum())} and {int((~fitted).sum())}",
            valid="at least 2 of each, from different slides",
        )
    scatter = Scatter(vectors.shape[2])
    rows = np.flatnonzero(fitted)
    for start in range(0, len(rows), CHUNK):
        scatter.add(vectors[rows[start : start + CHUNK], : vectors.shape[1] - held_out])
    directions = find_directions(scatter)
    kept = np.asarray(vectors[np.flatnonzero(~fitted)])
    judged = tuple(judge(shrink(directions, strength), kept, held_out, strength) for strength in strengths)
    chosen = choose(judged)
    return ClosedForm(shrink(directions, chosen.strength), chosen.strength, judged, directions)


def judge(map_: LinearMap, vectors: Float[np.ndarray, "n v d"], held_out: int, strength: float) -> Judged:
    """Measure a map on tiles that it was not fitted to, under their held-out states."""
    first, second = (map_.apply(np.ascontiguousarray(vectors[:, -k])) for k in (1, 2))
    found = twin_ranks(first, second, np.arange(len(first))) < 1
    tiles = map_.apply(np.ascontiguousarray(vectors[:, 0]))
    ratio = Scatter(vectors.shape[2]).add(np.stack([tiles, first, second], axis=1)).ratio
    share = float(found.mean())
    # With none or all found the usual error is 0; half a tile is what was not resolved.
    error = float(np.sqrt(max(share * (1 - share), 0.5 / len(found)) / len(found)))
    return Judged(strength, share, error, ratio, effective_rank(tiles))


def choose(judged: Sequence[Judged]) -> Judged:
    """Return the mildest that keeps enough of the effective rank and finds twins as well as the best, to an error."""
    start = min(judged, key=lambda entry: entry.strength)
    wide = [entry for entry in judged if entry.rank >= LEAST_RANK * start.rank] or [start]
    best = max(wide, key=lambda entry: entry.twin_top1)
    return min(
        (entry for entry in wide if entry.twin_top1 >= best.twin_top1 - best.error), key=lambda entry: entry.strength
    )
