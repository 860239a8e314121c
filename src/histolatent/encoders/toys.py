"""Encoders without trained weights: the floor that every trained encoder has to clear.

All five work in whole numbers as far as sums go (held in float32 or float64, below 2^24 and 2^53), so that a row does
not depend on its batch, on the order of summation, or on the machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np

from .._types import Tile, Tiles, Vectors
from ..errors import OptionError
from ..provenance import stream
from ..registry import Registry
from .card import EncoderCard, Preprocessing

JOINT_BITS, MARGINAL_BITS = 2, 4
OD_STEPS = 4096
CONV_WIDTHS = (3, 8, 16, 32)
CONV_LIMIT = 12
CONV_PX, PROJECTION_PX, PROJECTION_DIM = 64, 32, 128
CONSTANT_DIM = 64


@dataclass(frozen=True)
class ToyEncoder:
    """A NumPy function with a card."""

    card: EncoderCard
    function: Callable[[Tiles], Vectors]

    def forward(self, prepared: Tiles) -> Vectors:
        """Embed tiles `(n, h, w, 3)` as float32 `(n, d)`."""
        return self.function(prepared)


@dataclass(frozen=True)
class Toy:
    """How to build one weight-free encoder. `golden` holds for seed 0."""

    build: Callable[[int], Callable[[Tiles], Vectors]]
    dim: int
    revision: str
    preprocessing: Preprocessing
    seeded: bool
    golden: tuple[float, ...]
    notes: str


TOYS = Registry[Toy]("toy encoder")


def toy_encoder(name: str, *, seed: int = 0) -> ToyEncoder:
    """Build a weight-free encoder by name.

    >>> toy_encoder("constant").forward(np.zeros((2, 8, 8, 3), np.uint8))[:, :3]
    array([[0.125, 0.125, 0.125],
           [0.125, 0.125, 0.125]], dtype=float32)
    """
    toy = TOYS[name]
    if seed and not toy.seeded:
        raise OptionError(f"toy:{name} has no random weights, and takes no seed", received=seed)
    card = EncoderCard(
        name=f"toy:{name}" if not toy.seeded or seed == 0 else f"toy:{name}?seed={seed}",
        kind="toy",
        source=f"toy:{name}",
        dim=toy.dim,
        preprocessing=toy.preprocessing,
        revision=toy.revision,
        licence="Apache-2.0",
        settings={"seed": seed} if toy.seeded else {},
        golden=toy.golden if seed == 0 else None,
        notes=toy.notes,
    )
    return ToyEncoder(card, toy.build(seed))


def count_colours(tiles: Tiles) -> Vectors:
    r"""Return shares of pixels per colour cell: 4 x 4 x 4 joint cells, then 16 marginal bins each for R, G, B.

    The joint part sums to 1, and so does each marginal. Turning or shuffling the pixels changes nothing.

    >>> count_colours(np.zeros((1, 4, 4, 3), np.uint8)).sum()
    np.float32(4.0)
    """
    return np.stack([_colours(tile) for tile in tiles])


def summarise_optical_density(tiles: Tiles) -> Vectors:
    r"""Return moments of the optical density $-\ln(\max(I, 1) / 255)$.

    Columns: mean R, G, B; standard deviation R, G, B; skewness R, G, B (0 for a flat channel); covariance RG, RB, GB.

    >>> white = np.full((1, 8, 8, 3), 255, np.uint8)
    >>> float(abs(summarise_optical_density(white)).sum())
    0.0
    """
    return np.stack([_od_moments(tile) for tile in tiles])


def repeat_constant(tiles: Tiles) -> Vectors:
    """Return the same unit vector for each tile: perfectly invariant, and useless."""
    return np.full((len(tiles), CONSTANT_DIM), CONSTANT_DIM**-0.5, np.float32)


def project_pixels(tiles: Tiles, *, seed: int) -> Vectors:
    """Return a Gaussian projection of the centred pixels of a 32 x 32 thumbnail: it keeps distances, knows nothing."""
    flat = 2.0 * tiles.reshape(len(tiles), -1) - 255.0
    weights = _projection(seed)
    return (flat @ weights * (1 / (255 * 256 * np.sqrt(len(weights))))).astype(np.float32)


def convolve_randomly(tiles: Tiles, *, seed: int) -> Vectors:
    """Return mean and maximum over space of three random 3 x 3 convolutions (stride 2, ReLU) on a 64 x 64 thumbnail.

    About 0.8 million multiply-adds a tile. Between layers, activations are rounded down to steps and capped.
    """
    maps = tiles.astype(np.float32) - 128
    for weights, step, cap in zip(_filters(seed), (8, 16, 1), (1023, 4095, 2**23), strict=True):
        maps = np.clip(np.floor(_convolve(maps, weights) / step), 0, cap)
    flat = maps.reshape(len(tiles), -1, maps.shape[3])
    mean = flat.sum(axis=1, dtype=np.float64) / flat.shape[1]
    return (np.concatenate([mean, flat.max(axis=1)], axis=1) / 2**14).astype(np.float32)


def _colours(tile: Tile) -> np.ndarray:
    red, green, blue = (tile[..., channel].ravel() for channel in range(3))
    shift = 8 - JOINT_BITS
    cells = ((red >> shift) << 2 * JOINT_BITS) | ((green >> shift) << JOINT_BITS) | (blue >> shift)
    counts = [np.bincount(cells, minlength=8**JOINT_BITS)]
    counts += [np.bincount(band >> (8 - MARGINAL_BITS), minlength=2**MARGINAL_BITS) for band in (red, green, blue)]
    return (np.concatenate(counts) / red.size).astype(np.float32)


def _od_moments(tile: Tile) -> np.ndarray:
    table = _od_table()
    pixels = tile.reshape(-1, 3)
    count = len(pixels)
    histograms = np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)])
    mean = histograms @ table / count
    centred = table[None] - mean[:, None]
    variance = (histograms * centred**2).sum(axis=1) / count
    third = (histograms * centred**3).sum(axis=1) / count
    skew = third / (variance + OD_STEPS**-2) ** 1.5
    steps = np.ascontiguousarray((table * OD_STEPS)[pixels.T])
    products = np.array([steps[a] @ steps[b] for a, b in ((0, 1), (0, 2), (1, 2))]) / OD_STEPS**2 / count
    covariance = products - np.array([mean[0] * mean[1], mean[0] * mean[2], mean[1] * mean[2]])
    return np.concatenate([mean, np.sqrt(variance), skew, covariance]).astype(np.float32)


@lru_cache(maxsize=1)
def _od_table() -> np.ndarray:
    """Optical density of the 256 grey levels, in whole steps of 1/4096, so that sums over pixels are exact."""
    levels = np.maximum(np.arange(256), 1) / 255
    return np.round(-np.log(levels) * OD_STEPS) / OD_STEPS + 0.0


@lru_cache(maxsize=8)
def _projection(seed: int) -> np.ndarray:
    rng = stream(seed, "toy", "random-projection")
    return np.round(256 * rng.standard_normal((PROJECTION_PX**2 * 3, PROJECTION_DIM)))


@lru_cache(maxsize=8)
def _filters(seed: int) -> tuple[np.ndarray, ...]:
    """Weights (9 * channels in, channels out), whole numbers, so that float32 sums stay exact (below 2^24)."""
    rng = stream(seed, "toy", "random-conv")
    shapes = [(9 * before, after) for before, after in pairwise(CONV_WIDTHS)]
    draws = [np.round(4 * rng.standard_normal(shape)) for shape in shapes]
    return tuple(np.clip(draw, -CONV_LIMIT, CONV_LIMIT).astype(np.float32) for draw in draws)


def _convolve(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Convolve `(n, h, w, c)` with 3 x 3 filters, stride 2, a border of zeros."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    n, height, width, channels = maps.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    patches = np.empty((n, rows, columns, 9, channels), np.float32)
    for tap in range(9):
        top, left = divmod(tap, 3)
        patches[..., tap, :] = padded[:, top : top + 2 * rows - 1 : 2, left : left + 2 * columns - 1 : 2]
    return (patches.reshape(-1, 9 * channels) @ weights).reshape(n, rows, columns, -1)


def _thumbnail(px: int) -> Preprocessing:
    return Preprocessing(resize="squash", input_px=px, interpolation="bilinear")


TOYS.register(
    "colour-histogram",
    Toy(
        build=lambda seed: count_colours,
        dim=8**JOINT_BITS + 3 * 2**MARGINAL_BITS,
        revision="1",
        preprocessing=Preprocessing(),
        seeded=False,
        golden=(0.014987245, 0.014508928, 0.015844228, 0.015784439, 0.016521843, 0.0158243, 0.016123246, 0.016202966),
        notes="Colour only, no shape. A trained encoder that does not beat it has learned colour.",
    ),
)
TOYS.register(
    "od-moments",
    Toy(
        build=lambda seed: summarise_optical_density,
        dim=12,
        revision="1",
        preprocessing=Preprocessing(),
        seeded=False,
        golden=(1.0015302, 1.0000395, 0.9989248, 0.9933702, 0.9933952, 0.9918676, 1.8229362, 1.8249202),
        notes="Twelve moments of the optical density: stain strength and hue, no shape.",
    ),
)
TOYS.register(
    "random-conv",
    Toy(
        build=lambda seed: partial(convolve_randomly, seed=seed),
        dim=2 * CONV_WIDTHS[-1],
        revision="1",
        preprocessing=_thumbnail(CONV_PX),
        seeded=True,
        golden=(0.032322884, 0.1147728, 0.00082683563, 0.014398575, 0.09052086, 0.389122, 0.15475368, 0.004761696),
        notes="Three random convolutions: texture and colour, nothing learned.",
    ),
)
TOYS.register(
    "constant",
    Toy(
        build=lambda seed: repeat_constant,
        dim=CONSTANT_DIM,
        revision="1",
        preprocessing=Preprocessing(),
        seeded=False,
        golden=(0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125),
        notes="The same vector for each tile. An audit must fail it.",
    ),
)
TOYS.register(
    "random-projection",
    Toy(
        build=lambda seed: partial(project_pixels, seed=seed),
        dim=PROJECTION_DIM,
        revision="1",
        preprocessing=_thumbnail(PROJECTION_PX),
        seeded=True,
        golden=(0.067597985, -0.7603973, 0.24208714, -0.25728342, -0.5741716, 0.10970777, 0.19462438, 0.22884789),
        notes="A projection of the pixels. An audit must fail it.",
    ),
)
