"""Small models trained: shapes, resumption, folders, what is learnt, what is refused."""

import json

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from histolatent.encoders import encode, encoder
from histolatent.errors import EncoderError, InputError, OutputError
from histolatent.explore.decoding import Differentiable, Encodes
from histolatent.explore.generative.model import read_model, save_model
from histolatent.explore.generative.networks import TileDecoder, bands_of, divergence, misfit
from histolatent.explore.generative.plan import GenerativePlan
from histolatent.explore.generative.training import keep_prepared, train_generative, turned
from histolatent.explore.geodesic import find_geodesic, jacobian_directions
from histolatent.explore.space import LatentSpace
from histolatent.images import open_tiles
from histolatent.training.checkpoint import CHECKPOINT

PLAN = GenerativePlan().changed(
    **{
        "tile_px": 16,
        "latent": 4,
        "widths": (8, 16),
        "bands": 2,
        "training.steps": 8,
        "training.batch_size": 8,
        "training.check_every": 4,
        "training.precision": "fp32",
    }
)
SOURCE = "phantom:sites=1,tiles_per_site=24,tile_px=48"


def weights(model):
    return torch.cat([tensor.flatten().float() for tensor in model.network.state_dict().values()])


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return train_generative(open_tiles(SOURCE), "vae", PLAN, tmp_path_factory.mktemp("vae"))


@pytest.mark.parametrize("kind", ["ae", "vae", "decoder"])
def test_every_kind_makes_tiles_of_vectors_and_comes_back_from_its_folder(kind, tmp_path):
    on = encoder("toy:random-conv") if kind == "decoder" else None
    told = []
    model = train_generative(
        open_tiles(SOURCE),
        kind,
        PLAN,
        tmp_path / "work",
        on=on,
        called="toy:random-conv" if on else "",
        progress=lambda *what: told.append(what[0]),
    )
    assert isinstance(model, Encodes) and isinstance(model, Differentiable)
    tiles = [open_tiles(SOURCE).read(row) for row in range(3)]
    vectors = model.encode(tiles)
    assert vectors.shape == (3, model.dim) and model.dim == (on.card.dim if on else 4)
    made = model.decode(vectors)
    assert made.shape == (3, 16, 16, 3) and made.dtype == np.uint8
    assert {"reading tiles", "training", "checked"} <= set(told) and ("embedding tiles" in told) == (on is not None)
    back = read_model(save_model(model, tmp_path / "model"))
    np.testing.assert_array_equal(back.decode(vectors), made)
    np.testing.assert_allclose(back.encode(tiles), vectors, atol=1e-5)
    assert back.card["shown"] == model.card["shown"] and back.encoder == model.encoder
    if on is None:  # its encoder is one like any other
        own = encoder(str(tmp_path / "model" / "encoder") + "?verify=yes")
        np.testing.assert_allclose(encode(own, tiles), vectors, atol=1e-5)
    with pytest.raises(OutputError, match="exists"):
        save_model(model, tmp_path / "model")


@pytest.mark.parametrize("kind", ["vae", "decoder"])
def test_a_run_that_stopped_goes_on_to_the_same_weights(kind, tmp_path):
    on = encoder("toy:random-conv") if kind == "decoder" else None
    whole = train_generative(open_tiles(SOURCE), kind, PLAN, tmp_path / "a", on=on)

    def stop(what, done, total, parts):
        if what == "training" and done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generative(open_tiles(SOURCE), kind, PLAN, tmp_path / "b", on=on, progress=stop)
    assert (tmp_path / "b" / CHECKPOINT).exists()
    resumed = train_generative(open_tiles(SOURCE), kind, PLAN, tmp_path / "b", on=on)
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.card["history"] == whole.card["history"]
    other = PLAN.changed(latent=5) if on is None else PLAN.changed(noise=0.5)
    with pytest.raises(OutputError, match=r"a checkpoint with another plan.*--restart"):
        train_generative(open_tiles(SOURCE), kind, other, tmp_path / "b", on=on)


@pytest.mark.slow
def test_what_is_trained_longer_comes_back_better(tmp_path):
    plan = PLAN.changed(**{"training.steps": 300, "training.check_every": 300, "latent": 16})
    model = train_generative(open_tiles(SOURCE), "ae", plan, tmp_path)
    history = model.card["history"]
    early, late = (np.mean([each["psnr"] for each in part]) for part in (history[:20], history[-20:]))
    assert late > early + 3
    real, rows = trained_on(model, tmp_path)
    source = open_tiles(SOURCE)
    own = ((model.decode(model.encode([source.read(row) for row in rows])).astype(float) - real) ** 2).mean((1, 2, 3))
    mean = ((real.mean(axis=0) - real) ** 2).mean(axis=(1, 2, 3))
    assert (own < 0.4 * mean).mean() > 0.9


def trained_on(model, folder):
    """The tiles that a model was trained on, at their size, and their rows."""
    kept = keep_prepared(open_tiles(SOURCE), 16, folder)
    rows = [row for row, tile in enumerate(kept.table.index) if str(tile) not in model.card["shown"]]
    return np.stack([kept.read(row) for row in rows]), rows


