"""embed: tiles in, a whole table out, whatever happens in between."""

import errno
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histolatent.embeddings import card_of, obs_of, read_table
from histolatent.encoders import EncoderCard, encode, encoder
from histolatent.encoders.embed import as_table, embed, embed_views
from histolatent.errors import EncoderError, InputError, OptionError, OutputError
from histolatent.images import open_tiles
from histolatent.perturb import Ladder
from histolatent.provenance import combined_digest, pixel_hash

TOY_NAMES = ("colour-histogram", "od-moments", "random-conv", "random-projection")


@dataclass
class Stopping:
    """A toy that counts its tiles, and raises when it is given the tile number `at`."""

    toy: object
    at: int | None = None
    seen: int = 0
    batches: list[int] = field(default_factory=list)

    @property
    def card(self) -> EncoderCard:
        return self.toy.card

    def forward(self, prepared):
        if self.at is not None and self.seen <= self.at < self.seen + len(prepared):
            raise KeyboardInterrupt
        self.seen += len(prepared)
        self.batches.append(len(prepared))
        return self.toy.forward(prepared)


@pytest.fixture
def folder(tmp_path) -> Path:
    """17 noisy tiles of two sizes in two classes."""
    rng = np.random.default_rng(5)
    root = tmp_path / "tiles"
    for i in range(17):
        path = root / ("a", "b")[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32 + 8 * (i % 3 == 1), 3), dtype=np.uint8)).save(path)
    return root


@pytest.mark.parametrize("name", TOY_NAMES)
def test_numbers_do_not_depend_on_batches_or_workers(folder, tmp_path, name):
    toy = encoder(f"toy:{name}")
    source = open_tiles(folder)
    oracle = encode(toy, [source.read(i) for i in range(17)])
    for batch_size in (1, 5, 64):
        table = embed(folder, toy, tmp_path / f"{batch_size}.zarr", batch_size=batch_size)
        np.testing.assert_array_equal(np.asarray(table.X), oracle)


def test_workers_change_nothing(folder, tmp_path):
    toy = encoder("toy:random-conv")
    alone = embed(folder, toy, tmp_path / "a.zarr", batch_size=4)
    helped = embed(folder, toy, tmp_path / "b.zarr", batch_size=4, workers=2)
    np.testing.assert_array_equal(np.asarray(alone.X), np.asarray(helped.X))
    assert card_of(alone)["tiles"] == card_of(helped)["tiles"]


def test_table_and_card_say_what_was_embedded(folder, tmp_path):
    toy = encoder("toy:od-moments")
    progress = []
    table = embed(folder, toy, tmp_path / "a.zarr", progress=lambda done, total: progress.append((done, total)))
    back = read_table(tmp_path / "a.zarr")
    source = open_tiles(folder)
    hashes = [pixel_hash(source.read(i)) for i in range(17)]
    assert list(obs_of(back)["label"]) == ["a"] * 9 + ["b"] * 8
    assert list(obs_of(back)["pixel_hash"]) == hashes
    np.testing.assert_array_equal(np.asarray(back.X), np.asarray(table.X))
    card = card_of(back)
    assert EncoderCard.model_validate(card["encoder"]).identity == toy.card.identity
    assert card["tiles"]["tiles"] == 17
    assert card["tiles"]["pixels_sha256"] == combined_digest(hashes)
    assert card["tiles"]["sizes"] == {"32 x 32": 11, "40 x 32": 6}
    assert card["tiles"]["same_pixels_twice"] == 0
    assert card["tiles"]["skipped"] == {}
    assert card["environment"]["versions"]["numpy"] == np.__version__
    assert progress[0] == (0, 17)
    assert progress[-1] == (17, 17)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "tiles"]


