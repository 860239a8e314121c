"""Raw tiles through an encoder, in batches, in order, with its contract checked."""

from collections.abc import Iterable, Sequence

import numpy as np

from .._types import Tile, Tiles, Vectors
from ..errors import EncoderError, InputError, OptionError
from .card import Preprocessing
from .preprocess import prepare
from .protocol import Encoder

SHOWN_ROWS = 5


def prepare_many(tiles: Iterable[np.ndarray], preprocessing: Preprocessing) -> list[Tile]:
    """Prepare tiles one by one; the message of a bad tile says which one it is.

    >>> rule = Preprocessing(resize="squash", input_px=32)
    >>> [tile.shape for tile in prepare_many([np.zeros((40, 50, 3), np.uint8)], rule)]
    [(32, 32, 3)]
    """
    return [_prepare_numbered(index, tile, preprocessing) for index, tile in enumerate(tiles)]


def encode(encoder: Encoder, tiles: Iterable[np.ndarray], *, batch_size: int = 64) -> Vectors:
    """Embed raw uint8 RGB tiles: prepare, batch, forward, check.

    `tiles` is an array (n, h, w, 3) or any iterable of tiles, which may differ in size. Tiles that have the same size
    after `prepare` share a batch. Rows come back in the order of `tiles`, float32, shape (n, `encoder.card.dim`).

    Raises
    ------
    InputError
        If a tile is not uint8 RGB (h, w, 3).
    EncoderError
        If the encoder returns the wrong shape, or a number that is not finite.

    >>> from histolatent.encoders import encoder
    >>> tiles = [np.zeros((96, 96, 3), np.uint8), np.full((224, 300, 3), 255, np.uint8)]
    >>> encode(encoder("toy:od-moments"), tiles).shape
    (2, 12)
    """
    if batch_size < 1:
        raise OptionError("batch_size is less than one", received=batch_size, valid="a whole number from 1")
    rows: dict[int, np.ndarray] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, Tile]]] = {}
    for index, tile in enumerate(tiles):
        prepared = _prepare_numbered(index, tile, encoder.card.preprocessing)
        batch = waiting.setdefault(prepared.shape, [])
        batch.append((index, prepared))
        if len(batch) == batch_size:
            rows.update(_embed(encoder, waiting.pop(prepared.shape)))
    for batch in waiting.values():
        rows.update(_embed(encoder, batch))
    if not rows:
        return np.empty((0, encoder.card.dim), np.float32)
    return np.stack([rows[index] for index in range(len(rows))])


def forward_checked(encoder: Encoder, prepared: Tiles, names: Sequence[object] | None = None) -> Vectors:
    """Run `encoder.forward` on one batch and check what comes back.

    `names` (one per tile) are used in the message in place of row numbers.

    Raises
    ------
    EncoderError
        If the result is not a float array (n, dim), or holds a number that is not finite.
    """
    vectors = np.asarray(encoder.forward(prepared))
    expected = (len(prepared), encoder.card.dim)
    if vectors.shape != expected or vectors.dtype.kind != "f":
        raise EncoderError(
            f"encoder {encoder.card.name!r} broke its contract",
            received=f"{vectors.dtype} array {vectors.shape}",
            valid=f"float array {expected}, one row per tile and card.dim columns",
            fix="correct `dim` or `pooling` in its card",
        )
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        shown = [str(names[row] if names is not None else row) for row in bad[:SHOWN_ROWS]]
        more = f" and {bad.size - SHOWN_ROWS} more" if bad.size > SHOWN_ROWS else ""
        raise EncoderError(
            f"encoder {encoder.card.name!r} returned numbers that are not finite",
            received=f"NaN or infinity for tile {', '.join(shown)}{more}",
            fix="load it with precision=fp32" if encoder.card.precision != "fp32" else None,
        )
    return vectors


def _embed(encoder: Encoder, batch: list[tuple[int, Tile]]) -> dict[int, np.ndarray]:
    """Embed tiles of one size; return rows by their index."""
    indices = [index for index, _ in batch]
    vectors = forward_checked(encoder, np.stack([tile for _, tile in batch]), indices)
    return dict(zip(indices, vectors, strict=True))


def _prepare_numbered(index: int, tile: np.ndarray, preprocessing: Preprocessing) -> Tile:
    try:
        return prepare(tile, preprocessing)
    except InputError as error:
        raise InputError(
            f"tile {index}: {error.what}", received=error.received, valid=error.valid, fix=error.fix
        ) from None