@pytest.mark.parametrize("kind", ["ae", "vae"])
def test_it_starts_from_the_principal_components_of_tiles_in_all_turns(kind, tmp_path):
    plan = PLAN.changed(**{"training.steps": 1, "training.learning_rate": 1e-12, "latent": 12})
    model = train_generative(open_tiles(SOURCE), kind, plan, tmp_path)
    real, rows = trained_on(model, tmp_path)
    every = np.concatenate([np.stack([turned(tile, k) for tile in real]) for k in range(8)])
    fitted = PCA(12, svd_solver="full").fit(every.reshape(len(every), -1) / 255)
    best = fitted.inverse_transform(fitted.transform(real.reshape(len(real), -1) / 255)).clip(0, 1)
    source = open_tiles(SOURCE)
    vectors = model.encode([source.read(row) for row in rows])
    made = model.decode(vectors).reshape(len(real), -1) / 255
    # Half of the turns are fitted to, by a randomised algorithm.
    errors = [((each - real.reshape(len(real), -1) / 255) ** 2).mean() for each in (made, best)]
    assert errors[0] == pytest.approx(errors[1], rel=0.15)
    assert vectors.std(axis=0).mean() == pytest.approx(1, abs=0.3)


def test_the_vector_of_a_tile_is_the_mean_and_no_sample(vae):
    tiles = [open_tiles(SOURCE).read(0)] * 2
    first, second = vae.encode(tiles)
    np.testing.assert_array_equal(first, second)
    assert vae.base.model.spread is not None  # there is a distribution that could be drawn from


def test_the_divergence_is_that_of_normal_distributions():
    mean, spread = torch.randn(5, 3), torch.randn(5, 3)
    own = torch.distributions.Normal(mean, (0.5 * spread).exp())
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    expected = torch.distributions.kl_divergence(own, prior).sum(dim=1).mean()
    assert torch.allclose(divergence(mean, spread), expected)


def test_bands_add_up_and_the_misfit_is_their_log_likelihood():
    images, others = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)
    bands = bands_of(images, 3)
    assert [tuple(band.shape[2:]) for band in bands] == [(16, 16), (8, 8), (4, 4)]
    back = bands[2]
    for band in (bands[1], bands[0]):
        back = torch.nn.functional.interpolate(back, scale_factor=2.0) + band
    assert torch.allclose(back, images, atol=1e-6)
    plain = 0.5 * torch.log((images - others).square().mean() + 1e-6)
    assert torch.allclose(misfit(others, images, 1), plain)
    assert misfit(images, images, 3) < misfit(0.9 * images, images, 3) < misfit(others, images, 3)


def test_turns_are_the_eight_of_a_square():
    tile = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    assert len({turned(tile, k).tobytes() for k in range(8)}) == 8
    np.testing.assert_array_equal(turned(tile, 0), tile)


def test_a_geodesic_changes_less_than_where_it_started(vae):
    space = LatentSpace(
        np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), tuple(map(str, range(60))), vae
    )
    way = space["0"].path(space["7"], method="geodesic", steps=7, density=0.0)
    np.testing.assert_allclose(way.vectors[[0, -1]], space.vectors[[0, 7]], atol=1e-6)
    start = space["0"].path(space["7"], method="graph", steps=7).vectors

    def energy(vectors):
        seen = vae.images(torch.from_numpy(vectors.astype(np.float32)))
        return float((seen[1:] - seen[:-1]).square().sum())

    assert energy(way.vectors) < energy(start)
    whole = space["0"].path(space["7"], method="geodesic").vectors
    for step in (2, 4):
        at = space["0"].toward(space["7"], step / 8, method="geodesic")
        np.testing.assert_allclose(at.vector, whole[step], atol=1e-6)
    with pytest.raises(Exception, match="three steps"):
        find_geodesic(vae, start[:2], space.vectors)


def test_directions_of_a_linear_decoder_are_its_singular_vectors():
    matrix = torch.diag(torch.tensor([5.0, 1.0, 3.0])).double().float()

    class Linear:
        dim, encoder, device = 3, None, "cpu"

        def decode(self, vectors):
            raise NotImplementedError

        def images(self, vectors):
            return (vectors @ matrix)[:, None, None, :]

    found = jacobian_directions(Linear(), np.zeros(3), 2, spread=2.0)
    np.testing.assert_allclose(np.abs(found[0].vector), [2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.abs(found[1].vector), [0, 0, 2], atol=1e-6)
    assert found[0].value(np.array([[4.0, 0, 0]]))[0] == pytest.approx(2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tile_px": 50}, "cannot be halved"),
        ({"bands": 5, "tile_px": 32}, "have no 5 bands"),
        ({"latnt": 3}, "did you mean 'latent'"),
        ({"training.steps": 0}, "training.steps"),
    ],
)
def test_a_wrong_plan_is_said(changes, said):
    with pytest.raises(InputError, match=said):
        GenerativePlan().changed(**changes)


@pytest.mark.parametrize("name", GenerativePlan.presets)
def test_presets_are_plans(name):
    plan = GenerativePlan.read(name)
    assert (
        TileDecoder(plan.tile_px, plan.latent, plan.mending, plan.blocks)(torch.zeros(2, plan.latent)).shape[2]
        == plan.tile_px
    )
    assert plan.about["command"].startswith("histolatent explore train")


def test_what_is_no_model_is_said(vae, tmp_path):
    with pytest.raises(EncoderError, match="no generative model"):
        read_model(tmp_path)
    with pytest.raises(InputError, match=r"too few tiles to train on.*9"):
        train_generative(open_tiles("phantom:sites=1,tiles_per_site=9,tile_px=48"), "ae", PLAN, tmp_path / "w")
    with pytest.raises(InputError, match=r"another space.*\(n, 4\)"):
        vae.decode(np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match="NaN"):
        vae.decode(np.full((1, 4), np.nan, np.float32))
    folder = save_model(vae, tmp_path / "model")
    card = json.loads((folder / "generative.json").read_text())
    (folder / "generative.json").write_text(json.dumps({**card, "version": 7}))
    with pytest.raises(EncoderError, match="version 7"):
        read_model(folder)
