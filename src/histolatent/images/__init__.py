"""Pixels in: folders, manifests, arrays, the phantom cohort. No encoder here."""

from .decode import TileWarning, decode
from .open import open_tiles
from .stream import Item, Skipped, default_workers, stream_tiles
from .tiles import KNOWN_COLUMNS, TileSource

__all__ = [
    "KNOWN_COLUMNS",
    "Item",
    "Skipped",
    "TileSource",
    "TileWarning",
    "decode",
    "default_workers",
    "open_tiles",
    "stream_tiles",
]
