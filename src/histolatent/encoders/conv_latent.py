"""The encoder of an autoencoder of our own: tiles of one size to a few numbers. Imports torch: load it late."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .card import EncoderCard, Pooling, Precision
from .torch_models import Stages

if TYPE_CHECKING:
    from .torch_models import TorchEncoder


class ConvLatent(nn.Module):
    """Convolutions that halve the sides once for each width but the first, then one linear map to the latent vector.

    `(n, 3, px, px)` to a map of features `(n, d, s, s)`. `mean` makes the latent vector of it; `spread`, of a
    variational one, the logarithm of the variance of each number, which is used in training and never when tiles are
    embedded.
    """

    def __init__(self, tile_px: int, latent: int, widths: Sequence[int], *, variational: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        side = tile_px >> (len(widths) - 1)
        self.mean = nn.Linear(widths[-1] * side * side, latent)
        self.spread = nn.Linear(widths[-1] * side * side, latent) if variational else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the map of features."""
        return self.layers(images)


def _features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model(images)


def _pool(model: nn.Module, features: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    assert isinstance(model, ConvLatent)
    return model.mean(features.flatten(1)).float()


def _grid(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    return features


def _below(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    return []


embed_conv_latent = Stages(_features, _pool, _grid, _below)


def rebuild_conv_latent(
    weights: Path, card: EncoderCard, config: dict[str, Any], *, device: str | None, precision: Precision | None
) -> "TorchEncoder":
    """Build the network from its configuration and weights file."""
    from .rebuild import filled

    model = ConvLatent(config["tile_px"], card.dim, config["widths"], variational=config["variational"])
    return filled(weights, card, config, model, embed_conv_latent, device, precision)
