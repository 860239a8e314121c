"""Camelyon17-WILDS: tiles in one archive, with a table beside them."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ..unpack import unpack_tar
from .common import Laid, Places, changed, counted, needed, read_table, tile_path

ARCHIVE, TABLE = "camelyon17_v1.0.tar.gz", "metadata.csv"
COLUMNS = ("patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split")
#: The table names the corner of the central square of 32 px, in pixels of the level that is four times coarser.
CENTRE_PX, DOWNSAMPLE = 32, 4
#: Hospitals that the authors keep for validation and for test; the others are split as the table says.
LEFT_OUT = {"1": "val", "2": "test"}
SPLITS = {"0": "train", "1": "id_val"}


def lay_out(places: Places) -> Laid:
    """Unpack the tiles, and return a row for each of the published table. `x`, `y` are pixels of level 0."""
    seen: list[str] = []

    def place(member: str) -> Path | None:
        # Some copies of the archive hold a folder of its name.
        inside = member.removeprefix("camelyon17_v1.0/")
        seen.append(inside)
        if inside == TABLE:
            return places.scratch / TABLE
        if inside.startswith("patches/") and inside.endswith(".png"):
            return tile_path(places, inside.removeprefix("patches/"))
        return None

    unpack_tar(needed(places, ARCHIVE), place)
    table = places.scratch / TABLE
    if not table.exists():
        changed(f"the archive {ARCHIVE}", f"{TABLE} and patches/", ", ".join(seen[:5]) or "nothing")
    return Laid(counted(places, _rows(places, read_table(table, TABLE, COLUMNS))))


def _rows(places: Places, frame: pd.DataFrame) -> Iterator[dict[str, object]]:
    for row in frame.to_dict("records"):
        slide = f"patient_{row['patient']}_node_{row['node']}"
        inside = f"{slide}/patch_{slide}_x_{row['x_coord']}_y_{row['y_coord']}.png"
        if not tile_path(places, inside).exists():
            changed(f"the archive {ARCHIVE}", f"patches/{inside}", "no such tile")
        center = str(row["center"])
        if row["tumor"] not in ("0", "1") or row["split"] not in SPLITS:
            changed(f"a row of {TABLE}", "tumor and split of 0 or 1", f"{row['tumor']} and {row['split']}")
        yield {
            "path": f"tiles/{inside}",
            "label": "tumor" if row["tumor"] == "1" else "normal",
            "site": f"hospital {center}",
            "slide": slide,
            "patient": f"patient_{row['patient']}",
            "x": (int(row["x_coord"]) - CENTRE_PX) * DOWNSAMPLE,
            "y": (int(row["y_coord"]) - CENTRE_PX) * DOWNSAMPLE,
            # Not `split`: patients stand on both sides of it, which every command that splits refuses.
            "official_split": LEFT_OUT.get(center, SPLITS[str(row["split"])]),
        }
