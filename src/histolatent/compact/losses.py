"""Losses that draw the views of a tile together: pure functions of projections `(v, n, d)`, `v` views of `n` tiles.

They take any float type, compute in float32 (float64 stays float64) even under autocast, and return a scalar. Their
statistics run over the whole batch: see `gather` for several processes and `accumulated` for micro-batches.

Values are not looked at, which would wait for the device: NaN or infinity in gives NaN out, never a number.
"""

import math
from collections.abc import Callable
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int, Shaped

from ..errors import InputError, OptionError
from ..registry import Registry

#: Projections of a caller, whose shape is checked with a message of our own.
GivenViews = Shaped[torch.Tensor, "..."]
Views = Float[torch.Tensor, "_v _n _d"]
Scalar = Float[torch.Tensor, ""]
Loss = Callable[..., Scalar]

#: A standard deviation below this many roundings of the values is rounding itself: the values are constant.
ROUNDINGS = 16
#: Added to variances before their root, as published for VICReg.
VICREG_EPSILON = 1e-4


def barlow(z: GivenViews, *, off_diagonal: float = 0.0051) -> Scalar:
    """Return the Barlow Twins loss, averaged over the pairs of views.

    .. math:: \\sum_i (1 - C_{ii})^2 + \\lambda \\sum_{i \\ne j} C_{ij}^2

    `C` `(d, d)` holds the correlations, over tiles, of the dimensions of one view with those of the other, and
    `off_diagonal` is :math:`\\lambda`. From 0, lower is better. The scale and mean of a dimension change nothing.

    A dimension that is constant over the tiles of a view correlates with nothing: it costs 1, and has no gradient
    through that view.

    Misleads with fewer tiles than dimensions: chance correlations of about `1/sqrt(n)` are then most of the second sum.

    Raises
    ------
    InputError
        If `z` is no float tensor `(v, n, d)` with two views and two tiles.
    OptionError
        If `off_diagonal` is negative or not finite.

    References
    ----------
    Zbontar et al. 2021, arXiv 2103.03230.

    >>> tiles = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> barlow(torch.stack([tiles, 3 * tiles])).item()
    0.0
    """
    _check_weights(off_diagonal=off_diagonal)
    views = _read(z)
    with _full_precision(views):
        standard = _standardised(views)
        pairs = list(combinations(standard.unbind(), 2))
        total = views.new_zeros(())
        for one, other in pairs:
            correlations = one.T @ other / len(one)
            total = total + (1 - correlations.diagonal()).square().sum() + off_diagonal * _off_diagonal(correlations)
        return total / len(pairs)


