"""Methods compared: scores at unseen sites under the same resamples of patients and seeds, with what chance allows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata, studentized_range
from scipy.stats import t as student

from ..errors import InputError
from ..stats import RESAMPLES, Estimate, Statistic, cluster_counts, holm, least_p
from .cohort import SOURCE, UNSEEN
from .methods import compaction
from .run import Result
from .tasks import Task
from .tasks.scores import SCORES

#: Resamples that are worked on at a time.
CHUNK = 200
DIFFERENCES = (
    *("task", "score", "method", "against", "difference", "low", "high"),
    *("p", "removed", "removed_low", "removed_high"),
)
OUTCOMES = ("method", "against", "wins", "ties", "losses")
Draws = Float[np.ndarray, " b1"]


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure under resamples, of which the first is of all patients and seeds; NaN where it cannot be had.

    `spread` is the variance of the others, and `allowed` what it should be by the numbers of patients and seeds, with
    `freedom` degrees of freedom.
    """

    draws: Draws
    patients: int
    spread: float
    allowed: float
    freedom: float

    @property
    def value(self) -> float:
        """The figure of all patients and seeds."""
        return float(self.draws[0])

    def estimate(self, limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
        """Return the value with a 95 % interval, within what is possible.

        Ends are quantiles of the resamples, moved outwards by what few patients and few seeds ask for.
        """
        others = self._others
        if not self._known or len(others) < len(self.draws) // 2:
            return Estimate(self.value, None, None)
        low, high = np.quantile(others, [0.025, 0.975])
        return Estimate(self.value, float(low), float(high)).widened(self._wider, limits)

    def p_value(self) -> float:
        """Return the two-sided p-value of a difference: below .05 where its interval excludes 0; see `least_p`."""
        others = self._others
        if not self._known or not len(others):
            return math.nan
        # Interval ends are widened about the value: 0 is reached where the unwidened end lies nearer by that factor.
        reached = self.value - self.value / self._wider
        share = (np.sum(others < reached) + 0.5 * np.sum(others == reached)) / len(others)
        deviations = abs(norm.ppf(share)) / norm.ppf(0.975)
        p = 2 * student.sf(deviations * student.ppf(0.975, self.freedom), self.freedom)
        return float(np.clip(p, least_p(self.patients, len(others)), 1))

    @property
    def _others(self) -> np.ndarray:
        return self.draws[1:][np.isfinite(self.draws[1:])]

    @property
    def _known(self) -> bool:
        return self.patients > 1 and math.isfinite(self.value) and math.isfinite(self.allowed)

    @property
    def _wider(self) -> float:
        if not self.spread:
            return 1.0
        return float(student.ppf(0.975, self.freedom) / norm.ppf(0.975) * math.sqrt(self.allowed / self.spread))


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of a benchmark under resamples of patients: `(cells, sites, 1 + resamples)` for each task and score.

    The first is of all patients. `groups` are the patients that a task is read of at each site.
    """

    chains: tuple[str, ...]
    seeds: tuple[int, ...]
    sites: tuple[str, ...]
    values: Mapping[tuple[str, str], Float[np.ndarray, "m s k b"]]
    groups: Mapping[tuple[str, str], frozenset[int]]
    patients: int

    @property
    def unseen(self) -> tuple[str, ...]:
        """The sites that nothing was trained on."""
        return tuple(site for site in self.sites if site != SOURCE)

    def figure(
        self, task: str, score: str, of: Sequence[tuple[str, str]], made: Callable[..., Draws] = lambda value: value
    ) -> Figure:
        """Return what is made of the scores of chains at places, each mean over the seeds that all of these have.

        The place `unseen` is the mean over unseen sites. Variances of patients and of seeds are added. That of seeds is
        by leaving out one at a time; resamples deviate by as much. The variances' degrees of freedom are joined as
        Satterthwaite does (1946, Biometrics Bulletin 2:110). What a patient and a seed do together counts in both.

        Misleads with one seed: the interval is of that seed alone.
        """
        parts = np.stack([self._at(task, score, chain, self._places(where)) for chain, where in of])
        parts = np.where(np.isfinite(parts).all(axis=0), parts, np.nan)
        parts = parts[:, np.isfinite(parts[0, :, 0])]
        seeds = parts.shape[1]
        places = {site for _, where in of for site in self._places(where)}
        patients = len(frozenset[int]().union(*(self.groups.get((task, site), frozenset()) for site in places)))
        with np.errstate(invalid="ignore", divide="ignore"):
            draws = made(*_mean(parts))
            without = [made(*_mean(np.delete(parts[..., :1], seed, axis=1)))[0] for seed in range(seeds)]
            of_seeds = (seeds - 1) * float(np.var(without)) if seeds > 1 else 0.0
        known = draws[1:][np.isfinite(draws[1:])]
        of_patients = float(np.var(known)) if len(known) and patients > 1 else math.nan
        grown = of_patients * patients / max(patients - 1, 1)
        random = np.random.Generator(np.random.Philox(1))
        moved = np.concatenate([draws[:1], draws[1:] + math.sqrt(of_seeds) * random.standard_normal(len(draws) - 1)])
        allowed, freedom = grown + of_seeds, max(patients - 1.0, 1.0)
        if of_seeds > 0:
            freedom = allowed**2 / (grown**2 / freedom + of_seeds**2 / (seeds - 1))
        return Figure(moved, patients, of_patients + of_seeds, allowed, freedom)

    def _places(self, where: str) -> tuple[str, ...]:
        return self.unseen if where == UNSEEN else (where,)

    def _at(self, task: str, score: str, chain: str, places: Sequence[str]) -> Float[np.ndarray, "s b"]:
        rows = [self.sites.index(site) for site in places]
        return self.values[task, score][self.chains.index(chain)][:, rows].mean(axis=1)


def _mean(parts: Float[np.ndarray, "c s b"]) -> Float[np.ndarray, "c b"]:
    """Return means over seeds; a seed that lost a class in a resample is left out of that one."""
    known = np.isfinite(parts)
    return np.where(known, parts, 0).sum(axis=1) / known.sum(axis=1)


def score_results(results: Sequence[Result], tasks: Sequence[Task], *, resamples: int = RESAMPLES) -> Scored:
    """Score every cell at every site, for all patients and under each resample of patients.

    Patients are the same under every chain and seed, so that differences are paired.

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
    read: dict[tuple[str, str], frozenset[int]] = {}
    for result in done:
        place = chains.index(result.chain), seeds.index(result.seed)
        for task in tasks:
            for site in sites:
                rows = result.rows.query("task == @task.name and site == @site")
                read[task.name, site] = read.get((task.name, site), frozenset()) | set(rows["group"].tolist())
                groups = np.searchsorted(present, rows["group"].to_numpy(int))
                for score in task.scores:
                    found = _resampled(SCORES[score](rows), counts, groups)
                    values[task.name, score][(*place, sites.index(site))] = found
    return Scored(chains, seeds, sites, values, read, len(present))


def _resampled(statistic: Statistic, counts: Int[np.ndarray, "b g"], groups: np.ndarray) -> Draws:
    starts = range(0, len(counts), CHUNK)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may have none of a site's patients
        return np.concatenate([statistic(counts[start : start + CHUNK, groups].astype(float)) for start in starts])


def best_prior(scored: Scored, task: Task, results: Sequence[Result]) -> str | None:
    """Return the chain that scores best at unseen sites of those that need no target tiles and are no compaction."""
    ours = {method.name for method in compaction.METHODS}
    single = {result.chain for result in results if not result.needs_target}
    prior = [name for name in scored.chains if name in single and not set(name.split("+")) & ours]
    known = {name: scored.figure(task.name, task.scores[0], [(name, UNSEEN)]).value for name in prior}
    known = {name: value for name, value in known.items() if math.isfinite(value)}
    return max(known, key=lambda name: known[name]) if known else None


def tabulate_scores(scored: Scored, tasks: Sequence[Task]) -> pd.DataFrame:
    """Return a row for each task, score, chain and place (`source`, each unseen site, `unseen`: their mean)."""
    rows = []
    for task in tasks:
        for score in task.scores:
            for chain in scored.chains:
                for where in (*scored.sites, UNSEEN):
                    found = scored.figure(task.name, score, [(chain, where)]).estimate((0, 1))
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
    for chain in (name for name in scored.chains if name != against):
        both = [(chain, UNSEEN), (against, UNSEEN)]
        found = scored.figure(task.name, score, both, np.subtract)
        gap = found.estimate()
        removed = scored.figure(task.name, score, both, lambda ours, theirs: 1 - (1 - ours) / (1 - theirs)).estimate()
        rows.append(
            {
                "task": task.name,
                "score": score,
                "method": chain,
                "against": against,
                "difference": gap.value,
                "low": gap.low,
                "high": gap.high,
                "p": found.p_value(),
                "removed": removed.value,
                "removed_low": removed.low,
                "removed_high": removed.high,
            }
        )
    table = pd.DataFrame(rows, columns=pd.Index(DIFFERENCES))
    if len(table):
        known = table["p"].notna().to_numpy()
        table.loc[known, "p"] = holm(table["p"].to_numpy(float)[known])
    return table


def count_outcomes(scored: Scored, tasks: Sequence[Task], against: Mapping[str, str], named: str) -> pd.DataFrame:
    """Return, for each other chain, at how many tasks and unseen sites it wins, ties and loses, by 95 % intervals.

    `against` is the chain compared against in each task, which is not compared with itself; `named` what all of these
    are called. Misleads: intervals are not adjusted, so that of twenty ties one is called a win or a loss.
    """
    rows = []
    for chain in scored.chains:
        outcomes = {"wins": 0, "ties": 0, "losses": 0}
        for task in (task for task in tasks if against.get(task.name, chain) != chain):
            for site in scored.unseen:
                both = [(chain, site), (against[task.name], site)]
                gap = scored.figure(task.name, task.scores[0], both, np.subtract).estimate()
                if gap.low is not None and gap.high is not None:
                    outcomes["wins" if gap.low > 0 else "losses" if gap.high < 0 else "ties"] += 1
        if any(outcomes.values()):
            rows.append({"method": chain, "against": named, **outcomes})
    return pd.DataFrame(rows, columns=pd.Index(OUTCOMES))


def measure_loss(scored: Scored, task: Task, chain: str) -> Estimate:
    """Return by how much a task's first score is lower at unseen sites than at the source."""
    return scored.figure(task.name, task.scores[0], [(chain, SOURCE), (chain, UNSEEN)], np.subtract).estimate()


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
    table = np.array(
        [
            [
                scored.figure(task.name, task.scores[0], [(chain, site)]).value
                for task in tasks
                for site in scored.unseen
            ]
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
