"""A closed form of compaction: the directions in which views of a tile differ, shrunk by a frozen linear map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from ..encoders.linear_map import LinearMap
from ..errors import InputError, OptionError
from .scatter import Scatter

#: What is added to every direction of the total scatter, relative to its mean: what hardly varies is left alone.
RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Directions:
    """The generalised eigenvectors of within-tile against total scatter, least nuisance first.

    `shares` `(d,)` are the shares of the variance along each that lies within tiles, 0 to 1. A vector has the
    coordinates `(x - mean) @ read`, and `(coordinates @ write.T) + mean` is the vector again.
    """

    mean: Float[np.ndarray, " d"]
    read: Float[np.ndarray, "d d"]
    write: Float[np.ndarray, "d d"]
    shares: Float[np.ndarray, " d"]


def find_directions(scatter: Scatter, *, ridge: float = RIDGE) -> Directions:
    r"""Solve $S_w u = \lambda S_t u$, with `ridge` times the mean variance added to the diagonal of $S_t$.

    Raises
    ------
    InputError
        If fewer than two tiles were seen, or nothing varies.
    OptionError
        If the ridge is not above 0.
    """
    if not ridge > 0:
        raise OptionError("the ridge is not above 0", received=ridge)
    variance = float(np.trace(scatter.total)) / scatter.dim
    if scatter.tiles < 2 or not variance > 0:
        raise InputError(
            "there is nothing to compact", received=f"{scatter.tiles} tiles, of which views and means do not differ"
        )
    total = scatter.total + ridge * variance * np.eye(scatter.dim)
    shares, read = eigh(scatter.within, total)
    return Directions(scatter.mean, read, total @ read, np.clip(scatter.unseen * shares, 0.0, 1.0))


def shrink(directions: Directions, strength: float = 1.0) -> LinearMap:
    r"""Scale each direction by $(1 - \lambda)^s$, with $\lambda$ the share of its variance that lies within tiles.

    At strength 1 this is the best linear guess of where a tile lies, over all its states, from one view; at 0 it is no
    change, and at infinity only what no state touches is left.

    Raises
    ------
    OptionError
        If the strength is negative.
    """
    if not strength >= 0:
        raise OptionError("a strength is not negative", received=strength)
    return _map(directions, (1.0 - directions.shares) ** strength)


def remove(directions: Directions, most: float) -> LinearMap:
    """Take out each direction of which more than `most` of the variance lies within tiles; keep the others as they are.

    Raises
    ------
    OptionError
        If the bound is not within 0 to 1.
    """
    if not 0 <= most <= 1:
        raise OptionError("a share of variance lies in 0 to 1", received=most)
    return _map(directions, (directions.shares <= most).astype(float))


def _map(directions: Directions, gains: Float[np.ndarray, " d"]) -> LinearMap:
    changed = np.flatnonzero(gains != 1)
    return LinearMap(directions.mean, directions.read[:, changed], directions.write[:, changed], gains[changed])
