"""A published cohort into a folder: downloaded, checked, unpacked, with a manifest and a card."""

import fnmatch
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ...errors import OptionError, unknown
from ...provenance import now
from .arrange import arrange_cohort
from .card import CohortCard, Fetched
from .catalogue import Cohort, Index, PublishedFile, find_cohort
from .download import at_mirror, check_file, download, need_space
from .hub import commit_of, download_of, files_of
from .layouts.common import changed
from .unfinished import PUBLISHED, Unfinished, at_work, earlier_card, where

#: Told of bytes that are there, and in all; the latter is 0 where it is not known.
Progress = Callable[[int, int], None]


def download_cohort(
    name: str,
    out: str | os.PathLike[str],
    *,
    only: Sequence[str] = (),
    mirror: str | None = None,
    accept_licence: bool = False,
    progress: Progress | None = None,
) -> Cohort:
    """Download the files of a cohort into `OUT.unfinished`, and check them. What is there already is not fetched again.

    `only` names files, or patterns of their names; files that belong to every part come along. `mirror` is an address
    whose host and path stand in for the hosts of the cohort.

    Raises
    ------
    OptionError
        If the cohort or a file is not known, or its licence was not accepted.
    InputError
        If a file cannot be had, or is not what is published.
    OutputError
        If `out` holds something else, another fetch is at work there, or the disk is full.
    """
    cohort, out = find_cohort(name), Path(out)
    if not accept_licence:
        refuse_licence(cohort)
    if mirror is not None and cohort.hub is not None:
        raise OptionError("this cohort comes from the Hugging Face hub", received=mirror, fix="set HF_ENDPOINT")
    earlier = earlier_card(out, cohort.name)
    with at_work(out) as place:
        known = Unfinished.read(place) or Unfinished(cohort.name)
        if cohort.hub is not None:
            known.commit = cohort.commit or (earlier and earlier.commit) or known.commit or commit_of(cohort.hub)
        before = {**(earlier.files if earlier else {}), **known.files}
        asked = select_files(cohort, _listed(cohort, mirror, place), only)
        missing = [file for file in asked if not _is_there(file.name, before, place, out)]
        missing = _told_by_hub(cohort, known.commit, missing)
        total = _bytes_to_come(cohort, asked, missing, before, only)
        need_space(out, total - sum(_length(place / PUBLISHED / f"{file.name}.part") for file in missing))
        known.write(place)
        done = 0
        for file in missing:
            target = place / PUBLISHED / file.name
            checksums, found = _expected(file, before), target.is_file()
            digest = _bring(cohort, file, known.commit, target, mirror, checksums, _from(progress, done, total))
            length = target.stat().st_size
            known.files[file.name] = Fetched(_origin(cohort, file), length, digest, file.checksums, now(), found)
            known.write(place)
            done += length
            if progress is not None:
                progress(done, max(total, done))
    return cohort


def fetch_cohort(
    name: str,
    out: str | os.PathLike[str],
    *,
    only: Sequence[str] = (),
    mirror: str | None = None,
    accept_licence: bool = False,
    progress: Progress | None = None,
) -> CohortCard:
    """Fetch a cohort into a folder that `open_tiles` opens, and return its card. See `download_cohort` for options.

    Given again, it goes on where it stopped, or adds what is missing. The folder has

    - `manifest.csv`: a row for each tile, image or slide, in the project's columns;
    - `tiles/`, where something had to be unpacked, and `tiles.sha256`, a checksum of each of these;
    - `published/`: the files as they came;
    - `card.json`: addresses, sizes, checksums, commit, licence, date.
    """
    download_cohort(name, out, only=only, mirror=mirror, accept_licence=accept_licence, progress=progress)
    return arrange_cohort(out)


def refuse_licence(cohort: Cohort) -> NoReturn:
    """Raise OptionError: nothing is fetched under a licence that was not accepted."""
    raise OptionError(
        f"the licence of {cohort.title} has not been accepted",
        received=f"{cohort.licence}. {cohort.notice.rstrip('.')}",
        fix="read it, then pass --accept-licence",
    )


