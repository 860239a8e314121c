"""The losses of compaction: references, limits, what changes nothing, gradients, messages."""

import math
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from histolatent.compact.losses import LOSSES, barlow, infonce, loss, ratio, vicreg  # noqa: E402
from histolatent.errors import InputError, OptionError  # noqa: E402

NAMES = ["barlow", "infonce", "vicreg", "ratio"]
all_losses = pytest.mark.parametrize("name", NAMES)


def draw(v: int = 3, n: int = 7, d: int = 4, noise: float = 0.5, seed: int = 0) -> torch.Tensor:
    """Return views that share their tile, in float64, off centre and of unequal scale."""
    rng = np.random.default_rng(seed)
    tiles = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    return torch.from_numpy(tiles + noise * rng.normal(size=(v, n, d)))


def number(value: torch.Tensor) -> float:
    assert value.ndim == 0
    return value.item()


def barlow_reference(one: np.ndarray, other: np.ndarray, weight: float) -> float:
    one, other = ((x - x.mean(0)) / x.std(0) for x in (one, other))
    c = one.T @ other / len(one)
    square = c**2
    return ((1 - np.diag(c)) ** 2).sum() + weight * (square.sum() - np.trace(square))


@pytest.mark.parametrize("weight", [0.0, 0.0051, 1.0])
def test_barlow_is_the_mean_over_pairs_of_the_published_loss(weight):
    a, b, c = (x.numpy() for x in draw())
    pairs = [barlow_reference(*pair, weight) for pair in ((a, b), (a, c), (b, c))]
    assert number(barlow(draw(), off_diagonal=weight)) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert number(barlow(draw()[:2], off_diagonal=weight)) == pytest.approx(pairs[0], rel=1e-12)


def infonce_reference(z: np.ndarray, temperature: float, groups: list[int]) -> float:
    v, n, _ = z.shape
    x = [(groups[i], z[k, i] / np.linalg.norm(z[k, i])) for k in range(v) for i in range(n)]
    costs = []
    for a, (group, anchor) in enumerate(x):
        others = [(g == group, math.exp(anchor @ y / temperature)) for b, (g, y) in enumerate(x) if b != a]
        whole = sum(e for _, e in others)
        costs.append(np.mean([-math.log(e / whole) for positive, e in others if positive]))
    return float(np.mean(costs))


@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_infonce_is_the_naive_double_loop(v, temperature):
    z = draw(v)
    wanted = infonce_reference(z.numpy(), temperature, list(range(7)))
    assert number(infonce(z, temperature=temperature)) == pytest.approx(wanted, rel=1e-10)
    groups = [5, 5, -1, 3, 3, 3, 0]
    wanted = infonce_reference(z.numpy(), temperature, groups)
    found = infonce(z, temperature=temperature, positives=torch.tensor(groups))
    assert number(found) == pytest.approx(wanted, rel=1e-10)


def vicreg_reference(a: np.ndarray, b: np.ndarray) -> float:
    def covariance(x: np.ndarray) -> float:
        square = np.cov(x.T) ** 2
        return (square.sum() - np.trace(square)) / x.shape[1]

    def variance(x: np.ndarray) -> float:
        return np.maximum(0, 1 - np.sqrt(x.var(0, ddof=1) + 1e-4)).mean()

    return 25 * ((a - b) ** 2).mean() + 25 * (variance(a) + variance(b)) + covariance(a) + covariance(b)


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_vicreg_of_two_views_is_the_published_loss(scale):
    z = scale * draw(2, n=30)
    assert number(vicreg(z)) == pytest.approx(vicreg_reference(*z.numpy()), rel=1e-12)


def test_vicreg_terms_of_more_views_are_means_over_pairs():
    z = 0.4 * draw(4)
    pairs = [(a, b) for a in range(4) for b in range(a)]
    for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        options = dict(zip(("invariance", "variance", "covariance"), weights, strict=True))
        wanted = np.mean([number(vicreg(z[[a, b]], **options)) for a, b in pairs])
        assert wanted > 0
        assert number(vicreg(z, **options)) == pytest.approx(wanted, rel=1e-12)


def test_ratio_is_that_of_scatter_matrices():
    z = draw(3)
    x = z.numpy()
    away = (x - x.mean(0)).reshape(-1, 4)
    around = (x - x.mean((0, 1))).reshape(-1, 4)
    wanted = 3 / 2 * np.trace(away.T @ away) / np.trace(around.T @ around)
    assert number(ratio(z)) == pytest.approx(wanted, rel=1e-12)


def hadamard(n: int) -> torch.Tensor:
    """Return orthogonal columns of plus and minus one; all but the first have mean 0."""
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < n:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h


def test_barlow_limits():
    tiles = hadamard(8)[:, 1:]
    assert number(barlow(torch.stack([tiles, tiles, tiles]))) == 0
    # Every dimension a copy of one: all correlations are 1.
    same = torch.stack([tiles[:, :1].expand(8, 5)] * 2)
    assert number(barlow(same, off_diagonal=0)) == 0
    assert number(barlow(same, off_diagonal=0.5)) == pytest.approx(0.5 * 20)
    # Views of opposite sign: all correlations are -1.
    assert number(barlow(torch.stack([tiles, -tiles]))) == pytest.approx(4 * 7)


