"""Every figure of one encoder: moves against the null, ranks, selectivity, probes, verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._types import Codes, Vectors
from ..encoders import ContractCheck, Encoder
from ..encoders.vectors import VectorEncoder
from ..perturb import OPERATIONS, SEVERITIES
from ..provenance import stream
from ..stats import Estimate, bootstrap, bootstrap_means
from .displacement import Null, measure_moves, measure_ranks, random_pair_null, selectivity
from .plan import LEAKAGE_COLUMNS, Groups, Plan, texts
from .probes import NotReadable, Reading, probe
from .result import ContractAnswer, Dose, EncoderResult, Figure, NullResult, OperationResult, ProbeResult, WorstTile
from .verdict import judge, keeps_contract, overall, skill

WORST_TILES = 6
Steps = list[tuple[str, int]]
Columns = list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class Measured:
    """The tiles that could be read, `rows` of the source, with what belongs to them."""

    table: pd.DataFrame
    rows: Codes
    groups: Groups
    plan: Plan
    operations: list[OperationResult]

    def column(self, name: str) -> list[str | None] | None:
        """Return a text column with None for missing, or None if there is no such column."""
        if name not in self.table:
            return None
        return texts(self.table, name)


def measure_encoder(
    name: str,
    encoder: Encoder | VectorEncoder,
    views: np.ndarray,
    measured: Measured,
    *,
    contract: Sequence[ContractCheck] = (),
    baseline: bool = False,
) -> EncoderResult:
    """Measure one encoder. `views` is `(all rows, v, d)`, view 0 the tiles as they are; it may be a memory map."""
    plan, vectors = measured.plan, views[measured.rows, 0]
    labels = measured.column("label")
    codes = None
    if labels is not None:
        known = [value or "" for value in labels]
        codes = np.where([value is not None for value in labels], np.unique(known, return_inverse=True)[1], -1)
    groups = measured.groups
    null = random_pair_null(vectors, groups.apart, apart=groups.apart_by, labels=codes, seed=plan.seed)
    operations = [] if isinstance(encoder, VectorEncoder) else measured.operations
    steps = [(operation.name, severity) for operation in operations for severity in SEVERITIES]
    moves, ranks, queries = _move_columns(vectors, views, len(steps), null, measured)
    doses = _doses(moves, ranks, queries, steps, measured)
    selective = _selectivity(moves, steps, measured) if moves and null.is_defined else None
    probes, leak = _probe_all(vectors, measured)
    summary = NullResult(
        apart=null.apart,
        pairs=len(null.cosine),
        median=null.median,
        p05=float(np.quantile(null.cosine, 0.05)),
        p95=float(np.quantile(null.cosine, 0.95)),
        same_label_median=None if null.same_label is None else float(np.median(null.same_label)),
    )
    kept = [keeps_contract(contract)] if contract else []
    checks = [*kept, *judge(plan.policy, operations, summary, null.is_defined, doses, selective, probes, leak)]
    return EncoderResult(
        name=name,
        card=encoder.card.model_dump(mode="json"),
        identity=encoder.card.identity,
        baseline=baseline,
        contract=[ContractAnswer.model_validate(check.to_dict()) for check in contract],
        null=summary,
        selectivity=selective,
        doses=doses,
        probes=probes,
        checks=checks,
        verdict=overall(checks),
        worst=_worst(moves, steps, measured, null),
    )


def _move_columns(
    vectors: Vectors, views: np.ndarray, steps: int, null: Null, measured: Measured
) -> tuple[Columns, Columns, Codes]:
    """Return per-tile columns of each step: moves of all tiles, ranks of those that are asked for. One view at once."""
    n = len(vectors)
    queries = np.sort(stream(measured.plan.seed, "queries", n).permutation(n)[: measured.plan.rank_queries])
    moves: Columns = []
    ranks: Columns = []
    for i in range(steps):
        moved = views[measured.rows, 1 + i]
        moves.append(measure_moves(vectors, moved, null))
        ranks.append(measure_ranks(vectors, moved[queries], queries))
    return moves, ranks, queries


def _doses(moves: Columns, ranks: Columns, queries: Codes, steps: Steps, measured: Measured) -> list[Dose]:
    if not moves:
        return []
    codes = measured.groups.codes
    tables = [
        _estimates(moves, codes, measured.plan),
        _estimates(ranks, np.unique(codes[queries], return_inverse=True)[1], measured.plan),
    ]
    return [
        Dose(
            operation=operation,
            severity=severity,
            metrics={metric: Figure.of(estimate) for table in tables for metric, estimate in table[i].items()},
        )
        for i, (operation, severity) in enumerate(steps)
    ]


def _estimates(columns: Columns, codes: np.ndarray, plan: Plan) -> list[dict[str, Estimate]]:
    names = list(columns[0])
    values = np.stack([column[name] for column in columns for name in names], axis=1)
    flat = iter(bootstrap_means(values, codes, resamples=plan.resamples, seed=plan.seed))
    return [{name: next(flat) for name in names} for _ in columns]


def _selectivity(moves: Columns, steps: Steps, measured: Measured) -> Figure | None:
    policy = measured.plan.policy
    wanted = {"must-react": policy.must_react_severity, "must-ignore": policy.severity}
    columns: dict[str, list[np.ndarray]] = {"must-react": [], "must-ignore": []}
    for (operation, severity), move in zip(steps, moves, strict=True):
        role = OPERATIONS[operation].role
        if role in wanted and severity == wanted[role]:
            columns[role].append(move["cosine_distance"])
    if not columns["must-react"] or not columns["must-ignore"]:
        return None
    ignore = np.stack(columns["must-ignore"], axis=1)
    share = np.mean([selectivity(react, ignore) for react in columns["must-react"]], axis=0)
    plan = measured.plan
    return Figure.of(
        bootstrap_means(share[:, None], measured.groups.codes, resamples=plan.resamples, seed=plan.seed)[0]
    )


def _probe_all(vectors: Vectors, measured: Measured) -> tuple[list[ProbeResult], Figure | None]:
    split = measured.column("split")
    if split is not None and not {"train", "test"} <= set(split):
        split = None
    results: list[ProbeResult] = []
    readings: dict[str, Reading] = {}
    for target in ("label", *LEAKAGE_COLUMNS):
        column = measured.column(target)
        if column is None:
            continue
        reading = probe(vectors, column, measured.groups.codes, split=split, seed=measured.plan.seed)
        results.append(_probe_result(target, reading, measured))
        if isinstance(reading, Reading):
            readings[target] = reading
    leaking = [result for result in results if result.kind == "leakage" and result.target in readings]
    if "label" not in readings or not leaking:
        return results, None
    worst = max(leaking, key=lambda item: skill(item.balanced_accuracy.value or 0, item.chance or 0))
    return results, _skill_gap(readings[worst.target], readings["label"], measured)


def _probe_result(target: str, reading: Reading | NotReadable, measured: Measured) -> ProbeResult:
    kind = "signal" if target == "label" else "leakage"
    if isinstance(reading, NotReadable):
        nothing = Figure(value=None)
        return ProbeResult(
            target=target,
            title=measured.plan.title(target),
            kind=kind,
            classes=[],
            tiles=0,
            folds=0,
            balanced_accuracy=nothing,
            auroc=nothing,
            chance=None,
            reason=reading.reason,
        )
    codes = np.unique(measured.groups.codes[reading.rows], return_inverse=True)[1]
    plan = measured.plan
    figures = [
        Figure.of(bootstrap(statistic, codes, resamples=plan.resamples, seed=plan.seed))
        for statistic in (reading.accuracy(), reading.auroc())
    ]
    return ProbeResult(
        target=target,
        title=plan.title(target),
        kind=kind,
        classes=list(reading.classes),
        tiles=len(reading.rows),
        folds=reading.folds,
        balanced_accuracy=figures[0],
        auroc=figures[1],
        chance=1 / len(reading.classes),
    )


def _skill_gap(leak: Reading, signal: Reading, measured: Measured) -> Figure | None:
    """Return skill of the leak minus skill of the signal, on the same resamples of the tiles that both cover."""
    both, first, second = np.intersect1d(leak.rows, signal.rows, return_indices=True)
    if not len(both):
        return None
    parts = []
    for reading, rows in ((leak, first), (signal, second)):
        part = Reading(both, reading.codes[rows], reading.predicted[rows], reading.scores[rows], reading.classes, 0)
        parts.append((part.accuracy(), 1 / len(reading.classes)))
    codes = np.unique(measured.groups.codes[both], return_inverse=True)[1]

    def gap(weights: np.ndarray) -> np.ndarray:
        (leaked, leak_chance), (kept, kept_chance) = parts
        return (leaked(weights) - leak_chance) / (1 - leak_chance) - (kept(weights) - kept_chance) / (1 - kept_chance)

    return Figure.of(bootstrap(gap, codes, resamples=measured.plan.resamples, seed=measured.plan.seed))


def _worst(moves: Columns, steps: Steps, measured: Measured, null: Null) -> list[WorstTile]:
    """Return the tiles that a must-ignore change at the policy's severity moved furthest, one entry a tile."""
    if not moves or not null.is_defined:
        return []
    severity = measured.plan.policy.severity
    chosen = [i for i, (name, s) in enumerate(steps) if s == severity and OPERATIONS[name].role == "must-ignore"]
    displacement = np.stack([moves[i]["displacement"] for i in chosen], axis=1)
    order = np.argsort(-displacement.max(axis=1), kind="stable")[:WORST_TILES]
    return [
        WorstTile(
            tile=str(measured.table.index[row]),
            operation=steps[chosen[int(displacement[row].argmax())]][0],
            severity=severity,
            displacement=float(f"{displacement[row].max():.6g}"),
        )
        for row in order
    ]
