"""What a step of training sees, and what it does: networks, batches, losses, the rate. Imports torch."""

import contextlib
import itertools
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..encoders.torch_models import Stages, TorchEncoder, normalise
from ..errors import InputError
from ..images import Item, Skipped, TileSource, stream_tiles
from ..provenance import stream
from ..stain.manifold import AXES, StainManifold
from ..stain.manifold.camera import DEFAULT_MPP
from ..stain.tensors.manifold import render_batch
from ..training.rates import rate_at
from .accumulate import accumulated
from .gather import gather
from .losses import LOSSES
from .neighbours import Beside, find_beside, pair_up
from .networks import Decoder, Discriminator, make_projector
from .plan import CompactionPlan
from .reversal import reversal_strength
from .training_views import TARGET_STRIDE, Seen, TrainingViews

#: What losses are multiplied by, so that a weight of 1 means about as much for each: Barlow's sums over dimensions.
SCALES: Mapping[str, Callable[[int], float]] = {
    "barlow": lambda width: 1 / width,
    "infonce": lambda width: 1.0,
    "vicreg": lambda width: 1 / 25,
    "ratio": lambda width: 1.0,
}


@dataclass(frozen=True, eq=False)
class Backbone:
    """An encoder to be trained, its two steps, and the channels and the stride of the map between them."""

    encoder: TorchEncoder
    stages: Stages
    grid_dim: int
    stride: int


@dataclass(eq=False)  # not frozen: mixed precision copies it field by field
class Step:
    """A micro-batch: uint8 pixels `(v, m, 3, s, s)`, amounts `(v, m, 2, q, q)`, and the states."""

    pixels: torch.Tensor
    amounts: torch.Tensor
    coordinates: torch.Tensor
    laboratories: torch.Tensor

    @classmethod
    def of(cls, seen: Sequence[Seen], manifold: StainManifold, device: torch.device | str = "cpu") -> "Step":
        """Put tiles together, and render those that are not yet, on the device."""

        def stack(name: str) -> torch.Tensor:
            return torch.from_numpy(np.stack([getattr(tile, name) for tile in seen], axis=1)).to(device)

        pixels = stack("pixels").permute(0, 1, 4, 2, 3)
        waiting = [tile.to_render for tile in seen if tile.to_render]
        if waiting:
            each = [(tile, view) for view in range(len(pixels)) for tile in waiting]
            rendered = render_batch(
                pixels.flatten(0, 1),
                [tile.states[view] for tile, view in each],
                manifold,
                mpp=[DEFAULT_MPP if tile.mpp is None else tile.mpp for tile, _ in each],
                slides=[tile.slide for tile, _ in each],
                tile_ids=[tile.names[view] for tile, view in each],
                check=False,
            )
            pixels = rendered.unflatten(0, pixels.shape[:2])
        return cls(pixels, stack("amounts"), stack("coordinates"), stack("laboratories"))

    def split(self, size: int) -> "list[Step]":
        """Cut into micro-batches of `size` tiles."""
        parts = (tensor.split(size, dim=1) for tensor in vars(self).values())
        return [Step(*part) for part in zip(*parts, strict=True)]


