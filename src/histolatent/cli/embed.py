"""`histolatent embed` and `histolatent convert`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import (
    AllowOutside,
    BatchSize,
    Columns,
    Device,
    OnError,
    Overwrite,
    Quiet,
    Restart,
    Source,
    TileMpp,
    TilePx,
    Tissue,
    Workers,
    asked_cut,
    open_source,
    parse_columns,
    progress_bar,
    say,
    worker_count,
)

EXAMPLE = "Example: histolatent embed tiles/ --encoder timm:vit_small_patch14_dinov2.lvd142m --out emb.zarr"
CONVERT_EXAMPLE = "Example: histolatent convert emb.zarr emb.h5ad"


def embed(
    src: Source,
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="See: histolatent encoders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="emb.zarr, or .h5ad, .parquet, .csv, .npy, .h5.")],
    column: Columns = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    batch_size: BatchSize = 64,
    workers: Workers = None,
    device: Device = None,
    on_error: OnError = "stop",
    overwrite: Overwrite = False,
    restart: Restart = False,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Turn tiles into an embedding table. An interrupted run goes on when the command is given again."""
    from ..embeddings import card_of, refuse_table
    from ..encoders import encoder as load
    from ..encoders.embed import embed as run
    from ..images import input_files
    from ..outputs import refuse_inputs

    cut = asked_cut(tile_px, tile_mpp, tissue)
    source = open_source(src, parse_columns(column), cut, allow_outside=allow_outside, quiet=quiet)
    refuse_inputs(out, input_files(source))
    refuse_table(out, overwrite=overwrite)
    loaded = load(encoder, device=device)
    with progress_bar(f"embedding with {loaded.card.name}", quiet=quiet) as progress:
        table = run(
            source,
            loaded,
            out,
            batch_size=batch_size,
            workers=worker_count(workers),
            on_error=on_error,
            overwrite=overwrite,
            restart=restart,
            progress=progress,
        )
    skipped = len(card_of(table)["tiles"]["skipped"])
    say(f"{out}: {table.n_obs} tiles x {table.n_vars} numbers" + (f", {skipped} skipped" if skipped else ""))


def convert(
    table: Annotated[Path, typer.Argument(help="An embedding table: .zarr, .h5ad, .parquet, .csv, .npy, .h5.")],
    out: Annotated[Path, typer.Argument(help="The same, in the form that the ending names.")],
    overwrite: Overwrite = False,
) -> None:
    """Write an embedding table in another form. Only .zarr and .h5ad keep the provenance card."""
    from ..embeddings import read_table, refuse_table, write_table
    from ..outputs import refuse_inputs

    refuse_inputs(out, [table])
    refuse_table(out, overwrite=overwrite)
    read = read_table(table)
    write_table(read, out, overwrite=overwrite)
    say(f"{out}: {read.n_obs} tiles x {read.n_vars} numbers")
