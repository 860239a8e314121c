"""Directions of a space that stand for an attribute, each with a card that says what it is worth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from .._types import Codes, GivenCodes, Matrix
from ..errors import InputError, OptionError, unknown
from ..provenance import stream
from ..spectrum import check_vectors, principal_axes
from .attributes import Attribute, Values, read_attribute
from .reading import ReadCard, judge_reading, score_columns

Vector = Float[np.ndarray, " d"]
RESAMPLES, RANDOM, SHUFFLED = 200, 500, 200
RIDGE = 1.0


@runtime_checkable
class Way(Protocol):
    """What points can be moved along: the same way everywhere, as a Direction, or another at each place."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def dim(self) -> int:
        """Length of the vectors that it moves."""
        ...

    @property
    def encoder(self) -> str | None:
        """Identity of the encoder whose vectors it moves; None where it is not known."""
        ...

    @property
    def spread(self) -> float:
        """The standard deviation of a number; of classes 1, the gap between them."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of it."""
        ...

    def value(self, vectors: Float[np.ndarray, "*_m d"]) -> np.ndarray:
        """Return what is read of vectors."""
        ...

    def moved(self, vectors: Float[np.ndarray, "*m d"], amount: float) -> Float[np.ndarray, "*m d"]:
        """Return vectors moved along it."""
        ...


