"""What made an artefact: hashes, versions, hardware, configuration, and randomness keyed by name."""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ._types import Tile
from .errors import OptionError

DISTRIBUTION = "histolatent"
RECORDED = ("numpy", "scipy", "scikit-learn", "opencv-python-headless", "pillow", "anndata", "torch", "timm")


def version() -> str:
    """Return the installed version of histolatent."""
    return importlib.metadata.version(DISTRIBUTION)


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def canonical_json(value: Any) -> str:
    """Serialise to JSON with sorted keys, so that equal values give equal bytes. NaN is not JSON and raises."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: NumPy's numbers and arrays as Python's, NaN and infinity as None.

    >>> plain({"a": np.float32(1.5), "b": [np.nan, np.arange(2)]})
    {'a': 1.5, 'b': [None, [0, 1]]}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digest(value: Any) -> str:
    """Return the sha256 (hex) of a JSON-able value, of bytes, or of a string.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    if not isinstance(value, bytes):
        value = canonical_json(value).encode()
    return hashlib.sha256(value).hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pixel_hash(tile: Tile) -> str:
    """Return 16 hex digits that identify the decoded pixels and the shape of a tile."""
    head = f"{tile.shape}{tile.dtype}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(tile).tobytes()).hexdigest()[:16]


def environment() -> dict[str, Any]:
    """Return versions and hardware: what may change a number without any change of input."""
    versions = {}
    for name in RECORDED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "histolatent": version(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
    }


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a random stream that depends on the seed and the names only, not on order, batches or workers.

    Raises
    ------
    OptionError
        If the seed is negative.

    >>> first, again = (stream(0, "tile-7", "rotation").integers(10**9, size=3) for _ in range(2))
    >>> (first == again).all().item()
    True
    """
    if seed < 0:
        raise OptionError("a seed is not negative", received=seed, valid="0 or more")
    key = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    words = np.frombuffer(key, dtype="<u4").tolist()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *words])))


def combined_digest(parts: Iterable[str]) -> str:
    """Return one sha256 over an ordered series of hex digests."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
