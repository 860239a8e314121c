"""Arrays and what is said of them, as a folder: JSON and NPZ, no code."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..errors import InputError
from ..outputs import Mark, whole
from ..provenance import canonical_json


@dataclass(frozen=True)
class Form:
    """A kind of folder: what its format is called, its version, and its files `STEM.json` and `STEM.npz`.

    `parts` are names of what is said or of arrays, without which it cannot be read.
    """

    name: str
    version: int
    stem: str
    parts: tuple[str, ...] = ()

    @property
    def mark(self) -> Mark:
        """What such a folder bears."""
        return Mark(f"{self.stem}.json", self.name, "format")

    def write(
        self,
        folder: Path,
        document: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        *,
        overwrite: bool = False,
        beside: Callable[[Path], object] | None = None,
    ) -> Path:
        """Write a folder that `read` reads, whole or not at all.

        `beside` is called with the folder before it is put in its place, to write files of its own there.

        Raises
        ------
        OutputError
            If it exists and not `overwrite`, or is of another kind; or the disk is full.
        """
        with whole(folder, overwrite=overwrite, mark=self.mark) as part:
            part.mkdir(parents=True)
            with (part / f"{self.stem}.npz").open("wb") as file:
                np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
            text = canonical_json({"format": self.name, "version": self.version, **document})
            (part / f"{self.stem}.json").write_text(text + "\n", encoding="utf-8")
            if beside:
                beside(part)
        return folder

    def read(self, folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what is said, and the arrays.

        Raises
        ------
        InputError
            If the folder is of another kind, or of another version, or is damaged.
        """
        try:
            document = json.loads((folder / f"{self.stem}.json").read_text(encoding="utf-8"))
            # Of a broken file, numpy leaves open what it opened itself.
            with (folder / f"{self.stem}.npz").open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise InputError(
                f"this is no {self.stem}", received=f"{folder}: {error}", valid=f"a folder of `explore {self.stem}`"
            ) from None
        document = document if isinstance(document, dict) else {}
        if document.get("format") != self.name or document.get("version") != self.version:
            raise InputError(
                f"this is no {self.stem} that can be read",
                received=f"{document.get('format')}, version {document.get('version')}",
                valid=f"{self.name}, version {self.version}",
            )
        missing = [part for part in self.parts if part not in document and part not in arrays]
        if missing:
            raise InputError(f"this {self.stem} is not whole", received=f"{folder} without {', '.join(missing)}")
        return document, arrays
