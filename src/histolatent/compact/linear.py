"""A closed form of compaction: the directions in which views of a tile differ, shrunk by a frozen linear map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh

from ..encoders.maps import LinearMap
from ..errors import InputError, OptionError
from .scatter import Scatter


@dataclass(frozen=True, eq=False)
class Directions:
    """The generalised eigenvectors of within-tile against total scatter, least nuisance first.

    `shares` `(r,)` are the shares of the variance along each that lies within tiles, 0 to 1. A vector has the
    coordinates `(x - mean) @ read`, and `(coordinates @ write.T) + mean` is the vector again, but for dimensions in
    which nothing varied: no direction leads into these.
    """

    mean: Float[np.ndarray, " d"]
    read: Float[np.ndarray, "d r"]
    write: Float[np.ndarray, "d r"]
    shares: Float[np.ndarray, " r"]


def find_directions(scatter: Scatter) -> Directions:
    r"""Solve $S_w u = \lambda S_t u$, with covariances that are shrunk toward a multiple of the identity.

    $S_w$ is the covariance of the views of a tile, $S_t = \frac{V - 1}{V} S_w + S_b$ that of all views, with $S_b$ the
    covariance of the means of tiles over their $V$ views. $S_w$ and $S_b$ are each shrunk by the oracle approximating
    formula: with fewer tiles than dimensions there are directions in which no tile happened to differ, and without it
    those would look like nuisance and nothing else.

    Raises
    ------
    InputError
        If fewer than three tiles were seen, or nothing varies between them.

    References
    ----------
    Chen, Wiesel, Eldar & Hero 2010, "Shrinkage algorithms for MMSE covariance estimation", arXiv 0907.4698.
    """
    if scatter.tiles < 3 or not np.trace(scatter.between) > 0:
        raise InputError("there is nothing to compact", received=f"{scatter.tiles} tiles whose means do not differ")
    views = scatter.views / scatter.tiles
    freedom = scatter.tiles - 1, scatter.views - scatter.tiles
    dims = scatter.moving
    moving = scatter.only(dims)
    between = shrunk(moving.between / views / freedom[0], freedom[0])
    within = shrunk(moving.within / freedom[1], freedom[1])
    total = (1 - 1 / views) * within + between
    shares, read = eigh(within, total)
    read, write = (_placed(part, dims, scatter.dim) for part in (read, total @ read))
    return Directions(scatter.mean, read, write, np.clip(shares, 0.0, 1.0))


def shrunk(covariance: Float[np.ndarray, "d d"], n: int) -> Float[np.ndarray, "d d"]:
    """Return a covariance from `n` degrees of freedom, shrunk toward the mean of its variances."""
    d = len(covariance)
    trace, squares = float(np.trace(covariance)), float((covariance**2).sum())
    apart = (n + 1 - 2 / d) * (squares - trace**2 / d)
    share = min(1.0, ((1 - 2 / d) * squares + trace**2) / apart) if apart > 0 else 1.0
    return (1 - share) * covariance + share * trace / d * np.eye(d)


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


def whiten(scatter: Scatter, share: float) -> LinearMap:
    r"""Bring what differs within tiles to one size in all directions: within-class covariance normalisation.

    Vectors about their mean are multiplied by $(S_w + \epsilon \bar s I)^{-1/2}$, with $S_w$ the covariance of views of
    a tile, $\bar s$ the mean of its variances and $\epsilon$ the `share`; then by a number that leaves the variance
    of all views as it was. No direction is lost, but those in which only states differ shrink beside the others. The
    larger the share, the milder; where views of tiles do not differ at all, nothing is changed, and dimensions in which
    nothing varied are left as they are.

    Misleads for directions that few tiles of the source happened to vary in: these grow most.

    Raises
    ------
    OptionError
        If the share is not above 0.

    References
    ----------
    Hatch, Kajarekar & Stolcke 2006, "Within-class covariance normalization for SVM-based speaker recognition",
    Interspeech; tiles are the classes here.
    """
    if not share > 0:
        raise OptionError("the share for whitening is not above 0", received=share)
    if not np.trace(scatter.within) > 0:
        return LinearMap(scatter.mean, np.zeros((scatter.dim, 0)), np.zeros((scatter.dim, 0)), np.zeros(0))
    dims = scatter.moving
    moving = scatter.only(dims)
    values, axes = eigh(moving.within / max(scatter.views - scatter.tiles, 1))
    gains = 1 / np.sqrt(np.maximum(values, 0) + share * values.mean())
    variances = np.einsum("dk,de,ek->k", axes, moving.total, axes)
    gains *= np.sqrt(variances.sum() / (gains**2 @ variances))
    axes = _placed(axes, dims, scatter.dim)
    return LinearMap(scatter.mean, axes, axes, gains)


def whiten_and_remove(scatter: Scatter, share: float, most: float) -> LinearMap:
    """Whiten, then take out what is still nuisance: see `whiten` and `remove`. A share of 0 does not whiten.

    Raises
    ------
    OptionError, InputError
        As these do.
    """
    if not share:
        return remove(find_directions(scatter), most)
    white = whiten(scatter, share)
    if most == 1:
        return white
    return white.then(remove(find_directions(scatter.under(white.matrix)), most))


def _placed(axes: Float[np.ndarray, "m r"], dims: Int[np.ndarray, " m"], dim: int) -> Float[np.ndarray, "d r"]:
    """Return axes in some dimensions as axes in all `dim` of them."""
    placed = np.zeros((dim, axes.shape[1]))
    placed[dims] = axes
    return placed


def _map(directions: Directions, gains: Float[np.ndarray, " d"]) -> LinearMap:
    changed = np.flatnonzero(gains != 1)
    return LinearMap(directions.mean, directions.read[:, changed], directions.write[:, changed], gains[changed])
