"""How well an attribute is read on groups that nothing was fitted to, beside values that are dealt anew."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from ..probes import grouped_folds
from ..stats import deal
from .attributes import Attribute

FOLDS = 5
Rows = Int[np.ndarray, " _r"]
#: From rows to fit to and rows to ask, what is read of the latter.
Read = Callable[[Rows, Rows], np.ndarray]
#: The same of values that are dealt anew, a column each: the third says whose value each row to fit to is given.
ReadDealt = Callable[[Rows, Rows, Int[np.ndarray, "_t _p"]], np.ndarray]


@dataclass(frozen=True)
class ReadCard:
    """How well an attribute is read.

    `reads` is of groups that nothing was fitted to: `AUROC` of classes, the correlation of numbers, as `score` says;
    chance is `chance`, and `shuffled` is the 95th percentile where values are dealt anew. Both are NaN where it cannot
    be tested, as with one group. `explained` is the share of the attribute that confounders tell. Groups are what `by`
    says: patients, slides, tiles.
    """

    score: str
    reads: float
    chance: float
    shuffled: float
    explained: float
    tiles: int
    groups: int
    by: str

    @property
    def believable(self) -> bool:
        """Whether it is read better than dealt values are."""
        return self.reads > self.shuffled

    @property
    def untested(self) -> str | None:
        """Why it was not read on other groups; None if it was."""
        if not math.isnan(self.reads):
            return None
        if self.groups == 1:
            return f"all tiles are of one {self.by}"
        return f"{self.by}s cannot be split so that each class is in both parts"


def judge_reading(
    given: Attribute, read: Read, read_dealt: ReadDealt, *, times: int, seed: int
) -> tuple[ReadCard, Float[np.ndarray, " _m"]]:
    """Leave out groups in turn, a fifth of them or one at a time; return the card, and what was read of each tile.

    What is read of tiles that were not left out is NaN: of all of them where there is one group. Values are dealt anew
    `times` times, see `deal`.
    """
    y, groups, classes = given.values, given.groups, given.classes is not None
    codes = y.astype(int) if classes else np.zeros(len(y), int)
    count = len(np.unique(groups))
    dealt = deal(np.arange(len(y)), groups, times, seed)
    scores, dealt_scores = np.full(len(y), np.nan), np.full((len(y), times), np.nan)
    for train, test in grouped_folds(codes, groups, min(FOLDS, count), seed) if count > 1 else []:
        scores[test] = read(train, test)
        dealt_scores[test] = read_dealt(train, test, dealt[train])
    known = np.isfinite(scores)
    reads = shuffled = math.nan
    if known.any():
        reads = float(score_columns(scores[known, None], y[known, None], classes)[0])
        shuffled = float(np.quantile(score_columns(dealt_scores[known], y[dealt[known]], classes), 0.95))
    score, chance = ("AUROC", 0.5) if classes else ("correlation", 0.0)
    return ReadCard(score, reads, chance, shuffled, given.explained, len(y), count, given.by), scores


def score_columns(
    read: Float[np.ndarray, "m c"], y: Float[np.ndarray, "m _c"], classes: bool
) -> Float[np.ndarray, " c"]:
    """Return how well each column is read: the AUROC of classes 0 and 1, or the correlation with numbers."""
    if classes:
        ones = y.sum(axis=0)
        ranks = (rankdata(read, axis=0) * y).sum(axis=0)
        return (ranks - ones * (ones + 1) / 2) / np.maximum(ones * (len(y) - ones), 1)
    x, target = read - read.mean(axis=0), y - y.mean(axis=0)
    return (x * target).sum(axis=0) / np.maximum(np.sqrt((x**2).sum(axis=0) * (target**2).sum(axis=0)), 1e-300)
