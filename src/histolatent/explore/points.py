"""Which tiles of a map to believe, one by one: against a map of nothing, and over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .._types import Column, Matrix
from ..errors import InputError
from ..provenance import stream
from .graph import metric_rows
from .maps import PLACED_BY, Map, shared_neighbours

#: Below this share of the null a tile's place is dubious, above the other it is to be trusted.
DUBIOUS, TRUSTED = 0.05, 0.95
#: Places of some tiles.
Rows = Int[np.ndarray, " m"]
Some = Float[np.ndarray, "_q 2"]


@dataclass(frozen=True, eq=False)
class Reliability:
    """How well the surroundings of some tiles are kept, against those in a map of the same vectors without structure.

    `scores` are of the tiles `rows`, from -1 to 1. Below `dubious`, the 5th percentile of the null, a place says
    nothing; above `trusted`, the 95th, it does.
    """

    rows: Rows
    scores: Float[np.ndarray, " m"]
    dubious: float
    trusted: float

    @property
    def verdicts(self) -> list[str]:
        """Return `dubious`, `unclear` or `trusted` for each tile."""
        return [
            "dubious" if score < self.dubious else "trusted" if score > self.trusted else "unclear"
            for score in self.scores
        ]


def permuted_features(vectors: Matrix, *, metric: str = "cosine", seed: int = 0) -> Float[np.ndarray, "n d"]:
    """Return vectors of which each dimension is dealt anew to the tiles: the same columns, and no structure.

    With the cosine as metric, it is unit vectors that are dealt.
    """
    given = metric_rows(vectors.astype(np.float64), metric)
    random = stream(seed, "permuted features")
    return np.stack([random.permutation(column) for column in given.T], axis=1)


def reliability(
    vectors: Matrix, places: Some, null_vectors: Matrix, null_places: Some, rows: Rows, *, metric: str = "cosine"
) -> Reliability:
    """Score how the surroundings of tiles are kept, and say which scores a map of nothing would have, too.

    The score of a tile is the correlation of two lists of distances in the map, from the tile to the half of all tiles
    that are nearest: nearest in the space, and nearest in the map, each in its order. The null is the same of
    `null_places`, a map by the same method of `null_vectors`, as `permuted_features` makes them.

    Misleads: half of all tiles is a wide surrounding; that the nearest tiles are wrong hardly shows. Read recall too.

    Reference: Xia, Lee & Li 2024, Nature Communications 15:1753 (scDEED).

    Raises
    ------
    InputError
        If lengths differ.
    """
    n = len(vectors)
    if not len(places) == len(null_vectors) == len(null_places) == n:
        raise InputError(
            "space, map and null have different numbers of tiles", received=(n, len(places), len(null_places))
        )
    own, null = (
        _scores(space, picture, rows, metric) for space, picture in ((vectors, places), (null_vectors, null_places))
    )
    low, high = np.quantile(null, [DUBIOUS, TRUSTED])
    return Reliability(rows, own, float(low), float(high))


def _scores(vectors: np.ndarray, places: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    given = metric_rows(vectors.astype(np.float64), metric)
    halves, half = 0.5 * (given**2).sum(axis=1), len(given) // 2
    found = np.empty(len(rows))
    for place, row in enumerate(rows):
        far = np.linalg.norm(places - places[row], axis=1)
        keys = halves - given @ given[row]
        keys[row] = -np.inf
        lists = far[np.argsort(keys, kind="stable")[1 : half + 1]], np.sort(far)[1 : half + 1]
        found[place] = np.corrcoef(*lists)[0, 1] if all(np.ptp(part) > 0 for part in lists) else 0.0
    return found


def stability(maps: Sequence[Map], k: int = PLACED_BY) -> Column:
    """Return, for each tile, how many of its `k` neighbours in one map it has in another: Jaccard, mean over pairs.

    For maps by one method under several seeds: where it is low, the surroundings are made by chance.

    Raises
    ------
    InputError
        If there are fewer than two maps.
    """
    if len(maps) < 2:
        raise InputError("stability is of several maps of the same tiles", received=len(maps), valid="2 or more")
    pairs = [(one, other) for place, one in enumerate(maps) for other in maps[place + 1 :]]
    return np.mean([shared_neighbours(one.places, other.places, k) for one, other in pairs], axis=0)
