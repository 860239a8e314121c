"""Sparse non-negative separation: Vahadane et al. 2016, IEEE TMI 35:1962, https://doi.org/10.1109/TMI.2016.2529665.

For two stains the sparse code of a pixel has a closed form, so no solver is needed.
"""

import cv2
import numpy as np
from jaxtyping import Float

from .tissue import Densities, Pixels
from .vectors import Rows

DICTIONARY_PENALTY, CODE_PENALTY = 0.1, 0.01
ITERATIONS, TOLERANCE = 200, 1e-5


def sparse_codes(
    density: Float[np.ndarray, "3 _m"], vectors: Float[np.ndarray, "2 3"], penalty: float
) -> Float[np.ndarray, "2 _m"]:
    """Return the amounts `c >= 0` that minimise `|v - W^T c|^2 / 2 + penalty (c_1 + c_2)` for each density `v`.

    Exact: with unit rows and overlap `g`, the optimum is the unconstrained one where both amounts are positive, and
    the better single stain elsewhere. Without a penalty these are the non-negative least squares.
    """
    matrix, shift, overlap = unconstrained(vectors, penalty)
    codes = matrix.astype(density.dtype) @ density + shift.astype(density.dtype)[:, None]
    return np.concatenate(make_positive(codes[:1], codes[1:], overlap)) if codes.size else codes


def unconstrained(vectors: Float[np.ndarray, "2 3"], penalty: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Return what gives the optimum with any sign, `matrix @ v + shift`, and the overlap of the vectors."""
    overlap = float(vectors[0] @ vectors[1])
    mix = np.array([[1.0, -overlap], [-overlap, 1.0]]) / (1.0 - overlap * overlap)
    return mix @ vectors, -penalty * mix.sum(axis=1), overlap


def make_positive(
    first: Float[np.ndarray, "1 _m"], second: Float[np.ndarray, "1 _m"], overlap: float
) -> tuple[Float[np.ndarray, "1 _m"], Float[np.ndarray, "1 _m"]]:
    """Turn unconstrained amounts into non-negative ones.

    Where one is negative, the other alone is `c + g * negative`: what it would be without the first.
    """
    below_first, below_second = (cv2.threshold(plane, 0, 0, cv2.THRESH_TOZERO_INV)[1] for plane in (first, second))
    first = cv2.scaleAdd(below_second, overlap, first)
    second = cv2.scaleAdd(below_first, overlap, second)
    # Not cv2.max: it takes a number for an array where there are few pixels.
    first, second = (cv2.threshold(plane, 0, 0, cv2.THRESH_TOZERO)[1] for plane in (first, second))
    return first, second


def vahadane_vectors(pixels: Pixels, density: Densities, start: Rows) -> Float[np.ndarray, "2 3"] | None:
    """Return the two unit rows, in the order of `start`, that code the densities sparsely; None if one is not used.

    Alternates exact codes (penalty 0.1) with updates of one vector at a time until no coordinate moves by 1e-5. Works
    on colours binned to 6 bits a channel, each with its mean density and its count: some ten times fewer columns. The
    bins turn vectors by some 0.1 degrees, rarely by one; with 5 bits it was up to 5.
    """
    density, counts = _bin(pixels, density)
    vectors = np.array(start, np.float64)
    for _ in range(ITERATIONS):
        codes = sparse_codes(density, vectors, DICTIONARY_PENALTY)
        weighted = codes * counts
        gram, moment = weighted @ codes.T, weighted @ density.T
        before = vectors.copy()
        for k in range(2):
            row = np.maximum(moment[k] - gram[k, 1 - k] * vectors[1 - k], 0.0)
            length = np.linalg.norm(row)
            if gram[k, k] <= 1e-9 * counts.sum() or length < 1e-12:
                return None
            vectors[k] = row / length
        if vectors[0] @ vectors[1] > 1 - 1e-6:
            return None
        if np.abs(vectors - before).max() < TOLERANCE:
            break
    return vectors


def _bin(pixels: Pixels, density: Densities) -> tuple[Float[np.ndarray, "3 _b"], Float[np.ndarray, " _b"]]:
    red, green, blue = pixels.astype(np.int32) >> 2
    keys = (red << 12) | (green << 6) | blue
    counts = np.bincount(keys)
    used = np.flatnonzero(counts)
    sums = np.stack([np.bincount(keys, row)[used] for row in density])
    return sums / counts[used], counts[used].astype(np.float64)
