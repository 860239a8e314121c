"""GAN stain transfer: a CycleGAN for each unseen site, and a network of 1 x 1 convolutions that imitates it.

Imports torch: what registers the methods imports it late.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from ..._types import Tile
from ...compact.training_views import Place
from ...encoders.torch_models import choose_device
from ...errors import CompactionError
from ...images import TileSource
from ...outputs import whole
from ...provenance import stream
from .gan_plan import GanPlan, ImitationPlan
from .networks import Discriminator, Generator, stain_net


class Diverged(CompactionError):
    """A loss that is no longer finite, or tiles that all came out the same."""


def train_gan(
    theirs: TileSource, ours: TileSource, plan: GanPlan, *, seed: int = 0, device: str | None = None
) -> Generator:
    """Train two generators and two discriminators between unpaired tiles of two sites; return that from theirs to ours.

    Zhu et al. 2017, ICCV (CycleGAN); Shaban et al. 2019, ISBI (StainGAN) is the same between stainings.

    Raises
    ------
    CompactionError
        If a loss is no longer finite, or every tile comes out the same.
    """
    place = choose_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        forth, back = (Generator(plan.width, plan.blocks).to(place) for _ in range(2))
        real_ours, real_theirs = (Discriminator(plan.width).to(place) for _ in range(2))
    makers = torch.optim.Adam([*forth.parameters(), *back.parameters()], plan.learning_rate, betas=(0.5, 0.999))
    judges = torch.optim.Adam(
        [*real_ours.parameters(), *real_theirs.parameters()], plan.learning_rate, betas=(0.5, 0.999)
    )
    decay = lambda step: min(1.0, 2 * (1 - step / plan.steps))  # noqa: E731 - as long again, linearly to none
    rates = [torch.optim.lr_scheduler.LambdaLR(each, decay) for each in (makers, judges)]
    kept = [_Buffer(plan.buffer, stream(seed, "gan buffer", name)) for name in ("ours", "theirs")]
    pairs = zip(
        _batches(theirs, plan.crop_px, plan.batch_size, seed, "theirs"),
        _batches(ours, plan.crop_px, plan.batch_size, seed, "ours"),
        strict=True,
    )
    for step, (x, y) in enumerate(itertools.islice(pairs, plan.steps)):
        x, y = x.to(place), y.to(place)
        made_ours, made_theirs = forth(x), back(y)
        loss = _least_squares(real_ours(made_ours), 1) + _least_squares(real_theirs(made_theirs), 1)
        loss = loss + plan.cycle * (_gap(back(made_ours), x) + _gap(forth(made_theirs), y))
        loss = loss + plan.identity * (_gap(forth(y), y) + _gap(back(x), x))
        makers.zero_grad()
        loss.backward()
        makers.step()
        judged = sum(
            0.5 * (_least_squares(judge(real), 1) + _least_squares(judge(older.draw(made.detach())), 0))
            for judge, real, made, older in ((real_ours, y, made_ours, kept[0]), (real_theirs, x, made_theirs, kept[1]))
        )
        judges.zero_grad()
        judged.backward()  # pyright: ignore[reportAttributeAccessIssue]
        judges.step()
        for rate in rates:
            rate.step()
        if not torch.isfinite(loss + judged):
            raise Diverged(f"the losses of a GAN are not finite at step {step}", received=theirs.name)
    _check_spread(forth, next(_batches(theirs, plan.crop_px, 16, seed, "check")).to(place), theirs.name)
    return forth.eval().cpu()


def imitate(
    theirs: TileSource,
    generator: nn.Module,
    plan: ImitationPlan,
    crop_px: int,
    *,
    seed: int = 0,
    device: str | None = None,
) -> nn.Module:
    """Train 1 x 1 convolutions to do to each pixel what the generator does to it. Kang et al. 2021, Front. Med. 8."""
    place = choose_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = stain_net().to(place)
    generator = generator.to(place)
    optimiser = torch.optim.SGD(network.parameters(), plan.learning_rate, momentum=0.9)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps)
    batches = _batches(theirs, crop_px, plan.batch_size, seed, "imitation")
    for step, tiles in enumerate(itertools.islice(batches, plan.steps)):
        tiles = tiles.to(place)
        with torch.no_grad():
            wanted = generator(tiles)
        loss = _gap(network(tiles), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        if not torch.isfinite(loss):
            raise Diverged(f"the loss of an imitation is not finite at step {step}", received=theirs.name)
    generator.cpu()
    return network.eval().cpu()


class _Buffer:
    """Made tiles that are kept: half of the time a discriminator sees an older one, which the new one replaces."""

    def __init__(self, size: int, random: np.random.Generator) -> None:
        self.size, self.random, self.kept = size, random, list[torch.Tensor]()

    def draw(self, made: torch.Tensor) -> torch.Tensor:
        shown = []
        for tile in made:
            if len(self.kept) < self.size:
                self.kept.append(tile)
            elif self.random.random() < 0.5:
                place = int(self.random.integers(self.size))
                tile, self.kept[place] = self.kept[place], tile
            shown.append(tile)
        return torch.stack(shown)


def _batches(source: TileSource, crop_px: int, size: int, seed: int, name: str) -> Iterator[torch.Tensor]:
    """Yield random crops, turned and mirrored, in -1 to 1, without end."""
    n = len(source.table)
    for epoch in itertools.count():
        random = stream(seed, "gan batches", name, epoch)
        order = random.permutation(n)
        if n < size:
            order = random.integers(n, size=size)
        for start in range(0, len(order) - size + 1, size):
            crops = [_crop(source.read(int(row)), crop_px, random) for row in order[start : start + size]]
            yield to_network(np.stack(crops))


def _crop(tile: Tile, side: int, random: np.random.Generator) -> Tile:
    place = Place.draw(tile.shape, min(side, *tile.shape[:2]), random)
    return place.turn(place.cut(tile))


def to_network(tiles: UInt8[np.ndarray, "n h w 3"]) -> torch.Tensor:
    """Return tiles as networks take them: `(n, 3, h, w)`, -1 to 1."""
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 127.5 - 1


def apply_network(network: nn.Module, tile: Tile) -> Tile:
    """Return a tile in the look that a network gives it."""
    with torch.inference_mode():
        made = network(to_network(tile[None]))[0]
    levels = (made.permute(1, 2, 0) + 1) * 127.5
    return levels.clamp(0, 255).round().to(torch.uint8).numpy()


def save_network(network: nn.Module, path: Path) -> None:
    """Write the weights, whole or not at all."""
    from safetensors.torch import save_file

    with whole(path, overwrite=True) as part:
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, part)


def read_network(network: nn.Module, path: Path) -> nn.Module:
    """Fill a network with weights."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path))
    return network.eval()


def _least_squares(scores: torch.Tensor, wanted: int) -> torch.Tensor:
    return ((scores - wanted) ** 2).mean()


def _gap(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return (made - wanted).abs().mean()


def _check_spread(generator: nn.Module, tiles: torch.Tensor, name: str) -> None:
    """Refuse a generator that gives every tile the same look, whatever is on it."""
    with torch.inference_mode():
        before, after = (part.std(dim=0).mean() for part in (tiles, generator(tiles)))
    if not after > 0.05 * before:
        raise Diverged("a GAN makes the same of every tile", received=name)
