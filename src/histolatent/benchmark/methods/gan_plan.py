"""How GAN stain transfer is trained, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ...errors import OptionError, unknown


@dataclass(frozen=True)
class GanPlan:
    """How a CycleGAN is trained. Losses are least squares for real or made, L1 for the cycle and the identity.

    `buffer` made tiles are kept, and a discriminator sees as often one of these as the last made.
    """

    steps: int = 800
    batch_size: int = 4
    crop_px: int = 64
    width: int = 16
    blocks: int = 3
    learning_rate: float = 2e-4
    cycle: float = 10.0
    identity: float = 5.0
    buffer: int = 50

    def changed(self, changes: Mapping[str, Any]) -> "GanPlan":
        """Return the plan with some numbers changed.

        Raises
        ------
        OptionError
            If there is no such number, or it is not above 0, or not a whole one where it has to be.
        """
        kinds = {field.name: type(field.default) for field in fields(self)}
        for name, value in changes.items():
            if name not in kinds:
                raise unknown("number of the plan of a GAN", name, kinds)
            allowed = (int,) if kinds[name] is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, allowed) or not value > 0:
                raise OptionError(
                    f"gan.{name} is a number above 0",
                    received=repr(value),
                    valid="a whole number" if kinds[name] is int else "a number",
                    fix=f"--set gan.{name}={getattr(self, name)}",
                )
        return replace(self, **changes)


@dataclass(frozen=True)
class ImitationPlan:
    """How a network of 1 x 1 convolutions is trained on what a GAN makes."""

    steps: int = 1500
    batch_size: int = 8
    learning_rate: float = 1e-2
