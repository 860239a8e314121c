"""From figures to PASS, WARN or FAIL: a truth table on synthetic figures."""

import pytest

from histolatent.audit.result import Dose, Figure, NullResult, OperationResult, ProbeResult, Step
from histolatent.audit.verdict import Policy, judge, overall, skill

NULL = NullResult(apart="slide", pairs=100, median=0.25, p05=0.1, p95=0.6, same_label_median=None)
POLICY = Policy()


def operation(name: str = "blur", role: str = "must-ignore", *, graded: bool = True, unit: str = "um"):
    steps = [Step(severity=s, level=0.25 * s, pixels_sha256="") for s in range(1, 6)]
    return OperationResult(
        name=name,
        family="x",
        role=role,
        parameter="sigma",
        unit=unit,
        graded=graded,
        control=None,
        describes="",
        misleads="",
        steps=steps,
    )


def doses(name: str, auroc: Figure, *, severity: int = 3, displacement: float = 0.4) -> list[Dose]:
    """The figure at one severity; every other severity would pass."""
    fine = Figure(value=1, low=1, high=1)
    return [
        Dose(
            operation=name,
            severity=s,
            metrics={
                "auroc_null": auroc if s == severity else fine,
                "displacement": Figure(value=displacement if s == severity else 0),
            },
        )
        for s in range(1, 6)
    ]


def reading(target: str, value: float, low: float | None, high: float | None, chance: float = 0.5, **other):
    kind = "signal" if target == "label" else "leakage"
    figure = Figure(value=value, low=low, high=high)
    given = {"title": target, "classes": ["a", "b"], "tiles": 10, "folds": 2, **other}
    return ProbeResult(target=target, kind=kind, balanced_accuracy=figure, auroc=figure, chance=chance, **given)


def ask(name: str, **given):
    """Judge with what is given, and return the check of that name."""
    ask_with = {
        "policy": POLICY,
        "operations": [operation()],
        "null": NULL,
        "null_defined": True,
        "doses": doses("blur", Figure(value=1, low=1, high=1)),
        "selectivity": Figure(value=0.9, low=0.8, high=0.95),
        "probes": [],
        "leak": None,
        **given,
    }
    return next(check for check in judge(**ask_with) if check.name == name)


@pytest.mark.parametrize(
    ("value", "low", "high", "status"),
    [
        (0.97, 0.95, 0.99, "PASS"),
        (0.97, 0.949, 0.99, "WARN"),
        (0.85, 0.80, 0.90, "WARN"),
        (0.75, 0.70, 0.80, "WARN"),
        (0.75, 0.70, 0.799, "FAIL"),
        (0.30, 0.20, 0.40, "FAIL"),
        (0.96, None, None, "PASS"),
        (0.90, None, None, "WARN"),
        (0.79, None, None, "FAIL"),
    ],
)
def test_a_change_is_ignored_by_the_bounds_of_its_interval(value, low, high, status):
    figure = Figure(value=value, low=low, high=high)
    check = ask("ignores blur", doses=doses("blur", figure))
    assert check.status == status
    assert check.figure == figure
    assert check.threshold == "PASS if the lower bound is at least 0.95, FAIL if the upper is below 0.8"


def test_the_severity_and_the_thresholds_are_those_of_the_policy():
    bad = Figure(value=0.5, low=0.4, high=0.6)
    policy = Policy(severity=5, pass_auroc=0.4, fail_auroc=0.2)
    assert ask("ignores blur", doses=doses("blur", bad, severity=2)).status == "PASS"
    assert ask("ignores blur", doses=doses("blur", bad, severity=5), policy=policy).status == "PASS"
    stricter = Policy(severity=5)
    check = ask("ignores blur", doses=doses("blur", bad, severity=5, displacement=1.234), policy=stricter)
    assert check.status == "FAIL"
    assert check.sentence == (
        "blur (sigma 1.25 um) often moves tiles as far as unrelated tiles lie apart: displacement 1.23, "
        "P(below unrelated) 0.50 [0.40, 0.60]"
    )


def test_variants_are_named_by_their_number_and_a_missing_unit_leaves_no_gap():
    figure = Figure(value=0.99, low=0.98, high=1)
    variants = [operation("flip", graded=False, unit="variant")]
    sentence = ask("ignores flip", operations=variants, doses=doses("flip", figure)).sentence
    assert sentence.startswith("flip (sigma 0.75) stays closer")
    plain = [operation("jpeg", unit="")]
    assert ask("ignores jpeg", operations=plain, doses=doses("jpeg", figure)).sentence.startswith("jpeg (sigma 0.75) ")


def test_only_must_ignore_changes_are_judged_one_by_one():
    roles = [operation("a"), operation("b", "must-react"), operation("c", "control")]
    figure = Figure(value=0.1, low=0.1, high=0.1)
    every = [dose for name in "abc" for dose in doses(name, figure)]
    found = judge(POLICY, roles, NULL, True, every, None, [], None)
    assert [check.name for check in found] == [
        "null",
        "ignores a",
        "selectivity",
        "signal",
        "leaks less than it keeps",
    ]


@pytest.mark.parametrize(
    ("value", "low", "high", "status"),
    [
        (0.6, 0.501, 0.7, "PASS"),
        (0.6, 0.5, 0.7, "WARN"),
        (0.4, 0.3, 0.5, "WARN"),
        (0.4, 0.3, 0.499, "FAIL"),
        (0.5, 0.5, 0.5, "WARN"),
        (0.4, None, None, "FAIL"),
    ],
)
def test_selectivity_is_judged_against_one_half(value, low, high, status):
    check = ask("selectivity", selectivity=Figure(value=value, low=low, high=high))
    assert check.status == status
    assert "must-react at severity 5, nuisances at 3" in check.sentence


