"""`histolatent explore`: from tiles to a model, maps, ways and pictures, and what a user gets wrong first."""

import json

import anndata
import cv2
import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest

from histolatent.errors import InputError
from histolatent.explore.maps import read_map

TILES = "phantom:sites=2,patients=4,slides=1,tiles_per_site=24,tile_px=48"
SHORT = ("--set", "tile_px=16", "--set", "latent=12", "--set", "widths=[8,16]", "--set", "training.steps=6")
SHORT = (*SHORT, "--set", "training.check_every=3", "--set", "training.batch_size=8", "--set", "bands=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and its tiles embedded with it."""
    from typer.testing import CliRunner

    from histolatent.cli.app import app

    place = tmp_path_factory.mktemp("explore")
    for words in (
        ("explore", "train", TILES, "--kind", "vae", "--out", place / "vae", "--workers", 0, "--quiet", *SHORT),
        (
            "embed",
            TILES,
            "--encoder",
            place / "vae" / "encoder",
            "--out",
            place / "emb.zarr",
            "--workers",
            0,
            "--quiet",
        ),
        ("explore", "map", place / "emb.zarr", "-m", "pca", "--colour", "label", "--out", place / "maps", "--quiet"),
    ):
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return place


def names(folder):
    table = anndata.read_zarr(folder / "emb.zarr")
    return list(table.obs_names), table


def numbers(out):
    return json.loads((out / "explore.json").read_text())


def test_a_model_is_trained_with_a_sheet_and_an_encoder_of_its_own(folder):
    card = json.loads((folder / "vae" / "generative.json").read_text())
    assert card["kind"] == "vae" and card["plan"]["latent"] == 12 and len(card["history"]) == 6
    came_back = card["reconstruction"]
    assert (
        5 < came_back["psnr"] < 40
        and came_back["tiles"] == len(card["shown"])
        and {"ssim", "blurred"} <= set(came_back)
    )
    assert imageio.imread(folder / "vae" / "sheet.png").shape[1] > 500
    assert not (folder / "vae.training").exists()
    assert names(folder)[1].n_vars == 12


def test_a_decoder_of_another_encoder_and_its_samples(run, folder, tmp_path):
    done = run(
        *("explore", "train", TILES, "--kind", "decoder", "--on", "toy:random-conv", "--out", tmp_path / "dec"),
        *("--workers", 0, "--quiet", *SHORT),
    )
    assert done.exit_code == 0 and "held-out tiles come back with PSNR" in done.output
    drawn = run(
        "explore", "sample", folder / "vae", "--count", 9, "--table", folder / "emb.zarr", "--out", tmp_path / "s"
    )
    assert drawn.exit_code == 0, drawn.output
    found = numbers(tmp_path / "s")
    assert np.array(found["vectors"]).shape == (9, 12) and set(found["risks"][0]) >= {"nearest", "sparser", "cycle"}
    dense = run(
        *("explore", "sample", folder / "vae", "--from", "density", "--table", folder / "emb.zarr"),
        *("--tiles", TILES, "--judge", "toy:od-moments", "--count", 4, "--out", tmp_path / "d"),
    )
    assert dense.exit_code == 0 and "from 24 real tiles" in dense.output
    frechet = numbers(tmp_path / "d")["frechet"]
    assert frechet["value"] > frechet["floor"] > 0


def test_a_map_has_its_picture_trust_and_folder(folder):
    out = folder / "maps"
    assert (out / "maps.svg").read_text().startswith("<svg") and imageio.imread(out / "maps.png").shape[1] > 500
    assert numbers(out)["trust"]["pca"][0]["metric"] == "trustworthiness"
    assert (out / "pca" / "map.json").exists()


def test_a_map_is_judged_and_new_tiles_are_placed(run, folder, tmp_path):
    out = tmp_path / "trust"
    done = run(
        *("explore", "trust", folder / "maps" / "pca", "--column", "label", "--column", "site", "--seeds", 2),
        *("--anchors", 0, "--out", out),
    )
    assert done.exit_code == 0, done.output
    assert "of the 15 nearest tiles the map shows" in done.output and "the picture shows label" in done.output
    assert len(numbers(out)["points"]) == 48 and (out / "points.png").exists() and (out / "figures.svg").exists()
    placed = run("explore", "place", folder / "maps" / "pca", folder / "emb.zarr", "--out", tmp_path / "placed.csv")
    assert placed.exit_code == 0, placed.output
    frame = pd.read_csv(tmp_path / "placed.csv")
    assert (frame["tile"] == frame["nearest"]).mean() > 0.9 and frame["distance"].max() < 1e-5
    island = run(
        *("explore", "island", folder / "maps" / "pca", "--where", "site=source", "--out", tmp_path / "island"),
    )
    assert island.exit_code == 0 and "% as dense as beside" in island.output
    assert len(numbers(tmp_path / "island")["tiles"]) == 24


@pytest.mark.parametrize(
    ("to", "name"), [("atlas", "m.parquet"), ("projector", "p"), ("h5ad", "m.h5ad"), ("fiftyone", "m.json")]
)
def test_a_map_is_written_for_other_tools(run, folder, tmp_path, to, name):
    done = run("explore", "export", folder / "maps" / "pca", "--to", to, "--out", tmp_path / name)
    assert done.exit_code == 0 and "48 tiles" in done.output
    assert (tmp_path / name).exists()


def test_a_way_is_pictures_movies_and_numbers(run, folder, tmp_path):
    first, last = names(folder)[0][:2]
    done = run(
        *("explore", "path", folder / "emb.zarr", first, last, "-m", "lerp", "-m", "geodesic", "--steps", 5),
        *("--decoder", folder / "vae", "--tiles", TILES, "--out", tmp_path / "way"),
    )
    assert done.exit_code == 0, done.output
    found = numbers(tmp_path / "way")
    assert set(found["ways"]) == {"lerp", "geodesic"} and len(found["ways"]["lerp"]["steps"]) == 5
    assert "seen_length" in found["ways"]["geodesic"]["score"]
    movie = cv2.VideoCapture(str(tmp_path / "way" / "lerp.mp4"))
    frames = [movie.read()[1] for _ in range(int(movie.get(cv2.CAP_PROP_FRAME_COUNT)))]
    movie.release()
    assert len(frames) == 20 and frames[0].shape == (256, 256, 3)
    assert len(imageio.imread(tmp_path / "way" / "geodesic.gif")) > 1
    assert imageio.imread(tmp_path / "way" / "way.png").shape[1] > 500


def test_a_walk_through_a_map_is_a_movie(run, folder, tmp_path):
    stops = names(folder)[0][:3]
    out = tmp_path / "walk"
    words = ("explore", "walk", folder / "maps" / "pca", *stops, "--colour", "label", "--steps", 2, "--quiet")
    done = run(*words, "-m", "lerp", "--decoder", folder / "vae", "--out", out)
    assert done.exit_code == 0, done.output
    found = numbers(out)
    assert len(found["steps"]) == 5 and found["stops"] == list(stops) and 0 < found["largest_jump"] <= 2
    places = read_map(folder / "maps" / "pca")
    for step, tile in zip((0, 2, 4), stops, strict=True):
        at = places.places[places.tiles.index(tile)]
        np.testing.assert_allclose([found["steps"][step][axis] for axis in "xy"], at, atol=1e-6)
    movie = imageio.imread(out / "walk.gif")
    assert len(movie) <= 2 + 3 * 4 and movie.shape[2] > 800  # stops are held; a GIF keeps alike frames once
    real = run(*words, "--tiles", TILES, "--out", tmp_path / "real")
    assert real.exit_code == 0, real.output


def test_a_direction_moves_tiles_and_says_what_it_is_worth(run, folder, tmp_path):
    tile = names(folder)[0][0]
    done = run(
        *("explore", "direction", folder / "emb.zarr", "site", "--tile", tile, "--decoder", folder / "vae"),
        *("--amounts=-1,0,1", "--without", "tumour", "--out", tmp_path / "site"),
    )
    assert done.exit_code == 0, done.output
    assert "read with AUROC" in done.output and "leaves tumour as they are" in done.output
    found = numbers(tmp_path / "site")
    reads = [each["read"] for each in found["tiles"][tile]]
    assert reads == sorted(reads) and len(found["vector"]) == 12
    assert {path.name for path in (tmp_path / "site").iterdir()} >= {"moved.png", "effects.png", "along-1.gif"}


def test_a_direction_follows_what_decoded_tiles_show(run, folder, tmp_path):
    tile = names(folder)[0][0]
    words = ("direction", folder / "emb.zarr", "label=stroma", "--kind", "seen", "--without", "tumour", "--tile", tile)
    done = run("explore", *words, "--amounts=0,1", "--decoder", folder / "vae", "--out", tmp_path / "seen")
    assert done.exit_code == 0, done.output
    assert "in decoded tiles it is read with AUROC" in done.output and "leaves tumour as they are" in done.output
    found = numbers(tmp_path / "seen")
    assert found["vector"] is None and found["spread"] == 1
    assert found["tiles"][tile][1]["read"] > found["tiles"][tile][0]["read"]
    with pytest.raises(InputError, match="needs a decoder"):
        run("explore", *words, "--out", tmp_path / "none")
    chained = run(
        *("explore", "chain", folder / "emb.zarr", tile, "label=stroma +1", "tumour -0.5", "--kind", "seen"),
        *("--decoder", folder / "vae", "--out", tmp_path / "chain"),
    )
    assert chained.exit_code == 0, chained.output


def test_operations_are_chained(run, folder, tmp_path):
    first, other = names(folder)[0][:2]
    done = run(
        *("explore", "chain", folder / "emb.zarr", first, "site +1", "tumour -0.5", f"toward {other} 0.3"),
        *("--decoder", folder / "vae", "--tiles", TILES, "--out", tmp_path / "chain"),
    )
    assert done.exit_code == 0, done.output
    assert f"Point({first}, site +1, tumour -0.5, 0.3 toward {other})" in done.output
    found = numbers(tmp_path / "chain")
    assert len(found["steps"]) == 4 and found["order_matters_by"] > 0


def test_between_two_groups_three_ways(run, folder, tmp_path):
    sites = sorted(names(folder)[1].obs["site"].astype(str).unique())
    done = run(
        *("explore", "barycentre", folder / "emb.zarr", *sites, "--column", "site", "--steps", 3),
        *("--decoder", folder / "vae", "--tiles", TILES, "--out", tmp_path / "middle"),
    )
    assert done.exit_code == 0, done.output
    found = numbers(tmp_path / "middle")
    assert found["distance"] > 0 and len(found["moves_most"]) == 10 and found["distances"][0]["floor"] > 0


def test_vectors_are_taken_apart(run, folder, tmp_path):
    done = run(
        "explore", "dictionary", folder / "emb.zarr", "--atoms", 8, "--k", 2, "--steps", 20, "--out", tmp_path / "d"
    )
    assert done.exit_code == 0 and "atoms are used" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", TILES, "--kind", "gan"), "no kind of model is called 'gan'"),
        (("train", TILES, "--kind", "decoder"), "a decoder is of an encoder's vectors"),
        (("train", TILES, "--kind", "vae", "--on", "toy:random-conv"), "other kinds have an encoder of their own"),
        (("train", TILES, "--set", "latnt=3"), "did you mean 'latent'"),
        (("map", "{emb}", "-m", "tsn"), "did you mean 'tsne'"),
        (("map", "{emb}", "--colour", "labl"), "did you mean 'label'"),
        (("map", "{emb}", "--set", "tsne.perplexity=5"), "an option is of one of the methods"),
        (("map", "nowhere.zarr"), "no embedding table"),
        (("trust", "nowhere"), "this is no map"),
        (("island", "{map}"), "an island is a box"),
        (("island", "{map}", "--box", "1,2,3"), "LEFT,BOTTOM,RIGHT,TOP"),
        (("island", "{map}", "--where", "site=nowhere"), "too few tiles for an island"),
        (("export", "{map}", "--to", "excel"), "no form of export is called 'excel'"),
        (("path", "{emb}", "a", "b"), "there is no such tile"),
        (("path", "{emb}", "{tile}", "{tile}", "-m", "geodesic"), "a geodesic needs a decoder"),
        (("direction", "{emb}", "slide"), "more than two classes"),
        (("direction", "{emb}", "site", "--amounts", "x"), "amounts are numbers"),
        (("chain", "{emb}", "{tile}", "site"), "a column and an amount"),
        (("chain", "{emb}", "{tile}", "label=tumor +1", "--decoder", "{vae}"), "no class of label"),
        (("direction", "{emb}", "label", "--negative", "stroma"), "has one to lead to"),
        (("walk", "{map}", "{tile}", "--decoder", "{vae}"), "two stops or more"),
        (("walk", "{map}", "{tile}", "{tile}"), "nothing to show"),
        (("walk", "{map}", "{tile}", "b", "--decoder", "{vae}"), "there is no such tile"),
        (("sample", "{vae}", "--judge", "toy:od-moments"), "beside real tiles"),
        (("chain", "{emb}", "{tile}", "site +1"), "nothing to show"),
        (("barycentre", "{emb}", "a", "--column", "site"), "two groups"),
        (("sample", "nowhere"), "no generative model"),
        (("sample", "{vae}", "--from", "density"), "--table emb.zarr"),
        (("dictionary", "{emb}", "--atoms", 4, "--k", 9), "k = 9 of 4"),
    ],
)
def test_what_a_user_gets_wrong_is_said(fails, folder, tmp_path, words, said):
    known = {
        "{emb}": folder / "emb.zarr",
        "{map}": folder / "maps" / "pca",
        "{vae}": folder / "vae",
        "{tile}": names(folder)[0][0],
    }
    code, line = fails("explore", *(known.get(word, word) for word in words), "--out", tmp_path / "out")
    assert code == 2 and said in line
    assert not (tmp_path / "out").exists()
