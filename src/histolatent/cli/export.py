"""`histolatent export`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import Overwrite, say

EXAMPLE = "Example: histolatent export lmc/ --out lmc.onnx"


def export(
    encoder: Annotated[str, typer.Argument(help="A folder, or any torch encoder. See: histolatent encoders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="FILE.onnx; its card is written beside it.")],
    overwrite: Overwrite = False,
) -> None:
    """Write an encoder as ONNX: uint8 RGB tiles in, vectors out. The vectors of both are compared."""
    from ..encoders import encoder as load
    from ..encoders import export_onnx
    from ..outputs import refuse_existing

    refuse_existing(out, overwrite=overwrite)
    difference = export_onnx(load(encoder, device="cpu"), out, overwrite=overwrite)
    say(f"vectors differ by at most {difference:.1g} of the largest number")
    say(f"{out}: use it as --encoder onnx:{out}")
