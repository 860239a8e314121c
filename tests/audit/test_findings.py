"""Sentences that must be true of the figures they are made from."""

import re

from histolatent.audit.findings import answer, candidates, find, leading
from histolatent.audit.result import Comparison, Crossing, Figure
from histolatent.audit.verdict import by_family


def with_encoders(result, encoders, **more):
    return result.model_copy(update={"encoders": encoders, "comparisons": [], **more})


def named(result, name):
    return next(item for item in result.encoders if item.name == name)


def compared(
    first, second, difference, better, *, metric="balanced_accuracy", column=None, operation=None, family="signal"
):
    return Comparison(
        first=first,
        second=second,
        metric=metric,
        operation=operation,
        column=column,
        family=family,
        tiles=60,
        difference=Figure(value=difference, low=difference - 0.1, high=difference + 0.1),
        p=0.01,
        p_holm=0.01 if better else 0.5,
        p_bh=0.02,
        better=better,
    )


def pair(result, verdicts=("WARN", "WARN")):
    """Two encoders that differ in name and verdict only."""
    moments = named(result, "toy:od-moments")
    return [moments.model_copy(update={"name": name, "verdict": v}) for name, v in zip("ab", verdicts, strict=True)]


def test_findings_of_a_real_audit(audited):
    found = audited.findings
    assert found == find(audited)
    assert found[0].startswith("Verdicts: ")
    for item in audited.encoders:
        assert re.search(rf"{item.verdict}: [^;]*{re.escape(item.name)}", found[0])
    assert all(sentence.endswith(".") and ".." not in sentence for sentence in found)
    assert all("  " not in sentence and "None" not in sentence.replace("None of", "") for sentence in found)
    parts = answer(audited)
    assert [*parts.which, *parts.why, *parts.next] == found
    assert parts.which and parts.why and parts.next
    assert len(parts.why) <= 9 and len(parts.next) <= 5


def test_baselines_are_no_candidates_unless_there_is_nothing_else(audited):
    assert all(not item.baseline for item in candidates(audited))
    baseline = [item for item in audited.encoders if item.baseline]
    assert candidates(with_encoders(audited, baseline)) == baseline


def test_the_best_verdict_leads(audited):
    a, b = pair(audited, ("FAIL", "WARN"))
    assert leading([a, b]) == [b]
    assert leading([a]) == [a]
    said = answer(with_encoders(audited, [a, b])).which[1]
    assert said == "b is the only encoder that fails no check."
    a = a.model_copy(update={"verdict": "PASS"})
    assert answer(with_encoders(audited, [a, b])).which[1] == "a is the only encoder that passes every check."


def test_without_a_decided_comparison_no_encoder_is_called_better(audited):
    open_ = [compared("a", "b", 0.3, None, column="label")]
    found = answer(with_encoders(audited, pair(audited)).model_copy(update={"comparisons": open_}))
    assert "No difference between a and b is decided on these tiles (1 paired comparison)" in found.which[1]
    assert "Which encoder reads diagnosis better is not decided." in found.why
    assert any("before you choose: 12 do not decide any difference" in said for said in found.next)
    assert not any(re.search(r"\b(a|b) (reads|is better)", said) for said in [*found.which, *found.why])


def test_who_is_better_throughout_is_said(audited):
    decided = [
        compared("a", "b", 0.3, "a", column="label"),
        compared("a", "b", 0.2, None, metric="selectivity", family="must-react"),
    ]
    found = answer(with_encoders(audited, pair(audited)).model_copy(update={"comparisons": decided}))
    assert "a is better than b in 1 of 2 paired comparisons and worse in none" in found.which[1]
    assert "a reads diagnosis better than b, by 0.30 [0.20, 0.40]." in found.why


def test_a_gap_is_positive_whoever_comes_first(audited):
    """The difference is the first less the second; a leak is better where it is smaller."""
    decided = [
        compared("a", "b", -0.3, "b", column="label"),
        compared("a", "b", -0.2, "a", column="site", family="leakage"),
    ]
    found = answer(with_encoders(audited, pair(audited)).model_copy(update={"comparisons": decided}))
    assert "b reads diagnosis better than a, by 0.30 [0.20, 0.40]." in found.why
    assert "a shows site less than b, by 0.20 [0.10, 0.30]." in found.why
    assert "Neither a nor b is better throughout" in found.which[1]


