"""Pixels in: folders, manifests, arrays, the phantom cohort. No encoder here.

Names are loaded when they are first used: a worker process needs few of them, and starts fast.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .changed import ChangedTiles
    from .columns import known_mpp
    from .cut import Cut
    from .formats import TileWarning, decode
    from .inputs import input_files
    from .kept import keep_tiles
    from .open import open_tiles
    from .selected import select_rows, spaced
    from .stream import Skipped, cores, default_workers, stream_tiles
    from .tiles import KNOWN_COLUMNS, TileSource
    from .worker import Item

__all__ = [
    "KNOWN_COLUMNS",
    "ChangedTiles",
    "Cut",
    "Item",
    "Skipped",
    "TileSource",
    "TileWarning",
    "cores",
    "decode",
    "default_workers",
    "input_files",
    "keep_tiles",
    "known_mpp",
    "open_tiles",
    "select_rows",
    "spaced",
    "stream_tiles",
]

__getattr__ = lazy_names(
    __name__,
    {
        "changed": ("ChangedTiles",),
        "columns": ("known_mpp",),
        "cut": ("Cut",),
        "formats": ("TileWarning", "decode"),
        "inputs": ("input_files",),
        "kept": ("keep_tiles",),
        "open": ("open_tiles",),
        "selected": ("select_rows", "spaced"),
        "stream": ("Skipped", "cores", "default_workers", "stream_tiles"),
        "tiles": ("KNOWN_COLUMNS", "TileSource"),
        "worker": ("Item",),
    },
)
