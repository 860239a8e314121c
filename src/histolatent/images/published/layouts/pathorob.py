"""PathoROB: tiles as files within Parquet, beside what is known of them."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ....errors import described
from .common import Laid, Places, changed, counted, matching, put_bytes

COLUMNS = ("image", "slide_id", "patch_id", "biological_class", "medical_center")
SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif"}
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Patients whose number stands in the name of the slide: TCGA, CAMELYON17.
PATIENTS = (re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}"), re.compile(r"patient_\d+(?=_node_)"))


def lay_out(places: Places) -> Laid:
    """Write every tile as it was encoded. A slide whose name tells no patient is one patient's alone."""
    return Laid(counted(places, _rows(places)))


def _rows(places: Places) -> Iterator[dict[str, object]]:
    for name, path in matching(places, "data/*.parquet").items():
        for row in _read(path, name):
            slide, patch = str(row["slide_id"]), str(row["patch_id"])
            if not (SAFE.fullmatch(slide) and SAFE.fullmatch(patch)):
                changed(f"an id of {name}", "letters, digits, points, dashes", f"{slide!r}, {patch!r}")
            content = row["image"]["bytes"] if isinstance(row["image"], dict) else None
            suffix = next((end for head, end in SUFFIXES.items() if content and content.startswith(head)), None)
            if content is None or suffix is None:
                changed(f"an image of {name}", "the bytes of a PNG, JPEG or TIFF", repr(content)[:40])
            inside = f"{slide}/{slide}-{patch}{suffix}"
            put_bytes(places, inside, partial(bytes, content))
            yield {
                "path": f"tiles/{inside}",
                "label": row["biological_class"],
                "site": row["medical_center"],
                "slide": slide,
                "patient": next((found[0] for known in PATIENTS if (found := known.match(slide))), slide),
                **({"subset": row["subset"]} if "subset" in row else {}),
            }


def _read(path: Path, name: str) -> Iterator[dict]:
    try:
        with pq.ParquetFile(path) as file:
            missing = [column for column in COLUMNS if column not in file.schema_arrow.names]
            if missing:
                changed(f"the table {name}", f"the columns {', '.join(COLUMNS)}", ", ".join(file.schema_arrow.names))
            wanted = [*COLUMNS, *(["subset"] if "subset" in file.schema_arrow.names else [])]
            for batch in file.iter_batches(batch_size=256, columns=wanted):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        changed(f"the file {name}", "Parquet", described(error))