def select_files(cohort: Cohort, files: Sequence[PublishedFile], only: Sequence[str]) -> list[PublishedFile]:
    """Return the files that are asked for: by pattern, else all but the optional ones; and those that always come."""
    if not only:
        return [file for file in files if not file.optional]
    for pattern in only:
        if not any(fnmatch.fnmatchcase(file.name, pattern) for file in files):
            raise unknown(f"file of {cohort.name}", pattern, [file.name for file in files])
    return [file for file in files if file.always or any(fnmatch.fnmatchcase(file.name, one) for one in only)]


def _listed(cohort: Cohort, mirror: str | None, place: Path) -> list[PublishedFile]:
    if cohort.index is None:
        return cohort.listed()
    listing = place / "index.md5"
    listing.unlink(missing_ok=True)
    download(at_mirror(cohort.index.address, mirror), listing, home=cohort.home)
    return [*cohort.listed(), *_of_index(cohort.index, listing.read_text(encoding="utf-8", errors="replace"))]


def _of_index(index: Index, text: str) -> Iterator[PublishedFile]:
    count = 0
    for line in filter(str.strip, text.splitlines()):
        md5, _, path = line.partition(" ")
        name = path.strip().removeprefix("*").removeprefix("./")
        always = any(fnmatch.fnmatchcase(name, one) for one in index.always)
        try:
            file = PublishedFile(name=name, address=index.base + name, md5=md5.lower(), always=always)
        except ValueError:
            changed(f"the list of checksums {index.address}", "md5, space, path", repr(line[:80]))
        if always or any(fnmatch.fnmatchcase(name, one) for one in index.files):
            count += 1
            yield file
    if not count:
        changed(f"the list of checksums {index.address}", ", ".join(index.files), "none of these")


def _is_there(name: str, before: Mapping[str, Fetched], place: Path, out: Path) -> bool:
    file = where(name, place, out)
    return name in before and file.is_file() and file.stat().st_size == before[name].bytes


def _told_by_hub(cohort: Cohort, commit: str | None, files: list[PublishedFile]) -> list[PublishedFile]:
    """Return the files with size and sha256 as the hub has them, where the catalogue does not."""
    if cohort.hub is None or commit is None or not files:
        return files
    told = files_of(cohort.hub, commit, [file.name for file in files])
    absent = [file.name for file in files if file.name not in told]
    if absent:
        changed(f"the data set {cohort.hub} at {commit[:12]}", absent[0], "no such file")
    found = []
    for file in files:
        size, sha256 = told[file.name]
        known = {"bytes": file.bytes or size, "sha256": file.sha256 or sha256}
        found.append(file.model_copy(update=known))
    return found


def _bytes_to_come(
    cohort: Cohort,
    asked: Sequence[PublishedFile],
    missing: Sequence[PublishedFile],
    before: Mapping[str, Fetched],
    only: Sequence[str],
) -> int:
    """Return how many bytes are missing: by file where all sizes are published, else about, by those of the cohort."""
    known = sum(file.bytes or 0 for file in missing)
    if only or cohort.bytes is None or all(file.bytes for file in missing):
        return known
    there = sum(before[file.name].bytes for file in asked if file not in missing and file.name in before)
    return max(known, cohort.bytes - there)


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _expected(file: PublishedFile, before: Mapping[str, Fetched]) -> dict[str, str]:
    """Return what a file has to be: as published, else as it was when it came before."""
    if file.checksums or file.name not in before:
        return file.checksums
    return {"sha256": before[file.name].sha256}


def _bring(
    cohort: Cohort,
    file: PublishedFile,
    commit: str | None,
    target: Path,
    mirror: str | None,
    checksums: Mapping[str, str],
    progress: Callable[[int], None] | None,
) -> str:
    """Bring one file to its target, unless somebody has put it there, and return its sha256."""
    origin = _origin(cohort, file)
    if not target.is_file():
        if cohort.hub is None:
            address = at_mirror(origin, mirror)
            return download(address, target, size=file.bytes, checksums=checksums, home=cohort.home, progress=progress)
        download_of(cohort.hub, str(commit), file.name, target.parents[len(Path(file.name).parts) - 1])
    return check_file(target, file.name, origin, size=file.bytes, checksums=checksums)


def _origin(cohort: Cohort, file: PublishedFile) -> str:
    return file.address or f"hf:datasets/{cohort.hub}/{file.name}"


def _from(progress: Progress | None, done: int, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda here: progress(done + here, max(total, done + here))
