"""The stain changes of `histolatent.stain` on batches of torch tensors, on any device, with gradients.

Import it by name: `histolatent.stain` does without torch.
"""

from .recolour import recolour
from .separate import optical_density, separate

__all__ = ["optical_density", "recolour", "separate"]
