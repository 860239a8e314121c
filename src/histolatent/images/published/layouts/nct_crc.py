"""NCT-CRC-HE: one archive for each set, SET/CLASS/TILE.tif."""

from collections.abc import Iterator
from pathlib import Path

from ..unpack import unpack_zip
from .common import Laid, Places, changed, counted, matching, tile_path

CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
TEST, MPP = "CRC-VAL-HE-7K", 0.5


def lay_out(places: Places) -> Laid:
    """Unpack the tiles. `set` is the archive; no slide and no patient is published."""
    archives = matching(places, "*.zip")
    return Laid(counted(places, (row for name, path in archives.items() for row in _rows(places, name, path))))


def _rows(places: Places, name: str, archive: Path) -> Iterator[dict[str, object]]:
    group, found, seen = name.removesuffix(".zip"), [], []

    def place(member: str) -> Path | None:
        seen.append(member)
        parts = member.split("/")
        if len(parts) != 3 or parts[0] != group or parts[1] not in CLASSES or not parts[2].endswith(".tif"):
            return None
        found.append((member, parts[1]))
        return tile_path(places, member)

    unpack_zip(archive, place)
    if not found:
        changed(
            f"the archive {name}", f"{group}/CLASS/*.tif with {', '.join(CLASSES)}", ", ".join(seen[:5]) or "nothing"
        )
    for inside, label in sorted(found):
        yield {
            "path": f"tiles/{inside}",
            "label": label,
            "mpp": MPP,
            "split": "test" if group == TEST else "train",
            "set": group,
        }
