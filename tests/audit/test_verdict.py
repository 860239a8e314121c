"""From figures to PASS, WARN or FAIL: a truth table on synthetic figures."""

import pytest

from histolatent.audit.policy import Band, Policy, Requirement
from histolatent.audit.result import (
    Dose,
    EncoderResult,
    Figure,
    NullResult,
    OperationResult,
    ProbeResult,
    SelectivityResult,
    SpaceResult,
    Step,
)
from histolatent.audit.verdict import by_family, judge, judged, overall

NULL = NullResult(apart="slide", pairs=100, defined=True, median=0.25, p05=0.1, p95=0.6, same_label_median=None)
POLICY = Policy()
FINE = Figure(value=1, low=1, high=1)


def operation(name: str = "blur", role: str = "must-ignore", *, graded: bool = True, unit: str = "um"):
    steps = [Step(severity=s, level=0.25 * s, pixels_sha256="") for s in range(1, 6)]
    return OperationResult(
        name=name,
        family="must-react" if role == "must-react" else "acquisition",
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
    return [
        Dose(
            operation=name,
            severity=s,
            metrics={
                "auroc_null": auroc if s == severity else FINE,
                "displacement": Figure(value=displacement if s == severity else 0),
            },
        )
        for s in range(1, 6)
    ]


def reading(target: str, value: float, low: float | None, high: float | None, chance: float = 0.5, **other):
    kind = "signal" if target == "label" else "leakage"
    figure = Figure(value=value, low=low, high=high)
    given = {"title": target, "classes": ["a", "b"], "tiles": 10, "folds": 2, **other}
    figures = {"balanced_accuracy": figure, "auroc": figure, "neighbours": figure}
    return ProbeResult(target=target, kind=kind, chance=chance, **figures, **given)


def encoder(**given) -> EncoderResult:
    """An encoder that was asked nothing, but for what is given."""
    lists = ("contract", "doses", "responses", "equivariance", "flips", "parts", "selectivities")
    lists += (
        "selectivity_against",
        "probes",
        "transfer",
        "space",
        "batches",
        "factors",
        "sensitivity",
        "checks",
        "families",
        "worst",
    )
    plain = {"name": "e", "card": {}, "identity": "", "baseline": False, "null": NULL, "verdict": "UNDEFINED"}
    nothing = {"selectivity": None, "leak": None, "discordance": None}
    return EncoderResult(**{**{name: [] for name in lists}, **plain, **nothing, **given})


def answers(policy: Policy = POLICY, operations: list[OperationResult] | None = None, **given):
    """Judge an encoder of one must-ignore and one must-react operation, changed by what is given."""
    operations = [operation(), operation("erased", "must-react")] if operations is None else operations
    fine = [dose for item in operations for dose in doses(item.name, FINE)]
    selective = Figure(value=0.9, low=0.8, high=0.95)
    return judge(encoder(**{"doses": fine, "selectivity": selective, **given}), operations, policy)


def ask(name: str, **given):
    """Judge with what is given, and return the check of that name."""
    return next(check for check in answers(**given) if check.name == name)


@pytest.mark.parametrize(
    ("value", "low", "high", "status"),
    [
        (0.97, 0.95, 0.99, "PASS"),
        (0.97, 0.949, 0.99, "WARN"),
        (0.85, 0.80, 0.90, "WARN"),
        (0.75, 0.70, 0.80, "WARN"),
        (0.75, 0.70, 0.799, "FAIL"),
        (0.30, 0.20, 0.40, "FAIL"),
        (0.96, None, None, "UNDEFINED"),
        (0.79, None, None, "UNDEFINED"),
    ],
)
def test_a_change_is_ignored_by_the_bounds_of_its_interval(value, low, high, status):
    figure = Figure(value=value, low=low, high=high)
    check = ask("ignores blur", doses=doses("blur", figure))
    assert check.status == status
    assert check.figure == figure
    assert check.threshold == "PASS if the lower bound is at least 0.95, FAIL if the upper is below 0.8"


def test_words_say_whether_more_tissue_could_change_them():
    said = {
        high: ask("ignores blur", doses=doses("blur", Figure(value=0.9, low=0.85, high=high))) for high in (0.93, 0.97)
    }
    assert "is ignored only in part" in said[0.93].sentence and "is not surely ignored" in said[0.97].sentence
    words = {0.45: "moves tiles less far than most nuisances do", 0.55: "does not surely move tiles further"}
    for high, words_of_it in words.items():
        share = Figure(value=0.4, low=0.35, high=high)
        chosen = SelectivityResult(operation="erased", share=share, ratio=Figure(value=0.9, low=0.8, high=1.1))
        check = ask("reacts to erased", selectivities=[chosen])
        assert check.status == "WARN" and words_of_it in check.sentence


def test_the_severity_and_the_thresholds_are_those_of_the_policy():
    bad = Figure(value=0.5, low=0.4, high=0.6)
    policy = Policy(severity=5, ignore=Band(pass_at=0.4, fail_below=0.2))
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


def test_a_family_and_an_operation_may_have_bands_of_their_own():
    figure = Figure(value=0.9, low=0.88, high=0.92)
    given = {"doses": doses("blur", figure)}
    assert ask("ignores blur", **given).status == "WARN"
    mild = {"acquisition": Band(pass_at=0.85, fail_below=0.5)}
    assert ask("ignores blur", policy=Policy(families=mild), **given).status == "PASS"
    strict = {"jpeg": Band(pass_at=1, fail_below=0.99)}
    named = [operation("jpeg")]
    policy = Policy(families=mild, operations=strict)
    check = ask("ignores jpeg", policy=policy, operations=named, doses=doses("jpeg", figure))
    assert check.status == "FAIL"


def test_each_role_has_its_questions():
    roles = [operation("a"), operation("b", "must-react"), operation("c", "control")]
    chosen = SelectivityResult(operation="b", share=Figure(value=0.9, low=0.8, high=1), ratio=Figure(value=2))
    found = answers(operations=roles, selectivities=[chosen])
    assert [check.name for check in found] == [
        "unrelated tiles differ",
        "ignores a",
        "reacts to b",
        "selectivity",
        "signal",
        "leaks less than it keeps",
    ]
    assert [check.family for check in found[1:4]] == ["acquisition", "must-react", "must-react"]


@pytest.mark.parametrize(
    ("value", "low", "high", "status"),
    [(0.7, 0.51, 0.8, "PASS"), (0.5, 0.4, 0.6, "WARN"), (0.12, 0.05, 0.2, "WARN"), (0.02, 0.0, 0.05, "FAIL")],
)
def test_an_operation_that_destroys_biology_has_to_be_noticed(value, low, high, status):
    share = Figure(value=value, low=low, high=high)
    chosen = SelectivityResult(operation="erased", share=share, ratio=Figure(value=1))
    check = ask("reacts to erased", selectivities=[chosen])
    assert (check.status, check.figure) == (status, share)


@pytest.mark.parametrize(
    ("bounds", "figure", "status"),
    [
        ({"at_least": 0.2}, (0.3, 0.2, 0.4), "PASS"),
        ({"at_least": 0.2}, (0.3, 0.1, 0.4), "WARN"),
        ({"at_least": 0.2}, (0.1, 0.0, 0.19), "FAIL"),
        ({"at_least": 0.2, "fail_below": 0.1}, (0.1, 0.0, 0.19), "WARN"),
        ({"at_most": 0.2}, (0.1, 0.0, 0.2), "PASS"),
        ({"at_most": 0.2}, (0.3, 0.1, 0.4), "WARN"),
        ({"at_most": 0.2}, (0.3, 0.21, 0.4), "FAIL"),
        ({"at_most": 0.2, "fail_above": 0.3}, (0.3, 0.21, 0.4), "WARN"),
        ({"at_least": 0.2}, (0.3, None, None), "PASS"),
        ({"at_least": 0.2}, (None, None, None), "UNDEFINED"),
    ],
)
def test_a_requirement_is_judged_by_bounds(bounds, figure, status):
    value = Figure(**dict(zip(("value", "low", "high"), figure, strict=True)))
    space = [SpaceResult(metric="margin_median", column="site", figure=value, chance=0, tiles=9)]
    policy = Policy(require=(Requirement(figure="margin_median", column="site", why="near", **bounds),))
    name = f"requires robustness margin, column site {policy.require[0].side}"
    found = ask(name, policy=policy, space=space)
    assert (found.status, found.family) == (status, "required")
    assert "near" in found.sentence
    if value.value is not None:
        bound = "lower" if "at_least" in bounds else "upper"
        assert found.threshold.startswith(f"PASS if the {bound} bound is {policy.require[0].side}, FAIL if the ")
        assert found.threshold.endswith(f" {list(bounds.values())[-1]:g}")


def test_of_several_figures_the_worst_is_judged_and_named():
    figures = {
        "stain": Figure(value=-0.1, low=-0.2, high=-0.05),
        "site": Figure(value=0.5, low=0.4, high=0.6),
        "scanner": Figure(value=-0.5, low=-0.6, high=-0.4),
    }
    space = [
        SpaceResult(metric="margin_median", column=name, figure=figure, chance=0, tiles=9)
        for name, figure in figures.items()
    ]
    policy = Policy(require=(Requirement(figure="margin_median", at_least=0),))
    found = ask("requires robustness margin at least 0", policy=policy, space=space)
    assert found.status == "FAIL"
    assert found.sentence == "robustness margin, column scanner: -0.50 [-0.60, -0.40]"


def test_of_several_figures_one_that_is_not_defined_leaves_the_question_open():
    figures = {"site": Figure(value=0.5, low=0.4, high=0.6), "scanner": Figure(value=None)}
    space = [
        SpaceResult(metric="margin_median", column=name, figure=figure, chance=0, tiles=9)
        for name, figure in figures.items()
    ]
    policy = Policy(require=(Requirement(figure="margin_median", at_least=0.45),))
    name = "requires robustness margin at least 0.45"
    found = ask(f"{name}, everywhere", policy=policy, space=space)
    assert (found.status, found.sentence) == ("UNDEFINED", "robustness margin: not defined at column scanner")
    assert ask(name, policy=policy, space=space).status == "WARN"
    alone = ask(name, policy=policy, space=space[1:])
    assert (alone.status, alone.sentence) == ("UNDEFINED", "robustness margin: not defined at column scanner")


def test_a_bound_is_not_shown_as_the_threshold_that_it_misses():
    space = [
        SpaceResult(
            metric="margin_median", column="site", figure=Figure(value=0.1, low=-0.0037, high=0.22), chance=0, tiles=9
        )
    ]
    policy = Policy(require=(Requirement(figure="margin_median", at_least=0),))
    found = ask("requires robustness margin at least 0", policy=policy, space=space)
    assert found.sentence == "robustness margin, column site: 0.100 [-0.004, 0.220]"


def test_what_was_not_measured_is_said_with_what_was():
    figure = Figure(value=0.5, low=0.4, high=0.6)
    space = [SpaceResult(metric="margin_median", column="site", figure=figure, chance=0, tiles=9)]
    policy = Policy(require=(Requirement(figure="margin_median", column="scanner", at_least=0),))
    found = ask("requires robustness margin, column scanner at least 0", policy=policy, space=space)
    assert found.status == "UNDEFINED"
    assert found.sentence == "robustness margin, column scanner was not measured: there is column site"
    found = ask("requires robustness margin, column scanner at least 0", policy=policy)
    assert found.sentence == "robustness margin, column scanner was not measured"


def test_a_family_that_the_policy_names_has_to_be_among_the_operations():
    band = Band(pass_at=0.5, fail_below=0)
    policy = Policy(families={"stain": band, "acquisition": band}, operations={"jpeg": band, "blur": band})
    found = {check.name: check for check in answers(policy=policy)}
    for name, family in (("ignores stain changes", "stain"), ("ignores jpeg", "acquisition")):
        assert (found[name].status, found[name].family) == ("UNDEFINED", family)
        assert "none was among the operations" in found[name].sentence
    assert "ignores acquisition changes" not in found
    assert found["ignores blur"].status == "PASS"


def test_a_figure_that_is_not_defined_is_no_fail():
    assert ask("ignores blur", doses=doses("blur", Figure(value=None))).status == "UNDEFINED"
    chosen = SelectivityResult(operation="erased", share=Figure(value=None), ratio=Figure(value=None))
    assert ask("reacts to erased", selectivities=[chosen]).status == "UNDEFINED"
    chosen = chosen.model_copy(update={"share": Figure(value=0.9, low=0.8, high=1)})
    assert ask("reacts to erased", selectivities=[chosen]).status == "PASS"


def test_a_family_has_the_worst_of_its_answers():
    check = ask("unrelated tiles differ")
    one, two, three = (
        check.model_copy(update={"family": family, "status": status, "sentence": f"{family} {status}"})
        for family, status in (("stain", "PASS"), ("stain", "FAIL"), ("signal", "PASS"))
    )
    found = {item.family: (item.status, item.sentence) for item in by_family([one, two, two, three, three])}
    assert found == {"stain": ("FAIL", "stain FAIL (and 1 more)"), "signal": ("PASS", "all 2 hold")}


def test_a_result_carries_its_answers():
    found = judged(encoder(doses=doses("blur", Figure(value=0, low=0, high=0))), [operation()], POLICY)
    assert found.verdict == "FAIL"
    assert {"acquisition", "yardstick", "signal", "leakage"} <= {item.family for item in found.families}


@pytest.mark.parametrize(
    ("value", "low", "high", "status"),
    [
        (0.6, 0.501, 0.7, "PASS"),
        (0.6, 0.5, 0.7, "WARN"),
        (0.4, 0.3, 0.5, "WARN"),
        (0.4, 0.3, 0.499, "FAIL"),
        (0.5, 0.5, 0.5, "WARN"),
        (0.4, None, None, "UNDEFINED"),
    ],
)
def test_selectivity_is_judged_against_one_half(value, low, high, status):
    check = ask("selectivity", selectivity=Figure(value=value, low=low, high=high))
    assert check.status == status
    assert "must-react at severity 5, nuisances at 3" in check.sentence


@pytest.mark.parametrize("nothing", [None, Figure(value=None)])
def test_without_selectivity_the_question_is_open(nothing):
    check = ask("selectivity", selectivity=nothing)
    assert (check.status, check.sentence) == (
        "UNDEFINED",
        "the suite has no must-react operation beside a must-ignore one",
    )


@pytest.mark.parametrize(
    ("value", "low", "high", "status"),
    [
        (0.7, 0.51, 0.8, "PASS"),
        (0.7, 0.5, 0.8, "WARN"),
        (0.51, 0.45, 0.53, "WARN"),
        (0.5, 0.45, 0.52, "FAIL"),
        (0.4, 0.3, 0.45, "FAIL"),
        (0.7, None, None, "UNDEFINED"),
    ],
)
def test_a_label_is_kept_where_it_is_read_above_chance(value, low, high, status):
    check = ask("keeps label", probes=[reading("label", value, low, high)])
    assert check.status == status
    assert ("cannot be judged, for want of an interval" if low is None else "chance 0.50") in check.sentence


def test_the_weakest_of_what_destroys_biology_is_set_against_each_family():
    shares = {
        ("nuclei-erased", "geometric"): (0.1, 0.05, 0.2),
        ("tissue-swap", "geometric"): (0.9, 0.8, 1.0),
        ("nuclei-erased", "stain"): (0.6, 0.4, 0.7),
        ("nuclei-erased", "pair"): (0.6, 0.55, 0.7),
        ("nuclei-erased", "artefact"): (0.0, 0.0, 0.0),
    }
    found = [
        {"operation": operation, "family": family, "share": Figure(value=value, low=low, high=high)}
        for (operation, family), (value, low, high) in shares.items()
    ]
    asked = {check.name: check for check in answers(selectivity_against=found) if "against" in check.name}
    assert {name.split()[-1]: check.status for name, check in asked.items()} == {
        "geometric": "FAIL",
        "stain": "WARN",
        "pair": "PASS",
    }
    geometric = asked["selectivity against geometric"]
    assert geometric.family == "must-react"
    assert geometric.sentence == (
        "nuclei-erased moves tiles less far than geometric changes do: P(further than one of them) 0.10 [0.05, 0.20], "
        "ties half"
    )


def test_a_label_has_to_be_above_what_dealt_labels_give():
    probes = [reading("label", 0.6, 0.55, 0.65, chance_band=(0.4, 0.61))]
    check = ask("keeps label", probes=probes)
    assert check.status == "WARN"
    assert "chance 0.50 (up to 0.61 with labels dealt anew)" in check.sentence
    assert ask("keeps label", probes=[reading("label", 0.6, 0.55, 0.65, chance_band=(0.4, 0.59))]).status == "PASS"


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
    flat = NULL.model_copy(update={"median": 0.0, "defined": False})
    checks = answers(null=flat, probes=[reading("label", 0.9, 0.8, 1.0)])
    assert overall(checks) == "FAIL"
    assert checks[0].name == "unrelated tiles differ"
    assert checks[0].status == "FAIL"
    assert "that it does not move is worth nothing" in checks[0].sentence
    assert not [check for check in checks if check.name.startswith("ignores") or check.name == "selectivity"]


def test_without_pixels_robustness_is_open():
    check = ask("robustness", doses=[])
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
    check = ask("unrelated tiles differ")
    assert overall([check.model_copy(update={"status": status}) for status in statuses]) == verdict
