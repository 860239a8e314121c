"""TCGA-UT: one archive for each cancer, CANCER/RESOLUTION/BARCODE/TILE.jpg."""

import re
from collections.abc import Iterator
from pathlib import Path

from ..unpack import unpack_zip
from .common import Laid, Places, changed, counted, matching, tile_path

#: The same tissue is there at six resolutions; folder 0 is the finest.
FINEST, MPP = "0", 0.5
BARCODE = re.compile(r"(TCGA-([A-Z0-9]{2})-[A-Z0-9]{4})-[A-Z0-9-]+")


def lay_out(places: Places) -> Laid:
    """Unpack the finest resolution. `site` is the code of the tissue source site within the barcode."""
    archives = matching(places, "*.zip")
    return Laid(counted(places, (row for name, path in archives.items() for row in _rows(places, name, path))))


def _rows(places: Places, name: str, archive: Path) -> Iterator[dict[str, object]]:
    cancer, found, seen = name.removesuffix(".zip"), [], []

    def place(member: str) -> Path | None:
        seen.append(member)
        parts = member.split("/")
        # Some archives may hold a folder above that of the cancer.
        inside = parts[parts.index(cancer) + 1 :] if cancer in parts else []
        if len(inside) != 3 or inside[0] != FINEST or not inside[2].endswith(".jpg"):
            return None
        kept = "/".join((cancer, *inside[1:]))
        found.append((kept, inside[1]))
        return tile_path(places, kept)

    unpack_zip(archive, place)
    if not found:
        changed(f"the archive {name}", f"{cancer}/{FINEST}/TCGA-.../*.jpg", ", ".join(seen[:5]) or "nothing")
    for inside, slide in sorted(found):
        barcode = BARCODE.fullmatch(slide)
        if barcode is None:
            changed(f"a folder of {name}", "a TCGA barcode", slide)
        yield {
            "path": f"tiles/{inside}",
            "label": cancer,
            "site": barcode[2],
            "slide": slide,
            "patient": barcode[1],
            "mpp": MPP,
        }
