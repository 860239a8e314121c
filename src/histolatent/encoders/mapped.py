"""An encoder with a frozen map on its vectors. Imports torch only for maps that need it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .._types import Tiles, Vectors
from .card import EncoderCard
from .protocol import Encoder


@dataclass(frozen=True, eq=False)
class MappedEncoder:
    """`map(base(tiles))`: the vectors of another encoder, each changed by itself."""

    card: EncoderCard
    base: Encoder
    map: Callable[[Vectors], Vectors]
    recipe: dict[str, Any] = field(default_factory=dict, repr=False)

    def forward(self, prepared: Tiles) -> Vectors:
        """Embed with the base, then map."""
        return self.map(self.base.forward(prepared))
