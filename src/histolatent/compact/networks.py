"""What is trained beside the encoder, and thrown away after: projector, decoder, discriminator. Imports torch."""

import itertools

import torch
from jaxtyping import Float
from torch import nn

from .reversal import reverse


def make_projector(dim: int, width: int) -> nn.Module:
    """Return two layers from embeddings `(n, d)` to what the compaction loss sees, `(n, width)`."""
    return nn.Sequential(nn.Linear(dim, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))


class Decoder(nn.Module):
    """From a map of features `(n, d, h, w)` to amounts of hematoxylin and eosin, `(n, 2, 2^k h, 2^k w)`.

    Amounts are those of the tile under canonical staining: whatever state the tile is seen under, they are the same.
    """

    def __init__(self, dim: int, doublings: int, widest: int = 128) -> None:
        super().__init__()
        widths = [max(widest >> k, 16) for k in range(doublings + 1)]
        layers: list[nn.Module] = [nn.Conv2d(dim, widths[0], 1)]
        for before, after in itertools.pairwise(widths):
            layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 2, 3, padding=1))

    def forward(self, features: Float[torch.Tensor, "n d h w"]) -> Float[torch.Tensor, "n 2 _h _w"]:
        """Return the amounts."""
        return self.layers(features)


class Discriminator(nn.Module):
    """Tells the virtual laboratory and the coordinates of the state from an embedding, behind gradient reversal."""

    def __init__(self, dim: int, batches: int, axes: int, width: int = 128) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width), nn.ReLU())
        self.laboratory, self.coordinates = nn.Linear(width, batches), nn.Linear(width, axes)

    def forward(self, vectors: Float[torch.Tensor, "n d"], strength: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits `(n, b)` of the laboratory and coordinates `(n, a)` in standard deviations."""
        seen = self.trunk(reverse(vectors, strength))
        return self.laboratory(seen), self.coordinates(seen)
