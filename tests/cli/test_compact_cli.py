"""`histolatent compact`: from tiles to an encoder that loads, and what a user gets wrong first."""

import json

import numpy as np
import pytest
from PIL import Image

from histolatent.encoders import encode, encoder, save_encoder
from histolatent.images import open_tiles

TILES = "phantom:sites=1,patients=4,slides=1,tiles_per_site=32,tile_px=64"
QUIETLY = ("--workers", "0", "--quiet")
SHORT = ("--set", "training.steps=6", "--set", "training.batch_size=8", "--set", "projector=16")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "more"), [("linear", ("--strength", "1")), ("adapter", ())])
def test_an_encoder_compacted_is_an_encoder(run, tmp_path, kind, more):
    words = ("compact", TILES, "--kind", kind, "--on", "toy:random-conv", "--out", tmp_path / "lmc", *more)
    done = run(*words, *QUIETLY)
    assert done.exit_code == 0, done.output
    assert "twin retrieval" in done.output and "label" in done.output
    card = json.loads((tmp_path / "lmc" / "compaction.json").read_text())
    assert (card["kind"], card["on"], card["source"]["tiles"]) == (kind, "toy:random-conv", 32)
    assert card["folds"]["by"] == "patient" and sum(card["folds"]["tiles"]) == 32
    loaded = encoder(f"{tmp_path / 'lmc'}?verify=yes")
    tiles = [open_tiles(TILES).read(i) for i in range(3)]
    before, after = (encode(each, tiles) for each in (encoder("toy:random-conv"), loaded))
    assert before.shape == after.shape and not np.allclose(before, after)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lmc"]
    again = run("embed", TILES, "--encoder", tmp_path / "lmc", "--out", tmp_path / "e.npy", *QUIETLY)
    assert again.exit_code == 0 and f"32 tiles x {loaded.card.dim} numbers" in again.output


def test_an_encoder_trained_is_an_encoder(run, tmp_path, monkeypatch):
    monkeypatch.setattr("histolatent.compact.guards.fatal", lambda findings: False)  # of so short a training
    done = run("compact", TILES, "--out", tmp_path / "lmc", "--tensorboard", tmp_path / "runs", *SHORT, *QUIETLY)
    assert done.exit_code == 0, done.output
    assert "before training, trained, with its last map" in done.output
    card = json.loads((tmp_path / "lmc" / "compaction.json").read_text())
    assert card["kind"] == "encoder" and card["plan"]["training"]["steps"] == card["steps"] == 6
    loaded = encoder(f"{tmp_path / 'lmc'}?verify=yes")
    large = Image.fromarray(open_tiles(TILES).read(0)).resize((160, 128))
    assert encode(loaded, [np.asarray(large)]).shape == (1, loaded.card.dim)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lmc", "runs"]
    events = next((tmp_path / "runs").iterdir()).read_bytes()
    assert b"training/compaction" in events and b"checked/twin_top1" in events


def test_what_is_of_no_use_takes_no_place(run, tmp_path, monkeypatch):
    save_encoder(encoder("timm-random:test_vit2?img_size=64"), tmp_path / "lmc")
    before = (tmp_path / "lmc" / "card.json").read_bytes()
    monkeypatch.setattr("histolatent.compact.guards.fatal", lambda findings: True)
    done = run("compact", TILES, "--out", tmp_path / "lmc", "--overwrite", *SHORT, *QUIETLY)
    assert done.exit_code == 1 and "of no use" in done.output
    assert (tmp_path / "lmc" / "card.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lmc", "lmc.failed"]
    assert (tmp_path / "lmc.failed" / "training.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--backbone", "conv-large", "--set", "training.batch_size=8"),
            "no such backbone as conv-large.*conv-small and timm:NAME",
        ),
        (("--backbone", "conv-small", "--on", "toy:random-conv"), "--backbone is not for --kind linear"),
        (("--kind", "linaer", "--on", "toy:random-conv"), "no kind of compaction is called 'linaer'.*'linear'"),
        (("--kind", "linear"), "lie on an encoder.*--on ENCODER"),
        (("--kind", "encoder", "--on", "toy:random-conv"), "the kind encoder on none"),
        (("--on", "toy:random-conv", "--prior", "guessed"), "no such prior.*fitted, fixed"),
        (("--on", "toy:random-conv", "--strength", "-1"), "strength of a compaction"),
        (("--kind", "adapter", "--on", "toy:random-conv", "--strength", "1"), "only a linear compaction"),
        (("--on", "toy:random-conv", "--set", "tile_px=32"), "--set is not for --kind linear"),
        (("--strength", "2"), "--strength is not for --kind encoder"),
        (("--plan", "dmeo"), "did you mean 'demo'"),
        (("--set", "trainning.steps=3"), "trainning: is unknown.*did you mean 'training'"),
        (("--set", "backbone.x=3"), "backbone has no parts"),
        (("--set", "training.stepz=3"), "did you mean 'steps'"),
        (("--set", "training"), "NAME=VALUE"),
        (("--set", "tile_px=128", "--set", "training.batch_size=8"), "smaller than the crop"),
        (("--set", "training.batch_size=64"), "fewer tiles than a batch.*24 tiles to train on, 8 held out by patient"),
    ],
)
def test_what_cannot_be_asked(fails, tmp_path, words, said):
    import re

    code, line = fails("compact", TILES, "--out", tmp_path / "lmc", *words, *QUIETLY)
    assert code == 2 and re.search(said, line), line
    assert not (tmp_path / "lmc").exists()


def test_blank_tiles_and_tiles_of_another_stain(fails, tmp_path):
    for name, colour in (("blank", (245, 244, 246)), ("black", (0, 0, 0))):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(20):
            Image.new("RGB", (64, 64), colour).save(folder / f"{i}.png")
        code, line = fails("compact", folder, "--on", "toy:random-conv", "--out", tmp_path / "lmc", *QUIETLY)
        assert code == 2 and "hematoxylin and eosin" in line and "stain check" in line


def test_slides_in_brown_and_blue_are_refused_beside_pink_ones(fails, tmp_path):
    rng = np.random.default_rng(0)
    source, rows = open_tiles(TILES), ["path,slide"]
    vectors = np.array([[0.65, 0.70, 0.29], [0.30, 0.62, 0.72]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for i in range(24):
        amounts = rng.exponential(0.5, (64, 64, 2)) * (rng.random((64, 64, 2)) > 0.3)
        brown = np.rint(240 * np.exp(-amounts @ vectors)).astype(np.uint8)
        Image.fromarray(source.read(i) if i % 3 == 0 else brown).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,slide {i % 3}")
    (tmp_path / "tiles.csv").write_text("\n".join(rows))
    asked = ("compact", tmp_path / "tiles.csv", "--on", "toy:random-conv", "--out", tmp_path / "lmc")
    code, line = fails(*asked, *QUIETLY)
    assert code == 2 and "2 of 3: slide 1, slide 2" in line and "immunohistochemistry" in line


def test_the_output_is_never_lost(fails, run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    code, line = fails("compact", TILES, "--on", "toy:random-conv", "--out", tmp_path / "mine", "--overwrite", *QUIETLY)
    assert code == 2 and "was not written by this command" in line
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"
