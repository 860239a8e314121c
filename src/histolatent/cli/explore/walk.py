"""`histolatent explore walk`."""

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import OptionError, unknown
from ..console import AllowOutside, Device, Overwrite, Quiet, progress_bar, say
from .maps import Colour, MapFolder, TableOption
from .shared import (
    KIND,
    Decoder,
    Out,
    TilesOf,
    column_of,
    real_tiles,
    refuse_nothing_to_show,
    refuse_outcome,
    space_of,
    table_of,
    whose_tiles,
    write_outcome,
)

if TYPE_CHECKING:
    import numpy as np

EXAMPLE = "Example: histolatent explore walk maps/umap TILE_A TILE_B TILE_C --colour label --decoder vae/ --out walk/"

#: Frames that a stop stays.
HELD = 4


def walk(
    folder: MapFolder,
    stops: Annotated[list[str], typer.Argument(help="Two tiles or more to go through, by their names.")],
    out: Out,
    method: Annotated[
        str, typer.Option("--method", "-m", help="From stop to stop: lerp, slerp, nlerp, graph or geodesic.")
    ] = "graph",
    steps: Annotated[int, typer.Option(min=2, help="Steps from a stop to the next.")] = 16,
    colour: Colour = None,
    decoder: Decoder = None,
    tiles: TilesOf = None,
    table: TableOption = None,
    device: Device = None,
    allow_outside: AllowOutside = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Walk through a map from tile to tile: a movie of where one is, and of what is there, decoded or real.

    The way is one of the latent space; the map only shows it. Where the map jumps, it tears apart what lies together.
    """
    import numpy as np
    import pandas as pd

    from ...explore.maps import read_map
    from ...explore.space import METHODS
    from ...explore.trust import judge_map
    from ...report.exploring import draw_walk

    if method not in METHODS:
        raise unknown("way", method, METHODS)
    if len(stops) < 2:
        raise OptionError("a walk has two stops or more", received=", ".join(stops))
    refuse_outcome(out, f"{KIND} walk", overwrite=overwrite)
    made = read_map(folder)
    read = table_of(made, table)
    values = None if colour is None else column_of(read, colour)
    space = space_of(read, decoder, tiles, allow_outside=allow_outside, device=device)
    refuse_nothing_to_show(space)
    points = [space[name] for name in stops]
    legs = [first.path(last, method=method, steps=steps + 1) for first, last in pairwise(points)]
    vectors = _joined([leg.vectors for leg in legs])
    frame = pd.concat([legs[0].to_frame()[:1], *(leg.to_frame()[1:] for leg in legs)], ignore_index=True)
    places = made.place(vectors.astype(np.float32))
    at_stops = [steps * place for place in range(len(stops))]
    places[at_stops] = made.places[[made.tiles.index(name) for name in stops]]
    shown = (
        real_tiles(space, frame["nearest"].tolist())
        if space.decoder is None
        else _joined([leg.decode() for leg in legs])
    )
    what = "nearest tile" if space.decoder is None else "decoded"
    notes = [f"{what}; {value:.0%} of tiles lie denser" for value in frame["sparser"]]
    caption = judge_map(made, groups=whose_tiles(read), seeds=1, null=False).caption()
    with progress_bar("drawing", quiet=quiet, unit="frames") as progress:
        frames, route = draw_walk(made, values, places, shown, notes, at_stops, caption, progress=progress)
    held = [frame for step, frame in enumerate(frames) for _ in range(HELD if step in at_stops else 1)]
    jumps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    numbers = {
        "map": str(folder),
        "caption": caption,
        "stops": stops,
        "method": method,
        "steps": frame.assign(x=places[:, 0], y=places[:, 1]).drop(columns="along").to_dict("records"),
        "vectors": vectors,
        "largest_jump": float(jumps.max() / max(np.ptp(made.places, axis=0).max(), 1e-300)),
    }
    figures, movies = {"route": route}, {"walk": held}
    write_outcome(out, f"{KIND} walk", numbers, figures=figures, movies=movies, overwrite=overwrite)
    say(caption)
    say(f"the largest step of the walk crosses {numbers['largest_jump']:.0%} of the map")


def _joined(legs: "list[np.ndarray]") -> "np.ndarray":
    """Return the steps of ways that go on from each other, each stop once."""
    import numpy as np

    return np.concatenate([legs[0][:1], *(leg[1:] for leg in legs)])
