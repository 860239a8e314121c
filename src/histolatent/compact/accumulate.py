"""Gradients of a loss over a batch too large for memory, exact to rounding, from micro-batches.

Adding up the gradients of micro-batches is wrong for losses whose statistics run over the batch: correlations of 32
tiles are not those of 1,024. Here the loss is taken once on the vectors of all tiles, and its gradient is handed back
through one micro-batch at a time: the price is a second forward pass.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Float, Shaped

from ..errors import InputError

Batch = TypeVar("Batch")
#: What a forward pass returns: projections `(v, m, d)`, and losses of its own by name.
Forwarded = tuple[Shaped[torch.Tensor, "..."], Mapping[str, Shaped[torch.Tensor, "..."]]]
Random = tuple[torch.Tensor, list[torch.Tensor]]

#: The two passes may differ by this share of the size of the vectors; sums in another order differ by far less.
DRIFT = 0.02


@dataclass(frozen=True, eq=False)
class Accumulated:
    """What a step computed: its loss, the side losses by name, and the projections `(v, n, d)`, without gradients."""

    loss: float
    side: Mapping[str, float]
    z: Float[torch.Tensor, "_v _n _d"] = field(repr=False)

    @property
    def total(self) -> float:
        """What was descended: the loss and all side losses."""
        return self.loss + sum(self.side.values())


def accumulated(
    forward: Callable[[Batch], Forwarded],
    batches: Sequence[Batch],
    loss: Callable[[torch.Tensor], torch.Tensor],
    *,
    backward: Callable[[torch.Tensor], object] = torch.Tensor.backward,
    no_sync: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Accumulated:
    """Add to the weights the gradient of a loss over all micro-batches, as if they had been one batch.

    `forward` takes a micro-batch, and returns its projections `(v, m, d)` and a mapping, which may be empty, of side
    losses such as a reconstruction: scalars, already weighted, each a mean over the `m` tiles. They are weighted by
    the share of tiles, so that micro-batches may differ in size. `loss` takes the projections `(v, n, d)` of all,
    tiles in the order of `batches`; with several processes it gathers them: `lambda z: barlow(gather(z))`.

    `backward` is called once for each micro-batch with a scalar; pass that of Fabric, or one that scales. `no_sync`
    opens a context around each micro-batch but the last, such as the method of that name of DDP.

    One micro-batch is run once. With more, `forward` runs twice for each, first without gradients, where it may leave
    out the side losses (`torch.is_grad_enabled()` tells). Both passes see the same random numbers of torch, on the CPU
    and on CUDA. Afterwards the generators stand where one pass leaves them.

    Misleads with batch normalisation in training mode: it normalises each micro-batch on its own, and updates its
    running statistics twice. Other normalisations do not mind. NaN goes through to the gradients: look at the result
    before the step of the optimiser.

    Raises
    ------
    InputError
        If there is no micro-batch, `forward` returns no such pair, projections do not fit together, side losses are
        no scalars or differ in name, or `forward` returns other projections the second time, as it does when it draws
        from NumPy. The gradients of the weights are then not to be used.

    References
    ----------
    Gao et al. 2021, arXiv 2101.06983.

    >>> from histolatent.compact.losses import ratio
    >>> weights = torch.ones(3, 2, requires_grad=True)
    >>> tiles = torch.arange(24.0).reshape(2, 4, 3).cos()
    >>> accumulated(lambda batch: (batch @ weights, {}), tiles.split(2, dim=1), ratio)
    Accumulated(loss=0.054..., side={})
    >>> weights.grad.shape
    torch.Size([3, 2])
    """
    if len(batches) == 0:
        raise InputError("there is no micro-batch", valid="at least one")
    if len(batches) == 1:
        z, side = _run(forward, batches[0])
        _check_parts([z])
        terms = _read_side(side)
        value = loss(z)
        backward(_summed(value, terms, 1.0))
        return Accumulated(float(value.detach()), _floats(terms), z.detach())
    return _in_two_passes(forward, batches, loss, backward, no_sync)


def _in_two_passes(
    forward: Callable[[Batch], Forwarded],
    batches: Sequence[Batch],
    loss: Callable[[torch.Tensor], torch.Tensor],
    backward: Callable[[torch.Tensor], object],
    no_sync: Callable[[], AbstractContextManager[object]],
) -> Accumulated:
    states, parts = [], []
    with torch.no_grad():
        for batch in batches:
            states.append(_random_state())
            parts.append(_run(forward, batch)[0])
    # Autocast keeps weights that it cast. Before pytorch#165068 it kept them without a graph, and so without a gradient
    # in the second pass.
    torch.clear_autocast_cache()
    sizes = _check_parts(parts)
    whole = torch.cat(parts, dim=1)
    # Wide also because gradients in float16 would vanish before `backward` can scale them.
    leaf = (whole if whole.dtype == torch.float64 else whole.float()).detach().requires_grad_()
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    after, side = _random_state(), {}
    try:
        for k, (batch, pull) in enumerate(zip(batches, gradient.split(sizes, dim=1), strict=True)):
            share = sizes[k] / whole.shape[1]
            with no_sync() if k < len(batches) - 1 else nullcontext():
                _set_random_state(states[k])
                z, given = _run(forward, batch)
                _check_repeated(z.detach(), parts[k], k)
                terms = _read_side(given, like=side if k else None)
                # The gradient of this sum by z is `pull`: what the whole batch asks of these vectors.
                backward(_summed((z.to(pull.dtype) * pull).sum(), terms, share))
            side = {name: side.get(name, 0.0) + share * term for name, term in _floats(terms).items()}
    finally:
        _set_random_state(after)
    return Accumulated(float(value.detach()), side, whole)


def _run(forward: Callable[[Batch], Forwarded], batch: Batch) -> Forwarded:
    returned = forward(batch)
    # A tensor of two views would come apart into a pair, too.
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise InputError(
            "forward returns projections and side losses", received=type(returned).__name__, fix="return z, {}"
        )
    return returned


def _summed(value: torch.Tensor, terms: Mapping[str, torch.Tensor], share: float) -> torch.Tensor:
    for term in terms.values():
        value = value + share * term
    return value


def _floats(terms: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in terms.items()}


def _read_side(
    side: Mapping[str, torch.Tensor], like: Mapping[str, object] | None = None
) -> Mapping[str, torch.Tensor]:
    for name, term in side.items():
        if term.ndim:
            raise InputError(
                f"the side loss {name!r} is no scalar",
                received=tuple(term.shape),
                valid="a mean over the tiles of the micro-batch",
                fix=".mean()",
            )
    if like is not None and set(side) != set(like):
        raise InputError("side losses differ between micro-batches", received=f"{_names(side)} after {_names(like)}")
    return side


def _names(side: Mapping[str, object]) -> str:
    return ", ".join(sorted(side)) or "none"


def _check_parts(parts: Sequence[torch.Tensor]) -> list[int]:
    """Return the number of tiles of each micro-batch."""
    shapes = [tuple(part.shape) for part in parts]
    if any(len(shape) != 3 for shape in shapes) or len({(shape[0], shape[2]) for shape in shapes}) > 1:
        raise InputError(
            "projections of the micro-batches do not fit together",
            received="; ".join(map(str, dict.fromkeys(shapes))),
            valid="(v, m, d), with the same v and d in each",
        )
    return [shape[1] for shape in shapes]


def _check_repeated(z: torch.Tensor, first: torch.Tensor, k: int) -> None:
    apart, size = (float(x.float().norm()) for x in (z - first, first))
    if apart > DRIFT * size:
        raise InputError(
            "forward returns other projections the second time",
            received=f"micro-batch {k}: {apart / size if size else 1:.0%} of their size apart",
            fix="draw random numbers from torch, or keyed by the micro-batch; leave out what changes with each call",
        )


def _random_state() -> Random:
    # All devices, since which of them `forward` uses is not known; asking a device that was never used would start it.
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _set_random_state(state: Random) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
