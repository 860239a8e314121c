"""What a search finds: nearest tiles, plain and by type."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .._types import Codes
from ..errors import InputError

#: Same or other label, then same or other confounder.
TYPES = ("SS", "SO", "OS", "OO")


@dataclass(frozen=True)
class Neighbors:
    """The nearest tiles of each of `q` tiles, nearest first; where there are fewer than `k`, index -1 and distance inf.

    Of equally near tiles the one of the lower row comes first.
    """

    index: Int[np.ndarray, "q k"]
    distance: Float[np.ndarray, "q k"]

    @property
    def k(self) -> int:
        """How many were asked for."""
        return self.index.shape[1]

    @property
    def counts(self) -> Int[np.ndarray, " q"]:
        """How many were found for each tile."""
        return (self.index >= 0).sum(axis=1)

    def first(self, k: int) -> "Neighbors":
        """Return the `k` nearest of them.

        Raises
        ------
        InputError
            If fewer were searched for.
        """
        if not 0 < k <= self.k:
            raise InputError("too few neighbours were searched for", received=f"{self.k}, {k} are needed")
        return Neighbors(self.index[:, :k], self.distance[:, :k])


@dataclass(frozen=True)
class TypedNeighbors:
    """The outcome of one search: plain neighbours of each tile of `rows`, and the nearest of each type.

    `labels`, `confounders` and `groups` are codes of all `n` tiles. `typed` is empty where labels or confounders were
    not given. `available[i]` counts the tiles that could have been found, by type (one column without types).
    `collapsed`: all embeddings are one point, so nothing was searched. `recall`: share of the exact neighbours that an
    approximate search found on a sample, plain and by type; empty where the search was exact.
    """

    rows: Int[np.ndarray, " q"]
    plain: Neighbors
    typed: dict[str, Neighbors]
    available: Int[np.ndarray, "q _t"]
    labels: Codes | None
    confounders: Codes | None
    groups: Codes | None
    metric: str
    collapsed: bool
    recall: dict[str, float]

    def types(self) -> Int[np.ndarray, "q k"]:
        """Return the type of each plain neighbour as its place in TYPES, -1 where there is none."""
        if self.labels is None or self.confounders is None:
            raise InputError("these neighbours have no types", fix="search with labels and confounders")
        index = np.maximum(self.plain.index, 0)
        other_label = self.labels[index] != self.labels[self.rows][:, None]
        other_confounder = self.confounders[index] != self.confounders[self.rows][:, None]
        return np.where(self.plain.index >= 0, 2 * other_label + other_confounder, -1)
