"""An audit as one folder: a self-contained page, the document, tables and figures."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from ..audit.metrics import METRICS
from ..audit.result import SCHEMA, AuditResult
from ..errors import InputError, OutputError
from ..images import TileSource
from ..outputs import refuse_existing, whole
from .figures import draw_all
from .pictures import contact_sheet, worst_pairs

SYMBOLS = {"PASS": "✓", "WARN": "!", "FAIL": "✕", "UNDEFINED": "?"}


def write_report(
    result: AuditResult,
    source: TileSource,
    out: str | os.PathLike[str],
    *,
    tiles: pd.DataFrame | None = None,
    seconds: Mapping[str, float] | None = None,
    embeddings: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `report.html`, `audit.json`, `doses.csv`, `probes.csv` and `figures/` into the folder `out`.

    The page needs no network and no other file. `seconds` (where the time went) goes into `timings.json`, apart from
    `audit.json`, which is the same for two runs of one audit but for `created`. The tables (`*.zarr`) of the folder
    `embeddings` are moved in.

    Raises
    ------
    OutputError
        If `out` exists and not `overwrite`, or holds something else than an audit.
    """
    refuse_folder(Path(out), overwrite=overwrite)
    figures = {
        "dose-response": draw_doses(result),
        "probes": draw_probes(result),
        "selectivity": draw_selectivity(result),
    }
    with whole(out, overwrite=overwrite) as part:
        part.mkdir()
        page = render(result, source, figures)
        (part / "report.html").write_text(page, encoding="utf-8")
        (part / "audit.json").write_text(to_json(result), encoding="utf-8")
        result.to_frame().to_csv(part / "figures.csv", index=False)
        if tiles is not None:
            tiles.to_parquet(part / "tiles.parquet", index=False)
        result.probes_frame().to_csv(part / "probes.csv", index=False)
        (part / "figures").mkdir()
        for name, svg in figures.items():
            if svg:
                (part / "figures" / f"{name}.svg").write_text(svg, encoding="utf-8")
        if seconds is not None:
            (part / "timings.json").write_text(json.dumps(dict(seconds), indent=1), encoding="utf-8")
        if embeddings is not None:
            (part / "embeddings").mkdir()
            for table in Path(embeddings).glob("*.zarr"):
                shutil.move(table, part / "embeddings")
    return Path(out)


def refuse_folder(out: Path, *, overwrite: bool = False, mark: str = "audit.json") -> None:
    """Raise OutputError if `out` exists and must be kept. What does not hold `mark` is not ours, and is always kept."""
    foreign = out.exists() and not (out / mark).exists() and not (out.is_dir() and not any(out.iterdir()))
    if overwrite and foreign:
        raise OutputError(
            "the output exists and was not written by this command, so it is not replaced",
            received=out,
            valid=f"a new folder, or an older one with {mark}",
            fix="choose another --out",
        )
    refuse_existing(out, overwrite=overwrite)


def to_json(result: AuditResult) -> str:
    """Return the document as JSON with sorted keys, a line per value."""
    return json.dumps(result.to_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_result(path: str | os.PathLike[str]) -> AuditResult:
    """Read an `audit.json`, or the folder that holds one.

    Raises
    ------
    InputError
        If it is not there, or was written under another schema.
    """
    file = Path(path)
    file = file / "audit.json" if file.is_dir() else file
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("there is no audit.json", received=path) from None
    except ValueError as error:
        raise InputError(f"not JSON ({error})", received=file) from None
    found = document.get("schema_version") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise InputError("audit.json has another schema version", received=found, valid=SCHEMA)
    try:
        return AuditResult.model_validate(document)
    except ValidationError as error:
        raise InputError(f"audit.json does not fit its schema ({error.error_count()} places)", received=file) from None


def render(result: AuditResult, source: TileSource, figures: Mapping[str, str]) -> str:
    """Return the page as HTML."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("histolatent.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["figure"] = _show_figure
    return environment.get_template("audit.html.j2").render(
        result=result,
        figures={name: Markup(svg) for name, svg in figures.items()},
        sheet=contact_sheet(result, source) if result.operations else None,
        worst={encoder.name: worst_pairs(encoder, result, source) for encoder in result.encoders},
        checks=_matrix(result),
        summary=_summary(result),
        metrics=list(METRICS.values()),
        symbols=SYMBOLS,
        card=lambda value: json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False),
    )


def _matrix(result: AuditResult) -> list[tuple[str, list[Any]]]:
    """Return each question of the verdict with the answer of each encoder, None where it was not asked."""
    # One that failed early was asked less: the order of questions is that of the one that was asked most.
    asked = sorted(result.encoders, key=lambda encoder: -len(encoder.checks))
    names = list(dict.fromkeys(check.name for encoder in asked for check in encoder.checks))
    answers = [{check.name: check for check in encoder.checks} for encoder in result.encoders]
    return [(name, [answer.get(name) for answer in answers]) for name in names]


def _summary(result: AuditResult) -> list[dict[str, Any]]:
    """Return one row per operation at the policy's severity: displacement and rank per encoder."""
    severity = result.plan["policy"]["severity"]
    return [
        {
            "operation": operation,
            "cells": [
                next(
                    (
                        dose.metrics
                        for dose in encoder.doses
                        if (dose.operation, dose.severity) == (operation.name, operation.at(severity).severity)
                    ),
                    {},
                )
                for encoder in result.encoders
            ],
        }
        for operation in result.operations
    ]


def _show_figure(figure: Any, digits: int = 2) -> str:
    values = figure if isinstance(figure, Mapping) else figure.model_dump()
    if values["value"] is None or values["value"] != values["value"]:
        return "not defined"
    text = f"{values['value']:.{digits}f}"
    low, high = values["low"], values["high"]
    return text if low is None or low != low else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"
