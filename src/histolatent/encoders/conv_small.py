"""A small residual network of our own: the default backbone of compaction. Imports torch: load it late."""

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

#: Channels after the stem and after each of the four stages: 1.2 million weights.
WIDTHS = (16, 32, 64, 128, 256)
#: Pixels that one place of the map of features stands for, a side.
STRIDE = 32
#: In the stem and in so many stages, half of the channels are normalised within each tile.
SPLIT_STAGES = 2


class ConvSmall(nn.Module):
    """A stem and four residual stages, each of which halves the sides: `(n, 3, h, w)` to `(n, d, h / 32, w / 32)`.

    Takes tiles of any size from 32 pixels. The mean over places is the embedding, so that one network serves tiles of
    all sizes at one resolution. In the first layers half of the channels are normalised within each tile, which takes
    out brightness and contrast; the others keep them (IBN-a of Pan et al., ECCV 2018).
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False), _SplitNorm(widths[0]), nn.ReLU()
        )
        pairs = enumerate(itertools.pairwise(widths))
        self.stages = nn.Sequential(*(_Stage(before, after, k < SPLIT_STAGES) for k, (before, after) in pairs))
        self.dim = widths[-1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the map of features."""
        return self.stages(self.stem(images))


class _Stage(nn.Module):
    """Two convolutions beside a pooled and projected way around them."""

    def __init__(self, before: int, after: int, split: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            _SplitNorm(after) if split else nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.around = _Halved(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(features) + self.around(features))


class _Halved(nn.Sequential):
    """Pool by 2 and project: of even sides in one convolution, which takes half the time on a CPU."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling() or input.shape[-2] % 2 or input.shape[-1] % 2:
            return super().forward(input)
        weight = self[1].weight
        assert isinstance(weight, torch.Tensor)
        return nn.functional.conv2d(input, (weight / 4).expand(-1, -1, 2, 2), stride=2)


class _SplitNorm(nn.Module):
    """Normalise half of the channels over the places of each tile, the others over the batch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = nn.InstanceNorm2d(channels // 2, affine=True)
        self.shared = nn.BatchNorm2d(channels - channels // 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        own, shared = features.split([self.own.num_features, self.shared.num_features], dim=1)
        # Normalisation over the batch is several times slower on a slice.
        return torch.cat([self.own(own), self.shared(shared.contiguous())], dim=1)


def _features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model(images)


def _pool(model: nn.Module, features: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    return features.float().mean(dim=(2, 3))


def _grid(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    return features


def _below(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    assert isinstance(model, ConvSmall)
    found = [model.stem(images)]
    for stage in itertools.islice(model.stages, len(model.stages) - 1):
        found.append(stage(found[-1]))
    return found


embed_conv_small = Stages(_features, _pool, _grid, _below)


def rebuild_conv_small(
    weights: Path, card: EncoderCard, config: dict[str, Any], *, device: str | None, precision: Precision | None
) -> "TorchEncoder":
    """Build the network from its configuration and weights file."""
    from .rebuild import filled

    model = ConvSmall(config["widths"])
    return filled(weights, card, config, model, embed_conv_small, device, precision)
