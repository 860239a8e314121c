"""The reader of tiles that are cut from larger files. It travels to workers, so no pandas here."""

import os
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Int

from .._types import Tile
from .formats import IF_MISSING, decode
from .slides import read_damaged, read_square


@dataclass(frozen=True, eq=False)
class CutReader:
    """Squares of files: `places` `(n, 2)` are x and y in level-0 pixels, `sides` how many of these a square has.

    A side of 0 stands for a whole file that could not be looked at before, and says why when it is read.
    """

    files: tuple[str, ...]
    slides: tuple[bool, ...]
    owners: Int[np.ndarray, " n"]
    places: Int[np.ndarray, "n 2"]
    sides: Float[np.ndarray, " n"]
    tile_px: int

    def read(self, index: int) -> Tile:
        """Return tile `index`. Raises InputError with the path of its file."""
        owner, side = int(self.owners[index]), float(self.sides[index])
        file, (x, y) = self.files[owner], map(int, self.places[index])
        if self.slides[owner]:
            return read_square(file, x, y, side, self.tile_px) if side else read_damaged(file)
        image = _decode(file)
        if not side:
            return image
        wide = round(side)
        part = image[y : y + wide, x : x + wide]
        if part.shape[:2] == (self.tile_px, self.tile_px):
            return np.array(part)
        return np.asarray(cv2.resize(part, (self.tile_px, self.tile_px), interpolation=cv2.INTER_AREA), np.uint8)


@lru_cache(maxsize=2)
def _decode(file: str) -> Tile:
    """Decode an image that the next tiles are likely to be of."""
    image = decode(os.fspath(file), if_missing=IF_MISSING)
    image.flags.writeable = False
    return image
