"""How good a model's tiles are: pixel by pixel for those that come back, as a set for those that are drawn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from ..._types import Tiles
from ...distances import gaussian_w2_squared
from ...encoders import Encoder, encode
from ...errors import InputError
from ...images.similarity import signal_to_noise, structural_similarity
from ...provenance import stream

#: Halves of the real tiles that the floor of the Frechet distance is taken from.
HALVES = 20
FEWEST = 20
Some = UInt8[np.ndarray, "_m _h _w 3"]


@dataclass(frozen=True)
class Frechet:
    """The squared Frechet distance of made tiles from real ones in an encoder's space, beside its floor.

    `value` is between as many made tiles as half of the real ones, and a half of the real ones; `floor` is the median
    between two halves of the real ones, and `floor_p95` its 95th percentile: what real tiles differ by among
    themselves, in as many of them.
    """

    value: float
    floor: float
    floor_p95: float
    tiles: int
    encoder: str


@dataclass(frozen=True)
class Quality:
    """`psnr` in dB and `ssim` of tiles that were decoded from their own vectors; `blurred` is the SSIM of a mean tile.

    A model is worth nothing that does not beat `blurred`: the SSIM of each tile with the mean of all.
    """

    psnr: float
    ssim: float
    blurred: float
    tiles: int


def judge_reconstruction(real: Tiles, made: Some) -> Quality:
    """Compare tiles with what was decoded from their vectors; both `(n, h, w, 3)`, means over tiles.

    Misleads: both reward blur. A decoder that draws a nucleus a little beside its place scores worse than one that
    draws none.

    Raises
    ------
    InputError
        If sizes differ, there are none, or tiles are smaller than 16 px.
    """
    if real.shape != made.shape or len(real) == 0 or min(real.shape[1:3]) < 16:
        raise InputError("tiles to compare are of one number and size", received=(real.shape, made.shape))
    rows: Int[np.ndarray, " _n"] = np.arange(len(real))
    both = np.concatenate([real, made, np.broadcast_to(real.mean(axis=0), real.shape)]).astype(np.float32)
    noise = signal_to_noise(real, made)
    return Quality(
        float(np.mean(noise[np.isfinite(noise)])) if np.isfinite(noise).any() else float("inf"),
        float(structural_similarity(both, rows, rows + len(real)).mean()),
        float(structural_similarity(both, rows, rows + 2 * len(real)).mean()),
        len(real),
    )


def judge_samples(real: Tiles, made: Some, judge: Encoder, *, seed: int = 0) -> Frechet:
    """Compare drawn tiles with real ones as sets, in the space of an encoder that neither was trained with.

    Misleads: it is large where tiles are few (see `gaussian_w2_squared`), which is what the floor is for; and it does
    not see that a model only repeats tiles that it was trained on: look at the nearest real tiles.

    Raises
    ------
    InputError
        If there are fewer than 40 real tiles, or fewer made ones than half of the real ones.
    """
    half = len(real) // 2
    if half < FEWEST or len(made) < half:
        raise InputError(
            "too few tiles to compare as sets",
            received=f"{len(real)} real, {len(made)} made",
            valid=f"{2 * FEWEST} real ones, and half as many made",
        )
    true, drawn = encode(judge, real), encode(judge, made[:half])
    floors, values = [], []
    for number in range(HALVES):
        order = stream(seed, "halves", number).permutation(len(true))
        first, second = true[order[:half]], true[order[half : 2 * half]]
        floors.append(gaussian_w2_squared(first, second))
        values.append(gaussian_w2_squared(first, drawn))
    return Frechet(
        float(np.median(values)), float(np.median(floors)), float(np.quantile(floors, 0.95)), half, judge.card.name
    )
