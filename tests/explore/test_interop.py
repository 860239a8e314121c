"""What other tools are given: read back as they read it."""

import json

import numpy as np
import pandas as pd
import pytest

from histolatent.embeddings import make_table, read_table, write_table
from histolatent.encoders import EncoderCard
from histolatent.errors import InputError, OutputError
from histolatent.explore.interop import with_maps, write_atlas, write_fiftyone, write_projector
from histolatent.explore.maps import make_map
from histolatent.explore.trust import judge_map


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"label": np.array(["a", "b"])[np.arange(60) % 2], "slide": "s1"}, index=pd.Index([f"t{k}" for k in range(60)])
    )
    obs.loc["t3", "label"] = None
    return make_table(random.normal(size=(60, 6)).astype(np.float32), obs, {"origin": "test"})


@pytest.fixture
def made(table):
    return make_map(np.asarray(table.X), "pca", tiles=list(table.obs_names))


def test_a_parquet_file_has_neighbours_and_distortion(table, made, tmp_path):
    judged = judge_map(made, seeds=1, null=False, anchors=None)
    frame = pd.read_parquet(write_atlas(tmp_path / "map.parquet", made, table.obs, judged))
    assert {"tile", "projection_x", "projection_y", "neighbors", "recall", "false", "missing", "label"} <= set(frame)
    nulled = judge_map(made, seeds=1, null=True, anchors=20)
    verdicts = pd.read_parquet(write_atlas(tmp_path / "verdicts.parquet", made, table.obs, nulled))["verdict"]
    assert verdicts.notna().sum() == 20 and "verdict" not in frame
    np.testing.assert_allclose(frame[["projection_x", "projection_y"]], made.places)
    first = frame["neighbors"][0]
    assert len(first["ids"]) == len(first["distances"]) == 15 and 0 not in first["ids"]
    assert frame["recall"].between(0, 1).all()
    with pytest.raises(OutputError, match="exists"):
        write_atlas(tmp_path / "map.parquet", made, table.obs)


def test_a_projector_folder_is_what_tensorboard_reads(table, made, tmp_path):
    folder = write_projector(tmp_path / "projector", made, table.obs)
    metadata = pd.read_csv(folder / "metadata.tsv", sep="\t")
    np.testing.assert_allclose(np.loadtxt(folder / "vectors.tsv"), made.vectors, rtol=1e-5)
    np.testing.assert_allclose(np.loadtxt(folder / "pca.tsv"), made.places, rtol=1e-5)
    assert list(metadata) == ["tile", "label", "slide"] and len(metadata) == 60
    config = (folder / "projector_config.pbtxt").read_text()
    assert config.count("embeddings {") == 2 and 'tensor_path: "pca.tsv"' in config


def test_names_alone_are_metadata_without_a_header(made, tmp_path):
    folder = write_projector(tmp_path / "projector", made, pd.DataFrame(index=pd.Index(made.tiles)))
    assert (folder / "metadata.tsv").read_text().splitlines() == list(made.tiles)


def test_columns_that_bear_a_name_of_ours_are_kept_under_another(table, made, tmp_path):
    table.obs["tile"], table.obs["recall"], table.obs["point"] = "other", 7, "here"
    judged = judge_map(made, seeds=1, null=False, anchors=None)
    frame = pd.read_parquet(write_atlas(tmp_path / "map.parquet", made, table.obs, judged))
    assert frame["tile"].tolist() == list(made.tiles) and set(frame["obs_tile"]) == {"other"}
    assert frame["recall"].max() <= 1 and set(frame["obs_recall"]) == {7}
    assert (write_projector(tmp_path / "p", made, table.obs) / "metadata.tsv").read_text().startswith("tile\tlabel")
    sample = json.loads(write_fiftyone(tmp_path / "map.json", made, table).read_text())["samples"][2]
    assert sample["tile"] == "t2" and sample["obs_tile"] == "other"
    assert len(sample["point"]) == 2 and sample["obs_point"] == "here"


def test_a_table_with_maps_is_read_by_anndata(table, made, tmp_path):
    found = with_maps(table, [made])
    back = read_table(write_table(found, tmp_path / "table.h5ad"))
    np.testing.assert_allclose(back.obsm["X_pca"], made.places, rtol=1e-5)
    assert "X_pca" not in table.obsm


def test_samples_for_fiftyone_are_json(table, made, tmp_path):
    judged = judge_map(made, seeds=1, null=False, anchors=20)
    path = write_fiftyone(tmp_path / "map.json", made, table, files=[f"{t}.png" for t in table.obs_names], trust=judged)
    samples = json.loads(path.read_text())["samples"]
    assert len(samples) == 60 and samples[3]["label"] is None and samples[0]["filepath"] == "t0.png"
    points = np.array([sample["point"] for sample in samples])
    assert points.min() == 0 and points.max() == 1
    assert sum("distortion" in sample for sample in samples) == 20


def test_other_tiles_are_refused(table, made, tmp_path):
    fewer = table[:40].copy()
    for call in (
        lambda: write_atlas(tmp_path / "a.parquet", made, fewer.obs),
        lambda: write_projector(tmp_path / "p", made, fewer.obs),
        lambda: with_maps(fewer, [made]),
        lambda: write_fiftyone(tmp_path / "f.json", made, fewer),
    ):
        with pytest.raises(InputError, match="of other tiles"):
            call()
    with pytest.raises(InputError, match="2 for 60"):
        write_fiftyone(tmp_path / "f.json", made, table, files=["a", "b"])
    assert not list(tmp_path.iterdir())


def test_a_table_of_another_encoder_is_refused(table, made):
    from dataclasses import replace

    one, other = (EncoderCard(name=name, kind="toy", source=name, dim=6, revision="1").model_dump() for name in "ab")
    named = replace(made, card={"encoder": one})
    with pytest.raises(InputError, match=r"another encoder than the tiles of the map. Received: b. Valid: a"):
        with_maps(make_table(np.asarray(table.X), table.obs, {"encoder": other}), [named])
    assert "X_pca" in with_maps(make_table(np.asarray(table.X), table.obs, {"encoder": one}), [named]).obsm