def test_skipped_tiles_and_copies_are_in_the_card(folder, tmp_path):
    (folder / "a" / "04.png").write_text("no image")
    (folder / "b" / "15.png").write_bytes((folder / "b" / "13.png").read_bytes())
    Image.open(folder / "a" / "00.png").save(folder / "a" / "00.png", icc_profile=b"x" * 128)
    with pytest.raises(InputError, match=r"not an image.*04\.png"):
        embed(folder, encoder("toy:od-moments"), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    table = embed(folder, encoder("toy:od-moments"), tmp_path / "a.zarr", on_error="skip")
    card = card_of(table)["tiles"]
    assert table.n_obs == card["tiles"] == 16
    assert list(card["skipped"]) == ["a/04.png"]
    assert "not an image" in card["skipped"]["a/04.png"]
    assert card["same_pixels_twice"] == 1
    assert card["notes"] == {"embedded ICC profile ignored": 1}
    assert "a/04.png" not in table.obs_names


def test_all_tiles_skipped_is_an_error(tmp_path):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "a.png").write_text("no image")
    with pytest.raises(InputError, match=r"all 1 were skipped. Received: not an image"):
        embed(tmp_path / "tiles", encoder("toy:od-moments"), tmp_path / "a.zarr", on_error="skip")
    Image.new("RGB", (20, 20)).save(tmp_path / "tiles" / "a.png")
    assert embed(tmp_path / "tiles", encoder("toy:od-moments"), tmp_path / "a.zarr").n_obs == 1


@pytest.mark.parametrize(("name", "at"), [*((name, 11) for name in TOY_NAMES), ("random-conv", 0), ("random-conv", 16)])
def test_an_interrupted_run_goes_on_and_ends_the_same(folder, tmp_path, name, at):
    toy = encoder(f"toy:{name}")
    whole = embed(folder, toy, tmp_path / "whole.zarr", batch_size=4)
    first = Stopping(toy, at)
    with pytest.raises(KeyboardInterrupt):
        embed(folder, first, tmp_path / "a.zarr", batch_size=4)
    assert not (tmp_path / "a.zarr").exists()
    second = Stopping(toy)
    table = embed(folder, second, tmp_path / "a.zarr", batch_size=4)
    np.testing.assert_array_equal(np.asarray(table.X), np.asarray(whole.X))
    assert {**card_of(table), "created": ""} == {**card_of(whole), "created": ""}
    # Finished blocks are not computed again; a block that was cut is computed whole.
    finished = at // 4 * 4
    assert second.seen == 17 - finished
    assert not (tmp_path / "a.zarr.partial").exists()


def test_a_run_that_was_skipping_and_now_must_stop_does(folder, tmp_path):
    (folder / "a" / "04.png").write_text("no image")
    toy = encoder("toy:od-moments")
    with pytest.raises(KeyboardInterrupt):
        embed(folder, Stopping(toy, 12), tmp_path / "a.zarr", batch_size=4, on_error="skip")
    with pytest.raises(InputError, match=r"04\.png"):
        embed(folder, toy, tmp_path / "a.zarr", batch_size=4)


def test_another_plan_is_refused_until_restart(folder, tmp_path):
    toy = encoder("toy:od-moments")
    with pytest.raises(KeyboardInterrupt):
        embed(folder, Stopping(toy, 12), tmp_path / "a.zarr", batch_size=4)
    with pytest.raises(OutputError, match="another batch size is there"):
        embed(folder, toy, tmp_path / "a.zarr", batch_size=5)
    with pytest.raises(OutputError, match="another encoder, shape is there"):
        embed(folder, encoder("toy:random-conv"), tmp_path / "a.zarr", batch_size=4)
    (folder / "b" / "99.png").write_bytes((folder / "b" / "01.png").read_bytes())
    with pytest.raises(OutputError, match="another shape, tiles is there"):
        embed(folder, toy, tmp_path / "a.zarr", batch_size=4)
    anew = Stopping(toy)
    assert embed(folder, anew, tmp_path / "a.zarr", batch_size=4, restart=True).n_obs == anew.seen == 18


