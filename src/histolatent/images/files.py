"""Tiles in files: a folder, or a manifest that names them."""

import io
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .._types import Tile
from ..errors import InputError
from .columns import ID_COLUMNS, check_table, rename_columns
from .formats import SUFFIXES
from .slides import SLIDE_SUFFIXES
from .worker import FileReader

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, eq=False)
class FileTiles:
    """One image file per tile. `manifest` is the file that names them, if one does."""

    name: str
    reader: FileReader
    table: pd.DataFrame
    manifest: str | None = None

    def read(self, index: int) -> Tile:
        """Decode file `index`. Raises InputError with its path."""
        return self.reader.read(index)


def folder_tiles(
    folder: str | os.PathLike[str], *, columns: Mapping[str, str] | None = None, slides: bool = False
) -> FileTiles:
    """Read a folder of images; the first level of sub-folders, if every image is in one, becomes `label`.

    Hidden files and files that are not images (nor slides, with `slides`) are passed over. The tile id is the path
    below the folder.
    """
    root, known = Path(folder), (*SUFFIXES, *SLIDE_SUFFIXES) if slides else SUFFIXES
    paths = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in known
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not paths:
        raise InputError(
            "no images in this folder",
            received=root,
            valid=", ".join(known),
            fix=None if slides else "--tile-px 256, for whole slides",
        )
    ids = [path.relative_to(root).as_posix() for path in paths]
    table = pd.DataFrame({"path": ids}, index=pd.Index(ids, name="tile"))
    if all("/" in tile for tile in ids):
        table["label"] = [tile.split("/")[0] for tile in ids]
    table = check_table(rename_columns(table, columns or {}), origin=str(root))
    return FileTiles(root.resolve().name, FileReader(tuple(map(str, paths))), table.drop(columns="path"))


def slide_tiles(slide: str | os.PathLike[str], *, columns: Mapping[str, str] | None = None) -> FileTiles:
    """Return one slide, to be cut; it is called after its file."""
    path = Path(slide)
    table = check_table(
        rename_columns(pd.DataFrame({"slide": [path.stem]}, index=pd.Index([path.name], name="tile")), columns or {}),
        origin=str(path),
    )
    return FileTiles(path.name, FileReader((str(path.resolve()),)), table)


def manifest_tiles(
    manifest: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    allow_outside: bool = False,
) -> FileTiles:
    """Read a manifest (CSV, TSV or Parquet): `path`, relative to it, plus any columns.

    The tile id is the column `tile`, `tile_id` or `id` if there is one, else the path. A path that leads out of the
    manifest's folder is refused unless `allow_outside`: a manifest from elsewhere must not choose which files of this
    machine are read. Links are not followed for that check.

    Raises
    ------
    InputError
        If the file is not UTF-8, has no `path`, names a tile twice, or leads outside.
    """
    path = Path(manifest)
    frame = rename_columns(read_frame(path), columns or {})
    if "path" not in frame.columns:
        raise InputError(
            "the manifest has no column 'path'",
            received=f"{path} with columns {', '.join(map(str, frame.columns))}",
            fix="add it, or name yours: --column path=YOUR_COLUMN",
        )
    texts = frame["path"].astype(str)
    empty = frame["path"].isna() | (texts.str.strip() == "")
    if bool(empty.any()):
        raise InputError("a row has no path", received=f"{path}, row {int(empty.to_numpy().argmax()) + 2}")
    root = path.resolve().parent
    files = tuple(os.path.normpath(root / text.replace("\\", "/")) for text in texts)
    outside = [text for text, file in zip(texts, files, strict=True) if not file.startswith(str(root) + os.sep)]
    if outside and not allow_outside:
        raise InputError(
            f"{len(outside)} path{' leads' if len(outside) == 1 else 's lead'} out of the manifest's folder",
            received=outside[0],
            valid=f"paths below {root}",
            fix="pass --allow-outside if you trust this manifest",
        )
    named = next((column for column in ID_COLUMNS if column in frame.columns), "path")
    nameless = frame[named].isna()
    if bool(nameless.any()):
        row = int(nameless.to_numpy().argmax()) + 2
        raise InputError(f"a row has no {named}, which names its tile", received=f"{path}, row {row}")
    frame.index = pd.Index(frame[named].astype(str), name="tile")
    table = check_table(frame, origin=str(path))
    drop = {"path", named} & set(table.columns)
    return FileTiles(f"{root.name}/{path.name}", FileReader(files), table.drop(columns=list(drop)), str(path))


def read_frame(path: Path) -> pd.DataFrame:
    """Read a CSV, TSV or Parquet table, text as text (`001` and `NA` stay what they are)."""
    suffix = path.suffix.lower()
    if suffix not in MANIFEST_SUFFIXES:
        raise InputError("not a manifest", received=path, valid=", ".join(MANIFEST_SUFFIXES))
    try:
        if suffix == ".parquet":
            frame = pd.read_parquet(path)
            return frame.reset_index() if frame.index.name is not None else frame
        text = path.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        separator = "\t" if suffix == ".tsv" else ";" if ";" in header and "," not in header else ","
        with warnings.catch_warnings():
            # Without index_col=False, a comma at the end of each row would make the first column the index.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, na_values=[""], index_col=False
            )
        return frame.rename(columns=str.strip)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"the manifest is not UTF-8 (line {line} has the byte 0x{error.object[error.start]:02x})",
            received=path,
            fix=f"iconv -f latin1 -t utf-8 {path.name} > utf8.csv",
        ) from None
    except pd.errors.ParserWarning:
        raise InputError(
            "the manifest has rows with more cells than its header",
            received=path,
            fix="name every column, and quote cells that hold a separator",
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise InputError("manifest not found", received=path) from None
        raise InputError(f"the manifest cannot be read ({str(error).strip()})", received=path) from None
