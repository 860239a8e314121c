"""Real tiles of one site that benchmarks read, where HISTOLATENT_DATA names the folder that holds them."""

import os
from pathlib import Path

from histolatent import open_tiles
from histolatent.images import Cut, TileSource


def real_tiles() -> dict[str, TileSource]:
    """Return the cohorts by name; none where the folder is not named, which is said."""
    if "HISTOLATENT_DATA" not in os.environ:
        print("HISTOLATENT_DATA names no real tiles: these are left out")
        return {}
    data = Path(os.environ["HISTOLATENT_DATA"])
    return {
        "oral_cancer": open_tiles(data / "oral_cancer" / "manifest.csv"),
        "osteosarcoma": open_tiles(data / "osteosarcoma", cut=Cut(256)),
    }
