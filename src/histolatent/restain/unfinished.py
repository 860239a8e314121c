"""A folder that fills up with tiles beside its final place, so that an interrupted run goes on where it stopped."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import OutputError
from ..images import TileSource, input_files
from ..images.files import MANIFEST_SUFFIXES, FileTiles
from ..images.selected import SelectedTiles
from ..outputs import Mark, disk_errors, put, refuse_existing, refuse_inputs, remove
from ..provenance import canonical_json

KIND = "histolatent normalized tiles"
MARK = Mark("card.json", KIND)
LOCK = "lock"


@dataclass
class UnfinishedFolder:
    """What will be the folder `target`, in `OUT.unfinished`: `whole` becomes it, `parts` holds tiles that are written.

    `done` says of each finished tile what the card needs. A tile is in `whole` before it is in `done`.
    """

    target: Path
    place: Path
    done: dict[str, Any] = field(repr=False)
    _lock: FileLock = field(repr=False)
    _unsaved: list[str] = field(repr=False, default_factory=list)

    @classmethod
    def open(cls, target: Path, plan: Mapping[str, Any], *, restart: bool = False) -> "UnfinishedFolder":
        """Start the folder, or go on with the one that an interrupted run left. It is this process's until `close`.

        Raises
        ------
        OutputError
            If one is there that was started under another plan, or another process is at work on it.
        """
        place = target.with_name(target.name + ".unfinished")
        text = canonical_json(plan)
        with disk_errors(place):
            place.mkdir(parents=True, exist_ok=True)
            lock = _take(place)
            try:
                if restart or not (place / "plan.json").exists():
                    _start(place, text)
                found = (place / "plan.json").read_text(encoding="utf-8")
                if found != text:
                    raise OutputError(
                        f"an interrupted run with another {_difference(found, text)} is there",
                        received=place,
                        fix="pass --restart to drop it, or choose another path",
                    )
                done = _read_lines((place / "done.jsonl").read_text(encoding="utf-8"))
            except BaseException:
                lock.release()
                raise
        return cls(target, place, done, lock)

    def close(self) -> None:
        """Let other processes have it."""
        self._lock.release()

    @property
    def whole(self) -> Path:
        """What becomes the output."""
        return self.place / "whole"

    def keep(self, tile_id: str, fact: object) -> None:
        """Count a tile that was written as done."""
        self.done[tile_id] = fact
        self._unsaved.append(canonical_json([tile_id, fact]) + "\n")

    def checkpoint(self) -> None:
        """Make all that was counted so far survive the end of the process."""
        with disk_errors(self.place), (self.place / "done.jsonl").open("a", encoding="utf-8") as file:
            file.write("\n" + "".join(self._unsaved))  # the line before may be torn, by a full disk
        self._unsaved.clear()

    def remove(self) -> None:
        """Remove all of it, the lock last."""
        for part in list(self.place.iterdir()):
            if part.name != LOCK:
                remove(part)
        self.close()
        remove(self.place)

    def finish(self, write: Callable[[Path], None], *, overwrite: bool = False) -> None:
        """Let `write` add the tables, then put the whole in place of the target.

        Raises
        ------
        OutputError
            If the target has come to be in the meantime, and not `overwrite`: both are kept then.
        """
        with disk_errors(self.target):
            write(self.whole)
            put(self.whole, self.target, overwrite=overwrite, mark=MARK)
        self.remove()


def _take(place: Path) -> FileLock:
    lock = FileLock(place / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            "another process is writing to this output",
            received=place,
            fix="wait until it has ended, or choose another path",
        ) from None
    return lock


def _start(place: Path, plan: str) -> None:
    """Make the folder new, but for its lock. The plan comes last: without one, nothing in it counts."""
    for name in ("plan.json", "plan.json.new", "done.jsonl", "whole", "parts"):
        remove(place / name)
    for name in ("whole", "parts"):
        (place / name).mkdir()
    (place / "done.jsonl").touch()
    part = place / "plan.json.new"
    part.write_text(plan, encoding="utf-8")
    part.replace(place / "plan.json")


def refuse_place(source: TileSource, out: Path, *, overwrite: bool = False) -> None:
    """Raise OutputError if `out` exists and must be kept, or the tiles to read lie in it, or it among them.

    A folder that this command did not write is always kept.
    """
    refuse_inputs(out, input_files(source))
    root = _scanned_folder(source)
    if root is not None and (os.path.realpath(out) + os.sep).startswith(root + os.sep):
        raise OutputError(
            "the output would lie in the folder that is read, and be read with it the next time",
            received=out,
            fix="choose an --out beside that folder, or give a manifest",
        )
    refuse_existing(out, overwrite=overwrite, mark=MARK)


def _scanned_folder(source: TileSource) -> str | None:
    """Return the folder of a source whose tiles are what is found in it; None if a manifest names them."""
    while isinstance(source, SelectedTiles):
        source = source.source
    if not isinstance(source, FileTiles):
        return None
    file, tile = os.path.abspath(source.reader.files[0]), str(source.table.index[0])  # noqa: PTH100
    root = os.path.realpath(file.removesuffix("/" + tile))
    listed = not file.endswith("/" + tile) or any((Path(root) / f"manifest{end}").exists() for end in MANIFEST_SUFFIXES)
    return None if listed or source.name != Path(root).name else root


def _difference(found: str, wanted: str) -> str:
    try:
        old, new = json.loads(found), json.loads(wanted)
        return ", ".join(sorted(key for key in {*old, *new} if old.get(key) != new.get(key))) or "plan"
    except (ValueError, AttributeError):
        return "plan"


def _read_lines(text: str) -> dict[str, Any]:
    """Read the lines that were written whole."""
    found: dict[str, Any] = {}
    for line in text.split("\n"):
        try:
            tile_id, fact = json.loads(line)
        except ValueError:
            continue
        found[tile_id] = fact
    return found
