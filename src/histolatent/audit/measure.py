"""Every figure of one encoder: moves against the null, structure, probes, neighbours, pairs, verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._types import Tiles, Vectors
from ..encoders import ContractCheck, Encoder
from ..encoders.vectors import VectorEncoder
from ..images import TileSource
from ..probes import NotReadable
from .comparison import MOVE, READ, TRUE, UNSEEN
from .displacement import Null, random_pair_null
from .factors import FittedFactor, fit_factor
from .ladder import Ladder, climb_ladder, find_worst, measure_selectivity
from .look import compare_by_eye, find_sensitive_parts
from .measured import Measured, ViewStack
from .readings import Readings, probe_all, transfer
from .result import ContractAnswer, EncoderResult, FactorResult, Figure, NullResult
from .space import compare_all_batches, measure_space
from .verdict import judged

#: Factors are read by fits on at most as many tiles.
FACTOR_TILES = 5000


@dataclass(frozen=True)
class Pixels:
    """What an audit may look at again: the source, and thumbnails of the measured tiles `chosen`."""

    source: TileSource
    chosen: np.ndarray
    thumbnails: Tiles | None


def measure_encoder(
    name: str,
    encoder: Encoder | VectorEncoder,
    views: ViewStack,
    measured: Measured,
    *,
    pixels: Pixels | None = None,
    contract: Sequence[ContractCheck] = (),
    baseline: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> tuple[EncoderResult, pd.DataFrame]:
    """Measure one encoder. `views` is `(all rows, v, d)`, view 0 the tiles as they are; it may be a memory map.

    Returns the result, and per-tile figures as a table (see `tiles_of`). `advance` is called after each of
    `steps_of(measured)` steps.
    """
    plan, wanted = measured.plan, measured.plan.wanted
    vectors = as_they_are(views, measured)
    label = measured.codes("label")
    groups = measured.groups
    null = random_pair_null(
        vectors, groups.apart, apart=groups.apart_by, labels=None if label is None else label[0], seed=plan.seed
    )
    readings = probe_all(vectors, measured)
    advance()
    fitted, unread = _fit_factors(vectors, measured) if "factors" in wanted else ({}, [])
    perturbed = views.shape[1] > 1
    ladder = Ladder()
    if perturbed:
        probe = readings.fitted.get("label") if "flips" in wanted else None
        ladder = climb_ladder(vectors, views, null, measured, label=probe, factors=fitted, advance=advance)
    selective = measure_selectivity(ladder, measured) if perturbed and null.is_defined else None
    worst = find_worst(ladder, measured) if perturbed and null.is_defined else []
    space = measure_space(vectors, measured)
    advance()
    batches = compare_all_batches(vectors, measured) if "distances" in wanted else []
    advance()
    discordance = None
    if pixels is not None and pixels.thumbnails is not None:
        discordance = compare_by_eye(vectors, pixels.thumbnails, pixels.chosen, measured)
    sensitivity = []
    if "sensitivity" in wanted and pixels is not None and not isinstance(encoder, VectorEncoder) and null.is_defined:
        sensitivity = find_sensitive_parts(encoder, pixels.source, worst, measured, null.median)
    advance()
    label_reading = readings.readings.get("label")
    transfers, unseen = transfer(vectors, measured, label_reading) if "transfer" in wanted else ([], None)
    result = EncoderResult(
        name=name,
        card=encoder.card.model_dump(mode="json"),
        identity=encoder.card.identity,
        baseline=baseline,
        contract=[ContractAnswer.model_validate(check.to_dict()) for check in contract],
        null=_null_result(null),
        doses=ladder.doses,
        responses=ladder.responses,
        equivariance=ladder.equivariance,
        flips=ladder.flips,
        parts=ladder.parts,
        selectivity=selective and selective.all,
        selectivities=selective.by_operation if selective else [],
        selectivity_against=selective.against if selective else [],
        probes=readings.results,
        leak=readings.leak,
        transfer=transfers,
        space=space,
        batches=[*ladder.batches, *batches],
        factors=[*_factor_results(vectors, fitted, ladder, measured), *unread],
        discordance=discordance,
        sensitivity=sensitivity,
        checks=[],
        families=[],
        verdict="UNDEFINED",
        worst=worst,
    )
    tiles = tiles_of(name, measured, ladder, readings, selective and selective.by_tile, unseen)
    return judged(result, measured.operations, plan.policy), tiles


def as_they_are(views: ViewStack, measured: Measured) -> Vectors:
    """Return the vectors of the tiles as they are; not copied where there is nothing else."""
    alone = views.shape[:2] == (len(measured.rows), 1)
    return np.asarray(views[:, 0] if alone else views[measured.rows, 0])


def steps_of(measured: Measured, *, perturbed: bool) -> int:
    """Return how many steps `measure_encoder` takes."""
    return 4 + (len(measured.operations) if perturbed else 0)


def tiles_of(
    name: str,
    measured: Measured,
    ladder: Ladder,
    readings: Readings,
    selectivity: np.ndarray | None,
    unseen: np.ndarray | None,
) -> pd.DataFrame:
    """Return one row per tile: `encoder`, `tile`, `group`, and what paired comparisons need.

    `displacement: OPERATION` is that at the judged severity, `selectivity` the share of nuisances that move the tile
    less than destroyed biology does, `TARGET: true` and `TARGET: read` the class and what a probe said. The target
    `unseen label` is the label as probes read it that have not seen the site, `unseen`.
    """
    columns: dict[str, object] = {"encoder": name, "tile": measured.table.index.astype(str)}
    columns["group"] = measured.groups.codes
    columns |= {MOVE + operation: moves.astype(np.float32) for operation, moves in ladder.moves.items()}
    if selectivity is not None:
        columns["selectivity"] = selectivity.astype(np.float32)
    for target, reading in readings.readings.items():
        classes = np.array(reading.classes, object)
        for end, codes in ((TRUE, reading.codes), (READ, reading.predicted)):
            column = np.full(len(measured.rows), None, object)
            column[reading.rows] = classes[codes]
            columns[target + end] = column
    if unseen is not None:
        columns |= {UNSEEN + TRUE: columns["label" + TRUE], UNSEEN + READ: unseen}
    return pd.DataFrame(columns)


def _null_result(null: Null) -> NullResult:
    low, middle, high = np.quantile(null.cosine, [0.05, 0.5, 0.95]) if len(null.cosine) else (0.0, 0.0, 0.0)
    return NullResult(
        apart=null.apart,
        pairs=len(null.cosine),
        defined=null.is_defined,
        median=float(middle),
        p05=float(low),
        p95=float(high),
        same_label_median=None if null.same_label is None else float(np.median(null.same_label)),
    )


def _fit_factors(vectors: Vectors, measured: Measured) -> tuple[dict[str, FittedFactor], list[FactorResult]]:
    """Fit each factor on a sample of the tiles; the second holds those that cannot be read, with the reason."""
    fitted: dict[str, FittedFactor] = {}
    unread = []
    some = measured.sample(FACTOR_TILES, "factors")
    for name in measured.factors:
        values = np.full(len(vectors), np.nan)
        values[some] = measured.factors[name].to_numpy(float)[some]
        found = fit_factor(vectors, values, measured.groups.codes, seed=measured.plan.seed)
        if isinstance(found, NotReadable):
            unread.append(FactorResult(factor=str(name), r2=Figure(value=None), after=[], reason=found.reason))
        else:
            fitted[str(name)] = found
    return fitted, unread


def _factor_results(
    vectors: Vectors, fitted: dict[str, FittedFactor], ladder: Ladder, measured: Measured
) -> list[FactorResult]:
    plan = measured.plan
    return [
        FactorResult(
            factor=name,
            r2=Figure.of(one.r2(one.read(vectors), measured.clusters, resamples=plan.resamples, seed=plan.seed)),
            after=ladder.factors.get(name, []),
        )
        for name, one in fitted.items()
    ]
