"""The grid on which a tile is drawn, in um, and random fields with a stated scale on it."""

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float32

Field = Float32[np.ndarray, "_ _"]

#: Working pixels are at most this wide; finer than a scanner's pixel, so that edges are anti-aliased.
STEP_UM = 0.3
#: Drawn around the tile and cut off, so that what lies across the border is drawn too.
MARGIN_UM = 5.0
#: Compartments are smooth: their distances are computed on a coarser grid than the tissue is painted on.
COARSE_UM = 1.0
LARGEST_PX = 4096
#: Distance to a compartment that a tile does not have.
FAR_UM = 40.0
#: Lattice cells are first drawn this wide, in pixels, when they are much wider.
FINE_PX = 8


@dataclass(frozen=True)
class Canvas:
    """A square working grid around one tile; (0, 0) um is the tile's top left corner."""

    tile_px: int
    mpp: float

    @cached_property
    def factor(self) -> int:
        """Working pixels per tile pixel."""
        return max(1, min(math.ceil(self.mpp / STEP_UM), LARGEST_PX // self.tile_px))

    @cached_property
    def step(self) -> float:
        """Width of a working pixel in um."""
        return self.mpp / self.factor

    @cached_property
    def margin(self) -> int:
        """Working pixels drawn beyond each side of the tile."""
        return math.ceil(MARGIN_UM / self.step)

    @cached_property
    def size(self) -> int:
        """Working pixels per side, margins included."""
        return self.tile_px * self.factor + 2 * self.margin

    @cached_property
    def low(self) -> float:
        """The least coordinate on the grid, in um; the greatest is `high`."""
        return -self.margin * self.step

    @cached_property
    def high(self) -> float:
        """The greatest coordinate on the grid, in um."""
        return (self.size - self.margin) * self.step

    @property
    def tile_um(self) -> float:
        """Width of the tile in um."""
        return self.tile_px * self.mpp

    def axis(self) -> Float32[np.ndarray, " s"]:
        """Return the um coordinates of working pixel centres along one side."""
        return ((np.arange(self.size, dtype=np.float32) + 0.5 - self.margin) * self.step).astype(np.float32)

    def coarse_axis(self) -> Float32[np.ndarray, " c"]:
        """Return the um coordinates of the coarse grid's centres along one side."""
        n = math.ceil((self.high - self.low) / COARSE_UM)
        width = (self.high - self.low) / n
        return (self.low + (np.arange(n, dtype=np.float32) + 0.5) * width).astype(np.float32)

    def refine(self, coarse: Field) -> Field:
        """Bring a field from the coarse grid to the working grid."""
        return cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_CUBIC)

    def sample(self, field: Field, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the values of a field (coarse or fine) at points in um; points outside take the border's value."""
        n = field.shape[0]
        scale = n / (self.high - self.low)
        column = np.clip(((x - self.low) * scale).astype(int), 0, n - 1)
        row = np.clip(((y - self.low) * scale).astype(int), 0, n - 1)
        return field[row, column]

    def crop(self, field: Field) -> Float32[np.ndarray, "h w"]:
        """Cut the margins off and average working pixels to tile pixels."""
        inner = field[self.margin : self.size - self.margin, self.margin : self.size - self.margin]
        if self.factor == 1:
            return np.ascontiguousarray(inner)
        return cv2.resize(inner, (self.tile_px, self.tile_px), interpolation=cv2.INTER_AREA)


def smooth_noise(rng: np.random.Generator, size: int, scale: float, stretch: float = 1.0) -> Field:
    """Return band-limited noise of about unit variance, `size` x `size`.

    White noise on a lattice of `scale` pixels (times `stretch` along columns), cubic interpolation, random phase.
    """
    if stretch == 1.0 and scale >= 2 * FINE_PX:
        # A field this smooth loses nothing when it is drawn on fewer pixels first.
        coarser = int(scale // FINE_PX)
        n = math.ceil(size / coarser) + 1
        grown = cv2.resize(
            smooth_noise(rng, n, scale / coarser), (n * coarser, n * coarser), interpolation=cv2.INTER_CUBIC
        )
        return grown[:size, :size]
    return lattice_noise(rng, (size, size), (scale, scale * stretch))


def lattice_noise(rng: np.random.Generator, shape: tuple[int, int], scales: tuple[float, float]) -> Field:
    """Return noise of the given shape; `scales` are the lattice's pixels per row and per column."""
    scales = (max(scales[0], 1.0), max(scales[1], 1.0))
    rows, columns = (math.ceil(n / scale) + 3 for n, scale in zip(shape, scales, strict=True))
    white = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(1.25)
    phase = rng.random(2)
    grown = cv2.resize(
        white, (math.ceil(columns * scales[1]), math.ceil(rows * scales[0])), interpolation=cv2.INTER_CUBIC
    )
    top, left = int((phase[0] + 1) * scales[0]), int((phase[1] + 1) * scales[1])
    return grown[top : top + shape[0], left : left + shape[1]]


def step_up(field: Field, low: float, high: float) -> Field:
    """Return the smooth step from 0 at `low` to 1 at `high` (either order)."""
    t = np.clip((field - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return t * t * (np.float32(3.0) - np.float32(2.0) * t)


def soften(field: Field, sigma_px: float) -> Field:
    """Return the field after a Gaussian blur."""
    return cv2.GaussianBlur(field, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT)


def patch(canvas: Canvas, rng: np.random.Generator, share: float, scale_um: float) -> Field:
    """Return a smooth random region that covers `share` of the tile, as a distance in um (negative inside)."""
    axis = canvas.coarse_axis()
    noise = -smooth_noise(rng, len(axis), scale_um) + 0.16 * smooth_noise(rng, len(axis), scale_um / 4)
    on_tile = (axis >= 0) & (axis < canvas.tile_um)
    level = np.quantile(noise[np.ix_(on_tile, on_tile)], min(max(share, 0.0), 1.0))
    return ((noise - level) * (scale_um / 2.2)).astype(np.float32)


def hex_points(canvas: Canvas, spacing: float, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Return points (n, 2) in um on a jittered hexagonal grid with random phase, over the whole canvas and a rim."""
    rows = math.ceil((canvas.high - canvas.low) / (spacing * 0.866)) + 3
    columns = math.ceil((canvas.high - canvas.low) / spacing) + 3
    j, i = np.mgrid[0:rows, 0:columns]
    x = (i + 0.5 * (j % 2)) * spacing
    y = j * spacing * 0.866
    points = np.stack([x.ravel(), y.ravel()], 1) + canvas.low - 1.5 * spacing
    points += rng.random(2) * spacing + rng.normal(0, jitter * spacing, points.shape)
    reach = 10.0
    keep = ((points > canvas.low - reach) & (points < canvas.high + reach)).all(1)
    return points[keep]
