"""What a trained embedding must not be: a point, mere colour, or no better than it was. In words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from ..neighbors import twin_ranks
from ..spectrum import effective_rank, is_constant
from .scatter import Scatter

#: Fewer directions than this are no embedding of tissue, whatever it was trained on.
LEAST_RANK = 2.0
#: Below it the cosine of two tiles is above .9975 in the mean: what tells them apart is next to nothing.
LEAST_SPREAD = 0.05
#: Share of the variance of an embedding that mean colours may explain.
MOST_COLOUR = 0.8
#: Share of tiles that find themselves again below which nothing was learnt that holds across states.
LEAST_TWINS = 0.5
RIDGE = 1e-3


@dataclass(frozen=True)
class HeldOut:
    """An embedding of held-out tiles: under wider states than those of training.

    `twin_top1` is the share of tiles that find themselves again between two states; `ratio` the compaction ratio;
    `rank` the effective rank of the tiles; `spread` the standard deviation of L2-normalised values times sqrt(d): 1
    where tiles lie in all directions, 0 where all point the same way; `colour` the share of their variance that means
    and deviations of the tiles' colours explain.
    """

    twin_top1: float
    ratio: float
    rank: float
    spread: float
    colour: float


@dataclass(frozen=True)
class Finding:
    """What is wrong, in one sentence; `fatal` means that the embedding is of no use."""

    guard: Literal["collapse", "shortcut", "under-training"]
    said: str
    fatal: bool


def look(vectors: Float[np.ndarray, "n v d"], colours: Float[np.ndarray, "n c"]) -> HeldOut:
    """Measure an embedding of tiles (view 0) and of two or more held-out states of each."""
    tiles = np.ascontiguousarray(vectors[:, 0])
    ratio = Scatter(vectors.shape[2]).add(vectors).ratio
    if is_constant(tiles):
        return HeldOut(0.0, ratio, 1.0, 0.0, float("nan"))
    first, second = (np.ascontiguousarray(vectors[:, view]) for view in (-2, -1))
    found = float((twin_ranks(first, second, np.arange(len(first))) < 1).mean())
    unit = tiles / np.maximum(np.linalg.norm(tiles, axis=1, keepdims=True), 1e-12)
    spread = float(np.sqrt(unit.var(axis=0, dtype=np.float64).sum()))
    return HeldOut(found, ratio, effective_rank(tiles), spread, explained_by(colours, tiles))


def explained_by(colours: Float[np.ndarray, "n c"], vectors: Float[np.ndarray, "n d"]) -> float:
    """Return the share of the variance of vectors that a ridge regression on colours explains, left-out tiles only.

    Leave-one-out residuals come from the hat matrix in closed form. Below 0 is returned as it is: worse than the mean.
    """
    x = (colours - colours.mean(axis=0)) / np.maximum(colours.std(axis=0), 1e-12)
    x = np.column_stack([np.ones(len(x)), x]).astype(np.float64)
    y = vectors.astype(np.float64)
    penalty = RIDGE * len(x) * np.diag([0.0, *np.ones(x.shape[1] - 1)])
    hat = x @ np.linalg.solve(x.T @ x + penalty, x.T)
    left_out = (y - hat @ y) / (1 - np.diag(hat))[:, None]
    about = (y - y.mean(axis=0)) * len(y) / (len(y) - 1)
    return float(1 - (left_out**2).sum() / (about**2).sum())


def judge(now: HeldOut, *, trained: HeldOut | None = None, before: HeldOut | None = None) -> list[Finding]:
    """Return what is wrong with an embedding.

    `trained` is the network without a last map, `before` the network before it was trained. The map alone makes tiles
    find themselves again, so that what training brought is asked of the network.
    """
    network = trained or now
    for each in (network, now):
        if not (each.rank >= LEAST_RANK and each.spread >= LEAST_SPREAD):
            said = f"the embedding has collapsed: its effective rank is {each.rank:.1f}, its spread {each.spread:.2f}"
            fix = "train with a smaller learning rate, more tiles, or another loss"
            return [Finding("collapse", f"{said}; {fix}", True)]
    found = []
    colour = max(network.colour, now.colour)
    if colour > MOST_COLOUR:
        said = f"the colours of tiles explain {colour:.0%} of the embedding, which is then little more than they"
        found.append(Finding("shortcut", f"{said}; widen the states, or give the reconstruction more weight", True))
    if now.twin_top1 < LEAST_TWINS or (before is not None and network.ratio >= before.ratio):
        said = f"{network.twin_top1:.0%} of the held-out tiles find themselves again under wider states"
        if before is not None:
            said += f" (before training {before.twin_top1:.0%}), and states are {network.ratio:.0%} of the variance"
            said += f" (before {before.ratio:.0%})"
        found.append(Finding("under-training", f"{said}: train for longer, or on more tiles", False))
    return found


def fatal(findings: Sequence[Finding]) -> bool:
    """Whether any of them makes the embedding useless."""
    return any(finding.fatal for finding in findings)
