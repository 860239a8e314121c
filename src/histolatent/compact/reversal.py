"""Gradient reversal: what makes an encoder forget what a discriminator learns to read."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch.autograd.function import once_differentiable

from ..errors import OptionError


def reverse(x: Float[torch.Tensor, "*shape"], strength: float) -> Float[torch.Tensor, "*shape"]:
    """Return `x` as it is, and on the way back its gradient times minus `strength`.

    Put between an encoder and a discriminator: the discriminator descends its loss, the encoder climbs it.

    Raises
    ------
    OptionError
        If `strength` is negative, which would reverse nothing, or not finite.

    References
    ----------
    Ganin et al. 2016, JMLR 17, arXiv 1505.07818.
    """
    if not (math.isfinite(strength) and strength >= 0):
        raise OptionError(
            "strength of a reversal is not usable", received=strength, valid="a finite number of 0 or more"
        )
    return _Reverse.apply(x, strength)


def reversal_strength(progress: float) -> float:
    """Return the strength at a share of training, from 0 at the start to nearly 1 at the end.

    .. math:: \\frac{2}{1 + e^{-10 p}} - 1

    Half of it is reached at `p` = 0.11, so that the discriminator can learn before the encoder heeds it.

    Raises
    ------
    OptionError
        If `progress` is not from 0 to 1.

    References
    ----------
    Ganin et al. 2016, JMLR 17, arXiv 1505.07818.

    >>> [round(reversal_strength(p), 4) for p in (0, 0.1, 0.5, 1)]
    [0.0, 0.4621, 0.9866, 0.9999]
    """
    if not 0 <= progress <= 1:
        raise OptionError("progress is a share of training", received=progress, valid="0 to 1", fix="step / steps")
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, strength: float) -> torch.Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -ctx.strength * gradient, None
