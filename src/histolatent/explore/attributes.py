"""What a column says of each tile, as numbers that a direction can be fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from .._types import Codes, GivenCodes
from ..errors import InputError, OptionError, unknown

Values = Float[np.ndarray, " n"]
#: Of the variance of an attribute, what is left beside confounders at least.
LEFT = 0.05
#: Fewest tiles of a class: the card leaves some of each out.
FEWEST = 2
#: Columns that may tell an attribute without anybody having asked: what audits look for in vectors.
NUISANCES = ("site", "scanner", "stain")
#: Whole numbers of no more values than this are names of categories, where they confound.
CATEGORIES = 20


@dataclass(frozen=True, eq=False)
class Attribute:
    """An attribute of `rows`, the tiles of which it, their group and their confounders are known.

    `values` are numbers; of two `classes` 0 and 1, in their order. `groups` are what `by` says: patients, slides or
    tiles. `design` has the constant, then confounders, and `explained` is the share of the attribute that these tell.
    """

    name: str
    rows: Codes
    values: Values
    groups: Codes
    by: str
    design: Float[np.ndarray, "n _q"]
    explained: float
    classes: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What a move of 1 is."""
        return f"from {self.classes[0]} to {self.classes[1]}" if self.classes else f"1 of {self.name}"

    @property
    def positive(self) -> str | None:
        """The class that a move of 1 leads to; None of a number."""
        return self.classes[1] if self.classes else None

    def at(self, places: Codes) -> "Attribute":
        """Return the attribute of some of its tiles."""
        own = {name: getattr(self, name)[places] for name in ("rows", "values", "groups", "design")}
        return replace(self, **own)

    @property
    def spread(self) -> float:
        """The standard deviation of a number; of classes 1, the gap between them."""
        return 1.0 if self.classes else float(self.values.std())


def read_attribute(
    count: int,
    values: Sequence[object],
    *,
    name: str,
    groups: GivenCodes | None = None,
    by: str = "group",
    confounders: Mapping[str, Sequence[object]] | None = None,
    suspects: Mapping[str, Sequence[object]] | None = None,
    positive: str | None = None,
    negative: str | None = None,
    force: bool = False,
) -> Attribute:
    """Return what is given of `count` tiles as an attribute: see `Direction.fit` for what values may be.

    `suspects` are columns that nothing is adjusted for, each asked whether it tells the attribute.

    Raises
    ------
    InputError
        If values are constant, too few, or of more than two classes without `positive`; or confounders, or one of the
        suspects, tell more than 95 % of them, unless `force`.
    OptionError
        If there is a `negative` class and no `positive` one, or no such class.
    """
    if negative is not None and positive is None:
        raise OptionError(
            "a direction that leads from a class has one to lead to", received=negative, fix="name a positive class"
        )
    table = _tidy(count, values, groups, confounders)
    if positive is not None:
        table["value"] = _two_classes(pd.Series(table["value"]), name, positive, negative)
    rows = np.flatnonzero(~table.isna().to_numpy().any(axis=1))
    table = table.iloc[rows]
    y, classes = _as_numbers(pd.Series(table["value"]), name, positive)
    design = _design(table.drop(columns=["value", "group"]))
    explained = _explained(design, y)
    telling = {", ".join(confounders or {}): explained} | {
        key: _told(np.array(list(each), dtype=object)[rows], y) for key, each in (suspects or {}).items()
    }
    telling = {key: share for key, share in telling.items() if 1 - share < LEFT}
    if telling and not force:
        key, share = next(iter(telling.items()))
        raise InputError(
            f"{name} cannot be told from {key}, which tells {share:.0%} of it",
            fix="a direction of it would be one between sites; bring tiles in which both vary, or fit it all the same: "
            "--force, or force=True",
        )
    if 1 - explained < LEFT:
        design = design[:, :1]
    notes = tuple(f"told by {key} to {share:.0%}, and not adjusted for it" for key, share in telling.items())
    codes = np.unique(table["group"], return_inverse=True)[1]
    return Attribute(name, rows, y, codes, "tile" if groups is None else by, design, explained, classes, notes)


def _tidy(
    count: int,
    values: Sequence[object],
    groups: np.ndarray | None,
    confounders: Mapping[str, Sequence[object]] | None,
) -> pd.DataFrame:
    columns: dict[str, Any] = {"value": list(values), "group": np.arange(count) if groups is None else groups}
    columns |= {f"confounder {key}": list(each) for key, each in (confounders or {}).items()}
    wrong = {key: len(each) for key, each in columns.items() if len(each) != count}
    if wrong:
        raise InputError("values are one for each vector", received=f"{wrong} for {count} vectors")
    return pd.DataFrame(columns)


