"""What an audit is asked to do."""

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .._types import Codes
from ..errors import InputError
from ..images import TileSource, select_rows
from ..perturb import ASSUMED_MPP, OPERATIONS, Operation, suite
from ..provenance import stream
from ..stats import check_split
from .policy import Policy

LEAKAGE_COLUMNS = ("site", "scanner", "stain")
GROUP_COLUMNS = ("patient", "slide")
Part = Literal["equivariance", "flips", "transfer", "neighbours", "distances", "factors", "discordance", "sensitivity"]
#: The title of a plan for real pairs: nothing is perturbed, so it holds no operation.
PAIRS = "pairs"
#: Parts of an audit that can be left out; what remains always is displacement, ranks, selectivity and probes.
PARTS: tuple[Part, ...] = get_args(Part)


class Plan(BaseModel):
    """Everything that decides the numbers of an audit besides tiles and encoders; it goes into the result.

    `suite` names a suite of `histolatent.perturb.SUITES`, or a TOML file. `operations` is what it holds: the name of
    each operation with its five levels. It is filled from the suite. Where it is given, it counts, and `suite` is a
    title. An audit of real pairs has the title `pairs` and no operations.
    `columns` maps known column names to the user's, for the words of the report.

    - `rank_queries`: tiles whose twin is looked for among all.
    - `space_tiles`: tiles, drawn by the seed, whose neighbours among all tiles are searched, and of which distances
      between batches are measured.
      `neighbors` says how they are searched: `approximate` needs FAISS and states its recall.
    - `response_level`: the displacement whose first crossing is the threshold of a dose-response.
    - `skip`: parts that are not measured, of `PARTS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str = "quick"
    operations: dict[str, tuple[float, float, float, float, float]] = {}
    seed: int = Field(default=0, ge=0)
    resamples: int = Field(default=2000, ge=100)
    mpp: float | None = Field(default=None, gt=0)
    max_tiles: int | None = Field(default=None, ge=10)
    rank_queries: int = Field(default=2000, ge=1)
    space_tiles: int = Field(default=20_000, ge=100)
    neighbors: Literal["exact", "approximate"] = "exact"
    response_level: float = Field(default=0.5, gt=0)
    skip: tuple[Part, ...] = ()
    on_error: Literal["stop", "skip"] = "stop"
    columns: dict[str, str] = {}
    policy: Policy = Policy()

    @model_validator(mode="before")
    @classmethod
    def _fill_operations(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("operations") and values.get("suite") != PAIRS:
            chosen = suite(str(values.get("suite", "quick")))
            values = {**values, "operations": {operation.name: operation.levels for operation in chosen}}
        return values

    @model_validator(mode="after")
    def _check_operations(self) -> "Plan":
        _ = self.perturbations  # each must exist, and take its levels
        return self

    @property
    def perturbations(self) -> tuple[Operation, ...]:
        """The operations, with the levels of this plan."""
        return tuple(OPERATIONS[name].at(levels) for name, levels in self.operations.items())

    @property
    def wanted(self) -> frozenset[str]:
        """The parts that are measured."""
        return frozenset(PARTS) - frozenset(self.skip)

    def title(self, column: str) -> str:
        """Return what the user calls a known column."""
        return self.columns.get(column, column)


def limit(source: TileSource, max_tiles: int | None, seed: int) -> TileSource:
    """Return at most `max_tiles` tiles, drawn at random by the seed, in their order."""
    n = len(source.table)
    return source if max_tiles is None or n <= max_tiles else select_rows(source, chosen_rows(n, max_tiles, seed))


def chosen_rows(n: int, max_tiles: int | None, seed: int) -> Codes:
    """Return which of `n` rows are audited, in their order."""
    return np.sort(stream(seed, "subset", n).permutation(n)[:max_tiles])


class Groups(BaseModel):
    """Which tiles belong together. `codes` are clusters for intervals and folds, `by` the column they come from."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    by: str
    codes: np.ndarray
    apart: np.ndarray
    apart_by: str


def find_groups(table: pd.DataFrame) -> Groups:
    """Find clusters (patient, else slide, else tile) and what makes tiles unrelated (slide, else patient, else tile).

    A column of one value does not tell tiles apart: with nothing finer, all of them are one cluster.

    Tiles whose patient or slide is missing stand alone. A `split` that a group straddles raises.
    """
    several = [name for name in GROUP_COLUMNS if _usable(table, name)]
    one = [name for name in GROUP_COLUMNS if name in table and bool(table[name].notna().to_numpy().any())]
    by = next(iter([*several, *one]), "tile")
    apart_by = next((name for name in reversed(GROUP_COLUMNS) if _usable(table, name)), "tile")
    groups = Groups(by=by, codes=_codes(table, by), apart=_codes(table, apart_by), apart_by=apart_by)
    if "split" in table and by != "tile":
        check_split(texts(table, "split"), texts(table, by), group_name=by)
    return groups


def texts(table: pd.DataFrame, name: str) -> list[str | None]:
    """Return a column as text, None where it is missing."""
    return [None if pd.isna(value) else str(value) for value in table[name]]


def _usable(table: pd.DataFrame, name: str) -> bool:
    return name in table and table[name].nunique() > 1


def _codes(table: pd.DataFrame, by: str) -> Codes:
    if by == "tile":
        return np.arange(len(table))
    known = table[by].notna().to_numpy()
    names = [
        f"{by}:{value}" if ok else f"tile:{tile}" for value, ok, tile in zip(table[by], known, table.index, strict=True)
    ]
    return np.unique(names, return_inverse=True)[1]


def describe_groups(groups: Groups) -> tuple[dict[str, object], list[str]]:
    """Return what the card says of the clusters, and warnings."""
    count = len(np.unique(groups.codes))
    warnings = []
    if groups.by == "tile":
        warnings.append(
            "no patient and no slide column: every tile counts as independent, so intervals are too narrow, "
            "and probes may be scored on slides that they were trained on"
        )
    elif count == 1:
        warnings.append(f"all tiles are of one {groups.by}: no figure has an interval, so that nothing is judged")
    elif count < 10:
        warnings.append(f"only {count} groups ({groups.by}): intervals from so few clusters are too narrow")
    return {"by": groups.by, "count": count, "null_apart_by": groups.apart_by}, warnings


def scale_warnings(table: pd.DataFrame, plan: Plan) -> list[str]:
    """Return what to say where um per pixel is not known."""
    unknown = len(table) if "mpp" not in table else int(table["mpp"].isna().sum())
    if unknown == 0 or plan.mpp is not None:
        return []
    return [f"um per pixel is not known for {unknown} tiles: {ASSUMED_MPP} is assumed (set it with --mpp)"]


def check_tables(table: pd.DataFrame) -> None:
    """Raise InputError where there are too few tiles to say anything."""
    if len(table) < 10:
        raise InputError(
            "too few tiles to audit", received=len(table), valid="at least 10, better 500 from 10 patients"
        )
