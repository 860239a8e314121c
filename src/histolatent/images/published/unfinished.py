"""A fetch that has not finished: what it has so far, beside the folder that it will be in."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from ...errors import OutputError
from ...outputs import disk_errors, refuse_existing, remove
from ...provenance import canonical_json
from .card import MARK, CohortCard, Fetched, read_card, unfinished_place

RECORD, PUBLISHED, LOCK = "files.json", "published", "lock"
#: Is there while files are moved into the folder, which bears its mark only afterwards.
MOVING = "moving"


@dataclass
class Unfinished:
    """The files that have come, each checked, with the commit of a repository of the hub."""

    cohort: str
    commit: str | None = None
    files: dict[str, Fetched] = field(default_factory=dict)

    @classmethod
    def read(cls, place: Path) -> "Unfinished | None":
        """Return what was recorded in a place, None if nothing was."""
        try:
            found = json.loads((place / RECORD).read_text(encoding="utf-8"))
            files = {name: Fetched(**one) for name, one in found["files"].items()}
            return cls(found["cohort"], found["commit"], files)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, place: Path) -> None:
        """Record it."""
        part = place / (RECORD + ".part")
        part.write_text(canonical_json(asdict(self)), encoding="utf-8")
        part.replace(place / RECORD)


@contextlib.contextmanager
def at_work(out: Path) -> Iterator[Path]:
    """Yield the place beside `out` where a fetch works, which is this process's alone."""
    place = unfinished_place(out)
    with disk_errors(out):
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                "another fetch is at work there", received=place, fix="wait until it ends, or choose another folder"
            ) from None
        try:
            yield place
        finally:
            lock.release()
            if [entry.name for entry in place.iterdir()] == [LOCK]:
                remove(place)


def earlier_card(out: Path, cohort: str) -> CohortCard | None:
    """Return the card of what was fetched into a folder before. Raise OutputError if it holds anything else."""
    place = unfinished_place(out)
    started, card = Unfinished.read(place), read_card(out) if MARK.on(out) else None
    if card is None and not (place / MOVING).exists():
        refuse_existing(out, mark=MARK)
    there = card.cohort if card else started.cohort if started else cohort
    if there != cohort:
        raise OutputError(
            f"the folder holds another cohort, {there}", received=out, fix="choose another folder for each cohort"
        )
    return card


def where(name: str, place: Path, out: Path) -> Path:
    """Return where a published file is: beside the folder until the fetch is done, within it then."""
    fresh = place / PUBLISHED / name
    return fresh if fresh.exists() else out / PUBLISHED / name
