"""Ways between vectors: straight, on the sphere, through neighbours; and mixtures of several. Arrays in, arrays out."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from .._types import Matrix
from ..errors import InputError, OptionError
from .graph import Graph

Vector = Float[np.ndarray, " d"]
Steps = Float[np.ndarray, " t"]
Way = Float[np.ndarray, "t d"]
#: Above this cosine two directions are one, and a turn between them is a straight line.
PARALLEL = 0.9995


def lerp(first: Vector, second: Vector, steps: Steps, *, middle: Vector | None = None) -> Way:
    """Return the straight line, at `steps` from 0 to 1.

    Misleads: in many dimensions most vectors lie on a shell, and the middle of two of them is inside it: of two normal
    vectors it has .707 of their length. A decoder may never have seen such a vector.

    >>> lerp(np.zeros(2), np.array([2.0, 4.0]), np.array([0.5])).tolist()
    [[1.0, 2.0]]
    """
    t = steps[:, None]
    return (1 - t) * first + t * second


def slerp(first: Vector, second: Vector, steps: Steps, *, middle: Vector | None = None) -> Way:
    r"""Return the way along the sphere about `middle` (0 without one), whose radius changes evenly in its logarithm.

    With directions $u, v$ at the angle $\omega$: $\frac{\sin((1-t)\omega)}{\sin\omega} u + \frac{\sin(t\omega)}{\sin
    \omega} v$, times $|a|^{1-t} |b|^t$. Where directions are one (cosine above .9995), or an end is the middle, it is
    the straight line; where they are opposite there is no one way, and it is the straight line, too.

    Reference: Shoemake 1985, SIGGRAPH; White 2016, arXiv 1609.04468.

    >>> slerp(np.array([1.0, 0.0]), np.array([0.0, 4.0]), np.array([0.5])).round(4).tolist()
    [[1.4142, 1.4142]]
    """
    centre = np.zeros(len(first)) if middle is None else middle
    a, b = first - centre, second - centre
    sizes = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not all(sizes):
        return lerp(first, second, steps)
    u, v = a / sizes[0], b / sizes[1]
    cosine = float(np.clip(u @ v, -1, 1))
    if abs(cosine) > PARALLEL:
        return lerp(first, second, steps)
    angle, t = np.arccos(cosine), steps[:, None]
    turned = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
    return centre + sizes[0] ** (1 - t) * sizes[1] ** t * turned


def nlerp(first: Vector, second: Vector, steps: Steps, *, middle: Vector | None = None) -> Way:
    """Return the straight line, brought to the radius that `slerp` has: the same places, at an uneven pace.

    >>> nlerp(np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.5])).round(4).tolist()
    [[0.7071, 0.7071]]
    """
    centre = np.zeros(len(first)) if middle is None else middle
    sizes = [max(float(np.linalg.norm(end - centre)), 1e-300) for end in (first, second)]
    line = lerp(first, second, steps) - centre
    lengths = np.linalg.norm(line, axis=1, keepdims=True)
    wanted = sizes[0] ** (1 - steps[:, None]) * sizes[1] ** steps[:, None]
    return centre + line * wanted / np.maximum(lengths, 1e-300)


#: Ways that need nothing but their ends.
LINES: Mapping[str, Callable[..., np.ndarray]] = {"lerp": lerp, "slerp": slerp, "nlerp": nlerp}


def graph_route(vectors: Matrix, graph: Graph, first: int, second: int) -> list[int]:
    """Return the tiles on the shortest way from one to another through nearest neighbours, both ends included.

    A step costs the squared distance, so that many short steps are cheaper than a long one: the way stays where tiles
    are. Neighbours count both ways.

    Raises
    ------
    InputError
        If no chain of neighbours leads from one to the other, or a tile is not there.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    n, k = graph.index.shape
    for row in (first, second):
        if not 0 <= row < n:
            raise InputError("there is no such tile", received=row, valid=f"0 to {n - 1}")
    ends = np.repeat(np.arange(n), k), graph.index.ravel()
    # Copies of a tile are no distance apart, which a sparse matrix would take for no edge.
    costs = coo_array((np.maximum(graph.chords.ravel() ** 2, 1e-12), ends), shape=(n, n)).tocsr()
    found = dijkstra(costs, directed=False, indices=first, return_predecessors=True)
    distances, before = found[0], found[1]
    if not np.isfinite(distances[second]):
        raise InputError(
            "no chain of neighbours leads from one tile to the other: they are on two islands",
            received=f"{k} neighbours of each tile",
            fix="take more neighbours, or another way",
        )
    route = [second]
    while route[-1] != first:
        route.append(int(before[route[-1]]))
    return route[::-1]


