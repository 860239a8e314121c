"""What an encoder reacts to and what it keeps: measures, a plan, a tidy result."""

from .metrics import METRICS, Metric
from .plan import Plan
from .result import SCHEMA, AuditResult
from .run import audit_encoders
from .verdict import Policy

__all__ = ["METRICS", "SCHEMA", "AuditResult", "Metric", "Plan", "Policy", "audit_encoders"]
