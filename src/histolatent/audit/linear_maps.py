"""Affine maps from embeddings to their moves, fitted on some groups and applied to others.

Everything a fit needs is a sum over tiles, so it is computed once per fold and added up: the cost of choosing a penalty
and a rank does not grow with the number of tiles. With fewer tiles than dimensions the tiles are first rotated into
the space that they span, which changes no prediction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from .._types import Codes, Matrix

FOLDS = 5
CHUNK_ROWS = 4096
#: Penalties as shares of the trace of the scatter; infinite is the mean shift. The strongest comes first.
PENALTIES = (np.inf, *(10.0**power for power in range(1, -9, -1)))
RANKS = (0, 1, 2, 4, 8, 16, 32, 64)
#: Options whose squared errors differ by less than this share of the squared moves are alike: the simpler is taken.
ALIKE = 1e-9
#: A direction of the fit that is weaker than this, against the strongest, is rounding.
NEGLIGIBLE = 1e-14


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues and eigenvectors of the scatter of some folds, their number of tiles and mean."""

    folds: tuple[int, ...]
    count: int
    mean: Float[np.ndarray, " r"]
    values: Float[np.ndarray, " r"]
    vectors: Float[np.ndarray, "r r"]


@dataclass(frozen=True)
class Inputs:
    """Embeddings ready for fits: one preparation serves every operation.

    `x` holds the tiles `(n, r)`, `r = min(n, d)`, from which `center` is still to be taken; `folds` the rows of each
    fold; `inner` and `outer` what the choice and the final fit of each fold are trained on.
    """

    x: Float[np.ndarray, "n r"]
    center: Float[np.ndarray, " r"]
    folds: tuple[np.ndarray, ...]
    scatter: tuple[np.ndarray, ...]
    sums: tuple[np.ndarray, ...]
    inner: tuple[Spectrum, ...]
    outer: tuple[Spectrum, ...]

    def rows(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "_m _r"]]]:
        """Yield centred float64 blocks of the given rows, with the rows."""
        for start in range(0, len(rows), CHUNK_ROWS):
            part = rows[start : start + CHUNK_ROWS]
            yield part, self.x[part].astype(np.float64) - self.center


@dataclass(frozen=True)
class FoldMaps:
    """What was fitted without one fold: the move of a tile is `shift + (x - mean) @ coefficients`."""

    mean: Float[np.ndarray, " r"]
    shift: Float[np.ndarray, " d"]
    ridge: Float[np.ndarray, "r d"]
    left: Float[np.ndarray, "r k"]
    right: Float[np.ndarray, "k d"]
    penalty: float

    @property
    def rank(self) -> int:
        """How many directions the low-rank map has."""
        return self.left.shape[1]

    def moves(self, x: Float[np.ndarray, "m r"]) -> dict[str, Float[np.ndarray, "m d"]]:
        """Return the predicted moves of centred rows by each map that has coefficients."""
        away = x - self.mean
        return {"low_rank": self.shift + away @ self.left @ self.right, "ridge": self.shift + away @ self.ridge}


def group_folds(groups: Codes, folds: int, seed: int) -> tuple[np.ndarray, ...]:
    """Deal whole groups to folds of about equal size; the seed breaks ties of size."""
    from sklearn.model_selection import GroupKFold

    order = np.random.Generator(np.random.Philox(seed)).permutation(int(groups.max()) + 1)
    return tuple(test for _, test in GroupKFold(folds).split(groups, groups=order[groups]))


def prepare_inputs(vectors: Matrix, groups: Codes, *, seed: int = 0) -> Inputs:
    """Rotate, sum and decompose embeddings `(n, d)` for five grouped folds. Needs five groups or more."""
    center = vectors.mean(axis=0, dtype=np.float64)
    x = vectors
    if len(vectors) < vectors.shape[1]:
        triangle: np.ndarray = np.asarray(np.linalg.qr((vectors - center).T, mode="r"))
        x = np.ascontiguousarray(triangle.T)
        center = np.zeros(len(vectors))
    folds = group_folds(groups, FOLDS, seed)
    bare = Inputs(x, center, folds, (), (), (), ())
    scatter, sums = [], []
    for rows in folds:
        total, first = np.zeros((x.shape[1],) * 2), np.zeros(x.shape[1])
        for _, block in bare.rows(rows):
            total += block.T @ block
            first += block.sum(axis=0)
        scatter.append(total)
        sums.append(first)
    sizes = [len(rows) for rows in folds]
    inner, outer = [], []
    for fold in range(FOLDS):
        rest = tuple(other for other in range(FOLDS) if other != fold)
        outer.append(_spectrum(scatter, sums, sizes, rest))
        chosen = tuple(other for other in rest if other != _validation(fold))
        inner.append(_spectrum(scatter, sums, sizes, chosen))
    return Inputs(x, center, folds, tuple(scatter), tuple(sums), tuple(inner), tuple(outer))


def fit_maps(inputs: Inputs, moves: Matrix) -> Iterator[FoldMaps]:
    """Yield the maps of each fold for `moves` `(n, d)`, fitted on the other four folds.

    The ridge penalty, and after it the rank of the low-rank map (reduced-rank ridge: the ridge fit projected on its
    strongest directions, Mukherjee & Zhu 2011), are those with the least squared error on the next fold, when fitted
    on the other three.
    """
    cross, sums, squares = [], [], []
    for rows in inputs.folds:
        total, first, square = np.zeros((inputs.x.shape[1], moves.shape[1])), np.zeros(moves.shape[1]), 0.0
        for part, block in inputs.rows(rows):
            move = moves[part].astype(np.float64)
            total += block.T @ move
            first += move.sum(axis=0)
            square += float((move**2).sum())
        cross.append(total)
        sums.append(first)
        squares.append(square)
    for fold in range(FOLDS):
        penalty, rank = _choose(inputs, fold, cross, sums, ALIKE * squares[_validation(fold)])
        yield _fit(inputs.outer[fold], cross, sums, penalty, rank)


