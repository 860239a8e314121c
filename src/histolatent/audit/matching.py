"""Rows of several tables of vectors brought together: the same tiles, in the same order, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from .._types import Codes, Vectors
from ..embeddings import obs_of
from ..errors import InputError

SHOWN = 3
WITH_IDS = "tables with tile ids: .zarr, .h5ad, .parquet or .csv with a column `tile`, .npy with NAME.ids.txt beside it"


@dataclass(frozen=True)
class Rows:
    """One table: what a message calls it, how many rows it has, and their tile ids, None where they have none.

    `numbered` says that the ids are 0, 1, ..., as a form without ids is read.
    """

    what: str
    n: int
    ids: pd.Index | None = None
    numbered: bool = False


def rows_of(what: str, table: AnnData | pd.DataFrame | np.ndarray) -> Rows:
    """Return the rows of a table or of an array.

    Raises
    ------
    InputError
        If a tile id stands twice.
    """
    n = len(table) if isinstance(table, (np.ndarray, pd.DataFrame)) else table.n_obs
    if isinstance(table, np.ndarray):
        return Rows(what, n)
    ids = pd.Index((table if isinstance(table, pd.DataFrame) else obs_of(table)).index.astype(str))
    twice = ids[ids.duplicated()].unique()
    if len(twice):
        raise InputError(
            f"{what}: {len(twice)} tile ids stand more than once",
            received=", ".join(twice[:SHOWN]),
            fix="give each tile one row",
        )
    return Rows(what, n, ids, numbered=bool(n and ids[0] == "0" and (ids == np.arange(n).astype(str)).all()))


@dataclass(frozen=True)
class Matched:
    """The tiles that all tables hold, in the order of the first with ids; `places` has their rows in each table."""

    ids: pd.Index
    places: list[Codes]
    notes: list[str]


def match_rows(tables: Sequence[Rows]) -> Matched:
    """Match rows by tile id; what has no ids is taken in the order of the first table that has.

    Raises
    ------
    InputError
        If rows cannot be matched: there are no ids and the numbers of rows differ, or no tile is in all tables.
    """
    named = [rows for rows in tables if rows.ids is not None and not rows.numbered]
    reference = named[0] if named else tables[0]
    by_id = [_has_ids(rows, reference) for rows in tables]
    for rows, has in zip(tables, by_id, strict=True):
        if not has and rows.n != reference.n:
            raise InputError(
                "rows without tile ids cannot be matched where their numbers differ",
                received=f"{reference.what}: {reference.n} rows, {rows.what}: {rows.n}",
                valid=WITH_IDS,
            )
    known = reference.ids if reference.ids is not None else pd.Index(np.arange(reference.n).astype(str))
    shared = known
    for rows, has in zip(tables, by_id, strict=True):
        if has and rows.ids is not None:
            both = shared[shared.isin(rows.ids)]
            if not len(both):
                raise InputError(
                    "no tile is in all tables",
                    received=f"{reference.what}: {_some(known)}; {rows.what}: {_some(rows.ids)}",
                    fix="name the tiles alike in all of them",
                )
            shared = both
    places, notes = [], []
    for rows, has in zip(tables, by_id, strict=True):
        ids = rows.ids if has and rows.ids is not None else known
        places.append(np.asarray(ids.get_indexer(shared), dtype=np.int64))
        if len(shared) < rows.n:
            missing = ids[~ids.isin(shared)]
            notes.append(
                f"{rows.what}: {len(missing)} of {rows.n} tiles are not in every table, and are left out "
                f"({_some(missing)})"
            )
    nameless = [rows.what for rows, has in zip(tables, by_id, strict=True) if rows.numbered and not has]
    if nameless:
        order = f"in the order of {reference.what}" if named else "in the same order"
        notes.append(f"no tile ids in {'; '.join(nameless)}: rows are taken to be {order}")
    return Matched(shared, places, notes)


def _has_ids(rows: Rows, reference: Rows) -> bool:
    """Say whether a table is matched by its ids. Numbers are ids only to a table whose ids are among them."""
    if rows.ids is None:
        return False
    if not rows.numbered:
        return True
    return not reference.numbered and reference.ids is not None and bool(reference.ids.isin(rows.ids).all())


def _some(ids: pd.Index) -> str:
    return ", ".join(map(str, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")


def checked_vectors(what: str, vectors: np.ndarray, places: Codes, ids: pd.Index) -> Vectors:
    """Return the rows `places` as float32; not copied where they are that already, all and in order.

    Raises
    ------
    InputError
        If this is no table of numbers, or a vector is not finite (which tiles is said).
    """
    if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{what} is no table of numbers",
            received=f"{vectors.dtype} array {vectors.shape}",
            valid="numbers (n, d), one row per tile",
            fix="np.asarray(rows, dtype=np.float32)" if vectors.dtype == object else None,
        )
    rows = vectors if is_everyone(places, len(vectors)) else vectors[places]
    with np.errstate(over="ignore", invalid="ignore"):
        rows = rows.astype(np.float32, copy=False)
        # A float64 sum of finite float32 numbers is finite.
        finite = np.isfinite(rows.sum(axis=1, dtype=np.float64))
    if not finite.all():
        wrong = np.flatnonzero(~finite)
        raise InputError(
            f"{what}: {len(wrong)} of {len(rows)} vectors hold NaN or infinite numbers",
            received=_some(ids[wrong]),
            fix="embed these tiles again (float16 overflow is the usual cause) or leave them out",
        )
    return rows


def is_everyone(rows: Codes, n: int) -> bool:
    """Return whether `rows` are all of `n`, in order."""
    return len(rows) == n and bool((rows == np.arange(n)).all())
