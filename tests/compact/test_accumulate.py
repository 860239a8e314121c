"""Micro-batches: the gradients of one large batch, the same random numbers twice, messages."""

import math
from collections.abc import Callable, Mapping
from contextlib import contextmanager

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from histolatent.compact.accumulate import accumulated  # noqa: E402
from histolatent.compact.losses import LOSSES, barlow, ratio  # noqa: E402
from histolatent.compact.reversal import reverse  # noqa: E402
from histolatent.errors import InputError  # noqa: E402

all_losses = pytest.mark.parametrize("name", list(LOSSES))
SIZES = [4, 1, 3, 4]


class Model(torch.nn.Module):
    """An encoder with dropout, and two things that are learned from its projections beside the loss."""

    def __init__(self, dropout: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(3)
        layers = [torch.nn.Linear(6, 16), torch.nn.Dropout(dropout), torch.nn.GELU(), torch.nn.Linear(16, 5)]
        self.encoder = torch.nn.Sequential(*layers).to(dtype)
        self.decoder, self.discriminator = torch.nn.Linear(5, 6).to(dtype), torch.nn.Linear(5, 1).to(dtype)
        self.calls = 0

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        self.calls += 1
        z = self.encoder(batch)
        rebuilt = (self.decoder(z) - batch.mean(0)).square().mean()
        read = (self.discriminator(reverse(z, 0.7)) - batch[..., :1]).square().mean()
        return z, {"reconstruction": 0.5 * rebuilt, "adversary": read}

    def gradients(self) -> torch.Tensor:
        return torch.cat([parameter.grad.flatten() for parameter in self.parameters()])


def views(n: int = 12) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(n, 6)) + 0.4 * rng.normal(size=(3, n, 6)))


def in_one_graph(model: Model, batches, loss: Callable) -> tuple[float, dict[str, float]]:
    """Do without two passes what `accumulated` is to do: the graphs of all micro-batches are held at once."""
    runs = [model(batch) for batch in batches]
    z = torch.cat([run[0] for run in runs], dim=1)
    shares = [run[0].shape[1] / z.shape[1] for run in runs]
    side = {name: sum(w * run[1][name] for w, run in zip(shares, runs, strict=True)) for name in runs[0][1]}
    value = loss(z)
    (value + sum(side.values())).backward()
    return value.item(), {name: term.item() for name, term in side.items()}


