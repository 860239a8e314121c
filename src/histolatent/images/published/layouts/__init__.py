"""From what was published to a manifest: one module for each layout, loaded when it is needed."""

import importlib

from .common import Laid, Places

__all__ = ["Laid", "Places", "lay_out"]


def lay_out(layout: str, places: Places) -> Laid:
    """Turn the files of a cohort into its manifest, and unpack its tiles.

    Raises
    ------
    InputError
        If they are not laid out as they were when this was written.
    """
    return importlib.import_module(f"{__name__}.{layout}").lay_out(places)
