"""The network of our own: which of its channels know how bright a tile is."""

import torch

from histolatent.encoders.conv_small import ConvSmall


def test_half_of_the_first_channels_know_neither_brightness_nor_contrast():
    torch.manual_seed(0)
    norm = ConvSmall().eval().stem[1]
    features = torch.randn(2, 16, 32, 32)
    gap = (norm(features) - norm(0.5 * features + 0.2)).abs()
    assert gap[:, :8].max() < 1e-3 < gap[:, 8:].max()
    alone = norm(features[:1])
    torch.testing.assert_close(alone, norm(features)[:1])
