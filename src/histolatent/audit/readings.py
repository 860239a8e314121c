"""What can be read from an embedding: the label, and what leaks, by fresh probes and by votes of neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import Codes, GivenCodes, Vectors
from ..probes import Chance, FittedProbe, NotReadable, Reading, fit_probe, measure_chance, neighbour_votes
from ..spectrum import is_constant
from ..stats import Statistic, balanced_accuracy
from .measured import Measured
from .plan import LEAKAGE_COLUMNS
from .result import Figure, ProbeResult, TransferResult
from .space import SLOW_TILES, confounders, same_partition, search
from .transfer import leave_site_out

VOTES = 10


@dataclass(frozen=True)
class Readings:
    """What probes found. `fitted` and `readings` are by target; a target that cannot be probed is in neither."""

    results: list[ProbeResult]
    fitted: dict[str, FittedProbe]
    readings: dict[str, Reading]
    leak: Figure | None


def probe_all(vectors: Vectors, measured: Measured) -> Readings:
    """Probe the label and everything that may leak, by a fresh regression and by a vote of neighbours."""
    split = measured.column("split")
    if split is not None and not {"train", "test"} <= set(split):
        split = None
    groups = measured.groups.codes
    near = _vote_neighbours(vectors, measured)
    results: list[ProbeResult] = []
    fitted: dict[str, FittedProbe] = {}
    readings: dict[str, Reading] = {}
    chances: dict[str, Chance] = {}
    for target in ("label", *LEAKAGE_COLUMNS):
        column = _probed_column(target, measured)
        if column is None:
            continue
        if target != "label" and _is_the_label(target, measured):
            label = measured.plan.title("label")
            probe = NotReadable(f"it divides the tiles as {label} does: what is read of one is read of both")
        else:
            probe = fit_probe(vectors, column, groups, split=split, seed=measured.plan.seed)
        if isinstance(probe, NotReadable):
            results.append(_not_probed(target, probe.reason, measured))
            continue
        fitted[target], readings[target] = probe, probe.read(vectors)
        chances[target] = measure_chance(probe, vectors, groups, seed=measured.plan.seed)
        votes = _votes(near, target, measured)
        results.append(_probe_result(target, readings[target], votes, chances[target], measured))
    return Readings(results, fitted, readings, _leak(results, readings, chances, measured))


def _is_the_label(target: str, measured: Measured) -> bool:
    label, other = measured.codes("label"), measured.codes(target)
    return label is not None and other is not None and len(other[1]) > 1 and same_partition(label[0], other[0])


def _probed_column(name: str, measured: Measured) -> list[str | None] | None:
    """Return a text column with None for what is missing or not among the tiles that probes see."""
    column = measured.column(name)
    if column is None:
        return None
    seen = set(measured.sample(SLOW_TILES, "probes").tolist())
    return [value if row in seen else None for row, value in enumerate(column)]


def _probe_result(target: str, reading: Reading, votes: Figure, chance: Chance, measured: Measured) -> ProbeResult:
    accuracy, auroc = (
        measured.figure(statistic, reading.rows, wider=chance.wider, limits=(0, 1))
        for statistic in (reading.accuracy(), reading.auroc())
    )
    return ProbeResult(
        **_asked(target, measured),
        classes=list(reading.classes),
        tiles=len(reading.rows),
        folds=reading.folds,
        balanced_accuracy=accuracy,
        auroc=auroc,
        neighbours=votes,
        chance=1 / len(reading.classes),
        chance_band=(float(f"{chance.low:.6g}"), float(f"{chance.high:.6g}")),
    )


def _not_probed(target: str, reason: str, measured: Measured) -> ProbeResult:
    nothing = Figure(value=None)
    return ProbeResult(
        **_asked(target, measured),
        classes=[],
        tiles=0,
        folds=0,
        balanced_accuracy=nothing,
        auroc=nothing,
        neighbours=nothing,
        chance=None,
        reason=reason,
    )


def _asked(target: str, measured: Measured) -> dict[str, Any]:
    kind = "signal" if target == "label" else "leakage"
    return {"target": target, "title": measured.plan.title(target), "kind": kind}


def _vote_neighbours(vectors: Vectors, measured: Measured) -> tuple[GivenCodes, np.ndarray] | None:
    """Return a sample of tiles and, of each, its nearest of other groups; None where there can be none."""
    rows, groups = measured.sample(measured.plan.space_tiles, "space"), measured.groups.codes
    if len(np.unique(groups)) < 2 or is_constant(vectors[rows]):
        return None
    return rows, search(vectors, min(VOTES, len(vectors) - 1), measured, rows=rows, groups=groups).plain.index


def _votes(near: tuple[Codes, np.ndarray] | None, target: str, measured: Measured) -> Figure:
    found = measured.codes(target)
    if near is None or found is None:
        return Figure(value=None)
    (rows, index), codes = near, found[0]
    right = neighbour_votes(np.where(codes[index] >= 0, index, -1), codes) == codes[rows]
    known = codes[rows] >= 0
    return measured.figure(balanced_accuracy(right[known].astype(float), codes[rows][known]), rows[known])


def _leak(
    results: list[ProbeResult], readings: dict[str, Reading], chances: dict[str, Chance], measured: Measured
) -> Figure | None:
    """Return the skill of the worst leak less that of the label, on the same resamples of the tiles both cover."""
    leaking = [result for result in results if result.kind == "leakage" and result.target in readings]
    if "label" not in readings or not leaking:
        return None
    worst = max(leaking, key=lambda item: item.skill.value or 0.0)
    leak, signal = readings[worst.target], readings["label"]
    both, first, second = np.intersect1d(leak.rows, signal.rows, return_indices=True)
    if not len(both):
        return None
    parts: list[tuple[Statistic, float]] = [
        (balanced_accuracy(reading.correct[rows], reading.codes[rows]), 1 / len(reading.classes))
        for reading, rows in ((leak, first), (signal, second))
    ]

    def gap(weights: np.ndarray) -> np.ndarray:
        (leaked, leak_chance), (kept, kept_chance) = parts
        return (leaked(weights) - leak_chance) / (1 - leak_chance) - (kept(weights) - kept_chance) / (1 - kept_chance)

    wider = max(chances[worst.target].wider, chances["label"].wider)
    return measured.figure(gap, both, wider=wider)


def transfer(
    vectors: Vectors, measured: Measured, seen: Reading | None
) -> tuple[list[TransferResult], np.ndarray | None]:
    """Leave out each site (scanner, staining) in turn and read the label there.

    The second is the label that was read of each tile without its site, None where it was not.
    """
    columns, _ = confounders(measured)
    target = _probed_column("label", measured)
    if not columns or target is None or seen is None:
        return [], None
    sites = measured.column(columns[0])
    assert sites is not None  # it is one of the columns
    plan = measured.plan
    found = leave_site_out(
        vectors, target, sites, measured.clusters, seen=seen, resamples=plan.resamples, seed=plan.seed
    )
    nothing, read = Figure(value=None), np.full(len(target), None, object)
    for item in found.values():
        if not isinstance(item, NotReadable):
            read[list(item.rows)] = item.read
    results = [
        TransferResult(
            column=columns[0],
            left_out=site,
            tiles=0,
            unseen=nothing,
            seen=nothing,
            gap=nothing,
            reason=item.reason,
        )
        if isinstance(item, NotReadable)
        else TransferResult(
            column=columns[0],
            left_out=site,
            tiles=len(item.rows),
            unseen=Figure.of(item.unseen),
            seen=Figure.of(item.seen),
            gap=Figure.of(item.gap),
        )
        for site, item in found.items()
    ]
    return results, read
