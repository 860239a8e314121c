"""Fit a virtual scanner to tiles of the same tissue from two scanners."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float

from .._types import Tile
from ..errors import InputError
from ..stain.manifold.camera import blur, through_jpeg
from .glass import slide_white
from .operation import ASSUMED_MPP
from .scanner import IDENTITY, Matrix3, Scanner, Three, scan

#: Levels beyond these may have been cut off by the sensor.
CUT_OFF = (4.0, 250.0)
BLOCK = 8
PIXELS = 40_000
FEWEST_BLOCKS = 30
GREY = np.array([0.299, 0.587, 0.114], np.float32)
BLURS_UM = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)
GAMMAS = (0.8, 1.0, 1.25)
QUALITIES = range(20, 97)
#: A tile that was a JPEG changes this much less when compressed at its own quality than at those beside it.
JPEG_DIP = 0.6
NOISE_STEPS = 14
#: What is left when nothing but rounding is, in grey levels: then there is neither noise nor JPEG to find.
ROUNDED = 0.6


@dataclass(frozen=True)
class Calibration:
    """A scanner fitted to pairs of tiles, and how well it explains them.

    `before` and `after` are root mean square differences in grey levels between the second scanner's tiles and the
    first one's: as they are, and shown by `scanner` without its noise and JPEG. `white` is the level of empty slide of
    the first scanner that `scan` needs to give these pictures.
    """

    scanner: Scanner
    white: Three
    before: float
    after: float
    tiles: int


def fit_scanner(pairs: Sequence[tuple[Tile, Tile]], *, mpp: float | None = None) -> Calibration:
    r"""Fit how a second scanner shows what a first one saw, from pairs of tiles that lie on one another pixel by pixel.

    For a blur and a gamma, the matrix of colour and light is a least-squares fit of
    $(y / 255)^\gamma \cdot 255 = A\, (g * x)$, with `g` a Gaussian; blur and gamma are those with the least squared
    difference in grey levels. The JPEG quality is that at which compressing the second tiles once more changes them
    least, if it stands out. The noise is what, added by the fitted scanner, gives the scatter that is left.

    Deterministic. Needs some seconds for ten tiles of 256 px. Three pairs with tissue and empty slide are enough.

    Misleads where the pairs do not lie on one another to less than a pixel: what is shifted reads as blur and noise.
    Blur and noise are beside those of the first scanner: where it is the softer one, they are 0. JPEG is found only
    where tiles are cut along the blocks of 8 px of their file, and the stronger it is, the more noise is found
    beside it.

    Raises
    ------
    InputError
        If there are no pairs, two tiles of one differ in size, or hardly any pixel is neither black nor white.
    OptionError
        If `mpp` is no positive number, or the scanner found lies beyond the range of a `Scanner`.
    """
    if not pairs:
        raise InputError("no pairs of tiles to fit a scanner to", fix="give at least one; three are better")
    for number, (first, second) in enumerate(pairs):
        if first.shape != second.shape:
            raise InputError(
                f"the tiles of pair {number} differ in size",
                received=f"{first.shape}, {second.shape}",
                valid="the same",
            )
    fit = _Fit(pairs, mpp or ASSUMED_MPP)
    (blur_um, gamma), matrix = fit.search()
    white = np.median([slide_white(first) for first, _ in pairs], axis=0).astype(np.float64)
    lit = matrix @ white
    shares = matrix * white[None, :] / lit[:, None]
    level: Three = tuple(white.tolist())  # pyright: ignore[reportAssignmentType]
    scanner = Scanner(blur_um, _rows(shares), tuple((lit / white).tolist()), 0.0, gamma, None)  # pyright: ignore[reportArgumentType]
    before = math.sqrt(np.mean([np.mean((b.astype(np.float32) - a) ** 2) for a, b in pairs]))
    after = math.sqrt(np.mean([np.mean(_left(a, b, scanner, level, mpp) ** 2) for a, b in pairs]))
    if after < ROUNDED:
        return Calibration(scanner, level, before, after, len(pairs))
    quality = _jpeg_quality([second for _, second in pairs])
    noise = _noise(pairs, replace(scanner, jpeg_quality=quality), level, mpp)
    return Calibration(replace(scanner, noise_levels=noise, jpeg_quality=quality), level, before, after, len(pairs))


class _Fit:
    """Pixels and blocks of all pairs, and what a blur and a gamma leave unexplained of them.

    The matrix is fitted to means over blocks of 8 x 8 px: JPEG keeps these, noise does not move them, and since both
    sides are light, the mean of what the matrix gives is what it gives of the mean. Blur shows in the grey of single
    pixels, of which JPEG keeps more than of their colour.
    """

    def __init__(self, pairs: Sequence[tuple[Tile, Tile]], mpp: float) -> None:
        self.mpp = mpp
        self.first = [first.astype(np.float32) for first, _ in pairs]
        self.second = [second.astype(np.float32) for _, second in pairs]
        low, high = CUT_OFF
        usable = [np.all((b > low) & (b < high) & (a > low) & (a < 255), axis=2, keepdims=True) for a, b in pairs]
        self.pixels = np.flatnonzero(np.concatenate([mask.ravel() for mask in usable]))
        self.blocks = np.flatnonzero(np.concatenate([_blocks(mask)[:, 0] == 1 for mask in usable]))
        if len(self.blocks) < FEWEST_BLOCKS:
            raise InputError(
                "hardly any part of the pairs is neither black nor white",
                received=f"{len(self.blocks)} blocks of 8 x 8 px",
                valid=f"{FEWEST_BLOCKS} or more",
                fix="give more pairs, with tissue on them",
            )
        self.pixels = self.pixels[:: max(1, len(self.pixels) // PIXELS)]
        self.grey = self._pixels([tile @ GREY for tile in self.second])
        self.means = self._blocks(self.second)

    def _pixels(self, planes: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([plane.ravel() for plane in planes])[self.pixels].astype(np.float64)

    def _blocks(self, tiles: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([_blocks(tile) for tile in tiles])[self.blocks].astype(np.float64)

    def light(self, blur_um: float) -> list[np.ndarray]:
        """Return the tiles of the first scanner under a blur."""
        return [blur(tile, blur_um / self.mpp) if blur_um > 0 else tile for tile in self.first]

    def solve(self, light: Sequence[np.ndarray], gamma: float) -> tuple[float, Float[np.ndarray, "3 3"]]:
        """Return the mean squared difference in grey levels, and the matrix on columns that gives it."""
        target = self._blocks([_bent(tile, gamma) for tile in self.second])
        matrix = np.linalg.lstsq(self._blocks(light), target, rcond=None)[0]
        shown = [_bent(tile @ matrix.astype(np.float32), 1 / gamma) for tile in light]
        apart = self._pixels([tile @ GREY for tile in shown]) - self.grey
        return float(np.mean(apart**2) + np.mean((self._blocks(shown) - self.means) ** 2)), matrix.T

    def search(self) -> tuple[tuple[float, float], Float[np.ndarray, "3 3"]]:
        """Return the best blur and gamma, with their matrix: on a grid, then by the simplex method from there."""
        from scipy.optimize import minimize

        grid = []
        for blur_um in BLURS_UM:
            light = self.light(blur_um)
            grid += [(self.solve(light, gamma)[0], blur_um, gamma) for gamma in GAMMAS]
        _, blur_um, gamma = min(grid)

        def loss(at: np.ndarray) -> float:
            return self.solve(self.light(max(float(at[0]), 0.0)), math.exp(float(at[1])))[0]

        start = np.array([max(blur_um, 0.02), math.log(gamma)])
        simplex = start + np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.08]])
        found = minimize(
            loss, start, method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 2e-3, "fatol": 1e-4}
        ).x
        best_um, best = max(float(found[0]), 0.0), math.exp(float(found[1]))
        if self.solve(self.light(0.0), best)[0] <= 1.001 * self.solve(self.light(best_um), best)[0]:
            best_um = 0.0  # a blur of a fifth of a pixel is none
        return (best_um, best), self.solve(self.light(best_um), best)[1]


def _blocks(tile: np.ndarray) -> np.ndarray:
    """Return means over the whole blocks of 8 x 8 px, `(blocks, channels)`."""
    rows, columns, channels = tile.shape[0] // BLOCK, tile.shape[1] // BLOCK, tile.shape[2]
    cut = tile[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, channels)
    return cut.mean(axis=(1, 3)).reshape(-1, channels)


def _bent(tile: np.ndarray, exponent: float) -> np.ndarray:
    return 255.0 * np.clip(tile / np.float32(255.0), 1e-6, 1.0) ** np.float32(exponent)


def _rows(shares: Float[np.ndarray, "3 3"]) -> Matrix3:
    rows = shares / shares.sum(axis=1, keepdims=True)
    return IDENTITY if np.allclose(rows, np.eye(3), atol=1e-9) else tuple(map(tuple, rows.tolist()))  # pyright: ignore[reportReturnType]


def _jpeg_quality(tiles: Sequence[Tile]) -> int | None:
    """Return the quality at which the tiles hardly change when compressed again, or None if no quality stands out."""
    change = np.array(
        [np.mean([cv2.absdiff(through_jpeg(tile, quality), tile).mean() for tile in tiles]) for quality in QUALITIES]
    )
    usual = np.array([np.median(change[max(0, i - 6) : i + 7]) for i in range(len(change))])
    dip = change / np.maximum(usual, 1e-9)
    best = int(dip.argmin())
    return QUALITIES[best] if dip[best] < JPEG_DIP else None


def _left(first: Tile, second: Tile, scanner: Scanner, white: Three, mpp: float | None) -> np.ndarray:
    return second.astype(np.float32) - scan(first, scanner, tile_id="", mpp=mpp, white=white)


def _noise(
    pairs: Sequence[tuple[Tile, Tile]], scanner: Scanner, white: Three, mpp: float | None, most: float = 20.0
) -> float:
    """Return the noise with which the fitted scanner scatters as far as the second one does, by bisection."""
    plain = replace(scanner, jpeg_quality=None)
    still = [scan(first, plain, tile_id="", mpp=mpp, white=white) for first, _ in pairs]
    wanted = _scatter([second for _, second in pairs], still)

    def reached(noise: float) -> float:
        noisy = replace(scanner, noise_levels=noise)
        shown = [scan(first, noisy, tile_id=str(i), mpp=mpp, white=white) for i, (first, _) in enumerate(pairs)]
        return _scatter(shown, still)

    if reached(0.0) >= wanted:
        return 0.0
    low, high = 0.0, most
    for _ in range(NOISE_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < wanted else (low, middle)
    return (low + high) / 2


def _scatter(shown: Sequence[Tile], still: Sequence[Tile]) -> float:
    """Return the standard deviation of the difference, by its median, so that what does not lie on one another counts
    less."""
    apart = np.concatenate([(a.astype(np.float32) - b).ravel() for a, b in zip(shown, still, strict=True)])
    return float(np.mean(np.minimum(np.abs(apart), 3 * (np.median(np.abs(apart)) + 1))))
