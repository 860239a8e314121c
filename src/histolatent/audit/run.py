"""The verb: tiles through encoders, every view measured, one document out."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .._types import Vectors
from ..embeddings import PartialTable, write_table
from ..encoders import Encoder
from ..encoders.embed import Embedded, Progress, as_table, embed_views, source_card, source_digest
from ..encoders.vectors import VectorEncoder
from ..errors import InputError, OptionError
from ..images import TileSource, open_tiles
from ..perturb import OPERATIONS, SEVERITIES, Ladder
from ..provenance import combined_digest, environment, now, stream, version
from ..stats import Estimate, bootstrap, bootstrap_means
from .displacement import Null, measure_moves, measure_ranks, random_pair_null, selectivity
from .findings import find
from .plan import (
    LEAKAGE_COLUMNS,
    Groups,
    Plan,
    check_tables,
    chosen_rows,
    describe_groups,
    find_groups,
    limit,
    scale_warnings,
    texts,
)
from .probes import NotReadable, Reading, probe
from .result import (
    AuditResult,
    Dose,
    EncoderResult,
    Figure,
    NullResult,
    OperationResult,
    ProbeResult,
    Step,
    WorstTile,
)
from .verdict import judge, overall, skill

WORST_TILES = 6


@dataclass(frozen=True)
class Measured:
    """The tiles that could be read, with what belongs to them."""

    table: pd.DataFrame
    groups: Groups
    plan: Plan
    operations: list[OperationResult]

    def column(self, name: str) -> list[str | None] | None:
        """Return a text column with None for missing, or None if there is no such column."""
        if name not in self.table:
            return None
        return texts(self.table, name)


def audit_encoders(
    src: str | os.PathLike[str] | TileSource,
    encoders: Sequence[Encoder | VectorEncoder],
    work: str | os.PathLike[str] | None = None,
    *,
    plan: Plan | None = None,
    baselines: Sequence[str] = (),
    batch_size: int = 64,
    workers: int = 0,
    restart: bool = False,
    keep: bool = False,
    progress: Progress | None = None,
) -> tuple[AuditResult, dict[str, float]]:
    """Audit encoders on the same tiles, the same perturbed pixels and the same resamples.

    `work` is the folder for embeddings while the run goes on; call again with the same arguments to go on after an
    interruption (with None, a temporary one, and no going on). With `keep`, one table per encoder stays there
    (`NAME.zarr`, perturbed embeddings as layers).
    `baselines` names those of `encoders` that serve as yardsticks. Returns the result and the seconds spent, by part.

    Raises
    ------
    InputError
        If there are fewer than 10 tiles, precomputed vectors do not match the tiles, or a patient straddles a split.
    """
    plan = plan or Plan()
    if not encoders:
        raise OptionError("no encoder to audit", fix="name one, such as toy:random-conv")
    if work is None:
        with tempfile.TemporaryDirectory() as temporary:
            return audit_encoders(
                src,
                encoders,
                temporary,
                plan=plan,
                baselines=baselines,
                batch_size=batch_size,
                workers=workers,
                progress=progress,
            )
    names = _unique_names(encoders)
    whole = open_tiles(src)
    encoders = [_matched(encoder, whole, plan) for encoder in encoders]
    source = limit(whole, plan.max_tiles, plan.seed)
    check_tables(source.table)
    find_groups(source.table)  # a leaking split must stop the run before the long part
    pixel = [encoder for encoder in encoders if not isinstance(encoder, VectorEncoder)]
    ladder = Ladder(plan.operations, plan.seed, plan.mpp)
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / f"{file_name(names[i])}.zarr" for i, e in enumerate(encoders) if e in pixel]
    embedded = embed_views(
        source,
        pixel,
        targets,
        views=ladder,
        plan={"seed": plan.seed, "mpp": plan.mpp},
        batch_size=batch_size,
        workers=workers,
        on_error=plan.on_error,
        restart=restart,
        progress=progress,
    )
    kept = embedded.stores[0].kept if pixel else np.ones(len(source.table), bool)
    table = pd.DataFrame(source.table[kept])
    check_tables(table)
    operations = _operations(ladder, embedded.stores[0], kept) if pixel else []
    measured = Measured(table, find_groups(table), plan, operations)
    results, pending = [], iter(embedded.stores)
    for name, encoder in zip(names, encoders, strict=True):
        views = encoder.vectors[:, None] if isinstance(encoder, VectorEncoder) else next(pending).vectors()
        results.append(_measure(name, encoder, views[kept], measured, baseline=name in baselines))
    facts, warnings = describe_groups(measured.groups)
    result = AuditResult(
        histolatent=version(),
        created=now(),
        plan=plan.model_dump(mode="json"),
        tiles=source_card(source, embedded.stores[0]) if pixel else _unread(source),
        clusters=facts,
        warnings=warnings + (scale_warnings(table, plan) if pixel else []),
        operations=operations,
        encoders=results,
        findings=[],
        environment=environment(),
    )
    _finish(embedded, source, pixel, targets, keep=keep)
    return result.model_copy(update={"findings": find(result)}), embedded.seconds.to_dict()


def _matched(encoder: Encoder | VectorEncoder, source: TileSource, plan: Plan) -> Encoder | VectorEncoder:
    """Return the encoder; precomputed vectors checked against the source, and cut to the rows of the plan."""
    if not isinstance(encoder, VectorEncoder):
        return encoder
    if len(encoder.vectors) != len(source.table):
        raise InputError(
            f"{encoder.card.name} has {len(encoder.vectors)} rows for {len(source.table)} tiles",
            fix="give one vector per row of the table, in the same order",
        )
    rows = chosen_rows(len(source.table), plan.max_tiles, plan.seed)
    return replace(encoder, vectors=encoder.vectors[rows])


def _finish(
    embedded: Embedded, source: TileSource, encoders: Sequence[Encoder], targets: Sequence[Path], *, keep: bool
) -> None:
    for position, (encoder, target) in enumerate(zip(encoders, targets, strict=True)):
        if keep:
            write_table(as_table(embedded, position, source, encoder), target, overwrite=True)
        embedded.stores[position].remove()


def _unread(source: TileSource) -> dict[str, object]:
    return {"name": source.name, "tiles": len(source.table), "table_sha256": source_digest(source), "skipped": {}}


def _unique_names(encoders: Sequence[Encoder | VectorEncoder]) -> list[str]:
    names = [encoder.card.name for encoder in encoders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError("an encoder is named twice", received=", ".join(twice))
    return names


def file_name(name: str) -> str:
    """Return a name that is safe as a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _operations(ladder: Ladder, store: PartialTable, kept: np.ndarray) -> list[OperationResult]:
    hashes = store.hashes()[kept]
    columns = {step: hashes[:, 1 + i] for i, step in enumerate(ladder.steps)}
    return [
        OperationResult(
            name=name,
            family=OPERATIONS[name].family,
            role=OPERATIONS[name].role,
            parameter=OPERATIONS[name].parameter,
            unit=OPERATIONS[name].unit,
            graded=OPERATIONS[name].graded,
            describes=OPERATIONS[name].describes,
            misleads=OPERATIONS[name].misleads,
            steps=[
                Step(
                    severity=severity,
                    level=OPERATIONS[name].levels[severity - 1],
                    pixels_sha256=combined_digest(f"{value:016x}" for value in columns[name, severity]),
                )
                for severity in SEVERITIES
            ],
        )
        for name in ladder.operations
    ]


