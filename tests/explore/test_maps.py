"""Maps: every method on one graph, new tiles that move nothing, alignment, the folder, comparison of maps."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from histolatent.errors import InputError, OptionError, OutputError
from histolatent.explore.graph import find_among, make_graph
from histolatent.explore.layouts import LAYOUTS
from histolatent.explore.maps import (
    align,
    compare_maps,
    make_map,
    membership,
    read_map,
    save_map,
    shared_neighbours,
    to_obsm,
)


def clusters(n=150, d=12, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return (random.normal(size=(n, d)) + 6 * np.eye(3, d)[labels]).astype(np.float32), labels


@pytest.fixture(scope="module")
def graph():
    return make_graph(clusters()[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", list(LAYOUTS))
def test_every_method_keeps_clusters_is_seeded_and_takes_in_new_tiles(method, graph, tmp_path):
    vectors, labels = clusters()
    options = {"epochs": 40} if method == "autoencoder" else {}
    made, again = (make_map(vectors, method, graph=graph, seed=3, **options) for _ in range(2))
    np.testing.assert_array_equal(made.places, again.places)
    far = cdist(made.places, made.places) + np.diag(np.full(len(labels), np.inf))
    assert (labels[far.argmin(axis=1)] == labels).mean() > 0.95
    before, new = made.places.copy(), clusters(30, seed=9)[0]
    placed = made.place(new)
    np.testing.assert_array_equal(made.places, before)
    assert (labels[cdist(placed, made.places).argmin(axis=1)] == clusters(30, seed=9)[1]).mean() > 0.9
    np.testing.assert_allclose(made.place(vectors[5:9]), made.places[5:9], atol=1e-5)
    back = read_map(save_map(made, tmp_path / "map"))
    np.testing.assert_allclose(back.place(new), placed)
    assert (back.method, back.tiles, back.metric, back.seed) == (method, made.tiles, "cosine", 3)


def test_neighbours_are_those_of_a_plain_search():
    vectors = clusters(80)[0]
    for metric in ("cosine", "euclidean"):
        far = cdist(vectors, vectors, metric) + np.diag(np.full(80, np.inf))
        found = make_graph(vectors, k=10, metric=metric)
        np.testing.assert_array_equal(found.index, np.argsort(far, axis=1)[:, :10])
        np.testing.assert_allclose(found.distance, np.sort(far, axis=1)[:, :10], atol=1e-7)
        new = clusters(20, seed=4)[0]
        far = cdist(new, vectors, metric)
        asked = find_among(new, vectors, 7, metric=metric)
        np.testing.assert_array_equal(asked.index, np.argsort(far, axis=1)[:, :7])
        np.testing.assert_allclose(asked.distance, np.sort(far, axis=1)[:, :7], atol=1e-6)
    assert make_graph(vectors).k == 79
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(make_graph(vectors).chords, make_graph(unit, metric="euclidean").distance, atol=1e-6)


def test_weights_of_neighbours_are_umaps(graph):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Tensorflow is not there
        import umap  # noqa: F401
    from umap.umap_ import compute_membership_strengths, smooth_knn_dist

    near = graph.first(15)
    sigmas, rhos = smooth_knn_dist(near.distance.astype(np.float32), 15.0, local_connectivity=1.0)
    theirs = compute_membership_strengths(near.index.astype(np.int32), near.distance.astype(np.float32), sigmas, rhos)
    ours = membership(near)
    # UMAP counts the tile itself, at distance 0, among its neighbours: its sum of weights is of one neighbour less.
    np.testing.assert_allclose(ours.sum(axis=1), np.log2(15), rtol=1e-6)
    assert np.corrcoef(ours.ravel(), theirs[2])[0, 1] > 0.99


def test_principal_components_are_those_of_a_decomposition():
    for n in (40, 9):  # more tiles than dimensions, and fewer
        vectors = clusters(n)[0].astype(float)
        moved = vectors - vectors.mean(axis=0)
        u, s, _ = np.linalg.svd(moved, full_matrices=False)
        places = make_map(vectors, "pca").places
        np.testing.assert_allclose(np.abs(places), np.abs(u[:, :2] * s[:2]), atol=1e-5)


def test_alignment_turns_and_scales_and_nothing_else():
    vectors = clusters()[0]
    first = make_map(vectors, "pca")
    turn = np.array([[0.0, -2.0], [-2.0, 0.0]])  # a mirror, too
    from dataclasses import replace

    other = replace(first, places=first.places @ turn + 5, function=None)
    back = align([first, other])[1]
    np.testing.assert_allclose(back.places, first.places, atol=1e-8)
    with pytest.raises(InputError, match="same tiles"):
        align([first, make_map(vectors[:50], "pca")])


def test_an_aligned_map_that_is_a_function_still_places(graph):
    vectors = clusters()[0]
    noisy = vectors + np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    first = make_map(vectors, "pca")
    for method, options in (("pca", {}), ("autoencoder", {"epochs": 5})):
        other = align([first, make_map(noisy, method, **options)])[1]
        np.testing.assert_allclose(other.place(noisy), other.places, atol=1e-4)


def test_shared_neighbours_are_counted(graph):
    vectors = clusters()[0]
    made = make_map(vectors, "pca")
    assert shared_neighbours(made.places, made.places, 5).tolist() == [1.0] * 150
    random = np.random.default_rng(0)
    chance = shared_neighbours(made.places, random.normal(size=(150, 2)), 5).mean()
    assert chance == pytest.approx(5 / 149 / (2 - 5 / 149), abs=0.01)
    copies = np.zeros((20, 2))  # all at one place: the tile itself is never its neighbour
    assert shared_neighbours(copies, copies, 3).min() > 0
    table = compare_maps([made, make_map(vectors, "pca", seed=1)])
    assert table.to_dict("records") == [
        {"first": "pca, seed 0", "second": "pca, seed 1", "shared": 1.0, "apart": pytest.approx(0, abs=1e-12)}
    ]
    few = [make_map(vectors[:12], "pca", seed=seed) for seed in (0, 1)]
    assert compare_maps(few)["shared"].tolist() == [1.0]  # of 12 tiles, 11 are others
    with pytest.raises(OptionError, match="1 to 11"):
        compare_maps(few, 15)
    assert list(to_obsm([made, make_map(vectors, "pca", seed=1)])) == ["X_pca", "X_pca_1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v[:2], "too few tiles to have neighbourhoods.*2"),
        (lambda v: np.ones_like(v), "every tile has the same vector"),
        (lambda v: np.where(np.arange(len(v))[:, None] == 7, np.nan, v), "NaN.*row 7"),
    ],
)
def test_what_cannot_be_mapped_is_said(change, said):
    with pytest.raises(InputError, match=said):
        make_map(change(clusters()[0]), "pca")


def test_wrong_options_are_said(graph, tmp_path):
    vectors = clusters()[0]
    with pytest.raises(OptionError, match=r"no method of mapping is called 'tsn'.*did you mean 'tsne'"):
        make_map(vectors, "tsn")
    with pytest.raises(OptionError, match=r"option of umap.*'perplexity'.*min_dist, neighbours"):
        make_map(vectors, "umap", graph=graph, perplexity=5)
    with pytest.raises(
        OptionError, match=r"perplexity of tsne is too large for 150 tiles. Received: 60. Valid: up to 30"
    ):
        make_map(vectors, "tsne", graph=graph, perplexity=60)
    with pytest.raises(InputError, match=r"graph is of other tiles.*150 and 40"):
        make_map(vectors[:40], "pca", graph=graph)
    with pytest.raises(InputError, match="2 names for 150"):
        make_map(vectors, "pca", tiles=["a", "b"])
    made = make_map(vectors, "pca")
    with pytest.raises(InputError, match=r"another space.*5 dimensions.*12"):
        made.place(np.zeros((2, 5)))
    with pytest.raises(InputError, match="NaN"):
        made.place(np.full((1, 12), np.nan))
    vectors[3] = 0
    with pytest.raises(InputError, match="a vector is zero"):
        make_map(vectors, "pca")


def test_a_folder_that_is_no_map_is_said(tmp_path):
    with pytest.raises(InputError, match="this is no map"):
        read_map(tmp_path)
    made = save_map(make_map(clusters()[0], "pca"), tmp_path / "map")
    with pytest.raises(OutputError, match="exists"):
        save_map(make_map(clusters()[0], "pca"), made)
    whole = (made / "map.npz").read_bytes()
    for part in (whole[: len(whole) // 2], whole[:200], b""):
        (made / "map.npz").write_bytes(part)
        with pytest.raises(InputError, match="this is no map"):
            read_map(made)
    np.savez(made / "map.npz", places=np.zeros((150, 2)))
    with pytest.raises(InputError, match=r"this map is not whole.*without vectors"):
        read_map(made)
    (made / "map.npz").write_bytes(whole)
    card = json.loads((made / "map.json").read_text())
    (made / "map.json").write_text("[]")
    with pytest.raises(InputError, match="no map that can be read"):
        read_map(made)
    (made / "map.json").write_text(json.dumps({**card, "version": 99}))
    with pytest.raises(InputError, match="version 99"):
        read_map(made)