class Networks(nn.Module):
    """Everything that is trained. A part whose weight is 0 is not there."""

    spread: torch.Tensor
    decoder: Decoder | None

    def __init__(self, backbone: Backbone, plan: CompactionPlan) -> None:
        super().__init__()
        self.encoder = backbone.encoder.model
        self.backbone, self.plan = backbone, plan
        objective, dim = plan.objective, backbone.encoder.card.dim
        self.projector = make_projector(dim, plan.projector) if objective.compaction else None
        self.decoder = None
        if objective.reconstruction:
            self.decoder = make_decoder(backbone)
        self.discriminator = None
        if objective.adversary:
            self.discriminator = Discriminator(dim, plan.states.batches, len(AXES))
        self.register_buffer("spread", torch.ones(2))

    def forward(self, step: Step, reversal: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return projections `(v, m, width)`, or embeddings without a projector, and the other losses, weighted."""
        v, m = step.pixels.shape[:2]
        card = self.backbone.encoder.card
        images = normalise(step.pixels.flatten(0, 1), card.preprocessing)
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.backbone.stages.features(self.encoder, images)
        vectors = self.backbone.stages.pool(self.encoder, features, card.pooling).float()
        z = vectors if self.projector is None else self.projector(vectors)
        side: dict[str, torch.Tensor] = {}
        if self.decoder is not None:
            decoded = self.decoder(self.backbone.stages.grid(self.encoder, features)).float()
            wanted = step.amounts.flatten(0, 1).float() / self.spread.view(1, 2, 1, 1)
            wanted = nn.functional.interpolate(wanted, size=decoded.shape[2:], mode="area")
            side["reconstruction"] = self.plan.objective.reconstruction * (decoded - wanted).square().mean()
        if self.discriminator is not None:
            logits, coordinates = self.discriminator(vectors, reversal)
            told = nn.functional.cross_entropy(logits.float(), step.laboratories.flatten())
            told = told / math.log(self.plan.states.batches)
            placed = (coordinates.float() - step.coordinates.flatten(0, 1)).square().mean()
            side["adversary"] = self.plan.objective.adversary * (told + placed) / 2
        return z.unflatten(0, (v, m)), side


def make_decoder(backbone: Backbone) -> Decoder:
    """Return a decoder from the map of a network to amounts, at a quarter of the sides or as near as doublings come."""
    return Decoder(backbone.grid_dim, max(round(math.log2(backbone.stride / TARGET_STRIDE)), 0))


def order_of(rows: Sequence[int], plan: CompactionPlan, seed: int, epoch: int) -> list[int]:
    """Return the rows of an epoch in the order in which they are seen; what does not fill a batch is left out."""
    shuffled = stream(seed, "order", epoch).permutation(len(rows))
    size = plan.training.batch_size
    return [rows[place] for place in shuffled[: len(rows) // size * size]]


def draws(
    rows: Sequence[int], plan: CompactionPlan, seed: int, beside: Beside | None = None
) -> Iterator[tuple[int, int]]:
    """Yield rows as steps take them, each with the number of the epoch, without end; pairs one after the other."""
    for epoch in itertools.count():
        order = order_of(rows, plan, seed, epoch) if beside is None else pair_up(beside, stream(seed, "pairs", epoch))
        yield from ((row, epoch) for row in order)


def read_batches(
    source: TileSource,
    rows: Sequence[int],
    views: TrainingViews,
    *,
    first_step: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    on_error: str = "stop",
) -> Generator[list[Seen], None, None]:
    """Yield the tiles of one step after the other, from `first_step` on: the share of this process of each batch."""
    plan, size, last = views.plan, views.plan.training.batch_size, views.plan.training.steps
    own = size // world
    ids = [str(name) for name in source.table.index]
    beside = find_beside(source.table, rows, size // 2) if plan.objective.neighbours else None

    def tasks() -> Iterator[tuple[int, str]]:
        drawn = itertools.islice(draws(rows, plan, views.seed, beside), first_step * size, last * size)
        mine = itertools.cycle([rank * own <= place < (rank + 1) * own for place in range(size)])
        yield from ((row, f"{epoch} {ids[row]}") for row, epoch in itertools.compress(drawn, mine))

    places, names = itertools.tee(tasks())
    results = stream_tiles(
        source,
        (row for row, _ in places),
        views,
        names=(name for _, name in names),
        workers=workers,
        on_error=on_error,
        ahead=2 * own,
    )
    with contextlib.closing(results):
        while True:
            batch = list(itertools.islice(results, own))
            if not batch:
                return
            yield _filled(batch)


def _filled(batch: Sequence[Item[Seen] | Skipped]) -> list[Seen]:
    """Return what was seen; in the place of a tile that could not be read stands the one beside it, so that all fits.

    Raises
    ------
    InputError
        If none could be read.
    """
    read = {place: result.value for place, result in enumerate(batch) if isinstance(result, Item)}
    if not read:
        raise InputError("none of the tiles of a step can be read", received=f"{len(batch)} tiles")
    spare = next(iter(read.values()))
    return [read.get(place, read.get(place ^ 1, spare)) for place in range(len(batch))]


def as_pairs(z: torch.Tensor) -> torch.Tensor:
    """Return projections `(v, n, d)` of tiles in pairs as `(2 v, n / 2, d)`: all views of both are views of one."""
    v, n, d = z.shape
    return z.reshape(v, n // 2, 2, d).transpose(1, 2).reshape(2 * v, n // 2, d)


def run_step(
    networks: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: Step,
    plan: CompactionPlan,
    *,
    at: int,
    **fabric: Any,
) -> dict[str, float]:
    """Take one step; return what it cost, by part."""
    settings = plan.training
    for group in optimizer.param_groups:
        group["lr"] = rate_at(at, settings.steps, settings.warmup, settings.learning_rate)
    reversal = reversal_strength(at / settings.steps)
    scale = plan.objective.compaction * SCALES[plan.objective.loss](plan.projector)
    compare = LOSSES[plan.objective.loss]

    def loss(z: torch.Tensor) -> torch.Tensor:
        if not scale:
            return z.sum() * 0
        whole = gather(z)
        return scale * compare(as_pairs(whole) if plan.objective.neighbours else whole)

    optimizer.zero_grad()
    micro = plan.training.micro_batch or step.pixels.shape[1]
    done = accumulated(lambda part: networks(part, reversal), step.split(micro), loss, **fabric)
    optimizer.step()
    return {"compaction": done.loss, **done.side}
