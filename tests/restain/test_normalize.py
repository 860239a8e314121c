"""Cohorts in another look: whole, resumable, never outside, and open as any cohort."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histolatent.errors import InputError, OptionError, OutputError
from histolatent.images import decode, open_tiles
from histolatent.provenance import combined_digest, file_digest, pixel_hash
from histolatent.restain import fit_source, normalize_source
from histolatent.restain.unfinished import UnfinishedFolder
from histolatent.stain import PerTileWarning, normalize, read_book, shipped_reference

from .conftest import Memory, card_of, pixels_of


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    """The cohort in the look of the phantom's source site, by slide."""
    out = tmp_path_factory.mktemp("normalized") / "out"
    return normalize_source(cohort, out, to="phantom")


def test_pixels_are_those_of_the_raw_function(cohort, book, done):
    source, made = open_tiles(cohort), open_tiles(done.folder)
    for row in (0, 9):
        fit = book.of(source.table["slide"].iloc[row])
        expected = normalize(source.read(row), fit, shipped_reference("phantom", "macenko"))
        np.testing.assert_array_equal(made.read(row), expected)
    assert (made.read(9) != source.read(9)).any()


def test_the_folder_is_a_cohort_with_every_column(cohort, done):
    source, made = open_tiles(cohort).table, open_tiles(done.folder).table
    assert list(made.columns) == [*source.columns, "stain_reason"]
    pd.testing.assert_frame_equal(made.drop(columns="stain_reason"), source)
    assert set(made["stain_reason"]) == {"ok"}
    assert sorted(path.name for path in done.folder.iterdir()) == ["card.json", "manifest.csv", "stain.json", "tiles"]
    assert sorted(path.name for path in done.folder.parent.iterdir()) == ["out"]


def test_the_card_holds_what_made_it(cohort, book, done):
    card = card_of(done.folder)
    made = open_tiles(done.folder)
    assert (card["method"], card["by"], card["tiles"], card["skipped"]) == ("macenko", "slide", 16, {})
    assert card["reasons"] == {"ok": 16} == dict(done.reasons)
    assert card["reference"]["kind"] == "shipped"
    assert card["manifest_sha256"] == file_digest(done.folder / "manifest.csv")
    assert card["pixels_sha256"] == combined_digest(pixel_hash(made.read(i)) for i in range(16))
    assert read_book(done.folder / "stain.json").slides == book.slides
    assert done.to_dict()["folder"] == str(done.folder)
    assert done.to_frame().to_dict("list") == {"reason": ["ok"], "tiles": [16]}


def test_workers_change_nothing(cohort, done, tmp_path):
    seen: list[tuple[int, int]] = []
    again = normalize_source(cohort, tmp_path / "o", to="phantom", workers=2, progress=lambda *step: seen.append(step))
    assert pixels_of(again.folder) == pixels_of(done.folder)
    assert card_of(again.folder) == card_of(done.folder)
    assert (again.folder / "manifest.csv").read_bytes() == (done.folder / "manifest.csv").read_bytes()
    assert seen == [*((i, 32) for i in range(1, 17)), *((i, 32) for i in range(16, 33))]


def stop_at(count):
    def progress(done, total):
        if done == count:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("at", [5, 17, 25, 32])
def test_an_interrupted_run_goes_on_and_ends_the_same(cohort, done, tmp_path, at):
    out, place = tmp_path / "out", tmp_path / "out.unfinished"
    with pytest.raises(KeyboardInterrupt):
        normalize_source(cohort, out, to="phantom", progress=stop_at(at))
    assert not out.exists()
    assert place.exists() == (at > 16)  # a fit that was stopped leaves nothing to go on from
    seen: list[tuple[int, int]] = []
    again = normalize_source(cohort, out, to="phantom", progress=lambda *step: seen.append(step))
    if at > 16:
        assert seen[0] == (at - 16, 16)  # fits and finished tiles are not made again
    assert pixels_of(out) == pixels_of(done.folder)
    assert card_of(out) == card_of(done.folder)
    assert again.reasons == done.reasons
    assert not place.exists()


