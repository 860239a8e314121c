"""Views of all processes in every process, with gradients, so that a loss sees the whole batch."""

from typing import Any

import torch
import torch.distributed as distributed
from jaxtyping import Float, Int, Shaped
from torch.autograd.function import once_differentiable

from ..errors import InputError


def gather(z: Shaped[torch.Tensor, "..."]) -> Float[torch.Tensor, "_v _n _d"]:
    """Return the views `(v, n, d)` of every process as `(v, n * world, d)`, tiles in the order of the ranks.

    Every process gets the same. Without a process group, or with one process, `z` itself is returned. All processes
    must call it, and run backward through it, equally often.

    The gradient is that of the sum over ranks of what each rank computes from the gathered views. So if each rank
    computes the same loss and gradients of weights are then averaged over ranks, as DDP and Fabric do, each rank holds
    the gradient that one process with all tiles would have. If the losses of ranks differ, it is that of their mean.
    Gradients are summed in float32 or wider.

    Raises
    ------
    InputError
        In every process, if shapes differ between processes: naming the shape of each rank.
    """
    if z.ndim != 3 or not z.is_floating_point():
        raise InputError(
            "only projections are gathered", received=f"{z.dtype} {tuple(z.shape)}", valid="floats of shape (v, n, d)"
        )
    if _world() == 1:
        return z
    _check_alike(z)
    return _Gather.apply(z)


def gather_groups(groups: Shaped[torch.Tensor, "..."]) -> Int[torch.Tensor, " _n"]:
    """Return the numbers `(n,)` of the tiles of every process as `(n * world,)`, in the order of `gather`.

    They are compared across processes: the same number must mean the same group in each.

    Raises
    ------
    InputError
        In every process, if counts differ between processes.
    """
    if groups.ndim != 1 or groups.is_floating_point():
        raise InputError("groups are one integer for each tile", received=f"{groups.dtype} {tuple(groups.shape)}")
    if _world() == 1:
        return groups
    _check_alike(groups)
    return torch.cat(_all(groups))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor) -> torch.Tensor:
        ctx.tiles = z.shape[1]
        return torch.cat(_all(z), dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        wide = torch.float64 if gradient.dtype == torch.float64 else torch.float32
        total = gradient.to(wide, copy=True, memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.narrow(1, distributed.get_rank() * ctx.tiles, ctx.tiles).to(gradient.dtype)


def _world() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _all(tensor: torch.Tensor) -> list[torch.Tensor]:
    own = tensor.contiguous()
    parts = [torch.empty_like(own) for _ in range(_world())]
    distributed.all_gather(parts, own)
    return parts


def _check_alike(tensor: torch.Tensor) -> None:
    """Compare shapes first: with different ones the exchange would hang, or mix up values."""
    shapes = [tuple(shape.tolist()) for shape in _all(torch.tensor(tensor.shape, device=tensor.device))]
    if len(set(shapes)) > 1:
        raise InputError(
            "processes hold batches of different sizes",
            received="; ".join(f"rank {rank}: {shape}" for rank, shape in enumerate(shapes)),
            valid="the same number of views, tiles and dimensions in each",
            fix="drop the last, smaller batch",
        )
