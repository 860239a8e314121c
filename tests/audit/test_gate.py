"""The gate: figures judged again by another policy."""

import pytest

from histolatent.audit import AuditResult, Policy
from histolatent.audit.gate import gate, own_policy, refuses
from histolatent.audit.policy import Band, Requirement
from histolatent.errors import InputError, OptionError

LOOSE = Policy(
    ignore=Band(pass_at=0, fail_below=0),
    react=Band(pass_at=0, fail_below=0),
    react_each=Band(pass_at=0, fail_below=0),
)


def named(gated, name):
    return next(item for item in gated if item.encoder.name == name)


def test_its_own_policy_gives_its_own_answers(audited: AuditResult):
    names = [encoder.name for encoder in audited.encoders]
    found = gate(audited, own_policy(audited), names)
    assert [item.encoder for item in found] == audited.encoders


def test_baselines_are_left_out_unless_named(audited: AuditResult):
    assert [item.encoder.name for item in gate(audited, LOOSE)] == [
        encoder.name for encoder in audited.encoders if not encoder.baseline
    ]
    [alone] = gate(audited, LOOSE, ["toy:colour-histogram", "toy:colour-histogram"])
    assert alone.encoder.baseline


def test_a_loose_policy_is_met_but_not_by_a_constant(audited: AuditResult):
    found = gate(audited, LOOSE)
    assert named(found, "toy:od-moments").met
    constant = named(found, "toy:constant")
    assert not constant.met
    assert "unrelated tiles differ" in {check.name for check in constant.refused}


@pytest.mark.parametrize(
    ("setting", "status", "refused"),
    [
        ({}, "PASS", False),
        ({}, "FAIL", True),
        ({}, "WARN", False),
        ({"warn": "refuse"}, "WARN", True),
        ({"refuse_warn": ("acquisition",)}, "WARN", True),
        ({"refuse_warn": ("signal",)}, "WARN", False),
        ({}, "UNDEFINED", True),
        ({"undefined": "allow"}, "UNDEFINED", False),
        ({"undefined": "allow", "warn": "refuse"}, "UNDEFINED", False),
        ({"refuse_warn": ("acquisition",)}, "PASS", False),
    ],
)
def test_what_a_policy_lets_through(audited: AuditResult, setting, status, refused):
    check = next(item for item in audited.encoders[0].checks if item.name == "ignores blur")
    assert refuses(Policy(**setting), check.model_copy(update={"status": status})) is refused


def test_what_was_not_applied_is_not_passed(audited: AuditResult):
    policy = LOOSE.model_copy(
        update={
            "families": {"artefact": Band(pass_at=0, fail_below=0), "stain": Band(pass_at=0, fail_below=0)},
            "operations": {"pen": Band(pass_at=0, fail_below=0), "blur": Band(pass_at=0, fail_below=0)},
        }
    )
    item = named(gate(audited, policy), "toy:od-moments")
    assert {check.name: check.status for check in item.refused} == {
        "ignores artefact changes": "UNDEFINED",
        "ignores pen": "UNDEFINED",
    }


def test_other_severities_are_judged_where_the_figures_are_there(audited: AuditResult):
    with pytest.raises(OptionError) as error:
        gate(audited, Policy(severity=5))
    assert str(error.value) == (
        "selectivity was measured at other severities than the policy asks for. Received: nuisances at 3, must-react "
        "at 5. Valid: nuisances at 5, must-react at 5. Fix: run histolatent audit again with --policy and the same file"
    )
    with pytest.raises(OptionError, match="must-react at 4"):
        gate(audited, Policy(must_react_severity=4))
    # Without a must-react operation nothing was measured at one severity only, and every severity can be judged.
    operations = [item for item in audited.operations if item.role != "must-react"]
    bare = [
        item.model_copy(update={"selectivities": [], "selectivity_against": [], "selectivity": None})
        for item in audited.encoders
    ]
    plain = audited.model_copy(update={"operations": operations, "encoders": bare})
    checks = {check.name: check for check in named(gate(plain, Policy(severity=5)), "toy:od-moments").encoder.checks}
    dose = next(d for d in plain.encoders[0].doses if (d.operation, d.severity) == ("blur", 5))
    assert checks["ignores blur"].figure == dose.metrics["auroc_null"]
    flips = Policy(severity=5, require=(Requirement(figure="label_flips", at_most=0.5),))
    with pytest.raises(OptionError, match="label_flips was measured at other severities"):
        gate(plain, flips)


def test_names_and_policies_that_are_none(audited: AuditResult):
    with pytest.raises(OptionError, match=r"no encoder of this audit is called 'toy:od-moment'.*did you mean"):
        gate(audited, LOOSE, ["toy:od-moment"])
    only = audited.model_copy(update={"encoders": [item for item in audited.encoders if item.baseline]})
    with pytest.raises(OptionError, match=r"baselines only\. Fix: --encoder toy:colour-histogram"):
        gate(only, LOOSE)
    broken = audited.model_copy(update={"plan": {"policy": {"severity": 9}}})
    with pytest.raises(InputError, match=r"the policy in audit\.json: severity is not a whole number"):
        gate(broken, LOOSE)
