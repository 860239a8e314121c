"""Ways against closed forms of the sphere, routes through neighbours, mixtures and their order."""

import numpy as np
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.explore.graph import make_graph
from histolatent.explore.paths import LINES, along, graph_route, lerp, mix, nlerp, slerp

STEPS = np.linspace(0, 1, 11)


def ends(seed=0, d=8):
    random = np.random.default_rng(seed)
    return random.normal(size=d), random.normal(size=d)


def test_on_a_sphere_it_is_the_great_circle():
    a, b = ends()
    a, b = 3 * a / np.linalg.norm(a), 3 * b / np.linalg.norm(b)
    way = slerp(a, b, STEPS)
    angle = np.arccos(a @ b / 9)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 3)
    # Each step turns by the same angle, in the plane of both ends: the geodesic of the sphere.
    turned = np.arccos(np.clip((way[:-1] * way[1:]).sum(axis=1) / 9, -1, 1))
    np.testing.assert_allclose(turned, angle / 10)
    base = np.linalg.svd(np.stack([a, b]))[2][:2]
    np.testing.assert_allclose(way - way @ base.T @ base, 0, atol=1e-12)


@pytest.mark.parametrize("name", list(LINES))
def test_every_way_keeps_its_ends_and_turns_with_the_space(name):
    a, b = ends()
    middle = np.full(8, 0.3)
    way = LINES[name](a, b, STEPS, middle=middle)
    np.testing.assert_allclose(way[[0, -1]], [a, b])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    np.testing.assert_allclose(LINES[name](a @ turn, b @ turn, STEPS, middle=middle @ turn), way @ turn, atol=1e-12)
    np.testing.assert_allclose(LINES[name](b, a, STEPS, middle=middle), way[::-1], atol=1e-12)


def test_radii_change_evenly_in_their_logarithm_and_a_line_cuts_inside():
    a, b = np.array([1.0, 0]), np.array([0, 16.0])
    for way in (slerp(a, b, STEPS), nlerp(a, b, STEPS)):
        np.testing.assert_allclose(np.log2(np.linalg.norm(way, axis=1)), 4 * STEPS, atol=1e-12)
    random = np.random.default_rng(0)
    pairs = random.normal(size=(200, 2, 512))
    lengths = [np.linalg.norm(way(*pair, np.array([0.5]))[0]) / np.sqrt(512) for pair in pairs for way in (lerp, slerp)]
    assert np.mean(lengths[::2]) == pytest.approx(0.707, abs=0.01)
    assert np.mean(lengths[1::2]) == pytest.approx(1, abs=0.01)


def test_limits_where_there_is_no_angle():
    a = np.array([1.0, 2.0])
    for b in (2 * a, -a, np.zeros(2)):
        np.testing.assert_allclose(slerp(a, b, STEPS), lerp(a, b, STEPS))


def ring(n=60):
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_a_route_goes_round_where_there_are_tiles():
    vectors = ring()
    graph = make_graph(vectors, k=4, metric="euclidean")
    route = graph_route(vectors, graph, 0, 20)
    assert route[0] == 0 and route[-1] == 20 and set(route) <= set(range(21))
    steps = np.linalg.norm(np.diff(vectors[route], axis=0), axis=1)
    assert steps.max() < 0.25  # no step leaves the ring
    assert graph_route(vectors, graph, 7, 7) == [7]
    assert graph_route(vectors, graph, 20, 0) == route[::-1]


def test_two_islands_have_no_route():
    vectors = np.concatenate([ring(), ring() + 50])
    graph = make_graph(vectors, k=4, metric="euclidean")
    with pytest.raises(InputError, match=r"two islands.*4 neighbours"):
        graph_route(vectors, graph, 0, 100)
    with pytest.raises(InputError, match="no such tile"):
        graph_route(vectors, graph, 0, 500)


def test_copies_are_no_obstacle():
    vectors = np.repeat(ring(20), 3, axis=0)
    graph = make_graph(vectors, k=8, metric="euclidean")
    assert graph_route(vectors, graph, 0, 30)[-1] == 30


def test_places_along_corners_are_at_even_shares():
    corners = np.array([[0.0, 0], [3, 0], [3, 1]])
    np.testing.assert_allclose(along(corners, np.array([0, 0.25, 0.75, 1])), [[0, 0], [1, 0], [3, 0], [3, 1]])
    np.testing.assert_allclose(along(corners[:1], STEPS), np.zeros((11, 2)))
    np.testing.assert_allclose(along(np.zeros((2, 2)), STEPS), np.zeros((11, 2)))


def test_mixtures_are_means_and_of_two_they_are_the_ways():
    a, b = ends()
    vectors = np.stack([a, b])
    np.testing.assert_allclose(mix(vectors, [1, 3]), lerp(a, b, np.array([0.75]))[0])
    middle = np.full(8, 0.1)
    np.testing.assert_allclose(
        mix(vectors, [1, 3], how="sphere", middle=middle), slerp(a, b, np.array([0.75]), middle=middle)[0], atol=1e-9
    )
    many = np.random.default_rng(0).normal(size=(5, 8)) + 2
    shares = [1, 2, 3, 4, 5]
    found = mix(many, shares, how="sphere")
    order = [3, 1, 4, 0, 2]
    np.testing.assert_allclose(mix(many[order], [shares[k] for k in order], how="sphere"), found, atol=1e-9)
    np.testing.assert_allclose(mix(many, [0, 0, 1, 0, 0], how="sphere"), many[2], atol=1e-9)


@pytest.mark.parametrize(
    ("weights", "how", "error", "said"),
    [
        ([1, -1], "linear", InputError, "none negative"),
        ([0, 0], "linear", InputError, "not all 0"),
        ([1], "linear", InputError, "one for each"),
        ([1, 1], "cubic", OptionError, "linear, sphere"),
        ([1, 1], "sphere", InputError, "cancel out"),
    ],
)
def test_what_does_not_mix_is_said(weights, how, error, said):
    with pytest.raises(error, match=said):
        mix(np.array([[1.0, 0], [-1.0, 0]]), weights, how=how)
    with pytest.raises(InputError, match="no direction"):
        mix(np.array([[1.0, 0], [0, 0]]), [1, 1], how="sphere")
