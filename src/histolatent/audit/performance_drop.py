"""How much accuracy is lost when the training tiles confound the label with the site."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .._types import Codes, Vectors
from ..errors import InputError
from ..probes import NotReadable, Reading, grouped_folds, probe
from ..provenance import stream
from ..stats import Statistic
from .undefined import Undefined

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
REPEATS = 5
FOLDS = 3

Split = list[str | None]


@dataclass(frozen=True)
class PerformanceDrop:
    """Balanced accuracy by level of confounding and repeat, `(s, r)`, the first level balanced.

    `readings[level][repeat]` has the tiles behind each, where the project's probe was used.
    """

    accuracies: Float[np.ndarray, "s r"]
    readings: tuple[tuple[Reading, ...], ...] = ()

    @property
    def value(self) -> float:
        """The mean relative change, from -1 without bound; 0: no accuracy is lost."""
        return float((self.accuracies[1:] / self.accuracies[0]).mean() - 1)

    def statistic(self) -> Statistic:
        """Return the drop as a statistic over all weighted tiles; the fitted probes stay.

        Raises
        ------
        InputError
            If the accuracies were given, so that the tiles behind them are not known.
        """
        if not self.readings:
            raise InputError("these accuracies have no tiles", fix="measure them with `measure_drop`, without `score`")

        def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
            scores = np.array([[one.accuracy()(weights[:, one.rows]) for one in level] for level in self.readings])
            with np.errstate(invalid="ignore", divide="ignore"):
                return (scores[1:] / scores[0]).mean(axis=(0, 1)) - 1

        return statistic


def performance_drop(accuracies: Float[np.ndarray, "s r"]) -> PerformanceDrop | Undefined:
    r"""Return the average performance drop (APD): the mean of $acc_s / acc_0 - 1$ over confounded levels and repeats.

    Row 0 is the balanced training set. The ratio is taken per repeat, then averaged, as PathoROB does (arXiv
    2507.17845). Nearer to 0 is better.

    Raises
    ------
    InputError
        Fewer than two levels, no repeat, or a number that is not finite.

    Misleads: chance is not 0, so that two classes cannot lose more than half, ten classes nine tenths.
    """
    if len(accuracies) < 2 or not accuracies.shape[1]:
        raise InputError("a drop needs a balanced level, a confounded one and a repeat", received=accuracies.shape)
    if not np.isfinite(accuracies).all():
        raise InputError("accuracies have to be finite", received=int((~np.isfinite(accuracies)).sum()))
    if (accuracies[0] <= 0).any():
        return Undefined("nothing is right with balanced training tiles, so there is nothing to lose")
    return PerformanceDrop(accuracies)


def measure_drop(
    vectors: Vectors,
    labels: Codes,
    confounders: Codes,
    groups: Codes,
    *,
    levels: tuple[float, ...] = LEVELS,
    repeats: int = REPEATS,
    score: Callable[[Split], float] | None = None,
    seed: int = 0,
) -> PerformanceDrop | Undefined:
    """Train probes of the label on tiles that confound it with the site ever more, and test them on balanced tiles.

    At level 0 each label has as many training tiles of every site, at level 1 all of one: label `l` of site
    `l` modulo their number. All levels have as many tiles of each label, and the same test tiles: as many of each label
    at each site, of other groups. `score` takes the split (train, test or None for each tile) and returns an accuracy;
    without it, the balanced accuracy of the project's probe is taken.

    PathoROB draws whole slides and fixes its schedules per dataset; here tiles are drawn, after groups are set apart.

    Undefined where a label is missing at a site, or groups cannot be set apart so that training and test have all.

    Raises
    ------
    InputError
        Levels that do not start at 0 and rise to at most 1, or no repeat.

    Misleads where there are fewer labels than sites: the sites beyond them leave the training tiles at level 1.
    """
    if len(levels) < 2 or levels[0] != 0 or np.any(np.diff(levels) <= 0) or levels[-1] > 1 or repeats < 1:
        raise InputError("levels have to rise from 0 to at most 1", received=f"{levels}, {repeats} repeats")
    scores = np.empty((len(levels), repeats))
    readings: list[list[Reading]] = [[] for _ in levels]
    target: list[str | None] = [str(code) for code in labels]
    for repeat in range(repeats):
        splits = confounded_splits(labels, confounders, groups, levels=levels, repeat=repeat, seed=seed)
        if isinstance(splits, Undefined):
            return splits
        for level, split in enumerate(splits):
            if score is not None:
                scores[level, repeat] = score(split)
                continue
            reading = probe(vectors, target, groups, split=split, seed=seed)
            if isinstance(reading, NotReadable):
                return Undefined(f"the label cannot be probed: {reading.reason}")
            scores[level, repeat] = reading.balanced_accuracy
            readings[level].append(reading)
    drop = performance_drop(scores)
    if score is not None or isinstance(drop, Undefined):
        return drop
    return PerformanceDrop(scores, tuple(map(tuple, readings)))


def confounded_splits(
    labels: Codes,
    confounders: Codes,
    groups: Codes,
    *,
    levels: tuple[float, ...] = LEVELS,
    repeat: int = 0,
    seed: int = 0,
) -> list[Split] | Undefined:
    """Return one split per level, as `measure_drop` describes them; test tiles and groups are those of the repeat."""
    names = [np.unique(codes, return_inverse=True)[1].reshape(-1) for codes in (labels, confounders)]
    label, site = names
    rows, columns = int(label.max()) + 1, int(site.max()) + 1
    if rows < 2 or columns < 2:
        return Undefined(f"all tiles have one {'label' if rows < 2 else 'confounder'}")
    cells = label * columns + site
    if len(np.unique(cells)) < rows * columns:
        return Undefined("a label is missing at a site, so no training set can be balanced")
    spread = min(len(np.unique(groups[cells == cell])) for cell in range(rows * columns))
    folds = grouped_folds(cells, groups, min(FOLDS, spread), seed + repeat) if spread > 1 else []
    fair = [part for part in folds if len(np.unique(cells[part[1]])) == rows * columns]
    if not fair:
        return Undefined("groups cannot be set apart so that training and test have every label at every site")
    train, test = fair[repeat % len(fair)]
    random = stream(seed, "confounded", str(repeat))
    train, test = random.permutation(train), random.permutation(test)
    fewest = int(np.bincount(cells[test]).min())
    tested = np.concatenate([test[cells[test] == cell][:fewest] for cell in range(rows * columns)])
    favoured = np.arange(rows * columns) % columns == (np.arange(rows * columns) // columns) % columns
    stock = np.bincount(cells[train])
    size = int(min(stock[favoured].min() / (1 + levels[-1] * (columns - 1)), stock[~favoured].min()))
    if size < 1:
        return Undefined("too few training tiles to confound a label with a site")
    splits = []
    for level in levels:
        others = round(size * (1 - level))
        split: Split = [None] * len(labels)
        for cell in range(rows * columns):
            count = size * columns - others * (columns - 1) if favoured[cell] else others
            for row in train[cells[train] == cell][:count]:
                split[row] = "train"
        for row in tested:
            split[row] = "test"
        splits.append(split)
    return splits
