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


#: The logarithm of the variance that numbers of a variational model begin with.
NARROW = -3.0


def unit(before: int, after: int, *, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    """Return the layers of a convolution, normalised over the batch."""
    return (
        nn.Conv2d(before, after, kernel, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


class ConvLatent(nn.Module):
    """A linear map of pixels to the latent vector, and convolutions that add to it what is not linear.

    Convolutions halve the sides once for each width but the first. `(n, 3, px, px)` becomes a map of their features
    `(n, c, s, s)`, with what is linear (`axes`, about `centre`) as further channels, alike at all places. `latent`
    makes the vector of it, and of a variational one the logarithm of the variance of each number, which is used in
    training and never when tiles are embedded.
    """

    centre: torch.Tensor
    axes: torch.Tensor

    def __init__(self, tile_px: int, latent: int, widths: Sequence[int], *, variational: bool) -> None:
        super().__init__()
        halved = (unit(before, after, kernel=4, stride=2) for before, after in itertools.pairwise(widths))
        self.layers = nn.Sequential(*unit(3, widths[0]), *itertools.chain.from_iterable(halved))
        side, self.width = tile_px >> (len(widths) - 1), widths[-1]
        self.mean = nn.Linear(self.width * side * side, latent)
        self.spread = nn.Linear(self.width * side * side, latent) if variational else None
        for layer in (self.mean, self.spread):  # it begins with what is linear
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.constant_(layer.bias, 0.0 if layer is self.mean else NARROW)
        self.register_buffer("centre", torch.zeros(3 * tile_px * tile_px))
        self.register_buffer("axes", torch.zeros(3 * tile_px * tile_px, latent))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the map of features."""
        found = self.layers(images)
        linear = (images.flatten(1) - self.centre) @ self.axes
        return torch.cat([found, linear[:, :, None, None].expand(-1, -1, *found.shape[2:])], dim=1)

    def latent(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the vectors, and the logarithms of variances where there are any."""
        found, linear = features[:, : self.width].flatten(1), features[:, self.width :, 0, 0]
        return self.mean(found) + linear, None if self.spread is None else self.spread(found)


def _features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model(images)


def _pool(model: nn.Module, features: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    assert isinstance(model, ConvLatent)
    return model.latent(features)[0].float()


def _grid(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    assert isinstance(model, ConvLatent)
    return features[:, : model.width]


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
