"""Vectors that arrive in blocks, kept on disk so that an interrupted run goes on where it stopped."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._types import Mask
from ..errors import InputError, OutputError
from ..outputs import disk_errors, remove
from ..provenance import canonical_json

_WAITING, _DONE, _SKIPPED = 0, 1, 2


@dataclass
class PartialTable:
    """An `(n, v, d)` float32 store that fills up: `n` tiles, `v` views of each, `d` dimensions.

    Lives in a folder beside the final output. Rows are written with ordinary writes, not through a memory map, since a
    full disk kills a process that writes to a map.
    """

    folder: Path
    shape: tuple[int, int, int]
    notes: dict[str, Any] = field(repr=False)
    _state: np.ndarray = field(repr=False)
    _unsaved: list[str] = field(repr=False, default_factory=list)

    @classmethod
    def open(
        cls, target: Path, shape: tuple[int, int, int], plan: Mapping[str, Any], *, restart: bool = False
    ) -> "PartialTable":
        """Start the store for `target`, or go on with the one that an interrupted run left.

        Tiles that were skipped wait again: they may have been mended, or a tile that cannot be read may now have to
        stop the run.

        Raises
        ------
        OutputError
            If one is there that was started under another plan.
        """
        folder = target.with_name(target.name + ".partial")
        text = canonical_json({**plan, "shape": list(shape)})
        if restart:
            remove(folder)
        with disk_errors(folder):
            if not (folder / "plan.json").exists():
                remove(folder)
                folder.mkdir(parents=True)
                (folder / "vectors.f32").touch()
                (folder / "hashes.u64").touch()
                (folder / "notes.jsonl").touch()
                (folder / "state.u8").write_bytes(bytes(shape[0]))
                (folder / "plan.json").write_text(text, encoding="utf-8")
            found = (folder / "plan.json").read_text(encoding="utf-8")
            if found != text:
                raise OutputError(
                    f"an interrupted run with another {_difference(found, text)} is there",
                    received=folder,
                    fix="pass --restart to drop it, or choose another path",
                )
            state = np.frombuffer((folder / "state.u8").read_bytes(), np.uint8).copy()
            state[state == _SKIPPED] = _WAITING
            notes = _read_notes((folder / "notes.jsonl").read_text(encoding="utf-8"))
        return cls(folder, shape, notes, state)

    def waiting(self, block: int) -> list[range]:
        """Return the blocks of `block` tiles that are not complete.

        Blocks start at multiples of `block`, so that a run that was interrupted computes the same batches as one that
        was not.
        """
        n = self.shape[0]
        parts = (range(start, min(start + block, n)) for start in range(0, n, block))
        return [part for part in parts if (self._state[part.start : part.stop] == _WAITING).any()]

    @property
    def kept(self) -> Mask:
        """Which tiles have vectors: neither waiting nor skipped."""
        return self._state == _DONE

    def write(self, rows: Iterable[int], vectors: np.ndarray, hashes: np.ndarray) -> None:
        """Store `(b, v, d)` vectors and `(b, v)` uint64 pixel hashes for the tiles `rows`."""
        _, v, d = self.shape
        rows = list(rows)
        with disk_errors(self.folder):
            for name, array, width in (("vectors.f32", vectors, v * d * 4), ("hashes.u64", hashes, v * 8)):
                with (self.folder / name).open("r+b") as file:
                    for row, values in zip(rows, array, strict=True):
                        file.seek(row * width)
                        file.write(np.ascontiguousarray(values).tobytes())
        self._state[rows] = _DONE

    def note(self, tile_id: str, fact: Mapping[str, Any]) -> None:
        """Keep a small JSON-able fact of a tile in `notes`, for the card."""
        self.notes[tile_id] = dict(fact)
        self._unsaved.append(canonical_json([tile_id, fact]) + "\n")

    def skip(self, row: int) -> None:
        """Mark a tile as left out."""
        self._state[row] = _SKIPPED

    def checkpoint(self) -> None:
        """Make all that was written so far survive the end of the process."""
        with disk_errors(self.folder):
            with (self.folder / "notes.jsonl").open("a", encoding="utf-8") as file:
                file.write("\n" + "".join(self._unsaved))  # the line before may be torn, by a full disk
            self._unsaved.clear()
            part = self.folder / "state.u8.new"
            part.write_bytes(self._state.tobytes())
            part.replace(self.folder / "state.u8")

    def vectors(self) -> np.ndarray:
        """Return the `(n, v, d)` vectors as a read-only memory map; rows of skipped tiles are undefined."""
        return self._map("vectors.f32", np.dtype(np.float32), self.shape)

    def hashes(self) -> np.ndarray:
        """Return the `(n, v)` pixel hashes; rows of skipped tiles are undefined."""
        return self._map("hashes.u64", np.dtype(np.uint64), self.shape[:2])

    def _map(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        if not self.kept.any():
            reasons = [note["skipped"] for note in self.notes.values() if "skipped" in note]
            raise InputError(
                f"no tile could be read: all {self.shape[0]} were skipped",
                received="; ".join(reasons[:1]) or None,
                fix="mend the tiles, then run the same command again",
            )
        size = int(np.prod(shape)) * dtype.itemsize
        path = self.folder / name
        if path.stat().st_size < size:  # the last tiles were skipped
            os.truncate(path, size)
        return np.memmap(path, dtype, "r", shape=shape)

    def remove(self) -> None:
        """Remove the store, once its content is safe elsewhere."""
        remove(self.folder)


def _difference(found: str, wanted: str) -> str:
    old, new = json.loads(found), json.loads(wanted)
    return ", ".join(sorted(key for key in {*old, *new} if old.get(key) != new.get(key))) or "plan"


def _read_notes(text: str) -> dict[str, Any]:
    """Read the notes that were written whole. A tile whose note was torn is still marked as waiting."""
    notes: dict[str, Any] = {}
    for line in text.split("\n"):
        try:
            tile_id, fact = json.loads(line)
        except ValueError:
            continue
        notes[tile_id] = fact
    return notes
