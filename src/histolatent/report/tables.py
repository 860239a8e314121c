"""Every table of an audit as a data frame, written from its models in one way."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

import pandas as pd
from pydantic import BaseModel

from ..audit.result import (
    AuditResult,
    BatchResult,
    Check,
    Comparison,
    ContractAnswer,
    DistanceResult,
    EquivarianceResult,
    FactorDose,
    FactorResult,
    FamilyResult,
    FamilySelectivity,
    Figure,
    FlipResult,
    NullResult,
    PairOfTiles,
    PartResult,
    ProbeResult,
    Response,
    SelectivityResult,
    SensitivityResult,
    SpaceResult,
    Step,
    TransferResult,
    WorstTile,
)

ENDS = ("", "_low", "_high")


def all_tables(result: AuditResult) -> dict[str, pd.DataFrame]:
    """Return every table by name; a table of nothing has its columns all the same."""
    frames = {name: table(_each(result, name), model) for name, model in LISTS.items()}
    return {
        "figures": result.to_frame(),
        "operations": _operations(result),
        "yardstick": table(((encoder.name, encoder.null) for encoder in result.encoders), NullResult),
        **frames,
        "batches": _batches(result),
        "factors": _factors(result),
        "discordance": _discordance(result),
        "cards": _cards(result),
        "comparisons": table(((None, item) for item in result.comparisons), Comparison),
    }


#: Lists of an encoder's result that are a table each.
LISTS: Mapping[str, type[BaseModel]] = {
    "checks": Check,
    "families": FamilyResult,
    "contract": ContractAnswer,
    "responses": Response,
    "equivariance": EquivarianceResult,
    "selectivities": SelectivityResult,
    "selectivity_against": FamilySelectivity,
    "probes": ProbeResult,
    "transfer": TransferResult,
    "space": SpaceResult,
    "flips": FlipResult,
    "parts": PartResult,
    "worst": WorstTile,
    "sensitivity": SensitivityResult,
}


def table(rows: Iterable[tuple[str | None, BaseModel]], model: type[BaseModel]) -> pd.DataFrame:
    """Return models as rows, each with the encoder that it is of."""
    flat = [({} if name is None else {"encoder": name}) | flatten(item) for name, item in rows]
    return pd.DataFrame(flat) if flat else pd.DataFrame(columns=pd.Index(columns_of(model)))


def flatten(item: BaseModel, before: str = "") -> dict[str, Any]:
    """Return a model as one row: a figure becomes three columns, a part has its name in front of its own.

    A list of words is joined; a list of anything else is left out, being a table of its own.
    """
    row: dict[str, Any] = {}
    for name, value in item:
        row |= _cells(before + name, value)
    return row


def _cells(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Figure):
        return {name + end: part for end, part in zip(ENDS, (value.value, value.low, value.high), strict=True)}
    if isinstance(value, BaseModel):
        return flatten(value, f"{name}_")
    if isinstance(value, dict):
        return {key: cell for part, inner in value.items() for key, cell in _cells(f"{part}", inner).items()}
    if isinstance(value, list):
        return {name: "; ".join(value)} if all(isinstance(part, str) for part in value) else {}
    return {name: value}


def columns_of(model: type[BaseModel]) -> list[str]:
    """Return the columns of a table of no rows."""
    found = ["encoder"]
    for name, field in model.model_fields.items():
        kinds = {field.annotation, *get_args(field.annotation)}
        if Figure in kinds:
            found += [name + end for end in ENDS]
        elif not any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
            found.append(name)
    return found


def _each(result: AuditResult, name: str) -> Iterator[tuple[str, BaseModel]]:
    for encoder in result.encoders:
        for item in getattr(encoder, name):
            yield encoder.name, item


def _operations(result: AuditResult) -> pd.DataFrame:
    rows = [flatten(operation) | flatten(step) for operation in result.operations for step in operation.steps]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=pd.Index(columns_of(Step)[1:]))


def _batches(result: AuditResult) -> pd.DataFrame:
    """Return a row per distance, with what it must be read beside: the rank and the label."""
    rows = [
        {"encoder": encoder.name} | flatten(batch) | flatten(distance)
        for encoder in result.encoders
        for batch in encoder.batches
        for distance in batch.distances or [None]
        if distance is not None or batch.reason
        for distance in [distance or _no_distance()]
    ]
    known = dict.fromkeys([*columns_of(BatchResult), *columns_of(DistanceResult)[1:]])
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=pd.Index([*known]))


def _no_distance() -> DistanceResult:
    return DistanceResult(metric="", value=None, between=None, floor=None, floor_p95=None, above_floor=None, tiles=0)


def _factors(result: AuditResult) -> pd.DataFrame:
    """Return a row per factor as the tiles are, and one after each operation."""
    rows = []
    for encoder in result.encoders:
        for factor in encoder.factors:
            rows.append({"encoder": encoder.name, "operation": None, "severity": None} | flatten(factor))
            of = {"encoder": encoder.name, "factor": factor.factor}
            rows += [of | flatten(after) for after in factor.after]
    known = dict.fromkeys([*columns_of(FactorResult), *columns_of(FactorDose)])
    return pd.DataFrame(rows, columns=None if rows else pd.Index([*known]))


def _cards(result: AuditResult) -> pd.DataFrame:
    """Return a row per card; what it holds in parts has the part in front of its name."""
    known = ("identity", "baseline")
    rows = [
        {"encoder": one.name, **{name: getattr(one, name) for name in known}, **one.card} for one in result.encoders
    ]
    return pd.json_normalize(rows, sep="_") if rows else pd.DataFrame(columns=pd.Index(["encoder", *known]))


def _discordance(result: AuditResult) -> pd.DataFrame:
    rows = [
        {"encoder": encoder.name, "kind": kind.replace("_", " ")} | flatten(pair)
        for encoder in result.encoders
        if encoder.discordance is not None
        for kind in ("alike_but_far", "different_but_close")
        for pair in getattr(encoder.discordance, kind)
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=pd.Index([*columns_of(PairOfTiles), "kind"]))
