"""Colour spaces on tensors. The same matrices and bends as `histolatent.stain.colour`."""

import numpy as np
import torch
from jaxtyping import Float

from ..colour import FROM_LMS, FROM_XYZ, LARGEST_LOGARITHM, LEAST_CONE, LMS, TOE, XYZ, space_matrix
from .pixels import Planes, mix


def shift_in_space(
    levels: Planes, space: str, scale: Float[np.ndarray, "_m 3"], shift: Float[np.ndarray, "_m 3"]
) -> Planes:
    """Return RGB levels after each component of the space became `scale * component + shift`. Not cut above 255.

    `scale` and `shift` have one row for all tiles, or one for each. Differentiable: each side of a bend is computed
    from values cut to that side, so that no gradient is infinite.
    """
    matrix, offset = space_matrix(space)
    inverse = np.linalg.inv(matrix)
    between = inverse @ (scale[:, :, None] * matrix)
    moved = mix(_roots(levels, space), between, (scale * offset + shift - offset) @ inverse.T)
    return _levels(moved, space)


def power(values: Planes, exponent: float) -> Planes:
    """Return a power of positive values. By logarithms: `torch.pow` on a CPU depends on where in memory a value is."""
    return torch.exp(torch.log(values) * exponent)


def _roots(levels: Planes, space: str) -> Planes:
    """Return cube roots of XYZ, or natural logarithms of LMS."""
    if space == "ruderman":
        return mix(levels, LMS[None]).clamp_min(LEAST_CONE).log()
    share = levels / 255
    bent = power((share.clamp_min(0.04) + 0.055) / 1.055, 2.4)
    xyz = mix(torch.where(share > 0.04045, bent, share / 12.92), XYZ[None])
    return torch.where(xyz > TOE**3, power(xyz.clamp_min(TOE**3), 1 / 3), xyz / (3 * TOE**2) + 4 / 29)


def _levels(roots: Planes, space: str) -> Planes:
    if space == "ruderman":
        return mix(roots.clamp_max(LARGEST_LOGARITHM).exp(), FROM_LMS[None]).clamp_min(0)
    xyz = torch.where(roots > TOE, roots * roots * roots, (roots - 4 / 29) * (3 * TOE**2))
    linear = mix(xyz, FROM_XYZ[None])
    bent = power(linear.clamp_min(0.0031308), 1 / 2.4) * 1.055 - 0.055
    return torch.where(linear > 0.0031308, bent, (linear * 12.92).clamp_min(0)) * 255
