"""A compaction on disk: the encoder's folder, with where it came from beside it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..encoders import Encoder, save_encoder
from ..errors import EncoderError

PROVENANCE = "compaction.json"


def save_compaction(
    encoder: Encoder,
    card: Mapping[str, Any],
    folder: str | Path,
    *,
    overwrite: bool = False,
    beside: Callable[[Path], object] | None = None,
) -> Path:
    """Write an encoder as `save_encoder` does, and `compaction.json`: its plan, its manifold, what the checks saw.

    `beside` is called with the folder before it is put in its place, to write files of its own there.

    Raises
    ------
    OutputError
        If the folder exists, and not `overwrite`.
    """

    def write(part: Path) -> None:
        text = json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False)
        (part / PROVENANCE).write_text(text + "\n", encoding="utf-8")
        if beside:
            beside(part)

    return save_encoder(encoder, folder, overwrite=overwrite, beside=write)


def read_provenance(folder: str | Path) -> dict[str, Any]:
    """Read `compaction.json`.

    Raises
    ------
    EncoderError
        If it is not there, or not JSON.
    """
    path = Path(folder) / PROVENANCE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise EncoderError("the folder holds no compaction", received=folder, valid=f"one with {PROVENANCE}") from None
    except ValueError as error:
        raise EncoderError("the file is not JSON", received=f"{path}: {error}") from None
    if not isinstance(found, dict) or "kind" not in found:
        raise EncoderError("the file is not of a compaction", received=path)
    return found
