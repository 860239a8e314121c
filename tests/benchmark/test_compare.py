"""Comparisons: paired over patients and seeds, adjusted, and what chance alone would say."""

import numpy as np
import pandas as pd
import pytest

from histolatent.benchmark.cohort import UNSEEN
from histolatent.benchmark.compare import (
    Scored,
    best_prior,
    count_outcomes,
    rank_chains,
    score_results,
    tabulate_differences,
    tabulate_scores,
)
from histolatent.benchmark.run import NOTHING, Result
from histolatent.benchmark.tables import as_latex, as_markdown, summarise_benchmark, write_tables
from histolatent.benchmark.tasks import TASKS
from histolatent.errors import InputError
from histolatent.report.benchmark import cliques, write_benchmark

TASK = TASKS["subtype"]


def result(chain, seed, right, *, needs_target=False, patients=12, tiles=20, noise=0.0):
    """A chain that reads the share `right` of tiles at unseen sites, patients apart by `noise`; all of the source."""
    random, rows = np.random.default_rng([seed, *chain.encode()]), []
    for site, share, first in (("source", 0.95, 0), ("b", right, patients), ("c", right, 2 * patients)):
        for patient in range(patients):
            own = np.clip(share + noise * random.normal(), 0, 1)
            truth = random.integers(2, size=tiles)
            hit = random.random(tiles) < own
            rows.append(
                pd.DataFrame(
                    {
                        "task": TASK.name,
                        "site": site,
                        "unit": np.arange(tiles) + tiles * (first + patient),
                        "group": first + patient,
                        "truth": truth,
                        "predicted": np.where(hit, truth, 1 - truth),
                        "score": 0.5,
                    }
                )
            )
    return Result(chain, seed, needs_target, pd.concat(rows, ignore_index=True), {"rank": 9.0, "fit_seconds": 1.0})


def study(**shares):
    return [
        result(name.replace("_", "+"), seed, share, needs_target=name == "combat", noise=0.05)
        for seed in range(3)
        for name, share in shares.items()
    ]


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not():
    found = study(none=0.6, macenko=0.6, compact=0.85, combat=0.35)
    scored = score_results(found, [TASK])
    table = tabulate_differences(scored, TASK, "none").set_index("method")
    assert table.loc["compact", "low"] > 0.15 and table.loc["compact", "p"] < 0.05
    assert table.loc["compact", "removed"] == pytest.approx(0.6, abs=0.1)
    assert table.loc["macenko", "low"] < 0 < table.loc["macenko", "high"] and table.loc["macenko", "p"] > 0.1
    assert table.loc["combat", "high"] < 0
    wins = count_outcomes(scored, [TASK], {TASK.name: "none"}, "none").set_index("method")
    assert wins.loc["compact"].tolist()[1:] == [2, 0, 0] and wins.loc["combat", "losses"] == 2
    assert best_prior(scored, TASK, found) in ("none", "macenko")
    ranks = rank_chains(scored, [TASK])
    assert ranks.blocks == 2 and ranks.mean["compact"] == 1 and ranks.mean["combat"] == 4


def test_the_same_chain_under_two_names_does_not_differ():
    one = study(none=0.7)
    both = one + [Result("twin", r.seed, False, r.rows, r.figures) for r in one]
    scored = score_results(both, [TASK])
    row = tabulate_differences(scored, TASK, "none").iloc[0]
    assert row["difference"] == row["low"] == row["high"] == 0 and row["p"] == 1


def test_intervals_are_over_patients_and_seeds_and_not_over_tiles():
    few = [result(name, seed, 0.7, patients=4, tiles=200, noise=0.2) for seed in range(5) for name in ("none", "x")]
    many = [result(name, seed, 0.7, patients=40, tiles=20, noise=0.2) for seed in range(5) for name in ("none", "x")]
    widths = []
    for found in (few, many):
        scored = score_results(found, [TASK])
        estimate = scored.figure(TASK.name, TASK.scores[0], [("none", UNSEEN)]).estimate()
        widths.append(estimate.high - estimate.low)
    assert widths[0] > 2 * widths[1]


@pytest.mark.slow
def test_chance_alone_is_called_a_difference_about_as_often_as_it_says():
    """Two chains that differ by luck: of 120 studies, about one in twenty excludes 0."""
    wrong = 0
    for trial in range(120):
        found = [
            result(name, 10_000 * trial + 100 * k + seed, 0.7, patients=10, tiles=6, noise=0.1)
            for seed in range(2)
            for k, name in enumerate(("none", "x"))
        ]
        found = [Result(r.chain, r.seed % 100, False, r.rows, r.figures) for r in found]
        scored = score_results(found, [TASK], resamples=400)
        row = tabulate_differences(scored, TASK, "none").iloc[0]
        wrong += not row["low"] <= 0 <= row["high"]
    assert wrong <= 12  # 0.05 of 120 is 6, its standard deviation 2.4


def test_failed_cells_are_left_out_and_said(tmp_path):
    found = study(none=0.6, compact=0.8)
    found.append(Result("cyclegan", 0, True, NOTHING, {}, "a GAN makes the same of every tile"))
    summary = summarise_benchmark(found, [TASK])
    assert summary.failed == {"cyclegan, seed 0": "a GAN makes the same of every tile"}
    text, latex = as_markdown(summary), as_latex(summary)
    assert "makes the same of every tile" in text and "| cyclegan | needed | - |" in text
    assert text.index("| compact |") < text.index("| cyclegan |")
    assert latex.count(r"\toprule") == 4 and r"\begin{tabular}" in latex
    assert "best is compact (+0." in summary.findings()[0] and "| compact | none | 2 | 0 | 0 |" in text
    write_benchmark(summary, tmp_path / "report.html", name="<cohort>")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;cohort&gt;" in page and "<svg" in page and "makes the same of every tile" in page
    with pytest.raises(InputError, match=r"every cell of the benchmark failed.*same of every tile"):
        score_results(found[-1:], [TASK])


