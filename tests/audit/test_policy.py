"""Policies: what a file may say, and that each mistake is named with file, place, what was found and what is valid."""

import re
from pathlib import Path

import pytest

from histolatent.audit import METRICS, Policy, read_policy
from histolatent.audit.policy import NOT_FIGURES, POLICIES, check_policy, parse_policy, policy_text
from histolatent.errors import HistolatentError, InputError, OptionError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ASKED = '[[require]]\nfigure = "selectivity"\n'


def test_an_empty_file_is_the_default():
    assert parse_policy("", "p.toml") == Policy()


def test_the_shipped_policy_is_read_by_its_name_and_lies_among_the_examples(tmp_path):
    for name in POLICIES:
        policy = read_policy(name)
        assert policy.require and policy.families and policy.undefined == "refuse"
        assert (EXAMPLES / f"{name}.toml").read_text(encoding="utf-8") == policy_text(name)
        copy = tmp_path / "mine.toml"
        copy.write_text("\ufeff" + policy_text(name), encoding="utf-8")  # as some editors save it
        assert read_policy(copy) == policy
        assert Policy.model_validate(policy.model_dump(mode="json")) == policy


def test_every_setting_is_read():
    policy = parse_policy(
        """
        title = "mine"
        severity = 2
        must_react_severity = 4
        warn = "refuse"
        undefined = "allow"
        refuse_warn = ["signal"]
        ignore = {pass_at = 1, fail_below = 0}
        [families.stain]
        pass_at = 0.9
        fail_below = 0.5
        [operations.blur]
        pass_at = 0.8
        fail_below = 0.4
        [[require]]
        figure = "displacement"
        operation = "jpeg"
        severity = 2
        at_most = 0.3
        fail_above = 0.5
        why = "archives are compressed"
        """,
        "p.toml",
    )
    assert (policy.title, policy.severity, policy.must_react_severity) == ("mine", 2, 4)
    assert policy.band("hematoxylin-gain", "stain").pass_at == 0.9
    assert policy.band("blur", "acquisition").pass_at == 0.8
    assert policy.band("jpeg", "acquisition").pass_at == 1
    assert policy.require[0].describe().endswith(", operation jpeg, severity 2")
    assert policy.require[0].side == "at most 0.3"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("severity = 3\nseverity = 4", r"the policy is no TOML \(Cannot overwrite a value.*Received: p\.toml$"),
        (
            "[[require]]\nfigure = 'margin_median'\ncolumn = 'hospital'\nat_least = 0",
            r"no column is called 'hospital'\. Valid: label, pair, scanner, site, stain.*known names, not those of",
        ),
        ("ignore = {pas_at = 0.9, fail_below = 0.5}", r"ignore: no setting is called 'pas_at'.*did you mean 'pass_at'"),
        ("severity = 0", r"^p\.toml: severity is not a whole number from 1 to 5\. Received: 0$"),
        ("severity = 6", r"severity is not a whole number from 1 to 5\. Received: 6$"),
        ("severity = true", r"severity is not a whole number from 1 to 5\. Received: true$"),
        ("severity = 2.5", r"severity is not a whole number from 1 to 5\. Received: 2\.5$"),
        ('must_react_severity = "5"', r"must_react_severity is not a whole number from 1 to 5\. Received: '5'$"),
        ("title = 3", r"title is not a text in quotes\. Received: 3$"),
        ('warn = "no"', r"warn is not 'allow' or 'refuse'\. Received: 'no'$"),
        ("undefined = false", r"undefined is not 'allow' or 'refuse'\. Received: false$"),
        ('refuse_warn = ["signl"]', r"p\.toml: refuse_warn: .*'signl'.*Valid: .*Fix: did you mean 'signal'\?$"),
        ('refuse_warn = "signal"', r"refuse_warn is not an array of families of questions\. Received: 'signal'$"),
        ("ignore = 0.9", r"p\.toml: ignore is not a table with pass_at and fail_below\. Received: 0\.9$"),
        ("[ignore]\npass_at = 0.9", r"ignore\.fail_below is missing\. Valid: a number from 0 to 1$"),
        ("[ignore]\npass_at = 1.5\nfail_below = 0", r"ignore\.pass_at is not a number from 0 to 1\. Received: 1\.5$"),
        ("[ignore]\npass_at = -0.1\nfail_below = 0", r"ignore\.pass_at is not .*Received: -0\.1$"),
        ("[ignore]\npass_at = nan\nfail_below = 0", r"ignore\.pass_at is not .*Received: nan$"),
        ('[ignore]\npass_at = "0.9"\nfail_below = 0', r"ignore\.pass_at is not .*Received: '0\.9'$"),
        (
            "[ignore]\npass_at = 0.5\nfail_below = 0.8",
            r"p\.toml: ignore: fail_below \(0\.8\) is above pass_at \(0\.5\)$",
        ),
        (
            "[ignore]\npass_att = 1",
            r"p\.toml: ignore: no setting is called 'pass_att' \(and|ignore\.pass_at is missing",
        ),
        ("[families]\nstain = 1", r"families\.stain is not a table with pass_at and fail_below\. Received: 1$"),
        ("families = 1", r"families is not a table of bands, such as \[families\.stain\]\. Received: 1$"),
        (
            "[families.stian]\npass_at = 1\nfail_below = 0",
            r"p\.toml: families: no family is called 'stian'\. Valid: .*stain\. Fix: did you mean 'stain'\?$",
        ),
        ("[families.stain]\npass_at = 1\nfail_below = 2", r"families\.stain\.fail_below is not a number from 0 to 1"),
        (
            "[operations.blurr]\npass_at = 1\nfail_below = 0",
            r"operations: no operation is called 'blurr'.*did you mean 'blur'\?$",
        ),
        (
            "[operations.nuclei-erased]\npass_at = 1\nfail_below = 0",
            r"operations: nuclei-erased is must-react, and a band is for must-ignore changes; react_each is for those$",
        ),
        ("severty = 3", r"^p\.toml: no setting is called 'severty'\. Valid: .*Fix: did you mean 'severity'\?$"),
        ('require = "selectivity"', r"require is not an array of tables, each under \[\[require\]\]\. Received: 'sel"),
        ("require = [1]", r"\[\[require\]\] 1 is not a table, under \[\[require\]\]\. Received: 1$"),
        ("[[require]]\nat_least = 0.5", r"\[\[require\]\] 1, figure is missing\. Valid: a text in quotes$"),
        (
            '[[require]]\nfigure = "selectivty"\nat_least = 0.5',
            r"p\.toml: \[\[require\]\] 1: no figure is called 'selectivty'.*did you mean 'selectivity'\?$",
        ),
        ('[[require]]\nfigure = "sensitivity"\nat_least = 0.5', r"no figure is called 'sensitivity'"),
        (ASKED, r"\[\[require\]\] 1 \(selectivity\): give either at_least or at_most \(neither is there\)"),
        (ASKED + "at_least = 0.1\nat_most = 0.9", r"either at_least or at_most \(both are there\); for both sides"),
        (ASKED + "at_least = 0.1\nfail_above = 0.9", r"fail_above goes with at_most; with at_least it is fail_below$"),
        (ASKED + "at_most = 0.1\nfail_below = 0.9", r"fail_below goes with at_least; with at_most it is fail_above$"),
        (ASKED + "at_least = 0.1\nfail_below = 0.9", r"fail_below \(0\.9\) is above at_least \(0\.1\)$"),
        (ASKED + "at_most = 0.9\nfail_above = 0.1", r"fail_above \(0\.1\) is below at_most \(0\.9\)$"),
        (ASKED + "at_least = 95", r"at_least \(95\) is out of the range of selectivity: at least 0 and at most 1$"),
        (ASKED + "at_least = -1", r"at_least \(-1\) is out of the range of selectivity"),
        (
            ASKED + "at_least = inf",
            r"\[\[require\]\] 1 \(selectivity\), at_least is not a finite number\. Received: inf$",
        ),
        (ASKED + 'at_least = "0.1"', r"at_least is not a finite number\. Received: '0\.1'$"),
        (ASKED + "at_least = true", r"at_least is not a finite number\. Received: true$"),
        (ASKED + "at_least = 0.1\nseverity = 9", r"\[\[require\]\] 1 \(selectivity\), severity is not a whole number"),
        (ASKED + "at_least = 0.1\ncolumn = 3", r"\[\[require\]\] 1 \(selectivity\), column is not a text in quotes"),
        (
            ASKED + 'at_least = 0.1\n[[require]]\nfigure = "leak"\nat_leest = 3',
            r"p\.toml: \[\[require\]\] 2 \(leak\): no setting is called 'at_leest'.*Fix: did you mean 'at_least'\?$",
        ),
        ((ASKED + "at_least = 0.1\n") * 2, r"require: selectivity has two bounds on the same side$"),
    ],
)
def test_a_mistake_is_named_with_its_place(text, says):
    with pytest.raises(InputError) as error:
        parse_policy(text, "p.toml")
    said = str(error.value)
    assert "p.toml" in said
    assert re.search(says, said), said
    assert "\n" not in said and "pydantic" not in said and "Input should" not in said


