"""An attribute that no straight direction has is changed as decoded tiles show it; colours and others are held."""

import numpy as np
import pandas as pd
import pytest
import torch

from histolatent.errors import InputError
from histolatent.explore.decoding import Adapter
from histolatent.explore.seen import seen_effects
from histolatent.explore.space import LatentSpace

PX, DIM = 32, 10


class Discs:
    """Draws a disc: place and flatness are in one number each, size is in the product of two, colours are in six."""

    dim, encoder = DIM, None

    def sizes(self, z):
        return 3 + torch.nn.functional.softplus(2 + 1.5 * z[:, 2] * z[:, 3])

    def images(self, vectors):
        grid = torch.arange(PX) - PX / 2
        flat = (0.2 * vectors[:, 1:2, None]).exp()
        across, down = (grid[None, None, :] - 3 * vectors[:, :1, None]) / flat, grid[None, :, None] * flat
        inside = torch.sigmoid(self.sizes(vectors)[:, None, None] - (across**2 + down**2 + 1e-3).sqrt())[:, None]
        disc, around = (0.3 + 0.04 * vectors[:, 4:7], 0.75 + 0.04 * vectors[:, 7:])
        return disc[:, :, None, None] * inside + around[:, :, None, None] * (1 - inside)

    def decode(self, vectors):
        with torch.inference_mode():
            images = self.images(torch.from_numpy(np.asarray(vectors, np.float32)))
        return images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def area(tiles):
    """How many pixels are nearer to the darkest than to the brightest, by tile: no reader takes part in it."""
    grey = tiles.mean(axis=3)
    middle = (grey.min(axis=(1, 2)) + grey.max(axis=(1, 2))) / 2
    return (grey < middle[:, None, None]).sum(axis=(1, 2))


@pytest.fixture(scope="module")
def space():
    vectors = np.random.default_rng(0).normal(size=(400, DIM)).astype(np.float32)
    sizes = Discs().sizes(torch.from_numpy(vectors)).numpy()
    obs = pd.DataFrame(
        {
            "size": sizes,
            "flat": vectors[:, 1],
            "large": np.where(sizes > np.median(sizes), "yes", "no"),
            "dealt": np.random.default_rng(1).normal(size=400),
            "site": np.where(vectors[:, 7] > 0, "A", "B"),
            "patient": np.arange(400) // 20,
            "cohort": "one",
            "few": [1.0, 2.0, 3.0] * 3 + [None] * 391,
        },
        index=[f"t{k}" for k in range(400)],
    )
    return LatentSpace(vectors, tuple(obs.index), Discs(), obs=obs)


def test_what_no_straight_direction_has_is_seen_and_changed_with_colours_held(space):
    straight, seen = space.direction("size"), space.seen("size")
    assert straight.card.reads < 0.2 and seen.card.reads > 0.8 and seen.card.believable and not seen.notes
    assert seen.card.score == "correlation" and seen.card.shuffled < 0.3 and seen.card.groups == 20
    here = space.vectors[:24]
    by = [area(space.decode(seen.moved(here, amount * seen.spread))).mean() for amount in (-2, -1, 0, 1, 2)]
    assert np.all(np.diff(by) > 0.15 * area(space.decode(space.vectors)).std())
    before, after = (space.decode(z) / 255 for z in (here, seen.moved(here, 1.5 * seen.spread)))
    for colour in (lambda tiles: tiles.mean(axis=(1, 2)), lambda tiles: tiles.std(axis=(1, 2))):
        assert np.abs(colour(after) - colour(before)).mean() < 0.1 * colour(before).std(axis=0).mean()
    along = straight.moved(here, 1.5 * straight.spread)
    assert abs(area(space.decode(along)).mean() - by[2]) < 0.5 * (by[4] - by[2])


def test_a_move_changes_what_is_read_by_as_much_as_is_asked(space):
    seen, here = space.seen("size"), space.vectors[:9]
    moved = seen.moved(here, 1.2)
    assert 0.3 < seen.gain <= 1
    changed = (seen.value(moved) - seen.value(here)) / seen.gain
    assert np.median(changed) == pytest.approx(1.2, abs=0.06) and np.all((changed > 0.7) & (changed < 1.4))
    assert seen.moved(here[0], 1.2) == pytest.approx(moved[0], abs=0.02)
    assert seen.moved(here, 0) == pytest.approx(here) and seen.moved(here[:0], 1).shape == (0, DIM)


def test_others_are_held_as_another_reader_sees_it(space):
    size, flat = space.seen("size"), space.seen("flat")
    alone = size.without(flat)
    assert "leaves flat as they are" in alone.notes
    here = space.vectors[:20]
    moved = alone.moved(here, size.spread)
    assert np.abs(flat.value(moved) - flat.value(here)).mean() < 0.2 * flat.spread
    effects = seen_effects([size, alone, flat], [size, flat], space.vectors)
    assert list(effects.index) == ["size", "size", "flat"]
    own = effects.iloc[1]
    assert own["size"] > 0.3 and abs(own["flat"]) < own["size"] / 3
    assert effects.loc["flat", "flat"] > 0.3


def test_classes_confounders_and_what_is_not_there(space):
    large = space.seen("large", positive="yes", confounders=["site"])
    assert large.card.score == "AUROC" and large.card.reads > 0.8 and large.card.explained < 0.1
    assert large.unit == "from no to yes" and large.spread == 1 and large.positive == "yes"
    here = space["t3"]
    point = here.move(large, 1)
    assert point.said[-1] == "large +1" and large.value(point.vector) > large.value(here.vector)
    known = space.knowing(large)
    assert known["t3"].move("large", 1).vector == pytest.approx(point.vector)
    assert known.seen("size").without(known.directions["large"]).held[0] is large
    alone = space.seen("large", positive="yes", groups="cohort")
    assert alone.card.untested == "all tiles are of one cohort" and not alone.notes
    dealt = space.seen("dealt")
    assert not dealt.card.believable and "do not show dealt" in dealt.notes[0]


def test_what_cannot_be_moved_is_refused_in_words(space):
    size = space.seen("size")
    with pytest.raises(InputError, match="nothing is left of size beside what is held"):
        size.without(size).moved(space.vectors[:2], 1)
    with pytest.raises(InputError, match="not seen in the same decoded tiles"):
        size.without(space.direction("flat"))
    with pytest.raises(InputError, match=r"known of too few tiles|is constant"):
        space.seen("few")
    with pytest.raises(InputError, match="needs a decoder that can be differentiated"):
        LatentSpace(space.vectors, space.tiles, obs=space.obs).seen("size")
    plain = Adapter(DIM, lambda tiles: tiles[:, 0, 0], Discs().decode)
    with pytest.raises(InputError, match="Adapter"):
        LatentSpace(space.vectors, space.tiles, plain, obs=space.obs).seen("size")
