"""The convolutional stem of CTransPath. Imports torch: load it late."""

from typing import Any

import torch


class ConvStem(torch.nn.Module):
    """Patch embedding of CTransPath: two 3 x 3 convolutions with stride 2, then a 1 x 1 convolution, in NHWC.

    Takes the arguments of timm's `PatchEmbed`, whose place it takes in a Swin transformer with patches of 4 px.

    Reference: Wang et al., "Transformer-based unsupervised contrastive learning for histopathological image
    classification", Medical Image Analysis 2022.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: type[torch.nn.Module] | None = None,
        **unused: Any,
    ) -> None:
        super().__init__()
        side = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.grid_size = (side[0] // patch_size, side[1] // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        narrow, wide = embed_dim // 8, embed_dim // 4
        self.proj = torch.nn.Sequential(
            torch.nn.Conv2d(in_chans, narrow, kernel_size=3, stride=2, padding=1, bias=False),
            torch.nn.BatchNorm2d(narrow),
            torch.nn.ReLU(),
            torch.nn.Conv2d(narrow, wide, kernel_size=3, stride=2, padding=1, bias=False),
            torch.nn.BatchNorm2d(wide),
            torch.nn.ReLU(),
            torch.nn.Conv2d(wide, embed_dim, kernel_size=1),
        )
        self.norm = norm_layer(embed_dim) if norm_layer else torch.nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return patch embeddings `(n, h / 4, w / 4, d)`."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))
