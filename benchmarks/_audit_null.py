"""Where nothing is true, how often is something said? Synthetic cohorts, measured as an audit measures.

`check_calibration` is a part of `audit.py`; the tests ask the same cases.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from _bench import Bench

from histolatent.audit.displacement import measure_moves, measure_ranks, random_pair_null, selectivity
from histolatent.audit.robustness import (
    RobustnessIndex,
    RobustnessMargin,
    Shortfalls,
    measure_shortfalls,
    robustness_index,
    robustness_margin,
)
from histolatent.neighbors import TypedNeighbors, find_neighbors
from histolatent.probes import FittedProbe, fit_probe, measure_chance
from histolatent.stats import Estimate, bootstrap, bootstrap_means, paired_difference, whole_value

RUNS = 400
TILES, PATIENTS, DIM = 400, 40, 12
NEIGHBOURS = 89  # as an audit searches
CHANCES = 100
LEAST, MOST = ">= 0.03", "<= 0.07"
GROUPS = np.arange(TILES) % PATIENTS


def grouped(random: np.random.Generator, *shape: int, within: float = 0.5) -> np.ndarray:
    """Return noise of which tiles of a patient share a part."""
    return within * random.normal(size=(PATIENTS, *shape))[GROUPS] + random.normal(size=(TILES, *shape))


def partners(random: np.random.Generator) -> np.ndarray:
    """Return a permutation of the tiles that gives each a tile of another patient."""
    order = random.permutation(TILES)
    while (bad := np.flatnonzero(GROUPS[order] == GROUPS)).size:
        other = random.integers(0, TILES, bad.size)
        for i, j in zip(bad, other, strict=True):
            order[i], order[j] = order[j], order[i]
    return order


def excludes(estimate: Estimate, chance: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low > chance or estimate.high < chance


def permuted_pairs(seed: int) -> bool:
    """The twin of each tile is an unrelated tile: P(moved less than unrelated tiles lie apart) is one half."""
    random = np.random.default_rng(seed)
    x = grouped(random, DIM, within=0.7).astype(np.float32)
    null = random_pair_null(x, GROUPS, apart="slide", seed=seed)
    moves = measure_moves(x, x[partners(random)], null)["auroc_null"]
    return excludes(bootstrap_means(moves[:, None], GROUPS, resamples=1000, seed=seed)[0], 0.5)


def permuted_twins(seed: int) -> bool:
    """The twin of each tile is any tile: its own is as likely to be near as to be far."""
    random = np.random.default_rng(seed)
    x = grouped(random, DIM, within=0.7).astype(np.float32)
    ranks = measure_ranks(x, x[random.permutation(TILES)], np.arange(TILES))["twin_rank"]
    return excludes(bootstrap_means(ranks[:, None], GROUPS, resamples=1000, seed=seed)[0], 0.5)


def permuted_roles(seed: int) -> bool:
    """What destroys biology and what does not are drawn alike."""
    random = np.random.default_rng(seed)
    share = selectivity(grouped(random), grouped(random, 3))
    return excludes(bootstrap_means(share[:, None], GROUPS, resamples=1000, seed=seed)[0], 0.5)


def permuted_encoders(seed: int) -> bool:
    """Two encoders whose figures are drawn alike."""
    random = np.random.default_rng(seed)
    first, second = grouped(random), grouped(random)
    found = paired_difference(
        lambda weights: weights @ first / weights.sum(axis=1),
        lambda weights: weights @ second / weights.sum(axis=1),
        GROUPS,
        resamples=1000,
        seed=seed,
    )
    assert found.p is not None
    assert (found.p < 0.05) == excludes(found.estimate, 0)
    return excludes(found.estimate, 0)


def permuted_sites(seed: int) -> bool:
    """Sites are dealt to patients."""
    return _probe(_sites(seed), seed)


def permuted_labels(seed: int) -> bool:
    """Labels are dealt to tiles."""
    return _probe(_labels(seed), seed)


def permuted_sites_in_band(seed: int) -> bool:
    """Sites are dealt to patients: what a probe reads lies within the band of sites dealt anew."""
    return _probe(_sites(seed), seed, by_band=True)


def permuted_labels_in_band(seed: int) -> bool:
    """Labels are dealt to tiles: what a probe reads lies within the band of labels dealt anew."""
    return _probe(_labels(seed), seed, by_band=True)


def index_of_permuted_labels(seed: int) -> bool:
    """Labels are dealt to tiles, sites to patients: the robustness index is at its chance."""
    found = robustness_index(_near(seed))
    assert isinstance(found, RobustnessIndex)
    estimate = bootstrap(found.statistic(), GROUPS[found.rows], resamples=1000, seed=seed)
    return excludes(estimate.widened(_shortfalls(seed).index), found.chance)


def margin_of_permuted_labels(seed: int) -> bool:
    """Labels are dealt to tiles, sites to patients: the robustness margin is what it is by chance."""
    found = robustness_margin(_near(seed))
    assert isinstance(found, RobustnessMargin)
    estimate = bootstrap(found.median_statistic(), GROUPS[found.rows], resamples=1000, seed=seed)
    return excludes(estimate.widened(_shortfalls(seed).margin), _margin_by_chance())


def _sites(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 1]).permutation(np.arange(PATIENTS) % 2)[GROUPS]


def _labels(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 2]).permutation(np.arange(TILES) % 2)


def _probe(codes: np.ndarray, seed: int, *, by_band: bool = False) -> bool:
    x = grouped(np.random.default_rng(seed), DIM, within=0.7).astype(np.float32)
    fitted = fit_probe(x, [str(code) for code in codes], GROUPS, seed=seed)
    assert isinstance(fitted, FittedProbe)
    statistic, chance = fitted.read(x).accuracy(), measure_chance(fitted, x, GROUPS, seed=seed)
    if by_band:
        return not chance.low <= whole_value(statistic, TILES) <= chance.high
    return excludes(bootstrap(statistic, GROUPS, resamples=1000, seed=seed).widened(chance.wider), 0.5)


@cache
def _shortfalls(seed: int) -> Shortfalls:
    """Return what the index and the margin share: most of their time."""
    return measure_shortfalls(_near(seed), GROUPS, seed=seed)


@cache
def _margin_by_chance() -> float:
    """Return the margin where labels, sites and patients are dealt to tiles: it is not 0, see `robustness_margin`."""
    margins = [robustness_margin(_near(seed, shuffled=True)) for seed in range(CHANCES)]
    return float(np.mean([margin.median for margin in margins if isinstance(margin, RobustnessMargin)]))


@cache
def _near(seed: int, *, shuffled: bool = False) -> TypedNeighbors:
    """Return neighbours among tiles of a seed; shuffled, all that belongs to a tile is another tile's.

    The index, the margin and their shortfalls are of the same search; 400 of them hold some 300 MB.
    """
    x = grouped(np.random.default_rng(seed), DIM, within=0.7)
    order = np.random.default_rng([seed, 3]).permutation(TILES) if shuffled else np.arange(TILES)
    labels, sites, groups = (codes[order] for codes in (_labels(seed), _sites(seed), GROUPS))
    return find_neighbors(x, NEIGHBOURS, m=5, labels=labels, confounders=sites, groups=groups)


@dataclass(frozen=True)
class Case:
    """What is dealt by chance, the figure that is asked, and by what it is called different from chance."""

    run: Callable[[int], bool]
    what: str
    figure: str
    by: str = "interval"


CASES = (
    Case(permuted_pairs, "tiles as twins, of other patients", "P(moved less than to an unrelated tile)"),
    Case(permuted_twins, "tiles as twins", "rank of the twin"),
    Case(permuted_roles, "roles of operations", "selectivity"),
    Case(permuted_encoders, "encoders", "paired difference"),
    Case(permuted_sites, "sites, to patients", "balanced accuracy of a probe"),
    Case(permuted_labels, "labels, to tiles", "balanced accuracy of a probe"),
    Case(permuted_sites_in_band, "sites, to patients", "balanced accuracy of a probe", "band of dealt labels"),
    Case(permuted_labels_in_band, "labels, to tiles", "balanced accuracy of a probe", "band of dealt labels"),
    Case(index_of_permuted_labels, "labels and sites", "robustness index"),
    Case(margin_of_permuted_labels, "labels and sites", "robustness margin"),
)


def check_calibration(bench: Bench) -> None:
    """Note for each case the share of runs in which chance is excluded."""
    cases = []
    for case in CASES:
        share = float(np.mean([case.run(seed) for seed in range(RUNS)]))
        cases.append(
            {"case": case.run.__name__, "what": case.what, "figure": case.figure, "by": case.by, "share": share}
        )
        bench.check(f"calibration_{case.run.__name__}", share, MOST)
    bench.check("calibration_least", min(case["share"] for case in cases), LEAST)
    bench.measured["calibration"] = {"runs": RUNS, "tiles": TILES, "patients": PATIENTS, "cases": cases}
