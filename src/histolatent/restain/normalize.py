"""Write the tiles of a source in another look, resumable: a folder that opens as any cohort does."""

import contextlib
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..errors import InputError, OptionError
from ..images import Skipped, TileSource, open_tiles, stream_tiles
from ..provenance import combined_digest, digest, environment, file_digest, now
from ..stain import STAIN_SETS, Fit, NoChange, PerTileWarning, StainBook, StainModel, read_book
from ..stain.normalize import FARTHEST_HUE, check_matching
from .fit import Progress, fit_source, mixed_notes, table_digest
from .fitter import Fitter
from .groups import MAX_TILES, Groups, find_groups
from .jobs import Changes, GroupChanges, Match, OwnChanges, WriteTile
from .paths import tile_paths
from .reference import Reference, check_method, find_reference, split_slide
from .unfinished import KIND, UnfinishedFolder, refuse_place

FORMAT = 1
CHECKPOINT_SECONDS = 2.0
#: A difference of white, as a natural logarithm, from which it is said that glass is kept: 10 %.
FARTHEST_WHITE = 0.1
#: Columns that the manifest fills; a column of the source of this name is carried along as `source_NAME`.
OWN_COLUMNS = ("path", "tile", "stain_reason")
PER_TILE = (
    "every tile is fitted by itself: the same pixel comes out differently in the next tile, and what differs in tissue "
    "is taken for stain. Fit per slide where you can"
)


