"""Fit the staining of a cohort: one model per slide, and one over all."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..images import Skipped, TileSource, open_tiles, stream_tiles
from ..provenance import digest, environment, now
from ..stain import Fit, Sample, StainBook, StainModel
from ..stain.fit import BETA, find_tissue
from ..stain.model import Provenance
from .fitter import EMPTY, Fitter
from .groups import MAX_TILES, OVERALL_TILES, choose_rows, find_groups
from .jobs import TakeSample

Progress = Callable[[int, int], None]
#: Tiles of one slide seldom lie further from its fit; those of several laboratories do.
MIXED_DEGREES = 5.0


@dataclass
class _Gathered:
    """What has been read so far: samples of the current slide, and those that the fit over all will see."""

    samples: list[Sample] = field(default_factory=list)
    overall: list[Sample] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


def fit_source(
    src: str | os.PathLike[str] | TileSource,
    method: str = "macenko",
    *,
    by: str = "slide",
    max_tiles: int = MAX_TILES,
    stains: str = "H&E",
    vectors: Any = None,
    white: Any = None,
    beta: float = BETA,
    alpha: float = 1.0,
    workers: int = 0,
    seed: int = 0,
    on_error: str = "stop",
    progress: Progress | None = None,
) -> StainBook:
    """Fit the staining of each slide, and of all tiles together.

    Looks at 4,096 pixels of each of up to `max_tiles` tiles a slide, drawn by `seed` and the tiles' ids; the fit over
    all at up to 2,000 tiles, evenly from the slides. `by` is `slide`, `all` (one fit only) or a column of the table.
    Without a column `slide` there is one fit over all tiles, and `provenance.notes` says so. `method` is a key of
    NORMALIZERS; the other options are those of `fit_samples`. The result does not depend on `workers`.

    `provenance` holds the options, the version, the skipped tiles, and for each of `slides` and for `overall` how many
    tiles there are (`tiles`), how many were read (`sampled`) and which share of their area is stained tissue.

    Raises
    ------
    OptionError
        If an option is unknown or out of range, before any tile is read.
    InputError
        If a tile cannot be read and `on_error` is `stop`, or none can be read.
    """
    fitter = Fitter(method, stains, vectors, white, beta, alpha)
    source = open_tiles(src)
    groups = find_groups(source, by)
    chosen = choose_rows(source, groups, max_tiles, seed)
    share = max_tiles if groups.column is None else max(1, OVERALL_TILES // len(chosen))
    gathered, slides, facts = _Gathered(), {}, {}
    with contextlib.closing(_read(source, chosen, gathered, share, workers, on_error, progress)) as finished:
        for name in finished:
            if name is not None:
                slides[name] = fitter(gathered.samples or [EMPTY])
                facts[name] = {
                    "tiles": groups.names.count(name),
                    "sampled": len(gathered.samples),
                    "tissue_share": _tissue_share(gathered.samples, slides[name]),
                }
            gathered.samples = []
    if not gathered.overall:
        raise InputError(
            f"no tile could be read: all {len(gathered.skipped)} were skipped",
            received="; ".join(list(gathered.skipped.values())[:1]) or None,
            fix="mend the tiles, then run the same command again",
        )
    overall = fitter(gathered.overall)
    notes = [*groups.notes, *(mixed_notes(overall) if groups.column is None else [])]
    found = {
        "created": now(),
        "source": _describe(source),
        "by": by,
        "column": groups.column,
        "max_tiles": max_tiles,
        "seed": seed,
        "options": fitter.to_dict(),
        "slides": facts,
        "overall": {
            "tiles": len(source.table),
            "sampled": len(gathered.overall),
            "tissue_share": _tissue_share(gathered.overall, overall),
        },
        "skipped": dict(sorted(gathered.skipped.items())),
        "notes": [*notes, *(f"{note} ({count} tiles)" for note, count in sorted(gathered.notes.items()))],
        "environment": environment(),
    }
    provenance = Provenance.model_validate(found)
    name = source.name.encode(errors="backslashreplace").decode()  # a folder's name need not be UTF-8
    return StainBook(source=name, method=method, overall=overall, slides=slides, provenance=provenance)


def _read(
    source: TileSource,
    chosen: dict[str | None, list[int]],
    gathered: _Gathered,
    share: int,
    workers: int,
    on_error: str,
    progress: Progress | None,
) -> Generator[str | None, None, None]:
    """Read the chosen tiles slide by slide; yield the name of each slide whose samples are complete."""
    order = [(name, row, place < share) for name, rows in chosen.items() for place, row in enumerate(rows)]
    last = {rows[-1] for rows in chosen.values()}
    stream = stream_tiles(source, [row for _, row, _ in order], TakeSample(), workers=workers, on_error=on_error)
    with contextlib.closing(stream) as results:
        for done, ((name, row, counts), result) in enumerate(zip(order, results, strict=True), 1):
            if isinstance(result, Skipped):
                gathered.skipped[str(source.table.index[row])] = result.reason
            else:
                gathered.samples.append(result.value)
                gathered.notes.update(result.notes)
                if counts:
                    gathered.overall.append(result.value)
            if progress:
                progress(done, len(order))
            if row in last:
                yield name


def _tissue_share(samples: Sequence[Sample], fit: Fit) -> float | None:
    """Return which share of the pixels read is stained tissue; None if none was read."""
    if not samples:
        return None
    found = sum(len(find_tissue(sample, fit)[0]) for sample in samples)
    return round(found / sum(s.pixels.shape[1] for s in samples), 4)


def mixed_fit(spread_degrees: Sequence[float]) -> bool:
    """Whether single tiles lie too far from the fit over all of them to have one staining."""
    return max(spread_degrees) > MIXED_DEGREES


def mixed_notes(fit: Fit) -> list[str]:
    """Return what to say of a fit over tiles that have no one staining: nothing, or one sentence."""
    if not (isinstance(fit, StainModel) and fit.valid and mixed_fit(fit.spread_degrees)):
        return []
    spread = max(fit.spread_degrees)
    said = f"single tiles lie {spread:.0f} degrees from the fit over all of them (median, the wider stain)"
    return [f"{said}: they have no one staining, and one fit does not suit them. Name what belongs together with --by"]


def _describe(source: TileSource) -> dict[str, Any]:
    return {
        "name": source.name,
        "tiles": len(source.table),
        "columns": [str(column) for column in source.table.columns],
        "table_sha256": table_digest(source),
    }


def table_digest(source: TileSource) -> str:
    """Return a hash of the table of a source: ids and columns, not pixels."""
    return digest(source.table.to_csv())
