"""Stain applied to sources of tiles: fit a cohort, check it, write it in another look. Joins `stain` and `images`.

Names are loaded when they are first used: a worker process needs few of them, and starts fast.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .check import SlideCheck, StainCheck, check_book, check_source
    from .fit import fit_source
    from .fitter import Fitter
    from .normalize import Restained, normalize_source
    from .one import OneTile, find_tile, fit_of
    from .paths import tile_paths
    from .reference import Reference, find_reference

__all__ = [
    "Fitter",
    "OneTile",
    "Reference",
    "Restained",
    "SlideCheck",
    "StainCheck",
    "check_book",
    "check_source",
    "find_reference",
    "find_tile",
    "fit_of",
    "fit_source",
    "normalize_source",
    "tile_paths",
]

__getattr__ = lazy_names(
    __name__,
    {
        "check": ("SlideCheck", "StainCheck", "check_book", "check_source"),
        "fit": ("fit_source",),
        "fitter": ("Fitter",),
        "normalize": ("Restained", "normalize_source"),
        "one": ("OneTile", "find_tile", "fit_of"),
        "paths": ("tile_paths",),
        "reference": ("Reference", "find_reference"),
    },
)