@dataclass(frozen=True)
class Restained:
    """What was written: how many tiles, and which were left as they were, and why.

    `reasons` counts tiles by `ok` or the reason why they are unchanged; `unchanged` gives the reason in words for each
    slide whose tiles are all unchanged; `skipped` the tiles that could not be read.
    """

    folder: Path
    method: str
    reference: str
    tiles: int
    reasons: Mapping[str, int]
    unchanged: Mapping[str, str]
    skipped: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {**asdict(self), "folder": str(self.folder)}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per reason with its number of tiles."""
        return pd.DataFrame({"reason": list(self.reasons), "tiles": list(self.reasons.values())})


def normalize_source(
    src: str | os.PathLike[str] | TileSource,
    out: str | os.PathLike[str],
    *,
    to: str | os.PathLike[str] | TileSource,
    method: str | None = None,
    by: str = "slide",
    book: StainBook | str | os.PathLike[str] | None = None,
    background: str = "keep",
    hue_limit: float = FARTHEST_HUE,
    max_tiles: int = MAX_TILES,
    stains: str | None = None,
    vectors: Any = None,
    white: Any = None,
    beta: float | None = None,
    alpha: float | None = None,
    workers: int = 0,
    seed: int = 0,
    on_error: str = "stop",
    restart: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Restained:
    """Write every tile in the look of `to` (see `find_reference`) into the folder `out`.

    The folder holds `tiles/` (PNG, under the tiles' ids), `manifest.csv` with the whole table and `stain_reason` per
    tile, `stain.json` (the fits used) and `card.json`. `by` is `slide` (each slide by its fit; one fit over all where
    no slides are known), `all`, `tile` (warns, and has no `stain.json`), or a column of the table. `book` gives fits
    made before, also as a file, and then `stains`, `vectors`, `white`, `beta` and `alpha`, which say how to fit, may
    not be given; else fits are made as `fit_source` does. `method` is a key of NORMALIZERS, by default
    that of the book, or of the stain file that `to` names, else `macenko`. `progress` counts the tiles that a fit
    reads and those that are written.

    Tiles whose fit is not usable, or whose mean hue would turn by more than `hue_limit` degrees (see `tile_change`),
    are written unchanged, and the manifest says why. Called again with the same arguments, an interrupted run goes on
    where it stopped, and ends as an uninterrupted one would.

    Raises
    ------
    OptionError
        If an option is unknown, or given although the fits are; or the reference is not usable, or does not go with
        the fits.
    InputError
        If a tile cannot be read and `on_error` is `stop`.
    OutputError
        If `out` exists and not `overwrite`, another process is writing to it, an interrupted run with other options is
        in the way, or the disk is full.
    """
    target = Path(out).absolute()
    given = read_book(book) if isinstance(book, str | os.PathLike) else book
    options = {"stains": stains, "vectors": vectors, "white": white, "beta": beta, "alpha": alpha}
    method = method or _method_of(given, to)
    if given is not None:
        check_method(given, method)
    fitter = Fitter(method, **_fit_options(given, options))
    check_matching(background, hue_limit)
    treatment: Literal["keep", "map"] = "keep" if background == "keep" else "map"
    source = open_tiles(src)
    refuse_place(source, target, overwrite=overwrite)
    groups = _groups(source, by, given)
    if given is not None:
        _check_slides(given, groups)
    reference = find_reference(to, fitter, max_tiles=max_tiles, workers=workers, seed=seed, on_error=on_error)
    steps = _Steps(progress, len(source.table))
    match = Match(reference.fit, fitter.method, treatment, hue_limit)
    run = _Run(source, target, reference, match, fitter, by, groups, workers, on_error, overwrite)
    plan = run.plan(given, max_tiles, seed)
    if by == "tile":
        warnings.warn(PerTileWarning(PER_TILE), stacklevel=2)
    folder = UnfinishedFolder.open(target, plan, restart=restart)
    with contextlib.closing(folder):
        try:
            used = None if by == "tile" else _fits(run, folder, given, max_tiles, seed, steps)
            changes, unchanged, glass = run.changes(used)
        except BaseException:
            if not folder.done:  # there is nothing to go on from
                folder.remove()
            raise
        skipped, notes = _write_tiles(run, folder, changes, steps)
        mixed = mixed_notes(used.overall) if used is not None and groups.column is None else []
        return _finish(run, folder, used, plan, unchanged, skipped, [*groups.notes, *mixed, *glass, *notes])


@dataclass
class _Steps:
    """Progress over both parts of a run: tiles that a fit reads, and tiles that are written."""

    progress: Progress | None
    tiles: int
    fitted: int = 0

    def fit(self, done: int, total: int) -> None:
        """Say that a fit has read so many of its tiles."""
        self.fitted = total
        if self.progress:
            self.progress(done, total + self.tiles)

    def write(self, done: int) -> None:
        """Say that so many tiles are written."""
        if self.progress:
            self.progress(self.fitted + done, self.fitted + self.tiles)


@dataclass(frozen=True, eq=False)
class _Run:
    """What is the same for all tiles of a run."""

    source: TileSource
    target: Path
    reference: Reference
    match: Match
    fitter: Fitter
    by: str
    groups: Groups
    workers: int
    on_error: str
    overwrite: bool

    def plan(self, given: StainBook | None, max_tiles: int, seed: int) -> dict[str, Any]:
        """Return all that decides the pixels: a run may go on only under the same."""
        fits = None if given is None else digest(given.model_dump(mode="json"))
        return {
            "tiles": table_digest(self.source),
            "method": self.fitter.method,
            "reference": {"name": self.reference.name, "fit": digest(self.reference.fit.model_dump(mode="json"))},
            "by": self.by,
            "background": self.match.background,
            "hue_limit": self.match.hue_limit,
            "stain file": fits,
            "options": {**self.fitter.to_dict(), "max_tiles": max_tiles, "seed": seed},
        }

    def changes(self, book: StainBook | None) -> tuple[Changes, dict[str, str], list[str]]:
        """Return what changes each tile, the groups that stay as they are with the reason in words, and notes."""
        if book is None:
            return OwnChanges(self.fitter, self.match), {}, []
        names = [name if name is not None and book.slides else None for name in self.groups.names]
        order = list(dict.fromkeys(names))
        fits = [book.overall if name is None else book.of(name) for name in order]
        made = [(fit, self.match(fit)) for fit in fits]
        numbers = {name: number for number, name in enumerate(order)}
        of_tile = {str(tile): numbers[name] for tile, name in zip(self.source.table.index, names, strict=True)}
        unchanged = {
            "all tiles" if name is None else name: change.why
            for name, (_, change) in zip(order, made, strict=True)
            if isinstance(change, NoChange)
        }
        changed = [fit for fit, change in made if not isinstance(change, NoChange)]
        found = GroupChanges(tuple(made), of_tile, self.match.hue_limit, numbers.get(None))
        return found, unchanged, self._glass_notes(changed)

    def _glass_notes(self, fits: list[Fit]) -> list[str]:
        """Return what to say of slides whose glass stays far from the white that their tissue gets."""
        if self.match.background == "map" or not self.fitter.of_stains:
            return []
        white = np.log(self.reference.fit.white)
        far = [fit for fit in fits if np.abs(np.log(fit.white) - white).max() > FARTHEST_WHITE]
        if not far:
            return []
        levels = "/".join(f"{level:.0f}" for level in far[0].white)
        said = f"the glass of {len(far)} of {len(fits)} fits lies more than 10 % from the reference's white"
        return [f"{said} (I0 {levels}), and is kept: a rim may show beside it. --background map changes glass too"]


def _fit_options(book: StainBook | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return how to fit: what was given, or with a book, its stains and vectors, by which a reference is fitted."""
    named = {name: value for name, value in options.items() if value is not None}
    if book is None:
        return named
    if named:
        raise OptionError(
            "the stain file holds fits already, so none is made",
            received=", ".join(named),
            fix=f"drop {' and '.join(named)}, or the stain file",
        )
    fit = book.overall
    if not isinstance(fit, StainModel):
        return {}
    if fit.method == "given":
        return {"vectors": fit.vectors}
    return {"stains": next(name for name, stains in STAIN_SETS.items() if stains == fit.stains)}


def _method_of(book: StainBook | None, to: Any) -> str:
    if book is None and isinstance(to, str | os.PathLike):
        file, _ = split_slide(os.fspath(to))
        book = read_book(file) if file.lower().endswith(".json") else None
    return "macenko" if book is None else book.method


def _groups(source: TileSource, by: str, book: StainBook | None) -> Groups:
    if by == "tile":
        if book is not None:
            raise OptionError("tiles that are fitted by themselves need no stain file", fix="drop --stain or --by tile")
        return find_groups(source, "all")
    if book is not None and not book.slides and by != "all":
        note = "the stain file holds one fit over all tiles, and no slides: all tiles go by it"
        return Groups(None, (None,) * len(source.table), (note,) if by == "slide" else ())
    return find_groups(source, by)


def _check_slides(book: StainBook, groups: Groups) -> None:
    for name in dict.fromkeys(groups.names):
        if name is not None:
            book.of(name)


def _fits(
    run: _Run,
    folder: UnfinishedFolder,
    given: StainBook | None,
    max_tiles: int,
    seed: int,
    steps: _Steps,
) -> StainBook:
    """Return the fits to use: those of an interrupted run, those given, or new ones. They lie in the folder then."""
    file = folder.whole / "stain.json"
    if file.exists():
        return read_book(file)
    options = run.fitter
    book = given or fit_source(
        run.source,
        options.method,
        by=run.by,
        max_tiles=max_tiles,
        stains=options.stains,
        vectors=options.vectors,
        white=options.white,
        beta=options.beta,
        alpha=options.alpha,
        workers=run.workers,
        seed=seed,
        on_error=run.on_error,
        progress=steps.fit,
    )
    book.write(file)
    return book


def _write_tiles(
    run: _Run, folder: UnfinishedFolder, changes: Changes, steps: _Steps
) -> tuple[dict[str, str], list[str]]:
    """Write the tiles that are not there yet; return those that were skipped, and what was ignored in others."""
    ids = [str(tile) for tile in run.source.table.index]
    paths = tile_paths(ids)
    waiting = [i for i, tile in enumerate(ids) if tile not in folder.done or not (folder.whole / paths[tile]).exists()]
    job = WriteTile(changes, str(folder.whole), str(folder.place / "parts"), {ids[i]: paths[ids[i]] for i in waiting})
    skipped: dict[str, str] = {}
    done, saved = len(ids) - len(waiting), time.perf_counter()
    steps.write(done)
    stream = stream_tiles(run.source, waiting, job, workers=run.workers, on_error=run.on_error)
    try:
        with contextlib.closing(stream) as results:
            for result in results:
                if isinstance(result, Skipped):
                    skipped[ids[result.index]] = result.reason
                    folder.done.pop(ids[result.index], None)
                else:
                    reason, pixels = result.value
                    fact = {"reason": reason, "pixels": pixels, "notes": list(result.notes)}
                    folder.keep(ids[result.index], fact)
                done += 1
                steps.write(done)
                if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    folder.checkpoint()
                    saved = time.perf_counter()
    finally:
        folder.checkpoint()
    notes = Counter(note for fact in folder.done.values() for note in fact["notes"])
    return skipped, [f"{note} ({count} tiles)" for note, count in sorted(notes.items())]


def _finish(
    run: _Run,
    folder: UnfinishedFolder,
    book: StainBook | None,
    plan: Mapping[str, Any],
    unchanged: dict[str, str],
    skipped: dict[str, str],
    notes: list[str],
) -> Restained:
    kept = [str(tile) for tile in run.source.table.index if str(tile) not in skipped]
    if not kept:
        raise InputError(
            f"no tile could be read: all {len(skipped)} were skipped",
            received=next(iter(skipped.values()), None),
            fix="mend the tiles, then run the same command again",
        )
    reasons = dict(Counter(folder.done[tile]["reason"] for tile in kept).most_common())
    result = Restained(
        run.target, run.fitter.method, run.reference.name, len(kept), reasons, unchanged, skipped, tuple(notes)
    )

    def write(whole: Path) -> None:
        table = _manifest(run.source, kept, [folder.done[tile]["reason"] for tile in kept])
        with (whole / "manifest.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            table.to_csv(file, index=False, lineterminator="\n")
        card = {
            "format": FORMAT,
            "kind": KIND,
            "created": now(),
            **{key: plan[key] for key in ("method", "by", "background", "hue_limit", "options")},
            "reference": {**asdict(run.reference), "fit": run.reference.fit.model_dump(mode="json")},
            "source": {"name": run.source.name, "tiles": len(run.source.table), "table_sha256": plan["tiles"]},
            "tiles": len(kept),
            "reasons": reasons,
            "unchanged": unchanged,
            "skipped": skipped,
            "notes": notes,
            "stain_sha256": None if book is None else file_digest(whole / "stain.json"),
            "manifest_sha256": file_digest(whole / "manifest.csv"),
            "pixels_sha256": combined_digest(folder.done[tile]["pixels"] for tile in kept),
            "environment": environment(),
        }
        text = json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (whole / "card.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")

    folder.finish(write, overwrite=run.overwrite)
    return result


def _manifest(source: TileSource, kept: list[str], reasons: list[str]) -> pd.DataFrame:
    paths = tile_paths(str(tile) for tile in source.table.index)
    table = source.table.set_axis(source.table.index.astype(str), axis=0).loc[kept]
    renamed = {column: f"source_{column}" for column in OWN_COLUMNS if column in table.columns}
    table = table.drop(columns=[name for name in renamed.values() if name in table.columns]).rename(columns=renamed)
    for column in table.columns:
        if pd.api.types.is_float_dtype(table[column]) and bool((table[column].dropna() % 1 == 0).all()):
            table[column] = table[column].astype("Int64")  # a place of 17 px was not written as 17.0
    head = pd.DataFrame({"path": [paths[tile] for tile in kept], "tile": kept, "stain_reason": reasons})
    return pd.concat([head[["path", "tile"]], table.reset_index(drop=True), head[["stain_reason"]]], axis=1)
