"""Methods compared: scores at unseen sites under the same resamples of patients and seeds, with what chance allows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata, studentized_range

from ..errors import InputError
from ..stats import RESAMPLES, Estimate, Statistic, cluster_counts, holm, least_p, reach
from .cohort import SOURCE, UNSEEN
from .methods import compaction
from .run import Result
from .tasks import Task
from .tasks.scores import SCORES

#: Resamples that are worked on at a time.
CHUNK = 200
Draws = Float[np.ndarray, " b1"]


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of a benchmark under resamples: `(cells, sites, 1 + resamples)` for each task and score.

    The first is of all patients. `seeds` weighs the seeds in each resample, `(seeds, 1 + resamples)`.
    """

    chains: tuple[str, ...]
    seeds: tuple[int, ...]
    sites: tuple[str, ...]
    values: Mapping[tuple[str, str], Float[np.ndarray, "m s k b"]]
    weights: Float[np.ndarray, "s b"]
    patients: int

    def at(self, task: str, score: str, chain: str, site: str | None = None) -> Draws:
        """Return the score of a chain, mean over seeds, at a site; without one, the mean over unseen sites."""
        values = self.values[task, score][self.chains.index(chain)]
        places = [self.sites.index(site)] if site else [k for k, name in enumerate(self.sites) if name != SOURCE]
        mean = values[:, places].mean(axis=1)
        # A seed that failed, or lost a class in a resample, has no score there.
        known = np.isfinite(mean) * self.weights
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(np.isfinite(mean), mean * self.weights, 0).sum(axis=0) / known.sum(axis=0)

    def estimate(self, draws: Draws, limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
        """Return the value of all patients, with a 95 % interval of the others, within what is possible.

        Ends are quantiles of the resamples, moved outwards by what few patients ask for: see `stats.bootstrap`.
        """
        value, others = float(draws[0]), draws[1:][np.isfinite(draws[1:])]
        if not math.isfinite(value) or len(others) < len(draws) // 2 or self.patients < 2:
            return Estimate(value, None, None)
        low, high = np.quantile(others, [0.025, 0.975])
        return Estimate(value, float(low), float(high)).widened(self._wider, limits)

    def p_value(self, draws: Draws) -> float:
        """Return the two-sided p-value of a difference: that whose interval just touches 0."""
        value, others = float(draws[0]), draws[1:][np.isfinite(draws[1:])]
        least = least_p(self.patients, len(others))
        if not math.isfinite(value) or not len(others):
            return math.nan
        # Interval ends are widened about the value: 0 is reached where the unwidened end lies nearer by that factor.
        reached = value - value / self._wider
        share = (np.sum(others < reached) + 0.5 * np.sum(others == reached)) / len(others)
        return float(np.clip(2 * min(share, 1 - share), least, 1))

    @property
    def _wider(self) -> float:
        return float(reach(self.patients) / norm.ppf(0.975))


def score_results(results: Sequence[Result], tasks: Sequence[Task], *, resamples: int = RESAMPLES) -> Scored:
    """Score every cell at every site, for all patients and under each resample of patients and seeds, both at once.

    Patients are the same under every chain and seed, so that differences are paired. Owen 2007, Ann. Appl. Stat. 1:386.

    Raises
    ------
    InputError
        If every cell failed.
    """
    done = [result for result in results if result.failed is None]
    if not done:
        raise InputError("every cell of the benchmark failed", received=results[0].failed if results else "no cells")
    chains, seeds = (tuple(dict.fromkeys(getattr(result, name) for result in results)) for name in ("chain", "seed"))
    sites = tuple(dict.fromkeys(site for result in done for site in result.rows["site"]))
    present = np.unique(np.concatenate([result.rows["group"].to_numpy(int) for result in done]))
    counts = np.concatenate([np.ones((1, len(present)), int), cluster_counts(len(present), resamples=resamples)])
    values = {
        (task.name, score): np.full((len(chains), len(seeds), len(sites), len(counts)), np.nan)
        for task in tasks
        for score in task.scores
    }
    for result in done:
        place = chains.index(result.chain), seeds.index(result.seed)
        for task in tasks:
            for site in sites:
                rows = result.rows.query("task == @task.name and site == @site")
                groups = np.searchsorted(present, rows["group"].to_numpy(int))
                for score in task.scores:
                    found = _resampled(SCORES[score](rows), counts, groups)
                    values[task.name, score][(*place, sites.index(site))] = found
    return Scored(chains, seeds, sites, values, _seed_weights(len(seeds), len(counts)), len(present))


def _resampled(statistic: Statistic, counts: Int[np.ndarray, "b g"], groups: np.ndarray) -> Draws:
    starts = range(0, len(counts), CHUNK)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may have none of a site's patients
        return np.concatenate([statistic(counts[start : start + CHUNK, groups].astype(float)) for start in starts])


def _seed_weights(seeds: int, draws: int) -> Float[np.ndarray, "s b"]:
    """Return how often each seed is drawn; each once in the first."""
    if seeds == 1:
        return np.ones((1, draws))
    counts = cluster_counts(seeds, resamples=draws - 1, seed=1).T
    return np.concatenate([np.ones((seeds, 1)), counts], axis=1)


def best_prior(scored: Scored, task: Task, results: Sequence[Result]) -> str | None:
    """Return the chain that scores best at unseen sites of those that need no target tiles and are no compaction."""
    ours = {method.name for method in compaction.METHODS}
    single = {result.chain for result in results if not result.needs_target}
    prior = [name for name in scored.chains if name in single and not set(name.split("+")) & ours]
    known = {name: scored.at(task.name, task.scores[0], name)[0] for name in prior}
    known = {name: value for name, value in known.items() if math.isfinite(value)}
    return max(known, key=lambda name: known[name]) if known else None


def tabulate_scores(scored: Scored, tasks: Sequence[Task]) -> pd.DataFrame:
    """Return a row for each task, score, chain and place (`source`, each unseen site, `unseen`: their mean)."""
    rows = []
    for task in tasks:
        for score in task.scores:
            for chain in scored.chains:
                for where in (*scored.sites, UNSEEN):
                    draws = scored.at(task.name, score, chain, None if where == UNSEEN else where)
                    found = scored.estimate(draws, (0, 1))
                    rows.append(
                        {
                            "task": task.name,
                            "score": score,
                            "method": chain,
                            "where": where,
                            "value": found.value,
                            "low": found.low,
                            "high": found.high,
                        }
                    )
    return pd.DataFrame(rows)


def tabulate_differences(scored: Scored, task: Task, against: str) -> pd.DataFrame:
    """Return how much better each other chain does at unseen sites, by a task's first score, and the error removed.

    `p` is adjusted by Holm over the chains of the task. `removed` is the share of the error (1 less the score) of the
    chain compared against that is gone.
    """
    score, rows = task.scores[0], []
    theirs = scored.at(task.name, score, against)
    for chain in scored.chains:
        if chain == against:
            continue
        ours = scored.at(task.name, score, chain)
        gap = scored.estimate(ours - theirs)
        with np.errstate(invalid="ignore", divide="ignore"):
            removed = scored.estimate(1 - (1 - ours) / (1 - theirs))
        rows.append(
            {
                "task": task.name,
                "score": score,
                "method": chain,
                "against": against,
                "difference": gap.value,
                "low": gap.low,
                "high": gap.high,
                "p": scored.p_value(ours - theirs),
                "removed": removed.value,
                "removed_low": removed.low,
                "removed_high": removed.high,
            }
        )
    table = pd.DataFrame(rows)
    if len(table):
        known = table["p"].notna().to_numpy()
        table.loc[known, "p"] = holm(table["p"].to_numpy(float)[known])
    return table


def count_outcomes(scored: Scored, tasks: Sequence[Task], against: str) -> pd.DataFrame:
    """Return, for each other chain, at how many tasks and unseen sites it wins, ties and loses, by 95 % intervals."""
    rows = []
    for chain in (name for name in scored.chains if name != against):
        outcomes = {"wins": 0, "ties": 0, "losses": 0}
        for task in tasks:
            for site in (name for name in scored.sites if name != SOURCE):
                ours, theirs = (scored.at(task.name, task.scores[0], name, site) for name in (chain, against))
                gap = scored.estimate(ours - theirs)
                if gap.low is not None and gap.high is not None:
                    outcomes["wins" if gap.low > 0 else "losses" if gap.high < 0 else "ties"] += 1
        rows.append({"method": chain, "against": against, **outcomes})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of chains over tasks and unseen sites (1 is best), and how far apart two have to be to differ.

    `critical` is that of Nemenyi's test at 5 % (Demsar 2006, JMLR 7:1). Misleads: tasks and sites share tiles, so that
    there is less evidence than their number says.
    """

    mean: Mapping[str, float]
    critical: float
    blocks: int


def rank_chains(scored: Scored, tasks: Sequence[Task]) -> Ranks | None:
    """Return mean ranks over tasks and unseen sites of the chains that have all scores; None of fewer than two."""
    sites = [name for name in scored.sites if name != SOURCE]
    table = np.array(
        [
            [scored.at(task.name, task.scores[0], chain, site)[0] for task in tasks for site in sites]
            for chain in scored.chains
        ]
    )
    whole = np.flatnonzero(np.isfinite(table).all(axis=1))
    names = [scored.chains[row] for row in whole]
    if len(names) < 2:
        return None
    ranks = rankdata(-table[whole], axis=0)
    k, blocks = ranks.shape
    critical = float(studentized_range.ppf(0.95, k, np.inf) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * blocks)))
    return Ranks(dict(zip(names, ranks.mean(axis=1).tolist(), strict=True)), critical, blocks)


def tabulate_figures(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row for each chain: how far sites lie apart, and what it costs, mean over seeds."""
    rows = []
    for name in dict.fromkeys(result.chain for result in results):
        own = [result for result in results if result.chain == name]
        done = [result.figures for result in own if result.failed is None]
        keys = dict.fromkeys(key for each in done for key in each)
        means = {key: float(np.mean([each[key] for each in done if key in each])) for key in keys}
        rows.append({"method": name, "needs_target": own[0].needs_target, "seeds": len(done), **means})
    return pd.DataFrame(rows)
