"""Points that are moved, mixed, chained and doubted; what a space refuses."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from histolatent.audit.plan import LEAKAGE_COLUMNS
from histolatent.embeddings import make_table
from histolatent.encoders import encoder
from histolatent.errors import EncoderError, InputError, OptionError
from histolatent.explore.attributes import NUISANCES
from histolatent.explore.decoding import Adapter
from histolatent.explore.directions import Direction
from histolatent.explore.space import LatentSpace


def flat(d=8, px=8):
    """A decoder whose tiles show each number as a grey square, and which reads them back."""

    def decodes(z):
        levels = np.clip(z * 20 + 128, 0, 255).round().astype(np.uint8)
        return np.repeat(np.repeat(levels[:, :, None, None], px, axis=2), 3, axis=3).copy()

    return Adapter(d, lambda tiles: (tiles[:, :, 0, 0].astype(np.float32) - 128) / 20, decodes)


def space(n=120, d=8, **parts):
    random = np.random.default_rng(0)
    labels = np.array(["a", "b"])[np.arange(n) % 2]
    vectors = random.normal(size=(n, d)).astype(np.float32)
    vectors[labels == "b", 2] += 3
    obs = pd.DataFrame(
        {"label": labels, "size": vectors[:, 0].astype(float), "slide": [f"s{k // 12}" for k in range(n)]},
        index=pd.Index([f"t{k}" for k in range(n)]),
    )
    return LatentSpace(vectors, tuple(obs.index), obs=obs, **parts)


def test_a_chain_of_operations_is_what_it_says():
    home = space()
    home = home.knowing(home.direction("label"), home.direction("size"))
    point = home["t4"].move("label", 2).move("size", -1).toward(home["t9"], 0.3)
    expected = home.vectors[4] + 2 * home.directions["label"].vector - home.directions["size"].vector
    expected = 0.7 * expected + 0.3 * home.vectors[9]
    np.testing.assert_allclose(point.vector, expected)
    assert repr(point) == "Point(t4, label +2, size -1, 0.3 toward t9)"
    assert home.directions["label"].unit == "from a to b"
    assert home.directions["label"].value(home["t0"].until("label", 0.9).vector) == pytest.approx(np.log(9))
    np.testing.assert_allclose(home["t1"].move("label", 0).vector, home.vectors[1])


def test_moves_commute_and_ways_do_not():
    home = space()
    home = home.knowing(home.direction("label"), home.direction("size"))
    one, other = home["t0"], home["t5"]
    np.testing.assert_allclose(one.move("label", 1).move("size", 2).vector, one.move("size", 2).move("label", 1).vector)
    first = one.move("label", 1).toward(other, 0.5).vector
    assert np.linalg.norm(first - one.toward(other, 0.5).move("label", 1).vector) > 0.1


def test_mixtures_and_means_are_points():
    home = space()
    np.testing.assert_allclose(home.mix({"t0": 1, "t1": 3}).vector, home.vectors[0] / 4 + 3 * home.vectors[1] / 4)
    mean = home.mean_of("label", "b")
    np.testing.assert_allclose(mean.vector, home.vectors[1::2].mean(axis=0), atol=1e-6)
    assert repr(mean) == "Point(mean of label b)"
    gap = home.mean_of("label", "b").vector - home.mean_of("label", "a").vector
    np.testing.assert_allclose(home.direction("label").vector, gap, atol=1e-5)


def test_nearest_tiles_come_with_what_is_known_of_them():
    home = space()
    found = home["t7"].nearest(3)
    assert found["tile"][0] == "t7" and found["distance"][0] == pytest.approx(0, abs=1e-6)
    assert found["label"][0] == "b" and list(found) == ["tile", "distance", "label", "size", "slide"]
    with pytest.raises(OptionError, match="1 to 120"):
        home["t7"].nearest(500)


@pytest.mark.parametrize("method", ["lerp", "slerp", "nlerp", "graph"])
def test_every_way_has_its_ends_and_is_scored(method):
    home = space(decoder=flat())
    way = home["t0"].path(home["t9"], method=method, steps=7)
    np.testing.assert_allclose(way.vectors[[0, -1]], home.vectors[[0, 9]], atol=1e-6)
    assert way.decode().shape == (7, 8, 8, 3)
    score = way.score(home.direction("label"))
    assert set(score) == {
        "length",
        "detour",
        "evenness",
        "sparsest",
        "cycle",
        "seen_length",
        "seen_evenness",
        "monotone",
    }
    assert score["detour"] >= 1 - 1e-9 and 0 < score["evenness"] <= 1
    np.testing.assert_array_equal(home["t0"].path(home["t9"], method=method, steps=np.int64(7)).vectors, way.vectors)
    frame = way.to_frame()
    assert frame["along"].iloc[0] == 0 and frame["along"].iloc[-1] == pytest.approx(1)
    assert way.through_tiles()[0] == "t0" and way.through_tiles()[-1] == "t9"
    if method == "graph":
        assert way.route[0] == "t0" and way.route[-1] == "t9"


def test_far_places_are_doubted_and_tiles_are_not():
    home = space(decoder=flat())
    far, near = home.at(np.full(8, 9.0)).risk(), home["t3"].risk()
    assert far["sparser"] == 1 and near["sparser"] < 1 and near["nearest"] == "t3"
    assert far["distance"] > near["distance"] and far["cycle"] > 1 > near["cycle"]  # 9 is beyond what 255 can show


def test_tiles_and_fresh_draws_lie_about_as_densely_as_each_other():
    random = np.random.default_rng(0)
    whole = random.normal(size=(700, 8)).astype(np.float32)
    home = LatentSpace(whole[:400], tuple(f"t{k}" for k in range(400)))
    tiles, fresh = (home.risks(part.astype(np.float64))["sparser"] for part in (whole[:400], whole[400:]))
    assert tiles.mean() == pytest.approx(0.5, abs=0.01) and fresh.mean() == pytest.approx(tiles.mean(), abs=0.08)
    np.testing.assert_allclose(tiles, home.graph.distance.mean(axis=1).argsort().argsort() / 400, atol=0.006)
    alone = home.at(np.full(8, 9.0)).vector
    lonely = LatentSpace(np.vstack([whole[:400], alone]).astype(np.float32), (*home.tiles, "far"))
    assert lonely["far"].risk()["sparser"] == 1 - 1 / 401  # one tile beside a place does not make it dense
    assert lonely.at(alone + 0.1).risk()["sparser"] > 0.99
    beside = home.risks(np.stack([home.vectors[7], home.vectors[7] + 1e-4]).astype(np.float64))["sparser"]
    assert beside[0] == pytest.approx(beside[1], abs=0.01)


def test_a_space_of_a_table_knows_its_encoder():
    toy = encoder("toy:random-conv")
    vectors = np.random.default_rng(0).normal(size=(20, toy.card.dim)).astype(np.float32)
    table = make_table(
        vectors, pd.DataFrame(index=[f"t{k}" for k in range(20)]), {"encoder": toy.card.model_dump(mode="json")}
    )
    fits, other = (
        Adapter(toy.card.dim, lambda t: t, lambda z: np.zeros((len(z), 8, 8, 3), np.uint8), encoder=identity)
        for identity in (toy.card.identity, "0" * 64)
    )
    assert LatentSpace.of(table, fits)["t3"].decode().shape == (8, 8, 3)
    with pytest.raises(InputError, match="another encoder's vectors"):
        LatentSpace.of(table, other)
    with pytest.raises(InputError, match=rf"another space.*{toy.card.dim} numbers.*8 numbers"):
        LatentSpace.of(table, flat())


def test_any_anndata_is_a_space():
    random = np.random.default_rng(0)
    home = space(40)
    plain = AnnData(home.vectors, home.obs, obsm={"X_uni": random.normal(size=(40, 3))})
    found = LatentSpace.of(plain, flat())
    assert found.encoder is None and found["t3"].decode().shape == (8, 8, 3)
    np.testing.assert_array_equal(found.vectors, home.vectors)
    other = LatentSpace.of(plain, rep="X_uni")
    np.testing.assert_array_equal(other.vectors, np.float32(plain.obsm["X_uni"]))
    assert other.direction("label").card.by == "slide"
    with pytest.raises(OptionError, match=r"no representation in obsm is called 'X_un'.*did you mean 'X_uni'"):
        LatentSpace.of(plain, rep="X_un")


def test_what_goes_with_a_site_is_refused_without_being_asked():
    home = space()
    there = replace(home, obs=home.obs.assign(scanner=home.obs["label"].map({"a": 0, "b": 1})))
    with pytest.raises(InputError, match="label cannot be told from scanner, which tells 100%"):
        there.direction("label")
    assert there.direction("label", force=True).notes == ("told by scanner to 100%, and not adjusted for it",)
    assert there.direction("size").notes == () and there.direction("scanner").notes == ()
    assert NUISANCES == LEAKAGE_COLUMNS


def test_without_a_decoder_real_tiles_are_offered():
    home = space()
    with pytest.raises(InputError, match=r"no decoder.*explore train.*nearest\(5\)"):
        home["t0"].decode()
    with pytest.raises(InputError, match="geodesic needs a decoder"):
        home["t0"].path(home["t1"], method="geodesic")
    seen = space(decoder=flat())
    with pytest.raises(InputError, match=r"can be differentiated.*Adapter"):
        seen["t0"].path(seen["t1"], method="geodesic")


def test_what_a_space_refuses_is_said():
    home = space()
    with pytest.raises(OptionError, match=r"no such tile.*t12O.*did you mean 't12'"):
        home["t12O"]
    with pytest.raises(OptionError, match=r"no such tile.*Received: 3"):
        home[3]
    with pytest.raises(OptionError, match="no direction is called 'grad'"):
        home["t0"].move("grad", 1)
    with pytest.raises(OptionError, match=r"no direction is called 'lab'.*did you mean 'label'"):
        home.knowing(home.direction("label"))["t0"].until("lab", 0.9)
    with pytest.raises(OptionError, match=r"no option of the way slerp is called 'metod'.*did you mean 'method'"):
        home["t0"].path(home["t1"], metod="graph")
    with pytest.raises(OptionError, match=r"no option of the way geodesic is called 'densty'.*did you mean 'density'"):
        home["t0"].path(home["t1"], method="geodesic", densty=1.0)
    with pytest.raises(InputError, match=r"name is its own.*t0 more than once"):
        LatentSpace(home.vectors, ("t0", *home.tiles[:-1]))
    with pytest.raises(InputError, match="two spaces"):
        home["t0"].path(space()["t1"])
    with pytest.raises(InputError, match="is of another space"):
        home.knowing(Direction("x", np.ones(3), np.ones(3)))
    with pytest.raises(OptionError, match=r"no column is called 'labl'.*label"):
        home.direction("labl")
    with pytest.raises(InputError, match=r"no tile has this label.*a, b"):
        home.mean_of("label", "c")
    with pytest.raises(OptionError, match="from 0 to 1"):
        home["t0"].toward(home["t1"], 2)
    with pytest.raises(OptionError, match="2 or more"):
        home["t0"].path(home["t1"], steps=1)
    with pytest.raises(OptionError, match="no way is called 'slerpp'"):
        home["t0"].path(home["t1"], method="slerpp")
    with pytest.raises(InputError, match="no vector of the space"):
        home.at([1, 2, 3])
    vectors = home.vectors.copy()
    vectors[5, 1] = np.nan
    with pytest.raises(InputError, match="first of tile t5"):
        LatentSpace(vectors, home.tiles)
    with pytest.raises(EncoderError, match="decoding function broke its contract"):
        Adapter(8, lambda t: t, lambda z: np.zeros((1, 4, 4))).decode(home.vectors[:2])
    with pytest.raises(EncoderError, match="encoding function broke its contract"):
        Adapter(8, lambda t: t, lambda z: z).encode(np.zeros((2, 4, 4, 3), np.uint8))


def test_a_direction_of_another_encoder_is_refused():
    home, other = space(encoder="one"), space(encoder="other")
    along = other.direction("label")
    for used in (lambda: home.knowing(along), lambda: home["t0"].move(along, 1)):
        with pytest.raises(InputError, match=r"label is of another encoder's vectors.*space.direction"):
            used()
    assert home.direction("label").without(home.direction("size")).encoder == "one"
    home["t0"].move(replace(along, encoder=None), 1)  # of no encoder that is known


def test_ways_lead_to_tiles_by_their_names():
    home = space()
    np.testing.assert_array_equal(home["t0"].path("t9").vectors, home["t0"].path(home["t9"]).vectors)
    np.testing.assert_array_equal(home["t0"].toward("t9", 0.3).vector, home["t0"].toward(home["t9"], 0.3).vector)
    with pytest.raises(OptionError, match="there is no such tile"):
        home["t0"].path("t999")


def test_a_table_in_place_of_vectors_and_no_tiles_are_said(monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # as for a user
    table = AnnData(np.ones((3, 2), np.float32))
    with pytest.raises(InputError, match=r"vectors are an array. Received: AnnData.*LatentSpace.of"):
        LatentSpace(table, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="a space of no tiles"):
        LatentSpace(np.zeros((0, 4), np.float32), ())


def test_a_tile_that_is_near_to_most_is_named():
    random = np.random.default_rng(0)
    around = random.normal(size=(200, 64))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    around[7] = 0
    found = LatentSpace(around.astype(np.float32), tuple(f"t{k}" for k in range(200))).hub
    assert found == ("t7", 199 / 200)
