"""Methods of harmonisation, each in one file: what they are called, and chains of them."""

from ...images import ChangedTiles
from .base import Base, Method, Network, Space, Work
from .chain import METHODS, Chain, parse_chain

__all__ = ["METHODS", "Base", "Chain", "ChangedTiles", "Method", "Network", "Space", "Work", "parse_chain"]
