"""Samples of priors and densities, and how good tiles are."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from histolatent.encoders import encoder
from histolatent.errors import InputError, OptionError
from histolatent.explore.generative.quality import judge_reconstruction, judge_samples
from histolatent.explore.generative.sampling import fit_density, sample_prior


def test_the_prior_is_standard_normal_by_the_seed():
    found = sample_prior(4000, 5, seed=3)
    np.testing.assert_allclose(np.cov(found.T), np.eye(5), atol=0.1)
    np.testing.assert_array_equal(found, sample_prior(4000, 5, seed=3))
    np.testing.assert_allclose(sample_prior(10, 5, temperature=0.5, seed=3), 0.5 * found[:10])


def test_a_density_finds_its_components_and_samples_like_them():
    random = np.random.default_rng(0)
    which = random.integers(2, size=800)
    vectors = (random.normal(size=(800, 12)) * 0.3 + 4 * which[:, None] * np.eye(12)[0] + 7).astype(np.float32)
    made = fit_density(vectors)
    assert made.components >= 2
    drawn = made.sample(4000, seed=1)
    np.testing.assert_allclose(drawn.mean(axis=0), vectors.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(vectors.T), atol=0.3)
    between = np.abs(drawn[:, 0] - 9) < 0.5  # the middle of both, where there are none
    assert between.mean() < 0.02
    scores = made.log_density(np.stack([vectors[0], vectors.mean(axis=0)]))
    assert scores[0] > scores[1]
    calm = made.sample(4000, temperature=0.3, seed=1)
    assert calm[:, 5].std() < 0.5 * drawn[:, 5].std()


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: sample_prior(0, 3), OptionError, "too few samples"),
        (lambda: sample_prior(3, 3, temperature=0), OptionError, "temperature is positive"),
        (lambda: fit_density(np.zeros((4, 3), np.float32)), InputError, "too few rows"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, error, said):
    with pytest.raises(error, match=said):
        call()


def tiles(n=12, seed=0):
    random = np.random.default_rng(seed)
    smooth = random.integers(60, 200, (n, 6, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def test_reconstruction_is_scored_as_scikit_image_does():
    real, made = (
        tiles(),
        np.clip(tiles() + np.random.default_rng(1).normal(0, 9, tiles().shape), 0, 255).astype(np.uint8),
    )
    found = judge_reconstruction(real, made)
    assert found.psnr == pytest.approx(
        np.mean([peak_signal_noise_ratio(*pair) for pair in zip(real, made, strict=True)])
    )
    options = {
        "channel_axis": 2,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 255,
    }
    ssim = np.mean([structural_similarity(*pair, **options) for pair in zip(real, made, strict=True)])
    assert found.ssim == pytest.approx(ssim, abs=0.02) and found.ssim > found.blurred
    assert judge_reconstruction(real, real).ssim == pytest.approx(1)
    with pytest.raises(InputError, match="one number and size"):
        judge_reconstruction(real, made[:3])


def test_samples_like_the_real_ones_are_at_their_floor_and_others_above():
    judge = encoder("toy:od-moments")
    real = tiles(80)
    alike = judge_samples(real, tiles(40, seed=5), judge)
    other = judge_samples(real, np.clip(tiles(40, seed=5) + 45, 0, 255).astype(np.uint8), judge)
    assert alike.value < 2 * alike.floor_p95 < other.value
    assert alike.tiles == 40 and alike.floor <= alike.floor_p95 and alike.encoder == judge.card.name
    with pytest.raises(InputError, match="40 real ones"):
        judge_samples(real[:30], real, judge)
