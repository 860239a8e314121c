"""Gradient reversal: the same forward, the opposite backward."""

import math

import pytest

torch = pytest.importorskip("torch")

from histolatent.compact.reversal import reversal_strength, reverse  # noqa: E402
from histolatent.errors import OptionError  # noqa: E402


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 3.0])
def test_forward_is_kept_and_backward_turned(strength):
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64, requires_grad=True)
    y = reverse(x, strength)
    assert torch.equal(y, x)
    (y**3).sum().backward()
    assert torch.equal(x.grad, -strength * 3 * x.detach() ** 2)


def test_the_discriminator_descends_and_the_encoder_climbs():
    torch.manual_seed(0)
    x, wanted = torch.randn(16, 3), torch.randn(16, 1)
    encoder, discriminator = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    both = [*encoder.parameters(), *discriminator.parameters()]

    def gradients(strength: float | None) -> tuple[torch.Tensor, ...]:
        z = encoder(x)
        read = discriminator(z if strength is None else reverse(z, strength))
        return torch.autograd.grad((read - wanted).square().mean(), both)

    for plain, turned, sign in zip(gradients(None), gradients(2.0), (-2, -2, 1, 1), strict=True):
        assert plain.any()
        torch.testing.assert_close(turned, sign * plain)


def test_precision_is_kept():
    x = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    reverse(x, 0.25).sum().backward()
    assert x.grad.dtype == torch.bfloat16 and torch.equal(x.grad, torch.full((3,), -0.25, dtype=torch.bfloat16))


def test_the_schedule():
    assert reversal_strength(0) == 0
    assert reversal_strength(1) == pytest.approx(math.tanh(5))
    assert reversal_strength(0.3) == pytest.approx(math.tanh(1.5))  # the same function, written another way
    strengths = [reversal_strength(step / 10) for step in range(11)]
    assert strengths == sorted(set(strengths))


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan, 100])
def test_progress_is_a_share(progress):
    with pytest.raises(OptionError, match=r"progress is a share of training.*Valid: 0 to 1"):
        reversal_strength(progress)


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf])
def test_a_strength_that_would_reverse_nothing(strength):
    with pytest.raises(OptionError, match="strength of a reversal is not usable"):
        reverse(torch.ones(2), strength)
