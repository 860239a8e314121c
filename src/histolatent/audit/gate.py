"""The figures of an audit judged again, by another policy: nothing is embedded, nothing is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import OptionError, unknown
from .policy import Policy, Requirement, check_policy
from .result import AuditResult, Check, EncoderResult, OperationResult
from .verdict import judged


@dataclass(frozen=True)
class Gated:
    """One encoder under a policy. `refused` are the questions whose answer the policy does not let through."""

    encoder: EncoderResult
    refused: tuple[Check, ...]

    @property
    def met(self) -> bool:
        """Whether the encoder meets the policy."""
        return not self.refused


def gate(result: AuditResult, policy: Policy, names: Sequence[str] = ()) -> list[Gated]:
    """Judge the encoders of an audit by a policy; `names` chooses among them, or all but baselines.

    Raises
    ------
    OptionError
        If there is no such encoder, or something that the policy asks for was measured at other severities.
    """
    chosen = _chosen(result, names)
    _check_severities(result, policy, chosen)
    found = []
    for encoder in chosen:
        again = judged(encoder, result.operations, policy)
        found.append(Gated(again, tuple(check for check in again.checks if refuses(policy, check))))
    return found


def own_policy(result: AuditResult) -> Policy:
    """Return the policy that an audit was planned with."""
    return check_policy(result.plan.get("policy", {}), "the policy in audit.json")


def refuses(policy: Policy, check: Check) -> bool:
    """Return whether a policy does not let an answer through."""
    warn = policy.warn == "refuse" or check.family in policy.refuse_warn
    refused = {"FAIL": True, "WARN": warn, "UNDEFINED": policy.undefined == "refuse"}
    return refused.get(check.status, False)


def _chosen(result: AuditResult, names: Sequence[str]) -> list[EncoderResult]:
    known = {encoder.name: encoder for encoder in result.encoders}
    if names:
        for name in names:
            if name not in known:
                raise unknown("encoder of this audit", name, known)
        return [known[name] for name in dict.fromkeys(names)]
    chosen = [encoder for encoder in result.encoders if not encoder.baseline]
    if not chosen:
        raise OptionError("the audit holds baselines only", fix=f"--encoder {next(iter(known), 'NAME')}")
    return chosen


def _check_severities(result: AuditResult, policy: Policy, encoders: Sequence[EncoderResult]) -> None:
    """Raise OptionError where the policy judges at severities at which what it asks for was not measured."""
    planned = own_policy(result)
    moved = {item.name: _severity(item, planned) for item in result.operations}
    before = {item.name: _severity(item, planned) for item in result.operations}
    moved = {item.name: before[item.name] for item in result.operations if _severity(item, policy) != before[item.name]}
    needed = "selectivity" if moved and any(encoder.selectivities for encoder in encoders) else None
    if needed is None:
        rests = (item.figure for item in policy.require if item.severity is None and _rests(item, encoders, moved))
        needed = next(rests, None)
    if needed is None:
        return
    raise OptionError(
        f"{needed} was measured at other severities than the policy asks for",
        received=f"nuisances at {planned.severity}, must-react at {planned.must_react_severity}",
        valid=f"nuisances at {policy.severity}, must-react at {policy.must_react_severity}",
        fix="run histolatent audit again with --policy and the same file",
    )


def _severity(operation: OperationResult, policy: Policy) -> int:
    """Return the severity at which a policy judges an operation."""
    asked = policy.must_react_severity if operation.role == "must-react" else policy.severity
    return operation.at(asked).severity


def _rests(requirement: Requirement, encoders: Sequence[EncoderResult], moved: Mapping[str, int]) -> bool:
    """Return whether a requirement rests on a figure that was measured at one severity only, and that another one."""
    severities: dict[str, set[int]] = {}
    for encoder in encoders:
        for key, _ in encoder.figures():
            if all(key[part] == value for part, value in requirement.key.items()) and key["severity"] is not None:
                severities.setdefault(str(key["operation"]), set()).add(int(key["severity"]))
    return any(severities.get(name) == {severity} for name, severity in moved.items())
