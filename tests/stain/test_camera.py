"""The camera of the stain manifold, part by part, against other implementations."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from histolatent.stain.manifold import AXES, ProtocolState, StainManifold
from histolatent.stain.manifold.camera import (
    camera_of,
    colour_matrix,
    cut_noise,
    gaussian_kernel,
    jpeg_quality,
    noise_field,
    noise_of,
)
from histolatent.stain.model import StainModel

WHITE = 200.0


def manifold() -> StainManifold:
    model = StainModel(
        method="macenko",
        stains=("hematoxylin", "eosin"),
        vectors=((0.6, 0.7, np.sqrt(1 - 0.85)), (0.2, 0.9, np.sqrt(1 - 0.85))),
        max_concentrations=(1.5, 1.0),
        canonical_degrees=(0, 0),
        spread_degrees=(0, 0),
        white=(WHITE,) * 3,
        white_source="given",
        tissue_colour=(100, 100, 100),
        stained_colour=(100, 100, 100),
        tissue_pixels=1000,
        tiles=1,
        tiles_used=1,
        reason="ok",
    )
    return StainManifold(model)


def image(height: int = 40, width: int = 33) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 0.7, (height, width, 3))


@pytest.mark.parametrize(("blur", "mpp"), [(0.75, 0.5), (0.3, 0.25), (1.0, 0.25), (2.0, 0.5)])
def test_blur_is_a_gaussian_of_um(blur, mpp):
    seen = manifold().render(image(), ProtocolState(blur=blur), mpp=mpp)
    sigma = blur / mpp
    wanted = gaussian_filter(image(), (sigma, sigma, 0), mode="mirror", radius=(int(np.ceil(4 * sigma)),) * 2 + (0,))
    np.testing.assert_allclose(seen, wanted, atol=1e-5)


def test_without_a_resolution_it_is_half_a_um():
    state = ProtocolState(blur=0.6)
    assert (manifold().render(image(), state) == manifold().render(image(), state, mpp=0.5)).all()
    assert (manifold().render(image(), state) != manifold().render(image(), state, mpp=0.4)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (3, 50)])
def test_the_largest_blur_fits_into_the_smallest_tile(shape):
    seen = manifold().render(image(*shape), ProtocolState(blur=AXES["blur"].limits[1]), mpp=0.25)
    low, high = image(*shape).min(axis=(0, 1)), image(*shape).max(axis=(0, 1))
    assert (seen >= low - 1e-6).all() and (seen <= high + 1e-6).all()


@given(st.floats(1e-3, 40), st.integers(1, 300))
def test_kernels(sigma, side):
    kernel = gaussian_kernel(sigma, side)
    assert len(kernel) % 2 == 1 and len(kernel) // 2 <= side - 1
    assert kernel.sum() == pytest.approx(1, abs=1e-5) and (kernel == kernel[::-1]).all()


def test_the_colour_matrix_keeps_grey():
    state = ProtocolState(mix_red_green=0.1, mix_green_blue=-0.2, mix_blue_red=0.15)
    matrix = colour_matrix(state)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert (matrix[0, 1], matrix[1, 2], matrix[2, 0], matrix[0, 0]) == pytest.approx((0.1, -0.2, 0.15, 0.9))
    grey = np.repeat(np.linspace(0.02, 0.78, 60)[None, :, None], 3, axis=2)
    np.testing.assert_allclose(manifold().render(grey, state), grey, atol=1e-5)


def test_gamma_is_a_power_of_the_level():
    np.testing.assert_allclose(manifold().render(image(), ProtocolState(gamma=0.2)), image() ** np.exp(-0.2), atol=1e-5)


def test_light_that_is_brighter_than_the_sensor_is_cut():
    glass = np.full((4, 4, 3), round(WHITE), np.uint8)
    seen = manifold().render(glass, ProtocolState(illuminant_red=0.3, illuminant_blue=-0.1))
    assert (seen == [255, 200, round(200 * np.exp(-0.1))]).all()


@pytest.mark.parametrize(("level", "share"), [(200, 1.0), (50, 0.25), (100, 0.5)])
def test_noise_grows_with_the_light(level, share):
    flat = np.full((256, 256, 3), level / 255)
    seen = 255 * manifold().render(flat, ProtocolState(noise=4, seed=2), tile_id="t") - level
    assert seen.std() == pytest.approx(4 * np.sqrt(0.1 + 0.9 * share), rel=0.02)
    assert abs(seen.mean()) < 0.05


def test_noise_is_cut_from_one_field():
    assert noise_field().shape == (512, 512, 3) and not noise_field().flags.writeable
    assert noise_field().mean() == pytest.approx(0, abs=0.005) and noise_field().std() == pytest.approx(1, abs=0.005)
    # Golden: another field would change every noisy tile.
    np.testing.assert_allclose(noise_field()[0, 0], [-0.54947650, 0.86762816, -1.30809677], rtol=1e-5)
    first, again = (noise_of(cut_noise(600, 40, 3, "tile")) for _ in range(2))
    assert (first == again).all() and (first[:88] == first[512:]).all()
    others = [noise_of(cut_noise(600, 40, *key)) for key in ((4, "tile"), (3, "tile2"))]
    assert all(abs(np.corrcoef(first[:500].ravel(), other[:500].ravel())[0, 1]) < 0.02 for other in others)
    cuts = [cut_noise(2, 2, 0, str(k)) for k in range(64)]
    mirrors = {
        (bool((c.rows[1] - c.rows[0]) % 512 == 1), bool((c.columns[1] - c.columns[0]) % 512 == 1), c.sign) for c in cuts
    }
    assert len(mirrors) == 8


@pytest.mark.parametrize(("loss", "quality"), [(0, None), (0.2, 100), (12.4, 88), (95, 5)])
def test_jpeg_loss(loss, quality):
    assert jpeg_quality(loss) == quality
    assert camera_of(ProtocolState(jpeg=loss), np.full(3, 240.0), None).quality == quality


@pytest.mark.parametrize("loss", [5, 20, 60])
def test_jpeg_is_that_of_pillow(loss):
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.uniform(0, 1, (48, 56, 3)), (3, 3, 0))
    levels = np.rint(60 + 140 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    seen = manifold().render(levels, ProtocolState(jpeg=loss))
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=100 - loss, subsampling="4:2:0")
    wanted = np.asarray(Image.open(file)).astype(int)
    assert np.abs(seen - wanted).mean() < 0.1
    assert np.abs(seen.astype(int) - levels).mean() > np.abs(seen - wanted).mean()
