"""Outlines of metastases as CAMELYON publishes them, and tiles that are labelled by them."""

import dataclasses
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from ...errors import InputError, OptionError
from ..cut import CutTiles
from ..tiles import TileSource

#: Groups of outlines: tumour, and tissue within tumour that is none.
TUMOUR, EXCLUDED = ("Tumor", "_0", "_1"), ("_2", "Exclusion")
#: The side of the grid on which a tile is compared with outlines.
GRID = 32

Polygon = Float[np.ndarray, "_corners 2"]


@dataclass(frozen=True, eq=False)
class Lesions:
    """The outlines of a slide: corners `(k, 2)`, x and y in pixels of level 0."""

    tumour: tuple[Polygon, ...]
    excluded: tuple[Polygon, ...] = ()

    @cached_property
    def boxes(self) -> tuple[Float[np.ndarray, "_n 2"], Float[np.ndarray, "_n 2"]]:
        """Lowest and highest corners of all outlines, those of tumour first: most tiles are near none of them."""
        every = (*self.tumour, *self.excluded)
        low = np.array([outline.min(axis=0) for outline in every], float).reshape(-1, 2)
        return low, np.array([outline.max(axis=0) for outline in every], float).reshape(-1, 2)


def read_lesions(file: str | os.PathLike[str]) -> Lesions:
    """Read a file of outlines (ASAP's XML).

    Raises
    ------
    InputError
        If the file is no such XML, or names a group that is not known.
    """
    try:
        root = ElementTree.fromstring(_text(Path(file)))
        found: dict[str, list[Polygon]] = {"tumour": [], "excluded": []}
        for annotation in root.iterfind("./Annotations/Annotation"):
            group = annotation.get("PartOfGroup", "")
            if group not in TUMOUR + EXCLUDED:
                raise InputError(
                    "an outline is of a group that is not known",
                    received=f"{file}: {group!r}",
                    valid=", ".join(TUMOUR + EXCLUDED),
                )
            corners = [
                (float(point.attrib["X"]), float(point.attrib["Y"]))
                for point in annotation.iterfind("./Coordinates/Coordinate")
            ]
            if len(corners) >= 3:
                found["tumour" if group in TUMOUR else "excluded"].append(np.array(corners))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise InputError(f"these are no outlines ({error})", received=file) from None
    return Lesions(tuple(found["tumour"]), tuple(found["excluded"]))


def _text(file: Path) -> str:
    """Return the XML of a file. Entities are refused: a small file could make them grow without end."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the outlines cannot be read ({error})", received=file) from None
    if "<!ENTITY" in text or "<!DOCTYPE" in text:
        raise InputError("outlines with a document type are not read", received=file)
    return text


def label_tiles(tiles: TileSource, folder: str | os.PathLike[str] | None = None, *, least: float = 0.5) -> CutTiles:
    """Return tiles of CAMELYON16 slides with `label` by outline, and `tumor_share`, the share of a tile that is tumour.

    `label` is `tumor` from a share of `least` on, `normal` where it is 0, and missing in between. Files of outlines are
    found by the column `annotation`, relative to `folder`, which is that of the manifest by default.

    When it misleads: some slides are not outlined in full, so that `normal` may hold tumour there.

    Raises
    ------
    OptionError
        If the tiles are not cut from slides.
    InputError
        If a slide is labelled `tumor` and its outlines were not fetched.
    """
    if not isinstance(tiles, CutTiles):
        raise OptionError(
            "only tiles that are cut from slides are labelled by outline",
            received=tiles.name,
            fix="open_tiles(folder, cut=Cut(256))",
        )
    if not 0 < least <= 1:
        raise OptionError("the least share of tumour lies above 0, up to 1", received=least)
    table = tiles.table
    root = Path(folder) if folder is not None else Path(tiles.whole.manifest or ".").parent
    lesions = _lesions_of(tiles, root)
    places, sides = tiles.reader.places, tiles.reader.sides
    shares = np.array(
        [
            tumour_share(lesions[str(slide)], places[row], float(sides[row])) if str(slide) in lesions else 0.0
            for row, slide in enumerate(table["slide"])
        ]
    )
    label = ["tumor" if share >= least else "normal" if share == 0 else None for share in shares]
    return dataclasses.replace(tiles, table=table.assign(label=label, tumor_share=shares))


def _lesions_of(tiles: CutTiles, root: Path) -> Mapping[str, Lesions]:
    found = {}
    for row in tiles.whole.table.to_dict("records"):
        file = row.get("annotation")
        if isinstance(file, str) and file:
            found[str(row["slide"])] = read_lesions(root / file)
        elif row.get("label") == "tumor":
            raise InputError(
                "the outlines of a slide with tumour are not there",
                received=row["slide"],
                fix=f"fetch them: --only 'annotations/{row['slide']}.xml'",
            )
    return found


def tumour_share(lesions: Lesions, place: np.ndarray, side: float) -> float:
    """Return the share of a square that lies in tumour: within its outlines, and not within those of what is none.

    `place` is its upper left corner. The share is that of the cells of a grid of 32 x 32.
    """
    if side <= 0:
        return 0.0
    covered = np.zeros((GRID, GRID), np.uint8)
    low, high = lesions.boxes
    every = (*lesions.tumour, *lesions.excluded)
    for number in np.flatnonzero(((high >= place) & (low <= place + side)).all(axis=1)):
        corners = (every[number] - place) * (GRID / side) - 0.5
        cv2.fillPoly(covered, [np.round(corners).astype(np.int32)], int(number < len(lesions.tumour)))
    return float(covered.mean())
