"""Encoders without weights: exact, invariant where they should be, and the same for ever."""

import pickle

import numpy as np
import pytest

from histolatent.encoders import TOYS, encode, encoder, verify
from histolatent.errors import OptionError

NAMES = list(TOYS)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_its_batch(name, tiles):
    toy = encoder(f"toy:{name}")
    whole = encode(toy, tiles)
    np.testing.assert_array_equal(whole, encode(toy, tiles, batch_size=1))
    np.testing.assert_array_equal(whole, encode(toy, tiles[::-1], batch_size=2)[::-1])
    np.testing.assert_array_equal(whole, encode(pickle.loads(pickle.dumps(toy)), tiles))
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()


@pytest.mark.parametrize("name", NAMES)
def test_any_size_will_do(name):
    toy = encoder(f"toy:{name}")
    sizes = [(1, 1), (7, 300), (96, 96), (224, 224), (511, 64)]
    tiles = [np.full((*size, 3), 10 * i, np.uint8) for i, size in enumerate(sizes)]
    assert encode(toy, tiles).shape == (len(sizes), toy.card.dim)


@pytest.mark.parametrize("name", NAMES)
def test_golden_numbers(name):
    verify(encoder(f"toy:{name}"))


@pytest.mark.parametrize("name", ["colour-histogram", "od-moments"])
def test_colour_toys_ignore_where_pixels_are(name, tiles):
    toy = encoder(f"toy:{name}")
    shuffled = np.random.default_rng(0).permuted(tiles.reshape(5, -1, 3), axis=1).reshape(tiles.shape)
    order = np.random.default_rng(0).permutation(48 * 48)
    shuffled = tiles.reshape(5, -1, 3)[:, order].reshape(tiles.shape)
    np.testing.assert_array_equal(encode(toy, tiles), encode(toy, shuffled))
    np.testing.assert_array_equal(encode(toy, tiles), encode(toy, tiles[:, ::-1]))


def test_colour_histogram_against_numpy(tiles):
    found = encode(encoder("toy:colour-histogram"), tiles[:1])[0]
    joint, _ = np.histogramdd(tiles[0].reshape(-1, 3), bins=[np.arange(0, 257, 64)] * 3)
    np.testing.assert_allclose(found[:64], joint.ravel() / 48**2, rtol=1e-6)
    for channel in range(3):
        counts, _ = np.histogram(tiles[0, ..., channel], bins=np.arange(0, 257, 16))
        np.testing.assert_allclose(found[64 + 16 * channel : 80 + 16 * channel], counts / 48**2, rtol=1e-6)


def test_od_moments_against_scipy(tiles):
    stats = pytest.importorskip("scipy.stats")
    found = encode(encoder("toy:od-moments"), tiles[:1])[0]
    density = -np.log(np.maximum(tiles[0].reshape(-1, 3), 1) / 255)
    covariance = np.cov(density.T, bias=True)
    oracle = [*density.mean(axis=0), *density.std(axis=0), *stats.skew(density), *covariance[[0, 0, 1], [1, 2, 2]]]
    np.testing.assert_allclose(found, oracle, rtol=2e-3, atol=2e-4)


def test_random_conv_against_torch(tiles):
    torch = pytest.importorskip("torch")
    from histolatent.encoders import prepare_many
    from histolatent.encoders.toys import _filters

    toy = encoder("toy:random-conv?seed=3")
    prepared = np.stack(prepare_many(tiles, toy.card.preprocessing))
    maps = torch.tensor(prepared).permute(0, 3, 1, 2).double() - 128
    for weights, step, cap in zip(_filters(3), (8, 16, 1), (1023, 4095, 2**23), strict=True):
        kernel = torch.tensor(weights).double().reshape(3, 3, -1, weights.shape[1]).permute(3, 2, 0, 1)
        maps = torch.nn.functional.conv2d(maps, kernel, stride=2, padding=1)
        maps = (maps / step).floor().clamp(0, cap)
    oracle = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1) / 2**14
    np.testing.assert_array_equal(encode(toy, tiles), oracle.float().numpy())


def test_random_projection_keeps_distances():
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    found = encode(encoder("toy:random-projection"), tiles).astype(float)
    pixels = tiles.reshape(40, -1) / 127.5 - 1
    near = np.linalg.norm(found[:20] - found[20:], axis=1)
    true = np.linalg.norm(pixels[:20] - pixels[20:], axis=1)
    ratio = near / true
    assert ratio.std() / ratio.mean() < 0.15


def test_constant_is_constant(tiles):
    found = encode(encoder("toy:constant"), tiles)
    assert (found == found[0]).all()
    assert np.linalg.norm(found[0]) == 1


def test_seeds_differ_and_are_recorded(tiles):
    first, second = encoder("toy:random-conv"), encoder("toy:random-conv?seed=1")
    assert first.card.identity != second.card.identity
    assert second.card.name == "toy:random-conv?seed=1"
    assert (encode(first, tiles) != encode(second, tiles)).any()


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match=r"no toy encoder is called 'color-histogram'.*mean 'colour-histogram'"):
        encoder("toy:color-histogram")
