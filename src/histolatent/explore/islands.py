"""Is this island real? Tiles that stand together in a map, tested in the space that the map is of."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .._types import Codes, GivenCodes, Mask, Matrix
from ..errors import InputError
from ..probes import NotReadable, fit_probe
from ..provenance import stream
from ..stats import Estimate, bootstrap
from .graph import find_among, metric_rows

FEWEST = 10
#: Of each tile of an island, so many nearest tiles outside of it make up its surroundings.
AROUND = 15
#: The surroundings are taken in so many parts, since they may lie on several sides.
SIDES = 3
GRID = 200
RESAMPLES = 400
#: Bandwidths are searched between these shares of the spread of values.
NARROW, WIDE = 0.02, 4.0
Values = Float[np.ndarray, " _n"]


@dataclass(frozen=True)
class Island:
    """What sets some tiles apart from their surroundings in the space.

    `silhouette`: from -1 to 1, above 0 where tiles are nearer to each other than to the surroundings. `auroc`: of a
    linear probe of the island, on groups that it was not trained on, .5 is chance. `valley`: how dense the space is
    between island and surroundings, as a share of the less dense side, on the side where it is densest: 0 a gap, 1
    none. `p` is how often a space without a gap on that side would show one.
    """

    tiles: int
    surroundings: int
    silhouette: float
    auroc: Estimate
    valley: float
    p: float

    @property
    def real(self) -> bool:
        """Whether there is a gap on every side of it that chance does not make: `p` below .05."""
        return self.p < 0.05

    def __str__(self) -> str:
        between = (
            f"between it and what is around it the space is {self.valley:.0%} as dense as beside (p = {self.p:.3f})"
        )
        return (
            f"the island is there in the space: {between}" if self.real else f"the island may be the map's: {between}"
        )


def judge_island(
    vectors: Matrix, inside: Mask, *, groups: GivenCodes | None = None, metric: str = "cosine", seed: int = 0
) -> Island:
    """Test whether tiles that stand together in a map are set apart in the space.

    A probe can tell any compact piece from what is around it, also in a cloud without gaps: what makes an island is
    that there is little between. Surroundings are the nearest tiles outside, up to as many as there are inside, in
    three parts by place. For each part, the direction from island to surroundings is taken from half of the tiles, and
    the others are projected on it. Silverman's test of one peak against two says whether the dip between is chance's.
    The figures are those of the side on which least sets the island apart.

    Misleads: a gap of 20 tiles is hard to prove, so that small islands may be real and not be called so. An island of
    one slide or site may be real and no biology: see who is on it.

    Reference: Silverman 1981, J. R. Stat. Soc. B 43:97.

    Raises
    ------
    InputError
        If fewer than 10 tiles are inside or outside, or lengths differ.
    """
    n, size = len(vectors), int(inside.sum())
    if groups is not None and len(groups) != n:
        raise InputError("groups have to be one code for each tile", received=f"{len(groups)} for {n} tiles")
    if min(size, n - size) < FEWEST:
        raise InputError(
            "too few tiles for an island", received=f"{size} inside, {n - size} outside", valid=f"{FEWEST} of each"
        )
    space = metric_rows(vectors.astype(np.float64), metric)
    own = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    island = np.flatnonzero(inside)
    around = _surroundings(space, island, np.flatnonzero(~inside))
    rows = np.concatenate([island, around])
    on = np.arange(len(rows)) < size
    found = []
    for part in _sides(space[around], seed):
        beside = np.concatenate([island, around[part]])
        is_on = np.arange(len(beside)) < size
        values = _projected(space[beside], is_on, seed)
        low, high = values[~is_on], values[is_on]
        found.append((_chance(low, high, seed), _depth(low, high)))
    p, valley = max(found)
    auroc = _auroc(space[rows], on, own[rows], seed)
    return Island(size, len(around), _silhouette(space[rows], on), auroc, valley, p)


def _surroundings(space: Matrix, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return the tiles outside that are nearest to some inside, about as many as there are inside."""
    near = find_among(space[inside], space[outside], AROUND, metric="euclidean")
    order = np.argsort(near.distance.ravel(), kind="stable")
    found = list(dict.fromkeys(near.index.ravel()[order].tolist()))
    return outside[np.array(found[: max(len(inside), FEWEST)])]


