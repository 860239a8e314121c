"""GAN stain transfer: a planted change of colour is found, an imitation follows it, what diverges is said."""

import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from histolatent.benchmark.methods import METHODS, Work
from histolatent.benchmark.methods.gan import Diverged, apply_network, imitate, train_gan
from histolatent.benchmark.methods.gan_plan import GanPlan, ImitationPlan
from histolatent.benchmark.methods.networks import Discriminator, Generator
from histolatent.images import ChangedTiles, keep_tiles, open_tiles, select_rows

TINY = GanPlan(steps=2, crop_px=32, width=4, blocks=1)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return keep_tiles(open_tiles("phantom:sites=1,tiles_per_site=120,tile_px=64"), tmp_path_factory.mktemp("kept"))


def tinted(tile):
    """Another staining: less red, more blue, and paler."""
    levels = 255 - (255 - tile.astype(float)) * [1.0, 0.8, 0.55]
    return levels.round().clip(0, 255).astype(np.uint8)


def colour_gap(first, second):
    """The mean CIEDE2000 of two tiles, as blurred: colour, and not grain."""
    return float(deltaE_ciede2000(rgb2lab(first), rgb2lab(second)).mean())


@pytest.mark.slow
def test_a_planted_colour_map_between_sites_is_recovered(tiles):
    first = tiles.table["patient"].isin(["source/p01", "source/p02", "source/p03"]).to_numpy()
    ours, untouched = (select_rows(tiles, np.flatnonzero(mine)) for mine in (first, ~first))
    theirs = ChangedTiles(untouched, tinted)
    plan = GanPlan(steps=200, crop_px=32, width=8, blocks=2, learning_rate=1e-3)
    forth = train_gan(theirs, ours, plan, seed=0)
    rows = range(0, 60, 6)
    truth = [untouched.read(row) for row in rows]
    made = [apply_network(forth, theirs.read(row)) for row in rows]
    before = np.mean([colour_gap(tinted(tile), tile) for tile in truth])
    after = np.mean([colour_gap(tile, true) for tile, true in zip(made, truth, strict=True)])
    assert before > 8 and after < 5  # as the guide says
    small = imitate(theirs, forth, ImitationPlan(steps=400), plan.crop_px, seed=0)
    follows = np.mean([colour_gap(apply_network(small, theirs.read(row)), made[k]) for k, row in enumerate(rows)])
    assert follows < 4


def test_the_same_seed_makes_the_same_network(tiles):
    first, again, other = (train_gan(tiles, tiles, TINY, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("side", [32, 50, 63])
def test_networks_take_tiles_of_any_size(side):
    tile = np.random.default_rng(0).integers(0, 256, (side, side + 3, 3)).astype(np.uint8)
    assert apply_network(Generator(4, 1).eval(), tile).shape == tile.shape
    assert Discriminator(4)(torch.zeros(1, 3, side, side)).shape[2] == side // 4


def test_an_untrained_network_starts_from_the_tile(tiles):
    network = Generator(8, 2).eval()
    with torch.no_grad():
        network.body[-1].weight.zero_(), network.body[-1].bias.zero_()
    tile = tiles.read(0)
    assert np.abs(apply_network(network, tile).astype(int) - tile).max() <= 3  # ends of the scale are cut off


def test_a_gan_that_diverges_is_refused(tiles):
    with pytest.raises(Diverged, match="not finite at step"):
        train_gan(tiles, tiles, TINY.changed(steps=5, learning_rate=1e30), seed=0)


def test_the_plan_of_a_gan_is_that_of_the_run(tiles, tmp_path):
    change = METHODS["cyclegan"].fit(tiles, {"b": tiles}, Work(tmp_path, gan=TINY))
    assert (tmp_path / "generator b.safetensors").stat().st_size < 100_000  # a narrow network
    assert change(tiles, "b").read(0).shape == tiles.read(0).shape
    assert change(tiles, "source") is tiles
