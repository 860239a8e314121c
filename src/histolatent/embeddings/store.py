"""Embedding tables on disk: Zarr as the native form, and the forms that others read and write."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData

from ..errors import InputError, OptionError
from ..outputs import Mark, refuse_existing, whole
from ..provenance import canonical_json
from .table import KEY, card_of, check_vectors, make_table, obs_of

#: What a folder holds if it is a table that `write_table` wrote.
MARKS = {".zarr": Mark("uns/histolatent"), ".h5": Mark("card.json", "histolatent embeddings")}
FORMS = (".zarr", ".h5ad", ".parquet", ".csv", ".npy", ".h5")
TEXT = ("tile", "label", "site", "scanner", "stain", "slide", "patient", "split", "pixel_hash")


def check_form(path: str | os.PathLike[str], obs: pd.DataFrame) -> None:
    """Raise unless a table with these rows can be written in the form that the ending of `path` names.

    A long run asks this before it starts.

    Raises
    ------
    OptionError
        If the ending is not one of `FORMS`.
    InputError
        If the form cannot hold these rows.
    """
    target = Path(path)
    if target.suffix not in FORMS:
        raise OptionError("no form of embedding table has this ending", received=target.name, valid=", ".join(FORMS))
    if target.suffix in (".parquet", ".csv"):
        taken = [str(name) for name in obs.columns if name == "tile" or _is_vector(name)]
        if taken:
            raise InputError(
                f"column {taken[0]!r} has the name of a column that {target.suffix} needs itself",
                fix="rename it, or write .zarr or .h5ad",
            )
    if target.suffix == ".npy" and any(str(tile).splitlines() != [str(tile)] for tile in obs.index):
        raise InputError("a tile id is empty or has a line break, so .npy cannot keep it", fix="write .zarr or .h5ad")
    if target.suffix == ".h5":
        missing = [name for name in ("slide", "x", "y") if name not in obs or bool(obs[name].isna().any())]
        if missing:
            raise InputError(f"one HDF5 file per slide needs {', '.join(missing)} for every tile")


def refuse_table(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise OutputError if `write_table` would refuse to write there. A long run asks this before it starts."""
    target = Path(path)
    refuse_existing(target, overwrite=overwrite, mark=MARKS.get(target.suffix))
    if target.suffix == ".npy":
        refuse_existing(target.with_suffix(".ids.txt"), overwrite=overwrite)


