"""What reaches the first layer of a torch network, and which preprocessing made it. Imports no torch by itself."""

import sys
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32

from .._types import Tiles
from .card import Precision
from .protocol import Encoder

#: Tiles and inputs are compared as means over a grid of this many cells a side.
CELLS = 8
#: An input channel whose cells a tile's channel explains less well than this is not an affine map of it.
LEAST_EXPLAINED = 0.98


@dataclass(frozen=True)
class NetworkInput:
    """What a network was given, as a map of the tiles: `input[c] = (tile[order[c]] / 255 - mean[c]) / std[c]`.

    `size` is height and width in pixels; `explained` the smallest share of variance over channels that the map
    explains, 0 to 1. Below 0.98 the map is not to be believed. `precision` is what the network computes in.
    """

    size: tuple[int, int]
    order: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    explained: float
    precision: Precision = "fp32"

    @property
    def is_known(self) -> bool:
        """Whether the input is an affine map of the tiles at all."""
        return self.explained >= LEAST_EXPLAINED


def network_input(encoder: Encoder, prepared: Tiles) -> NetworkInput | None:
    """Run an encoder on tiles, and say what its network was given; None if no convolution of torch saw three channels.

    Watches every torch network of the process while the encoder runs, so that one inside a Python function is seen too.
    Looks at the first layer with weights: a normalisation that is a module itself counts as preprocessing.

    Misleads where the tiles are grey, or all alike: then channels cannot be told apart, and `explained` is low or the
    order arbitrary.
    """
    watched = _watch(encoder, prepared)
    if watched is None:
        return None
    seen, precision = watched
    found = [_explain(seen, tiles) for tiles in _cuts(prepared, seen.shape[2:])]
    return replace(max(found, key=lambda one: one.explained), precision=precision)


def _watch(encoder: Encoder, prepared: Tiles) -> tuple[Float32[np.ndarray, "_n 3 _h _w"], Precision] | None:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        encoder.forward(prepared)
        torch = sys.modules.get("torch")  # imported by the first call
        if torch is None:
            return None
    seen: list[tuple[np.ndarray, Precision]] = []
    lower: dict[Any, Precision] = {torch.float16: "fp16", torch.bfloat16: "bf16"}

    def look(module: Any, inputs: tuple[Any, ...]) -> None:
        weight: Any = getattr(module, "weight", None)
        if seen or not isinstance(weight, torch.Tensor) or weight.ndim != 4 or not inputs:
            return
        value = inputs[0]
        if isinstance(value, torch.Tensor) and value.ndim == 4 and value.shape[1] == 3 and len(value) == len(prepared):
            kind = value.device.type
            used = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
            seen.append((value.detach().float().cpu().numpy(), lower.get(used, "fp32")))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        encoder.forward(prepared)
    finally:
        handle.remove()
    return seen[0] if seen else None


def _cuts(prepared: Tiles, size: tuple[int, ...]) -> list[np.ndarray]:
    """Return the tiles, and their centres if the network saw fewer pixels: it may have shrunk them or cut them."""
    height, width = prepared.shape[1:3]
    if size[0] >= height and size[1] >= width:
        return [prepared]
    top, left = max(0, (height - size[0]) // 2), max(0, (width - size[1]) // 2)
    return [prepared, prepared[:, top : top + size[0], left : left + size[1]]]


def _explain(seen: Float32[np.ndarray, "_n 3 _h _w"], tiles: Tiles) -> NetworkInput:
    """Return the best affine map, channel by channel, from cells of the tiles to cells of the input."""
    given = np.concatenate([_cells(image.transpose(1, 2, 0)) for image in seen])
    shown = np.concatenate([_cells(tile.astype(np.float32) / 255) for tile in tiles])
    order, mean, std, explained = [], [], [], []
    for channel in range(3):
        fits = [_fit(shown[:, source], given[:, channel]) for source in range(3)]
        best = int(np.argmax([share for _, _, share in fits]))
        slope, shift, share = fits[best]
        order.append(best)
        std.append(1 / slope if slope else float("inf"))
        mean.append(-shift / slope if slope else 0.0)
        explained.append(share)
    return NetworkInput((int(seen.shape[2]), int(seen.shape[3])), tuple(order), tuple(mean), tuple(std), min(explained))


def _cells(image: Float32[np.ndarray, "_h _w 3"]) -> Float[np.ndarray, "m 3"]:
    cells = cv2.resize(np.ascontiguousarray(image), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, np.float64).reshape(-1, 3)


def _fit(x: Float[np.ndarray, " m"], y: Float[np.ndarray, " m"]) -> tuple[float, float, float]:
    """Return slope, shift and share of variance explained of a line."""
    spread, total = x.var(), y.var()
    if spread < 1e-12 or total == 0:
        return 0.0, float(y.mean()), 0.0
    spread, total, covariance = float(spread), float(total), float(((x - x.mean()) * (y - y.mean())).mean())
    slope = covariance / spread
    return slope, float(y.mean() - slope * x.mean()), covariance**2 / (spread * total)
