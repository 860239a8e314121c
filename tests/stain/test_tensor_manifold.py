"""The stain manifold on tensors: the same tiles as in NumPy, tile by tile, and gradients."""

import math
from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from histolatent.errors import InputError, OptionError  # noqa: E402
from histolatent.images.phantom import PhantomSpec, PhantomTiles  # noqa: E402
from histolatent.stain import fit_stains  # noqa: E402
from histolatent.stain.manifold import AXES, ProtocolState, StainManifold, fixed_prior  # noqa: E402
from histolatent.stain.tensors.manifold import render_batch, render_light  # noqa: E402

TILES = PhantomTiles(PhantomSpec(sites=3, patients=1, slides=1, tiles_per_site=3, tile_px=65))
SIZES = [(65, 65), (1, 1), (1, 7), (33, 2), (64, 48), (17, 51)]


@cache
def manifold(wide: float = 2.0, **sds: float) -> StainManifold:
    slides = {
        str(slide): fit_stains([TILES.read(i) for i in rows.index])
        for slide, rows in TILES.table.reset_index().groupby("slide")
    }
    return StainManifold(slides["source/p01/s1"], fixed_prior(**sds).widened(wide), slides)


@cache
def read(i: int) -> np.ndarray:
    return TILES.read(i)


def tiles(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """Return phantom tiles, and among them one of anything at all, one white and one black."""
    rng = np.random.default_rng(seed)
    found = np.stack([read(i % 9)[:height, :width] for i in range(count)])
    found[0] = rng.integers(0, 256, found[0].shape)
    if count > 3:
        found[1], found[2] = 255, 0
    return found


def both(images: np.ndarray, states, over, **options) -> tuple[np.ndarray, np.ndarray]:
    ids = [f"t{k}" for k in range(len(images))]
    wanted = [
        over.render(image, state, tile_id=name, **options)
        for image, state, name in zip(images, states, ids, strict=True)
    ]
    found = render_batch(torch.from_numpy(images), states, over, tile_ids=ids, layout="NHWC", **options)
    return np.stack(wanted), found.numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mpp", [None, 0.25])
def test_tensors_and_arrays_agree(size, mpp):
    images = tiles(12, *size, seed=size[0])
    states = [manifold(jpeg=0.0).sample(k, *size) for k in range(12)]
    wanted, found = both(images, states, manifold(jpeg=0.0), mpp=mpp)
    apart = np.abs(wanted.astype(int) - found)
    assert found.dtype == np.uint8 and apart.max() <= 1 and (apart > 0).mean() < 0.01
    wanted, found = both(images / np.float32(255), states, manifold(jpeg=0.0), mpp=mpp)
    assert found.dtype == np.float32 and np.abs(wanted - found).max() < 1e-4


def test_single_axes_agree():
    for name, axis in AXES.items():
        states = [ProtocolState(**{name: share * axis.limits[1], "seed": 5}) for share in (0.1, 0.5, 1.0)]
        wanted, found = both(tiles(3, 40, 31, 2), states, manifold())
        apart = np.abs(wanted.astype(int) - found)
        assert apart.max() <= (16 if name == "jpeg" else 1), name


def test_jpeg_agrees_in_all_but_single_blocks():
    """One level that rounds the other way may move its block of 8 pixels, by a step of the quantiser."""
    states = [manifold().sample(k) for k in range(24)]
    assert all(state["jpeg"] for state in states)
    wanted, found = both(tiles(24, 64, 48, 0), states, manifold())
    apart = np.abs(wanted.astype(int) - found)
    assert apart.max() <= 24 and apart.mean() < 0.02


def test_the_slide_decides():
    slides = list(manifold().slides)
    images = np.stack([read(4)] * 3)
    states = [ProtocolState(eosin_gain=0.4, hematoxylin_turn=-3, eosin_bias=0.1)] * 3
    found = render_batch(torch.from_numpy(images), states, manifold(), slides=slides, layout="NHWC").numpy()
    for k, slide in enumerate(slides):
        assert np.abs(manifold().render(images[k], states[k], slide=slide).astype(int) - found[k]).max() <= 1
    assert np.abs(found[0].astype(int) - found[1]).mean() > 0.5


def test_models_that_add_1_before_the_logarithm_agree():
    model = fit_stains([read(0), read(1), read(2)], offset=1)
    over = StainManifold(model, fixed_prior(jpeg=0.0))
    states = [over.sample(k) for k in range(6)]
    wanted, found = both(tiles(6, 30, 30, 1), states, over)
    assert np.abs(wanted.astype(int) - found).max() <= 1
    near = over.render(tiles(6, 30, 30, 1)[0], ProtocolState(gamma=1e-6))
    assert np.abs(near.astype(int) - tiles(6, 30, 30, 1)[0]).max() <= 1
    mixed = StainManifold(model, slides={"a": model, "b": manifold().anchor})
    with pytest.raises(OptionError, match="different offsets"):
        render_batch(torch.from_numpy(tiles(2, 9, 9, 0)), states[:2], mixed, slides=["a", "b"], layout="NHWC")


def test_each_tile_is_alone():
    images = torch.from_numpy(tiles(8, 33, 40, 1)).permute(0, 3, 1, 2)
    states = [manifold().sample(k) for k in range(7)] + [ProtocolState()]
    resolutions = [0.25, 0.5, 1.0, 0.3, 0.5, 0.5, 2.0, 0.5]
    ids = list("abcdefgh")
    kept = images.clone()
    together = render_batch(images, states, manifold(), mpp=resolutions, tile_ids=ids)
    assert (images == kept).all()
    for k in range(8):
        options = {"mpp": resolutions[k], "tile_ids": ids[k : k + 1]}
        assert (render_batch(images[k : k + 1], states[k : k + 1], manifold(), **options)[0] == together[k]).all()
    order = [5, 2, 7, 0]
    part = render_batch(
        images[order],
        [states[k] for k in order],
        manifold(),
        mpp=[resolutions[k] for k in order],
        tile_ids=[ids[k] for k in order],
    )
    assert (part == together[order]).all()


def test_blocks_of_an_accelerator_change_nothing(monkeypatch):
    """On a CPU tiles are computed one at a time. Together, as on an accelerator, they come out the same."""
    from histolatent.stain.tensors import manifold as module

    images = torch.from_numpy(tiles(9, 33, 40, 1))
    states = [manifold(jpeg=0.0).sample(k) for k in range(4)] + [ProtocolState(gamma=0.1), ProtocolState()]
    states += [ProtocolState(noise=2), ProtocolState(blur=0.5), ProtocolState(jpeg=10)]
    alone = render_batch(images, states, manifold(), layout="NHWC")
    monkeypatch.setattr(module, "blocks", lambda which, _: iter([list(which)]))
    together = render_batch(images, states, manifold(), layout="NHWC")
    apart = (alone.int() - together.int()).abs()
    assert apart[:-1].max() <= 1 and apart[-1].max() <= 16 and (apart > 0).float().mean() < 0.01


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_type_and_layout_come_back(dtype, layout):
    batch = torch.from_numpy(tiles(2, 20, 24, 3))
    batch = batch if dtype == torch.uint8 else (batch / 255).to(dtype)
    batch = batch.permute(0, 3, 1, 2) if layout == "NCHW" else batch
    states = [ProtocolState(seed=3), ProtocolState(gamma=0.1, noise=1, jpeg=9, blur=0.2)]
    found = render_batch(batch, states, manifold(), layout=layout)
    assert found.dtype == dtype and found.shape == batch.shape and (found[0] == batch[0]).all()
    assert (found[1] != batch[1]).any()
    assert render_batch(batch[:0], [], manifold(), layout=layout).shape == (0, *batch.shape[1:])


def test_errors_say_what_is_wrong():
    batch = torch.zeros((2, 3, 4, 4), dtype=torch.uint8)
    two = [ProtocolState()] * 2
    with pytest.raises(InputError, match=r"as many states as tiles. Received: 1 states for 2 tiles"):
        render_batch(batch, two[:1], manifold())
    with pytest.raises(InputError, match="as many tile ids as tiles"):
        render_batch(batch, two, manifold(), tile_ids=["a"])
    with pytest.raises(InputError, match="as many resolutions as tiles"):
        render_batch(batch, two, manifold(), mpp=[0.5])
    with pytest.raises(InputError, match="as many slides as tiles"):
        render_batch(batch, two, manifold(), slides=["source/p01/s1"])
    with pytest.raises(OptionError, match="no slide in the stain manifold is called 'x'"):
        render_batch(batch, two, manifold(), slides=["x", None])
    with pytest.raises(OptionError, match="mpp is no positive number"):
        render_batch(batch, [ProtocolState(blur=1)] * 2, manifold(), mpp=-1.0)
    with pytest.raises(InputError, match="NHWC"):
        render_batch(batch.permute(0, 2, 3, 1), two, manifold())


# Gradients.


def given_light(dtype=torch.float64, stains: int = 3) -> list:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, stains, 3, 2), (2, stains, 3), (2, stains), (2, stains), (2, 3), (2, 1, 3, 2)]
    found = [torch.rand(shape, generator=generator, dtype=dtype) for shape in shapes]
    found[4] = found[4] + 1
    return found


