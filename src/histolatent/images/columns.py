"""The table of a source: known columns found, renamed, typed and checked."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd

from ..errors import InputError, OptionError, unknown
from .tiles import KNOWN_COLUMNS

NUMBERS = ("mpp", "x", "y")
ID_COLUMNS = ("tile", "tile_id", "id")


def rename_columns(frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Rename a user's columns to known names. `columns` maps known name to the user's, as in `label=diagnosis`.

    Raises
    ------
    OptionError
        If the known name is not one, or the user's column is missing.
    """
    theirs_of: dict[str, pd.Series] = {}
    for known, theirs in columns.items():
        if known not in (*KNOWN_COLUMNS, "path"):
            raise unknown("known column", known, (*KNOWN_COLUMNS, "path"))
        if theirs not in frame.columns:
            raise OptionError(
                f"there is no column {theirs!r} to use as {known}", valid=", ".join(map(str, frame.columns))
            )
        # One column may serve twice (the scanner as the site), and two may swap, so they are copied and not moved.
        theirs_of[known] = cast(pd.Series, frame[theirs])
    return frame.assign(**theirs_of)


def known_mpp(table: pd.DataFrame, row: int) -> float | None:
    """Return the um per pixel of a row of a checked table, None where it is not known."""
    value = float(table["mpp"].iloc[row]) if "mpp" in table else float("nan")
    return None if np.isnan(value) else value


def check_table(frame: pd.DataFrame, *, origin: str) -> pd.DataFrame:
    """Return the table with known columns typed, or raise InputError with the first rows that are wrong.

    Known text columns become strings, empty cells missing values; `mpp`, `x`, `y` become numbers. Other columns become
    numbers where every cell is one and none has a leading zero: `007` is a name.
    """
    if not len(frame):
        raise InputError("there are no tiles", received=origin)
    frame = frame.copy()
    frame.index = frame.index.astype(str)
    repeated = frame.index[frame.index.duplicated()].unique()
    if len(repeated):
        raise InputError(
            f"{len(repeated)} tile ids stand more than once",
            received=f"{origin}: {', '.join(repeated[:3])}",
            fix="give each tile one row",
        )
    for column in frame.columns:
        if column in NUMBERS:
            frame[column] = _numbers(cast(pd.Series, frame[column]), str(column), origin)
        elif column in KNOWN_COLUMNS:
            frame[column] = _text(cast(pd.Series, frame[column]))
        else:
            frame[column] = _numbers_if_all_are(cast(pd.Series, frame[column]))
    if "mpp" in frame:
        wrong = (frame["mpp"] <= 0) | np.isinf(frame["mpp"])
        if bool(wrong.any()):
            first = frame[wrong].iloc[0]
            raise InputError(
                "mpp must be a finite number above 0 um/px",
                received=f"{origin}: {first['mpp']:g} for tile {first.name}",
                fix="leave the cell empty where um per pixel is not known",
            )
    return frame


def _text(values: pd.Series) -> pd.Series:
    text = [None if pd.isna(value) or not str(value).strip() else str(value).strip() for value in values]
    return pd.Series(text, index=values.index, dtype=object)


def _numbers(values: pd.Series, column: str, origin: str) -> pd.Series:
    text = _text(values)
    numbers = pd.Series(pd.to_numeric(text, errors="coerce"), index=values.index, dtype="float64")
    wrong = np.flatnonzero(numbers.isna() & text.notna())
    if wrong.size:
        raise InputError(
            f"column {column!r} must hold numbers",
            received=f"{origin}: {text.tolist()[wrong[0]]!r} for tile {values.index[wrong[0]]}",
        )
    return numbers


def _numbers_if_all_are(values: pd.Series) -> pd.Series:
    if not pd.api.types.is_object_dtype(values) and not pd.api.types.is_string_dtype(values):
        return values
    text = _text(values)
    numbers = pd.Series(pd.to_numeric(text, errors="coerce"), index=values.index, dtype="float64")
    every = text.notna().any() and not (numbers.isna() & text.notna()).any()
    named = text.dropna().str.match(r"[+-]?0\d").any()
    return numbers if every and not named else text