@dataclass(frozen=True)
class DirectionCard(ReadCard):
    """What a direction is worth: how well the attribute is read along it, and more.

    `stable` is the mean cosine of directions fitted to resamples of groups with this one, NaN of one group.
    `percentile` says how many of 500 random directions read it worse.
    """

    stable: float
    percentile: float

    @property
    def believable(self) -> bool:
        """Whether it reads the attribute better than dealt values do, and comes out alike from other patients."""
        return super().believable and self.stable > 0.5


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction: moving by 1 along `vector` changes the attribute by 1 `unit`, as far as the space is linear.

    `read` and `bias` read the attribute from a vector: `read @ z + bias`; of classes, its logistic function is the
    probability of `positive`. `card` is None of directions that were not fitted to an attribute. `spread` is the
    standard deviation of a number, and 1 of classes. `held` are directions that were taken out of it. `encoder` is the
    identity of the encoder of such vectors, where it is known.
    """

    name: str
    vector: Vector
    read: Vector
    bias: float = 0.0
    unit: str = ""
    kind: str = "given"
    positive: str | None = None
    card: DirectionCard | None = None
    notes: tuple[str, ...] = ()
    spread: float = 1.0
    held: tuple["Direction", ...] = ()
    encoder: str | None = None

    def __repr__(self) -> str:
        return f"Direction({self.name!r}, {self.kind}, 1 = {self.unit or 'a step'})"

    @classmethod
    def fit(
        cls,
        vectors: Matrix,
        values: Sequence[object],
        *,
        name: str,
        kind: str = "difference",
        groups: GivenCodes | None = None,
        by: str = "group",
        confounders: Mapping[str, Sequence[object]] | None = None,
        suspects: Mapping[str, Sequence[object]] | None = None,
        positive: str | None = None,
        negative: str | None = None,
        force: bool = False,
        seed: int = 0,
    ) -> "Direction":
        r"""Fit the direction of an attribute: of two classes, or of a number.

        - `difference`: of the means of both classes; of a number $\mathrm{Cov}(z, y) / \mathrm{Var}(y)$;
        - `lda`: with the shrunk covariance within classes (Ledoit & Wolf); `logistic`, `svm` (linear), `ridge` (a
          number). These are filters $w$, and the direction is their pattern $\mathrm{Cov}(z) w / \mathrm{Var}(w \cdot
          z)$ (Haufe et al. 2014): a filter also points where noise is to be cancelled, and moving there changes other
          things.

        With `confounders` C (scanner, slide), all kinds are fitted to $z - (C - \bar C) b_C$, where $b_C$ is from a
        regression of z on the constant, C and the attribute: what goes with them and not with the attribute is gone.
        Of `suspects` it is only asked whether one of them tells the attribute.

        A move of 1 is the gap between the means of both classes, or one unit of the number. Of more classes than two,
        the direction leads to `positive` from `negative`, or from all others. Tiles whose value, group or confounder is
        missing are left out. The card says what it is worth: see `DirectionCard`; `by` is what it calls a group.

        Misleads: it is linear, and says what goes with the attribute in these tiles, not what causes it.

        Raises
        ------
        InputError
            If values are constant, too few, or of more than two classes without `positive`; or confounders, or one of
            the suspects, tell more than 95 % of them, unless `force`: then moving along it is moving between sites.
        OptionError
            If the kind is unknown, or not for such values; or there is a `negative` class and no `positive` one.
        """
        check_vectors(vectors)
        given = read_attribute(
            len(vectors),
            values,
            name=name,
            groups=groups,
            by=by,
            confounders=confounders,
            suspects=suspects,
            positive=positive,
            negative=negative,
            force=force,
        )
        classes = given.classes is not None
        _check_kind(kind, classes)
        z = vectors[given.rows].astype(np.float64)
        vector, read, bias = _fit(z, given.values, given.design, kind, classes)
        card = _judge(z, given, kind, vector, seed)
        return cls(name, vector, read, bias, given.unit, kind, given.positive, card, given.notes, given.spread)

    def value(self, vectors: Float[np.ndarray, "*_m d"]) -> np.ndarray:
        """Return what is read of vectors: the attribute, or of classes the logit."""
        return np.asarray(vectors @ self.read + self.bias)

    @property
    def dim(self) -> int:
        """Length of the vectors that it moves."""
        return len(self.vector)

    def moved(self, vectors: Float[np.ndarray, "*m d"], amount: float) -> Float[np.ndarray, "*m d"]:
        """Return vectors moved along it."""
        return vectors + amount * self.vector

    def amount_for(self, vector: Vector, probability: float) -> float:
        r"""Return how far to move a vector so that the class is read with a probability.

        It is $(\mathrm{logit}(p) - w \cdot z - b) / (w \cdot v)$.

        Raises
        ------
        OptionError
            If the direction is of no class, or the probability not between 0 and 1.
        """
        if self.positive is None:
            raise OptionError("only a direction of two classes has a probability", received=self.name)
        if not 0 < probability < 1:
            raise OptionError("a probability lies between 0 and 1", received=probability)
        logit = math.log(probability / (1 - probability))
        return float((logit - self.value(vector)) / (self.read @ self.vector))

    def without(self, *others: "Direction") -> "Direction":
        r"""Return the direction with what others read taken out: moving along it leaves these as they are.

        $v - B (B^\top B)^{-1} B^\top v$ with what the others read by as columns of B, scaled so that the attribute
        itself still changes by as much. What was taken out before stays out. The card is still that of the direction
        before.

        Raises
        ------
        InputError
            If nothing of it is left.
        """
        held = (*self.held, *others)
        read = np.stack([other.read for other in held], axis=1)
        base, sizes, _ = np.linalg.svd(read, full_matrices=False)
        base = base[:, sizes > 1e-9 * sizes[0]]
        left = self.vector - base @ (base.T @ self.vector)
        effect = float(self.read @ left)
        if np.linalg.norm(left) < 1e-6 * np.linalg.norm(self.vector) or abs(effect) < 1e-6 * abs(
            float(self.read @ self.vector)
        ):
            raise InputError(
                f"nothing is left of {self.name} without {', '.join(other.name for other in held)}",
                fix="leave out the ones that say the same",
            )
        said = f"leaves {', '.join(other.name for other in others)} as they are"
        before = () if self.held else ("the card is of the direction before anything was taken out",)
        notes = (*self.notes, *before, said)
        return replace(self, vector=left * float(self.read @ self.vector) / effect, notes=notes, held=held)


def _check_kind(kind: str, classes: bool) -> None:
    valid = ("difference", "lda", "logistic", "svm") if classes else ("difference", "ridge")
    if kind not in valid:
        if kind in ("difference", "lda", "logistic", "svm", "ridge"):
            raise OptionError(
                f"{kind} is not for {'two classes' if classes else 'a number'}", received=kind, valid=", ".join(valid)
            )
        raise unknown("kind of direction", kind, valid)


def _fit(z: Matrix, y: Values, design: np.ndarray, kind: str, classes: bool) -> tuple[Vector, Vector, float]:
    """Return the direction, and what reads the attribute: a filter and its bias."""
    x = _adjusted(z, y, design)
    if kind == "difference":
        vector = _difference(z, y, design)
        return vector, *_reader(x, y, vector, classes)
    read, bias = _filter(x, y, kind)
    return _pattern(x, y, read), read, bias


def _adjusted(z: Matrix, y: Values, design: np.ndarray) -> Matrix:
    """Return vectors less what goes with confounders, beside the attribute."""
    if design.shape[1] == 1:
        return z
    told = np.linalg.lstsq(np.column_stack([design, y]), z, rcond=None)[0]
    return z - (design - design.mean(axis=0))[:, 1:] @ told[1:-1]


def _pattern(z: Matrix, y: Values, read: Vector) -> Vector:
    """Return the direction that a filter reads: what goes with its score, by the score's own change with y."""
    spread = z - z.mean(axis=0)
    scores = spread @ read
    pattern = spread.T @ scores / max(float(scores @ scores), 1e-300)
    gap = float(read @ _difference(z, y, np.ones((len(z), 1))))  # the score's own gap, or change by a unit
    return pattern * gap