@pytest.mark.parametrize("stains", [2, 3])
def test_light_is_the_formula(stains):
    amounts, vectors, gains, bias, white, tissue = given_light(stains=stains)
    grown = gains.exp()[..., None, None] * amounts + bias[..., None, None] * tissue
    wanted = white[..., None, None] * torch.exp(-torch.einsum("nshw,nsc->nchw", grown, vectors))
    torch.testing.assert_close(render_light(amounts, vectors, gains, bias, white, tissue), wanted)
    everywhere = render_light(amounts, vectors[:1], gains[:1], bias[:1], white[:1])
    grown = gains[:1].exp()[..., None, None] * amounts + bias[:1, :, None, None]
    torch.testing.assert_close(
        everywhere, white[:1, :, None, None] * torch.exp(-torch.einsum("nshw,sc->nchw", grown, vectors[0]))
    )


def test_gradients_of_light_are_right():
    arguments = [value.requires_grad_() for value in given_light()]
    assert torch.autograd.gradcheck(render_light, arguments)


def test_gradients_of_a_batch_are_right():
    """By finite differences, through blur, matrix, noise and tone, where nothing is cut."""
    batch = torch.from_numpy(0.3 + 0.4 * np.random.default_rng(0).random((2, 3, 4, 3))).requires_grad_()
    states = [
        ProtocolState(eosin_gain=0.2, hematoxylin_tilt=3, blur=0.4, noise=1, gamma=0.1, mix_red_blue=0.05),
        ProtocolState(eosin_bias=0.1),
    ]
    assert torch.autograd.gradcheck(lambda each: render_batch(each, states, manifold()), (batch,), eps=1e-5, atol=1e-3)


