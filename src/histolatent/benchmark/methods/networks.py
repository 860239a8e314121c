"""The networks of GAN stain transfer, small enough for a CPU. Imports torch."""

import torch
from torch import nn


class Generator(nn.Module):
    """Tiles `(n, 3, h, w)` in -1 to 1 to tiles in another look: halved twice, residual blocks, doubled twice.

    It starts from the tile as it is: what the network adds is added before the last tanh, so that colours move first
    and tissue stays where it is.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_step(nn.Conv2d(3, width, 7, padding=3, padding_mode="reflect"), width),
            *_step(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), 2 * width),
            *_step(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), 4 * width),
            *(_Residual(4 * width) for _ in range(blocks)),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_step(nn.Conv2d(4 * width, 2 * width, 3, padding=1, padding_mode="reflect"), 2 * width),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_step(nn.Conv2d(2 * width, width, 3, padding=1, padding_mode="reflect"), width),
            nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect"),
        )

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the tiles in the other look. Sides are brought to multiples of 4, and cut again."""
        height, width = tiles.shape[2:]
        padded = nn.functional.pad(tiles, (0, -width % 4, 0, -height % 4), mode="reflect")
        start = torch.atanh(padded.clamp(-0.98, 0.98))
        return torch.tanh(start + self.body(padded))[..., :height, :width]


class Discriminator(nn.Module):
    """Whether each patch of a tile is real: `(n, 3, h, w)` to `(n, 1, h / 4, w / 4)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.InstanceNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.InstanceNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return a score for each patch."""
        return self.body(tiles)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_step(nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"), width),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.body(features)


def _step(convolution: nn.Conv2d, width: int) -> tuple[nn.Module, ...]:
    return convolution, nn.InstanceNorm2d(width), nn.ReLU()


def stain_net(width: int = 32) -> nn.Module:
    """Return three 1 x 1 convolutions: each pixel's colour to another, whatever lies beside it."""
    return nn.Sequential(
        nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, 3, 1)
    )