def _sides(around: Matrix, seed: int) -> list[np.ndarray]:
    """Return rows of the surroundings in parts, none of them too small to be seen as a side."""
    from sklearn.cluster import KMeans

    for count in range(min(SIDES, len(around) // FEWEST), 1, -1):
        codes = KMeans(count, random_state=seed).fit_predict(around)
        parts = [np.flatnonzero(codes == code) for code in range(count)]
        if min(map(len, parts)) >= FEWEST // 2:
            return parts
    return [np.arange(len(around))]


def _silhouette(space: Matrix, on: Mask) -> float:
    from scipy.spatial.distance import cdist

    far = cdist(space[on], space)
    within = far[:, on].sum(axis=1) / max(on.sum() - 1, 1)
    beyond = far[:, ~on].mean(axis=1)
    return float(((beyond - within) / np.maximum(np.maximum(beyond, within), 1e-300)).mean())


def _auroc(space: Matrix, on: Mask, groups: Codes, seed: int) -> Estimate:
    codes = np.unique(groups, return_inverse=True)[1]
    asked = space.astype(np.float32)
    fitted = fit_probe(asked, ["on" if is_on else "around" for is_on in on], codes, strength=0.01, seed=seed)
    if isinstance(fitted, NotReadable):
        return Estimate(float("nan"), None, None)
    reading = fitted.read(asked)
    return bootstrap(reading.auroc(), np.unique(codes[reading.rows], return_inverse=True)[1])


def _projected(space: Matrix, on: Mask, seed: int) -> Values:
    """Return each tile on the line from surroundings (0) to island (1), which is drawn by the other half of tiles."""
    halves = np.empty(len(on), int)
    for side in (on, ~on):
        halves[side] = stream(seed, "halves", int(side.sum())).permutation(int(side.sum())) % 2
    values = np.empty(len(on))
    for half in (0, 1):
        fit = halves == half
        means = [space[fit & side].mean(axis=0) for side in (on, ~on)]
        spread = np.mean([space[fit & side].var(axis=0) for side in (on, ~on)], axis=0)
        axis = (means[0] - means[1]) / np.maximum(spread, 1e-3 * spread.mean() + 1e-300)
        ends = [float(mean @ axis) for mean in means]
        values[~fit] = (space[~fit] @ axis - ends[1]) / max(ends[0] - ends[1], 1e-300)
    return values


def _density(values: Values, width: float, grid: Values) -> Values:
    """Return a density on a grid, by normal kernels."""
    return np.exp(-0.5 * ((grid[:, None] - values) / width) ** 2).mean(axis=1)


def _between(low: Values, high: Values) -> Values:
    """Return a grid from the middle of one side to the middle of the other."""
    ends = sorted((float(np.median(low)), float(np.median(high))))
    return np.linspace(ends[0], ends[1], GRID)


def _dips(heights: Values) -> bool:
    """Whether heights fall and rise again."""
    steps = np.sign(np.diff(heights))
    steps = steps[steps != 0]
    return bool(((steps[:-1] < 0) & (steps[1:] > 0)).any())


def _chance(low: Values, high: Values, seed: int) -> float:
    """Return how often values without a dip between both sides would show one at the bandwidth that ours lose it at."""
    values, grid = np.concatenate([low, high]), _between(low, high)
    spread = float(values.std())
    if spread == 0 or grid[0] == grid[-1]:
        return 1.0
    narrow, wide = NARROW * spread, WIDE * spread
    if not _dips(_density(values, narrow, grid)):
        return 1.0
    for _ in range(20):
        width = (narrow * wide) ** 0.5
        narrow, wide = (width, wide) if _dips(_density(values, width, grid)) else (narrow, width)
    random, mean = stream(seed, "smoothed"), values.mean()
    shrink = 1 / np.sqrt(1 + wide**2 / spread**2)
    shown = 0
    for _ in range(RESAMPLES):
        drawn = values[random.integers(len(values), size=len(values))]
        smooth = mean + shrink * (drawn - mean + wide * random.standard_normal(len(values)))
        shown += _dips(_density(smooth, wide, grid))
    return (1 + shown) / (1 + RESAMPLES)


def _depth(low: Values, high: Values) -> float:
    """Return the least density between two sides over that of the lower peak; 1 where there is no dip."""
    values, grid = np.concatenate([low, high]), _between(low, high)
    width = 0.9 * float(np.mean([part.std() for part in (low, high)])) * len(values) ** -0.2
    if width == 0:
        return 0.0
    heights = _density(values, width, grid)
    place = int(heights.argmin())
    if place in (0, GRID - 1):
        return 1.0
    return float(heights[place] / min(heights[:place].max(), heights[place:].max()))
