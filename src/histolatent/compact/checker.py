"""Held-out tiles under wider states, looked at during training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._types import Tile
from ..encoders import Encoder, encode
from ..errors import InputError
from ..images import Item, TileSource, stream_tiles
from ..provenance import stream
from .guards import HeldOut, look
from .states import StateViews
from .training_views import Place

#: Held-out tiles that a check looks at, at most.
CHECK_TILES = 400


class Checker:
    """Embeds held-out tiles and wider states of them, which are rendered once, and cut to the middle."""

    def __init__(
        self,
        source: TileSource,
        held_out: Sequence[int],
        views: StateViews,
        *,
        tile_px: int,
        seed: int,
        workers: int = 0,
        most: int = CHECK_TILES,
    ) -> None:
        rows = list(held_out)
        if len(rows) > most:
            drawn = stream(seed, "check tiles").permutation(len(rows))[:most]
            rows = [rows[place] for place in np.sort(drawn)]
        items = stream_tiles(source, rows, Crop(views, tile_px), workers=workers, on_error="skip")
        self.tiles = [item.value for item in items if isinstance(item, Item)]
        if len(self.tiles) < 2:
            raise InputError("too few held-out tiles to check the training on", received=len(self.tiles), valid="2")
        self.colours = np.array(
            [np.concatenate([tile[0].mean(axis=(0, 1)), tile[0].std(axis=(0, 1))]) for tile in self.tiles]
        )

    def __call__(self, encoder: Encoder) -> HeldOut:
        """Look at an encoder."""
        flat = [view for tile in self.tiles for view in tile]
        return look(encode(encoder, flat).reshape(len(self.tiles), -1, encoder.card.dim), self.colours)


@dataclass(frozen=True, eq=False)
class Crop:
    """Views, cut to the middle."""

    views: StateViews
    side: int

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sequence[Tile]:
        middle = Place.middle(tile.shape, self.side)
        return [middle.cut(view) for view in self.views(tile, tile_id, mpp)]
