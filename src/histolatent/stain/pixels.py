"""What an image may be, said explicitly: uint8 or float in 0 to 1, channels last or first. Nothing is guessed."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from ..errors import InputError, OptionError

Layout = Literal["HWC", "CHW"]
#: RGB levels 0 to 255, channels last: uint8 as it was read, or float32 where a float image came in.
Levels = UInt8[np.ndarray, "_h _w 3"] | Float32[np.ndarray, "_h _w 3"]


def read_levels(image: Any, layout: str = "HWC") -> Levels:
    """Return an image as levels 0 to 255 with channels last; uint8 stays uint8, a float image is scaled by 255.

    The image itself is never changed; uint8 with channels last is returned without a copy.

    Raises
    ------
    InputError
        If it is not RGB, not uint8 or float, empty, not finite, or a float image leaves 0 to 1.
    OptionError
        If the layout is unknown.
    """
    if layout not in ("HWC", "CHW"):
        raise OptionError("unknown layout of an image", received=layout, valid="HWC, CHW")
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray):
        raise InputError("an image is a NumPy array", received=type(image).__name__, fix="np.asarray(image)")
    _check_shape(image.shape, layout)
    if layout == "CHW":
        image = np.ascontiguousarray(image.transpose(1, 2, 0))
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise InputError(
            "the type of an image is not usable",
            received=image.dtype,
            valid="uint8 from 0 to 255, or float from 0 to 1",
            fix="convert levels of 0 to 255 to uint8; divide those of 16 bits by 257 first, and round",
        )
    if not np.isfinite(image).all():
        raise InputError("an image holds values that are not finite", received=f"{(~np.isfinite(image)).sum()} of them")
    if image.min() < 0 or image.max() > 1:
        raise InputError(
            "a float image must lie from 0 to 1",
            received=f"{image.min():.4g} to {image.max():.4g}",
            fix="divide levels by 255, or pass them as uint8",
        )
    return image.astype(np.float32) * np.float32(255)


def need_bytes(tile: Any) -> None:
    """Raise InputError unless a tile is RGB uint8, channels last."""
    if read_levels(tile).dtype != np.uint8:
        raise InputError(
            "this works on uint8 only", received=tile.dtype, valid="uint8 from 0 to 255", fix="round 255 times the tile"
        )


def write_levels(levels: Levels, image: np.ndarray, layout: str) -> np.ndarray:
    """Return levels 0 to 255 in the type and layout of the image that came in; float levels are divided by 255."""
    out = levels if image.dtype == np.uint8 else np.clip(levels / np.float32(255), 0, 1).astype(image.dtype)
    return np.ascontiguousarray(out.transpose(2, 0, 1)) if layout == "CHW" else out


def in_one_row(levels: Levels) -> Levels:
    """Return the pixels as one row, filled up to a multiple of 64.

    Vectorised loops end in a scalar one whose last bit may differ. Without a rest, no pixel is ever in it.
    """
    row = np.ascontiguousarray(levels).reshape(1, -1, 3)
    rest = -row.shape[1] % 64
    return np.concatenate([row, np.repeat(row[:, :1], rest, axis=1)], axis=1) if rest else row


def as_bytes(levels: Levels) -> UInt8[np.ndarray, "_h _w 3"]:
    """Return levels as uint8; float levels are rounded."""
    return levels if levels.dtype == np.uint8 else np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _check_shape(shape: tuple[int, ...], layout: str) -> None:
    axis = 2 if layout == "HWC" else 0
    if len(shape) == 3 and shape[axis] == 3 and min(shape) > 0:
        return
    other = len(shape) == 3 and shape[2 - axis] == 3
    fix = f'pass layout="{"CHW" if layout == "HWC" else "HWC"}"' if other else None
    if len(shape) == 2 or (len(shape) == 3 and shape[axis] == 1):
        fix = "stain is colour: a grey image holds none"
    elif len(shape) == 3 and shape[axis] == 4:
        fix = "composite the alpha channel on white, and drop it"
    valid = "(h, w, 3)" if layout == "HWC" else "(3, h, w)"
    raise InputError("an image must be RGB with at least one pixel", received=shape, valid=valid, fix=fix)
