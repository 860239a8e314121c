"""Stain vectors as the ends of a fan: Macenko et al. 2009, ISBI, https://doi.org/10.1109/ISBI.2009.5193250."""

import numpy as np
from jaxtyping import Float

from .tissue import Densities


def macenko_vectors(density: Densities, alpha: float = 1.0) -> Float[np.ndarray, "2 3"] | None:
    """Return the two extreme directions of the densities in their principal plane as unit rows, in no set order.

    The plane is spanned by the eigenvectors of the covariance with the largest eigenvalues; extreme are the `alpha`
    and `100 - alpha` percentiles of the angle in it. None if the densities span no plane.
    """
    mean = density.mean(axis=1, dtype=np.float64)
    centred = density - mean.astype(np.float32)[:, None]
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    if values[1] <= 1e-9 * max(values[2], 1e-12):
        return None
    plane = vectors[:, [2, 1]]
    plane = plane * np.where(mean @ plane < 0, -1.0, 1.0)
    along, across = plane.T.astype(np.float32) @ density
    # Where all lie on one side, the slope orders as the angle does, and is cheaper. Angles are cut at the far side of
    # the mean density, so that no fan is torn at +-180 degrees.
    if along.min() > 0:
        ends = np.arctan(tail_percentiles(across / along, alpha))
    else:
        centre = np.arctan2(across.mean(), along.mean())
        turned = np.arctan2(across, along) - centre
        ends = centre + tail_percentiles((turned + np.pi) % (2 * np.pi) - np.pi, alpha)
    return np.stack([plane @ (np.cos(end), np.sin(end)) for end in ends])


def tail_percentiles(values: np.ndarray, alpha: float) -> Float[np.ndarray, "2"]:
    """Return the `alpha` and `100 - alpha` percentiles, interpolated as `numpy.percentile` does, but faster.

    Only what lies beyond a bound, guessed from every 64th value, is sorted.
    """
    return np.array([-tail_percentile(-values, 100 - alpha), tail_percentile(values, 100 - alpha)])


def tail_percentile(values: np.ndarray, percent: float) -> float:
    """Return one high percentile exactly. See `tail_percentiles`."""
    n = len(values)
    place = percent / 100 * (n - 1)
    below = int(np.floor(place))
    needed = n - below
    if n > 4096:
        guess = np.sort(values[::64])
        bound = guess[max(len(guess) - 1 - int(2.5 * needed / 64) - 8, 0)]
        beyond = values[np.flatnonzero(values >= bound)]
        if len(beyond) >= needed:
            values = beyond
    top = np.sort(values)[-needed:]
    low, high = float(top[0]), float(top[min(1, needed - 1)])
    return low + (high - low) * (place - below)
