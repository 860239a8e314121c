"""The verb: tiles through encoders, every view measured, one document out."""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .._types import Codes, Tile
from ..embeddings import PartialTable, write_table
from ..encoders import ContractCheck, Encoder, check_contract
from ..encoders.contract import MOST_TILES
from ..encoders.embed import Embedded, Progress, as_table, embed_views, source_card, source_digest
from ..encoders.vectors import VectorEncoder
from ..errors import InputError, OptionError
from ..images import TileSource, open_tiles, spaced
from ..outputs import disk_errors
from ..perturb import SEVERITIES, Ladder
from ..provenance import combined_digest, environment, now, version
from .comparison import PIXELS, compare_encoders, why_undecidable
from .donors import find_donors
from .findings import find
from .look import COMPARED_TILES, nearly_empty, thumbnails
from .measure import Pixels, as_they_are, measure_encoder, steps_of
from .measured import Measured, ViewStack
from .plan import Plan, check_tables, chosen_rows, describe_groups, find_groups, limit, scale_warnings
from .result import AuditResult, EncoderResult, OperationResult, Step
from .space import confounders
from .words import counted


@dataclass(frozen=True)
class AuditRun:
    """What an audit gives: the document, figures per tile, and the seconds spent, by part.

    `tiles` has one row per encoder and tile (see `histolatent.audit.measure.tiles_of`); two runs are compared by it.
    """

    result: AuditResult
    tiles: pd.DataFrame
    seconds: dict[str, float]


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
    factors: pd.DataFrame | None = None,
    reference: Encoder | None = None,
    progress: Progress | None = None,
    measuring: Progress | None = None,
) -> AuditRun:
    """Audit encoders on the same tiles, the same perturbed pixels and the same resamples.

    `work` is a folder for embeddings: call again with the same arguments to go on after an interruption, and remove it
    when the result is safe. With None it is a temporary one. With `keep`, one table per encoder is written there
    (`NAME.zarr`, perturbed embeddings as layers). `baselines` names those of `encoders` that serve as yardsticks.
    `factors` holds known numbers of the tissue, a column each, by tile: how well they can be read is measured too.
    Without it, a source that knows the truth of its tiles (the phantom) is asked. `reference` should give the same
    vectors as every encoder but the baselines: their contract is checked against it. `progress` is told of tiles that
    are embedded, `measuring` of steps of measurement.

    Raises
    ------
    InputError
        If there are fewer than 10 tiles, precomputed vectors do not match the tiles, or a patient straddles a split.
    """
    plan = plan or Plan()
    if not encoders:
        raise OptionError("no encoder to audit", fix="name one, such as toy:random-conv")
    if not plan.operations:
        raise OptionError("the plan holds no operation", received=plan.suite, fix="name a suite, such as quick")
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
                factors=factors,
                reference=reference,
                progress=progress,
                measuring=measuring,
            )
    names = _unique_names(encoders)
    whole = open_tiles(src)
    encoders = [_matched(encoder, whole, plan) for encoder in encoders]
    source = limit(whole, plan.max_tiles, plan.seed)
    check_tables(source.table)
    find_groups(source.table)  # a leaking split must stop the run before the long part
    if factors is not None:
        known_factors(whole, factors, source.table)  # and so must factors of other tiles
    pixel = [encoder for encoder in encoders if not isinstance(encoder, VectorEncoder)]
    chosen = plan.perturbations
    donors = find_donors(source, chosen, seed=plan.seed, mpp=plan.mpp) if pixel else ()
    ladder = Ladder(chosen, plan.seed, plan.mpp, donors)
    folder = Path(work)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / f"{file_name(names[i])}.zarr" for i, e in enumerate(encoders) if e in pixel]
    embedded = embed_views(
        source,
        pixel,
        targets,
        views=ladder,
        plan={
            "seed": plan.seed,
            "mpp": plan.mpp,
            "levels": [list(operation.levels) for operation in chosen],
            "donors": [donor.name for donor in donors],
        },
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
    wanted = "factors" in plan.wanted  # the phantom lays out every tile to tell its truth
    known = known_factors(whole, factors, table) if wanted else pd.DataFrame(index=table.index)
    measured = Measured(table, np.flatnonzero(kept), find_groups(table), plan, operations, known)
    pending = iter(embedded.stores)
    views = [
        encoder.vectors[:, None] if isinstance(encoder, VectorEncoder) else next(pending).vectors()
        for encoder in encoders
    ]
    tiles = source_card(source, embedded.stores[0]) if pixel else _unread(source)
    started = time.perf_counter()
    result, by_tile = measure_all(
        names,
        encoders,
        views,
        measured,
        tiles,
        source=source if pixel else None,
        baselines=baselines,
        reference=reference,
        progress=measuring,
    )
    if pixel:
        by_tile = _with_pixels(by_tile, embedded.stores[0].hashes()[kept], ladder, measured)
    if keep:
        _keep(embedded, source, pixel, targets)
    seconds = embedded.seconds.to_dict() | {"measures": round(time.perf_counter() - started, 3)}
    return AuditRun(result, by_tile, seconds)


def measure_all(
    names: Sequence[str],
    encoders: Sequence[Encoder | VectorEncoder],
    views: Sequence[ViewStack],
    measured: Measured,
    tiles: dict[str, object],
    *,
    source: TileSource | None = None,
    baselines: Sequence[str] = (),
    reference: Encoder | None = None,
    progress: Progress | None = None,
) -> tuple[AuditResult, pd.DataFrame]:
    """Measure every encoder and compare them; `views` are as `measure_encoder` takes them, `tiles` is their card.

    `source` gives the pixels again; without it nothing is looked at.
    """
    plan = measured.plan
    shown = [] if source is None else contract_tiles(source, measured.rows)
    pixels = None if source is None else _pixels(source, measured)
    advance = _Steps(progress, sum(steps_of(measured, perturbed=view.shape[1] > 1) for view in views))
    results, tables, zeros = [], [], []
    for name, encoder, view in zip(names, encoders, views, strict=True):
        known = None if name in baselines else reference
        contract = () if isinstance(encoder, VectorEncoder) else contract_of(encoder, shown, known)
        found, by_tile = measure_encoder(
            name,
            encoder,
            view,
            measured,
            pixels=pixels,
            contract=contract,
            baseline=name in baselines,
            advance=advance,
        )
        results.append(found)
        tables.append(by_tile)
        zeros += _zeros(name, view, measured)
    facts, warnings = describe_groups(measured.groups)
    said = [*warnings, *zeros, *confounders(measured)[1], *_unprobed(results[0]), *_approximate(results)]
    by_tile = pd.concat(tables, ignore_index=True)
    telling = by_tile["encoder"].isin([encoder.name for encoder in results if encoder.null.defined])
    comparisons = compare_encoders(
        pd.DataFrame(by_tile.assign(group=np.tile(measured.clusters, len(results)))[telling]),
        measured.operations,
        resamples=plan.resamples,
        seed=plan.seed,
    )
    barred = why_undecidable(comparisons, int(measured.clusters.max()) + 1, plan.resamples)
    said += [note for note in (_copies(tiles), pixels and nearly_empty(pixels.thumbnails), barred) if note]
    result = AuditResult(
        histolatent=version(),
        created=now(),
        plan=plan.model_dump(mode="json"),
        tiles=tiles,
        clusters=facts,
        warnings=[*said, *(scale_warnings(measured.table, plan) if source is not None else [])],
        operations=measured.operations,
        encoders=results,
        comparisons=comparisons,
        findings=[],
        environment=environment(),
    )
    return result.model_copy(update={"findings": find(result)}), by_tile


def _with_pixels(by_tile: pd.DataFrame, hashes: np.ndarray, ladder: Ladder, measured: Measured) -> pd.DataFrame:
    """Return the table with hashes of each tile's pixels, as it is and as each operation's judged severity left it."""
    places = {step: 1 + i for i, step in enumerate(ladder.steps)}
    columns = {PIXELS: hashes[:, 0]}
    for operation in measured.operations:
        columns[f"{PIXELS}: {operation.name}"] = hashes[:, places[operation.name, measured.judged(operation)]]
    times = len(by_tile) // len(hashes)
    return by_tile.assign(**{name: np.tile(column, times) for name, column in columns.items()})


class _Steps:
    """Counts steps of measurement, and tells of each."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _pixels(source: TileSource, measured: Measured) -> Pixels:
    chosen = measured.sample(COMPARED_TILES, "pairs")
    wanted = "discordance" in measured.plan.wanted and len(chosen) >= 10
    return Pixels(source, chosen, thumbnails(source, measured.rows[chosen]) if wanted else None)


def known_factors(source: TileSource, factors: pd.DataFrame | None, table: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers that are known of the tissue of the tiles of `table`, in their order.

    Raises
    ------
    InputError
        If a column holds no numbers, or no tile of the table is among them.
    """
    if factors is None:
        truth = getattr(source, "truth", None)
        if not isinstance(truth, pd.DataFrame):
            return pd.DataFrame(index=table.index)
        factors = truth.select_dtypes(["number", "bool"])
    words = [str(name) for name in factors if factors[name].dtype.kind not in "biuf"]
    if words:
        raise InputError("a factor is a number per tile", received=f"{words[0]} holds {factors[words[0]].dtype}")
    known = factors.reindex(table.index).astype(float)
    if not known.notna().to_numpy().any():
        raise InputError(
            "no tile of the audit is among the factors",
            received=f"{', '.join(map(str, factors.index[:3]))}, ...",
            valid=f"tiles such as {table.index[0]}",
            fix="name the tiles as the manifest does, in a column `tile`",
        )
    return known


def _matched(encoder: Encoder | VectorEncoder, source: TileSource, plan: Plan) -> Encoder | VectorEncoder:
    """Return the encoder; precomputed vectors checked against the source, and cut to the rows of the plan."""
    if not isinstance(encoder, VectorEncoder):
        return encoder
    if len(encoder.vectors) != len(source.table):
        raise InputError(
            f"{encoder.card.name} has {len(encoder.vectors)} rows for {len(source.table)} tiles",
            fix="give one vector per row of the table, in the same order",
        )
    if plan.max_tiles is None or plan.max_tiles >= len(source.table):
        return encoder
    rows = chosen_rows(len(source.table), plan.max_tiles, plan.seed)
    return replace(encoder, vectors=encoder.vectors[rows])


def contract_tiles(source: TileSource, rows: Codes) -> list[Tile]:
    """Return up to 16 tiles, spread over the rows that can be read, to check contracts with."""
    return [source.read(int(row)) for row in spaced(rows, MOST_TILES)]


def contract_of(
    encoder: Encoder | VectorEncoder, tiles: Sequence[Tile], reference: Encoder | VectorEncoder | None = None
) -> tuple[ContractCheck, ...]:
    """Check an encoder's contract; of vectors, and where tiles are of too many sizes, nothing can be said."""
    if isinstance(encoder, VectorEncoder) or isinstance(reference, VectorEncoder):
        return (ContractCheck("contract", "UNDEFINED", "precomputed vectors: there is no encoder to run"),)
    try:
        return check_contract(encoder, tiles, reference=reference)
    except InputError as error:
        return (ContractCheck("contract", "UNDEFINED", error.what, error.fix),)


def _approximate(results: Sequence[EncoderResult]) -> list[str]:
    """Return what to say of neighbours that were searched approximately."""
    found = [space.recall for result in results for space in result.space if space.recall is not None]
    if not found:
        return []
    return [f"neighbours are approximate: at worst {min(found):.1%} of the exact ones were found"]


def _copies(tiles: Mapping[str, object]) -> str | None:
    """Return what to say of tiles that have the pixels of another."""
    copies = tiles.get("same_pixels_twice", 0)
    return f"{copies} tiles have the very pixels of another: no encoder can tell them apart" if copies else None


def _zeros(name: str, view: ViewStack, measured: Measured) -> list[str]:
    """Return what to say of tiles whose vector is zero throughout."""
    count = int((~as_they_are(view, measured).any(axis=1)).sum())
    if not count:
        return []
    return [f"{name} gives {counted(count, 'tile')} a vector of zeros, which has no direction and no cosine distance"]


def _unprobed(encoder: EncoderResult) -> list[str]:
    """Return what to say of columns that no probe could be fitted to: the same for every encoder."""
    return [f"{probe.title} was not probed: {probe.reason}" for probe in encoder.probes if probe.reason]


def _keep(embedded: Embedded, source: TileSource, encoders: Sequence[Encoder], targets: Sequence[Path]) -> None:
    for position, (encoder, target) in enumerate(zip(encoders, targets, strict=True)):
        write_table(as_table(embedded, position, source, encoder), target, overwrite=True)


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
            name=operation.name,
            family=operation.family,
            role=operation.role,
            parameter=operation.parameter,
            unit=operation.unit,
            graded=operation.graded,
            control=operation.control,
            describes=operation.describes,
            misleads=operation.misleads,
            steps=[
                Step(
                    severity=severity,
                    level=operation.levels[severity - 1],
                    pixels_sha256=combined_digest(f"{value:016x}" for value in columns[operation.name, severity]),
                )
                for severity in SEVERITIES
            ],
        )
        for operation in ladder.resolved
    ]