@pytest.mark.parametrize("nothing", [None, Figure(value=None)])
def test_without_selectivity_the_question_is_open(nothing):
    check = ask("selectivity", selectivity=nothing)
    assert (check.status, check.sentence) == ("UNDEFINED", "the suite has no must-react operation")


@pytest.mark.parametrize(
    ("value", "low", "high", "status"),
    [
        (0.7, 0.51, 0.8, "PASS"),
        (0.7, 0.5, 0.8, "WARN"),
        (0.51, 0.45, 0.53, "WARN"),
        (0.5, 0.45, 0.52, "FAIL"),
        (0.4, 0.3, 0.45, "FAIL"),
        (0.7, None, None, "PASS"),
    ],
)
def test_a_label_is_kept_where_it_is_read_above_chance(value, low, high, status):
    check = ask("keeps label", probes=[reading("label", value, low, high)])
    assert check.status == status
    assert "chance 0.50" in check.sentence


def test_chance_depends_on_the_number_of_classes():
    assert ask("keeps label", probes=[reading("label", 0.4, 0.3, 0.5, chance=0.25)]).status == "PASS"


def test_what_could_not_be_probed_is_undefined_and_says_why():
    reason = "'rare' occurs in one group only, so it cannot be tested on another"
    signal = reading("label", 0, None, None, reason=reason, title="diagnosis")
    leakage = reading("scanner", 0, None, None, reason="it has one value (A)")
    check = ask("keeps label", probes=[signal, leakage])
    assert (check.status, check.sentence) == ("UNDEFINED", f"diagnosis was not probed: {reason}")
    check = ask("leaks scanner", probes=[signal, leakage])
    assert (check.status, check.sentence) == ("UNDEFINED", "scanner was not probed: it has one value (A)")
    assert ask("leaks less than it keeps", probes=[signal, leakage]).status == "UNDEFINED"


def test_without_a_label_or_a_site_the_questions_are_open():
    assert ask("signal").sentence == "no label was given: what is kept is not known"
    check = ask("leaks less than it keeps", probes=[reading("label", 0.9, 0.8, 1.0)])
    assert check.status == "UNDEFINED"
    assert check.sentence == "no site, scanner or stain could be probed: what leaks is not known"
    check = ask("leaks less than it keeps", probes=[reading("site", 0.9, 0.8, 1.0)])
    assert check.status == "UNDEFINED"
    assert check.sentence == (
        "site is read with balanced accuracy 0.90 [0.80, 1.00] (chance 0.50), and there is no readable label to weigh "
        "it against"
    )


@pytest.mark.parametrize(
    ("value", "low", "high", "status", "words"),
    [
        (-0.2, -0.3, -0.01, "PASS", "is less readable than"),
        (-0.2, -0.3, 0.0, "WARN", "is about as readable as"),
        (0.0, 0.0, 0.0, "WARN", "is about as readable as"),
        (0.2, 0.01, 0.3, "WARN", "is more readable than"),
    ],
)
def test_a_leak_passes_only_where_it_is_less_readable_than_the_label(value, low, high, status, words):
    probes = [reading("label", 0.8, 0.7, 0.9), reading("site", 0.6, 0.5, 0.7), reading("stain", 0.7, 0.6, 0.8)]
    check = ask("leaks less than it keeps", probes=probes, leak=Figure(value=value, low=low, high=high))
    assert check.status == status
    assert f"stain {words} label" in check.sentence  # the worst leak is named


def test_the_worst_leak_is_that_of_most_skill_not_of_most_accuracy():
    probes = [
        reading("label", 0.8, 0.7, 0.9),
        reading("site", 0.60, 0.5, 0.7, chance=0.2),  # half the way
        reading("stain", 0.65, 0.6, 0.8, chance=0.5),  # less than a third
    ]
    check = ask("leaks less than it keeps", probes=probes, leak=Figure(value=0, low=-1, high=1))
    assert check.sentence.startswith("site is about as readable as label")


def test_a_constant_fails_whatever_else_is_said_of_it():
    flat = NULL.model_copy(update={"median": 0.0})
    perfect = doses("blur", Figure(value=1, low=1, high=1))
    checks = judge(POLICY, [operation()], flat, False, perfect, None, [reading("label", 0.9, 0.8, 1.0)], None)
    assert overall(checks) == "FAIL"
    assert checks[0].name == "null"
    assert checks[0].status == "FAIL"
    assert "that it does not move is worth nothing" in checks[0].sentence
    assert not [check for check in checks if check.name.startswith("ignores") or check.name == "selectivity"]


def test_without_pixels_robustness_is_open():
    check = ask("robustness", doses=[], operations=[])
    assert (check.status, check.sentence) == ("UNDEFINED", "precomputed vectors: no tile could be perturbed")


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (["PASS", "PASS"], "PASS"),
        (["PASS", "UNDEFINED"], "WARN"),
        (["PASS", "WARN"], "WARN"),
        (["WARN", "FAIL", "PASS"], "FAIL"),
        (["UNDEFINED", "FAIL"], "FAIL"),
    ],
)
def test_the_verdict_is_the_worst_answer(statuses, verdict):
    check = ask("null")
    assert overall([check.model_copy(update={"status": status}) for status in statuses]) == verdict


def test_skill_runs_from_chance_to_perfect():
    assert (skill(0.25, 0.25), skill(1.0, 0.25), skill(0.625, 0.25)) == (0, 1, 0.5)
    assert skill(0.1, 0.25) < 0  # never clamped
