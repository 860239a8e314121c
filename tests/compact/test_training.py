"""Training: what a step sees, what a run leaves, and that an interrupted one ends where a whole one does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from histolatent.compact import loop
from histolatent.compact.last_map import STATES
from histolatent.compact.plan import CompactionPlan
from histolatent.compact.prepared import prepare, resize_tiles
from histolatent.compact.run import train
from histolatent.compact.scatter import Scatter
from histolatent.compact.states import StateViews
from histolatent.compact.training import Step, order_of, read_batches
from histolatent.encoders import encode, encoder, save_encoder
from histolatent.errors import CompactionError, InputError, OutputError
from histolatent.images import open_tiles
from histolatent.images.selected import SelectedTiles
from histolatent.provenance import stream
from histolatent.stain import hed_jitter, randstainna_change, recolour
from histolatent.training.checkpoint import CHECKPOINT
from histolatent.training.rates import rate_at

TILES = "phantom:sites=1,patients=4,slides=1,tiles_per_site=24,tile_px=48"
PLAN = CompactionPlan().changed(
    **{"training.steps": 6, "training.batch_size": 6, "training.check_every": 3, "projector": 16, "tile_px": 32}
)


@pytest.fixture(scope="module")
def source():
    return open_tiles(TILES)


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    return prepare(source, PLAN, tmp_path_factory.mktemp("kept"))


class Stopped(Exception):
    pass


def stop_at(step):
    def told(what, done, total, cost):
        if done == step:
            raise Stopped

    return told


def same(first, second):
    one, other = (made.encoder.base.model.state_dict() for made in (first, second))
    return all(torch.equal(one[key], other[key]) for key in one)


def ratio(encoder, prepared):
    """The compaction ratio of the tiles and states that a last map is fitted to."""
    views = StateViews(prepared.manifold, prepared.views.slides, states=STATES, held_out=0, seed=prepared.views.seed)
    ids = prepared.source.table.index
    seen = [encode(encoder, views(prepared.source.read(row), ids[row], None)) for row in prepared.rows]
    return Scatter(encoder.card.dim).add(np.array(seen)).ratio


def test_views_are_keyed_by_epoch_and_tile(prepared):
    views, tile = prepared.views, prepared.source.read(0)
    first, again, later = (views(tile, name, 0.5) for name in ("0 a", "0 a", "1 a"))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, later.pixels)
    assert first.pixels.shape == (2, 32, 32, 3) and first.amounts.shape == (2, 2, 8, 8)
    assert first.coordinates.shape[0] == 2 and not np.array_equal(*first.coordinates)


def test_views_have_one_place_or_each_its_own(prepared, source, tmp_path):
    tile = source.read(0)

    def alike(share):
        views = prepare(source, PLAN.changed(same_place=share), tmp_path).views
        return np.mean([np.array_equal(*views(tile, f"{k} a", 0.5).amounts) for k in range(200)])

    assert alike(1.0) == 1 and alike(0.0) < 0.05 and 0.35 < alike(0.5) < 0.65


@pytest.mark.parametrize("kind", ["hed-light", "hed-strong", "randstainna"])
def test_an_augmentation_takes_the_place_of_states(prepared, source, tmp_path, kind):
    plan = PLAN.changed(whiten=0.0, same_place=1.0, **{"states.kind": kind})
    augmented, plain = (prepare(source, p, tmp_path) for p in (plan, plan.changed(**{"states.strength": 0.0})))
    tile = source.read(0)
    seen, as_it_is = augmented.views(tile, "0 a", 0.5), plain.views(tile, "0 a", 0.5)
    assert np.array_equal(seen.amounts, as_it_is.amounts) and np.array_equal(*as_it_is.pixels)
    assert not np.array_equal(*seen.pixels)
    white = prepared.manifold.anchor_of(None).white
    change = {
        "hed-light": lambda: hed_jitter(0, "0 a 0", "light", white=white),
        "hed-strong": lambda: hed_jitter(0, "0 a 0", "strong", white=white),
        "randstainna": lambda: randstainna_change(
            as_it_is.pixels[0], augmented.views.augmentation.templates, 0, "0 a 0", white=white
        ),
    }[kind]()
    np.testing.assert_array_equal(seen.pixels[0], recolour(as_it_is.pixels[0], change))
    assert train(augmented, tmp_path).history


def test_the_device_renders_what_workers_render(prepared, source, tmp_path):
    tiles = [source.read(row) for row in (0, 5)]
    later = prepare(source, PLAN.changed(**{"states.render": "device"}), tmp_path).views
    names = [f"3 {source.table.index[row]}" for row in (0, 5)]
    ours = [prepared.views(tile, name, 0.5) for tile, name in zip(tiles, names, strict=True)]
    theirs = [later(tile, name, 0.5) for tile, name in zip(tiles, names, strict=True)]
    assert all(seen.to_render is not None for seen in theirs)
    one, other = (Step.of(seen, prepared.manifold).pixels.numpy().astype(int) for seen in (ours, theirs))
    gap = np.abs(one - other)
    # JPEG moves a block by some levels where one level of it rounds the other way.
    assert np.quantile(gap, 0.99) <= 1 and gap.mean() < 0.05
    assert not np.array_equal(theirs[0].pixels, ours[0].pixels)


def test_training_goes_on_with_states_rendered_on_the_device(source, tmp_path):
    made = train(prepare(source, PLAN.changed(**{"states.render": "device"}), tmp_path), tmp_path)
    usual = train(prepare(source, PLAN, tmp_path / "usual"), tmp_path / "usual")
    one, other = (run.history[0]["reconstruction"] for run in (made, usual))
    assert one == pytest.approx(other, rel=1e-2)


def test_vectors_are_whitened_and_saved_with_the_network(prepared, source, tmp_path):
    whitened = train(prepared, tmp_path / "a")
    plain = train(prepare(source, PLAN.changed(whiten=0), tmp_path / "b"), tmp_path / "b")
    tiles = [source.read(row) for row in range(4)]
    bare = encode(plain.encoder, tiles)
    np.testing.assert_array_equal(encode(whitened.encoder.base, tiles), bare)
    assert whitened.card["trained"] == plain.card["after"] == plain.card["trained"]
    assert ratio(whitened.encoder, prepared) < ratio(plain.encoder, prepared)
    save_encoder(whitened.encoder, tmp_path / "lmc")
    again = encode(encoder(str(tmp_path / "lmc"), device="cpu"), tiles)
    np.testing.assert_allclose(again, encode(whitened.encoder, tiles), rtol=1e-5, atol=1e-6)
    assert not np.allclose(again, bare, atol=1e-3)


def test_directions_go_in_which_states_are_most_of_the_variance(source, tmp_path):
    plan = PLAN.changed(whiten=0, remove_above=0.5)
    prepared = prepare(source, plan, tmp_path)
    made = train(prepared, tmp_path)
    assert ratio(made.encoder, prepared) < ratio(made.encoder.base, prepared)


def test_the_law_of_states_is_the_prior_whatever_the_laboratories(prepared):
    views = prepared.views
    drawn = np.array([views.state(k % 16, stream(0, "test", k)).to_array() for k in range(4000)])
    names = list(views.manifold.prior.sd)
    for name in ("hematoxylin_gain", "gamma"):
        column = drawn[:, names.index(name)]
        assert column.std() == pytest.approx(
            views.manifold.prior.sd[name], rel=0.35
        )  # 16 laboratories are a small sample
    laboratory = [drawn[k::16].mean(axis=0) for k in range(16)]
    share = np.var(laboratory, axis=0)[0] / drawn[:, 0].var()
    assert 0.3 < share < 0.7


def test_every_tile_once_an_epoch_in_an_order_of_its_own():
    rows = list(range(20))
    first, second = (order_of(rows, PLAN, 0, epoch) for epoch in (0, 1))
    assert len(set(first)) == len(first) == 18 and first != second


def test_batches_from_a_later_step_are_the_later_batches(prepared):
    def pixels(**more):
        found = read_batches(prepared.source, prepared.rows, prepared.views, **more)
        return [np.stack([tile.pixels for tile in batch]) for batch in found]

    whole, later = pixels(), pixels(first_step=4)
    assert len(whole) == 6 and len(later) == 2
    np.testing.assert_array_equal(np.stack(whole[4:]), np.stack(later))
    halves = [pixels(rank=rank, world=2) for rank in (0, 1)]
    np.testing.assert_array_equal(np.concatenate([half[3] for half in halves]), whole[3])


def test_the_rate_warms_up_and_falls_to_nothing():
    settings = PLAN.changed(**{"training.steps": 100}).training
    rates = [rate_at(step, settings.steps, settings.warmup, settings.learning_rate) for step in range(100)]
    assert np.argmax(rates) in (4, 5) and max(rates) == pytest.approx(PLAN.training.learning_rate)
    assert rates[-1] < 0.01 * max(rates) and rates[0] < 0.3 * max(rates)


def test_a_run_that_is_interrupted_ends_with_the_weights_of_one_that_is_not(prepared, tmp_path):
    whole = train(prepared, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(prepared, tmp_path / "cut", progress=stop_at(5))
    assert (tmp_path / "cut" / CHECKPOINT).exists()
    resumed = train(prepared, tmp_path / "cut")
    assert same(whole, resumed) and whole.history == resumed.history and whole.checks == resumed.checks
    assert not list(tmp_path.rglob("*.part"))
    tiles = [prepared.source.read(i) for i in range(2)]
    np.testing.assert_array_equal(encode(whole.encoder, tiles), encode(resumed.encoder, tiles))


def test_the_same_seed_gives_the_same_weights_and_another_others(prepared, source, tmp_path):
    first, second = (train(prepared, tmp_path / str(k)) for k in range(2))
    assert same(first, second)
    assert not same(first, train(prepare(source, PLAN, tmp_path, seed=1), tmp_path / "other"))


@pytest.mark.parametrize("loss", ["infonce", "vicreg", "ratio"])
def test_every_loss_and_every_part_trains(source, tmp_path, loss):
    changes = {"objective.loss": loss, "objective.adversary": 0.1, "training.micro_batch": 3, "states.views": 3}
    made = train(prepare(source, PLAN.changed(**changes), tmp_path), tmp_path)
    assert set(made.history[0]) == {"step", "compaction", "reconstruction", "adversary"}
    assert np.isfinite([list(entry.values()) for entry in made.history]).all()


def test_half_precision_trains(source, tmp_path):
    made = train(prepare(source, PLAN.changed(**{"training.precision": "bf16"}), tmp_path), tmp_path)
    assert np.isfinite([list(entry.values()) for entry in made.history]).all()
    assert made.encoder.card.precision == "fp32"


def test_a_timm_backbone_sees_tiles_at_one_scale(source, tmp_path):
    plan = PLAN.changed(backbone="timm:test_vit2", tile_px=None)
    made = train(prepare(source, plan, tmp_path), tmp_path)
    rule = made.encoder.card.preprocessing
    assert (rule.resize, rule.input_px, rule.resize_px) == ("squash", 48, None)
    with pytest.raises(InputError, match="whole square tiles"):
        prepare(source, PLAN.changed(backbone="timm:test_vit2"), tmp_path)


def test_tiles_are_brought_to_the_size_that_is_asked_for_and_the_encoder_does_it_itself(source, tmp_path):
    made_ready = prepare(source, PLAN.changed(input_px=36), tmp_path / "work")
    tile = source.read(3)
    small = resize_tiles(source, 36).read(3)
    assert small.shape == (36, 36, 3) and np.array_equal(made_ready.source.read(3), small)
    assert made_ready.source.table["mpp"].iloc[3] == pytest.approx(0.5 * 48 / 36)
    assert made_ready.views.tile_px == 32
    bare = SelectedTiles(source, np.arange(len(source.table)), source.table.drop(columns="mpp"))
    assert resize_tiles(bare, 24).table["mpp"].iloc[0] == pytest.approx(0.5 * 2)
    made = train(made_ready, tmp_path / "work")
    rule = made.encoder.card.preprocessing
    assert (rule.resize, rule.input_px) == ("squash", 36)
    save_encoder(made.encoder, tmp_path / "lmc")
    again = encoder(str(tmp_path / "lmc"))
    for used in (made.encoder, again):
        np.testing.assert_allclose(encode(used, [tile]), encode(used, [small]), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="smaller than the crop"):
        prepare(source, PLAN.changed(input_px=24), tmp_path / "small")


def test_where_no_tile_can_be_read_it_is_said(tmp_path):
    (tmp_path / "broken").mkdir()
    for k in range(12):
        (tmp_path / "broken" / f"{k}.png").write_bytes(b"no picture")
    for plan in (PLAN, PLAN.changed(input_px=36)):
        with pytest.raises(InputError, match="none of the tiles can be read"):
            prepare(open_tiles(tmp_path / "broken"), plan, tmp_path / "work", on_error="skip")


def test_the_group_nearest_to_the_share_is_held_out():
    from histolatent.training.holdout import leave_out

    folds = [np.arange(80), np.arange(80, 90), np.arange(90, 100)]
    held, rest = leave_out(folds, 0.15)
    assert len(held) == 10 and len(rest) == 90


def test_a_torn_checkpoint_is_refused(prepared, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"torn")
    with pytest.raises(OutputError, match=r"cannot be read.*--restart"):
        train(prepared, tmp_path)


def test_training_ends_early_with_the_weights_of_the_best_check(source, tmp_path, monkeypatch):
    from histolatent.compact import checker

    seen = iter([0.1, 0.3, 0.5, 0.5, 0.4, 0.9, 0.9])
    original = checker.look
    monkeypatch.setattr(checker, "look", lambda *args: replace(original(*args), twin_top1=next(seen)))
    plan = PLAN.changed(**{"training.steps": 15, "training.patience": 2})
    patient = train(prepare(source, plan, tmp_path), tmp_path / "patient")
    assert [check["twin_top1"] for check in patient.checks] == [0.1, 0.3, 0.5, 0.5, 0.4]
    assert (patient.card["steps"], patient.card["weights_of_step"]) == (12, 6)
    assert patient.card["trained"]["twin_top1"] == 0.5
    again = train(prepare(source, plan, tmp_path), tmp_path / "patient")  # its checkpoint says that it is over
    assert same(patient, again) and again.card["steps"] == 12


def test_a_running_mean_of_weights_lags_behind_them(source, tmp_path):
    first, plain, mean = (
        train(prepare(source, PLAN.changed(**changes), tmp_path), tmp_path / name)
        for name, changes in (
            ("none", {"training.learning_rate": 1e-12, "training.weight_decay": 0.0}),
            ("plain", {}),
            ("mean", {"training.ema": 0.9}),
        )
    )

    def apart(one, other):
        one, other = (made.encoder.base.model.stem[0].weight for made in (one, other))
        return float((one - other).norm())

    assert 0 < apart(mean, first) < apart(plain, first) and not same(mean, plain)


def test_a_part_whose_weight_is_0_is_not_there(source, tmp_path):
    made = train(prepare(source, PLAN.changed(**{"objective.reconstruction": 0.0}), tmp_path), tmp_path)
    assert set(made.history[0]) == {"step", "compaction"}


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(prepared, tmp_path, monkeypatch):

    original = loop.run_step

    def poisoned(*args, at, **more):
        return {"compaction": float("nan")} if at == 4 else original(*args, at=at, **more)

    monkeypatch.setattr(loop, "run_step", poisoned)
    with pytest.raises(CompactionError, match=r"no longer a number.*step 5.*last good state is kept"):
        train(prepared, tmp_path)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=False)["step"] == 3


def test_weights_that_are_no_numbers_are_not_kept(prepared, tmp_path, monkeypatch):
    original = loop.run_step

    def poisoned(networks, *args, at, **more):
        cost = original(networks, *args, at=at, **more)
        if at == 5:
            next(networks.parameters()).data[0] = float("inf")
        return cost

    monkeypatch.setattr(loop, "run_step", poisoned)
    with pytest.raises(CompactionError, match=r"weights are no longer numbers.*step 6"):
        train(prepared, tmp_path)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=False)["step"] == 3


def test_what_a_network_drops_at_random_is_the_same_after_an_interruption(prepared, tmp_path, monkeypatch):
    original, drawn = loop.run_step, {}

    def noted(*args, at, **more):
        drawn.setdefault(at, []).append(torch.rand(1).item())
        return original(*args, at=at, **more)

    monkeypatch.setattr(loop, "run_step", noted)
    torch.manual_seed(5)
    train(prepared, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(prepared, tmp_path / "stopped", progress=stop_at(4))
    torch.manual_seed(7)
    train(prepared, tmp_path / "stopped")
    assert len({values[0] for values in drawn.values()}) == 6
    assert all(len(set(values)) == 1 and len(values) >= 2 for values in drawn.values())


def test_the_loss_is_of_the_views_of_all_processes(prepared, tmp_path, monkeypatch):
    own = train(prepared, tmp_path / "own").history[0]
    monkeypatch.setattr("histolatent.compact.training.gather", lambda z: torch.cat([z, 2 * z + 1], dim=1))
    gathered = train(prepared, tmp_path / "gathered").history[0]
    assert gathered["reconstruction"] == own["reconstruction"]
    assert abs(gathered["compaction"] - own["compaction"]) > 0.05 * own["compaction"]


def test_in_the_place_of_a_tile_that_cannot_be_read_stands_the_one_beside_it(prepared):
    from histolatent.compact.training import _filled
    from histolatent.images import Item, Skipped

    def skipped(index):
        return Skipped(index, "broken")

    a, d = (prepared.views(prepared.source.read(row), f"0 {row}", 0.5) for row in (0, 3))
    batch = [Item(0, a, ()), skipped(1), skipped(2), Item(3, d, ()), skipped(4), skipped(5)]
    assert list(map(id, _filled(batch))) == list(map(id, [a, a, d, d, a, a]))
    with pytest.raises(InputError, match="none of the tiles of a step"):
        _filled([skipped(0), skipped(1)])


def test_a_checkpoint_of_another_plan_is_refused(prepared, source, tmp_path):
    with pytest.raises(Stopped):
        train(prepared, tmp_path, progress=stop_at(5))
    other = prepare(source, PLAN.changed(projector=8), tmp_path / "kept")
    with pytest.raises(OutputError, match=r"another plan is there.*--restart"):
        train(other, tmp_path)


def test_a_full_disk_keeps_the_checkpoint_before(prepared, tmp_path, monkeypatch):
    from lightning_fabric import Fabric

    with pytest.raises(Stopped):
        train(prepared, tmp_path, progress=stop_at(4))
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(self, path, state, **more):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Fabric, "save", full)
    with pytest.raises(OutputError, match="disk is full"):
        train(prepared, tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before and not list(tmp_path.glob("*.part"))


def test_too_little_to_train_on(source, tmp_path):
    with pytest.raises(InputError, match=r"fewer tiles than a batch.*held out by patient"):
        prepare(source, PLAN.changed(**{"training.batch_size": 50}), tmp_path)
    with pytest.raises(InputError, match="smaller than the crop"):
        prepare(source, PLAN.changed(tile_px=64), tmp_path)
