"""Maps of features before pooling, for detection and segmentation."""

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from .._types import Tiles
from ..errors import EncoderError, InputError, OptionError
from .batches import prepare_many
from .protocol import Encoder


@runtime_checkable
class DenseEncoder(Protocol):
    """An encoder that gives what it pools, too."""

    def dense(self, prepared: Tiles) -> Float32[np.ndarray, "n d h w"]:
        """Return the map of features of tiles that `prepare` has brought to size.

        Raises
        ------
        EncoderError
            If the network has no such map.
        """
        ...

    def below(self, prepared: Tiles) -> list[np.ndarray]:
        """Return the maps of the layers before, `(n, d, h, w)` each, where they are finer, the finest first."""
        ...


def encode_dense(
    encoder: Encoder, tiles: Iterable[np.ndarray], *, batch_size: int = 64
) -> Float32[np.ndarray, "n d h w"]:
    """Return the maps of features of raw uint8 RGB tiles: a vector for each place, in the order of `tiles`.

    A place stands for `side / h` pixels of the prepared tile, and sees more than these. It is embedded as a tile of
    that place alone: with mean pooling, the mean over places is what `encode` gives; with `mean+max`, features come
    twice, as both. A linear compaction acts on each place as on the whole.

    Raises
    ------
    InputError
        If a tile is not uint8 RGB `(h, w, 3)`, or they come to several sizes.
    EncoderError
        If the encoder has no such maps.

    >>> from histolatent.encoders import encoder
    >>> small = encoder("timm-random:resnet18?pooling=mean")
    >>> encode_dense(small, np.zeros((2, 224, 224, 3), np.uint8)).shape
    (2, 512, 7, 7)
    """
    return _encode(encoder, tiles, batch_size, lambda dense, prepared: [dense.dense(prepared)])[0]


def encode_levels(
    encoder: Encoder, tiles: Iterable[np.ndarray], *, batch_size: int = 64
) -> list[Float32[np.ndarray, "_n _d _h _w"]]:
    """Return the maps of features of all layers that differ in fineness, the finest first, as a detector takes them.

    The last is that of `encode_dense`; a transformer has no other. Errors are those of `encode_dense`, too.

    >>> from histolatent.encoders import encoder
    >>> small = encoder("timm-random:resnet18?pooling=mean")
    >>> [level.shape[2] for level in encode_levels(small, np.zeros((1, 224, 224, 3), np.uint8))]
    [112, 56, 28, 14, 7]
    """
    return _encode(encoder, tiles, batch_size, lambda dense, prepared: [*dense.below(prepared), dense.dense(prepared)])


def _encode(
    encoder: Encoder,
    tiles: Iterable[np.ndarray],
    batch_size: int,
    maps: Callable[[DenseEncoder, Tiles], list[np.ndarray]],
) -> list[np.ndarray]:
    if batch_size < 1:
        raise OptionError("batch_size is less than one", received=batch_size, valid="a whole number from 1")
    if not isinstance(encoder, DenseEncoder):
        raise no_maps(encoder)
    prepared = prepare_many(tiles, encoder.card.preprocessing)
    sizes = {tile.shape for tile in prepared}
    if len(sizes) != 1:
        found = ", ".join(f"{shape[1]} x {shape[0]} px" for shape in sorted(sizes)) or "no tile"
        raise InputError("maps of features are of tiles of one size", received=found, fix="call it once for each size")
    parts = [
        maps(encoder, np.stack(prepared[start : start + batch_size])) for start in range(0, len(prepared), batch_size)
    ]
    return [np.concatenate(level) for level in zip(*parts, strict=True)]


def no_maps(encoder: Encoder) -> EncoderError:
    """Return the error of an encoder without maps of features."""
    return EncoderError(
        f"{encoder.card.name} gives one vector for a tile, and no map of features",
        valid="encoders that compact has trained, timm models, and linear compactions on those (by mean, mean+max)",
    )
