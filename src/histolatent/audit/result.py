"""The result of an audit: one frozen document with a versioned schema."""

from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from ..stats import Estimate

SCHEMA = 1

Status = Literal["PASS", "WARN", "FAIL", "UNDEFINED"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Frozen):
    """A number with its 95 % interval. None: not defined, or no interval can be had."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> "Figure":
        """Round an estimate to six digits; NaN becomes None."""
        return cls(value=_round(estimate.value), low=_round(estimate.low), high=_round(estimate.high))


def _round(value: float | None) -> float | None:
    return None if value is None or value != value else float(f"{value:.6g}")


class Step(_Frozen):
    """One operation at one severity, as it was applied."""

    severity: int
    level: float
    pixels_sha256: str


class OperationResult(_Frozen):
    """What was done to the tiles."""

    name: str
    family: str
    role: str
    parameter: str
    unit: str
    graded: bool
    control: str | None
    describes: str
    misleads: str
    steps: list[Step]


class Dose(_Frozen):
    """Metrics of one encoder for one operation at one severity, by name."""

    operation: str
    severity: int
    metrics: dict[str, Figure]


class NullResult(_Frozen):
    """How far apart unrelated tiles are (cosine distance)."""

    apart: str
    pairs: int
    median: float
    p05: float
    p95: float
    same_label_median: float | None


class ProbeResult(_Frozen):
    """What a fresh probe reads of one target; `reason` says why where it reads nothing."""

    target: str
    title: str
    kind: Literal["signal", "leakage"]
    classes: list[str]
    tiles: int
    folds: int
    balanced_accuracy: Figure
    auroc: Figure
    chance: float | None
    reason: str | None = None


class Check(_Frozen):
    """One question of the verdict with its answer in words."""

    name: str
    status: Status
    sentence: str
    figure: Figure | None = None
    threshold: str | None = None


class ContractAnswer(_Frozen):
    """One question to the encoder itself (does it repeat, does a row depend on its batch), with the way to mend it."""

    name: str
    status: Status
    sentence: str
    fix: str | None


class WorstTile(_Frozen):
    """A tile that a must-ignore change moved far."""

    tile: str
    operation: str
    severity: int
    displacement: float


class EncoderResult(_Frozen):
    """Everything about one encoder."""

    name: str
    card: dict[str, Any]
    identity: str
    baseline: bool
    contract: list[ContractAnswer]
    null: NullResult
    selectivity: Figure | None
    doses: list[Dose]
    probes: list[ProbeResult]
    checks: list[Check]
    verdict: Status
    worst: list[WorstTile]


class AuditResult(_Frozen):
    """The document `audit.json`. `created` is its only part that differs between two runs of the same audit."""

    schema_version: int = SCHEMA
    histolatent: str
    created: str
    plan: dict[str, Any]
    tiles: dict[str, Any]
    clusters: dict[str, Any]
    warnings: list[str]
    operations: list[OperationResult]
    encoders: list[EncoderResult]
    findings: list[str]
    environment: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return self.model_dump(mode="json")

    def to_frame(self) -> pd.DataFrame:
        """Return the doses as a tidy table: one row per encoder, operation, severity and metric."""
        rows = [
            {
                "encoder": encoder.name,
                "operation": dose.operation,
                "severity": dose.severity,
                "metric": metric,
                **figure.model_dump(),
            }
            for encoder in self.encoders
            for dose in encoder.doses
            for metric, figure in dose.metrics.items()
        ]
        columns = ["encoder", "operation", "severity", "metric", "value", "low", "high"]
        return pd.DataFrame(rows, columns=pd.Index(columns))

    def probes_frame(self) -> pd.DataFrame:
        """Return the probes as a table: one row per encoder and target."""
        parts = ("balanced_accuracy", "auroc")
        rows = []
        for encoder in self.encoders:
            for item in encoder.probes:
                row = {"encoder": encoder.name, "target": item.target, "kind": item.kind, "chance": item.chance}
                for metric, figure in zip(parts, (item.balanced_accuracy, item.auroc), strict=True):
                    row |= {metric: figure.value, f"{metric}_low": figure.low, f"{metric}_high": figure.high}
                rows.append(row | {"reason": item.reason})
        figures = [f"{metric}{end}" for metric in parts for end in ("", "_low", "_high")]
        return pd.DataFrame(rows, columns=pd.Index(["encoder", "target", "kind", "chance", *figures, "reason"]))
