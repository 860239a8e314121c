"""From vectors to tiles, and how alike two tiles are. Imports torch."""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ...encoders.conv_latent import unit


class TileDecoder(nn.Module):
    """From vectors `(n, d)` to tiles `(n, 3, px, px)`: a linear map, and convolutions that mend what it draws.

    Vectors are first moved by `shift` and divided by `scale`, the mean and spread of those that it was trained on.
    `rows` turns what comes out into a tile about `middle`: see `begin_linear`. The convolutions are at a half and a
    quarter of the sides. Values are about from 0 to 1, and are not cut off.
    """

    shift: torch.Tensor
    scale: torch.Tensor
    middle: torch.Tensor
    rows: torch.Tensor

    def __init__(self, tile_px: int, latent: int, widths: tuple[int, int], blocks: int) -> None:
        super().__init__()
        fine, coarse = widths
        self.side = tile_px
        self.register_buffer("shift", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.register_buffer("middle", torch.zeros(3 * tile_px * tile_px))
        self.register_buffer("rows", torch.zeros(latent, 3 * tile_px * tile_px))
        self.inward = nn.Sequential(nn.PixelUnshuffle(2), *unit(12, fine))
        self.middles = nn.Sequential(
            *unit(fine, coarse, kernel=4, stride=2),
            *(_Block(coarse) for _ in range(blocks)),
            nn.Conv2d(coarse, 4 * fine, 1, bias=False),
            nn.PixelShuffle(2),
            nn.BatchNorm2d(fine),
            nn.ReLU(),
        )
        last = nn.Conv2d(fine, 12, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)  # it begins with what is linear
        self.outward = nn.Sequential(*unit(2 * fine, fine), last, nn.PixelShuffle(2))

    def forward(self, vectors: Float[torch.Tensor, "n d"]) -> Float[torch.Tensor, "n 3 _h _w"]:
        """Return the tiles."""
        drawn = self.middle + ((vectors - self.shift) / self.scale) @ self.rows
        drawn = drawn.unflatten(1, (3, self.side, self.side))
        inner = self.inward(drawn * 2 - 1)
        return drawn + self.outward(torch.cat([inner, self.middles(inner)], dim=1))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *unit(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(features + self.layers(features))


def bands_of(images: Float[torch.Tensor, "n c h w"], count: int) -> list[torch.Tensor]:
    """Return a Laplacian pyramid: what each level loses when it is halved, the finest first, and the last level."""
    found = []
    for _ in range(count - 1):
        smaller = functional.avg_pool2d(images, 2)
        found.append(images - functional.interpolate(smaller, scale_factor=2.0, mode="nearest"))
        images = smaller
    return [*found, images]


def misfit(
    decoded: Float[torch.Tensor, "n c h w"], wanted: Float[torch.Tensor, "n c h w"], bands: int
) -> Float[torch.Tensor, ""]:
    r"""Return the negative log-likelihood of tiles per number, up to a constant, with the best noise of each band.

    $\frac{1}{2B} \sum_b \log \mathrm{MSE}_b$ over B bands, which count alike: a normal likelihood whose variance
    in each is what is left (Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders").
    """
    parts = zip(bands_of(decoded, bands), bands_of(wanted, bands), strict=True)
    return 0.5 * torch.stack([torch.log((one - other).square().mean() + 1e-6) for one, other in parts]).mean()


def divergence(mean: Float[torch.Tensor, "n d"], spread: Float[torch.Tensor, "n d"]) -> Float[torch.Tensor, ""]:
    """Return the Kullback-Leibler divergence of normal posteriors (`spread`: log variance) from the normal prior.

    It is summed over numbers, and the mean over tiles.
    """
    return 0.5 * (mean.square() + spread.exp() - spread - 1).sum(dim=1).mean()
