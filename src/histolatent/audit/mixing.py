"""How well sites mix in a neighbourhood: the inverse Simpson index and a chi-squared test of its composition."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import chi2

from .._types import Codes
from ..errors import InputError
from ..neighbors import TypedNeighbors
from ..stats import Statistic, weighted_quantile, whole_value
from .undefined import COLLAPSED, Undefined

PERPLEXITY = 30.0
TOLERANCE = 1e-5
TRIES = 50
CHUNK = 4096


@dataclass(frozen=True)
class LocalMixing:
    """The effective number of classes around each tile of `rows`: 1 to `classes`."""

    rows: Codes
    values: Float[np.ndarray, " n"]
    classes: int

    @property
    def ilisi(self) -> float:
        """The median scaled for a site, `(median - 1) / (classes - 1)`: 1 where all sites are around every tile."""
        return whole_value(self.ilisi_statistic(), len(self.rows))

    @property
    def clisi(self) -> float:
        """The median scaled for a label, `(classes - median) / (classes - 1)`: 1 where each tile is among its own."""
        return 1 - self.ilisi

    def ilisi_statistic(self) -> Statistic:
        """Return `ilisi` as a statistic over weighted tiles."""
        median, classes = weighted_quantile(self.values, 0.5), self.classes
        return lambda weights: (median(weights) - 1) / (classes - 1)

    def clisi_statistic(self) -> Statistic:
        """Return `clisi` as a statistic over weighted tiles."""
        scaled = self.ilisi_statistic()
        return lambda weights: 1 - scaled(weights)


@dataclass(frozen=True)
class Acceptance:
    """The test of each tile of `rows`: statistic, p-value, and 1 where it does not reject."""

    rows: Codes
    statistic: Float[np.ndarray, " n"]
    p_value: Float[np.ndarray, " n"]
    accepted: Float[np.ndarray, " n"]

    @property
    def value(self) -> float:
        """The share of tiles around which the classes are as everywhere: 0 to 1."""
        return float(self.accepted.mean())


def local_mixing(near: TypedNeighbors, codes: Codes, *, perplexity: float = PERPLEXITY) -> LocalMixing | Undefined:
    r"""Return the local inverse Simpson index (LISI) of the classes `codes` around each tile: $1 / \sum_c p_c^2$.

    $p_c$ is the weight of class c among the `3 perplexity - 1` nearest tiles; weights are $e^{-\beta d}$ with $\beta$
    such that their entropy is the log of the perplexity (Korsunsky et al. 2019, Nature Methods 16:1289). As in
    scib-metrics: the tile itself is not counted, $\beta$ is halved or doubled from 1 until the entropy is within 1e-5,
    the median over tiles is scaled to 0 to 1. With `codes` a site this is iLISI (higher: better mixed), with a label
    cLISI (higher: purer).

    Undefined for one class, for a constant encoder, and where all tiles are of one group.

    Raises
    ------
    InputError
        Too few neighbours were searched for, or `codes` are not one per tile.

    Misleads: where neighbours of a tile's own group are left out, perfect mixing gives less than 1; sites of unequal
    size cannot reach it either; collapse mixes perfectly, so it is never read without a figure of the signal.
    """
    reason = _missing(near, codes)
    if reason:
        return Undefined(reason)
    if perplexity < 1:
        raise InputError("the perplexity has to be at least 1", received=perplexity)
    plain = near.plain.first(int(3 * perplexity) - 1)
    some = np.flatnonzero(plain.counts > 0)
    classes = int(codes.max()) + 1
    values = np.empty(len(some))
    for start in range(0, len(some), CHUNK):
        part = slice(start, start + CHUNK)
        index, distance = plain.index[some[part]], plain.distance[some[part]]
        weights = _perplexity_weights(distance, index >= 0, np.log(perplexity))
        shares = np.zeros((len(index), classes))
        np.add.at(shares, (np.arange(len(index))[:, None], codes[np.maximum(index, 0)]), weights)
        values[part] = 1 / (shares**2).sum(axis=1)
    return LocalMixing(near.rows[some], values, len(np.unique(codes)))


def _perplexity_weights(
    distance: Float[np.ndarray, "q k"], present: Bool[np.ndarray, "q k"], entropy: float
) -> Float[np.ndarray, "q k"]:
    """Return weights of sum 1 whose entropy is the one asked for, by halving and doubling."""
    # A common offset of the distances changes neither weights nor entropy, and keeps the nearest from vanishing.
    offset = np.where(present, distance - distance.min(axis=1, keepdims=True), 0)
    q = len(distance)
    beta, low, high = np.ones(q), np.full(q, -np.inf), np.full(q, np.inf)
    weights = np.zeros_like(offset)
    active = np.arange(q)
    for _ in range(TRIES + 1):
        raw = np.exp(-offset[active] * beta[active, None]) * present[active]
        total = raw.sum(axis=1, keepdims=True)
        weights[active] = raw / total
        excess = np.log(total[:, 0]) + beta[active] * (offset[active] * weights[active]).sum(axis=1) - entropy
        going = np.abs(excess) >= TOLERANCE
        active, excess = active[going], excess[going]
        if not len(active):
            break
        wide, now = excess > 0, beta[active]
        low[active], high[active] = np.where(wide, now, low[active]), np.where(wide, high[active], now)
        other = np.where(wide, high[active], low[active])
        beta[active] = np.where(np.isinf(other), np.where(wide, 2 * now, now / 2), (now + other) / 2)
    return weights


def acceptance(near: TypedNeighbors, codes: Codes, *, k: int = 50, alpha: float = 0.05) -> Acceptance | Undefined:
    r"""Test whether the classes around each tile are as frequent as everywhere (kBET, Büttner et al. 2019).

    Pearson's $\chi^2$ of the classes of `k` tiles, with one degree of freedom less than there are classes; the value is
    the share of tiles with `p >= alpha`. Higher is better mixed; perfect mixing gives about `1 - alpha`.

    Without groups, the `k` tiles are the tile itself and its `k - 1` nearest, against the frequencies of all tiles, as
    in scib-metrics. With groups, they are its `k` nearest, none of its group, against the frequencies outside its
    group; a tile outside whose group there is one class only is left out.

    Undefined for one class, for a constant encoder, and where all tiles are of one group.

    Raises
    ------
    InputError
        Too few neighbours were searched for, or `codes` are not one per tile.

    Misleads: with large `k` nearly any difference is rejected; tiles of one slide are no independent draws, so that
    fewer than `1 - alpha` are accepted even without a site's effect.
    """
    reason = _missing(near, codes)
    if reason:
        return Undefined(reason)
    classes = int(codes.max()) + 1
    observed, expected = _compositions(near, codes, k, classes)
    freedom = (expected > 0).sum(axis=1) - 1
    some = np.flatnonzero((freedom > 0) & (observed.sum(axis=1) > 0))
    if not len(some):
        return Undefined("no tile has two classes outside its group")
    observed, expected = observed[some], expected[some] * observed[some].sum(axis=1, keepdims=True)
    gaps = np.divide((observed - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0)
    statistic = gaps.sum(axis=1)
    p_value = chi2.sf(statistic, freedom[some])
    return Acceptance(near.rows[some], statistic, p_value, (p_value >= alpha).astype(float))


def _compositions(
    near: TypedNeighbors, codes: Codes, k: int, classes: int
) -> tuple[Float[np.ndarray, "q c"], Float[np.ndarray, "q c"]]:
    """Return how often each class is around each tile, and its share of the tiles that could be."""
    alone = near.groups is None
    plain = near.plain.first(k - 1 if alone else k)
    observed = np.zeros((len(near.rows), classes))
    place = np.broadcast_to(np.arange(len(near.rows))[:, None], plain.index.shape)
    present = plain.index >= 0
    np.add.at(observed, (place[present], codes[plain.index[present]]), 1)
    counts = np.bincount(codes, minlength=classes).astype(float)[None, :]
    if near.groups is None:
        observed[np.arange(len(observed)), codes[near.rows]] += 1
        return observed, np.repeat(counts / counts.sum(), len(observed), axis=0)
    own = np.zeros((int(near.groups.max()) + 1, classes))
    np.add.at(own, (near.groups, codes), 1)
    eligible = counts - own[near.groups[near.rows]]
    return observed, eligible / np.maximum(eligible.sum(axis=1, keepdims=True), 1)


def _missing(near: TypedNeighbors, codes: Codes) -> str | None:
    n = max(int(near.rows.max()), int(near.plain.index.max())) + 1
    if len(codes) < n or codes.min() < 0:
        raise InputError("classes have to be one code from 0 per tile", received=f"{len(codes)} codes for {n} tiles")
    if near.collapsed:
        return COLLAPSED
    if not near.plain.counts.any():
        return "no tile has a neighbour of another group"
    return None if len(np.unique(codes)) > 1 else "all tiles are of one class"
