"""Tiles of another kind of tissue, for the operation that one tile alone cannot give: the tissue swap."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import cv2
import numpy as np
from jaxtyping import Float

from .._types import Tile
from ..stain import colour_change, fit_colour, label_nuclei, recolour, tissue_mask, to_tile
from .glass import slide_white

#: Least share of tissue in a donor: glass is no other tissue.
LEAST_TISSUE = 0.5
DRAWN_PX, DRAWN_MPP, DRAWN_SEED = 256, 0.5, 20


@dataclass(frozen=True, eq=False)
class Donor:
    """A tile whose tissue may take the place of another tile's. `mpp` is its um per pixel."""

    pixels: Tile
    mpp: float = 0.5
    name: str = ""

    @cached_property
    def tissue(self) -> float:
        """Share of the tile that is tissue."""
        return float(tissue_mask(self.pixels).mean())

    @cached_property
    def architecture(self) -> Float[np.ndarray, "3"]:
        """What kind of tissue it is, by nuclei alone. See `architecture`."""
        return architecture(self.pixels, self.mpp)


def architecture(tile: Tile, mpp: float) -> Float[np.ndarray, "3"]:
    """Return how crowded, how large and how evenly spread the nuclei of a tile are; nothing of it is colour.

    The share of the tissue that is nuclei; the root of their mean area, in 10 um; and the spread of the share between
    the tile's 16 fields, as a standard deviation.
    """
    count, labels = label_nuclei(tile, mpp)
    tissue = tissue_mask(tile).astype(np.float32)
    nuclei = (labels > 0).astype(np.float32)
    share = float(nuclei.sum() / max(tissue.sum(), 1.0))
    size = float(np.sqrt(nuclei.sum() * mpp**2 / max(count, 1))) / 10.0
    fields = cv2.resize(nuclei, (4, 4), interpolation=cv2.INTER_AREA)
    return np.array([share, size, float(fields.std())])


@cache
def drawn_donors() -> tuple[Donor, ...]:
    """Return one drawn tile of each kind of tissue of the phantom, 256 px at 0.5 um per pixel."""
    from ..images.phantom import PhantomSpec, PhantomTiles

    spec = PhantomSpec(sites=1, slides=1, tiles_per_site=60, tile_px=DRAWN_PX, mpp=DRAWN_MPP, seed=DRAWN_SEED)
    phantom = PhantomTiles(spec)
    labels = [str(label) for label in phantom.table["label"]]
    return tuple(
        Donor(phantom.read(labels.index(label)), DRAWN_MPP, f"drawn {label}") for label in dict.fromkeys(labels)
    )


def choose_donor(tile: Tile, donors: Sequence[Donor], mpp: float, random: np.random.Generator) -> Tile:
    """Return the tissue of a donor of another kind, in the size, the um per pixel and the staining of the tile.

    Donors of less than half tissue are passed over, unless all are. Of the others, one of the half that is furthest
    from the tile in `architecture` is drawn, each measure in units of its spread over the donors.
    """
    stained = [donor for donor in donors if donor.tissue >= LEAST_TISSUE] or list(donors)
    known = np.array([donor.architecture for donor in stained])
    spread = known.std(axis=0)
    apart = np.linalg.norm((known - architecture(tile, mpp)) / np.where(spread > 0, spread, 1.0), axis=1)
    far = np.argsort(-apart, kind="stable")[: max(1, (len(stained) + 1) // 2)]
    donor = stained[int(far[random.integers(len(far))])]
    return _cut(_restained(tile, donor), tile.shape[:2], donor.mpp / mpp, random)


def _restained(tile: Tile, donor: Donor) -> Tile:
    """Return the donor with the tile's light and the colours of its tissue (Reinhard's), so that only tissue differs.

    Where one of them has too little tissue for that, only the light is the tile's.
    """
    white = slide_white(tile)
    lit = to_tile(donor.pixels * (white / slide_white(donor.pixels)))
    level = tuple(white.tolist())
    own, other = (fit_colour([pixels], white=level) for pixels in (tile, lit))
    return recolour(lit, colour_change(other, own, hue_limit=180.0)) if own.valid else lit


def _cut(pixels: Tile, shape: tuple[int, int], scale: float, random: np.random.Generator) -> Tile:
    """Return a part of the donor of a shape, at another scale; where it is too small, it goes on mirrored."""
    if abs(scale - 1) > 0.02:
        width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=way), np.uint8)
    for axis, side in enumerate(shape):
        have = pixels.shape[axis]
        start = int(random.integers(have - side + 1)) if have > side else 0
        index = (np.arange(side) + start) % (2 * have)
        pixels = np.take(pixels, np.where(index < have, index, 2 * have - 1 - index), axis=axis)
    return np.ascontiguousarray(pixels)
