"""What was downloaded becomes a folder with a manifest: unpacked, listed, and moved into place."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from ...errors import InputError
from ...outputs import remove
from ...provenance import environment, file_digest, now
from ..files import manifest_tiles
from ..tiles import KNOWN_COLUMNS
from .card import CARD, MANIFEST, TILES, CohortCard, read_card, unfinished_place
from .catalogue import find_cohort
from .layouts import Laid, Places, lay_out
from .unfinished import LOCK, MOVING, PUBLISHED, Unfinished, at_work, earlier_card, where
from .unpack import write_whole

FIRST = ("path", "tile", *KNOWN_COLUMNS)


def arrange_cohort(out: str | os.PathLike[str], *, progress: Callable[[int], None] | None = None) -> CohortCard:
    """Unpack what `download_cohort` brought for the folder `out`, write its manifest and its card, and return the card.

    What an earlier fetch had there stays; tiles of it that are gone are unpacked again. `progress` is told how many
    tiles there are.

    Raises
    ------
    InputError
        If nothing was downloaded for this folder, or its layout has changed.
    OutputError
        If the disk is full.
    """
    out = Path(out)
    started = Unfinished.read(unfinished_place(out)) or _of_card(read_card(out))
    earlier = earlier_card(out, started.cohort)
    with at_work(out) as place:
        if earlier is None or started.files or not _is_whole(out, earlier):
            earlier = _arrange(started, earlier, place, out, progress)
        for part in list(place.iterdir()):
            if part.name != LOCK:
                remove(part)
    return earlier


def _arrange(
    started: Unfinished, earlier: CohortCard | None, place: Path, out: Path, progress: Callable[[int], None] | None
) -> CohortCard:
    names = {**(earlier.files if earlier else {}), **started.files}
    places = Places(
        files={name: where(name, place, out) for name in names},
        kept=out / "tiles",
        fresh=place / "tiles",
        scratch=place / "scratch",
        told=progress or (lambda count: None),
    )
    gone = [name for name, file in places.files.items() if not file.is_file()]
    if gone:
        raise InputError(
            f"{len(gone)} of the published files are gone", received=gone[0], fix="fetch them again, with --only"
        )
    laid = lay_out(find_cohort(started.cohort).layout, places)
    tables = _write_tables(laid, place, out)
    card = _card(started, earlier, laid, {name: file_digest(file) for name, file in tables.items()})
    (place / MOVING).touch()
    _move(started, place, out)
    for name, file in tables.items():
        file.replace(out / name)
    write_whole(out / CARD, card.to_json().encode())
    return card


def _of_card(card: CohortCard) -> Unfinished:
    return Unfinished(card.cohort, card.commit)


def _is_whole(out: Path, card: CohortCard) -> bool:
    """Whether the tables and the tiles of a fetched cohort are there."""
    return all((out / name).is_file() for name in (*card.tables, *read_digests(out / TILES)))


def _write_tables(laid: Laid, place: Path, out: Path) -> dict[str, Path]:
    """Write manifest, further tables and checksums of tiles beside the folder; return them by name."""
    manifest = laid.manifest.dropna(axis="columns", how="all")
    ordered = [column for column in FIRST if column in manifest.columns]
    manifest = manifest.reindex(columns=[*ordered, *(name for name in manifest.columns if name not in FIRST)])
    frames = {MANIFEST: manifest, **laid.tables}
    written = {name: place / name for name in frames}
    for name, frame in frames.items():
        frame.to_csv(written[name], index=False, lineterminator="\n")
    manifest_tiles(written[MANIFEST])  # which raises if tiles stand twice, or a number is none
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in _tile_digests(manifest, place, out))
    if lines:
        written[TILES] = place / TILES
        written[TILES].write_text(lines, encoding="utf-8")
    return written


def _tile_digests(manifest: pd.DataFrame, place: Path, out: Path) -> Iterator[tuple[str, str]]:
    known = read_digests(out / TILES)
    for path in manifest["path"].astype(str):
        if path.startswith("tiles/"):
            fresh = place / path
            yield path, file_digest(fresh) if fresh.exists() else known.get(path) or file_digest(out / path)


def read_digests(file: Path) -> dict[str, str]:
    """Return the checksums of a file as `sha256sum` writes it, by path; none if it is not there."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return {path: sha256 for sha256, gap, path in (line.partition("  ") for line in lines) if gap}


def _card(started: Unfinished, earlier: CohortCard | None, laid: Laid, tables: dict[str, str]) -> CohortCard:
    cohort = find_cohort(started.cohort)
    return CohortCard(
        cohort=cohort.name,
        title=cohort.title,
        home=cohort.home,
        paper=cohort.paper,
        licence=cohort.licence,
        notice=cohort.notice,
        created=now(),
        files={**(earlier.files if earlier else {}), **started.files},
        tiles=len(laid.manifest),
        tables=tables,
        commit=started.commit,
        environment=environment(),
    )


def _move(started: Unfinished, place: Path, out: Path) -> None:
    """Move published files and tiles into the folder."""
    for name in started.files:
        if (place / PUBLISHED / name).exists():
            (out / PUBLISHED / name).parent.mkdir(parents=True, exist_ok=True)
            (place / PUBLISHED / name).replace(out / PUBLISHED / name)
    fresh, kept = place / "tiles", out / "tiles"
    if not fresh.exists():
        return
    if not kept.exists():
        out.mkdir(parents=True, exist_ok=True)
        fresh.rename(kept)
        return
    for file in fresh.rglob("*"):
        if file.is_file():
            target = kept / file.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
