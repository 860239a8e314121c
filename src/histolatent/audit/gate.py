"""The figures of an audit judged again, by another policy: nothing is embedded, nothing is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import OptionError, unknown
from .policy import Policy, Requirement, check_policy
from .result import AuditResult, Check, EncoderResult, OperationResult
from .verdict import judged

#: Figures that are measured at the severity of the audit's own policy only.
AT_ONE_SEVERITY = (
    *("selectivity", "selectivity_ratio", "move", "direction_consistency", "shared_consistency", "effective_rank"),
    *("explained", "gap_closed", "r2", "label_flips", "accuracy_change", "mutual_neighbours", "linear_cka"),
)


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
    moved = {role: _differs(result.operations, role, planned, policy) for role in ("must-ignore", "must-react")}
    if not any(moved.values()):
        return
    needed = "selectivity" if any(encoder.selectivities for encoder in encoders) else None
    if needed is None:
        measured = {key["metric"] for encoder in encoders for key, _ in encoder.figures()}
        needed = next((item.figure for item in policy.require if _rests(item) and item.figure in measured), None)
    if needed is None:
        return
    raise OptionError(
        f"{needed} was measured at other severities than the policy asks for",
        received=f"nuisances at {planned.severity}, must-react at {planned.must_react_severity}",
        valid=f"nuisances at {policy.severity}, must-react at {policy.must_react_severity}",
        fix="run histolatent audit again with --policy and the same file",
    )


def _differs(operations: Sequence[OperationResult], role: str, planned: Policy, policy: Policy) -> bool:
    name = "must_react_severity" if role == "must-react" else "severity"
    before, now = getattr(planned, name), getattr(policy, name)
    return any(item.at(before).severity != item.at(now).severity for item in operations if item.role == role)


def _rests(requirement: Requirement) -> bool:
    return requirement.severity is None and (
        requirement.figure in AT_ONE_SEVERITY or (requirement.figure == "displacement" and requirement.of is not None)
    )