def _difference(z: Matrix, y: Values, design: np.ndarray) -> Vector:
    """Return how vectors change with y, beside the columns of the design."""
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return z.T @ left / max(float(left @ y), 1e-300)


def _reader(z: Matrix, y: Values, vector: Vector, classes: bool) -> tuple[Vector, float]:
    """Return what reads the attribute along a direction alone: a regression on the projection."""
    size = float(vector @ vector)
    along = z @ vector / size
    if not classes:
        slope = float(np.cov(along, y, bias=True)[0, 1] / max(along.var(), 1e-300))
        return slope * vector / size, float(y.mean() - slope * along.mean())
    slope, bias = _logistic(along[:, None], y)
    return float(slope[0]) * vector / size, bias


def _logistic(x: np.ndarray, y: Values, strength: float = 1.0) -> tuple[np.ndarray, float]:
    from sklearn.linear_model import LogisticRegression

    mean, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
    made = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit((x - mean) / spread, y)
    read = made.coef_[0] / spread
    return read, float(made.intercept_[0] - read @ mean)


def _filter(z: Matrix, y: Values, kind: str) -> tuple[Vector, float]:
    if kind == "logistic":
        return _logistic(z, y, 0.01)
    mean, spread = z.mean(axis=0), np.maximum(z.std(axis=0), 1e-12)
    x = (z - mean) / spread
    if kind == "ridge":
        gram = x.T @ x + RIDGE * len(x) * 0.01 * np.eye(x.shape[1])
        read = np.linalg.solve(gram, x.T @ (y - y.mean())) / spread
        return read, float(y.mean() - read @ mean)
    if kind == "lda":
        from sklearn.covariance import ledoit_wolf

        means = [z[y == code].mean(axis=0) for code in (0.0, 1.0)]
        within = np.concatenate([z[y == code] - middle for code, middle in zip((0.0, 1.0), means, strict=True)])
        read = np.linalg.solve(ledoit_wolf(within)[0], means[1] - means[0])
        return read, float(-read @ (means[0] + means[1]) / 2)
    from sklearn.svm import LinearSVC

    made = LinearSVC(C=0.01, class_weight="balanced", dual="auto", max_iter=20000).fit(x, y)
    read = made.coef_[0] / spread
    # Margins are no logits: they are put on that scale by a regression on the score.
    slope, bias = _logistic((z @ read)[:, None], y)
    return float(slope[0]) * read, bias


