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
STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
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