def found_in(results):
    return summarise_benchmark(results, [TASK]).findings()[0]


def test_it_says_where_nothing_is_needed_and_where_nothing_helps():
    assert "none is needed: no more than chance is lost" in found_in(study(none=0.95, macenko=0.95))
    assert "by more than chance: none helps" in found_in(study(none=0.7, macenko=0.7))


def test_methods_that_need_target_tiles_are_named_apart():
    said = found_in(study(none=0.6, macenko=0.75, combat=0.9, ot=0.3))
    assert "; best is macenko (+0." in said and "; of those that need target tiles, best is combat (+0." in said
    assert said.endswith("worse than nothing: ot.")


def test_a_finding_is_one_after_adjustment():
    """Of six methods, one leaves 0 out of its interval; by Holm it is not called better."""
    found = study(none=0.6, **{f"m{k}": 0.6 for k in range(5)}, lucky=0.67)
    rows = summarise_benchmark(found, [TASK]).differences.query("against == 'none' and method == 'lucky'")
    assert rows["low"].item() > 0 and rows["p"].item() > 0.05
    assert "best is" not in found_in(found)


def test_without_none_or_a_prior_there_is_nothing_to_compare_with(tmp_path):
    only = summarise_benchmark(study(compact=0.8, linear=0.7), [TASK])
    assert not len(only.differences) and not len(only.outcomes) and only.findings() == []
    prior = summarise_benchmark(study(compact=0.8, macenko=0.6), [TASK])
    assert set(prior.differences["against"]) == {"macenko"} and set(prior.outcomes["against"]) == {"best prior"}
    for summary in (only, prior):
        write_tables(summary, tmp_path)
        write_benchmark(summary, tmp_path / "report.html", name="cohort")


def test_where_none_failed_every_time_the_rest_is_compared(tmp_path):
    found = [Result("none", seed, False, NOTHING, {}, "no memory") for seed in range(3)]
    summary = summarise_benchmark(found + study(compact=0.8, macenko=0.6), [TASK])
    assert summary.findings() == [] and set(summary.differences["against"]) == {"macenko"}
    write_tables(summary, tmp_path)
    write_benchmark(summary, tmp_path / "report.html", name="cohort")


def test_a_seed_that_failed_is_left_out_of_both_sides():
    found = study(none=0.6, macenko=0.6)
    spoilt = [
        result("none", r.seed, 0.05) if (r.chain, r.seed) == ("none", 0) else r
        for r in found
        if (r.chain, r.seed) != ("macenko", 0)
    ]
    spoilt.append(Result("macenko", 0, False, NOTHING, {}, "failed"))
    row = tabulate_differences(score_results(spoilt, [TASK]), TASK, "none").iloc[0]
    others = [r for r in found if r.seed]
    paired = tabulate_differences(score_results(others, [TASK]), TASK, "none").iloc[0]
    assert row["difference"] == pytest.approx(paired["difference"])


def test_an_interval_at_a_site_is_of_the_patients_there():
    """Two of the patients are at one site: its interval is that of two, however many are elsewhere."""
    found = study(none=0.7)
    for r in found:
        r.rows.drop(r.rows.index[(r.rows["site"] == "b") & (r.rows["group"] >= 14)], inplace=True)
    scored = score_results(found, [TASK])
    figure = scored.figure(TASK.name, TASK.scores[0], [("none", "b")])
    assert figure.patients == 2 and scored.patients == 26
    table = tabulate_scores(scored, [TASK]).set_index(["score", "where"]).loc[TASK.scores[0]]
    widths = table["high"] - table["low"]
    assert widths["b"] > 2 * widths["c"]


@pytest.mark.parametrize(("seeds", "least", "most"), [(2, 0.84, 0.99), (5, 0.9, 0.99)])
@pytest.mark.parametrize("apart", [0.3, 1.0, 3.0])
def test_intervals_know_how_few_seeds_there_are(seeds, apart, least, most):
    """Scores that differ by patient and by seed: how often 95 % intervals hold what is true, in 300 studies."""
    random, patients, draws, held = np.random.default_rng(0), 12, 300, 0
    for _ in range(300):
        own = random.normal(size=(patients, 1)) + apart * random.normal(size=(1, seeds))
        counts = np.concatenate(
            [np.ones((1, patients)), random.multinomial(patients, [1 / patients] * patients, draws)]
        )
        values = {("t", "s"): (counts @ own / patients).T[None, :, None]}
        scored = Scored(
            ("none",), tuple(range(seeds)), ("b",), values, {("t", "b"): frozenset(range(patients))}, patients
        )
        found = scored.figure("t", "s", [("none", UNSEEN)]).estimate()
        held += found.low <= 0 <= found.high
    assert least <= held / 300 <= most


def test_bars_join_what_is_near():
    assert cliques([1.0, 1.5, 2.4, 4.0], 1.2) == [(0, 1), (1, 2)]
    assert cliques([1.0, 3.0, 5.0], 1.0) == []
    assert cliques([1.0, 1.1, 1.2], 1.0) == [(0, 2)]
