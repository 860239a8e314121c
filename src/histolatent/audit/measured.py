"""What every measure of an audit is given: the tiles that could be read, and what belongs to them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float

from .._types import Codes
from ..provenance import stream
from ..stats import Statistic, bootstrap, bootstrap_means, pool_clusters
from .plan import Groups, Plan, texts
from .result import Figure, OperationResult


@runtime_checkable
class ViewStack(Protocol):
    """Embeddings of the same tiles seen several ways, `(n, v, d)`; view 0 is the tiles as they are.

    An array is one. What need not lie in one array may answer `stack[rows, view]` from several.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, v, d)`."""
        ...

    def __getitem__(self, where: Any, /) -> Any:
        """Return `(q, d)` for `(rows, view)`."""
        ...


@dataclass(frozen=True)
class Measured:
    """The tiles that could be read, `rows` of the source, with what belongs to them.

    `factors` holds known numbers of the tissue, a column each, in the order of `table`.
    """

    table: pd.DataFrame
    rows: Codes
    groups: Groups
    plan: Plan
    operations: list[OperationResult]
    factors: pd.DataFrame

    def column(self, name: str) -> list[str | None] | None:
        """Return a text column with None for missing, or None if there is no such column."""
        if name not in self.table:
            return None
        return texts(self.table, name)

    def codes(self, name: str) -> tuple[Codes, tuple[str, ...]] | None:
        """Return a text column as codes, -1 for missing, with their names; None if there is no such column."""
        column = self.column(name)
        if column is None:
            return None
        known = np.array([value is not None for value in column])
        values = pd.Categorical([value for value in column if value is not None])
        found = np.full(len(known), -1)
        found[known] = values.codes
        return found, tuple(map(str, values.categories))

    @cached_property
    def clusters(self) -> Codes:
        """The groups for resampling: at most 1,000, whole groups joined at random if there are more."""
        return pool_clusters(self.groups.codes, self.plan.seed)

    def judged(self, operation: OperationResult) -> int:
        """Return the severity at which an operation is judged."""
        policy = self.plan.policy
        asked = policy.must_react_severity if operation.role == "must-react" else policy.severity
        return operation.at(asked).severity

    def sample(self, most: int, purpose: str) -> Codes:
        """Return up to `most` tiles, in their order, drawn by the seed and by what they are for."""
        n = len(self.rows)
        return np.sort(stream(self.plan.seed, purpose, n).permutation(n)[:most])

    def figure(
        self,
        statistic: Statistic,
        rows: Codes,
        *,
        wider: float = 1.0,
        limits: tuple[float, float] = (-math.inf, math.inf),
    ) -> Figure:
        """Return a statistic over some of the tiles, with its interval, which reaches `wider` times as far."""
        return Figure.of(bootstrap(statistic, self._clusters_of(rows), **self._how).widened(wider, limits))

    def means(self, columns: Mapping[str, Float[np.ndarray, " q"]], rows: Codes) -> dict[str, Figure]:
        """Return the mean of each column of values of some of the tiles, with its interval."""
        values = np.stack(list(columns.values()), axis=1)
        estimates = bootstrap_means(values, self._clusters_of(rows), **self._how)
        return {name: Figure.of(one) for name, one in zip(columns, estimates, strict=True)}

    @property
    def _how(self) -> dict[str, int]:
        return {"resamples": self.plan.resamples, "seed": self.plan.seed}

    def _clusters_of(self, rows: Codes) -> Codes:
        return np.unique(self.clusters[rows], return_inverse=True)[1].reshape(-1)
