"""The last layer of a trained encoder: its vectors, whitened and rid of directions by how states move them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..encoders import Encoder
from ..encoders.embed import embed_views
from ..encoders.maps import LinearMap
from ..images import TileSource, select_rows
from ..provenance import stream
from .closed_form import scatter_of
from .linear import whiten_and_remove
from .states import StateViews

#: Tiles, and states of each, that the covariance is taken from.
MOST_TILES, STATES = 2_000, 4


def fit_last_map(
    encoder: Encoder,
    source: TileSource,
    views: StateViews,
    folder: Path,
    share: float,
    most: float,
    *,
    workers: int = 0,
    on_error: str = "stop",
    progress: Callable[[int, int], None] | None = None,
) -> LinearMap:
    """Return a map of the vectors of an encoder, see `whiten_and_remove`. Until then, vectors are kept in `folder`."""
    n = len(source.table)
    if n > MOST_TILES:
        source = select_rows(source, np.sort(stream(views.seed, "whitening tiles").permutation(n)[:MOST_TILES]))
    embedded = embed_views(
        source,
        [encoder],
        [folder / "whitening"],
        views=views,
        plan={"manifold": views.manifold.to_dict(), "seed": views.seed},
        workers=workers,
        on_error=on_error,
        progress=progress,
    )
    store = embedded.stores[0]
    scatter = scatter_of(store.vectors(), np.flatnonzero(store.kept), len(views.names))
    change = whiten_and_remove(scatter, share, most)
    store.remove()
    return change