def test_infonce_limits():
    tiles = torch.eye(6, dtype=torch.float64)
    aligned = torch.stack([3 * tiles, tiles])
    for temperature in (0.1, 0.5, 2.0):
        wanted = math.log(1 + 10 * math.exp(-1 / temperature))  # one positive at cosine 1, ten at 0
        assert number(infonce(aligned, temperature=temperature)) == pytest.approx(wanted, rel=1e-9)
    assert number(infonce(aligned.float(), temperature=1e-3)) == 0
    swapped = torch.stack([tiles, tiles.roll(1, 0)])
    assert number(infonce(swapped.float(), temperature=1e-3)) == pytest.approx(1000)
    assert number(infonce(torch.ones(2, 6, 3))) == pytest.approx(math.log(11))
    together = infonce(draw(2, 6), positives=torch.zeros(6, dtype=torch.int64))
    assert number(together) >= math.log(11)


def test_vicreg_limits():
    tiles = hadamard(8)[:, 1:]
    assert number(vicreg(torch.stack([tiles, tiles]))) == 0
    assert number(vicreg(torch.zeros(2, 8, 5))) == pytest.approx(25 * 2 * (1 - 0.01), rel=1e-6)
    assert number(vicreg(torch.stack([tiles, -tiles]), invariance=1.0)) == pytest.approx(4)


def test_ratio_limits():
    tiles = draw(1)
    assert 0 <= number(ratio(tiles.expand(3, -1, -1))) < 1e-30
    assert number(ratio(torch.stack([tiles[0], 2 * tiles[0].mean(0) - tiles[0]]))) == pytest.approx(2)
    noise = torch.from_numpy(np.random.default_rng(3).normal(size=(3, 2000, 16)))
    assert number(ratio(noise)) == pytest.approx(1, abs=0.01)


@all_losses
def test_order_of_tiles_and_of_views_does_not_matter(name):
    z = draw()
    wanted = number(loss(name)(z))
    assert number(loss(name)(z[:, [3, 1, 0, 6, 5, 2, 4]])) == pytest.approx(wanted, rel=1e-12)
    assert number(loss(name)(z[[2, 0, 1]])) == pytest.approx(wanted, rel=1e-12)
    # The same tiles under other views are another batch.
    mixed = torch.stack([z[0], z[1].roll(1, 0), z[2]])
    assert number(loss(name)(mixed)) > wanted


def test_what_is_free_of_scale():
    z, scales = draw(), torch.tensor([1e-6, 1.0, 30.0, 1e6], dtype=torch.float64)
    assert number(barlow(z * scales + 1)) == pytest.approx(number(barlow(z)), rel=1e-9)
    assert number(barlow(-z)) == pytest.approx(number(barlow(z)), rel=1e-12)
    for factor in (1e-6, 1e6):
        assert number(ratio(factor * (z + 2))) == pytest.approx(number(ratio(z)), rel=1e-9)
        assert number(infonce(factor * z)) == pytest.approx(number(infonce(z)), rel=1e-9)
    lengths = torch.arange(1.0, 22.0, dtype=torch.float64).reshape(3, 7, 1)
    assert number(infonce(lengths * z)) == pytest.approx(number(infonce(z)), rel=1e-12)
    assert number(vicreg(2 * z)) != pytest.approx(number(vicreg(z)), rel=0.1)


def test_what_is_free_of_rotation():
    z = draw()
    turn = torch.linalg.qr(torch.from_numpy(np.random.default_rng(5).normal(size=(4, 4)))).Q
    assert number(ratio(z @ turn)) == pytest.approx(number(ratio(z)), rel=1e-12)
    assert number(infonce(z @ turn)) == pytest.approx(number(infonce(z)), rel=1e-12)


def test_numbers_of_groups_are_only_names():
    z = draw()
    alone = infonce(z, positives=torch.tensor([70, -4, 2, 9, 11, 5, 0], dtype=torch.int32))
    assert number(alone) == pytest.approx(number(infonce(z)), rel=1e-12)


@all_losses
@pytest.mark.parametrize("v", [2, 3])
def test_gradients_by_finite_differences(name, v):
    z = (0.4 * draw(v, 5, 3)).requires_grad_()
    assert torch.autograd.gradcheck(loss(name), (z,), eps=1e-6, atol=1e-7, rtol=1e-6)


def test_gradients_with_groups_by_finite_differences():
    groups = torch.tensor([0, 0, 1, 1, 2])
    z = draw(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: infonce(x, positives=groups), (z,), eps=1e-6, atol=1e-7, rtol=1e-6)


@all_losses
def test_a_step_down_the_gradient_lowers_the_loss(name):
    z = draw().float().requires_grad_()
    value = loss(name)(z)
    value.backward()
    with torch.no_grad():
        assert loss(name)(z - 1e-3 * z.grad / z.grad.norm()) < value


