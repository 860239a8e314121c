"""How far apart two sets of embeddings are, each distance beside what it reads within one set."""

from .batches import DISTANCES, FEWEST_TILES, BatchComparison, Distance, compare_batches
from .measures import (
    class_gaussian_w2_squared,
    empirical_w2_squared,
    gaussian_w2_squared,
    proxy_a_distance,
    sliced_w2_squared,
    to_scale,
)

__all__ = [
    "DISTANCES",
    "FEWEST_TILES",
    "BatchComparison",
    "Distance",
    "class_gaussian_w2_squared",
    "compare_batches",
    "empirical_w2_squared",
    "gaussian_w2_squared",
    "proxy_a_distance",
    "sliced_w2_squared",
    "to_scale",
]
