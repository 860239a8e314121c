"""JUnit XML: what build servers read, within what their schemas allow."""

import re
from xml.etree import ElementTree

import pytest

from histolatent.audit import Policy
from histolatent.audit.gate import Gated
from histolatent.audit.result import AuditResult, Check, EncoderResult, Figure, NullResult
from histolatent.errors import OutputError
from histolatent.report.junit import junit_xml, write_junit

NULL = NullResult(apart="slide", pairs=9, defined=True, median=0.2, p05=0.1, p95=0.3, same_label_median=None)
LISTS = (
    *("contract", "doses", "responses", "equivariance", "flips", "parts", "selectivities", "selectivity_against"),
    *("probes", "transfer"),
    *("space", "batches", "factors", "sensitivity", "families", "worst"),
)


def encoder(name: str, checks: list[Check]) -> EncoderResult:
    plain = {"name": name, "card": {}, "identity": "abc", "baseline": False, "null": NULL, "verdict": "FAIL"}
    nothing = {"selectivity": None, "leak": None, "discordance": None}
    return EncoderResult(**{**{part: [] for part in LISTS}, **plain, **nothing, "checks": checks})


def check(status: str, sentence: str = "said", **other) -> Check:
    return Check(name=f"question {status}", family="stain", status=status, sentence=sentence, **other)


def result(created: str = "2026-01-02T03:04:05+00:00") -> AuditResult:
    lists = {name: [] for name in ("warnings", "operations", "encoders", "comparisons", "findings")}
    facts = {"plan": {}, "clusters": {}, "environment": {}, "tiles": {"tiles": 60, "pixels_sha256": "feed"}}
    return AuditResult(histolatent="0.1.0", created=created, **lists, **facts)


def document(*gated: Gated, policy: Policy | None = None) -> tuple[str, ElementTree.Element]:
    text = junit_xml(result(), policy or Policy(title="mine"), gated)
    return text, ElementTree.fromstring(text)


def mixed(name: str = "e") -> Gated:
    figure = Figure(value=0.5, low=0.4, high=0.6)
    failed = check("FAIL", "it fails", figure=figure, threshold="at least 0.9")
    checks = [check("PASS"), check("WARN"), failed, check("UNDEFINED", "nobody knows")]
    return Gated(encoder(name, checks), (failed,))


def test_each_encoder_is_a_suite_and_each_question_a_case():
    text, root = document(mixed("first"), mixed("second"))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>')
    assert [suite.get("name") for suite in root] == ["first", "second"]
    suite = root[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    facts = {item.get("name"): item.get("value") for item in suite.findall("properties/property")}
    assert (facts["policy"], facts["histolatent"], facts["pixels_sha256"]) == ("mine", "0.1.0", "feed")
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [f"question {s}" for s in ("PASS", "WARN", "FAIL", "UNDEFINED")]
    assert [[child.tag for child in case] for case in cases] == [[], [], ["failure"], ["skipped"]]
    failure = cases[2][0]
    assert (failure.get("type"), failure.get("message")) == ("FAIL", "FAIL: it fails")
    assert failure.text == "it fails\nfigure: 0.5, interval [0.4, 0.6]\nthreshold: at least 0.9"
    assert "WARN question WARN: said" in (suite.findtext("system-out") or "")


def test_the_order_and_the_attributes_are_those_of_the_schemas():
    """What both Jenkins' junit-10 and Ant's schema ask for; each alone would let more through."""
    _, root = document(mixed())
    assert not root.attrib
    [suite] = root
    tags = [child.tag for child in suite]
    assert tags == ["properties", *["testcase"] * 4, "system-out", "system-err"]
    assert set(suite.attrib) == {
        *("name", "package", "id", "timestamp", "hostname", "time", "tests", "failures", "errors", "skipped"),
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    for case in suite.findall("testcase"):
        assert set(case.attrib) == {"name", "classname", "time"}
        assert len(case) <= 1
    for item in suite.findall("properties/property"):
        assert item.attrib["name"] and set(item.attrib) == {"name", "value"}


def test_what_xml_cannot_hold_is_written_out():
    name = "a\x1b[31m<b>&\"'\x00\ufffe\ud800é"
    text, root = document(mixed(name))
    text.encode("utf-8")
    assert root[0].get("name") == "a\\x1b[31m<b>&\"'\\x00\\ufffe\\ud800é"
    assert junit_xml(result(created="later"), Policy(), [mixed()]).count("1970-01-01T00:00:00") == 1


def test_an_older_report_is_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "reports" / "gate.xml"
    text, _ = document(mixed())
    for _ in range(2):
        write_junit(text, path)
        assert path.read_text(encoding="utf-8") == text
    other = tmp_path / "thesis.xml"
    other.write_text("<thesis/>")
    for kept in (other, tmp_path):
        with pytest.raises(OutputError, match=r"is no JUnit report, so it is not replaced.*choose another --junit"):
            write_junit(text, kept)
    assert other.read_text() == "<thesis/>"
