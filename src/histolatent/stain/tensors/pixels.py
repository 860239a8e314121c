"""What a batch may be, said explicitly: uint8 or float in 0 to 1, channels first or last. Nothing is guessed."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped

from ...errors import InputError, OptionError

Layout = Literal["NCHW", "NHWC"]
#: Float planes to compute with: levels, densities, amounts, components. `n` is 1 where it is the same for all tiles.
Planes = Float[torch.Tensor, "_n _c _h _w"]

#: Pixels of a block on an accelerator: 20 tiles of 224, 13 MB a float32 copy.
BLOCK_PIXELS = 2**20
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_batch(batch: Any, layout: str = "NCHW", *, check: bool = True) -> Shaped[torch.Tensor, "_n 3 _h _w"]:
    """Return a view of a batch with channels first; nothing is copied, scaled or changed.

    `check` looks whether a float batch is finite and lies in 0 to 1. That reads every value, and waits for the
    accelerator; uint8 needs no such look. Type and shape are always checked, which costs nothing.

    Raises
    ------
    InputError
        If it is not a tensor of RGB tiles, not uint8 or float, without pixels, not finite, or a float batch leaves 0
        to 1.
    OptionError
        If the layout is unknown.
    """
    if layout not in ("NCHW", "NHWC"):
        raise OptionError("unknown layout of a batch", received=layout, valid="NCHW, NHWC")
    if not isinstance(batch, torch.Tensor):
        fix = "torch.from_numpy(batch)" if isinstance(batch, np.ndarray) else "torch.stack(tiles)"
        raise InputError("a batch is a torch tensor", received=type(batch).__name__, fix=fix)
    _check_shape(tuple(batch.shape), layout)
    if batch.dtype != torch.uint8 and batch.dtype not in FLOATS:
        raise InputError(
            "the type of a batch is not usable",
            received=batch.dtype,
            valid="uint8 from 0 to 255, or float from 0 to 1",
            fix="convert levels of 0 to 255 to torch.uint8; divide those of 16 bits by 257 first, and round",
        )
    if check and batch.dtype != torch.uint8 and batch.numel():
        _check_values(batch.detach())
    return batch if layout == "NCHW" else batch.permute(0, 3, 1, 2)


def to_levels(planes: Shaped[torch.Tensor, "_n 3 _h _w"]) -> Planes:
    """Return levels 0 to 255 to compute with: float64 stays float64, everything else becomes float32."""
    wide = planes.to(torch.float64 if planes.dtype == torch.float64 else torch.float32)
    return (wide if planes.dtype == torch.uint8 else wide * 255).contiguous()


def from_levels(levels: Planes, dtype: torch.dtype) -> Shaped[torch.Tensor, "_n 3 _h _w"]:
    """Return levels in the type of a batch: uint8 rounded half to even, float divided by 255; cut to the range."""
    if dtype == torch.uint8:
        return levels.clamp(0, 255).round().to(torch.uint8)
    return (levels / 255).clamp(0, 1).to(dtype)


def in_layout(planes: Shaped[torch.Tensor, "_n _c _h _w"], layout: str) -> Shaped[torch.Tensor, "_n _a _b _d"]:
    """Return planes in a layout."""
    return planes if layout == "NCHW" else planes.permute(0, 2, 3, 1).contiguous()


def blocks(tiles: Sequence[int], planes: Shaped[torch.Tensor, "_n _c _h _w"]) -> Iterator[list[int]]:
    """Cut tiles into those computed together: as many as fit on an accelerator, single ones on a CPU.

    Vectorised loops of a CPU end in a scalar one, whose last bit may differ. Where it falls depends on how much is
    computed at once, so a tile would depend on its batch-mates. One tile at a time also stays in the cache.
    """
    together = 1 if planes.device.type == "cpu" else max(1, BLOCK_PIXELS // (planes.shape[2] * planes.shape[3]))
    for first in range(0, len(tiles), together):
        yield list(tiles[first : first + together])


def numbers(values: np.ndarray, like: Planes) -> Float[torch.Tensor, "..."]:
    """Return small NumPy arrays of numbers on the device and in the type of planes, without waiting for the device."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.dtype).to(like.device, non_blocking=True)


def mix(
    planes: Planes, matrix: Float[np.ndarray, "_m _k 3"], shift: Float[np.ndarray, "_m _k"] | None = None
) -> Planes:
    """Return `matrix @ planes + shift` per pixel, `(n, k, h, w)`; `m` is 1 or the number of tiles.

    Written out: a matrix product would be rounded to ten bits where TF32 is allowed, and would depend on the batch.
    """
    entries = numbers(matrix, planes)[..., None, None]
    first, second, third = planes.split(1, dim=1)
    mixed = first * entries[:, :, 0]
    if shift is not None:
        mixed = mixed + numbers(shift, planes)[..., None, None]
    return mixed.addcmul(second, entries[:, :, 1]).addcmul(third, entries[:, :, 2])


def _check_values(batch: torch.Tensor) -> None:
    low, high = (float(value) for value in torch.stack(torch.aminmax(batch)).tolist())
    if not np.isfinite([low, high]).all():
        count = int((~torch.isfinite(batch)).sum())
        raise InputError("a batch holds values that are not finite", received=f"{count} of them")
    if low < 0 or high > 1:
        raise InputError(
            "a float batch must lie from 0 to 1",
            received=f"{low:.4g} to {high:.4g}",
            fix="divide levels by 255, or pass them as uint8",
        )


def _check_shape(shape: tuple[int, ...], layout: str) -> None:
    axis, other = (1, 3) if layout == "NCHW" else (3, 1)
    if len(shape) == 4 and shape[axis] == 3 and min(shape[1:]) > 0:
        return
    fix = None
    if len(shape) == 3:
        fix = "one tile is a batch of one: tile[None]"
    elif len(shape) == 4 and shape[other] == 3:
        fix = f'pass layout="{"NHWC" if layout == "NCHW" else "NCHW"}"'
    elif len(shape) == 4 and shape[axis] == 1:
        fix = "stain is colour: a grey tile holds none"
    elif len(shape) == 4 and shape[axis] == 4:
        fix = "composite the alpha channel on white, and drop it"
    valid = "(n, 3, h, w)" if layout == "NCHW" else "(n, h, w, 3)"
    raise InputError("a batch must be RGB tiles with at least one pixel", received=shape, valid=valid, fix=fix)
