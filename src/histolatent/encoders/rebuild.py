"""Torch encoders taken apart for saving, and put together again. Imports nothing heavy until it has to."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EncoderError
from .card import EncoderCard, Precision
from .protocol import Encoder

if TYPE_CHECKING:
    import torch

    from .torch_models import Embed, TorchEncoder


def saved_parts(encoder: Encoder) -> tuple[dict[str, Any], Callable[[Path], None]]:
    """Return the configuration of an encoder and a function that writes its weights.

    Raises
    ------
    EncoderError
        If it has none of its own, or cannot be built again.
    """
    from .mapped import MappedEncoder

    if isinstance(encoder, MappedEncoder):
        return encoder.config(), encoder.save_weights
    recipe = None
    if encoder.card.kind in ("timm", "hf", "folder"):
        from .torch_models import TorchEncoder

        if isinstance(encoder, TorchEncoder):
            recipe = encoder.recipe
    if recipe is None:
        raise EncoderError(
            f"{encoder.card.name} cannot be saved as a folder",
            received=f"an encoder of kind {encoder.card.kind}",
            valid="timm, timm-random and transformers models without remote code, and compactions",
            fix="keep the string that loads it",
        )
    model = encoder.model  # pyright: ignore[reportAttributeAccessIssue]

    def save_weights(path: Path) -> None:
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
        save_file(tensors, path)

    return dict(recipe), save_weights


def rebuild_timm(
    weights: Path, card: EncoderCard, config: dict[str, Any], *, device: str | None, precision: Precision | None
) -> "TorchEncoder":
    """Build a timm encoder from its configuration and weights file."""
    from .timm_models import create, embed_timm

    classes = int(config.get("dropped_classes", 0))
    model = create(config["architecture"], config["kwargs"], config.get("config", {}), num_classes=classes)
    if classes:
        model.reset_classifier(0)  # pyright: ignore[reportCallIssue]
    return filled(weights, card, config, model, embed_timm, device, precision)


def rebuild_transformers(
    weights: Path, card: EncoderCard, config: dict[str, Any], *, device: str | None, precision: Precision | None
) -> "TorchEncoder":
    """Build a transformers encoder from its configuration and weights file."""
    from .hf_models import embed_transformers, empty_model

    model = empty_model(config["class"], config["model"])
    return filled(weights, card, config, model, embed_transformers, device, precision)


def filled(
    path: Path,
    card: EncoderCard,
    config: dict[str, Any],
    model: "torch.nn.Module",
    embed: "Embed",
    device: str | None,
    precision: Precision | None,
) -> "TorchEncoder":
    """Load the weights strictly, and refuse them if they are not those of the card."""
    from .torch_models import TorchEncoder, choose_device, choose_precision, place, weights_digest
    from .weight_files import plain_errors, read_weights

    weights = read_weights(path)
    with plain_errors(path):
        model.load_state_dict(weights, strict=True)
    found = weights_digest(model)
    if found != card.weights_sha256:
        raise EncoderError(
            "the weights are not those of the card: the file was changed",
            received=f"{path} with sha256 {found}",
            valid=card.weights_sha256,
            fix="save the encoder again, or get the folder again",
        )
    target = choose_device(device)
    used = card.model_copy(update={"precision": choose_precision(precision, card.precision, target)})
    recipe = {key: value for key, value in config.items() if key not in ("format", "version", "trusted")}
    return TorchEncoder(used, place(model, target), embed, target, recipe)
