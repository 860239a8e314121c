"""Frozen maps on an encoder's vectors, in NumPy: each row is changed by itself."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..errors import InputError


@dataclass(frozen=True, eq=False)
class LinearMap:
    """`x + ((x - mean) @ read * (gains - 1)) @ write.T`: each direction scaled by its gain, the rest left alone."""

    mean: Float[np.ndarray, " d"]
    read: Float[np.ndarray, "d r"]
    write: Float[np.ndarray, "d r"]
    gains: Float[np.ndarray, " r"]

    def apply(self, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Return the compacted vectors, float32 for float32. A row depends on itself alone."""
        _check(vectors, len(self.mean))
        moved = ((vectors - self.mean) @ self.read * (self.gains - 1)) @ self.write.T
        return (vectors + moved).astype(vectors.dtype)

    @property
    def matrix(self) -> Float[np.ndarray, "d d"]:
        """What a vector about the mean is multiplied by, from the right."""
        return np.eye(len(self.mean)) + self.read * (self.gains - 1) @ self.write.T

    def then(self, other: "LinearMap") -> "LinearMap":
        """Return one map that does both, this one first. Both have one mean."""
        same = np.eye(len(self.mean))
        return LinearMap(self.mean, self.matrix @ other.matrix - same, same, np.full(len(same), 2.0))


@dataclass(frozen=True, eq=False)
class ResidualMap:
    """`x + sd * (relu(((x - mean) / sd) @ inward + bias) @ outward + shift)`: a small network beside the identity."""

    mean: Float[np.ndarray, " d"]
    sd: Float[np.ndarray, " d"]
    inward: Float[np.ndarray, "d h"]
    bias: Float[np.ndarray, " h"]
    outward: Float[np.ndarray, "h d"]
    shift: Float[np.ndarray, " d"]

    def apply(self, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Return the compacted vectors, float32 for float32. A row depends on itself alone."""
        _check(vectors, len(self.mean))
        hidden = np.maximum((vectors - self.mean) / self.sd @ self.inward + self.bias, 0)
        return (vectors + self.sd * (hidden @ self.outward + self.shift)).astype(vectors.dtype)


def _check(vectors: np.ndarray, dim: int) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise InputError("vectors of another dimension", received=vectors.shape, valid=f"(n, {dim})")