def test_several_encoders_and_views_at_once(folder, tmp_path):
    names = ("od-moments", "random-conv")
    encoders = [encoder(f"toy:{name}") for name in names]
    targets = [tmp_path / f"{name}.zarr" for name in names]
    source = open_tiles(folder)
    ladder = Ladder(("flip", "brightness"), seed=3)
    embedded = embed_views(source, encoders, targets, views=ladder, batch_size=33)
    assert embedded.names[:3] == ("tile", "flip@1", "flip@2")
    tiles = [source.read(i) for i in range(17)]
    for position, toy in enumerate(encoders):
        table = as_table(embedded, position, source, toy)
        np.testing.assert_array_equal(np.asarray(table.X), encode(toy, tiles))
        for step, name in enumerate(ladder.names[1:], start=1):
            views = [ladder(tile, str(source.table.index[i]), None)[step] for i, tile in enumerate(tiles)]
            np.testing.assert_array_equal(np.asarray(table.layers[name]), encode(toy, views), err_msg=name)
    assert (embedded.stores[0].hashes() == embedded.stores[1].hashes()).all()


def test_one_encoder_that_fails_does_not_harm_the_other(folder, tmp_path):
    good, bad = encoder("toy:od-moments"), Stopping(encoder("toy:random-conv"), 9)
    targets = [tmp_path / "good.zarr", tmp_path / "bad.zarr"]
    source = open_tiles(folder)
    with pytest.raises(KeyboardInterrupt):
        embed_views(source, [good, bad], targets, batch_size=4)
    counting = Stopping(good)
    embedded = embed_views(source, [counting], targets[:1], batch_size=4)
    table = as_table(embedded, 0, source, good)
    np.testing.assert_array_equal(np.asarray(table.X), encode(good, [source.read(i) for i in range(17)]))
    assert table.n_obs == 17
    assert counting.seen == 5


def test_numbers_that_are_not_finite_name_their_tile(folder, tmp_path):
    class Broken(Stopping):
        def forward(self, prepared):
            return np.where(np.arange(len(prepared))[:, None] == 2, np.nan, super().forward(prepared))

    with pytest.raises(EncoderError, match=r"not finite. Received: NaN or infinity for tile a/06\.png"):
        embed(folder, Broken(encoder("toy:od-moments")), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_an_output_that_exists_is_refused_before_the_work(folder, tmp_path):
    toy = Stopping(encoder("toy:od-moments"))
    embed(folder, toy, tmp_path / "a.zarr")
    with pytest.raises(OutputError, match="exists already"):
        embed(folder, toy, tmp_path / "a.zarr")
    assert toy.seen == 17
    assert embed(folder, toy, tmp_path / "a.zarr", overwrite=True).n_obs == 17


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a.txt", OptionError, r"no form of embedding table has this ending. Received: a\.txt"),
        ("a.h5", InputError, r"one HDF5 file per slide needs slide, x, y"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_the_work(folder, tmp_path, name, error, message):
    toy = Stopping(encoder("toy:od-moments"))
    with pytest.raises(error, match=message):
        embed(folder, toy, tmp_path / name)
    assert toy.seen == 0


def test_a_batch_size_of_zero_is_refused(folder, tmp_path):
    with pytest.raises(OptionError, match=r"batch_size is less than one. Received: 0"):
        embed(folder, encoder("toy:od-moments"), tmp_path / "a.zarr", batch_size=0)


def test_a_full_disk_at_the_end_keeps_the_work(folder, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("anndata.io.write_elem", fail)
    toy = Stopping(encoder("toy:od-moments"))
    with pytest.raises(OutputError, match="the disk is full"):
        embed(folder, toy, tmp_path / "a.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr.partial", "tiles"]
    monkeypatch.undo()
    assert embed(folder, toy, tmp_path / "a.zarr").n_obs == toy.seen == 17


def test_dates_and_odd_column_names_survive_the_whole_road(folder, tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"path": ["a/00.png", "b/01.png"], "H/E ratio": [0.5, 2.0]})
    frame["day"] = pd.to_datetime(["2020-01-02", None])
    frame.to_parquet(folder / "m.parquet")
    table = embed(folder / "m.parquet", encoder("toy:od-moments"), tmp_path / "a.zarr")
    assert list(obs_of(read_table(tmp_path / "a.zarr"))["H_E ratio"]) == [0.5, 2.0]
    assert obs_of(table)["day"].isna().tolist() == [False, True]
