"""A fetched cohort against its card: files, tables, tiles."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...errors import InputError
from ...outputs import disk_errors
from ...provenance import file_digest
from ..files import read_frame
from .arrange import read_digests
from .card import MANIFEST, TILES, read_card
from .unfinished import PUBLISHED


@dataclass(frozen=True)
class Verification:
    """What `verify_cohort` found: how many files it looked at, and which are missing or changed."""

    cohort: str
    checked: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is there, as it came."""
        return not self.missing and not self.changed

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        missing, changed = list(self.missing), list(self.changed)
        return {"cohort": self.cohort, "checked": self.checked, "missing": missing, "changed": changed, "ok": self.ok}

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each file that is not as it was."""
        rows = [*((name, "missing") for name in self.missing), *((name, "changed") for name in self.changed)]
        return pd.DataFrame(rows, columns=pd.Index(["file", "state"]))


def verify_cohort(
    folder: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Compare the files of a fetched cohort with its card, and its manifest with the files.

    Every byte is read. `progress` is told of files.

    Raises
    ------
    InputError
        If the folder has no card.
    """
    folder = Path(folder)
    card = read_card(folder)
    expected = {f"{PUBLISHED}/{name}": file.sha256 for name, file in card.files.items()}
    expected |= card.tables
    if TILES in card.tables:
        expected |= read_digests(folder / TILES)
    missing, changed = [], []
    with disk_errors(folder):
        for count, (name, sha256) in enumerate(expected.items(), 1):
            if not (folder / name).is_file():
                missing.append(name)
            elif file_digest(folder / name) != sha256:
                changed.append(name)
            if progress is not None:
                progress(count, len(expected))
        paths = _paths(folder / MANIFEST)
        missing += [path for path in paths if path not in expected and not (folder / path).is_file()]
    return Verification(card.cohort, len(expected), tuple(missing), tuple(changed))


def _paths(manifest: Path) -> list[str]:
    """Return what a manifest names; nothing if it cannot be read, which its checksum tells."""
    try:
        return [str(path) for path in read_frame(manifest).to_dict("list").get("path", [])]
    except InputError:
        return []
