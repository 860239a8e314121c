"""`histolatent phantom`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import Overwrite, Quiet, Workers, progress_bar, say, worker_count

EXAMPLE = "Example: histolatent phantom --out cohort --sites 5 --patients 6 --tiles-per-site 400 --tile-px 96 --seed 0"


def phantom(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write: tiles, manifest, truth, annotations.")],
    sites: Annotated[int, typer.Option(help="How many sites; the first is the source.")] = 5,
    patients: Annotated[int, typer.Option(help="Patients per site.")] = 6,
    slides: Annotated[int, typer.Option(help="Slides per patient.")] = 2,
    tiles_per_site: Annotated[int, typer.Option(help="Tiles per site.")] = 400,
    tile_px: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 96,
    mpp: Annotated[float, typer.Option(help="Micrometres per pixel.")] = 0.5,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    workers: Workers = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write the synthetic H&E cohort: tiles, manifest, true factors, nuclei and mitoses."""
    from ..images.phantom import PhantomSpec, write_phantom
    from ..images.phantom.writing import MARK
    from ..outputs import refuse_existing

    refuse_existing(out, overwrite=overwrite, mark=MARK)
    spec = PhantomSpec(
        sites=sites,
        patients=patients,
        slides=slides,
        tiles_per_site=tiles_per_site,
        tile_px=tile_px,
        mpp=mpp,
        seed=seed,
    )
    with progress_bar("drawing the phantom", quiet=quiet) as progress:
        write_phantom(spec, out, workers=worker_count(workers), progress=progress, overwrite=overwrite)
    say(f"{out}: {sites * tiles_per_site} tiles, manifest.csv, truth.parquet, annotations.geojson")
