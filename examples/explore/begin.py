"""What the pages of the gallery share: tiles of the phantom, a variational model of them, and their vectors.

Made once, and kept in the folder that GALLERY_FOLDER names (`gallery/` without it). GALLERY=full takes the preset
`demo` on 1,200 tiles; the default is small, and shows that it works rather than what there is to see.
"""

import base64
import os
from pathlib import Path

import numpy as np
from IPython.display import HTML

from histolatent import embed, open_tiles, read_table
from histolatent.encoders import encoder
from histolatent.explore.generative.model import (
    GenerativeModel,
    read_model,
    save_model,
)
from histolatent.explore.generative.plan import GenerativePlan
from histolatent.explore.space import LatentSpace
from histolatent.images import TileSource
from histolatent.report.exploring import draw_film
from histolatent.report.movies import write_movie

FULL = os.environ.get("GALLERY") == "full"
FOLDER = Path(os.environ.get("GALLERY_FOLDER", "gallery"))
SITES, TILES = ("source", "new-scanner", "new-stain"), 400 if FULL else 60
SMALL = {
    "training.steps": 60,
    "training.check_every": 60,
    "tile_px": 32,
    "widths": (16, 32, 64),
    "bands": 2,
}


def tiles() -> TileSource:
    """Return the tiles: three sites, eight patients each."""
    return open_tiles(
        f"phantom:sites={len(SITES)},patients=8,slides=1,tiles_per_site={TILES}"
    )


def model() -> GenerativeModel:
    """Return the variational model, which is trained the first time."""
    if not (FOLDER / "vae").exists():
        from histolatent.explore.generative.training import (
            train_generative,
        )  # slow to import

        plan = GenerativePlan.read("demo").changed(**({} if FULL else SMALL))
        trained = train_generative(
            tiles(), "vae", plan, FOLDER / "vae.training", workers=1
        )
        save_model(trained, FOLDER / "vae")
    return read_model(FOLDER / "vae")


def space() -> LatentSpace:
    """Return the tiles' vectors as a space that can be decoded, with what is known of each tile."""
    table = FOLDER / "vectors.zarr"
    if not table.exists():
        embed(tiles(), model().base, table)
    return LatentSpace.of(read_table(table), model(), tiles())


def colours() -> LatentSpace:
    """Return the space of an encoder that sees colours alone: it cannot be decoded, and tiles of a kind lie together."""
    table = FOLDER / "colours.zarr"
    if not table.exists():
        embed(tiles(), encoder("toy:colour-histogram"), table)
    return LatentSpace.of(read_table(table), pictures=tiles())


def movie(frames: "list[np.ndarray]", notes: list[str], name: str) -> HTML:
    """Return a movie as a cell shows it, with a note under each frame."""
    path = FOLDER / f"{name}.gif"
    data = write_movie(
        path, draw_film(frames, notes), per_second=8, overwrite=True
    ).read_bytes()
    return HTML(
        f'<img alt="{name}" src="data:image/gif;base64,{base64.b64encode(data).decode()}">'
    )