@all_losses
@pytest.mark.parametrize("sizes", [SIZES, [6, 6], [12]], ids=str)
def test_micro_batches_give_the_gradients_of_one_batch(name, sizes):
    one, parts = Model(dropout=0.0), Model(dropout=0.0)
    value, side = in_one_graph(one, [views()], LOSSES[name])
    done = accumulated(parts, views().split(sizes, dim=1), LOSSES[name])
    assert done.loss == pytest.approx(value, rel=1e-12)
    assert done.side == pytest.approx(side, rel=1e-12)
    assert done.total == pytest.approx(value + sum(side.values()), rel=1e-12)
    torch.testing.assert_close(parts.gradients(), one.gradients(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(done.z, one.encoder(views()).detach())
    assert not done.z.requires_grad


@all_losses
def test_both_passes_draw_the_same_dropout(name):
    one, parts = Model(dropout=0.4), Model(dropout=0.4)
    batches = views().split(SIZES, dim=1)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return torch.rand(()) * LOSSES[name](z)  # it may draw, too

    torch.manual_seed(11)
    value, side = in_one_graph(one, batches, loss)
    after = torch.rand(3)
    torch.manual_seed(11)
    done = accumulated(parts, batches, loss)
    assert torch.equal(torch.rand(3), after)  # the generator stands where one pass leaves it
    assert done.loss == pytest.approx(value, rel=1e-12)
    assert done.side == pytest.approx(side, rel=1e-12)
    torch.testing.assert_close(parts.gradients(), one.gradients(), rtol=1e-9, atol=1e-12)


@all_losses
def test_single_precision_agrees_to_a_millionth(name):
    one, parts = Model(0.0, torch.float32), Model(0.0, torch.float32)
    in_one_graph(one, [views().float()], LOSSES[name])
    accumulated(parts, views().float().split(SIZES, dim=1), LOSSES[name])
    largest = float(one.gradients().abs().max())
    assert float((parts.gradients() - one.gradients()).abs().max()) < 1e-6 * max(largest, 1)


def test_adding_up_losses_of_micro_batches_is_something_else():
    one, parts = Model(dropout=0.0), Model(dropout=0.0)
    in_one_graph(one, [views()], barlow)
    for batch in views().split(6, dim=1):
        z, side = parts(batch)
        (0.5 * (barlow(z) + sum(side.values()))).backward()
    assert not torch.allclose(parts.gradients(), one.gradients(), rtol=0.01)


def test_gradients_add_to_those_that_are_there():
    model = Model(dropout=0.0)
    accumulated(model, views().split(6, dim=1), barlow)
    once = model.gradients().clone()
    accumulated(model, views().split(6, dim=1), barlow)
    torch.testing.assert_close(model.gradients(), 2 * once)


def test_how_often_forward_runs():
    model = Model(dropout=0.1)
    accumulated(model, [views()], barlow)
    assert model.calls == 1
    accumulated(model, views().split(SIZES, dim=1), barlow)
    assert model.calls == 1 + 2 * len(SIZES)


def test_side_losses_may_be_left_out_of_the_first_pass():
    one, parts = Model(dropout=0.3), Model(dropout=0.3)
    batches = views().split(SIZES, dim=1)

    def spared(batch: torch.Tensor):
        return parts(batch) if torch.is_grad_enabled() else (parts.encoder(batch), {})

    torch.manual_seed(2)
    value, side = in_one_graph(one, batches, barlow)
    torch.manual_seed(2)
    done = accumulated(spared, batches, barlow)
    assert done.loss == pytest.approx(value, rel=1e-12) and done.side == pytest.approx(side, rel=1e-12)
    torch.testing.assert_close(parts.gradients(), one.gradients(), rtol=1e-9, atol=1e-12)


def test_no_side_losses():
    one, parts = Model(dropout=0.0), Model(dropout=0.0)
    barlow(one.encoder(views())).backward()
    done = accumulated(lambda batch: (parts.encoder(batch), {}), views().split(5, dim=1), barlow)
    assert done.side == {} and done.total == done.loss
    for found, wanted in zip(parts.encoder.parameters(), one.encoder.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)
    assert repr(done) == f"Accumulated(loss={done.loss!r}, side={{}})"


@pytest.mark.parametrize("cached", [True, False])
def test_under_autocast_every_weight_gets_its_gradient(cached):
    one, parts = Model(0.0, torch.float32), Model(0.0, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cached):
        in_one_graph(one, [views().float()], barlow)
        done = accumulated(parts, views().float().split(SIZES, dim=1), barlow)
    assert done.z.dtype == torch.bfloat16
    apart = (parts.gradients() - one.gradients()).norm() / one.gradients().norm()
    assert float(apart) < 0.02  # sums in bfloat16, in another order


def test_small_gradients_in_float16_survive_until_they_are_scaled():
    weights = torch.full((6, 5), 0.1, dtype=torch.float16, requires_grad=True)
    scale = 2.0**16
    accumulated(
        lambda batch: (batch @ weights, {}),
        views().half().split(6, dim=1),
        lambda z: 1e-9 * z.float().sum(),  # a gradient of 1e-9 is 0 in float16
        backward=lambda value: (scale * value).backward(),
    )
    wanted = 1e-9 * views().sum(dim=(0, 1))[:, None].expand(6, 5)
    torch.testing.assert_close(weights.grad.double() / scale, wanted, rtol=0.05, atol=1e-11)


def test_synchronisation_is_left_to_the_last_micro_batch():
    model, told = Model(dropout=0.0), []

    @contextmanager
    def no_sync():
        told.append("in")
        yield
        told.append("out")

    def backward(value: torch.Tensor) -> None:
        told.append("backward")
        value.backward()

    accumulated(model, views().split(4, dim=1), barlow, backward=backward, no_sync=no_sync)
    assert told == ["in", "backward", "out", "in", "backward", "out", "backward"]
    told.clear()
    accumulated(model, [views()], barlow, backward=backward, no_sync=no_sync)
    assert told == ["backward"]


def test_what_is_not_finite_comes_through():
    model, bad = Model(dropout=0.0), views()
    bad[0, 3, 1] = math.nan
    assert math.isnan(accumulated(model, bad.split(4, dim=1), barlow).loss)
    assert model.gradients().isnan().any()


def test_random_numbers_that_torch_does_not_draw_are_noticed():
    rng = np.random.default_rng(0)
    model = Model(dropout=0.0)

    def forward(batch: torch.Tensor):
        return model.encoder(batch + 0.3 * torch.from_numpy(rng.normal(size=batch.shape))), {}

    state = torch.get_rng_state()
    with pytest.raises(InputError, match=r"other projections the second time. Received: micro-batch 0: \d+% of"):
        accumulated(forward, views().split(4, dim=1), barlow)
    assert torch.equal(torch.get_rng_state(), state)
    accumulated(forward, [views()], barlow)  # run once: there is nothing to repeat


def test_messages():
    x = torch.ones(6, 5, dtype=torch.float64, requires_grad=True)
    two = views().split(6, dim=1)
    with pytest.raises(InputError, match="there is no micro-batch"):
        accumulated(lambda batch: (batch @ x, {}), [], ratio)
    for batches in (two, two[:1]):
        with pytest.raises(
            InputError, match=r"returns projections and side losses. Received: Tensor. Fix: return z, {}"
        ):
            accumulated(lambda batch: (batch @ x)[:2], batches, ratio)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InputError, match=r"do not fit together. Received: \(6, 5\). Valid: \(v, m, d\)"):
            accumulated(lambda batch: (batch[0] @ x, {}), batches, ratio)
        with pytest.raises(InputError, match=r"the side loss 'rebuilt' is no scalar. Received: \(3,\).*Fix: .mean"):
            accumulated(lambda batch: (batch @ x, {"rebuilt": x[0, :3]}), batches, ratio)
    with pytest.raises(InputError, match=r"do not fit together. Received: \(3, 6, 5\); \(2, 6, 5\)"):
        accumulated(lambda batch: (batch @ x, {}), [two[0], two[1][:2]], ratio)
    with pytest.raises(InputError, match=r"side losses differ between micro-batches. Received: none after kept"):
        accumulated(lambda batch: (batch @ x, {"kept": x.sum()} if batch is two[0] else {}), two, ratio)


@pytest.mark.gpu
def test_dropout_on_the_device_is_repeated():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    one, parts = Model(dropout=0.4).cuda(), Model(dropout=0.4).cuda()
    batches = views().cuda().split(SIZES, dim=1)
    torch.manual_seed(11)
    value, _ = in_one_graph(one, batches, barlow)
    after = torch.rand(3, device="cuda")
    torch.manual_seed(11)
    assert accumulated(parts, batches, barlow).loss == pytest.approx(value, rel=1e-9)
    assert torch.equal(torch.rand(3, device="cuda"), after)
    torch.testing.assert_close(parts.gradients(), one.gradients(), rtol=1e-7, atol=1e-10)
