"""Nearest neighbours without an n x n matrix in memory: plain, typed, of matched pairs, exact and approximate."""

from .approximate import approximate_neighbors
from .exact import find_neighbors
from .found import TYPES, Neighbors, TypedNeighbors
from .space import CHUNK_BYTES, is_collapsed, unit_rows
from .twins import RETRIEVAL_K, CrossRetrieval, cross_retrieval, twin_ranks

__all__ = [
    "CHUNK_BYTES",
    "RETRIEVAL_K",
    "TYPES",
    "CrossRetrieval",
    "Neighbors",
    "TypedNeighbors",
    "approximate_neighbors",
    "cross_retrieval",
    "find_neighbors",
    "is_collapsed",
    "twin_ranks",
    "unit_rows",
]
