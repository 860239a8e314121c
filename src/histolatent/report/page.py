"""An audit as one folder: a self-contained page, the document, tables, figures and a model card."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from ..audit.findings import answer
from ..audit.metrics import METRICS
from ..audit.result import SCHEMA, AuditResult, Figure, show
from ..errors import InputError, misfits
from ..images import TileSource
from ..outputs import Mark, refuse_existing, whole
from . import sections
from .figures import draw_all
from .methods import limits_of, measured_metrics, methods_of
from .model_card import model_card
from .pictures import EncoderPictures, Shown, contact_sheet, draw_sheet, pictures_of
from .tables import all_tables

#: What shows that a folder holds an audit.
MARK = Mark("audit.json")
SYMBOLS = {"PASS": "✓", "WARN": "!", "FAIL": "✕", "UNDEFINED": "?"}
SHAPES = {
    "invariant": "○",
    "shared direction": "→",
    "linear": "∥",
    "entangled": "※",
    "undecided": "±",
    "undefined": "?",
}
FIGURES = ("selectivity", "leakage-signal", "probes", "factors")
CONTENTS = {
    "verdict": "Every question",
    "moves": "How far",
    "yardstick": "Yardstick",
    "sheet": "What was done",
    "shapes": "Kind of move",
    "selectivity": "Biology before nuisance",
    "probes": "Signal and leakage",
    "transfer": "A site left out",
    "space": "Who is near",
    "batches": "Batches",
    "flips": "Label flips",
    "parts": "Breakdown",
    "factors": "Factors",
    "worst": "Worst tiles",
    "discordance": "Eye against encoder",
    "comparisons": "Encoders compared",
    "methods": "Methods",
    "cards": "Cards and licences",
    "limits": "Limits",
}


def write_report(
    result: AuditResult,
    source: TileSource | None,
    out: str | os.PathLike[str],
    *,
    tiles: pd.DataFrame | None = None,
    seconds: Mapping[str, float] | None = None,
    embeddings: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the folder `out`: page, document, tables, figures and model card.

    `report.html` needs no network, no script and no other file. `audit.json` is the document. Every table of it is a
    CSV beside it, with `figures.csv` holding every figure. `figures/` has each figure as SVG and PNG, `model-card.md` a
    section per encoder. Without a `source` there are no pictures of tiles. `tiles` becomes `tiles.parquet`. `seconds`
    (where the time went) goes into `timings.json`, apart from `audit.json`, which is the same for two runs of one audit
    but for `created`. The tables (`*.zarr`) of the folder `embeddings` are moved in.

    Raises
    ------
    OutputError
        If `out` exists and not `overwrite`, or holds something else than an audit.
    """
    refuse_existing(Path(out), overwrite=overwrite, mark=MARK)
    figures = draw_all(result)
    shown = None if source is None or not result.operations else Shown(result, source)
    sheet = None if shown is None else draw_sheet(shown)
    with whole(out, overwrite=overwrite, mark=MARK) as part:
        part.mkdir()
        page = render(result, shown, {name: drawn.svg for name, drawn in figures.items()})
        (part / "report.html").write_text(page, encoding="utf-8")
        (part / "audit.json").write_text(to_json(result), encoding="utf-8")
        (part / "model-card.md").write_text(model_card(result), encoding="utf-8")
        for name, table in all_tables(result).items():
            table.to_csv(part / f"{name}.csv", index=False)
        if tiles is not None:
            tiles.to_parquet(part / "tiles.parquet", index=False)
        (part / "figures").mkdir()
        for name, drawn in figures.items():
            (part / "figures" / f"{name}.svg").write_text(drawn.svg, encoding="utf-8")
            (part / "figures" / f"{name}.png").write_bytes(drawn.png)
        if sheet is not None:
            (part / "figures" / "sheet.png").write_bytes(sheet)
        if seconds is not None:
            (part / "timings.json").write_text(json.dumps(dict(seconds), indent=1), encoding="utf-8")
        if embeddings is not None:
            (part / "embeddings").mkdir()
            for table in Path(embeddings).glob("*.zarr"):
                shutil.move(table, part / "embeddings")
    return Path(out)


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
        first = misfits(error.errors(include_url=False), "the document")[0]
        raise InputError(f"audit.json does not fit its schema, first at {first}", received=file) from None