def _measure(
    name: str, encoder: Encoder | VectorEncoder, views: np.ndarray, measured: Measured, *, baseline: bool
) -> EncoderResult:
    plan, vectors = measured.plan, np.ascontiguousarray(views[:, 0])
    labels = measured.column("label")
    codes = None
    if labels is not None:
        known = [value or "" for value in labels]
        codes = np.where([value is not None for value in labels], np.unique(known, return_inverse=True)[1], -1)
    groups = measured.groups
    null = random_pair_null(vectors, groups.apart, apart=groups.apart_by, labels=codes, seed=plan.seed)
    operations = [] if isinstance(encoder, VectorEncoder) else measured.operations
    steps = [(operation.name, severity) for operation in operations for severity in SEVERITIES]
    moves = [measure_moves(vectors, views[:, 1 + i], null) for i in range(len(steps))]
    doses = _doses(vectors, views, moves, steps, measured)
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
    checks = judge(plan.policy, operations, summary, null.is_defined, doses, selective, probes, leak)
    return EncoderResult(
        name=name,
        card=encoder.card.model_dump(mode="json"),
        identity=encoder.card.identity,
        baseline=baseline,
        null=summary,
        selectivity=selective,
        doses=doses,
        probes=probes,
        checks=checks,
        verdict=overall(checks),
        worst=_worst(moves, steps, measured, null),
    )


def _doses(
    vectors: Vectors,
    views: np.ndarray,
    moves: list[dict[str, np.ndarray]],
    steps: list[tuple[str, int]],
    measured: Measured,
) -> list[Dose]:
    if not moves:
        return []
    plan, n = measured.plan, len(vectors)
    queries = np.sort(stream(plan.seed, "queries", n).permutation(n)[: plan.rank_queries])
    ranks = [measure_ranks(vectors, views[queries, 1 + i], queries) for i in range(len(steps))]
    tables = [_estimates(moves, measured.groups.codes, plan)]
    tables.append(_estimates(ranks, np.unique(measured.groups.codes[queries], return_inverse=True)[1], plan))
    return [
        Dose(
            operation=operation,
            severity=severity,
            metrics={metric: Figure.of(estimate) for table in tables for metric, estimate in table[i].items()},
        )
        for i, (operation, severity) in enumerate(steps)
    ]


def _estimates(columns: list[dict[str, np.ndarray]], codes: np.ndarray, plan: Plan) -> list[dict[str, Estimate]]:
    names = list(columns[0])
    values = np.stack([column[name] for column in columns for name in names], axis=1)
    flat = iter(bootstrap_means(values, codes, resamples=plan.resamples, seed=plan.seed))
    return [{name: next(flat) for name in names} for _ in columns]


def _selectivity(moves: list[dict[str, np.ndarray]], steps: list[tuple[str, int]], measured: Measured) -> Figure | None:
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


def _worst(
    moves: list[dict[str, np.ndarray]], steps: list[tuple[str, int]], measured: Measured, null: Null
) -> list[WorstTile]:
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