def _validation(fold: int) -> int:
    return (fold + 1) % FOLDS


def _added(parts: Sequence[np.ndarray], folds: tuple[int, ...]) -> np.ndarray:
    return np.sum([parts[fold] for fold in folds], axis=0)


def _spectrum(scatter: list[np.ndarray], sums: list[np.ndarray], sizes: list[int], folds: tuple[int, ...]) -> Spectrum:
    count = sum(sizes[fold] for fold in folds)
    mean = _added(sums, folds) / count
    around = _added(scatter, folds) - count * np.outer(mean, mean)
    values, vectors = eigh(around, overwrite_a=True, check_finite=False)
    return Spectrum(folds, count, mean, np.maximum(values, 0), vectors)


def _aligned(
    spectrum: Spectrum, cross: list[np.ndarray], sums: list[np.ndarray]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "r d"]]:
    """Return the mean move of the spectrum's folds, and its cross products with the moves along its eigenvectors."""
    shift = _added(sums, spectrum.folds) / spectrum.count
    around = _added(cross, spectrum.folds) - spectrum.count * np.outer(spectrum.mean, shift)
    return shift, spectrum.vectors.T @ around


def _inverse(spectrum: Spectrum, penalty: float) -> Float[np.ndarray, " r"]:
    """Return 1 / (eigenvalue + penalty)."""
    if np.isinf(penalty):
        return np.zeros(len(spectrum.values))
    return 1 / (spectrum.values + penalty * spectrum.values.sum())


def _choose(
    inputs: Inputs, fold: int, cross: list[np.ndarray], sums: list[np.ndarray], alike: float
) -> tuple[float, int]:
    """Return the strongest penalty and the lowest rank that predict the validation fold as well as the best do."""
    spectrum, other = inputs.inner[fold], _validation(fold)
    shift, along = _aligned(spectrum, cross, sums)
    mean, first, count = spectrum.mean, inputs.sums[other], len(inputs.folds[other])
    # Sums of products of the validation fold, around the means of the training folds.
    scatter = inputs.scatter[other] - np.outer(first, mean) - np.outer(mean, first) + count * np.outer(mean, mean)
    products = cross[other] - np.outer(first, shift) - np.outer(mean, sums[other]) + count * np.outer(mean, shift)
    scatter = spectrum.vectors.T @ scatter @ spectrum.vectors
    products = spectrum.vectors.T @ products
    inner_products = along @ along.T
    gain, cost = (along * products).sum(axis=1), scatter * inner_products
    inverses = [_inverse(spectrum, penalty) for penalty in PENALTIES]
    # Squared error less that of the mean shift, from the sums alone.
    errors = [inverse @ cost @ inverse - 2 * gain @ inverse for inverse in inverses]
    best = _simplest(errors, alike)
    if np.isinf(PENALTIES[best]):
        return PENALTIES[best], 0
    left, right = _directions(along, inner_products, inverses[best], max(RANKS))
    steps = np.einsum("rk,rk->k", left, scatter @ left) - 2 * np.einsum("rk,rk->k", left, products @ right.T)
    errors = np.concatenate([[0.0], np.cumsum(steps)])
    ranks = [rank for rank in RANKS if rank < len(errors)]
    return PENALTIES[best], ranks[_simplest(errors[ranks], alike)]


def _simplest(errors: Sequence[float] | np.ndarray, alike: float) -> int:
    """Return the first of the options, simplest first, that is no worse than the best by more than `alike`."""
    return int(np.flatnonzero(np.asarray(errors) <= np.min(errors) + alike)[0])


def _directions(
    along: Float[np.ndarray, "r d"],
    inner_products: Float[np.ndarray, "r r"],
    inverse: Float[np.ndarray, " r"],
    rank: int,
) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, "k d"]]:
    """Return the ridge fit cut to its strongest directions, as two factors; the left one along the eigenvectors."""
    root = np.sqrt(inverse)
    size = len(root)
    rank = min(rank, *along.shape)
    if rank == 0 or not inverse.any():
        return np.zeros((size, 0)), np.zeros((0, along.shape[1]))
    squares, vectors = eigh(root[:, None] * inner_products * root, subset_by_index=[size - rank, size - 1])
    squares, vectors = squares[::-1], vectors[:, ::-1]
    kept = squares > NEGLIGIBLE * max(squares[0], 0)
    strengths, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    right = (vectors / strengths).T @ (root[:, None] * along)
    return root[:, None] * vectors * strengths, right


def _fit(spectrum: Spectrum, cross: list[np.ndarray], sums: list[np.ndarray], penalty: float, rank: int) -> FoldMaps:
    shift, along = _aligned(spectrum, cross, sums)
    inverse = _inverse(spectrum, penalty)
    left, right = _directions(along, along @ along.T, inverse, rank)
    ridge = spectrum.vectors @ (inverse[:, None] * along)
    return FoldMaps(spectrum.mean, shift, ridge, spectrum.vectors @ left, right, penalty)