def infonce(z: GivenViews, *, temperature: float = 0.1, positives: Shaped[torch.Tensor, "..."] | None = None) -> Scalar:
    """Return the contrastive loss in which all other views of a tile are its positives.

    .. math:: -\\frac{1}{v n} \\sum_a \\frac{1}{|P(a)|} \\sum_{p \\in P(a)}
              \\log \\frac{e^{\\cos(a, p) / \\tau}}{\\sum_{b \\ne a} e^{\\cos(a, b) / \\tau}}

    `a` runs over all views of all tiles, `b` over all but `a`. `P(a)` are the other views of the same tile, or with
    `positives` `(n,)` all other views of the tiles with the same number, such as neighbours on a slide. From 0, lower
    is better. With two views and no `positives` this is NT-Xent. A vector of zeros has cosine 0 with everything.

    Needs memory for `(v n)^2` cosines. Misleads when many tiles of a batch show the same tissue: they count as
    negatives. Where all tiles are positives of each other, there are no negatives and nothing keeps tiles apart.

    Raises
    ------
    InputError
        If `z` is no float tensor `(v, n, d)` with two views and two tiles, or `positives` are not `n` integers.
    OptionError
        If `temperature` is not positive and finite.

    References
    ----------
    van den Oord et al. 2018, arXiv 1807.03748; the sum outside the logarithm after Khosla et al. 2020, arXiv
    2004.11362.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise OptionError("temperature must be positive and finite", received=temperature, valid="0.05 to 0.5 is usual")
    views = _read(z)
    v, n, d = views.shape
    groups = torch.arange(n, device=views.device) if positives is None else _read_positives(positives, n)
    same = _same_group(groups.to(views.device).repeat(v))
    with _full_precision(views):
        directions = _unit(views).reshape(v * n, d)
        cosines = directions @ directions.T / temperature
        itself = torch.eye(v * n, dtype=torch.bool, device=views.device)
        among = cosines.masked_fill(itself, -math.inf).logsumexp(dim=1)
        near = cosines.masked_fill(~same, 0).sum(dim=1) / same.sum(dim=1)
        return (among - near).mean()


def vicreg(z: GivenViews, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Scalar:
    """Return the VICReg loss of any number of views.

    .. math:: \\lambda \\, \\frac{2v}{v-1} \\, \\overline{(x - m)^2} + \\frac{2}{v} \\sum_{\\text{views}} \\Big[
              \\frac{\\mu}{d} \\sum_j \\max\\big(0, 1 - \\sqrt{\\mathrm{Var}_j + 10^{-4}}\\big)
              + \\frac{\\nu}{d} \\sum_{i \\ne j} \\mathrm{Cov}_{ij}^2 \\Big]

    `m` is the mean of a tile over its views, and the bar a mean over views, tiles and dimensions, so that the first
    term is the mean squared difference over the pairs of views. Variances and covariances over tiles divide by
    `n - 1`. The weights are `invariance`, `variance` and `covariance`. From 0, lower is better.

    Two views give algorithm 1 of the paper. Its equation for the invariance sums over dimensions, where the algorithm
    takes the mean that the weights belong to; code in use often halves the variance term, as `variance=12.5` does.

    Not scale-free: it wants a standard deviation of 1 in every dimension, so it suits a projector without a last
    normalisation. Misleads when compared between different `d`.

    Raises
    ------
    InputError
        If `z` is no float tensor `(v, n, d)` with two views and two tiles.
    OptionError
        If a weight is negative or not finite.

    References
    ----------
    Bardes et al. 2022, arXiv 2105.04906.
    """
    _check_weights(invariance=invariance, variance=variance, covariance=covariance)
    views = _read(z)
    v, n, d = views.shape
    with _full_precision(views):
        apart = 2 * v / (v - 1) * (views - views.mean(dim=0)).square().mean()
        centred = views - views.mean(dim=1, keepdim=True)
        deviations = (centred.square().sum(dim=1) / (n - 1) + VICREG_EPSILON).sqrt()
        narrow = 2 * (1 - deviations).relu().mean()
        shared = 2 / (v * d) * _off_diagonal(centred.mT @ centred / (n - 1))
        return invariance * apart + variance * narrow + covariance * shared


def ratio(z: GivenViews) -> Scalar:
    """Return the compaction ratio: the share of all scatter that lies between the views of the same tile.

    .. math:: \\rho = \\frac{v}{v-1} \\, \\frac{\\mathrm{tr}\\,S_w}{\\mathrm{tr}\\,S_t}

    `S_w` is the scatter of views about the mean of their tile, `S_t` that of all views of all tiles about the mean of
    all. 0 if the views of each tile coincide; about 1 (`v n / (v n - 1)` in expectation) if a view says nothing about
    its tile; at most `v / (v - 1)`. Lower is better. Scale, shift and rotation change nothing.

    Where all vectors coincide, the ratio is undefined; 1 is returned, without a gradient, because a point says nothing
    about tiles.

    Misleads alone: one direction that tells tiles apart makes it small while all others collapse. Read it beside the
    effective rank.

    Raises
    ------
    InputError
        If `z` is no float tensor `(v, n, d)` with two views and two tiles.

    >>> ratio(torch.tensor([[[0.0], [4.0]], [[2.0], [6.0]]])).item()  # 2 * (1 + 1 + 1 + 1) / (9 + 1 + 1 + 9)
    0.4000...
    """
    views = _read(z)
    v = len(views)
    with _full_precision(views):
        means = views.mean(dim=0)
        within = (views - means).square().sum()
        total = within + v * (means - means.mean(dim=0)).square().sum()
        flat = _is_rounding(total, views.square().sum())
        return (v / (v - 1) * within / total.masked_fill(flat, 1)).masked_fill(flat, 1)


#: The losses by name.
LOSSES: Registry[Loss] = Registry("compaction loss")
for _loss in (barlow, infonce, vicreg, ratio):
    LOSSES.register(_loss.__name__, _loss)


def loss(name: str) -> Loss:
    """Return the loss of a name.

    Raises
    ------
    OptionError
        With the nearest name, if there is no such loss.

    >>> loss("vicrag")
    Traceback (most recent call last):
        ...
    histolatent.errors.OptionError: no compaction loss is called 'vicrag'. ... Fix: did you mean 'vicreg'?
    """
    return LOSSES[name]


def _read(z: GivenViews) -> Views:
    """Return the projections in the type to compute with."""
    if z.ndim != 3 or not z.is_floating_point():
        raise InputError(
            "projections are floats of views, tiles and dimensions",
            received=f"{z.dtype} {tuple(z.shape)}",
            valid="(v, n, d)",
            fix="torch.stack(views)" if z.ndim == 2 else None,
        )
    v, n, d = z.shape
    if v < 2 or n < 2 or d < 1:
        raise InputError(
            "a compaction loss compares views of a tile and tiles with each other",
            received=f"views: {v}, tiles: {n}, dimensions: {d}",
            valid="at least 2 views, 2 tiles and 1 dimension",
        )
    return z if z.dtype == torch.float64 else z.float()


def _read_positives(positives: Shaped[torch.Tensor, "..."], n: int) -> Int[torch.Tensor, " _n"]:
    whole = not (positives.is_floating_point() or positives.is_complex() or positives.dtype == torch.bool)
    if tuple(positives.shape) != (n,) or not whole:
        raise InputError(
            "positives are one integer for each tile",
            received=f"{positives.dtype} {tuple(positives.shape)}",
            valid=f"({n},)",
            fix="with several processes, gather_groups makes them as many as the gathered tiles",
        )
    return positives


def _check_weights(**weights: float) -> None:
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise OptionError(f"{name} is a weight", received=weight, valid="a finite number of 0 or more")


def _full_precision(views: Views) -> torch.autocast:
    return torch.autocast(views.device.type, enabled=False)


def _is_rounding(squares: Float[torch.Tensor, "*s"], size: Float[torch.Tensor, "*s"]) -> Bool[torch.Tensor, "*s"]:
    """Return whether squares about the mean are only rounding of values whose squares are `size`; False for NaN."""
    return squares <= (ROUNDINGS * torch.finfo(size.dtype).eps) ** 2 * size


def _inverse_root(squares: Float[torch.Tensor, "*s"], none: Bool[torch.Tensor, "*s"]) -> Float[torch.Tensor, "*s"]:
    """Return 1 / sqrt, and 0 without a gradient where there is none."""
    return squares.masked_fill(none, 1).rsqrt().masked_fill(none, 0)


def _standardised(views: Views) -> Views:
    """Return dimensions with mean 0 and variance 1 over the tiles of each view; those that are constant become 0."""
    centred = views - views.mean(dim=1, keepdim=True)
    variances = centred.square().mean(dim=1, keepdim=True)
    return centred * _inverse_root(variances, _is_rounding(variances, views.square().mean(dim=1, keepdim=True)))


def _unit(views: Views) -> Views:
    squares = views.square().sum(dim=2, keepdim=True)
    return views * _inverse_root(squares, squares == 0)


def _off_diagonal(matrices: Float[torch.Tensor, "*v d d"]) -> Scalar:
    """Return the sum of squares of what is not on a diagonal."""
    diagonal = torch.eye(matrices.shape[-1], dtype=torch.bool, device=matrices.device)
    return matrices.masked_fill(diagonal, 0).square().sum()


def _same_group(groups: Int[torch.Tensor, " m"]) -> Bool[torch.Tensor, "m m"]:
    """Return which rows are of one group, a row and itself left out."""
    return (groups[:, None] == groups).fill_diagonal_(False)