def _judge(z: Matrix, given: Attribute, kind: str, vector: Vector, seed: int) -> DirectionCard:
    """Return the card: what is read on other groups, what dealt values and random directions read, and how stable."""
    y, groups, design, classes = given.values, given.groups, given.design, given.classes is not None

    def read(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return (z[test] - z[train].mean(axis=0)) @ _fit(z[train], y[train], design[train], kind, classes)[1]

    def read_dealt(train: np.ndarray, test: np.ndarray, whose: np.ndarray) -> np.ndarray:
        # Of dealt values, differences stand in for every kind: they are all at once, and read as much by accident.
        values = y[whose] - y[whose].mean(axis=0)
        return (z[test] - z[train].mean(axis=0)) @ (z[train].T @ values)

    card, _ = judge_reading(given, read, read_dealt, times=SHUFFLED, seed=seed)
    # Random directions have the spread of the space, else most of them would lie where nothing varies.
    random = (z - z.mean(axis=0)).T @ stream(seed, "directions").standard_normal((len(z), RANDOM))
    own, others = (
        np.abs(score_columns(z @ axis, y[:, None], classes) - card.chance) for axis in (vector[:, None], random)
    )
    stable = _stability(z, y, groups, design, kind, classes, vector, seed)
    return DirectionCard(**vars(card), stable=stable, percentile=float((others < own).mean()))


def _stability(
    z: Matrix, y: Values, groups: Codes, design: np.ndarray, kind: str, classes: bool, vector: Vector, seed: int
) -> float:
    """Return the mean cosine of a direction with those of resamples of whole groups."""
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    if len(members) == 1:
        return math.nan
    random, found = stream(seed, "resamples"), []
    times = RESAMPLES if kind == "difference" else RESAMPLES // 10
    for _ in range(times):
        rows = np.concatenate([members[k] for k in random.integers(len(members), size=len(members))])
        if y[rows].min() == y[rows].max():
            continue
        if kind == "difference":
            other = _difference(z[rows], y[rows], design[rows])
        else:
            other = _fit(z[rows], y[rows], design[rows], kind, classes)[0]
        found.append(float(other @ vector / max(np.linalg.norm(other) * np.linalg.norm(vector), 1e-300)))
    return float(np.mean(found)) if found else math.nan


def principal_directions(vectors: Matrix, count: int = 5) -> list[Direction]:
    """Return the directions in which most varies; a move of 1 is one standard deviation. See `name_directions`.

    Raises
    ------
    InputError
        If there are fewer than two vectors, or values are not finite.
    """
    check_vectors(vectors)
    mean, axes, spreads = principal_axes(vectors, count)
    return [
        Direction(
            f"component {k}",
            axis * spread,
            axis / spread,
            -float(axis @ mean / spread),
            "standard deviation",
            "principal",
        )
        for k, (axis, spread) in enumerate(zip(axes.T, spreads, strict=True), 1)
        if spread > 0
    ]


def name_directions(
    directions: Sequence[Direction], vectors: Matrix, table: pd.DataFrame, *, least: float = 0.3
) -> list[Direction]:
    """Return directions named by the column of a table that goes with each most, and how closely.

    Of numbers the correlation is meant, of other columns the correlation ratio: the root of the share of the variance
    along the direction that lies between its values. Directions that nothing goes with by `least` keep their names.

    Misleads: a column of many values goes with anything; and what goes with a direction need not be what it shows.
    """
    found = []
    for direction in directions:
        values = direction.value(vectors)
        near = {str(column): goes_with(values, pd.Series(table[column])) for column in table}
        best = max(near, key=lambda column: abs(near[column]), default=None)
        if best is None or abs(near[best]) < least:
            found.append(direction)
        else:
            found.append(replace(direction, name=f"{direction.name}: {best} ({near[best]:+.2f})"))
    return found


def goes_with(values: np.ndarray, column: pd.Series) -> float:
    """Return the correlation of numbers with a column: with its numbers, or the correlation ratio of its values.

    0 of a column that nearly names each tile by itself.
    """
    known = column.notna().to_numpy()
    own, given = values[known], pd.Series(column[known])
    if known.sum() < 3 or given.nunique() < 2 or np.ptp(own) == 0:
        return 0.0
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return float(np.corrcoef(own, given.to_numpy(np.float64))[0, 1])
    codes: Int[np.ndarray, " _n"] = np.unique(given.astype(str), return_inverse=True)[1]
    counts = np.bincount(codes)
    if len(counts) > len(own) / 2:  # nearly a name for each tile: it would go with anything
        return 0.0
    means = np.bincount(codes, own) / counts
    between = counts @ (means - own.mean()) ** 2 / len(own)
    # What as many values deal by chance is taken off: else names of slides would go with everything.
    chance = (len(counts) - 1) / max(len(own) - len(counts), 1) * max(own.var() - between, 0)
    return float(np.sqrt(np.clip((between - chance) / own.var(), 0, 1)))


def side_effects(directions: Sequence[Direction], vectors: Matrix) -> pd.DataFrame:
    """Return how much a move along each direction (row) changes what each reads (column), in standard deviations.

    Moves are by the attribute's standard deviation, or from class to class. Standard deviations are of what is read of
    `vectors`. The diagonal is what is meant, the rest is drift.
    """
    spreads = [float(np.std(direction.value(vectors))) for direction in directions]
    names = [direction.name for direction in directions]
    effects = [
        [
            direction.spread * float(other.read @ direction.vector) / max(spread, 1e-300)
            for other, spread in zip(directions, spreads, strict=True)
        ]
        for direction in directions
    ]
    return pd.DataFrame(effects, index=pd.Index(names, name="moved"), columns=pd.Index(names, name="read"))


def commutator(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n d"]) -> float:
    """Return how far two orders of the same operations end apart: mean distance over mean length; 0 if they commute."""
    apart = np.linalg.norm(first - second, axis=1).mean()
    return float(apart / max(np.linalg.norm(first, axis=1).mean(), 1e-300))
