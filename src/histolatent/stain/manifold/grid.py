"""A sheet of one tile under two axes: what the manifold looks like."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import OptionError
from .prior import Prior
from .state import ProtocolState, check_axis

if TYPE_CHECKING:
    import pandas as pd

STEPS, REACH_SDS = 5, 2.0


@dataclass(frozen=True, eq=False, repr=False)
class StateGrid:
    """A tile rendered at every pair of values: `tiles[i, j]` is at `values_a[i]` and `values_b[j]`.

    `tiles` is `(a, b, ...)` in the type and layout of the image; `states[i][j]` are the states.
    """

    axis_a: str
    axis_b: str
    values_a: tuple[float, ...]
    values_b: tuple[float, ...]
    states: tuple[tuple[ProtocolState, ...], ...]
    tiles: np.ndarray

    def __repr__(self) -> str:
        return f"StateGrid({self.axis_a} {_shown(self.values_a)} x {self.axis_b} {_shown(self.values_b)})"

    def to_dict(self) -> dict[str, Any]:
        """Return axes, values and states as plain values, without the tiles."""
        return {
            "axis_a": self.axis_a,
            "axis_b": self.axis_b,
            "values_a": list(self.values_a),
            "values_b": list(self.values_b),
            "states": [[state.to_dict() for state in row] for row in self.states],
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per tile, in the order of `tiles`, with every coordinate and the seed."""
        import pandas as pd

        return pd.DataFrame([state.to_dict() for row in self.states for state in row])


def grid_values(name: str, prior: Prior) -> tuple[float, ...]:
    """Return 5 values from -2 to +2 standard deviations of an axis, or from 0 where it is one-sided, within its limits.

    Raises
    ------
    OptionError
        If there is no such axis, or the prior has switched it off.
    """
    axis, sd = check_axis(name), prior.sd[check_axis(name).name]
    if not sd:
        raise OptionError(f"the prior has switched {name} off, so it suggests no values", fix="pass values of your own")
    low, high = axis.limits
    return tuple(np.linspace(max(-REACH_SDS * sd, low), min(REACH_SDS * sd, high), STEPS).tolist())


def _shown(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:.3g}' for value in values)}]"