def test_of_three_the_best_is_best_of_all_or_a_pair_is_named(audited):
    a, b = pair(audited)
    three = [a, b, a.model_copy(update={"name": "c"})]
    all_three = [
        compared("a", "b", 0.3, "a", column="label"),
        compared("a", "c", 0.2, "a", column="label"),
        compared("b", "c", -0.1, None, column="label"),
    ]
    result = with_encoders(audited, three).model_copy(update={"comparisons": all_three})
    assert "a reads diagnosis best: ahead of c, the next, by 0.20 [0.10, 0.30]." in answer(result).why
    one = [all_three[0], all_three[1].model_copy(update={"better": None}), all_three[2]]
    result = with_encoders(audited, three).model_copy(update={"comparisons": one})
    assert "a reads diagnosis better than b, by 0.30 [0.20, 0.40] (1 of 3 pairs are decided)." in answer(result).why


def test_nuisances_are_counted(audited):
    moves = [
        compared("a", "b", -0.3, better, metric="displacement", operation=name, family="stain")
        for name, better in (("one", "a"), ("two", "a"), ("three", "b"), ("four", None))
    ]
    result = with_encoders(audited, pair(audited)).model_copy(update={"comparisons": moves})
    assert "Moved least of all by a nuisance, out of 4: a by 2, b by 1 (1 not decided)." in answer(result).why


def test_a_constant_is_never_ahead(audited):
    """It leaks least and moves least, and is worth nothing."""
    constant, moments = named(audited, "toy:constant"), named(audited, "toy:od-moments")
    decided = [compared("toy:constant", "toy:od-moments", -0.9, "toy:constant", column="site", family="leakage")]
    result = with_encoders(audited, [constant, moments]).model_copy(update={"comparisons": decided})
    found = answer(result)
    assert found.why[0].startswith("toy:constant: every tile has practically the same embedding")
    assert not any("toy:constant shows" in said for said in found.why)
    assert not any("toy:constant" in said for said in found.which[1:])


def test_a_constant_alone_has_an_answer(audited):
    found = answer(with_encoders(audited, [named(audited, "toy:constant")]))
    assert len(found.which) == 1
    assert found.next[0].startswith("Mend toy:constant first")


def test_colour_is_the_yardstick_of_the_label(audited):
    baseline = next(item for item in audited.encoders if item.baseline)
    moments = named(audited, "toy:od-moments")
    names = (moments.name, baseline.name)
    for better, says in (
        (moments.name, "toy:od-moments reads more."),
        (None, "toy:od-moments reads more is not shown."),
    ):
        decided = [compared(*names, 0.2, better, column="label")]
        result = with_encoders(audited, [moments, baseline]).model_copy(update={"comparisons": decided})
        sentence = next(said for said in answer(result).why if said.startswith("Colour alone reads diagnosis"))
        assert sentence.endswith(says)


def test_an_unseen_site_that_costs_is_a_warning(audited):
    moments = named(audited, "toy:od-moments")
    left = moments.transfer[0].model_copy(
        update={
            "left_out": "north",
            "unseen": Figure(value=0.5, low=0.4, high=0.6),
            "seen": Figure(value=0.8, low=0.7, high=0.9),
            "gap": Figure(value=-0.3, low=-0.4, high=-0.2),
        }
    )
    found = answer(with_encoders(audited, [moments.model_copy(update={"transfer": [left]})])).next
    said = next(sentence for sentence in found if sentence.startswith("Do not deploy toy:od-moments at an unseen"))
    assert "with north left out, diagnosis is read there at 0.50 [0.40, 0.60] and not at 0.80 [0.70, 0.90]" in said
    assert "a gap of -0.30 [-0.40, -0.20]" in said
    chance = moments.signal.chance
    for untold in (
        {"gap": Figure(value=-0.3, low=-0.7, high=0.1)},
        {"seen": Figure(value=chance + 0.02, low=chance - 0.1, high=chance + 0.1)},
    ):
        other = left.model_copy(update=untold)
        found = answer(with_encoders(audited, [moments.model_copy(update={"transfer": [other]})])).next
        assert not any(sentence.startswith("Do not deploy") for sentence in found)