def write_table(table: AnnData, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write an embedding table in the form that the ending of `path` names.

    `.zarr` and `.h5ad` hold everything. `.parquet` and `.csv` hold `obs` and the columns `z0`, `z1`, ...; in `.csv`,
    empty text is missing, and a column that is not known by name comes back as what it looks like. `.npy` holds the
    vectors alone; the tile ids go beside it as `NAME.ids.txt`. `.h5` is a folder with one file per slide as TRIDENT
    and CLAM write them (`features` `(n, d)`, `coords` `(n, 2)`), for which `obs` needs `slide`, `x` and `y`; a
    `card.json` beside them says who wrote the folder.

    Raises
    ------
    OutputError
        If `path` exists and not `overwrite`, or is a folder that no table was written to; or the disk is full. Nothing
        half-written is left.
    OptionError, InputError
        If no form has this ending, or it cannot hold these rows. See `check_form`.
    """
    target = Path(path)
    writers: dict[str, Callable[[AnnData, Path], None]] = {
        ".zarr": _write_zarr,
        ".h5ad": _write_h5ad,
        ".parquet": lambda table, part: _wide(table).to_parquet(part),
        ".csv": lambda table, part: _wide(table).to_csv(part),
        ".npy": _write_npy,
        ".h5": _write_slides,
    }
    check_form(target, obs_of(table))
    with contextlib.ExitStack() as stack:
        if target.suffix == ".npy":
            ids = stack.enter_context(whole(target.with_suffix(".ids.txt"), overwrite=overwrite))
            ids.write_text("".join(f"{tile}\n" for tile in table.obs_names), encoding="utf-8")
        mark = MARKS.get(target.suffix)
        writers[target.suffix](table, stack.enter_context(whole(target, overwrite=overwrite, mark=mark)))
    return target


def read_table(path: str | os.PathLike[str], *, foreign: bool = False) -> AnnData:
    """Read an embedding table from any form that `write_table` writes, checked.

    With `foreign`, an AnnData that something else wrote needs no card; its `X` holds the vectors.

    Tables from elsewhere (`.parquet`, `.csv`, `.npy`, `.h5`) get a card that says where they come from. For `.h5` give
    one file or a folder of them; the file name is the slide.

    Raises
    ------
    InputError
        If there is nothing, it is not a table, or its vectors are not finite.
    """
    source = Path(path)
    if not source.exists():
        raise InputError("there is no embedding table at this path", received=source)
    if source.suffix in (".zarr", ".h5ad"):
        reader = anndata.read_zarr if source.suffix == ".zarr" else anndata.read_h5ad
        try:
            with _without_known_warnings():
                table = reader(source)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"not an embedding table ({type(error).__name__})", received=source) from error
        if not foreign or KEY in table.uns:
            card_of(table)
        check_vectors(np.asarray(table.X), list(table.obs_names))
        return table
    if source.suffix in (".parquet", ".csv"):
        return _from_wide(source)
    if source.suffix == ".npy":
        return _from_npy(source)
    if source.suffix == ".h5" or (source.is_dir() and any(source.glob("*.h5"))):
        return _from_slides(source)
    raise InputError("no form of embedding table has this ending", received=source, valid=", ".join(FORMS))


def _write_zarr(table: AnnData, part: Path) -> None:
    # Zarr 2 on purpose: text and consolidated metadata have no frozen specification in Zarr 3 yet.
    with _without_known_warnings():
        anndata.io.write_elem(zarr.open_group(part, mode="w", zarr_format=2), "/", table)


def _write_h5ad(table: AnnData, part: Path) -> None:
    with _without_known_warnings():
        table.write_h5ad(part)


@contextlib.contextmanager
def _without_known_warnings() -> Iterator[None]:
    """Silence what pandas says of an option that AnnData asks for (2026-11)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The 'future.infer_string' option is deprecated")
        yield


def _wide(table: AnnData) -> pd.DataFrame:
    obs = obs_of(table)
    columns = pd.Index([f"z{i}" for i in range(table.n_vars)])
    wide = pd.concat([obs, pd.DataFrame(np.asarray(table.X), index=obs.index, columns=columns)], axis=1)
    wide.index.name = "tile"
    return wide


def _from_wide(source: Path) -> AnnData:
    try:
        frame = pd.read_parquet(source) if source.suffix == ".parquet" else _read_csv(source)
    except (ValueError, OSError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(f"not a table ({error})", received=source) from None
    if "tile" in frame.columns:
        if bool(frame["tile"].isna().any()):
            raise InputError("a row has no tile id", received=f"{source}, row {int(frame['tile'].isna().argmax()) + 2}")
        frame = frame.set_index("tile")
    columns = [f"z{i}" for i in range(sum(map(_is_vector, frame.columns)))]
    missing = [name for name in columns if name not in frame.columns]
    if not columns or missing:
        raise InputError(
            "the columns of the vectors are not z0, z1, ... without a gap",
            received=f"{source}: {', '.join(map(str, frame.columns[:8]))}",
        )
    try:
        vectors = frame[columns].to_numpy(dtype=np.float32)
    except ValueError as error:
        raise InputError(f"a vector column holds text ({error})", received=source) from None
    return make_table(vectors, frame.drop(columns=columns), {"origin": source.name})


def _read_csv(source: Path) -> pd.DataFrame:
    text: Any = dict.fromkeys(TEXT, str)
    # Pandas 3 reads every digit by itself, and has deprecated the option.
    exact: Any = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"float_precision": "round_trip"}
    with warnings.catch_warnings():
        # Without index_col=False, a row with a cell too many would shift every column by one.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(source, dtype=text, keep_default_na=False, na_values=[""], index_col=False, **exact)


def _is_vector(column: object) -> bool:
    name = str(column)
    return name[:1] == "z" and name[1:].isdecimal()


def _write_npy(table: AnnData, part: Path) -> None:
    with part.open("wb") as file:
        np.save(file, np.asarray(table.X))


def _from_npy(source: Path) -> AnnData:
    try:
        with source.open("rb") as file:
            vectors = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(
            f"not a NumPy array ({error})", received=source, fix="save one array of numbers with np.save"
        ) from None
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError("vectors must be numbers (n, d)", received=f"{source}: {vectors.dtype} {vectors.shape}")
    vectors = _as_float32(vectors)
    beside = source.with_suffix(".ids.txt")
    ids = beside.read_text(encoding="utf-8").splitlines() if beside.exists() else [f"{i}" for i in range(len(vectors))]
    return make_table(vectors, pd.DataFrame(index=pd.Index(ids)), {"origin": source.name})


def _write_slides(table: AnnData, part: Path) -> None:
    obs = obs_of(table)
    part.mkdir()
    (part / MARKS[".h5"].name).write_text(canonical_json({"kind": MARKS[".h5"].kind}) + "\n", encoding="utf-8")
    for slide, rows in obs.groupby("slide", observed=True).indices.items():
        name = str(slide).replace("/", "_")
        if (part / f"{name}.h5").exists():
            raise InputError("two slides would have the same file name", received=slide)
        with h5py.File(part / f"{name}.h5", "w") as file:
            file["features"] = np.asarray(table.X)[rows]
            file["coords"] = obs[["x", "y"]].to_numpy()[rows].round().astype(np.int64)


def _from_slides(source: Path) -> AnnData:
    vectors, rows = [], []
    paths = sorted(source.glob("*.h5")) if source.is_dir() else [source]
    if not paths:
        raise InputError("there is no .h5 file in this folder", received=source)
    for path in paths:
        try:
            with h5py.File(path) as file:
                if "features" not in file:
                    raise InputError("there is no dataset 'features'", received=path, valid=", ".join(file))
                features = _as_float32(np.asarray(file["features"]))
                features = features[0] if features.ndim == 3 and len(features) == 1 else features
                coords = np.asarray(file["coords"]) if "coords" in file else np.full((len(features), 2), np.nan)
        except OSError as error:
            raise InputError(f"not an HDF5 file ({error})", received=path) from None
        if features.ndim != 2 or coords.shape != (len(features), 2):
            raise InputError(
                "features must be (n, d) and coords (n, 2)",
                received=f"{path}: {features.shape} and {coords.shape}",
            )
        vectors.append(features)
        ids = [f"{path.stem}/{i}" for i in range(len(features))]
        rows.append(pd.DataFrame({"slide": path.stem, "x": coords[:, 0], "y": coords[:, 1]}, index=pd.Index(ids)))
    widths = {part.shape[1] for part in vectors}
    if len(widths) != 1:
        raise InputError("the slides have vectors of different lengths", received=f"{source}: {sorted(widths)}")
    return make_table(np.concatenate(vectors), pd.concat(rows), {"origin": source.name})


def _as_float32(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what becomes infinite is found and named later
        return numbers.astype(np.float32)
