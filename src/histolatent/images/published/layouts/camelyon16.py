"""CAMELYON16: whole slides, a table of labels and hospitals, outlines of metastases."""

import pandas as pd

from .common import Laid, Places, changed, matching, needed, read_table

REFERENCE = "evaluation/reference.csv"
#: `center` of the reference.
SITES = {"0": "RUMC", "1": "UMCU"}
NEGATIVE, POSITIVE = ("negative", "normal"), ("micro", "macro", "itc", "tumor")


def lay_out(places: Places) -> Laid:
    """Return one row for each slide that was fetched. `annotation` is its file of outlines, if that was fetched too."""
    reference = read_table(needed(places, REFERENCE), REFERENCE, ("image", "class", "center"))
    known = reference.set_index("image")
    rows = []
    for name in matching(places, "images/*.tif"):
        image = name.removeprefix("images/")
        if image not in known.index:
            changed(REFERENCE, f"a row of {image}", f"{len(known)} rows of other slides")
        stem, row = image.removesuffix(".tif"), known.loc[image]
        annotation = f"annotations/{stem}.xml"
        rows.append(
            {
                "path": f"published/{name}",
                "tile": stem,
                "label": _label(str(row["class"]), image),
                "site": _site(str(row["center"]), image),
                "slide": stem,
                "patient": stem,
                "split": "test" if stem.startswith("test_") else "train",
                "class": row["class"],
                "annotation": f"published/{annotation}" if annotation in places.files else None,
            }
        )
    if not rows:
        changed("the content", "at least one slide, images/*.tif", ", ".join(sorted(places.files)[:5]))
    places.told(len(rows))
    return Laid(pd.DataFrame(rows))


def _label(word: str, image: str) -> str:
    lower = word.strip().lower()
    if lower not in NEGATIVE + POSITIVE:
        changed(f"the class of {image}", ", ".join(NEGATIVE + POSITIVE), repr(word))
    return "normal" if lower in NEGATIVE else "tumor"


def _site(word: str, image: str) -> str:
    if word.strip() not in SITES:
        changed(f"the center of {image}", ", ".join(SITES), repr(word))
    return SITES[word.strip()]
