"""How far the views of a tile lie apart, and tiles among each other, as statistics of a stream."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from ..errors import InputError

Square = Float[np.ndarray, "d d"]
#: Variance of a dimension, against the mean of all, up to which it is rounding.
STILL = 1e-12


@dataclass
class Scatter:
    r"""Sums over the views of tiles: within tiles and between their means. Scatters of parts of a cohort add up.

    With $x_{iv}$ view $v$ of tile $i$, $m_i$ the mean of its views and $m$ that of all: `within` is
    $\sum_{iv} (x_{iv} - m_i)(x_{iv} - m_i)^T$ and `between` $\sum_{iv} (m_i - m)(m_i - m)^T$. Both are `(d, d)`, in
    float64. Tiles may have different numbers of views.
    """

    dim: int
    tiles: int = 0
    views: int = 0
    mean: Float[np.ndarray, " d"] = field(init=False)
    within: Square = field(init=False)
    between: Square = field(init=False)

    def __post_init__(self) -> None:
        """Start from nothing."""
        self.mean = np.zeros(self.dim)
        self.within, self.between = (np.zeros((self.dim, self.dim)) for _ in range(2))

    def add(self, views: Float[np.ndarray, "m v d"]) -> "Scatter":
        """Take in `m` tiles with all their views, `(m, v, d)`. Returns itself.

        Raises
        ------
        InputError
            If the shape is another, a tile has no second view, or a value is not finite.
        """
        if views.ndim != 3 or views.shape[2] != self.dim or views.shape[1] < 2:
            raise InputError(
                "the views of tiles are not as expected",
                received=views.shape,
                valid=f"(tiles, views, {self.dim}), with two views or more",
            )
        if not np.isfinite(views).all():
            raise InputError("views hold NaN or infinity", received=f"tiles {self.tiles} to {self.tiles + len(views)}")
        if not len(views):
            return self
        part, (m, v, d) = Scatter(self.dim), views.shape
        exact = views.astype(np.float64)
        means = exact.mean(axis=1)
        apart = (exact - means[:, None]).reshape(m * v, d)
        part.tiles, part.views, part.mean = m, m * v, means.mean(axis=0)
        part.within = apart.T @ apart
        part.between = v * (means - part.mean).T @ (means - part.mean)
        return self.merge(part)

    def merge(self, other: "Scatter") -> "Scatter":
        """Take in the scatter of other tiles. Returns itself."""
        if other.dim != self.dim:
            raise InputError("scatters of other dimensions do not add up", received=(self.dim, other.dim))
        both = self.views + other.views
        if other.views:
            step = other.mean - self.mean
            self.between += other.between + (self.views * other.views / both) * np.outer(step, step)
            self.within += other.within
            self.mean = self.mean + step * (other.views / both)
        self.tiles, self.views = self.tiles + other.tiles, both
        return self

    def under(self, matrix: Square) -> "Scatter":
        """Return the scatter of the vectors that are multiplied, about the mean, by a matrix from the right."""
        mapped = Scatter(self.dim, self.tiles, self.views)
        mapped.mean = self.mean
        mapped.within, mapped.between = (matrix.T @ part @ matrix for part in (self.within, self.between))
        return mapped

    def only(self, dims: Int[np.ndarray, " _r"]) -> "Scatter":
        """Return the scatter in some of the dimensions."""
        part = Scatter(len(dims), self.tiles, self.views)
        part.mean = self.mean[dims]
        part.within, part.between = (whole[np.ix_(dims, dims)] for whole in (self.within, self.between))
        return part

    @property
    def moving(self) -> Int[np.ndarray, " _r"]:
        """The dimensions in which anything varied; a channel that is 0 for all tiles and states is none of them."""
        variances = self.total.diagonal()
        return np.flatnonzero(variances > STILL * variances.mean())

    @property
    def total(self) -> Square:
        """The scatter of all views about the mean of all."""
        return self.within + self.between

    @property
    def unseen(self) -> float:
        """What the scatter within tiles is multiplied by: means of `v` views hold a `v`-th of what views differ by."""
        return self.views / (self.views - self.tiles) if self.tiles else float("nan")

    @property
    def ratio(self) -> float:
        r"""The compaction ratio: the share of the variance that lies within tiles. NaN where nothing varies.

        $\frac{V}{V - 1} \frac{\mathrm{tr} S_w}{\mathrm{tr} S_t}$ for $V$ views a tile; without the first factor it
        would depend on their number. 0: all views of a tile are one point. 1, but for sampling: views are all that
        differs. Misleads alone: an encoder that maps all tiles to nearly one point may have any; read the effective
        rank of the tile means beside it.
        """
        total = float(np.trace(self.total))
        return self.unseen * float(np.trace(self.within)) / total if total > 0 else float("nan")
