"""Stain transfer by networks, from each unseen site to the source: CycleGAN, and StainNet that imitates it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._types import Tile
from ...images import ChangedTiles, TileSource
from ..cohort import SOURCE
from .base import Method, Work


@dataclass(frozen=True, eq=False)
class Applied:
    """A network as a change of tiles."""

    network: Any

    def __call__(self, tile: Tile) -> Tile:
        """Return a tile in the look that the network gives it."""
        from .gan import apply_network

        return apply_network(self.network, tile)


def _fit(
    source: TileSource, target: Mapping[str, TileSource] | None, work: Work, *, imitated: bool
) -> Callable[[TileSource, str], TileSource]:
    from .gan import ImitationPlan, imitate, read_network, save_network, train_gan
    from .networks import Generator

    assert target is not None  # these methods are marked as needing it
    plan, changes = work.gan, {}
    for site, tiles in target.items():

        def make(path: Path, tiles: TileSource = tiles) -> None:
            save_network(train_gan(tiles, source, plan, seed=work.seed, device=work.device), path)

        network = read_network(Generator(plan.width, plan.blocks), work.once(f"generator {site}.safetensors", make))
        if imitated:
            network = imitate(tiles, network, ImitationPlan(), plan.crop_px, seed=work.seed, device=work.device)
        changes[site] = Applied(network)
    return lambda tiles, site: tiles if site == SOURCE else ChangedTiles(tiles, changes[site])


def _cyclegan(
    source: TileSource, target: Mapping[str, TileSource] | None, work: Work
) -> Callable[[TileSource, str], TileSource]:
    return _fit(source, target, work, imitated=False)


def _stainnet(
    source: TileSource, target: Mapping[str, TileSource] | None, work: Work
) -> Callable[[TileSource, str], TileSource]:
    return _fit(source, target, work, imitated=True)


METHODS = (
    Method(
        "cyclegan",
        "tiles",
        "GAN stain transfer from each site (StainGAN)",
        _cyclegan,
        "Zhu et al. 2017, ICCV; Shaban et al. 2019, ISBI",
        needs_target=True,
    ),
    Method(
        "stainnet",
        "tiles",
        "1 x 1 convolutions that imitate the GAN",
        _stainnet,
        "Kang et al. 2021, Frontiers in Medicine 8:746307",
        needs_target=True,
    ),
)
