"""Checkpoints: whole or not there, and of one plan. Imports torch."""

import json
import pickle
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ..errors import OutputError
from ..outputs import disk_errors

CHECKPOINT = "checkpoint.pt"


def keep(fabric: Fabric, path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint: the one before it stands until the new one is whole. Every process calls it, one writes."""
    part = path.with_suffix(".part")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fabric.save(part, state)
            if fabric.is_global_zero:
                part.replace(path)
        except RuntimeError as error:  # torch's writer hides the reason of a failed write
            raise OutputError(
                "the checkpoint could not be written; the one before it is kept",
                received=f"{path}: {str(error).splitlines()[0]}",
                fix="free space, then run the same command again",
            ) from error
        finally:
            if fabric.is_global_zero:
                part.unlink(missing_ok=True)


def resume(fabric: Fabric, path: Path, state: dict[str, Any], identity: str) -> None:
    """Load a checkpoint into `state`.

    Raises
    ------
    OutputError
        If it cannot be read, or is of another plan.
    """
    found = {"identity": ""}
    try:
        fabric.load(path, found, strict=False)
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, pickle.UnpicklingError) as error:
        raise OutputError(
            "the checkpoint cannot be read",
            received=f"{path}: {str(error).splitlines()[0]}",
            fix="train from the start (--restart), or choose another path",
        ) from error
    if found["identity"] != identity:
        old, new = json.loads(found["identity"] or "{}"), json.loads(identity)
        parts = ", ".join(key for key in new if old.get(key) != new[key])
        raise OutputError(
            f"a checkpoint with another {parts} is there",
            received=path,
            fix="drop it (--restart), or choose another path",
        )
    fabric.load(path, state)
