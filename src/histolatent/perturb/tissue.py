"""Changing the biology: what a good encoder must not ignore."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from .._types import Tile
from ..stain import label_nuclei, optical_density, tissue_mask, to_tile
from ..stain.recolour import tissue_plane
from .glass import slide_white
from .operation import Operation, register

MARGIN_UM = 0.75
FILL_UM = 4.0
GRAIN_UM = 0.5
SWAP_UM = 20.0


def erase_nuclei(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    """Return the tile as a function of the share of its nuclei that are replaced by what surrounds them.

    Nuclei are found in the hematoxylin channel. Each chosen one, with a margin of 0.75 um, takes the mean optical
    density of the tissue between nuclei around it (Gaussian, 4 um) and grain as strong as that tissue's. The order in
    which nuclei go is drawn once, so a larger share erases the same ones and more. A tile without nuclei stays the
    same.
    """
    count, labels = label_nuclei(tile, mpp)
    if not count:
        return lambda share: tile.copy()
    order = random.permutation(count) + 1
    size = 2 * round(MARGIN_UM / mpp) + 1
    grow = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    between = (cv2.dilate((labels > 0).astype(np.uint8), grow) == 0) & tissue_mask(tile)
    white = slide_white(tile)
    density = optical_density(tile, white)
    stained = tissue_plane(tile, white.astype(np.float64))  # nothing is filled into glass
    filled = _ground(density, between, mpp, random)

    def erase(share: float) -> Tile:
        gone = np.zeros(count + 1, np.uint8)
        gone[order[: round(share * count)]] = 1
        erased = cv2.dilate(gone[labels], grow).astype(np.float32)
        soft = (np.maximum(cv2.GaussianBlur(erased, (0, 0), max(0.5 / mpp, 0.5)), erased) * stained)[..., None]
        mixed = density + soft * (filled - density)
        return np.where(soft > 1e-3, to_tile((white * np.exp(-mixed)).astype(np.float32)), tile)

    return erase


def _ground(
    density: Float32[np.ndarray, "h w 3"], between: Bool[np.ndarray, "h w"], mpp: float, random: np.random.Generator
) -> Float[np.ndarray, "h w 3"]:
    """Spread the tissue between nuclei over the tile: its local mean, with grain as strong as its own."""
    if not between.any():
        return np.broadcast_to(density.min(axis=(0, 1)), density.shape).astype(np.float32)
    weight = between.astype(np.float32)[..., None]
    overall = density[between].mean(axis=0)
    spread = cv2.GaussianBlur(density * weight, (0, 0), FILL_UM / mpp)
    total = cv2.GaussianBlur(weight, (0, 0), FILL_UM / mpp)[..., None]
    local = (spread + 1e-3 * overall) / (total + 1e-3)
    fine = density - cv2.GaussianBlur(density, (0, 0), max(2 * GRAIN_UM / mpp, 1.0))
    strength = 1.4826 * np.median(np.abs(fine[between]), axis=0)
    noise = cv2.GaussianBlur(random.standard_normal(density.shape[:2]).astype(np.float32), (0, 0), GRAIN_UM / mpp)
    return local + strength * (noise / noise.std())[..., None]


def resize_nuclei(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    """Return the tile as a function of how far the outline of every nucleus moves out (above 0) or in, in um.

    Outward, each pixel within reach takes the density of the nearest pixel of a nucleus, 0.5 um inside its outline;
    the nuclei themselves stay as they are. Inward, the rim is filled as erased nuclei are.
    """
    count, labels = label_nuclei(tile, mpp)
    if not count:
        return lambda um: tile.copy()
    nuclei = (labels > 0).astype(np.uint8)
    white = slide_white(tile)
    density = optical_density(tile, white)
    stained = tissue_plane(tile, white.astype(np.float64))
    margin = _disk(MARGIN_UM / mpp)
    between = (cv2.dilate(nuclei, margin) == 0) & tissue_mask(tile)
    filled = _ground(density, between, mpp, random)
    extended = _extended(density, nuclei, mpp)

    def resize(um: float) -> Tile:
        reach = _disk(abs(um) / mpp)
        if um > 0:
            changed, target = cv2.dilate(nuclei, reach) - nuclei, extended
            soft = cv2.GaussianBlur(changed.astype(np.float32), (0, 0), max(0.25 / mpp, 0.5))
        else:
            changed, target = cv2.dilate(nuclei, margin) - cv2.erode(nuclei, reach), filled
            soft = cv2.GaussianBlur(changed.astype(np.float32), (0, 0), max(0.25 / mpp, 0.5)) * stained
        mixed = density + soft[..., None] * (target - density)
        return np.where(soft[..., None] > 1e-3, to_tile((white * np.exp(-mixed)).astype(np.float32)), tile)

    return resize


def _extended(
    density: Float32[np.ndarray, "h w 3"], nuclei: UInt8[np.ndarray, "h w"], mpp: float
) -> Float32[np.ndarray, "h w 3"]:
    """Spread the density of nuclei outward: each pixel takes that of the nearest pixel inside a nucleus."""
    inner = cv2.erode(nuclei, _disk(0.5 / mpp))
    inner = np.where(cv2.dilate(inner, _disk(1.0 / mpp)) > 0, inner, nuclei)  # the smallest are not eroded away
    _, labels = cv2.distanceTransformWithLabels(1 - inner, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = np.asarray(labels, np.int64)
    rows, columns = np.nonzero(inner)
    place = np.zeros(int(nearest.max()) + 1, np.int64)
    place[nearest[rows, columns]] = np.arange(len(rows))
    spread = density[rows, columns][place[nearest]]
    return cv2.GaussianBlur(spread, (0, 0), max(0.25 / mpp, 0.5))


def _disk(radius_px: float) -> np.ndarray:
    size = 2 * max(1, round(radius_px)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def shuffle_patches(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    """Return the tile as a function of the number of patches a side: cut into that many squares, put back at random.

    What is left over at the right and the bottom stays. Colour and fine texture are kept exactly; architecture is lost.
    """
    seed = int(random.integers(2**32))

    def shuffle(across: float) -> Tile:
        side = round(across)
        height, width = tile.shape[0] // side, tile.shape[1] // side
        if not (height and width):
            return tile.copy()
        cut = tile[: height * side, : width * side].reshape(side, height, side, width, 3)
        patches = cut.transpose(0, 2, 1, 3, 4).reshape(side * side, height, width, 3)
        mixed = patches[np.random.default_rng([seed, side]).permutation(side * side)]
        shuffled = tile.copy()
        whole = mixed.reshape(side, side, height, width, 3).transpose(0, 2, 1, 3, 4)
        shuffled[: height * side, : width * side] = whole.reshape(height * side, width * side, 3)
        return shuffled

    return shuffle


def scramble_phases(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    """Return the tile as a function of how far its Fourier phases are moved to random ones; the same for R, G and B.

    The power spectrum of each channel, and so its mean and its texture's grain, stays; where things are is lost.
    """
    spectrum = np.fft.rfft2(tile.astype(np.float64), axes=(0, 1))
    noise = np.angle(np.fft.rfft2(random.standard_normal(tile.shape[:2])))
    noise[0, 0] = 0.0

    def scramble(share: float) -> Tile:
        moved = spectrum * np.exp(1j * share * noise)[..., None]
        return to_tile(np.fft.irfft2(moved, s=tile.shape[:2], axes=(0, 1)).astype(np.float32))

    return scramble


def swap_tissue(tile: Tile, mpp: float, random: np.random.Generator, donor: Tile) -> Callable[[float], Tile]:
    """Return the tile as a function of the share of its area that another tissue takes.

    The area is where a smooth random field (Gaussian, 20 um) is highest; so a larger share covers the smaller one, and
    at 1 nothing of the tile is left. The edge is 2 px soft.
    """
    height, width = tile.shape[:2]
    noise = random.standard_normal((height, width)).astype(np.float32)
    sigma = max(min(SWAP_UM / mpp, max(height, width) / 4), 0.5)
    field = cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    rank = np.empty(field.size, np.int64)
    rank[np.argsort(-field, axis=None, kind="stable")] = np.arange(field.size)
    rank = rank.reshape(field.shape)

    def swap(share: float) -> Tile:
        if share >= 1:
            return donor.copy()
        covered = (rank < share * rank.size).astype(np.float32)
        soft = cv2.GaussianBlur(covered, (0, 0), 0.7)[..., None]
        return to_tile(tile + soft * (donor.astype(np.float32) - tile))

    return swap


NUCLEI_ERASED = register(
    Operation(
        name="nuclei-erased",
        family="must-react",
        role="must-react",
        parameter="share of nuclei",
        unit="",
        levels=(0.2, 0.4, 0.6, 0.8, 1.0),
        limits=(0.0, 1.0),
        path=erase_nuclei,
        describes="nuclei replaced by the tissue around them",
        misleads="tiles with few nuclei change little; on real tiles some nuclei are not found, and stay; the filled "
        "places are smoother than tissue",
    )
)
NUCLEI_DILATED = register(
    Operation(
        name="nuclei-dilated",
        family="must-react",
        role="must-react",
        parameter="outline moved out",
        unit="um",
        levels=(0.5, 1.0, 1.5, 2.0, 3.0),
        limits=(0.1, 20.0),
        path=resize_nuclei,
        describes="every nucleus larger",
        misleads="neighbours merge; tiles with few nuclei change little",
    )
)
NUCLEI_ERODED = register(
    Operation(
        name="nuclei-eroded",
        family="must-react",
        role="must-react",
        parameter="outline moved",
        unit="um",
        levels=(-0.5, -1.0, -1.5, -2.0, -3.0),
        limits=(-20.0, -0.1),
        path=resize_nuclei,
        describes="every nucleus smaller, its rim filled with the tissue around",
        misleads="small nuclei vanish at the last levels; tiles with few nuclei change little",
    )
)
PATCH_SHUFFLE = register(
    Operation(
        name="patch-shuffle",
        family="must-react",
        role="must-react",
        parameter="patches a side",
        unit="",
        levels=(2.0, 3.0, 4.0, 6.0, 8.0),
        limits=(2.0, 64.0),
        path=shuffle_patches,
        describes="cut into squares and put back at random: cells are kept, architecture is lost",
        misleads="seams are a cue of their own; in a sheet of equal cells little is lost",
    )
)
PHASE_SCRAMBLE = register(
    Operation(
        name="phase-scramble",
        family="must-react",
        role="must-react",
        parameter="share of the way to random phases",
        unit="",
        levels=(0.2, 0.4, 0.6, 0.8, 1.0),
        limits=(0.0, 1.0),
        path=scramble_phases,
        describes="Fourier phases moved to random ones: colour and grain are kept, every object is lost",
        misleads="the last levels look like no tissue: any encoder should react",
    )
)
TISSUE_SWAP = register(
    Operation(
        name="tissue-swap",
        family="must-react",
        role="must-react",
        parameter="share of the tile",
        unit="",
        levels=(0.1, 0.25, 0.5, 0.75, 1.0),
        limits=(0.001, 1.0),
        path=swap_tissue,
        describes="another kind of tissue in its place, taken from another tile and stained as this one",
        misleads="where no other tiles are given the other tissue is drawn, and then looks drawn; where they are, its "
        "kind is told by its nuclei alone, and two kinds with the same nuclei count as one",
        needs_donor=True,
    )
)
