"""Neighbours on a slide: who is beside whom, pairs of an epoch, and that both of a pair are drawn together."""

import numpy as np
import pandas as pd
import pytest
import torch

from histolatent.compact.neighbours import find_beside, pair_up
from histolatent.compact.plan import CompactionPlan
from histolatent.compact.prepared import prepare
from histolatent.compact.run import train
from histolatent.compact.training import as_pairs, draws
from histolatent.errors import InputError, OptionError
from histolatent.images import open_tiles

TILES = "phantom:sites=1,patients=4,slides=1,tiles_per_site=24,tile_px=48"
PLAN = CompactionPlan().changed(
    **{
        "training.steps": 6,
        "training.batch_size": 6,
        "training.check_every": 3,
        "projector": 16,
        "tile_px": 32,
        "objective.neighbours": True,
    }
)


def grid(side=4, slides=("a", "b"), step=100):
    """Slides of `side` x `side` tiles, `step` pixels apart."""
    places = [(x, y) for y in range(side) for x in range(side)]
    frame = pd.DataFrame([{"slide": slide, "x": x * step, "y": y * step} for slide in slides for x, y in places])
    frame.index = [f"t{k}" for k in range(len(frame))]
    return frame


def test_beside_is_the_eight_around_on_the_same_slide():
    beside = find_beside(grid(), range(32), 2)
    assert beside[0] == (1, 4, 5)
    assert beside[5] == (0, 1, 2, 4, 6, 8, 9, 10)
    assert beside[16] == (17, 20, 21)  # the first of the other slide


def test_only_rows_that_are_trained_on_are_beside():
    assert find_beside(grid(), [0, 1, 5, 16, 17], 1)[0] == (1, 5)


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_pairs_each_tile_once(seed):
    beside = find_beside(grid(), range(32), 2)
    order = pair_up(beside, np.random.default_rng(seed))
    assert len(order) % 2 == 0 and len(set(order)) == len(order) >= 24
    assert all(other in beside[one] for one, other in zip(order[::2], order[1::2], strict=True))


def test_pairs_change_from_epoch_to_epoch_and_go_on_without_end():
    beside = find_beside(grid(), range(32), 2)
    found = [next(drawn) for drawn in [draws(range(32), PLAN, 0, beside)] for _ in range(200)]
    epochs = {epoch: [row for row, e in found if e == epoch] for _, epoch in found}
    assert len(epochs) > 5 and len(set(map(tuple, list(epochs.values())[:5]))) == 5


def test_all_views_of_a_pair_become_views_of_one():
    z = torch.arange(2 * 6 * 1, dtype=torch.float32).reshape(2, 6, 1)
    paired = as_pairs(z)
    assert paired.shape == (4, 3, 1)
    assert sorted(paired[:, 1, 0].tolist()) == sorted([z[0, 2, 0], z[0, 3, 0], z[1, 2, 0], z[1, 3, 0]])


def test_training_with_neighbours(tmp_path):
    # The phantom lays tiles on a grid of each slide.
    source = open_tiles(TILES)
    made = train(prepare(source, PLAN, tmp_path), tmp_path)
    assert np.isfinite([list(entry.values()) for entry in made.history]).all()


@pytest.mark.parametrize(
    "spoil, match",
    [
        (lambda frame: frame.drop(columns="x"), "no column x"),
        (lambda frame: frame.assign(slide=[f"s{k}" for k in range(len(frame))]), "too few tiles lie beside"),
        (lambda frame: frame.assign(x=np.nan), "too few tiles lie beside"),
    ],
)
def test_tiles_without_neighbours_are_refused(spoil, match):
    with pytest.raises(InputError, match=match):
        find_beside(spoil(grid()), range(32), 2)


def test_a_batch_of_pairs_is_even(tmp_path):
    plan = PLAN.changed(**{"training.batch_size": 5})
    with pytest.raises(OptionError, match="in pairs"):
        train(prepare(open_tiles(TILES), plan, tmp_path), tmp_path)
