"""A frozen linear map on an encoder's vectors."""

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
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise InputError("vectors of another dimension", received=vectors.shape, valid=f"(n, {len(self.mean)})")
        moved = ((vectors - self.mean) @ self.read * (self.gains - 1)) @ self.write.T
        return (vectors + moved).astype(vectors.dtype)
