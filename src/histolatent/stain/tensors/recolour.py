"""The frozen changes of `histolatent.stain`, applied to batches of torch tensors."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import numpy as np
import torch

from ...errors import InputError, OptionError
from ..colour import LARGEST_LOGARITHM
from ..recolour import Change, ColourChange, DensityChange, NoChange, SpaceChange, SparseChange
from ..tissue import GREY, PALE, STAINED
from .colour import shift_in_space
from .pixels import Planes, blocks, from_levels, in_layout, mix, numbers, read_batch, to_levels
from .separate import logarithms, sparse_planes


def recolour(
    batch: torch.Tensor,
    changes: ColourChange | Sequence[ColourChange],
    *,
    layout: str = "NCHW",
    check: bool = True,
) -> torch.Tensor:
    """Return a batch under one change, or each tile under its own, in the type, layout and device that it came in.

    Does to each tile what `histolatent.stain.recolour` does, to within one level for uint8 and 1e-4 for float: uint8 is
    rounded half to even, a float batch in 0 to 1 comes back unrounded, in 0 to 1. `changes` may be of different kinds.
    The batch is not changed, and a tile comes out the same whatever is beside it. Half precision is computed in
    float32.

    Gradients flow from a float batch through every change; they are zero where a value was cut to 0 or 1, and where a
    level lies below 1. uint8 has none.

    `check=False` does not look whether values are finite and in range, and so never waits for an accelerator. Values
    that are not finite then stay so or come out at an end of the range, and what is out of range is changed as if it
    were not, and cut.

    On a CPU one tile is computed at a time, on an accelerator a million pixels: beside the batch, memory holds the
    result twice and at most nine float copies of that block. With gradients, autograd keeps 5 to 20 copies of the whole
    batch. On a CPU the NumPy path is faster.

    Misleads on tiles of the same pixels in other shapes: on a CPU they may differ in the last bit of a float.

    Raises
    ------
    InputError
        If the batch is not usable (see `read_batch`), or there are not as many changes as tiles.
    OptionError
        If something is not a change.

    >>> import numpy as np, torch
    >>> twice = DensityChange(np.full(3, 240.0), np.full(3, 240.0), 2 * np.eye(3))
    >>> recolour(torch.full((1, 3, 1, 1), 120, dtype=torch.uint8), twice).ravel().tolist()
    [60, 60, 60]
    """
    planes = read_batch(batch, layout, check=check)
    each = _one_each(changes, len(planes))
    tiles = list(planes.unbind())
    if not tiles:
        return batch.clone()
    for group in _groups(each):
        for block in blocks(group, planes):
            chosen = [cast(Change, each[i]) for i in block]
            changed = _change(torch.stack([tiles[i] for i in block]), chosen)
            for i, tile in zip(block, changed.unbind(), strict=True):
                tiles[i] = tile
    return in_layout(torch.stack(tiles), layout)


def _one_each(changes: Any, count: int) -> list[ColourChange]:
    if isinstance(changes, ColourChange):
        return [changes] * count
    given = changes if isinstance(changes, Sequence) else [changes]
    wrong = [type(change).__name__ for change in given if not isinstance(change, ColourChange)]
    if wrong:
        raise OptionError(
            "this is no change of colour",
            received=wrong[0],
            valid="DensityChange, SparseChange, SpaceChange, NoChange, or one of them for each tile",
            fix="make one with colour_change(fit, reference)",
        )
    if len(given) != count:
        raise InputError(
            "there must be one change for all tiles, or one for each",
            received=f"{len(given)} changes for {count} tiles",
        )
    return list(given)


def _groups(each: Sequence[ColourChange]) -> list[list[int]]:
    """Return which tiles may be computed together: those whose changes differ in numbers only."""
    groups: dict[Hashable, list[int]] = {}
    for i, change in enumerate(each):
        if isinstance(change, NoChange):
            continue
        how: Hashable = change.space if isinstance(change, SpaceChange) else change.offset
        if isinstance(change, SparseChange):
            how = (change.offset, change.penalty)
        biased = isinstance(change, DensityChange) and bool(np.any(change.bias))
        groups.setdefault((type(change), how, change.keep_background, biased), []).append(i)
    return list(groups.values())


def _change(planes: torch.Tensor, changes: Sequence[Change]) -> torch.Tensor:
    """Return a block of tiles under changes of one group."""
    if all(change is changes[0] for change in changes):
        changes = changes[:1]
    first = changes[0]
    levels = to_levels(planes)
    biased = isinstance(first, DensityChange) and bool(np.any(first.bias))
    weight = None
    if first.keep_background or biased:
        weight = tissue_plane(levels, _stack(changes, "white_in"), rounded=planes.dtype == torch.uint8)
    if isinstance(first, SpaceChange):
        changed = shift_in_space(levels, first.space, _stack(changes, "scale"), _stack(changes, "shift"))
    else:
        logs = (
            _density_logs(levels, changes, weight)
            if isinstance(first, DensityChange)
            else _sparse_logs(levels, changes)
        )
        # Without a bound, overflow on glass would be infinity times a weight of zero.
        changed = logs.clamp_max(LARGEST_LOGARITHM).exp()
        if first.offset:
            changed = (changed - first.offset).clamp_min(0)
    if first.keep_background and weight is not None:
        changed = torch.lerp(levels, changed, weight.expand_as(levels))
    return from_levels(changed, planes.dtype)


def tissue_plane(levels: Planes, white: np.ndarray, *, rounded: bool) -> Planes:
    """Return how much each pixel counts as tissue, 0 to 1, `(n, 1, h, w)`. See `stain.tissue.tissue_weight`.

    `white` `(m, 3)` has one row for all tiles, or one for each. Levels that were uint8 have a rounded grey level, as
    OpenCV rounds it: in integers of 1/32768, which float32 holds exactly.
    """
    if rounded:
        grey = torch.floor((mix(levels, np.array([[[9798.0, 19235.0, 3735.0]]])) + 16384) / 32768)
    else:
        grey = mix(levels, np.array([[GREY]]))
    clear = numbers(np.log(white @ np.array(GREY)), levels)[:, None, None, None]
    share = ((clear - PALE - grey.clamp_min(1).log()) / (STAINED - PALE)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _density_logs(levels: Planes, changes: Sequence[Change], weight: Planes | None) -> Planes:
    """Return the logarithm of the levels that a linear map of density gives."""
    matrix = _stack(changes, "matrix")
    shift = np.log(_stack(changes, "white_out")) - np.einsum("mij,mj->mi", matrix, np.log(_stack(changes, "white_in")))
    logs = mix(logarithms(levels, _offset(changes)), matrix, shift)
    bias = _stack(changes, "bias")
    return logs if weight is None or not bias.any() else logs - weight * numbers(bias, levels)[..., None, None]


def _sparse_logs(levels: Planes, changes: Sequence[Change]) -> Planes:
    """Return the logarithm of the levels that sparse amounts, times gains, give with other vectors."""
    clear = numbers(np.log(_stack(changes, "white_in")), levels)[..., None, None]
    density = clear - logarithms(levels, _offset(changes))
    penalty = cast("SparseChange", changes[0]).penalty
    first, second = sparse_planes(density, _stack(changes, "vectors_in"), penalty)
    mixed = _stack(changes, "gains")[:, :, None] * _stack(changes, "vectors_out")
    rows = numbers(mixed, levels)[..., None, None]
    return (
        numbers(np.log(_stack(changes, "white_out")), levels)[..., None, None]
        - first * rows[:, 0]
        - second * rows[:, 1]
    )


def _offset(changes: Sequence[Change]) -> int:
    return cast("DensityChange | SparseChange", changes[0]).offset


def _stack(changes: Sequence[Change], name: str) -> np.ndarray:
    return np.stack([np.asarray(getattr(change, name), np.float64) for change in changes])