def render(result: AuditResult, shown: Shown | None, figures: Mapping[str, str]) -> str:
    """Return the page as HTML; `figures` are SVG by name, as `draw_all` names them. Without `shown`, no tiles."""
    from markupsafe import Markup

    from .environment import make_environment  # Jinja loads late

    environment = make_environment()
    environment.filters["figure"] = _show_figure
    environment.filters["compared"] = lambda item: sections.what_is_compared(result, item)
    given = _arranged(result) | _pictured(result, shown)
    given["dose_figures"] = [Markup(svg) for name, svg in figures.items() if name.startswith("dose-response")]
    given["figures"] = {name: Markup(figures.get(name, "")) for name in FIGURES}  # SVG that we have drawn
    return environment.get_template("audit.html.j2").render(given)


def _arranged(result: AuditResult) -> dict[str, Any]:
    """Return what the template is given: the result, and what is arranged of it."""
    encoders = result.encoders
    spaces = sections.space_tables(result)
    return {
        "result": result,
        "answer": answer(result),
        "contents": list(CONTENTS.items()),
        "symbols": SYMBOLS,
        "shape_symbols": SHAPES,
        "metrics": measured_metrics(result),
        "families": sections.family_names(result),
        "family_cells": sections.family_cells,
        "questions": sections.question_matrix(result),
        "open_checks": sections.open_checks,
        "contract": any(encoder.contract for encoder in encoders),
        "perturbed_encoders": sections.perturbed(result),
        "moves": sections.move_matrix(result),
        "shapes": sections.shape_matrix(result),
        "unshaped": sections.why_unshaped(result),
        "selective": [encoder for encoder in encoders if encoder.selectivity is not None],
        "destroyed": list(dict.fromkeys(item.operation for encoder in encoders for item in encoder.selectivities)),
        "families_against": list(dict.fromkeys(item.family for one in encoders for item in one.selectivity_against)),
        "graded": any(operation.graded for operation in result.operations),
        "probes": sections.probe_rows(result),
        "transfer_column": next((left.column for encoder in encoders for left in encoder.transfer), ""),
        "transferred": [encoder for encoder in encoders if encoder.transfer],
        "transfers": sections.transfer_rows(result),
        "twin_names": sections.twin_names(result),
        "spaces": spaces,
        "space_names": [metric.name for table in spaces for metric, _ in table.rows],
        "weak": sections.weak_silhouettes(result),
        "distance_names": sections.distance_names(result),
        "metric_title": lambda name: METRICS[name].title if name in METRICS else name,
        "flips": sections.flip_matrix(result),
        "parts": lambda encoder: sections.parts_rows(result, encoder),
        "discordant": [encoder for encoder in encoders if encoder.discordance is not None],
        "pairs": sections.pair_summaries(result),
        "shown_comparisons": sections.shown_comparisons(result),
        "methods": methods_of(result),
        "limits": limits_of(result),
        "title": result.title,
        "card": _card,
    }


def _card(value: Any) -> str:
    """Return a card as JSON that reads well: a list of numbers on one line."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return re.sub(r"\[([\s\d.,eE+-]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _pictured(result: AuditResult, shown: Shown | None) -> dict[str, Any]:
    """Return the pictures of tiles; of vectors alone there are none."""
    nothing = EncoderPictures([], [], [])
    if shown is None:
        pictures = {encoder.name: nothing for encoder in result.encoders}
        return {"sheet": None, "pictures": pictures, "any_worst": False, "any_heat": False}
    pictures = {encoder.name: pictures_of(encoder, result, shown) for encoder in result.encoders}
    worst = [pair for found in pictures.values() for pair in found.worst]
    return {
        "sheet": contact_sheet(result, shown),
        "pictures": pictures,
        "any_worst": bool(worst),
        "any_heat": any(pair.heat for pair in worst),
    }


def _show_figure(figure: Figure, digits: int = 2) -> str:
    return show(figure, digits)