def test_gradients_pass_jpeg_as_if_it_were_not_there():
    image = torch.from_numpy(tiles(3, 24, 24, 0)[2:]).float() / 255
    found = []
    for state in (ProtocolState(gamma=0.1), ProtocolState(gamma=0.1, jpeg=30)):
        batch = image.clone().requires_grad_()
        out = render_batch(batch, [state], manifold(), layout="NHWC")
        (out * torch.linspace(0, 1, out.numel()).reshape(out.shape)).sum().backward()
        found.append((out.detach(), batch.grad))
    assert (found[0][0] != found[1][0]).any()
    torch.testing.assert_close(found[0][1], found[1][1])
    assert found[1][1].abs().max() > 0


def test_gradients_are_finite_at_the_ends_of_the_range():
    batch = torch.tensor([0.0, 1.0, 0.5]).reshape(1, 3, 1, 1).repeat(1, 1, 5, 4).requires_grad_()
    state = ProtocolState(gamma=0.6, noise=20, mix_red_green=-0.3, mix_green_red=-0.3, eosin_bias=0.3, blur=1)
    render_batch(batch, [state], manifold()).sum().backward()
    assert torch.isfinite(batch.grad).all()


def test_gains_can_be_found_by_descent():
    """What the gradients are for: a planted gain is recovered from the picture."""
    amounts, vectors, *_ = given_light(torch.float32, stains=2)
    white, bias, planted = torch.full((1, 3), 240.0), torch.zeros(1, 2), torch.tensor([[math.log(1.5), -0.3]])
    target = render_light(amounts, vectors, planted, bias, white)
    gains = torch.zeros(1, 2, requires_grad=True)
    optimiser = torch.optim.Adam([gains], 0.05)
    for _ in range(200):
        optimiser.zero_grad()
        ((render_light(amounts, vectors, gains, bias, white) - target) ** 2).mean().backward()
        optimiser.step()
    torch.testing.assert_close(gains.detach(), planted, atol=1e-2, rtol=0)


@pytest.mark.gpu
def test_the_device_does_not_matter():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    batch = torch.from_numpy(tiles(12, 64, 48, 0))
    states = [manifold(jpeg=0.0).sample(k) for k in range(12)]
    here = render_batch(batch, states, manifold(), layout="NHWC")
    there = render_batch(batch.cuda(), states, manifold(), layout="NHWC")
    assert there.is_cuda and (here.int() - there.cpu().int()).abs().max() <= 1