def _two_classes(values: pd.Series, name: str, positive: str, negative: str | None) -> pd.Series:
    """Return values of two classes: the positive one, and the negative one or all others."""
    named = values.astype(str).astype(object)
    named[values.isna()] = None
    kinds = sorted(named.dropna().unique())
    for each in (positive, negative):
        if each is not None and each not in kinds:
            raise unknown(f"class of {name}", each, kinds)
    if negative is not None:
        named[~named.isin([positive, negative])] = None
    elif len(kinds) > 2:
        named[named.notna() & (named != positive)] = f"not {positive}"
    return named


def _as_numbers(values: pd.Series, name: str, positive: str | None) -> tuple[Values, tuple[str, str] | None]:
    """Return numbers, and both classes if values are two: the `positive` one, else the later by name, is 1."""
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    kinds = sorted({str(value) for value in values})
    if len(values) < 10:
        raise InputError(f"{name} is known of too few tiles", received=len(values), valid="10 or more")
    if len(kinds) < 2:
        raise InputError(
            f"{name} is constant",
            received=f"{kinds[0]} of all {len(values)} tiles",
            fix="take a column in which these tiles differ, or more tiles",
        )
    if numbers and len(kinds) > 2:
        found = values.to_numpy(np.float64)
        if not np.isfinite(found).all():
            raise InputError(f"{name} holds numbers that are not finite")
        return found, None
    if len(kinds) > 2:
        raise InputError(
            f"{name} has more than two classes: a direction leads from one to another",
            received=", ".join(kinds[:8]),
            fix=f"name the positive class, {kinds[0]} say, to lead there from all others (--positive, or positive=), "
            "and the negative one to lead there from these alone",
        )
    one = positive or kinds[1]
    other = next(kind for kind in kinds if kind != one)
    sizes = {kind: int((values.map(str) == kind).sum()) for kind in (one, other)}
    if min(sizes.values()) < FEWEST:
        raise InputError(
            f"a class of {name} has too few tiles",
            received=", ".join(f"{kind}: {size}" for kind, size in sizes.items()),
            valid=f"{FEWEST} of each",
        )
    return np.array([float(str(value) == one) for value in values]), (other, one)


def _design(confounders: pd.DataFrame) -> Float[np.ndarray, "n _q"]:
    """Return columns of confounders: numbers as they are, others one for each value; and the constant, first.

    Whole numbers of few values, as of sites, are no numbers.
    """
    parts: list[np.ndarray] = [np.ones((len(confounders), 1))]
    for column in confounders:
        each = pd.Series(confounders[column])
        if _is_number(each):
            spread = float(each.std()) or 1.0
            parts.append(((each - each.mean()) / spread).to_numpy(np.float64)[:, None])
        else:
            parts.append(pd.get_dummies(each.astype(str), drop_first=True).to_numpy(np.float64))
    return np.hstack(parts)


def _is_number(values: pd.Series) -> bool:
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return False
    kinds = np.unique(values.to_numpy(np.float64))
    return len(kinds) > CATEGORIES or (len(kinds) > 2 and not np.equal(np.mod(kinds, 1), 0).all())


def _explained(design: np.ndarray, y: Values) -> float:
    """Return the share of a variance that columns tell, less what as many columns tell of anything (adjusted R2)."""
    told, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    left = ((y - design @ told) ** 2).sum() / max(len(y) - rank, 1)
    return float(np.clip(1 - left / y.var(ddof=1), 0, 1))


def _told(column: np.ndarray, y: Values) -> float:
    """Return the share of an attribute that a column tells, of tiles for which it is known."""
    known = ~pd.isna(column)
    if not known.any() or np.ptp(y[known]) == 0:
        return 0.0
    return _explained(_design(pd.DataFrame({"column": column[known].tolist()})), y[known])


def groups_of(obs: pd.DataFrame, column: str | None = None) -> tuple[str, Codes | None]:
    """Return what tiles are grouped by, a column or else patients, else slides; and codes. None where each is alone."""
    by = column or next((name for name in ("patient", "slide") if name in obs), None)
    if by is None:
        return "tile", None
    return by, np.unique(obs[by].astype(str), return_inverse=True)[1]