def test_each_encoder_that_does_not_see_biology_is_named(audited):
    encoders = []
    for name, asked in (("a", "selectivity"), ("b", "selectivity"), ("c", "reacts to nuclei-erased")):
        moments = named(audited, "toy:od-moments")
        check = next(check for check in moments.checks if check.family == "must-react")
        checks = [check.model_copy(update={"name": asked, "status": "FAIL", "sentence": f"{name} is blind"})]
        told = {"name": name, "checks": checks, "families": by_family(checks), "verdict": "FAIL", "transfer": []}
        encoders.append(moments.model_copy(update=told))
    found = answer(with_encoders(audited, encoders)).next
    assert [said.partition(":")[0] for said in found if said.startswith("Do not use")] == [
        "Do not use a (and b) where biology should count for more than how a tile was made",
        "Do not use c where what nuclei-erased destroys matters",
    ]
    best = [compared("a", "b", 0.2, "a", metric="selectivity"), compared("a", "c", 0.3, "a", metric="selectivity")]
    result = with_encoders(audited, encoders).model_copy(update={"comparisons": best})
    said = next(said for said in answer(result).why if said.startswith("a tells biology from nuisance best"))
    assert said.endswith("; even so, a fails in must-react.")


def failing(encoder, operation):
    """The encoder with the check of one operation failed, and nothing else to tell."""
    checks = [
        check.model_copy(update={"status": "FAIL" if check.name == f"ignores {operation}" else "PASS"})
        for check in encoder.checks
    ]
    told = {"checks": checks, "families": by_family(checks), "verdict": "FAIL", "leak": None, "transfer": []}
    return encoder.model_copy(update=told)


def moved(encoder, operation, value):
    """The encoder with another displacement by one operation."""
    figure = Figure(value=value, low=value - 0.01, high=value + 0.01)
    doses = [
        dose.model_copy(update={"metrics": {**dose.metrics, "displacement": figure}})
        if dose.operation == operation
        else dose
        for dose in encoder.doses
    ]
    return encoder.model_copy(update={"doses": doses})


def test_a_remedy_is_for_those_who_need_it(audited):
    moments = named(audited, "toy:od-moments")
    unsettled = [
        check.model_copy(update={"status": "WARN" if check.name == "ignores jpeg" else "PASS"})
        for check in moments.checks
    ]
    told = {"checks": unsettled, "families": by_family(unsettled), "verdict": "WARN", "leak": None, "transfer": []}
    warned = moments.model_copy(update=told)
    steps = answer(with_encoders(audited, [moved(warned, "jpeg", 0.05)])).next
    assert not any("jpeg" in step for step in steps)
    steady = moments.model_copy(update={"name": "steady", "checks": [], "families": [], "leak": None, "transfer": []})
    other = failing(moments, "blur").model_copy(update={"name": "other", "verdict": "WARN"})
    two = [moved(warned, "jpeg", 0.4), other, steady.model_copy(update={"verdict": "WARN"})]
    (step,) = [step for step in answer(with_encoders(audited, two)).next if step.startswith("Sort out")]
    assert ("blur" in step) != ("jpeg" in step)
    assert ("other" in step) == ("blur" in step) and "steady" not in step


def test_a_remedy_fits_the_family(audited):
    moments = named(audited, "toy:od-moments")
    for operation, begins in (
        (
            "hematoxylin-gain",
            "Normalise stain before toy:od-moments, or fine-tune with stain augmentation: hematoxylin",
        ),
        ("blur", "Sort out what blur spoils before toy:od-moments"),
        ("brightness", "Bring light and colour to one standard before toy:od-moments"),
        ("rotation", "Fine-tune toy:od-moments with rotation, or average embeddings over turns and mirrors"),
    ):
        steps = answer(with_encoders(audited, [failing(moments, operation)])).next
        move = next(d for d in moments.doses if (d.operation, d.severity) == (operation, 3)).metrics["displacement"]
        assert steps[0].startswith(begins)
        assert (
            f"moves it {move.value:.2f} [{move.low:.2f}, {move.high:.2f}] of the way to an unrelated tile" in steps[0]
        )


def test_a_move_that_a_map_foretells_can_be_taken_out(audited):
    moments = named(audited, "toy:od-moments")
    item = next(item for item in moments.equivariance if item.operation == "blur")
    fitted = dict.fromkeys(("shift", "low_rank", "ridge"), item.maps["shift"])
    for verdict, says in (
        ("shared direction", "one shift foretells"),
        ("linear", "a linear map foretells"),
        ("entangled", ""),
    ):
        shaped = failing(moments, "blur").model_copy(
            update={"equivariance": [item.model_copy(update={"verdict": verdict, "maps": fitted})]}
        )
        step = answer(with_encoders(audited, [shaped])).next[0]
        assert (says in step) and ("could be taken out" in step) == bool(says)


