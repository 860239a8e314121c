"""Two batches of tiles compared: each distance beside what it reads within one batch, and beside signs of collapse."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from .._types import Codes, Matrix
from ..errors import InputError, OptionError, unknown
from ..probes import neighbour_accuracy
from ..provenance import stream
from ..spectrum import check_vectors, effective_rank, is_constant
from .measures import (
    class_gaussian_w2_squared,
    empirical_w2_squared,
    gaussian_w2_squared,
    proxy_a_distance,
    sliced_w2_squared,
    to_scale,
)

REPEATS = 20
#: A fresh probe for each of a pair of halves is slow, so fewer pairs are drawn for it.
PROBE_REPEATS = 5
HALF_TILES = 1000
FEWEST_GROUPS = 4
FEWEST_TILES = 20


@dataclass(frozen=True)
class Sample:
    """Tiles of one batch or of a part of one: vectors, groups, and label codes (-1 unknown)."""

    vectors: Float[np.ndarray, "_n _d"]
    groups: Int[np.ndarray, " _n"]
    labels: Int[np.ndarray, " _n"]

    def take(self, rows: np.ndarray) -> "Sample":
        """Return some of the tiles."""
        return Sample(self.vectors[rows], self.groups[rows], self.labels[rows])


Measure = Callable[[Sample, Sample, int], float]

#: Every distance of `compare_batches`: a function of two samples and a seed.
DISTANCES: Mapping[str, Measure] = MappingProxyType(
    {
        "gaussian_w2_squared": lambda a, b, _: gaussian_w2_squared(a.vectors, b.vectors),
        "class_gaussian_w2_squared": lambda a, b, _: class_gaussian_w2_squared(
            a.vectors, b.vectors, a.labels, b.labels
        ),
        "empirical_w2_squared": lambda a, b, seed: empirical_w2_squared(a.vectors, b.vectors, seed=seed),
        "sliced_w2_squared": lambda a, b, seed: sliced_w2_squared(a.vectors, b.vectors, seed=seed),
        "proxy_a_distance": lambda a, b, seed: proxy_a_distance(a.vectors, b.vectors, a.groups, b.groups, seed=seed),
    }
)


@dataclass(frozen=True)
class Distance:
    """One distance of two batches with its floor.

    `value` is between all tiles. `between` is the median between a half of one batch and a half of the other, to be
    read against `floor`, the median between the two halves of one batch, and `floor_p95`, its 95th percentile: these
    three have the same number of tiles, `tiles` on either side, and the same bias.
    """

    name: str
    value: float
    between: float
    floor: float
    floor_p95: float
    tiles: int

    @property
    def above_floor(self) -> bool | None:
        """Whether half of the pairs of halves lie above nearly all pairs within one batch; None if undefined."""
        return None if np.isnan(self.between) or np.isnan(self.floor_p95) else self.between > self.floor_p95


@dataclass(frozen=True)
class BatchComparison:
    """Distances of two batches, and what a collapsed embedding would give away.

    `effective_rank` and `label_accuracy` (nearest neighbours of other groups, balanced; NaN without labels) are of both
    batches pooled: a distance is good news only while they stay high. `halves_by` says what halves were made of. With a
    `reason` all is NaN.
    """

    distances: tuple[Distance, ...]
    effective_rank: float
    label_accuracy: float
    scale: str
    halves_by: str
    reason: str | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per distance, with its floor, effective rank and label accuracy."""
        rows = [
            {
                "distance": item.name,
                "value": item.value,
                "between": item.between,
                "floor": item.floor,
                "floor_p95": item.floor_p95,
                "above_floor": item.above_floor,
                "tiles": item.tiles,
                "effective_rank": self.effective_rank,
                "label_accuracy": self.label_accuracy,
                "scale": self.scale,
                "halves_by": self.halves_by,
            }
            for item in self.distances
        ]
        return pd.DataFrame(rows)