KILLED = """
import os, signal, sys
from histolatent.restain import normalize_source
def progress(done, total):
    if done == 25:
        os.kill(os.getpid(), signal.SIGKILL)
normalize_source(sys.argv[1], sys.argv[2], to="phantom", progress=progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_process_leaves_nothing_that_looks_whole(cohort, done, tmp_path):
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(cohort), str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    normalize_source(cohort, out, to="phantom")
    assert pixels_of(out) == pixels_of(done.folder)
    assert card_of(out) == card_of(done.folder)


def test_a_torn_line_and_a_lost_tile_are_made_again(cohort, done, tmp_path):
    out, place = tmp_path / "out", tmp_path / "out.unfinished"
    with pytest.raises(KeyboardInterrupt):
        normalize_source(cohort, out, to="phantom", progress=stop_at(28))
    lines = (place / "done.jsonl").read_text().strip().splitlines()
    (place / "done.jsonl").write_text("\n".join([*lines[:-1], lines[-1][:-9]]))
    sorted(place.rglob("*.png"))[0].unlink()
    normalize_source(cohort, out, to="phantom")
    assert pixels_of(out) == pixels_of(done.folder)


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"to": "macenko"}, "reference"),
        ({"to": "phantom", "method": "reinhard"}, "method, options, reference"),
        ({"to": "phantom", "seed": 1}, "options"),
        ({"to": "phantom", "by": "all"}, "by"),
        ({"to": "phantom", "background": "map"}, "background"),
        ({"to": "phantom", "hue_limit": 30}, "hue_limit"),
    ],
)
def test_another_plan_is_refused_until_restart(cohort, tmp_path, options, differs):
    with pytest.raises(KeyboardInterrupt):
        normalize_source(cohort, tmp_path / "out", to="phantom", progress=stop_at(20))
    with pytest.raises(OutputError, match=f"an interrupted run with another {differs} is there.*--restart"):
        normalize_source(cohort, tmp_path / "out", **options)
    assert normalize_source(cohort, tmp_path / "out", restart=True, **options).tiles == 16


def test_another_stain_file_is_another_plan(cohort, book, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        normalize_source(cohort, tmp_path / "out", to="phantom", book=book, progress=stop_at(4))
    white = book.overall.model_copy(update={"white": (230.0, 230.0, 230.0)})
    other = book.model_copy(update={"slides": dict.fromkeys(book.slides, white)})
    with pytest.raises(OutputError, match="another stain file is there"):
        normalize_source(cohort, tmp_path / "out", to="phantom", book=other)
    assert normalize_source(cohort, tmp_path / "out", to="phantom", book=book).tiles == 16


def test_two_processes_do_not_write_to_one_output(cohort, done, tmp_path):
    out = tmp_path / "out"
    said = []

    def progress(at, total):
        if at == 20:
            with pytest.raises(OutputError, match=r"another process is writing to this output.*wait until"):
                normalize_source(cohort, out, to="phantom")
            with pytest.raises(OutputError, match="another process"):
                normalize_source(cohort, out, to="macenko", restart=True)
            said.append(at)

    result = normalize_source(cohort, out, to="phantom", progress=progress)
    assert said == [20]
    assert pixels_of(result.folder) == pixels_of(done.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_what_was_counted_survives_a_torn_line(tmp_path):
    """A full disk tears the last line; the next one must not be glued to it."""
    for tile, torn in (("a", '["b", {"rea'), ("c", "")):
        folder = UnfinishedFolder.open(tmp_path / "out", {"x": 1})
        folder.keep(tile, {"reason": "ok"})
        folder.checkpoint()
        folder.close()
        with (folder.place / "done.jsonl").open("a") as file:
            file.write(torn)
    assert set(UnfinishedFolder.open(tmp_path / "out", {"x": 1}).done) == {"a", "c"}


def test_a_tile_is_whole_or_not_there(cohort, book, tmp_path, monkeypatch):
    """A disk that is full in the middle of a tile leaves no half of it among the tiles."""

    def full(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Image.Image, "save", full)
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="the disk is full"):
        normalize_source(cohort, out, to="phantom")
    assert not list(tmp_path.rglob("tiles/**/*.png"))
    monkeypatch.undo()
    assert normalize_source(cohort, out, to="phantom").tiles == 16


def test_ink_is_left_alone_in_a_slide_that_is_changed(cohort, tmp_path):
    source = open_tiles(cohort)
    tiles = {str(k): source.read(k) for k in range(8)}
    ink = tiles["7"].copy()
    ink[10:60] = (40, 140, 90)
    memory = Memory({**tiles, "ink": ink}, {"slide": ["s"] * 9})
    result = normalize_source(memory, tmp_path / "out", to="phantom")
    assert result.reasons == {"ok": 8, "hue-flip": 1}
    assert result.unchanged == {}
    made = open_tiles(result.folder)
    np.testing.assert_array_equal(made.read(8), ink)
    assert made.table["stain_reason"].tolist() == ["ok"] * 8 + ["hue-flip"]
    every = normalize_source(memory, tmp_path / "every", to="phantom", hue_limit=180)
    assert every.reasons == {"ok": 9}


def test_an_output_that_came_to_be_meanwhile_is_kept(cohort, tmp_path):
    """Another run ended while this one was at work: neither is lost."""
    out = tmp_path / "out"

    def progress(at, total):
        if at == 32:
            out.mkdir()
            (out / "card.json").write_text("theirs")

    with pytest.raises(OutputError, match="was not written by this command"):
        normalize_source(cohort, out, to="phantom", progress=progress)
    assert (out / "card.json").read_text() == "theirs"
    (out / "card.json").unlink()
    assert normalize_source(cohort, out, to="phantom").tiles == 16


def test_glass_far_from_the_white_of_the_reference_is_said(cohort, tmp_path):
    ways = ("keep", "map")
    notes = [normalize_source(cohort, tmp_path / way, to="phantom", background=way, white=200).notes for way in ways]
    assert "glass of 4 of 4 fits lies more than 10 % from the reference's white (I0 200/200/200)" in notes[0][0]
    assert notes[1] == ()


def test_an_output_that_exists_is_kept(cohort, done, tmp_path):
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.tex").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="was not written by this command") as refused:
            normalize_source(cohort, mine, to="phantom", overwrite=overwrite)
        assert "--overwrite" not in str(refused.value)
    assert (mine / "chapter.tex").read_text() == "mine"
    out = tmp_path / "out"
    normalize_source(cohort, out, to="macenko")
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        normalize_source(cohort, out, to="phantom")
    normalize_source(cohort, out, to="phantom", overwrite=True)
    assert pixels_of(out) == pixels_of(done.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis"]


def test_the_tiles_themselves_are_never_replaced(cohort, tmp_path):
    first = tmp_path / "first"
    normalize_source(cohort, first, to="macenko")
    for out in (first, tmp_path):
        with pytest.raises(OutputError, match="what is read lies in the output"):
            normalize_source(first, out, to="phantom", overwrite=True)
    Image.new("RGB", (32, 32), (200, 100, 150)).save(tmp_path / "a.png")
    (tmp_path / "bare").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "bare" / "a.png")
    with pytest.raises(OutputError, match="be read with it the next time"):
        normalize_source(tmp_path / "bare", tmp_path / "bare" / "out", to="phantom")
    assert normalize_source(first, first / "again", to="phantom").tiles == 16  # a manifest names what is read
    made = open_tiles(first / "again").table
    assert {"stain_reason", "source_stain_reason"} <= set(made.columns)


def tissue(cohort, row: int = 0) -> np.ndarray:
    return open_tiles(cohort).read(row)


def test_odd_ids_are_kept_and_nothing_is_written_outside(cohort, tmp_path):
    ids = ["../../out of here", "/etc/passwd", "a.png", "a.jpg", "A", 'q"u,o;te', "käse/α β", "con", "x" * 400]
    tiles = {name: tissue(cohort, i) for i, name in enumerate(ids)}
    source = Memory(tiles, {"path": ["kept"] * 9, "note": ["a,b", '"', "", "007", "NA", "x\ny", "ü", None, "."]})
    base = tmp_path / "deep" / "er"
    made = normalize_source(source, base / "out", to="phantom", by="all")
    assert {path.name for path in base.iterdir()} == {"out"}
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    read = open_tiles(made.folder)
    assert list(read.table.index) == ids
    assert len(pixels_of(made.folder)) == 9
    assert set(read.table["source_path"]) == {"kept"}
    assert read.table["note"].tolist()[:2] == ["a,b", '"']
    assert read.table["note"].tolist()[3:7] == ["007", "NA", "x\ny", "ü"]
    assert all(read.read(i).shape == tiles[name].shape for i, name in enumerate(ids))


def test_tiles_of_a_slide_that_has_no_fit_are_left_as_they_are(cohort, tmp_path):
    blank = np.full((64, 64, 3), 243, np.uint8)
    green = np.tile(np.array([[[40, 160, 60], [20, 90, 30]]], np.uint8), (64, 32, 1))
    tiles = {"t0": tissue(cohort), "t1": blank, "t2": green, "t3": blank}
    source = Memory(tiles, {"slide": ["s", "white", "pen", "s"]})
    made = normalize_source(source, tmp_path / "out", to="phantom")
    read = open_tiles(made.folder)
    assert read.table["stain_reason"].tolist() == ["ok", "too-little-tissue", "too-little-tissue", "ok"]
    for row in (1, 2, 3):  # the white of a usable slide is background, and kept too
        np.testing.assert_array_equal(read.read(row), list(tiles.values())[row])
    assert made.reasons == {"ok": 2, "too-little-tissue": 2}
    assert set(made.unchanged) == {"white", "pen"}
    assert "fewer than 100 pixels" in made.unchanged["pen"]


def test_a_hue_flip_is_refused_by_slide(cohort, book, tmp_path):
    slide = next(iter(book.slides))
    green = book.of(slide).model_copy(update={"tissue_colour": (60.0, 160.0, 70.0)})
    flipped = book.model_copy(update={"slides": {**book.slides, slide: green}})
    made = normalize_source(cohort, tmp_path / "out", to="phantom", book=flipped)
    table = open_tiles(made.folder).table
    assert set(table.loc[table["slide"] == slide, "stain_reason"]) == {"hue-flip"}
    assert made.reasons == {"ok": 12, "hue-flip": 4}
    assert "the mean hue of the tissue would turn by" in made.unchanged[slide]


def test_an_all_white_cohort_is_copied(tmp_path):
    blank = np.full((64, 64, 3), 243, np.uint8)
    made = normalize_source(Memory({"a": blank}, {}), tmp_path / "out", to="phantom")
    assert made.reasons == {"too-little-tissue": 1}
    assert set(made.unchanged) == {"all tiles"}
    assert (decode(made.folder / "tiles" / "a.png") == blank).all()
    assert any("no column 'slide'" in note for note in made.notes)


def test_by_tile_warns_once_and_has_no_stain_file(cohort, tmp_path):
    with pytest.warns(PerTileWarning, match="every tile is fitted by itself") as caught:
        made = normalize_source(cohort, tmp_path / "out", to="phantom", by="tile")
    assert len(caught) == 1
    assert made.reasons == {"ok": 15, "unclear-order": 1}  # a small tile of next to one stain
    assert not (made.folder / "stain.json").exists()
    assert card_of(made.folder)["by"] == "tile"


@pytest.mark.parametrize("method", ["vahadane", "reinhard", "reinhard-modified", "reinhard-ruderman"])
def test_every_method(cohort, tmp_path, method):
    made = normalize_source(cohort, tmp_path / "out", to="phantom", method=method, by="site")
    assert (made.method, made.reasons) == (method, {"ok": 16})
    assert (open_tiles(made.folder).read(12) != tissue(cohort, 12)).any()


def test_a_book_gives_its_fits_and_its_method(cohort, book, done, tmp_path):
    book.write(tmp_path / "stain.json")
    made = normalize_source(cohort, tmp_path / "out", to="phantom", book=tmp_path / "stain.json")
    assert pixels_of(made.folder) == pixels_of(done.folder)
    colours = fit_source(cohort, "reinhard", by="all")
    made = normalize_source(cohort, tmp_path / "other", to="phantom", book=colours)
    assert made.method == "reinhard"
    assert made.notes == ("the stain file holds one fit over all tiles, and no slides: all tiles go by it",)
    colours.write(tmp_path / "colours.json")
    assert normalize_source(cohort, tmp_path / "third", to=tmp_path / "colours.json").method == "reinhard"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "macenk"}, "did you mean 'macenko'"),
        ({"background": "white"}, "unknown treatment of the background. Received: white"),
        ({"by": "tile", "book": "BOOK"}, "fitted by themselves need no stain file"),
        ({"by": "slde"}, "did you mean 'slide'"),
        ({"by": "site", "book": "BOOK"}, "no slide in the stain file is called"),
        ({"method": "reinhard", "book": "BOOK"}, "fitted for another method"),
        ({"to": "WHITE"}, "cannot be a reference"),
        ({"to": "phantom", "stains": "H-DAB"}, "is of other stains"),
    ],
)
def test_options_are_checked_before_anything_is_written(cohort, book, white, tmp_path, options, says):
    options = {"to": "phantom", **options}
    options = {name: {"BOOK": book, "WHITE": white}.get(value, value) for name, value in options.items()}
    with pytest.raises(OptionError, match=says):
        normalize_source(cohort, tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["white.png"]


def test_an_unreadable_tile_stops_or_is_skipped(mine, tmp_path):
    folder = mine()
    tile = sorted(folder.rglob("*.png"))[3]
    good = tile.read_bytes()
    tile.write_bytes(good[:200])
    with pytest.raises(InputError, match=tile.name):
        normalize_source(folder, tmp_path / "out", to="phantom")
    assert not (tmp_path / "out.unfinished").exists()
    made = normalize_source(folder, tmp_path / "out", to="phantom", on_error="skip")
    assert (made.tiles, len(made.skipped)) == (15, 1)
    assert len(open_tiles(made.folder).table) == 15
    assert list(json.loads((made.folder / "card.json").read_text())["skipped"]) == list(made.skipped)


def test_a_skipped_tile_that_was_mended_is_read_in_a_run_that_goes_on(mine, tmp_path):
    folder = mine()
    tile = sorted(folder.rglob("*.png"))[3]
    good = tile.read_bytes()
    tile.write_bytes(b"")
    with pytest.raises(KeyboardInterrupt):
        normalize_source(folder, tmp_path / "out", to="phantom", on_error="skip", progress=stop_at(30))
    tile.write_bytes(good)
    assert normalize_source(folder, tmp_path / "out", to="phantom", on_error="skip").tiles == 16


@pytest.mark.data
def test_edge_tiles_come_out_whole(data, tmp_path):
    with pytest.warns(PerTileWarning):
        made = normalize_source(data / "edge_tiles", tmp_path / "out", to="phantom", by="tile")
    table = open_tiles(made.folder).table
    assert len(table) == 14
    assert table.loc["almost-white-1.png", "stain_reason"] == "too-little-tissue"
    assert (table["stain_reason"] == "ok").sum() >= 3
