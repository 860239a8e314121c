"""What the layouts share: files by pattern, tiles that are written once, and the error of a changed layout."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import pandas as pd

from ...._types import Tile
from ....errors import InputError, described
from ..unpack import write_whole


@dataclass(frozen=True)
class Places:
    """Where the published files of a cohort are, by name, and where tiles go.

    `kept` holds tiles of an earlier fetch, `fresh` takes those of this one, `scratch` what is not kept. `told` hears
    how many tiles there are.
    """

    files: Mapping[str, Path]
    kept: Path
    fresh: Path
    scratch: Path
    told: Callable[[int], None]


@dataclass(frozen=True)
class Laid:
    """A manifest, whose column `path` is relative to the cohort's folder, and further tables, by file name."""

    manifest: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def matching(places: Places, pattern: str) -> dict[str, Path]:
    """Return the files whose names match, in the order of their names."""
    return {name: places.files[name] for name in sorted(places.files) if fnmatch.fnmatchcase(name, pattern)}


def needed(places: Places, name: str) -> Path:
    """Return one file that the layout cannot do without."""
    if name not in places.files:
        changed("a file", name, ", ".join(sorted(places.files)[:5]) or "nothing")
    return places.files[name]


def changed(what: str, looked_for: object, found: object) -> NoReturn:
    """Raise InputError: what was published has not the layout that is known here."""
    raise InputError(
        f"the cohort has another layout than is known: {what} is not as expected",
        received=f"found {found}",
        valid=f"looked for {looked_for}",
        fix="it may have been published anew: look at its page, and update histolatent",
    )


def need_columns(frame: pd.DataFrame, columns: tuple[str, ...], name: str) -> None:
    """Raise InputError if a published table lacks a column."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        changed(f"the table {name}", f"the columns {', '.join(columns)}", ", ".join(map(str, frame.columns)))


def read_table(path: Path, name: str, columns: tuple[str, ...], *, separator: str = ",") -> pd.DataFrame:
    """Return a published table as text, with at least these columns."""
    try:
        frame = pd.read_csv(path, dtype=str, sep=separator, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        changed(f"the table {name}", "a table of text", described(error))
    need_columns(frame, columns, name)
    return frame


def tile_path(places: Places, inside: str) -> Path:
    """Return where the tile `tiles/INSIDE` is, or will be."""
    kept = places.kept / inside
    return kept if kept.exists() else places.fresh / inside


def put_png(places: Places, inside: str, pixels: Callable[[], Tile]) -> None:
    """Write a tile as `tiles/INSIDE`, unless it is there; `pixels` is asked only if it is not."""

    def encoded() -> bytes:
        _, png = cv2.imencode(".png", cv2.cvtColor(pixels(), cv2.COLOR_RGB2BGR))
        return png.tobytes()

    put_bytes(places, inside, encoded)


def put_bytes(places: Places, inside: str, content: Callable[[], bytes]) -> None:
    """Write a file as `tiles/INSIDE`, unless it is there; `content` is asked only if it is not."""
    target = tile_path(places, inside)
    if not target.exists():
        write_whole(target, content())


def counted(places: Places, rows: Iterator[dict[str, object]]) -> pd.DataFrame:
    """Return the rows as a table, and tell how many there are as they come."""
    found = []
    for row in rows:
        found.append(row)
        if len(found) % 100 == 0:
            places.told(len(found))
    places.told(len(found))
    if not found:
        changed("the content", "at least one tile", "none")
    return pd.DataFrame(found)


def check_pixels(shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    """Raise InputError if an array does not hold RGB tiles."""
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8:
        changed(f"the array {name}", "uint8 (n, h, w, 3)", f"{dtype} {shape}")
