"""Optical density and amounts of stain of batches of torch tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ...errors import OptionError
from ..model import StainModel
from ..vahadane import CODE_PENALTY
from ..vectors import complete
from .pixels import Planes, blocks, mix, numbers, read_batch, to_levels


def optical_density(
    batch: torch.Tensor, white: Any, offset: int = 0, *, layout: str = "NCHW", check: bool = True
) -> Float[torch.Tensor, "n 3 h w"]:
    """Return `-ln(max(I + offset, 1) / white)` with channels first, `(n, 3, h, w)`; brighter than white is negative.

    `I` are levels 0 to 255, `white` one level or three. float32, or float64 for a float64 batch: half precision would
    lose pale tissue. Differentiable for float batches; the gradient is zero where `I + offset` is below 1.

    Raises
    ------
    InputError
        If the batch is not usable (see `read_batch`).
    OptionError
        If white is not one or three levels from 1 to 256, or the offset not 0 or 1.

    >>> optical_density(torch.full((1, 3, 1, 1), 240, dtype=torch.uint8), 240).ravel().tolist()
    [0.0, 0.0, 0.0]
    """
    level = np.broadcast_to(np.asarray(white, np.float64), (3,)) if np.shape(white) in ((), (3,)) else np.zeros(3)
    if not ((level >= 1) & (level <= 256)).all():
        raise OptionError("white is not one or three levels", received=white, valid="1 to 256")
    if offset not in (0, 1):
        raise OptionError("the offset of a density is unknown", received=offset, valid="0, 1")
    planes = read_batch(batch, layout, check=check)
    return _by_blocks(planes, lambda levels: _density(levels, level, offset))


def separate(
    batch: torch.Tensor, model: StainModel, *, layout: str = "NCHW", check: bool = True
) -> Float[torch.Tensor, "n 3 h w"]:
    """Return the amount of each stain per pixel, channels first, in units of optical density along its unit vector.

    With two stains the third plane is the residual along their cross product. Amounts are least squares and keep their
    sign; those of a Vahadane model are sparse and not negative, and the residual is the same. float32, or float64 for a
    float64 batch. Differentiable for float batches; sparse amounts have a gradient of zero where they are zero.

    Misleads if tiles of several slides share the model of one: amounts are relative to its background and vectors.

    Raises
    ------
    InputError
        If the batch is not usable (see `read_batch`).
    """
    planes = read_batch(batch, layout, check=check)
    return _by_blocks(planes, lambda levels: _amounts(levels, model))


def logarithms(levels: Planes, offset: int) -> Planes:
    """Return `ln(max(I + offset, 1))`."""
    return (levels + offset if offset else levels).clamp_min(1).log()


def sparse_planes(
    density: Planes, vectors: Float[np.ndarray, "_m 2 3"], penalty: float = CODE_PENALTY
) -> tuple[Planes, Planes]:
    """Return the sparse non-negative amounts of two stains, each `(n, 1, h, w)`. See `vahadane.sparse_codes`."""
    overlap = np.einsum("mc,mc->m", vectors[:, 0], vectors[:, 1])
    shared = numbers(overlap, density)[:, None, None, None]
    apart = numbers(1 - overlap**2, density)[:, None, None, None]
    alone, other = (mix(density, vectors) - penalty).split(1, dim=1)
    both, rest = (alone - shared * other) / apart, (other - shared * alone) / apart
    # Where one would be negative, the other is there alone.
    first = torch.where(rest < 0, alone.clamp_min(0), both).clamp_min(0)
    second = torch.where(both < 0, other.clamp_min(0), rest).clamp_min(0)
    return first, second


def _density(levels: Planes, white: np.ndarray, offset: int) -> Planes:
    return numbers(np.log(white)[None], levels)[..., None, None] - logarithms(levels, offset)


def _amounts(levels: Planes, model: StainModel) -> Planes:
    density = _density(levels, np.array(model.white), model.offset)
    amounts = mix(density, np.linalg.inv(complete(model.rows)).T[None])
    if model.method != "vahadane":
        return amounts
    return torch.cat([*sparse_planes(density, model.rows[None]), amounts[:, 2:]], dim=1)


def _by_blocks(planes: torch.Tensor, compute: Callable[[Planes], Planes]) -> Planes:
    done = [compute(to_levels(planes[block[0] : block[-1] + 1])) for block in blocks(range(len(planes)), planes)]
    return torch.cat(done) if done else to_levels(planes)
