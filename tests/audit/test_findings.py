"""Sentences that must be true of the figures they are made from."""

import re

from histolatent.audit.findings import find
from histolatent.audit.result import Figure


def with_encoders(result, encoders):
    return result.model_copy(update={"encoders": encoders})


def test_findings_of_a_real_audit(audited):
    found = audited.findings
    assert 3 <= len(found) <= 5
    assert found[0].startswith("Verdicts: ")
    for item in audited.encoders:
        assert re.search(rf"{item.verdict}: [^;]*{re.escape(item.name)}", found[0])
    assert all(sentence.endswith(".") and ".." not in sentence for sentence in found)
    assert find(audited) == found


def test_the_largest_move_is_the_largest(audited):
    sentence = next(item for item in audited.findings if item.startswith("The nuisance that moves"))
    severity = audited.plan["policy"]["severity"]
    ignored = {operation.name for operation in audited.operations if operation.role == "must-ignore"}
    largest = max(
        (dose.metrics["displacement"].value or 0, encoder.name, dose.operation)
        for encoder in audited.encoders
        if not encoder.baseline
        for dose in encoder.doses
        if dose.severity == severity and dose.operation in ignored
    )
    assert f"{largest[2]} on {largest[1]}" in sentence
    assert f"{largest[0]:.2f} of the distance" in sentence


def test_a_leak_is_told_of_the_encoder_that_leaks(audited):
    constant = next(item for item in audited.encoders if item.name == "toy:constant")
    silent = constant.model_copy(
        update={"name": "silent", "checks": [c for c in constant.checks if not c.name.startswith("leaks")]}
    )
    moments = next(item for item in audited.encoders if item.name == "toy:od-moments")
    sentence = next(item for item in find(with_encoders(audited, [silent, moments])) if "readable" in item)
    assert sentence.startswith("toy:od-moments: ")


def test_selectivity_below_chance_is_not_turned_round(audited):
    """40 % means: in 40 % of the comparisons destroying nuclei moves it MORE."""
    moments = next(item for item in audited.encoders if item.name == "toy:od-moments")
    poor = moments.model_copy(update={"selectivity": Figure(value=0.4, low=0.3, high=0.45)})
    sentence = next(item for item in find(with_encoders(audited, [poor])) if item.startswith("Most selective"))
    assert "moves it more than a nuisance does in 40% of the comparisons (chance 50%)" in sentence


def test_an_audit_of_the_baseline_alone_has_findings(audited):
    baseline = [item for item in audited.encoders if item.baseline]
    found = find(with_encoders(audited, baseline))
    assert any("Colour alone reads the diagnosis" in sentence for sentence in found)
    assert any("toy:colour-histogram" in sentence for sentence in found[1:])
