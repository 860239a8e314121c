"""What turns vectors back into tiles: ours, or anybody's with the same two methods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .._types import Tiles, Vectors
from ..encoders import EncoderCard
from ..errors import EncoderError, InputError


@runtime_checkable
class Decoder(Protocol):
    """Vectors to tiles. Whatever has these can be explored: an autoencoder, diffusers' AutoencoderKL behind an Adapter.

    `encoder` is the `identity` on the card of the encoder whose vectors it decodes; None where that is not known.
    """

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        ...

    @property
    def encoder(self) -> str | None:
        """Identity of the encoder whose vectors these are."""
        ...

    def decode(self, vectors: Vectors) -> Tiles:
        """Return uint8 RGB tiles of one size."""
        ...


@runtime_checkable
class Encodes(Decoder, Protocol):
    """A decoder that can also say which vector a tile has: then what it decodes can be checked by coming back."""

    def encode(self, tiles: Tiles) -> Vectors:
        """Return the vectors of tiles, the mean where there is a distribution."""
        ...


@runtime_checkable
class Differentiable(Decoder, Protocol):
    """A decoder whose tiles can be followed back to vectors: geodesics and Jacobians need it."""

    def images(self, vectors: Any) -> Any:
        """Return tiles `(n, 3, h, w)` from 0 to 1 of vectors `(n, d)`, both torch tensors, with gradients."""
        ...


@dataclass(frozen=True, eq=False)
class Adapter:
    """Any pair of functions as a decoder that encodes.

    `encodes` takes uint8 tiles `(n, h, w, 3)` and gives vectors `(n, d)`; `decodes` gives uint8 tiles of vectors.
    For diffusers' AutoencoderKL, whose latents are maps, flatten and unflatten them in these two.

    >>> grey = Adapter(1, lambda tiles: tiles.mean(axis=(1, 2, 3))[:, None].astype(np.float32),
    ...     lambda z: np.repeat(np.clip(z, 0, 255).astype(np.uint8), 48, axis=1).reshape(len(z), 4, 4, 3))
    >>> grey.encode(grey.decode(np.array([[7.0]], np.float32))).tolist()
    [[7.0]]
    """

    dim: int
    encodes: Callable[[np.ndarray], np.ndarray]
    decodes: Callable[[np.ndarray], np.ndarray]
    encoder: str | None = None

    def encode(self, tiles: Tiles) -> Vectors:
        """Return the vectors of tiles.

        Raises
        ------
        EncoderError
            If the function does not return one finite vector of the length said for each tile.
        """
        found = np.asarray(self.encodes(tiles))
        if found.shape != (len(tiles), self.dim) or not np.isfinite(found).all():
            raise EncoderError(
                "the encoding function broke its contract",
                received=f"shape {found.shape}",
                valid=f"finite numbers of shape {(len(tiles), self.dim)}",
            )
        return found.astype(np.float32)

    def decode(self, vectors: Vectors) -> Tiles:
        """Return the tiles of vectors.

        Raises
        ------
        EncoderError
            If the function does not return one uint8 RGB tile for each vector.
        """
        found = np.asarray(self.decodes(vectors))
        if found.dtype != np.uint8 or found.ndim != 4 or found.shape[0] != len(vectors) or found.shape[3] != 3:
            raise EncoderError(
                "the decoding function broke its contract",
                received=f"{found.dtype}, shape {found.shape}",
                valid=f"uint8 of shape ({len(vectors)}, h, w, 3)",
            )
        return found


def identity_of(card: Mapping[str, Any]) -> str | None:
    """Return the identity of the encoder that a table's card names; None where it names none."""
    named = card.get("encoder")
    return EncoderCard.model_validate(named).identity if isinstance(named, dict) else None


def check_fit(decoder: Decoder, dim: int, encoder: str | None) -> None:
    """Raise InputError unless a decoder is of vectors of this length, and of this encoder as far as both are known."""
    if decoder.dim != dim:
        raise InputError(
            "the decoder is of another space", received=f"vectors of {dim} numbers", valid=f"{decoder.dim} numbers"
        )
    if encoder is not None and decoder.encoder is not None and decoder.encoder != encoder:
        raise InputError(
            "the decoder is of another encoder's vectors",
            received=f"vectors of {encoder[:12]}",
            valid=f"vectors of {decoder.encoder[:12]}",
            fix="embed the tiles with the encoder that the decoder was trained on",
        )