def along(corners: Float[np.ndarray, "c d"], steps: Steps) -> Way:
    """Return places on the line through several corners, at even shares of its length.

    >>> along(np.array([[0.0], [1.0], [4.0]]), np.array([0.0, 0.5, 1.0])).tolist()
    [[0.0], [2.0], [4.0]]
    """
    if len(corners) == 1:
        return np.repeat(corners, len(steps), axis=0)
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    if lengths[-1] == 0:
        return np.repeat(corners[:1], len(steps), axis=0)
    lengths, places = lengths / lengths[-1], np.clip(steps, 0, 1)
    after = np.clip(np.searchsorted(lengths, places, side="right"), 1, len(corners) - 1)
    share = (places - lengths[after - 1]) / np.maximum(lengths[after] - lengths[after - 1], 1e-300)
    return corners[after - 1] + np.clip(share, 0, 1)[:, None] * (corners[after] - corners[after - 1])


def mix(
    vectors: Matrix,
    weights: Sequence[float] | Float[np.ndarray, " n"],
    *,
    how: str = "linear",
    middle: Vector | None = None,
) -> Vector:
    """Return a mixture of several vectors by weights, which are made to sum to 1.

    `linear` is the weighted mean. `sphere` is the mean on the sphere about `middle` (0 without one): the direction from
    which the weighted squared angles are least (Karcher's mean, from the linear one), at the weighted mean of the
    radii's logarithms.

    Raises
    ------
    InputError
        If weights are negative, all 0, or not one for each; or directions have no mean, as opposite ones.
    OptionError
        If there is no such mixture.
    """
    share = np.asarray(weights, np.float64)
    if len(share) != len(vectors) or not np.isfinite(share).all() or (share < 0).any() or share.sum() <= 0:
        raise InputError(
            "weights of a mixture are one for each vector, none negative, not all 0", received=share.tolist()
        )
    share = share / share.sum()
    if how not in ("linear", "sphere"):
        raise OptionError("no such mixture", received=how, valid="linear, sphere")
    if how == "linear":
        return share @ vectors
    centre = np.zeros(vectors.shape[1]) if middle is None else middle
    moved = vectors - centre
    sizes = np.linalg.norm(moved, axis=1)
    if not sizes[share > 0].all():
        raise InputError("a vector is in the middle of the sphere, and has no direction", fix="how='linear'")
    units = moved / np.maximum(sizes, 1e-300)[:, None]
    mean = share @ units
    for _ in range(100):
        length = float(np.linalg.norm(mean))
        if length < 1e-9:
            raise InputError("the directions cancel out: they have no mean on the sphere", fix="how='linear'")
        mean = mean / length
        cosines = np.clip(units @ mean, -1, 1)
        angles = np.arccos(cosines)
        away = units - cosines[:, None] * mean
        scale = np.where(angles > 1e-12, angles / np.maximum(np.sin(angles), 1e-12), 1.0)
        step = share @ (scale[:, None] * away)
        size = float(np.linalg.norm(step))
        if size < 1e-12:
            break
        mean = np.cos(size) * mean + np.sin(size) * step / size
    return centre + np.exp(share @ np.log(np.maximum(sizes, 1e-300))) * mean
