"""Stain vectors: what is published, and small geometry on them. Natural-log optical density, rows are stains."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from ..errors import OptionError, unknown

Rows = Float[np.ndarray, "_ 3"]

#: Ruifrok & Johnston 2001, Anal. Quant. Cytol. Histol. 23:291: optical density of hematoxylin, eosin, DAB in R, G, B.
RUIFROK: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {"hematoxylin": (0.65, 0.70, 0.29), "eosin": (0.07, 0.99, 0.11), "dab": (0.27, 0.57, 0.78)}
)
#: Reference of the code lineage of Macenko et al. 2009 (ISBI), with 99th percentiles of the amounts and I0 = 240.
MACENKO_REFERENCE = {"hematoxylin": (0.5626, 0.7201, 0.4062), "eosin": (0.2159, 0.8012, 0.5581)}
#: Sets of stains by name; the order is that of all amounts.
STAIN_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"H&E": ("hematoxylin", "eosin"), "H-DAB": ("hematoxylin", "dab"), "H&E-DAB": ("hematoxylin", "eosin", "dab")}
)

#: The smallest singular value of unit vectors that can be told apart: two at 1.6 degrees.
FLATTEST = 0.02


def unit_rows(vectors: Rows | Sequence[Sequence[float]]) -> Rows:
    """Return the rows at length 1, as float64."""
    rows = np.asarray(vectors, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def canonical_vectors(stains: str = "H&E") -> Rows:
    """Return the Ruifrok-Johnston unit vectors of a set of stains as rows.

    Raises
    ------
    OptionError
        If there is no such set.
    """
    if stains not in STAIN_SETS:
        raise unknown("set of stains", stains, STAIN_SETS)
    return unit_rows([RUIFROK[name] for name in STAIN_SETS[stains]])


def angles_to(rows: Rows, stains: str) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Return the angles of two vectors to the first stain of a set, and those to the second, in degrees.

    Eosin is what Ruifrok and Johnston or Macenko and colleagues took for it, whichever is nearer.
    """
    first, second = canonical_vectors(stains)[:2]
    seconds = [second, *([np.array(MACENKO_REFERENCE["eosin"])] if stains == "H&E" else [])]
    nearest = [min(angle(row, true) for true in seconds) for row in rows]
    return np.array([angle(row, first) for row in rows]), np.array(nearest)


def lead(rows: Rows, stains: str) -> float:
    """Return how straight two vectors lead from the first stain of a set to the second.

    1 if the second vector is farther from the first stain than the first vector, and nearer to the second stain, by
    all of the angle between them; 0 if they lie across that way; negative if they lead back.
    """
    to_first, to_second = angles_to(rows, stains)
    return float(to_first[1] - to_first[0] + to_second[0] - to_second[1]) / (2 * angle(rows[0], rows[1]))


def complete(vectors: Rows) -> Float[np.ndarray, "3 3"]:
    """Return three rows: two stains get their normalised cross product, the residual, as a third; three stay.

    >>> complete(canonical_vectors()).round(2).tolist()[2]
    [-0.33, -0.08, 0.94]
    """
    rows = unit_rows(vectors)
    return rows if len(rows) == 3 else unit_rows(np.vstack([rows, np.cross(rows[0], rows[1])]))


def unmixing(vectors: Rows) -> Float[np.ndarray, "3 _"]:
    """Return the pseudo-inverse of independent rows: densities `(m, 3)` times it are least-squares amounts."""
    return np.linalg.solve(vectors @ vectors.T, vectors).T


def angle(first: np.ndarray, second: np.ndarray) -> float:
    """Return the angle between two vectors in degrees, exact for small ones too."""
    a, b, c = map(float, first)
    d, e, f = map(float, second)
    across = math.hypot(b * f - c * e, c * d - a * f, a * e - b * d)
    return math.degrees(math.atan2(across, a * d + b * e + c * f))


def order_stains(vectors: Float[np.ndarray, "2 3"], canonical: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """Return two vectors in the order of the canonical ones: the order with the smaller sum of angles.

    Never by "more red": that rule gives eosin the name of hematoxylin on bluish slides.
    """
    straight = angle(vectors[0], canonical[0]) + angle(vectors[1], canonical[1])
    crossed = angle(vectors[1], canonical[0]) + angle(vectors[0], canonical[1])
    return vectors if straight <= crossed else vectors[::-1]


def flat(rows: Rows) -> bool:
    """Return whether unit rows lie nearly on one line, or in one plane: amounts of them mean nothing."""
    return bool(np.linalg.svd(rows, compute_uv=False).min() < FLATTEST)


def check_vectors(vectors: object) -> Rows:
    """Return vectors given by a user as unit rows.

    Raises
    ------
    OptionError
        Unless they are two or three finite rows of three numbers that are not parallel.
    """
    try:
        rows = np.asarray(vectors, np.float64)
    except (TypeError, ValueError):
        raise OptionError("stain vectors are no numbers", received=vectors, valid="rows of R, G, B") from None
    if rows.shape not in ((2, 3), (3, 3)) or not np.isfinite(rows).all():
        raise OptionError(
            "stain vectors must be two or three finite rows of R, G, B optical density",
            received=f"shape {rows.shape}",
            valid="[[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]",
        )
    if (np.linalg.norm(rows, axis=1) < 1e-6).any() or flat(unit_rows(rows)):
        raise OptionError("stain vectors are zero, or lie on one line", received=rows.tolist())
    return unit_rows(rows)
