"""MIDOG++: large images, a table of where they are from, and the centres of mitotic figures and look-alikes."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ....errors import described
from .common import Laid, Places, changed, matching, needed, read_table

BOXES, TABLE = "MIDOG++.json", "datasets_xvalidation.csv"
COLUMNS = ("Slide", "Dataset", "Tumor", "Scanner", "Origin", "Species")
KINDS = {"mitotic figure": "mitotic figure", "not mitotic figure": "imposter"}
#: Um per pixel by scanner, from the table of tumours and scanners of Aubreville et al. 2023, Scientific Data 10:484.
MPP = {"Hamamatsu XR": 0.23, "Hamamatsu S360": 0.23, "Aperio CS2": 0.25, "3D Histech": 0.25}
#: Spellings of the published table that are of one scanner.
SPELLINGS = {"Hamammatsu XR": "Hamamatsu XR"}


def lay_out(places: Places) -> Laid:
    """Return a row for each image that was fetched, and `objects.csv`: a point for each box, in pixels of the image."""
    table = read_table(needed(places, TABLE), TABLE, COLUMNS, separator=";").set_index("Slide")
    names, objects = _read_boxes(needed(places, BOXES))
    rows = []
    for name in matching(places, "images/*.tiff"):
        image = name.removeprefix("images/")
        number = str(names.get(image))
        if number not in table.index:
            changed("the list of images", f"{image} in {BOXES} and {TABLE}", f"{len(names)} and {len(table)} others")
        row = table.loc[number]
        scanner = SPELLINGS.get(str(row["Scanner"]), str(row["Scanner"]))
        rows.append(
            {
                "path": f"published/{name}",
                "tile": image.removesuffix(".tiff"),
                "label": row["Tumor"],
                "site": row["Origin"],
                "scanner": scanner,
                "mpp": MPP.get(scanner),
                "slide": image.removesuffix(".tiff"),
                "patient": image.removesuffix(".tiff"),
                "split": row["Dataset"],
                "domain": f"{row['Tumor']}, {scanner}, {row['Origin']}",
                "species": row["Species"],
            }
        )
    if not rows:
        changed("the content", "at least one image, images/*.tiff", ", ".join(sorted(places.files)[:5]))
    places.told(len(rows))
    manifest = pd.DataFrame(rows)
    return Laid(manifest, {"objects.csv": pd.DataFrame(objects[objects["tile"].isin(manifest["tile"])])})


def _read_boxes(path: Path) -> tuple[dict[str, int], pd.DataFrame]:
    """Return the number of each image by its name, and the objects of all images.

    Boxes are corners, x1 y1 x2 y2, though the format is called after one that has width and height.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        kinds = {one["id"]: KINDS[one["name"]] for one in document["categories"]}
        names = {one["file_name"]: int(one["id"]) for one in document["images"]}
        tiles = {number: name.removesuffix(".tiff") for name, number in names.items()}
        rows = []
        for one in document["annotations"]:
            left, top, right, bottom = one["bbox"]
            if not (right > left and bottom > top):
                changed(f"a box of {BOXES}", "corners x1 y1 x2 y2", one["bbox"])
            x, y = (left + right) / 2, (top + bottom) / 2
            rows.append({"tile": tiles[one["image_id"]], "x": x, "y": y, "kind": kinds[one["category_id"]]})
    except (ValueError, KeyError, TypeError) as error:
        changed(f"the file {BOXES}", "images, categories and annotations as in COCO", described(error))
    return names, pd.DataFrame(rows, columns=pd.Index(["tile", "x", "y", "kind"]))
