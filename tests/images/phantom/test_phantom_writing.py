"""A cohort on disk: the same bytes whatever the workers, whole or not at all."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histolatent.errors import OptionError, OutputError
from histolatent.images.phantom import PhantomSpec, PhantomTiles, write_phantom, writing
from histolatent.provenance import file_digest

SPEC = PhantomSpec(sites=2, patients=3, slides=1, tiles_per_site=21, tile_px=64, seed=4)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_phantom(SPEC, tmp_path_factory.mktemp("phantom") / "cohort")


def fingerprint(folder):
    return {p.relative_to(folder).as_posix(): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_workers_write_the_same_bytes(cohort, tmp_path):
    seen = []
    other = write_phantom(SPEC, tmp_path / "other", workers=2, progress=lambda done, total: seen.append((done, total)))
    assert fingerprint(other) == fingerprint(cohort)
    assert seen[-1] == (42, 42)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_is_written_is_what_is_read(cohort):
    tiles = PhantomTiles(SPEC)
    manifest = pd.read_csv(cohort / "manifest.csv").set_index("tile")
    assert list(manifest.index) == list(tiles.table.index)
    for index in (0, 20, 41):
        pixels = np.asarray(Image.open(cohort / manifest["path"].iat[index]))
        assert np.array_equal(pixels, tiles.read(index))
    pd.testing.assert_frame_equal(manifest.drop(columns="path"), tiles.table, check_dtype=False)
    pd.testing.assert_frame_equal(writing.read_truth(cohort), tiles.truth)


def test_annotations_are_geojson_that_qupath_names(cohort):
    collection = json.loads((cohort / "annotations.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    truth = writing.read_truth(cohort)
    names = [f["properties"]["classification"]["name"] for f in collection["features"]]
    assert names.count("mitosis") == truth["mitotic_count"].sum()
    assert len(names) == truth["nuclear_count"].sum() + truth["apoptotic_count"].sum()
    first = collection["features"][0]
    assert first["geometry"]["type"] == "Point"
    assert first["properties"]["tile"] in truth.index
    assert first["properties"]["measurements"]["major_um"] > 0


def test_the_card_can_be_checked(cohort):
    card = json.loads((cohort / "card.json").read_text())
    assert card["manifest_sha256"] == hashlib.sha256((cohort / "manifest.csv").read_bytes()).hexdigest()
    assert PhantomSpec(**card["spec"]) == SPEC
    assert card["environment"]["versions"]["numpy"] == np.__version__
    assert len(card["pixels_sha256"]) == 64


def test_an_existing_folder_is_refused_and_kept(cohort):
    before = fingerprint(cohort)
    with pytest.raises(OutputError, match="exists already"):
        write_phantom(SPEC, cohort)
    assert fingerprint(cohort) == before


def test_overwrite_replaces(tmp_path):
    out = tmp_path / "cohort"
    small = PhantomSpec(sites=1, patients=1, slides=1, tiles_per_site=2, tile_px=32)
    write_phantom(small, out)
    (out / "old.txt").write_text("old")
    write_phantom(small, out, overwrite=True)
    assert not (out / "old.txt").exists()
    assert (out / "card.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_phantom_is_never_replaced(tmp_path, overwrite):
    out = tmp_path / "cohort"
    out.mkdir()
    (out / "card.json").write_text('{"kind": "mine"}')
    with pytest.raises(OutputError, match="was not written by this command") as refused:
        write_phantom(PhantomSpec(sites=1, patients=1, slides=1, tiles_per_site=2), out, overwrite=overwrite)
    assert "--overwrite" not in str(refused.value)
    assert [path.name for path in out.iterdir()] == ["card.json"]


def test_a_failure_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    drawn = PhantomTiles.draw

    def fail(self, index):
        if index == 18:
            raise OSError(28, "No space left on device")
        return drawn(self, index)

    monkeypatch.setattr(PhantomTiles, "draw", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        write_phantom(SPEC, tmp_path / "cohort")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(SPEC, tmp_path / "cohort", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_negative_workers_are_an_error(tmp_path):
    with pytest.raises(OptionError, match="number of workers is negative"):
        write_phantom(SPEC, tmp_path / "cohort", workers=-1)
