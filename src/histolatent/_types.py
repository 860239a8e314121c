"""Array shapes used in signatures: `n` items, `d` dimensions, `h` x `w` pixels.

A tile may change size between argument and result, so its sides are not tied together.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

Tile = UInt8[np.ndarray, "_h _w 3"]
Tiles = UInt8[np.ndarray, "n h w 3"]
Plane = Float[np.ndarray, "_h _w"]
Vectors = Float32[np.ndarray, "n d"]
Matrix = Float[np.ndarray, "n d"]
Column = Float[np.ndarray, " n"]
Codes = Int[np.ndarray, " n"]
#: Codes of a user, whose number is checked with a message of our own.
GivenCodes = Int[np.ndarray, " _given"]
Mask = Bool[np.ndarray, " n"]
