"""What a training of a generative model does, as numbers and names: a TOML file, checked. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ...training.plans import Count, Part, Plan, Positive, Share, Weight

#: An autoencoder, a variational one, or a decoder of vectors that a frozen encoder gives.
Kind = Literal["ae", "vae", "decoder"]
KINDS: tuple[Kind, ...] = ("ae", "vae", "decoder")


class GenerativeTraining(Part):
    """How it is trained.

    `steps` count batches of `batch_size` tiles. The learning rate rises over the share `warmup` of them, and falls to 0
    by half a cosine. The share `held_out` of the tiles, by whole patients or slides, is not trained on, and looked at
    every `check_every` steps, when a checkpoint is written.
    """

    steps: Count = 4000
    batch_size: Annotated[int, Field(ge=2, strict=True)] = 64
    learning_rate: Positive = 2e-3
    weight_decay: Weight = 1e-5
    warmup: Share = 0.05
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    held_out: Annotated[float, Field(gt=0, lt=0.5, strict=True)] = 0.1
    check_every: Count = 400


class GenerativePlan(Plan):
    """A training run, but for its tiles and its kind.

    Tiles are brought to `tile_px` a side. `latent` is the length of the vectors (of `decoder` it is the encoder's, and
    this is the number of principal components that it starts from). `widths` are the channels of the encoder, whose
    sides are halved once for each but the first; `mending` those of the decoder at a half and a quarter of the sides,
    with `blocks` residual blocks at the latter.

    - `bands`: levels of a Laplacian pyramid in which a tile is compared with what is decoded, each with a noise of its
      own, which is what is left of it: fine detail, of small contrast, then counts as much as broad colour. 1 compares
      pixels.
    - `beta`: of `vae`, the weight of the divergence from the normal prior; 1 is the likelihood's own.
    - `shrink`: of `ae`, the weight of the mean squared latent number, which keeps them near 0.
    - `noise`: of `decoder`, noise added to vectors, as a share of their spread: what it decodes then changes evenly.
    """

    package: ClassVar[str] = "histolatent.explore.generative"
    presets: ClassVar[tuple[str, ...]] = ("demo", "small")

    about: Mapping[str, str] = {}
    tile_px: Annotated[int, Field(ge=16, strict=True)] = 64
    latent: Annotated[int, Field(ge=2, strict=True)] = 256
    widths: tuple[Count, ...] = (16, 32, 64, 128, 128)
    mending: tuple[Count, Count] = (32, 64)
    blocks: Count = 2
    bands: Annotated[int, Field(ge=1, le=6, strict=True)] = 3
    beta: Weight = 1.0
    shrink: Weight = 1e-3
    noise: Weight = 0.1
    training: GenerativeTraining = GenerativeTraining()

    @model_validator(mode="after")
    def _sides_can_be_halved(self) -> "GenerativePlan":
        halvings = len(self.widths) - 1
        if halvings < 1 or self.tile_px % (1 << halvings) or self.tile_px >> halvings < 2:
            raise ValueError(
                f"tiles of {self.tile_px} px cannot be halved {halvings} times: tile_px must be a multiple of "
                f"{1 << max(halvings, 1)}, and twice that or more"
            )
        if self.tile_px % 4:
            raise ValueError(f"tiles of {self.tile_px} px cannot be quartered: tile_px must be a multiple of 4")
        if self.tile_px >> (self.bands - 1) < 4:
            raise ValueError(f"tiles of {self.tile_px} px have no {self.bands} bands")
        return self
