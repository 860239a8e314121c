"""What a benchmark says as tables: for a program, for a page, and for a paper."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..outputs import whole
from ..stats import Estimate
from .cohort import SOURCE, UNSEEN
from .compare import (
    DIFFERENCES,
    OUTCOMES,
    Ranks,
    best_prior,
    count_outcomes,
    measure_loss,
    rank_chains,
    score_results,
    tabulate_differences,
    tabulate_figures,
    tabulate_scores,
)
from .methods.plain import AS_IT_IS
from .run import Result
from .tasks import Task


@dataclass(frozen=True, eq=False)
class Summary:
    """All tables of a benchmark; `priors` is the best single-source method before compaction, by task.

    `losses` is by how much `none` is worse at unseen sites than at the source, by task.
    """

    tasks: tuple[Task, ...]
    sites: tuple[str, ...]
    seeds: tuple[int, ...]
    patients: int
    scores: pd.DataFrame
    differences: pd.DataFrame
    outcomes: pd.DataFrame
    figures: pd.DataFrame
    ranks: Ranks | None
    priors: Mapping[str, str]
    losses: Mapping[str, Estimate]
    failed: Mapping[str, str]

    def at(self, task: Task, method: str, where: str) -> Estimate:
        """Return the first score of a task: at a site, the `source`, or `unseen`, the mean over unseen sites."""
        wanted = {"task": task.name, "score": task.scores[0], "method": method, "where": where}
        row = next(row for row in self.scores.to_dict("records") if wanted.items() <= row.items())
        return Estimate(row["value"], *(None if pd.isna(row[end]) else float(row[end]) for end in ("low", "high")))

    def findings(self) -> list[str]:
        """Return what the tables say, a sentence for each task, whichever way it is."""
        return [self._finding(task) for task in self.tasks if task.name in self.losses]

    def _finding(self, task: Task) -> str:
        source, plain = (self.at(task, AS_IT_IS, where).value for where in (SOURCE, UNSEEN))
        text = (
            f"{task.name}: without a method {task.scores[0]} is {source:.3f} at the source, {plain:.3f} at unseen sites"
        )
        rows = [
            row
            for row in self.differences.to_dict("records")
            if row["task"] == task.name and row["against"] == AS_IT_IS and row["p"] < 0.05
        ]
        needy = {row["method"] for row in in_order(self) if row["needs_target"]}
        better = [_best([row for row in rows if (row["method"] in needy) == target]) for target in (False, True)]
        if better == ["", ""]:
            text += f"; no method does better there by more than chance{self._need(task)}"
        for best, whose in zip(better, ("best is", "of those that need target tiles, best is"), strict=True):
            text += f"; {whose} {best}" if best else ""
        worse = [row["method"] for row in rows if row["high"] < 0]
        return text + (f"; worse than nothing: {', '.join(worse)}." if worse else ".")

    def _need(self, task: Task) -> str:
        """Say whether a method would have anything to win back; nothing where that is not known."""
        low = self.losses[task.name].low
        if low is None:
            return ""
        return ": none helps" if low > 0 else ", and none is needed: no more than chance is lost"


def _best(rows: Sequence[Mapping[Any, Any]]) -> str:
    """Return the method that gains most, of differences that are no chance, and its gain; nothing if none gains."""
    best = max((row for row in rows if row["low"] > 0), key=lambda row: row["difference"], default=None)
    if best is None:
        return ""
    return f"{best['method']} ({interval(Estimate(best['difference'], best['low'], best['high']), signed=True)})"


def summarise_benchmark(results: Sequence[Result], tasks: Sequence[Task]) -> Summary:
    """Score all cells, and compare each chain with `none` and the best method before compaction, where these are there.

    Raises
    ------
    InputError
        If every cell failed.
    """
    scored = score_results(results, tasks)
    priors = {task.name: found for task in tasks if (found := best_prior(scored, task, results)) is not None}
    plain = any(result.chain == AS_IT_IS and result.failed is None for result in results)
    against = {"none": {task.name: AS_IT_IS for task in tasks if plain}}
    against["best prior"] = {task: name for task, name in priors.items() if not plain or name != AS_IT_IS}
    differences = [
        tabulate_differences(scored, task, others[task.name])
        for task in tasks
        for others in against.values()
        if task.name in others
    ]
    outcomes = [count_outcomes(scored, tasks, others, named) for named, others in against.items()]
    return Summary(
        tuple(tasks),
        scored.unseen,
        scored.seeds,
        scored.patients,
        tabulate_scores(scored, tasks),
        _joined(differences, DIFFERENCES),
        _joined(outcomes, OUTCOMES),
        tabulate_figures(results),
        rank_chains(scored, tasks),
        priors,
        {task.name: measure_loss(scored, task, AS_IT_IS) for task in tasks if plain},
        {f"{result.chain}, seed {result.seed}": result.failed for result in results if result.failed is not None},
    )


def _joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    rows = [row for table in tables for row in table.to_dict("records")]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def write_tables(summary: Summary, out: Path) -> None:
    """Write `scores`, `differences`, `outcomes` and `figures` as Parquet, and `tables.md` and `tables.tex`."""
    frames = {name: getattr(summary, name) for name in ("scores", "differences", "outcomes", "figures")}
    for name, frame in frames.items():
        with whole(out / f"{name}.parquet", overwrite=True) as part:
            frame.to_parquet(part, index=False)
    for name, text in (("tables.md", as_markdown(summary)), ("tables.tex", as_latex(summary))):
        with whole(out / name, overwrite=True) as part:
            part.write_text(text, encoding="utf-8")


def place_table(summary: Summary, where: str) -> tuple[list[str], list[list[str]]]:
    """Return head and rows: each method, single-source ones first, and its first score of each task at a place."""
    head = ["method", "target tiles", *(f"{task.name} ({task.scores[0]})" for task in summary.tasks)]
    rows = []
    for row in in_order(summary):
        cells = [row["method"], "needed" if row["needs_target"] else ""]
        rows.append(cells + [interval(summary.at(task, row["method"], where)) for task in summary.tasks])
    return head, rows


def all_tables(summary: Summary) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Return head and rows of every table, by its title."""
    return {
        "At unseen sites": place_table(summary, UNSEEN),
        "At the source": place_table(summary, SOURCE),
        "Differences": differences_table(summary),
        "Wins, ties and losses": outcomes_table(summary),
        "How far sites lie apart": figures_table(summary, APART),
        "What it costs": figures_table(summary, COSTS),
    }


