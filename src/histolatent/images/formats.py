"""One image file to RGB uint8, whatever it was stored as."""

import os
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .._types import Tile
from ..errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".jp2", ".j2k", ".webp")
MIN_SIDE_PX, MAX_SIDE_PX = 16, 8192
#: How to mend a file of a set of tiles that is not there.
IF_MISSING = "mend the manifest, or pass --on-error skip"

_SIGNATURES = {
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"<": "text (HTML or XML?)",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}


#: What Pillow's readers raise at bytes that make no sense.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, OverflowError, struct.error)


class TileWarning(UserWarning):
    """Something about an image that was ignored or converted, and may matter."""


def decode(path: str | os.PathLike[str], *, if_missing: str | None = None) -> Tile:
    """Decode an image file to RGB uint8 `(h, w, 3)`.

    EXIF orientation is applied. Grey is repeated into three channels, 16-bit values are scaled to 8 bits, CMYK and
    palettes are converted, transparency is composited on white. An embedded ICC profile is ignored, and only the first
    page of a multi-page file is read: both are said in a TileWarning. `if_missing` is the fix where there is no file.

    Raises
    ------
    InputError
        If the file is missing, empty, not an image, damaged, or its sides are outside 16 to 8,192 px.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError("image file not found", received=path, fix=if_missing) from None
    except (OSError, ValueError) as error:
        raise InputError(f"image file cannot be opened ({error})", received=path) from None
    if size == 0:
        raise InputError("image file is empty", received=path)
    try:
        # Pillow's own bomb check is a warning about the area; the bound on the sides below is tighter.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except UnidentifiedImageError:
        raise InputError(
            f"not an image: the file looks like {_looks_like(path)}", received=path, valid=", ".join(SUFFIXES)
        ) from None
    except Image.DecompressionBombError:
        raise InputError(
            f"image is far larger than a tile (at most {MAX_SIDE_PX} px a side)",
            received=path,
            fix="--tile-px 256 cuts it into tiles",
        ) from None
    except _DAMAGE as error:
        raise InputError(f"image file cannot be opened ({error})", received=path) from None
    with image:
        check_size(image.height, image.width, str(path))
        try:
            _warn_of_what_is_ignored(image)
            image = ImageOps.exif_transpose(image)
            return _to_rgb(image, path)
        except _DAMAGE as error:
            raise InputError(f"image file is damaged ({error})", received=path) from None


def check_size(height: int, width: int, name: str) -> None:
    """Raise InputError if the sides of a tile are outside the bounds."""
    if min(height, width) < MIN_SIDE_PX:
        raise InputError(
            f"tile is {width} x {height} px, too small to hold tissue",
            received=name,
            valid=f"sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} px",
        )
    if max(height, width) > MAX_SIDE_PX:
        raise InputError(
            f"image is {width} x {height} px: a slide, not a tile",
            received=name,
            valid=f"sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} px",
            fix="--tile-px 256 cuts it into tiles",
        )


def _looks_like(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(32)
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            return name
    return f"something else (first bytes {head[:8].hex(' ')})"


def _warn_of_what_is_ignored(image: Image.Image) -> None:
    if image.info.get("icc_profile"):
        warnings.warn(TileWarning("embedded ICC profile ignored"), stacklevel=3)
    if getattr(image, "n_frames", 1) > 1:
        warnings.warn(TileWarning("only the first page of a multi-page image is read"), stacklevel=3)


def _to_rgb(image: Image.Image, path: Path) -> Tile:
    if image.mode.startswith("I;16") or image.mode == "I":
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 65535:
            raise InputError("grey values are outside 0 to 65535", received=path)
        grey = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise InputError("floating-point image: its scale is not known", received=path, fix="save it as 8-bit RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))
