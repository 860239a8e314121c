"""`histolatent explore`: from tiles to a model, maps, ways and pictures, and what a user gets wrong first."""

import json
import shutil

import anndata
import cv2
import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest

from histolatent.embeddings import write_table
from histolatent.errors import InputError
from histolatent.explore.dictionary import read_dictionary
from histolatent.explore.maps import read_map
from histolatent.explore.transport import transport

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


def read_vectors(folder):
    table = names(folder)[1]
    return dict(zip(table.obs_names, np.asarray(table.X), strict=True))


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


def test_files_of_tiles_are_named_where_they_are_known(run, fails, tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "tiles").mkdir()
    for k in range(30):
        imageio.imwrite(tmp_path / "tiles" / f"t{k}.png", random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    emb, maps, out = tmp_path / "emb.zarr", tmp_path / "maps", tmp_path / "map.json"
    words = ("--encoder", "toy:od-moments", "--out", emb, "--workers", 0, "--quiet")
    assert run("embed", tmp_path / "tiles", *words).exit_code == 0
    assert run("explore", "map", emb, "-m", "pca", "--out", maps, "--quiet").exit_code == 0
    export = ("explore", "export", maps / "pca", "--to", "fiftyone", "--overwrite", "--out", out)
    assert run(*export).exit_code == 0
    assert "filepath" not in json.loads(out.read_text())["samples"][0]
    assert run(*export, "--tiles", tmp_path / "tiles").exit_code == 0
    first = json.loads(out.read_text())["samples"][0]
    assert first["filepath"] == str((tmp_path / "tiles" / first["tile"]).resolve())
    code, line = fails(*export, "--tiles", TILES)
    assert code == 2 and "these tiles are no files" in line
    (tmp_path / "tiles" / "t3.png").unlink()
    code, line = fails(*export, "--tiles", tmp_path / "tiles")
    assert code == 2 and "without t3.png" in line
    table = anndata.read_zarr(emb)
    table.obs["path"] = [f"/cohort/{name}" for name in table.obs_names]
    write_table(table, tmp_path / "paths.zarr")
    assert run(*export, "--table", tmp_path / "paths.zarr").exit_code == 0
    assert json.loads(out.read_text())["samples"][1]["filepath"] == f"/cohort/{table.obs_names[1]}"


def test_maps_are_judged_for_other_patients_wherever_their_table_is(run, folder, tmp_path):
    def interval(*words):
        assert run("explore", "trust", *words, "--seeds", 1, "--no-null", "--anchors", 0).exit_code == 0
        found = next(row for row in numbers(words[-1])["figures"] if row["metric"] == "recall")
        return found["high"] - found["low"]

    made = folder / "maps" / "pca"
    assert interval(made, "--out", tmp_path / "found") > 0.01  # of every tile, without groups, it vanishes
    assert next(row for row in numbers(folder / "maps")["trust"]["pca"] if row["metric"] == "recall")["high"] < 1
    moved = tmp_path / "moved"
    shutil.copytree(made, moved)
    card = json.loads((moved / "map.json").read_text())
    card["card"]["table"] = "nowhere.zarr"
    (moved / "map.json").write_text(json.dumps(card))
    assert interval(moved, "--out", tmp_path / "alone") == pytest.approx(0, abs=1e-9)
    assert interval(moved, "--table", folder / "emb.zarr", "--out", tmp_path / "named") > 0.01


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
    assert len(frames) == 20 and frames[0].shape == (334, 288, 3)
    assert all((frame[:288] < 250).mean() > 0.2 and frame[292:].min() < 150 < frame[292:].mean() for frame in frames)
    assert (frames[0][292:] != frames[10][292:]).any()
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
    assert imageio.imread(out / "route.png").shape[1] > 500 and (out / "route.svg").exists()
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
    assert f"{first}, site +1, tumour -0.5, 0.3 toward {other}; nearest tile" in done.output
    found = numbers(tmp_path / "chain")
    assert [step["said"] for step in found["steps"]] == [first, "site +1", "tumour -0.5", f"0.3 toward {other}"]
    vectors = np.array([step["vector"] for step in found["steps"]])
    np.testing.assert_allclose(vectors[3], 0.7 * vectors[2] + 0.3 * read_vectors(folder)[other], atol=1e-6)
    assert found["order_matters_by"] > 0.01
    movie = imageio.imread(tmp_path / "chain" / "chain.gif")
    assert 8 <= len(movie) <= 3 * (4 + 8) + 4  # a GIF keeps alike frames once


def test_a_number_is_moved_by_its_standard_deviation(run, folder, tmp_path):
    table = names(folder)[1]
    shade = np.asarray(table.X)[:, 0] * 50 + 200
    table.obs["shade"] = shade
    write_table(table, tmp_path / "emb.zarr")
    words = (tmp_path / "emb.zarr", table.obs_names[0], "shade +2", "--decoder", folder / "vae")
    done = run("explore", "chain", *words, "--out", tmp_path / "chain")
    assert done.exit_code == 0 and "shade +2 sd; nearest tile" in done.output
    vectors = np.array([step["vector"] for step in numbers(tmp_path / "chain")["steps"]])
    x = np.asarray(table.X, float)
    slope = (x - x.mean(axis=0)).T @ (shade - shade.mean()) / ((shade - shade.mean()) ** 2).sum()
    np.testing.assert_allclose(vectors[1] - vectors[0], 2 * shade.std() * slope, atol=1e-5)


def test_between_two_groups_three_ways(run, folder, tmp_path):
    sites = sorted(names(folder)[1].obs["site"].astype(str).unique())
    done = run(
        *("explore", "barycentre", folder / "emb.zarr", *sites, "--column", "site", "--steps", 3),
        *("--decoder", folder / "vae", "--tiles", TILES, "--out", tmp_path / "middle"),
    )
    assert done.exit_code == 0, done.output
    found = numbers(tmp_path / "middle")
    table = names(folder)[1]
    sets = [np.asarray(table.X)[(table.obs["site"] == site).to_numpy()] for site in sites]
    assert found["distance"] == pytest.approx(transport(*sets).distance)
    assert len(found["moves_most"]) == 10 and found["moves_most"][0]["length"] >= found["distance"]
    assert {row["scale"] for row in found["distances"]} == {"l2"}
    assert {row["halves_by"] for row in found["distances"]} == {"group"}
    assert all(0 < row["label_accuracy"] < 1 and row["effective_rank"] > 1 for row in found["distances"])
    said = next(row for row in found["distances"] if row["distance"] == "empirical_w2_squared")
    assert f"halves of the two are {said['between']:.4g} apart, halves of one {said['floor']:.4g}" in done.output
    assert "scale l2, halves by patient" in done.output
    pair = found["bures"]["pairs"][0]["distance"]
    assert list(found["bures"]["to_middle"].values()) == pytest.approx([pair / 2, pair / 2], rel=1e-3)
    assert len(imageio.imread(tmp_path / "middle" / "transport.gif")) > 3


def test_the_middle_of_several_groups(run, folder, tmp_path):
    labels = sorted(names(folder)[1].obs["label"].astype(str).unique())[:3]
    words = ("barycentre", folder / "emb.zarr", *labels, "--column", "label", "--weights", "2,1,1", "--steps", 4)
    done = run("explore", *words, "--decoder", folder / "vae", "--tiles", TILES, "--out", tmp_path / "middle")
    assert done.exit_code == 0, done.output
    found = numbers(tmp_path / "middle")
    assert found["weights"] == [0.5, 0.25, 0.25] and set(found["distances_to_middle"]) == set(labels)
    table = names(folder)[1]
    sets = [np.asarray(table.X)[(table.obs["label"] == label).to_numpy()] for label in labels]
    points = np.array([point["vector"] for point in found["middle"]])
    np.testing.assert_allclose(
        points.mean(axis=0), np.average([each.mean(axis=0) for each in sets], axis=0, weights=[2, 1, 1]), atol=0.05
    )
    assert found["distances_to_middle"][labels[0]] == pytest.approx(transport(points, sets[0]).distance)
    assert "from the middle" in done.output and (tmp_path / "middle" / "between.png").exists()
    assert not list((tmp_path / "middle").glob("*.gif"))


def test_vectors_are_taken_apart(run, folder, tmp_path):
    done = run(
        *("explore", "dictionary", folder / "emb.zarr", "--atoms", 8, "--k", 2, "--steps", 20),
        *("--tiles", TILES, "--out", tmp_path / "d"),
    )
    assert done.exit_code == 0 and "atoms are used" in done.output
    made, (tiles, table) = read_dictionary(tmp_path / "d"), names(folder)
    atoms = pd.read_csv(tmp_path / "d" / "atoms.csv")
    assert len(atoms) == (made.used > 0).sum() and atoms["used"].is_monotonic_decreasing
    first = atoms.iloc[0]
    found = made.strongest(np.asarray(table.X, np.float32), int(first["atom"]), 8)["tile"]
    assert first.filter(like="strongest").tolist() == [tiles[row] for row in found]
    assert first["column"] in table.obs
    assert imageio.imread(tmp_path / "d" / "atoms.png").shape[1] > 500 and (tmp_path / "d" / "atoms.svg").exists()
    bare = run("explore", "dictionary", folder / "emb.zarr", "--atoms", 8, "--steps", 2, "--out", tmp_path / "bare")
    assert bare.exit_code == 0 and not (tmp_path / "bare" / "atoms.png").exists()


def test_a_map_of_another_encoder_takes_in_no_table(run, fails, folder, tmp_path):
    done = run("embed", TILES, "--encoder", "toy:od-moments", "--out", tmp_path / "toy.zarr", "--workers", 0, "--quiet")
    assert done.exit_code == 0, done.output
    words = ("explore", "export", folder / "maps" / "pca", "--to", "h5ad", "--table", tmp_path / "toy.zarr")
    code, line = fails(*words, "--out", tmp_path / "mixed.h5ad")
    assert code == 2 and "another encoder than the tiles of the map. Received: toy:od-moments" in line
    assert not (tmp_path / "mixed.h5ad").exists()


def test_a_way_of_which_no_tile_can_be_shown_is_told_with_its_numbers(run, folder, tmp_path):
    first, last = names(folder)[0][:2]
    done = run("explore", "path", folder / "emb.zarr", first, last, "--out", tmp_path / "way")
    assert done.exit_code == 0 and "no tile is shown: --decoder MODEL" in done.output


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
        (("path", "{emb}", "{tile}", "{other}", "-m", "geodesic"), "a geodesic needs a decoder"),
        (("path", "{emb}", "{tile}", "{tile}"), "a way has two ends"),
        (("map", "{emb}", "-m", "tsne", "--set", "tsne.perplexity=50", "--quiet"), "too large for 48 tiles"),
        (("barycentre", "{alone}", "one", "rest", "--column", "alone", "--decoder", "{vae}"), "alone one is one tile"),
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
        (("barycentre", "{emb}", "a", "a", "--column", "site"), "each once"),
        (("barycentre", "{emb}", "a", "b", "--column", "site", "--weights", "1,x"), "one number for each group"),
        (("barycentre", "{emb}", "a", "b", "--column", "site", "--decoder", "{vae}"), "no tile has this site"),
        (("sample", "nowhere"), "no generative model"),
        (("sample", "{vae}", "--from", "density"), "--table emb.zarr"),
        (("dictionary", "{emb}", "--atoms", 4, "--k", 9, "--quiet"), "k = 9 of 4"),
    ],
)
def test_what_a_user_gets_wrong_is_said(fails, folder, tmp_path, words, said):
    known = {
        "{emb}": folder / "emb.zarr",
        "{map}": folder / "maps" / "pca",
        "{vae}": folder / "vae",
        "{tile}": names(folder)[0][0],
        "{other}": names(folder)[0][1],
        "{alone}": tmp_path / "alone.h5ad",
    }
    if "{alone}" in words:
        table = names(folder)[1]
        table.obs["alone"] = ["one"] + ["rest"] * (table.n_obs - 1)
        write_table(table, tmp_path / "alone.h5ad")
    code, line = fails("explore", *(known.get(word, word) for word in words), "--out", tmp_path / "out")
    assert code == 2 and said in line
    assert not (tmp_path / "out").exists()