def in_order(summary: Summary) -> list[dict[str, Any]]:
    """Return the methods' rows of figures: those that need one source before those that need target tiles."""
    found: list[dict[str, Any]] = summary.figures.to_dict("records")  # pyright: ignore[reportAssignmentType]
    return sorted(found, key=lambda row: bool(row["needs_target"]))


#: Columns of how far sites lie apart, and of costs.
APART = {
    "silhouette": "silhouette of sites",
    "site_above_chance": "site, above chance",
    "robustness": "robustness index",
    "margin": "CRoMa",
    "w2": "W2 squared",
    "w2_floor": "its floor",
    "class_w2": "within classes",
    "class_w2_floor": "its floor ",
    "rank": "effective rank",
}
COSTS = {
    "fit_seconds": "fit, s",
    "apply_seconds_per_1000": "1,000 tiles changed, s",
    "embed_seconds_per_1000": "1,000 tiles embedded, s",
    "read_seconds": "heads, s",
    "peak_gb": "memory, GB",
}


def figures_table(summary: Summary, columns: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of some figures of each method."""
    shown = {key: title for key, title in columns.items() if key in summary.figures}
    rows = [[str(row["method"]), *(_figure(key, float(str(row[key]))) for key in shown)] for row in in_order(summary)]
    return ["method", *(title.strip() for title in shown.values())], rows


def differences_table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of all differences, with adjusted p-values and the error removed."""
    head = ["task", "method", "against", "difference, unseen", "p (Holm)", "error removed"]
    rows = [
        [
            row["task"],
            row["method"],
            row["against"],
            interval(Estimate(row["difference"], row["low"], row["high"]), signed=True),
            "" if math.isnan(row["p"]) else f"{row['p']:.3f}",
            interval(Estimate(row["removed"], row["removed_low"], row["removed_high"])),
        ]
        for row in summary.differences.dropna(subset=["difference"]).to_dict("records")
    ]
    return head, rows


def outcomes_table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of at how many tasks and unseen sites each method wins, ties and loses."""
    return list(OUTCOMES), [[str(row[name]) for name in OUTCOMES] for row in summary.outcomes.to_dict("records")]


def as_markdown(summary: Summary) -> str:
    """Return all tables as Markdown."""
    parts = [text for title, table in all_tables(summary).items() for text in (f"## {title}", _markdown(*table))]
    if summary.failed:
        parts += ["## Failed", "\n".join(f"- {name}: {why}" for name, why in summary.failed.items()) + "\n"]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def as_latex(summary: Summary) -> str:
    """Return scores, differences and outcomes as LaTeX, for `booktabs`."""
    tables = all_tables(summary)
    titles = ("At unseen sites", "At the source", "Differences", "Wins, ties and losses")
    return "\n\n".join(_latex(*tables[title]) for title in titles) + "\n"


def interval(found: Estimate, *, signed: bool = False) -> str:
    """Return a figure with its interval, if it has one; a dash where there is no figure."""
    form = "+.3f" if signed else ".3f"
    if math.isnan(found.value):
        return "-"
    if found.low is None or found.high is None or math.isnan(found.low) or math.isnan(found.high):
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _figure(key: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if key in ("rank", *COSTS) else f"{value:.3f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _latex(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    body = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in rows]
    top = " & ".join(_escaped(cell) for cell in head) + r" \\"
    columns = "l" * len(head)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", top, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    )


def _escaped(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, "\\" + sign)
    return text
