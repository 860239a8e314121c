"""What a trained network makes of held-out tiles, for people to look at. Imports torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ..encoders import Encoder, encode
from ..encoders.torch_models import normalise, to_device
from ..images import Item, TileSource, spaced, stream_tiles
from ..stain.manifold import StainManifold
from .checker import Crop
from .networks import Decoder
from .states import StateViews
from .training import Backbone
from .training_views import Place, TrainingViews

#: Tiles on the sheet, tiles on the map, and states of each.
SHEET_TILES, MAP_TILES, STATES = 4, 24, 6


@dataclass(frozen=True, eq=False)
class Shown:
    """Held-out tiles under states of the prior, what was decoded from them, and where they lie.

    `seen[i, 0]` is tile i as it is; `wanted[i]` its amounts of hematoxylin and eosin under canonical staining, and
    `decoded` those that the decoder reads from each view (None without a decoder). `before` and `after` are positions
    on the first two principal components of all views, before and after training; `spans` is the share
    of the variance that these two have, before and after.
    """

    seen: UInt8[np.ndarray, "n v s s 3"]
    wanted: Float[np.ndarray, "n 2 q q"]
    decoded: Float[np.ndarray, "n v 2 _q _q"] | None
    before: Float[np.ndarray, "t v 2"]
    after: Float[np.ndarray, "t v 2"]
    spans: tuple[float, float]


def show(
    source: TileSource,
    rows: Sequence[int],
    manifold: StainManifold,
    views: TrainingViews,
    untrained: Encoder,
    trained: Encoder,
    backbone: Backbone,
    decoder: Decoder | None,
    spread: Float[np.ndarray, " 2"],
) -> Shown:
    """Look at some of `rows`, evenly spaced. `spread` is what amounts were divided by for the decoder."""
    chosen = spaced(np.array(rows), MAP_TILES).tolist()
    states = StateViews(manifold, views.slides, states=STATES, held_out=0, seed=views.seed)
    items = stream_tiles(source, chosen, Crop(states, views.tile_px), on_error="skip")
    found = [(item.index, np.stack(item.value)) for item in items if isinstance(item, Item)]
    seen = np.stack([pixels for _, pixels in found])
    flat = list(seen.reshape(-1, *seen.shape[2:]))
    before, first = _plane(encode(untrained, flat).reshape(*seen.shape[:2], -1))
    after, second = _plane(encode(trained, flat).reshape(*seen.shape[:2], -1))
    sheet = found[:: max(1, len(found) // SHEET_TILES)][:SHEET_TILES]
    pixels = np.stack([shown for _, shown in sheet])
    wanted = np.stack([_amounts(source, row, views) for row, _ in sheet])
    decoded = None if decoder is None else _decode(backbone, decoder, pixels) * spread[:, None, None]
    return Shown(pixels, wanted, decoded, before, after, (first, second))


def _plane(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Return positions on the first two principal components, and the share of the variance in them."""
    flat = vectors.reshape(-1, vectors.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(axis=0)
    _, lengths, directions = np.linalg.svd(flat, full_matrices=False)
    share = float((lengths[:2] ** 2).sum() / max((lengths**2).sum(), 1e-300))
    return (flat @ directions[:2].T).reshape(*vectors.shape[:2], 2), share


def _amounts(source: TileSource, row: int, views: TrainingViews) -> np.ndarray:
    """Return amounts of the middle of a tile at the resolution at which they are reconstructed, `(2, q, q)`."""
    tile = source.read(row)
    amounts = views.amounts(tile, views.slides.get(str(source.table.index[row])))
    return views.target(amounts, Place.middle(tile.shape, views.tile_px))


def _decode(backbone: Backbone, decoder: Decoder, pixels: np.ndarray) -> np.ndarray:
    """Return what the decoder reads from each view."""
    encoder, stages = backbone.encoder, backbone.stages
    with torch.inference_mode():
        images = normalise(to_device(pixels.reshape(-1, *pixels.shape[2:]), "cpu"), encoder.card.preprocessing)
        decoded = decoder.eval()(stages.grid(encoder.model, stages.features(encoder.model, images)))
    return decoded.numpy().reshape(*pixels.shape[:2], *decoded.shape[1:])