def test_more_than_one_mistake_is_counted():
    with pytest.raises(InputError, match=r"severity is not .* \(and 1 more\)"):
        parse_policy('severity = 9\nwarn = "no"', "p.toml")


def test_both_sides_of_a_figure_may_be_bounded():
    text = ASKED + "at_least = 0.1\n" + ASKED + "at_most = 0.9\n"
    assert [item.side for item in parse_policy(text, "p").require] == ["at least 0.1", "at most 0.9"]


def test_files_that_are_none(tmp_path):
    with pytest.raises(
        OptionError, match=r"no policy is called 'second_site'\. .*own\. Fix: did you mean 'second-site'"
    ):
        read_policy("second_site")
    with pytest.raises(InputError, match=r"cannot be read \(No such file.*Received: .*nowhere\.toml"):
        read_policy(tmp_path / "nowhere.toml")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        read_policy(tmp_path)
    (tmp_path / "latin.toml").write_bytes('title = "für"'.encode("latin1"))
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_policy(tmp_path / "latin.toml")
    with pytest.raises(HistolatentError, match="no policy is called 'mine'"):
        policy_text("mine")


@pytest.mark.parametrize("document", [None, 3, ["severity"], {"severity": None}])
def test_a_document_of_any_kind_is_refused_in_words(document):
    with pytest.raises(InputError, match=r"^plan: |^plan is not a table"):
        check_policy(document, "plan")


def test_what_cannot_be_bounded_is_no_figure_of_an_audit(audited):
    given = {key["metric"] for encoder in audited.encoders for key, _ in encoder.figures()}
    assert not given & set(NOT_FIGURES)
    assert given <= set(METRICS)
