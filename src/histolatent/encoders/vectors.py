"""Precomputed vectors, for an audit without pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._types import Tiles, Vectors
from ..errors import EncoderError, InputError
from ..provenance import file_digest
from .card import EncoderCard

SHOWN_ROWS = 5


@dataclass(frozen=True)
class VectorEncoder:
    """Rows that some encoder gave earlier. It has a card and vectors, and cannot embed anything."""

    card: EncoderCard
    vectors: Vectors

    def forward(self, prepared: Tiles) -> Vectors:
        """Raise EncoderError: there are no weights."""
        raise EncoderError(
            f"{self.card.name} holds precomputed vectors and cannot embed pixels",
            received=f"{len(prepared)} tiles",
            fix="use its rows (`.vectors`) in the order of your table, or name the encoder that made them",
        )


def load_vectors(path: Path) -> VectorEncoder:
    """Read `(n, d)` finite numbers from a .npy file; they become float32. Pickled objects are refused.

    Raises
    ------
    InputError
        If the file is missing or unreadable, or is not a finite two-dimensional array of numbers.
    """
    path = path.expanduser()
    try:
        stored = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError("there is no such file of vectors", received=path) from None
    except (ValueError, EOFError, OSError) as error:
        reason = "holds Python objects" if "allow_pickle" in str(error) else "is not a .npy array"
        raise InputError(
            f"the file of vectors {reason}",
            received=path,
            valid="numbers of shape (n, d)",
            fix="np.save(path, np.asarray(rows, dtype=np.float32))",
        ) from None
    if not isinstance(stored, np.ndarray):
        stored.close()
        raise InputError("the file of vectors is an .npz archive", received=path, fix="save one array with np.save")
    if stored.ndim != 2 or not stored.size or stored.dtype.kind not in "fiu":
        raise InputError(
            "the vectors are not a table of numbers",
            received=f"{stored.dtype} array {stored.shape}",
            valid="float array (n, d), one row per tile",
        )
    with np.errstate(over="ignore"):
        vectors = stored.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        more = f" and {bad.size - SHOWN_ROWS} more" if bad.size > SHOWN_ROWS else ""
        raise InputError(
            "some vectors are not finite in float32",
            received=f"NaN or infinity in row {', '.join(map(str, bad[:SHOWN_ROWS]))}{more}",
            fix="embed these tiles again, or leave them out of the array and of the table",
        )
    sha256 = file_digest(path)
    card = EncoderCard(
        name=f"npy:{path.name}",
        kind="vectors",
        source=f"npy:{path.name}",
        dim=vectors.shape[1],
        revision=f"sha256:{sha256}",
        weights_sha256=sha256,
        notes="Precomputed vectors: how they were made is not known to histolatent.",
    )
    return VectorEncoder(card, vectors)
