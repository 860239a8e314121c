"""Networks to train, by name. Imports torch."""

from dataclasses import replace

import torch

from ..encoders.card import EncoderCard, Preprocessing
from ..encoders.conv_small import STRIDE, WIDTHS, ConvSmall, embed_conv_small
from ..encoders.torch_models import TorchEncoder, weights_digest
from .training import Backbone

#: Scaling of the pixels of a network that is trained from scratch.
HALF = (0.5, 0.5, 0.5)


def make_backbone(name: str, tile_px: int, seed: int) -> Backbone:
    """Return an encoder with seeded weights, its card still to be completed.

    `conv-small`, or `timm:NAME` from scratch. torch's global random state is neither used nor changed. A timm network
    takes tiles of one size, `tile_px`, and larger ones squashed to it.

    Raises
    ------
    OptionError
        If timm has no such network.
    """
    if name == "conv-small":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = ConvSmall()
        card = EncoderCard(
            name=name,
            kind="folder",
            source=name,
            dim=model.dim,
            preprocessing=Preprocessing(mean=HALF, std=HALF),
            pooling="mean",
            revision=f"seed {seed}",
            licence="that of the tiles",
            domain="pathology",
        )
        recipe = {"builder": "conv-small", "widths": list(WIDTHS)}
        encoder = TorchEncoder(card, model, embed_conv_small, "cpu", recipe)
        return Backbone(encoder, embed_conv_small, model.dim, STRIDE)
    return _timm(name.removeprefix("timm:"), tile_px, seed)


def _timm(name: str, tile_px: int, seed: int) -> Backbone:
    from ..encoders import encoder
    from ..encoders.torch_models import Stages

    loaded = encoder(f"timm-random:{name}?seed={seed}&img_size={tile_px}", device="cpu")
    assert isinstance(loaded, TorchEncoder) and isinstance(loaded.embed, Stages)  # what that scheme returns
    # Tiles are trained on as they are, so they are embedded as they are: no zoom before the centre is cut out.
    card = resizing(loaded, tile_px).card
    model = loaded.model.requires_grad_(True)
    with torch.inference_mode():
        grid = loaded.embed.grid(model, loaded.embed.features(model, torch.zeros(1, 3, tile_px, tile_px)))
    trained = TorchEncoder(card, model, loaded.embed, "cpu", loaded.recipe)
    return Backbone(trained, loaded.embed, grid.shape[1], tile_px // grid.shape[2])


def pooled(encoder: TorchEncoder, pooling: str, channels: int) -> TorchEncoder:
    """Return the encoder with another pooling of its map of features, which has so many channels."""
    if pooling == "own":
        return encoder
    card = encoder.card.model_copy(update={"pooling": pooling, "dim": 2 * channels})
    return replace(encoder, card=card)


def resizing(encoder: TorchEncoder, px: int) -> TorchEncoder:
    """Return the encoder with a rule that brings tiles of any size to `px` first; 0: it takes them as they are."""
    if not px:
        return encoder
    rule = encoder.card.preprocessing
    sized = Preprocessing(resize="squash", input_px=px, mean=rule.mean, std=rule.std)
    return replace(encoder, card=encoder.card.model_copy(update={"preprocessing": sized}))


def finished(encoder: TorchEncoder, *, name: str, source: str, notes: str) -> TorchEncoder:
    """Return the encoder of a trained network, in evaluation mode, with a card of its own."""
    model = encoder.model.cpu().eval().requires_grad_(False)  # where the card says that it is
    digest = weights_digest(model)
    card = encoder.card.model_copy(
        update={
            "name": name,
            "kind": "folder",
            "source": source,
            "weights_sha256": digest,
            "revision": f"sha256:{digest[:16]}",
            "random_weights": False,
            "licence": "that of the tiles",
            "domain": "pathology",
            "notes": notes,
        }
    )
    return TorchEncoder(card, model, encoder.embed, encoder.device, encoder.recipe)
