"""What an encoder reacts to and what it keeps: measures, a plan, a tidy result."""

from .metrics import METRICS, Metric
from .pairs import Pairs, audit_pairs
from .plan import PARTS, Plan
from .policy import Policy, read_policy
from .result import SCHEMA, AuditResult
from .run import AuditRun, audit_encoders

__all__ = [
    "METRICS",
    "PARTS",
    "SCHEMA",
    "AuditResult",
    "AuditRun",
    "Metric",
    "Pairs",
    "Plan",
    "Policy",
    "audit_encoders",
    "audit_pairs",
    "read_policy",
]
