"""Tiles to the size that an encoder takes, on the CPU, in NumPy and Pillow only."""

import numpy as np
from PIL import Image

from .._types import Tile
from ..errors import InputError
from .card import Preprocessing

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def prepare(tile: object, preprocessing: Preprocessing) -> Tile:
    """Bring one uint8 RGB tile to the size that an encoder takes.

    The result equals, bit for bit, the evaluation transform of timm and torchvision on PIL images up to `ToTensor`:
    resize with Pillow's antialiased filter, then the centre crop. Scaling to 0-1 and mean/std belong to
    `Encoder.forward`. The input is never changed. With nothing to do, the tile itself is returned.

    Raises
    ------
    InputError
        If `tile` is not a uint8 array of shape (h, w, 3).

    >>> rule = Preprocessing(resize="shorter-side-crop", resize_px=256, input_px=224)
    >>> prepare(np.zeros((300, 400, 3), np.uint8), rule).shape
    (224, 224, 3)
    """
    check_tile(tile)
    assert isinstance(tile, np.ndarray)  # check_tile says so; this tells the type checker
    if preprocessing.resize == "none" or preprocessing.input_px is None:
        return tile
    height, width = tile.shape[:2]
    size = _resized(height, width, preprocessing)
    if size != (height, width):
        image = Image.fromarray(np.ascontiguousarray(tile))
        tile = np.asarray(image.resize((size[1], size[0]), _FILTERS[preprocessing.interpolation]))
    return _centre(tile, preprocessing.input_px)


def check_tile(tile: object) -> None:
    """Raise InputError unless `tile` is a uint8 array of shape (h, w, 3) with pixels in it.

    >>> check_tile(np.zeros((3, 8, 8), np.uint8))
    Traceback (most recent call last):
        ...
    histolatent.errors.InputError: a tile has its channels first. Received: uint8 array (3, 8, 8). \
Valid: uint8 RGB array (height, width, 3). Fix: np.moveaxis(tile, 0, -1)
    """
    if isinstance(tile, np.ndarray) and tile.dtype == np.uint8 and tile.ndim == 3 and tile.shape[2] == 3 and tile.size:
        return
    what, fix = _complaint(tile)
    received = f"{tile.dtype} array {tile.shape}" if isinstance(tile, np.ndarray) else type(tile).__name__
    raise InputError(what, received=received, valid="uint8 RGB array (height, width, 3)", fix=fix)


def _complaint(tile: object) -> tuple[str, str]:
    """Say what is wrong with a tile and how to mend it."""
    if not isinstance(tile, np.ndarray):
        return "a tile is not a NumPy array", "np.asarray(image.convert('RGB'))"
    if tile.ndim == 2:
        return "a tile is grey", "np.repeat(tile[..., None], 3, axis=2), if the encoder is meant to see grey tiles"
    if tile.ndim == 4:
        return (
            "a batch was given where one tile is expected",
            "prepare tiles one by one, or call encode(encoder, tiles)",
        )
    if tile.ndim != 3 or not tile.size:
        return "a tile has the wrong shape, or no pixels", "pass an array of shape (height, width, 3)"
    if tile.shape[2] == 4:
        return "a tile has an alpha channel", "tile[..., :3], or paste it on white first"
    if tile.shape[2] != 3 and tile.shape[0] == 3:
        return "a tile has its channels first", "np.moveaxis(tile, 0, -1)"
    if tile.shape[2] != 3:
        return "a tile does not have three channels", "pass red, green and blue, in this order"
    if tile.dtype.kind == "f":
        return "a tile is not uint8", "(tile * 255).round().astype(np.uint8) for values 0-1, without the 255 for 0-255"
    return "a tile is not uint8", "scale it to 0-255, then tile.astype(np.uint8)"


def _resized(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return (height, width) after the resize, as torchvision rounds it."""
    target = preprocessing.resize_px or preprocessing.input_px
    assert target is not None  # the card's validator says so; this tells the type checker
    if preprocessing.resize == "squash":
        return target, target
    longer = int(target * max(height, width) / min(height, width))
    return (target, longer) if height <= width else (longer, target)


def _centre(tile: Tile, px: int) -> Tile:
    """Return the centre square, with torchvision's rounding of odd margins (half to even)."""
    height, width = tile.shape[:2]
    if (height, width) == (px, px):
        return tile
    top, left = round((height - px) / 2.0), round((width - px) / 2.0)
    return np.ascontiguousarray(tile[top : top + px, left : left + px])
