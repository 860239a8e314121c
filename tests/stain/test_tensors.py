"""The torch path against the NumPy path, and what only tensors have: batches, gradients, devices, half precision."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from histolatent.errors import InputError, OptionError  # noqa: E402
from histolatent.images.phantom import PhantomSpec, PhantomTiles  # noqa: E402
from histolatent.stain import (  # noqa: E402
    NORMALIZERS,
    DensityChange,
    NoChange,
    SpaceChange,
    SparseChange,
    colour_change,
    fit_colour,
    fit_stains,
    recolour,
    shipped_reference,
    tensors,
)
from histolatent.stain import optical_density as numpy_density  # noqa: E402
from histolatent.stain import separate as numpy_separate  # noqa: E402
from histolatent.stain.colour import SPACES  # noqa: E402
from histolatent.stain.tensors import pixels  # noqa: E402
from histolatent.stain.tensors.recolour import _one_each, tissue_plane  # noqa: E402
from histolatent.stain.tissue import tissue_weight  # noqa: E402
from histolatent.stain.vectors import unmixing  # noqa: E402

PHANTOM = PhantomTiles(PhantomSpec(sites=2, tiles_per_site=24, seed=4))
TILES = [PHANTOM.read(i) for i in range(24, 30)]
KINDS = [
    *((name, background, 0) for name in NORMALIZERS for background in ("keep", "map")),
    *((name, "keep", 1) for name, target in NORMALIZERS.items() if target not in SPACES),
]


def change_of(name: str = "macenko", background: str = "keep", offset: int = 0):
    """Return how another site of the phantom becomes its source."""
    target, reference = NORMALIZERS[name], shipped_reference("phantom", name)
    fit = fit_colour(TILES, target) if target in SPACES else fit_stains(TILES, target, offset=offset)
    if name == "fixed":  # turns the phantom's hue too far to be used, but is a change like any other
        matrix = (unmixing(fit.rows) @ (1.2 * reference.rows)).T
        white = np.array(fit.white)
        return DensityChange(white, white, matrix, offset=offset, keep_background=background == "keep")
    change = colour_change(fit, reference, modified=name == "reinhard-modified", background=background)
    assert not isinstance(change, NoChange)
    return change


CHANGES = {kind: change_of(*kind) for kind in KINDS}
JITTER = DensityChange(np.full(3, 240.0), np.full(3, 240.0), np.eye(3) * 1.1, np.array([0.1, -0.05, 0.08]))


def odd_tiles() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "phantom": TILES[0],
        "noise": rng.integers(0, 256, (64, 48, 3), dtype=np.uint8),
        "odd sizes": rng.integers(0, 256, (37, 61, 3), dtype=np.uint8),
        "pale": rng.integers(190, 256, (33, 31, 3), dtype=np.uint8),
        "dark": rng.integers(0, 12, (33, 31, 3), dtype=np.uint8),
        "white": np.full((16, 17, 3), 255, np.uint8),
        "black": np.zeros((16, 17, 3), np.uint8),
        "one pixel": np.array([[[120, 60, 150]]], np.uint8),
    }


def as_batch(*tiles: np.ndarray) -> "torch.Tensor":
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous()


def as_tile(batch: "torch.Tensor", index: int = 0) -> np.ndarray:
    return batch[index].permute(1, 2, 0).numpy()


@pytest.fixture
def batch() -> "torch.Tensor":
    return as_batch(*TILES)


@pytest.fixture
def mixed() -> list:
    """One change of each kind, for six tiles."""
    return [
        CHANGES["macenko", "keep", 0],
        CHANGES["vahadane", "keep", 1],
        NoChange("too-little-tissue", "blank"),
        CHANGES["reinhard", "keep", 0],
        JITTER,
        CHANGES["reinhard-ruderman", "map", 0],
    ]


@pytest.fixture
def together(monkeypatch) -> None:
    """Compute tiles in blocks, as on an accelerator."""
    module = sys.modules[tissue_plane.__module__]  # the function has the name of its module
    monkeypatch.setattr(module, "blocks", lambda group, planes: iter([list(group)]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
@pytest.mark.parametrize("name", list(odd_tiles()))
def test_uint8_is_within_one_level_of_numpy(kind, name):
    tile = odd_tiles()[name]
    expected = recolour(tile, CHANGES[kind]).astype(int)
    found = tensors.recolour(as_batch(tile), CHANGES[kind])
    assert found.dtype == torch.uint8
    difference = np.abs(as_tile(found).astype(int) - expected)
    assert difference.max() <= 1
    by_tables = kind[0] in ("reinhard", "reinhard-modified")  # of 16 bits, which move what lies at a half
    assert (difference > 0).mean() < (4e-2 if by_tables else 2e-3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
@pytest.mark.parametrize("name", list(odd_tiles()))
def test_float_is_within_a_ten_thousandth_of_numpy(kind, name):
    tile = odd_tiles()[name].astype(np.float32) / np.float32(255)
    found = tensors.recolour(as_batch(tile), CHANGES[kind])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(as_tile(found), recolour(tile, CHANGES[kind]), atol=1e-4)


def test_a_bias_is_within_one_level_of_numpy():
    for tile in odd_tiles().values():
        found = as_tile(tensors.recolour(as_batch(tile), JITTER))
        assert np.abs(found.astype(int) - recolour(tile, JITTER)).max() <= 1


def test_the_grey_level_is_that_of_opencv():
    cv2 = pytest.importorskip("cv2")
    tile = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    white = np.array([[240.0, 238.0, 242.0]])
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)
    found = tissue_plane(as_batch(tile).float(), white, rounded=True)[0, 0].numpy()
    np.testing.assert_allclose(found, tissue_weight(grey, white[0]), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_tile_alone_is_the_tile_in_its_batch(batch, mixed, dtype):
    batch = batch if dtype == torch.uint8 else batch / 255
    found = tensors.recolour(batch, mixed)
    for i, change in enumerate(mixed):
        assert torch.equal(tensors.recolour(batch[i : i + 1], change)[0], found[i])
    order = [3, 0, 5, 2, 4, 1]
    assert torch.equal(tensors.recolour(batch[order], [mixed[i] for i in order]), found[order])


def test_tiles_of_a_block_get_their_own_changes(batch, mixed, together):
    found = tensors.recolour(torch.cat([batch, batch]), [*mixed, *mixed[1:], mixed[0]])
    for i, change in enumerate([*mixed, *mixed[1:], mixed[0]]):
        difference = np.abs(as_tile(found, i).astype(int) - recolour(TILES[i % 6], change))
        assert difference.max() <= 1


@pytest.mark.parametrize("first", ["macenko", "vahadane", "reinhard", "reinhard-ruderman"])
def test_changes_of_one_kind_share_a_block(batch, first, together):
    one = CHANGES[first, "keep", 0]
    fields = vars(one).copy()
    fields["white_in"] = fields["white_in"] - 9.0
    if isinstance(one, SpaceChange):
        fields["shift"] = fields["shift"] * 0.9
    elif isinstance(one, SparseChange):
        fields["gains"], fields["vectors_in"] = fields["gains"] * 1.2, fields["vectors_out"]
    else:
        fields["matrix"] = fields["matrix"] * 1.1
    other = type(one)(**fields)
    found = tensors.recolour(batch[:3], [one, other, one])
    for i, change in enumerate([one, other, one]):
        assert np.abs(as_tile(found, i).astype(int) - recolour(TILES[i], change)).max() <= 1


def test_layout_is_kept_and_the_batch_is_not_changed(batch, mixed):
    last = batch.permute(0, 2, 3, 1).contiguous()
    before = last.clone()
    found = tensors.recolour(last, mixed, layout="NHWC")
    assert found.shape == last.shape
    assert torch.equal(last, before)
    assert torch.equal(found.permute(0, 3, 1, 2), tensors.recolour(batch, mixed))
    assert torch.equal(found.permute(0, 3, 1, 2), tensors.recolour(batch.to(memory_format=torch.channels_last), mixed))
    floats = (batch / 255).requires_grad_()
    held = floats.detach().clone()
    tensors.recolour(floats, mixed)
    assert torch.equal(floats, held)


def test_no_change_is_a_copy(batch):
    found = tensors.recolour(batch, NoChange("one-stain", "one"))
    assert torch.equal(found, batch)
    found[:] = 0
    assert batch.any()


def test_half_precision_is_computed_in_float32(batch):
    change = CHANGES["reinhard", "keep", 0]
    for dtype, step in ((torch.float16, 2.0**-10), (torch.bfloat16, 2.0**-7)):
        half = (batch / 255).to(dtype)
        found = tensors.recolour(half, change)
        assert found.dtype == dtype
        assert torch.equal(found, tensors.recolour(half.float(), change).to(dtype))
        assert (found.float() - half.float()).abs().max() > step
        assert tensors.optical_density(half, 240).dtype == torch.float32


def test_nothing_waits_for_the_device_without_check(batch, mixed):
    # Tensors on "meta" have no values: whatever looked at one would raise.
    floats = (batch / 255).to("meta")
    assert tensors.recolour(floats, mixed, check=False).shape == batch.shape
    assert tensors.recolour(batch.to("meta"), mixed).dtype == torch.uint8
    assert tensors.optical_density(floats, 240, check=False).shape == batch.shape


def test_inference_mode(batch, mixed):
    with torch.inference_mode():
        found = tensors.recolour(batch, mixed)
    assert torch.equal(found, tensors.recolour(batch, mixed))


def small(seed: int = 0) -> "torch.Tensor":
    random = torch.Generator().manual_seed(seed)
    return (0.2 + 0.7 * torch.rand(2, 3, 3, 2, generator=random, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_gradients_are_finite_differences(kind):
    assert torch.autograd.gradcheck(lambda x: tensors.recolour(x, CHANGES[kind]), small())


@pytest.mark.parametrize("method", ["macenko", "vahadane"])
def test_gradients_of_separation_are_finite_differences(method):
    model = fit_stains(TILES, method)
    assert torch.autograd.gradcheck(lambda x: tensors.separate(x, model), small())
    assert torch.autograd.gradcheck(lambda x: tensors.optical_density(x, 240, 1), small())


def test_gradients_are_finite_at_the_ends(mixed):
    ends = torch.tensor([0.0, 1 / 255, 1.0]).repeat(6, 3, 1, 1).requires_grad_()
    total = tensors.recolour(ends, mixed).sum()
    total.backward()
    assert torch.isfinite(ends.grad).all()
    assert not tensors.recolour(as_batch(TILES[0]), JITTER).requires_grad


def test_overflow_on_glass_stays_glass():
    steep = DensityChange(np.full(3, 230.0), np.full(3, 230.0), np.eye(3) * 1e6)
    glass = torch.full((1, 3, 4, 4), 240, dtype=torch.uint8)
    assert torch.equal(tensors.recolour(glass, steep), glass)


@pytest.mark.parametrize("offset", [0, 1])
def test_density_is_that_of_numpy(batch, offset):
    white = np.array([240.0, 250.0, 230.0])
    found = tensors.optical_density(batch, white, offset)
    np.testing.assert_allclose(as_tile(found), numpy_density(TILES[0], white, offset), atol=2e-6)
    last = batch.permute(0, 2, 3, 1)
    assert torch.equal(found, tensors.optical_density(last, white, offset, layout="NHWC"))


@pytest.mark.parametrize("method", ["macenko", "vahadane", "fixed", "H&E-DAB"])
def test_amounts_are_those_of_numpy(batch, method):
    options = {"method": "fixed", "stains": method} if method == "H&E-DAB" else {"method": method}
    model = fit_stains(TILES, offset=1, **options)
    found = tensors.separate(batch, model)
    assert found.shape == batch.shape
    for i in (0, 5):
        np.testing.assert_allclose(as_tile(found, i), numpy_separate(TILES[i], model), atol=5e-5)
    assert torch.equal(tensors.separate(batch[2:3], model)[0], found[2])


def test_blocks_are_single_tiles_on_a_cpu_and_bounded_elsewhere():
    tiles = torch.empty(50, 3, 224, 224, device="meta")
    assert [len(block) for block in pixels.blocks(range(50), tiles)] == [20, 20, 10]
    assert [len(block) for block in pixels.blocks(range(2), torch.empty(2, 3, 2048, 2048, device="meta"))] == [1, 1]
    assert list(pixels.blocks([4, 7], torch.empty(9, 3, 2, 2))) == [[4], [7]]


def test_an_empty_batch_stays_empty():
    empty = torch.zeros((0, 3, 5, 5), dtype=torch.uint8)
    assert tensors.recolour(empty, []).shape == empty.shape
    assert tensors.optical_density(empty, 240).shape == empty.shape


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        (np.zeros((1, 3, 2, 2), np.uint8), {}, r"a batch is a torch tensor.*ndarray.*torch\.from_numpy"),
        ([torch.zeros(3, 2, 2)], {}, r"list.*torch\.stack"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.int16), {}, "type of a batch.*int16.*uint8.*convert levels"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.bool), {}, "type of a batch.*bool"),
        (torch.zeros(3, 2, 2), {}, r"RGB.*\(3, 2, 2\).*tile\[None\]"),
        (torch.zeros(1, 1, 2, 2), {}, "grey tile holds none"),
        (torch.zeros(1, 4, 2, 2), {}, "alpha"),
        (torch.zeros(1, 5, 5, 3), {}, 'layout="NHWC"'),
        (torch.zeros(1, 3, 5, 5), {"layout": "NHWC"}, 'layout="NCHW"'),
        (torch.zeros(1, 3, 0, 5), {}, "at least one pixel"),
        (torch.full((1, 3, 2, 2), 1.5), {}, "0 to 1.*1.5.*divide levels by 255"),
        (torch.full((1, 3, 2, 2), -0.5), {}, "0 to 1.*-0.5"),
        (torch.full((1, 3, 2, 2), float("nan")), {}, "not finite.*12 of them"),
        (torch.full((1, 3, 2, 2), float("inf"), dtype=torch.float16), {}, "not finite"),
    ],
)
def test_batches_that_cannot_be_used(batch, options, message):
    with pytest.raises(InputError, match=message):
        pixels.read_batch(batch, **options)


def test_options_that_are_wrong(batch):
    with pytest.raises(OptionError, match=r"layout.*NWCH.*NCHW, NHWC"):
        tensors.recolour(batch, JITTER, layout="NWCH")
    with pytest.raises(InputError, match=r"one change for all tiles.*5 changes for 6 tiles"):
        tensors.recolour(batch, [JITTER] * 5)
    for wrong in ("macenko", [JITTER, "macenko"], None):
        with pytest.raises(OptionError, match=r"no change of colour.*(str|None).*DensityChange.*colour_change"):
            _one_each(wrong, 2)
    with pytest.raises(OptionError, match="white"):
        tensors.optical_density(batch, 0.9)
    with pytest.raises(OptionError, match="offset"):
        tensors.optical_density(batch, 240, 2)


def test_values_are_not_looked_at_without_check():
    wrong = torch.full((1, 3, 2, 2), 1.5)
    assert tensors.recolour(wrong, JITTER, check=False).max() <= 1


def test_the_numpy_path_does_without_torch():
    code = "import sys, histolatent.stain, histolatent.stain.augment; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
