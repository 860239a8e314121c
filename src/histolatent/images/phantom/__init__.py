"""A synthetic H&E cohort with known truth: tissue drawn as stain concentrations, rendered by named sites.

Deliberately independent of `histolatent.stain`: the truth must not share code with what is tested against it.
"""

from .protocols import Protocol, Scanner, Stain, protocols
from .spec import PhantomSpec
from .tiles import PhantomTiles
from .writing import write_phantom

__all__ = ["PhantomSpec", "PhantomTiles", "Protocol", "Scanner", "Stain", "protocols", "write_phantom"]
