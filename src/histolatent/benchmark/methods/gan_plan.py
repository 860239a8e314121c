"""How GAN stain transfer is trained, without torch."""

from dataclasses import dataclass
from typing import ClassVar

from ...training.plans import Count, Plan, Positive


class GanPlan(Plan):
    """How a CycleGAN is trained. Losses are least squares for real or made, L1 for the cycle and the identity.

    `buffer` made tiles are kept, and a discriminator sees as often one of these as the last made.
    """

    called: ClassVar[str] = "the plan of a GAN"

    steps: Count = 800
    batch_size: Count = 4
    crop_px: Count = 64
    width: Count = 16
    blocks: Count = 3
    learning_rate: Positive = 2e-4
    cycle: Positive = 10.0
    identity: Positive = 5.0
    buffer: Count = 50


@dataclass(frozen=True)
class ImitationPlan:
    """How a network of 1 x 1 convolutions is trained on what a GAN makes."""

    steps: int = 1500
    batch_size: int = 8
    learning_rate: float = 1e-2
