"""`histolatent benchmark`: from a cohort to a page, and what it refuses."""

import pandas as pd
import pytest
import typer

COHORT = "phantom:sites=3,patients=6,slides=1,tiles_per_site=60,tile_px=48"


@pytest.mark.slow
def test_a_benchmark_ends_in_a_page_and_tables(run, tmp_path):
    out = tmp_path / "out"
    words = (COHORT, "--train-site", "source", "--on", "toy:od-moments", "--methods", "none,leace")
    words = (*words, "--tasks", "subtype,tumour", "--seeds", 1, "--workers", 0, "--out", out)
    made = run("benchmark", *words)
    assert made.exit_code == 0, made.output
    assert "subtype: without a method balanced accuracy is" in made.output
    page = (out / "report.html").read_text()
    assert "leace" in page and page.count("<svg") == 2
    scores = pd.read_parquet(out / "scores.parquet")
    assert set(scores["method"]) == {"none", "leace"} and set(scores["where"]) >= {"source", "unseen"}
    assert "| leace | needed |" in (out / "tables.md").read_text() and (out / "tables.tex").exists()
    again = run("benchmark", *words)
    assert again.exit_code == 0 and "2 of 2 done" in again.output


def test_names_are_listed(run):
    assert "macenko" in run("benchmark", COHORT, "--methods", "list", "--out", "x").output
    assert "mitoses" in run("benchmark", COHORT, "--tasks", "list", "--out", "x").output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--preset", "quik"), "did you mean 'quick'"),
        (("--methods", "none,macenco"), "did you mean 'macenko'"),
        (("--methods", "combat", "--single-source"), "only one source is allowed"),
        (("--tasks", "mitoses=x"), "has no column"),
        (("--train-site", "elsewhere"), "there is no such site"),
        (("--objects", "nowhere.csv"), "cannot be read"),
        (("--set", "gan.step=4"), "did you mean 'steps'"),
        (("--set", "gan.width=1.5"), "the plan of a GAN is not valid: width: "),
        (("--set", "gan.cycle=0"), "the plan of a GAN is not valid: cycle: "),
        (("--virtual-sites", "2"), "for a cohort of one site"),
    ],
)
def test_what_is_refused(fails, tmp_path, words, said):
    code, line = fails("benchmark", COHORT, *words, "--out", tmp_path / "out")
    assert code == 2 and said in line


def test_methods_of_a_preset_that_cannot_be_had_are_left_out_and_said(run, monkeypatch, tmp_path):
    asked = []

    def stop(cohort, plan, out, **options):
        asked.extend(chain.name for chain in plan.chains)
        raise typer.Exit

    monkeypatch.setattr("histolatent.benchmark.run.run_benchmark", stop)
    made = run("benchmark", COHORT, "--preset", "quick", "--single-source", "--out", tmp_path / "out")
    assert "combat is left out: it needs tiles of the unseen sites" in made.output
    assert asked == ["none", "hed-strong", "macenko", "linear", "compact"]