@all_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_is_computed_in_float32(name, dtype):
    z = draw(n=64).to(dtype).requires_grad_()
    wanted = number(loss(name)(z.detach().double()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(name)(z)
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16 and torch.is_autocast_enabled("cpu")
    assert found.dtype == torch.float32
    assert number(found) == pytest.approx(wanted, rel=1e-4)
    found.backward()
    assert z.grad.dtype == dtype and z.grad.isfinite().all() and z.grad.any()
    assert loss(name)(z.detach().double()).dtype == torch.float64


@all_losses
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e-12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_dimensions_give_no_nan(name, value, dtype):
    for constant in (slice(0, 1), slice(0, 4)):
        z = draw(n=300).to(dtype)
        z[..., constant] = value
        z.requires_grad_()
        found = loss(name)(z)
        found.backward()
        assert found.isfinite() and z.grad.isfinite().all()
        assert z.grad.abs().max() < 1e3


def test_a_constant_dimension_correlates_with_nothing():
    z = draw(2, 1000).float()
    z[0, :, 1] = 0.1  # in one view only
    z.requires_grad_()
    found = barlow(z)
    others = [0, 2, 3]
    correlations = torch.corrcoef(torch.cat([z[0, :, others], z[1]], dim=1).T)[:3, 3:]
    wanted = 1 + (1 - correlations[[0, 1, 2], others]).square().sum()
    wanted += 0.0051 * (correlations.square().sum() - correlations[[0, 1, 2], others].square().sum())
    assert number(found) == pytest.approx(number(wanted), rel=1e-4)
    found.backward()
    assert not z.grad[0, :, 1].any() and z.grad[0, :, 0].any()
    assert number(barlow(torch.full((2, 9, 5), 0.1))) == 5


def test_a_point_is_not_compact():
    z = torch.full((2, 1000, 3), 0.1, requires_grad=True)
    found = ratio(z)
    found.backward()
    assert number(found) == 1 and not z.grad.any()


def test_a_vector_of_zeros_has_no_direction():
    z = torch.stack([torch.eye(3), torch.eye(3)])
    z[1, 2] = 0
    z.requires_grad_()
    found = infonce(z, temperature=1.0)
    found.backward()
    e = math.e
    costs = 4 * [math.log(e + 4) - 1] + 2 * [math.log(5)]  # anchors with a positive at cosine 1, and those without
    assert number(found) == pytest.approx(np.mean(costs), rel=1e-6)
    assert z.grad.isfinite().all() and not z.grad[1, 2].any()


@all_losses
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_hidden(name, value):
    z = draw()
    z[1, 2, 3] = value
    assert math.isnan(number(loss(name)(z)))


def test_losses_by_name():
    assert list(LOSSES) == NAMES
    assert [loss(name) for name in NAMES] == [barlow, infonce, vicreg, ratio]
    with pytest.raises(OptionError, match=r"no compaction loss is called 'infonse'. Valid: .*did you mean 'infonce'\?"):
        loss("infonse")


@all_losses
def test_what_cannot_be_compared(name):
    with pytest.raises(InputError, match=r"Received: views: 1, tiles: 4, dimensions: 3. Valid: at least 2 views"):
        loss(name)(torch.ones(1, 4, 3))
    with pytest.raises(InputError, match=r"Received: views: 2, tiles: 1, dimensions: 3"):
        loss(name)(torch.ones(2, 1, 3))
    with pytest.raises(InputError, match=r"dimensions: 0"):
        loss(name)(torch.ones(2, 4, 0))
    with pytest.raises(InputError, match=r"Received: torch.float32 \(4, 3\). Valid: \(v, n, d\). Fix: torch.stack"):
        loss(name)(torch.ones(4, 3))
    with pytest.raises(InputError, match=r"Received: torch.int64 \(2, 4, 3\)"):
        loss(name)(torch.ones(2, 4, 3, dtype=torch.int64))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_options_out_of_range(value):
    with pytest.raises(OptionError, match="off_diagonal is a weight"):
        barlow(draw(), off_diagonal=value)
    for name in ("invariance", "variance", "covariance"):
        with pytest.raises(OptionError, match=f"^{name} is a weight. Received: {value}"):
            vicreg(draw(), **{name: value})
    with pytest.raises(OptionError, match="temperature must be positive"):
        infonce(draw(), temperature=value)
    with pytest.raises(OptionError, match="temperature must be positive"):
        infonce(draw(), temperature=0.0)


@pytest.mark.parametrize("positives", [torch.zeros(6, dtype=torch.int64), torch.zeros(7), torch.zeros(7) > 0])
def test_positives_are_one_integer_for_each_tile(positives):
    with pytest.raises(InputError, match=r"positives are one integer for each tile.*Valid: \(7,\)"):
        infonce(draw(), positives=positives)


def test_the_room_does_without_torch():
    code = "import sys, histolatent.compact; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
