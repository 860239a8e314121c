"""Methods, limits and the model card: true to the result, and safe with any name."""

import re

import pytest

from histolatent.audit import METRICS
from histolatent.audit.result import Crossing, Response, Step
from histolatent.audit.words import threshold_words
from histolatent.report.methods import limits_of, measured_metrics, methods_of
from histolatent.report.model_card import model_card


def test_every_reference_is_cited_and_every_citation_has_one(audited):
    methods = methods_of(audited)
    cited = [int(number) for number in re.findall(r"\[(\d+)\]", " ".join(methods.paragraphs))]
    assert set(cited) == set(range(1, len(methods.references) + 1))
    assert list(dict.fromkeys(cited)) == sorted(set(cited))  # numbered in the order in which they come
    assert len(set(methods.references)) == len(methods.references)


def test_references_are_of_what_was_measured(audited):
    references = methods_of(audited).references
    assert METRICS["margin_median"].reference in references
    assert METRICS["procrustes_residual"].reference not in references
    bare = audited.model_copy(
        update={"encoders": [audited.encoders[1].model_copy(update={"space": [], "batches": []})]}
    )
    assert METRICS["margin_median"].reference not in methods_of(bare).references


def test_measured_metrics_are_in_the_order_of_the_registry(audited):
    names = [metric.name for metric in measured_metrics(audited)]
    assert names == [name for name in METRICS if name in names]
    assert {"displacement", "explained", "disagreement", "leak"} <= set(names)


def test_limits_hold_the_warnings(audited):
    warned = audited.model_copy(update={"warnings": ["only 3 groups"]})
    assert "only 3 groups" in limits_of(warned)
    assert any("Not a medical device" in said for said in limits_of(audited))


def test_the_card_has_a_section_per_encoder(audited):
    card = model_card(audited)
    for item in audited.encoders:
        assert f"\n## {item.name}" in card
        assert item.identity in card
        assert f"### Verdict: {item.verdict}" in card
    assert "| licence | Apache-2.0 |" in card
    assert "## Limits" in card and "## How it was measured" in card
    for finding in audited.findings:
        assert finding in card.replace("\\", "")


def test_a_name_is_no_markup_in_the_card(audited):
    evil = audited.encoders[0].model_copy(update={"name": "a|b <script> *c* _d_\n# e"})
    card = model_card(audited.model_copy(update={"encoders": [evil]}))
    assert "<script" not in card.replace("\\<script", "")
    assert "\n# e" not in card
    for line in card.splitlines():
        if line.startswith("| source"):
            assert line.count("|") - line.count("\\|") == 3


@pytest.mark.parametrize(
    ("crossing", "early", "late", "says"),
    [
        (2.5, 2.0, 3.0, "reaches 0.5 at Gaussian sigma 0.625 um (early: 0.5, late: 0.75)"),
        (4.0, 3.5, None, "reaches 0.5 at Gaussian sigma 1 um (early: 0.875, late: never)"),
        (0.4, 0.2, 1.5, "reaches 0.5 before 0.25 um (early: before 0.25, late: 0.375)"),
        (None, 4.0, None, "never reaches 0.5"),
    ],
)
def test_a_threshold_is_in_units_of_the_operation(audited, crossing, early, late, says):
    def at(severity: float | None) -> Crossing:
        return Crossing(outcome="never crosses" if severity is None else "crosses", severity=severity)

    blur = next(operation for operation in audited.operations if operation.name == "blur")
    steps = [Step(severity=i + 1, level=level, pixels_sha256="") for i, level in enumerate((0.25, 0.5, 0.75, 1, 1.5))]
    response = Response(
        operation="blur",
        monotonicity=audited.encoders[0].responses[0].monotonicity,
        level=0.5,
        crossing=at(crossing),
        early=at(early),
        late=at(late),
        surely=at(None),
        never=None,
    )
    assert threshold_words(blur.model_copy(update={"steps": steps}), response) == says


def test_where_levels_fall_early_is_the_larger(audited):
    jpeg = next(operation for operation in audited.operations if operation.name == "blur")
    steps = [
        Step(severity=i + 1, level=level, pixels_sha256="") for i, level in enumerate((90.0, 70.0, 50.0, 30.0, 10.0))
    ]
    at = {name: Crossing(outcome="crosses", severity=value) for name, value in (("early", 2.0), ("crossing", 2.5))}
    response = Response(
        operation="blur",
        monotonicity=audited.encoders[0].responses[0].monotonicity,
        level=0.5,
        late=Crossing(outcome="crosses", severity=3.0),
        surely=Crossing(outcome="never crosses", severity=None),
        never=None,
        **at,
    )
    assert threshold_words(jpeg.model_copy(update={"steps": steps}), response).endswith("60 um (early: 70, late: 50)")
