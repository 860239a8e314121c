"""What an encoder is to the rest of histolatent."""

from typing import Protocol, runtime_checkable

from .._types import Tiles, Vectors
from .card import EncoderCard, Precision


@runtime_checkable
class Encoder(Protocol):
    """Pixels to vectors: a card and a forward pass.

    Use `histolatent.encoders.encode` to embed raw tiles: it applies `card.preprocessing` before `forward`.
    """

    @property
    def card(self) -> EncoderCard:
        """The frozen identity."""
        ...

    def forward(self, prepared: Tiles) -> Vectors:
        """Embed tiles that `prepare` has brought to size. Scaling and mean/std happen in here.

        Takes uint8 `(n, h, w, 3)` in RGB, returns float32 `(n, d)` with `d = card.dim`. A row depends on its own tile
        only, and rows come back in order.
        """
        ...


@runtime_checkable
class HasPrecision(Encoder, Protocol):
    """An encoder that may be able to compute in another precision than its card says."""

    def at_precision(self, precision: Precision) -> Encoder | None:
        """Return the same encoder in another precision, None where it cannot."""
        ...
