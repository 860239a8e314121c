"""A gate as JUnit XML, which build servers show: a suite per encoder, a case per question."""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..audit.gate import Gated
from ..audit.policy import Policy
from ..audit.result import AuditResult, Check
from ..errors import OutputError
from ..outputs import disk_errors, whole
from ..provenance import digest

#: What XML 1.0 cannot hold, not even escaped.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ROOT = b"<testsuites"


def junit_xml(result: AuditResult, policy: Policy, gated: Sequence[Gated]) -> str:
    """Return the answers as JUnit XML.

    A question whose answer the policy refuses is a failure of the type FAIL, WARN or UNDEFINED, with the sentence and
    the threshold. One without an answer, where the policy lets that through, is skipped. The text fits the schemas of
    Jenkins (junit-10) and of Ant, with the time of the audit, so that it is the same for the same figures.
    """
    root = ElementTree.Element("testsuites")
    for number, item in enumerate(gated):
        _add_suite(root, number, item, result, policy)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def write_junit(text: str, path: Path) -> None:
    """Write JUnit XML; an older report there is replaced, and nothing else is.

    Raises
    ------
    OutputError
        If there is something else at `path`, or the file cannot be written.
    """
    with disk_errors(path):
        is_report = path.is_file() and ROOT in path.read_bytes()[:1000]
        if path.exists() and not is_report:
            raise OutputError(
                "what is there is no JUnit report, so it is not replaced", received=path, fix="choose another --junit"
            )
    with whole(path, overwrite=True) as part:
        part.write_text(text, encoding="utf-8")


def _add_suite(
    root: ElementTree.Element, number: int, item: Gated, result: AuditResult, policy: Policy
) -> ElementTree.Element:
    encoder, refused = item.encoder, {id(check) for check in item.refused}
    skipped = [check for check in encoder.checks if check.status == "UNDEFINED" and id(check) not in refused]
    counts = {"tests": len(encoder.checks), "failures": len(refused), "errors": 0, "skipped": len(skipped)}
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "name": _clean(encoder.name),
            "package": "histolatent",
            "id": str(number),
            "timestamp": _time(result.created),
            "hostname": "localhost",
            "time": "0",
            **{name: str(count) for name, count in counts.items()},
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _facts(item, result, policy).items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for check in encoder.checks:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {"name": _clean(check.name), "classname": _clean(f"{encoder.name}.{check.family}"), "time": "0"},
        )
        if id(check) in refused:
            failure = ElementTree.SubElement(
                case, "failure", {"type": check.status, "message": _clean(f"{check.status}: {check.sentence}")}
            )
            failure.text = _clean(_explained(check))
        elif check.status == "UNDEFINED":
            ElementTree.SubElement(case, "skipped", {"message": _clean(check.sentence)})
    said = [f"{check.status} {check.name}: {check.sentence}" for check in encoder.checks]
    ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(said))
    ElementTree.SubElement(suite, "system-err").text = ""
    return suite


def _facts(item: Gated, result: AuditResult, policy: Policy) -> dict[str, str]:
    tiles = result.tiles
    facts = {
        "policy": policy.title,
        "policy_sha256": digest(policy.model_dump(mode="json")),
        "histolatent": result.histolatent,
        "encoder_identity": item.encoder.identity,
        "verdict": item.encoder.verdict,
        "tiles": str(tiles.get("tiles", "")),
        **{name: str(tiles[name]) for name in ("pixels_sha256", "table_sha256") if tiles.get(name)},
        **{f"family {family.family}": f"{family.status}: {family.sentence}" for family in item.encoder.families},
    }
    return {name: value for name, value in facts.items() if value}


def _explained(check: Check) -> str:
    lines = [check.sentence]
    if check.figure is not None and check.figure.value is not None:
        figure = check.figure
        interval = "" if figure.low is None or figure.high is None else f", interval [{figure.low:g}, {figure.high:g}]"
        lines.append(f"figure: {figure.value:g}{interval}")
    return "\n".join([*lines, *([f"threshold: {check.threshold}"] if check.threshold else [])])


def _time(created: str) -> str:
    """Return the time without its zone (it is UTC), as Ant's schema wants it."""
    found = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", created)
    return found[0] if found else "1970-01-01T00:00:00"


def _clean(text: str) -> str:
    """Return the text with what XML cannot hold written as an escape, so that two names stay two."""
    return FORBIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