def compare_batches(
    vectors: Matrix,
    batches: Int[np.ndarray, " _m"],
    groups: Int[np.ndarray, " _m"],
    *,
    labels: Int[np.ndarray, " _m"] | None = None,
    distances: tuple[str, ...] | None = None,
    scale: str = "l2",
    repeats: int = REPEATS,
    seed: int = 0,
) -> BatchComparison:
    """Measure distances between two batches of embeddings `(n, d)`, each beside its split-half floor.

    `batches` is 0 or 1 per tile, `groups` codes patients or slides, `labels` classes (-1 unknown). Each of `repeats`
    times both batches are cut into halves of whole groups (of tiles, where a batch has fewer than four groups; the
    floor then lacks what differs between patients), and all halves are cut to the size of the smallest, 1,000 tiles at
    most. Without `distances` all of `DISTANCES` are measured; the one by class needs labels.

    Misleads: any distance is 0 for an encoder that maps all tiles to one point, which is why effective rank and label
    accuracy stand beside it. Batches with other patients differ by these as well: where all halves are of few groups,
    the floor is coarse.

    Raises
    ------
    InputError
        If shapes differ, values are not finite, or a batch has fewer than 20 tiles.
    OptionError
        If a distance or the scale is unknown, or `repeats` is not positive.
    """
    if distances is None:
        distances = tuple(name for name in DISTANCES if labels is not None or not name.startswith("class_"))
    for name in distances:
        if name not in DISTANCES:
            raise unknown("distance", name, DISTANCES)
    if repeats < 1:
        raise OptionError("too few repeats", received=repeats, valid="1 or more")
    _check_batches(vectors, batches, groups, labels)
    codes = np.full(len(vectors), -1) if labels is None else labels
    if is_constant(vectors):
        none = float("nan")
        empty = tuple(Distance(name, none, none, none, none, 0) for name in distances)
        reason = "every tile has practically the same embedding: that the batches do not differ is worth nothing"
        return BatchComparison(empty, none, none, scale, "", reason)
    scaled = to_scale(vectors, scale)
    both = [Sample(scaled, groups, codes).take(batches == batch) for batch in (0, 1)]
    by_group = min(len(np.unique(sample.groups)) for sample in both) >= FEWEST_GROUPS
    draws = [_four_halves(both, by_group, seed, number) for number in range(repeats)]
    known = codes >= 0
    return BatchComparison(
        distances=tuple(_measure(name, both, draws, seed) for name in distances),
        effective_rank=effective_rank(scaled),
        label_accuracy=neighbour_accuracy(scaled[known], codes[known], groups[known]) if known.any() else float("nan"),
        scale=scale,
        halves_by="group" if by_group else "tile",
    )


def _measure(name: str, both: list[Sample], draws: list[list[Sample]], seed: int) -> Distance:
    measure = DISTANCES[name]
    if name == "proxy_a_distance":
        draws = draws[:PROBE_REPEATS]
    within = [measure(*pair, seed) for a, b, c, d in draws for pair in ((a, b), (c, d))]
    between = [measure(a, c, seed) for a, _, c, _ in draws]
    floor = np.array(within)[np.isfinite(within)]
    across = np.array(between)[np.isfinite(between)]
    none = float("nan")
    return Distance(
        name=name,
        value=measure(both[0], both[1], seed),
        between=float(np.median(across)) if len(across) else none,
        floor=float(np.median(floor)) if len(floor) else none,
        floor_p95=float(np.quantile(floor, 0.95)) if len(floor) else none,
        tiles=int(np.median([len(draw[0].vectors) for draw in draws])),
    )


def _four_halves(both: list[Sample], by_group: bool, seed: int, number: int) -> list[Sample]:
    """Return two halves of the first batch and two of the second, all with the same number of tiles."""
    random = stream(seed, "halves", number)
    halves = [
        sample.take(rows) for sample in both for rows in _halve(sample.groups if by_group else None, sample, random)
    ]
    size = min(HALF_TILES, *(len(half.vectors) for half in halves))
    return [half.take(np.sort(random.permutation(len(half.vectors))[:size])) for half in halves]


def _halve(groups: Codes | None, sample: Sample, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two halves of whole groups, as equal in size as the order of the draw allows."""
    units = np.arange(len(sample.vectors)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(units)
    order = random.permutation(len(sizes))
    cut = int(np.argmin(np.abs(np.cumsum(sizes[order])[:-1] - len(units) / 2))) + 1
    first = np.isin(units, order[:cut])
    return np.flatnonzero(first), np.flatnonzero(~first)


def _check_batches(vectors: Matrix, batches: np.ndarray, groups: np.ndarray, labels: np.ndarray | None) -> None:
    check_vectors(vectors)
    columns = [column for column in (batches, groups, labels) if column is not None]
    if any(len(column) != len(vectors) for column in columns):
        raise InputError(
            "vectors, batches, groups and labels are not of the same tiles",
            received=(len(vectors), *map(len, columns)),
        )
    sizes = {int(batch): int((batches == batch).sum()) for batch in np.unique(batches)}
    if set(sizes) != {0, 1} or min(sizes.values()) < FEWEST_TILES:
        raise InputError(
            "two batches, 0 and 1, are compared",
            received=", ".join(f"{batch}: {size} tiles" for batch, size in sizes.items()),
            valid=f"at least {FEWEST_TILES} tiles of each",
        )
