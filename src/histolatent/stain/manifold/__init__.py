"""The stain manifold: a sampler of virtual staining and scanning protocols, with coordinates. No torch here.

`histolatent.stain.tensors.manifold` renders batches of torch tensors by the same numbers.
"""

from .fitting import fit_prior
from .grid import StateGrid
from .prior import Prior, fixed_prior
from .sampler import StainManifold
from .staining import Anchor, state_between
from .state import AXES, Axis, ProtocolState

__all__ = [
    "AXES",
    "Anchor",
    "Axis",
    "Prior",
    "ProtocolState",
    "StainManifold",
    "StateGrid",
    "fit_prior",
    "fixed_prior",
    "state_between",
]
