"""`histolatent encoders`."""

from typing import Annotated

import typer

from .console import console, say

EXAMPLE = "Example: histolatent encoders --json"


def encoders(
    json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False,
) -> None:
    """List the encoders that are known by name, with licence, access and whether they are in the local cache."""
    from rich.table import Table

    from ..encoders import TOYS, catalogue, in_cache
    from ..provenance import canonical_json

    entries = catalogue()
    if json:
        typer.echo(canonical_json([{**entry.model_dump(mode="json"), "cached": in_cache(entry)} for entry in entries]))
        return
    table = Table(title="Pretrained encoders")
    table.add_column("name", no_wrap=True)  # to be copied
    for heading in ("trained on", "dim", "px", "pooling", "licence", "gated", "cached"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        table.add_row(
            entry.name,
            entry.domain,
            str(entry.dim),
            str(entry.preprocessing.input_px or "any"),
            entry.pooling,
            entry.licence,
            "yes" if entry.gated else "no",
            "yes" if in_cache(entry) else "no",
        )
    console().print(table)
    say(
        "Without weights: " + ", ".join(f"toy:{name}" for name in TOYS) + ".\n"
        "Any other: timm:NAME, hf:ORG/NAME@REVISION, onnx:FILE.onnx, callable:MODULE:FUNCTION, npy:VECTORS.npy, a "
        "folder that save_encoder wrote; timm-random:NAME gives an architecture with random weights."
    )