def test_what_is_missing_is_asked_for(audited):
    blind = named(audited, "toy:od-moments").model_copy(update={"probes": [], "leak": None, "transfer": []})
    found = answer(with_encoders(audited, [blind])).next
    assert any(sentence.startswith("Give a label (--label)") for sentence in found)
    assert any(sentence.startswith("Give a site or a scanner (--site)") for sentence in found)


def test_a_label_that_cannot_be_probed_is_not_asked_for_again(audited):
    moments = named(audited, "toy:od-moments")
    probes = [probe.model_copy(update={"reason": "too few groups"}) for probe in moments.probes]
    blind = moments.model_copy(update={"probes": probes, "leak": None, "transfer": []})
    found = answer(with_encoders(audited, [blind])).next
    assert "Add tiles of more patients: diagnosis could not be probed (too few groups)" in " ".join(found)
    assert not any(sentence.startswith("Give") for sentence in found)


def test_a_leak_is_told_of_the_encoder_that_leaks(audited):
    moments = named(audited, "toy:od-moments")
    leaking = moments.model_copy(update={"leak": Figure(value=0.5, low=0.4, high=0.6)})
    said = [s for s in answer(with_encoders(audited, [leaking])).next if s.startswith("Leave whole")]
    assert len(said) == 1 and "by 0.50 [0.40, 0.60] of the way from chance to perfect" in said[0]
    sure = moments.model_copy(update={"leak": Figure(value=0.5, low=-0.1, high=0.6)})
    assert not [s for s in answer(with_encoders(audited, [sure])).next if s.startswith("Leave whole")]


def test_levels_lie_between_steps(audited):
    blur = next(operation for operation in audited.operations if operation.name == "blur")
    levels = [step.level for step in blur.steps]
    assert blur.level_at(2) == levels[1]
    assert blur.level_at(2.5) == (levels[1] + levels[2]) / 2
    assert blur.level_at(5) == levels[4]


def test_where_half_the_way_is_reached_is_in_units(audited):
    moments = named(audited, "toy:od-moments")
    response = next(item for item in moments.responses if item.operation == "blur")
    crossed = response.model_copy(update={"crossing": Crossing(outcome="crosses", severity=2.0)})
    blurred = failing(moments, "blur").model_copy(update={"responses": [crossed]})
    blur = next(operation for operation in audited.operations if operation.name == "blur")
    step = answer(with_encoders(audited, [blurred])).next[0]
    assert f"it reaches 0.5 at {blur.parameter} {blur.steps[1].level:g} um (early: " in step


def test_skill_runs_from_chance_to_perfect(audited):
    probe = (
        named(audited, "toy:od-moments")
        .probes[0]
        .model_copy(update={"chance": 0.25, "balanced_accuracy": Figure(value=1.0, low=0.25, high=None)})
    )
    assert probe.skill == Figure(value=1.0, low=0.0, high=None)
    below = probe.model_copy(update={"balanced_accuracy": Figure(value=0.1)})
    assert below.skill.value is not None and below.skill.value < 0  # never clamped


def of_domains(result, betters):
    """Two encoders of tissue (a, b) and one of everyday images (c), with who is better in each comparison."""
    moments = named(result, "toy:od-moments")
    encoders = [
        moments.model_copy(update={"name": name, "card": {**moments.card, "domain": domain}})
        for name, domain in (("a", "pathology"), ("b", "pathology"), ("c", "general"))
    ]
    pairs = [("a", "c", betters[0]), ("b", "c", betters[1]), ("a", "b", "a")]
    items = [compared(first, second, 0.3, better, column="label") for first, second, better in pairs]
    changed = with_encoders(result, encoders).model_copy(update={"comparisons": items})
    return [sentence for sentence in answer(changed).why if sentence.startswith("Trained on tissue")]


def test_encoders_of_tissue_are_preferred_by_comparisons_alone(audited):
    said = "Trained on tissue (a and b) against trained on everyday images (c)"
    count = "2 paired comparisons"
    assert of_domains(audited, ("a", "b")) == [
        f"{said}: better in 2 of {count} and worse in none. Take one that was trained on tissue."
    ]
    assert of_domains(audited, ("a", "c")) == [f"{said}: better in 1 and worse in 1 of {count}: see for what you need."]
    (worse,) = of_domains(audited, ("c", None))
    assert "worse in 1" in worse and "no reason" in worse
    (none,) = of_domains(audited, (None, None))
    assert f"none of {count} is decided" in none


def test_without_encoders_of_both_domains_nothing_is_said_of_them(audited):
    assert not [sentence for sentence in audited.findings if sentence.startswith("Trained on tissue")]
