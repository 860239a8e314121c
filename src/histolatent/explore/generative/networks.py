"""From vectors to tiles, and how alike two tiles are. Imports torch."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional


class TileDecoder(nn.Module):
    """From vectors `(n, d)` to tiles `(n, 3, px, px)` with values from 0 to 1.

    Vectors are first moved by `shift` and divided by `scale`, the mean and spread of those that it was trained on. A
    linear map gives a small map of features, whose sides are doubled once for each width but the first.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, tile_px: int, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.side, self.first = tile_px >> (len(widths) - 1), widths[-1]
        self.register_buffer("shift", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.inward = nn.Linear(latent, self.first * self.side * self.side)
        layers: list[nn.Module] = [nn.BatchNorm2d(self.first), nn.ReLU()]
        for before, after in itertools.pairwise(reversed(widths)):
            layers += [
                nn.Upsample(scale_factor=2.0),
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[0], 3, 3, padding=1))

    def forward(self, vectors: Float[torch.Tensor, "n d"]) -> Float[torch.Tensor, "n 3 _h _w"]:
        """Return the tiles."""
        grid = self.inward((vectors - self.shift) / self.scale)
        return torch.sigmoid(self.layers(grid.unflatten(1, (self.first, self.side, self.side))))


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
