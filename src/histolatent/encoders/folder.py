"""An encoder as a folder: card.json, config.json, model.safetensors."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..errors import EncoderError, misfits
from ..outputs import Mark, whole
from ..provenance import stream
from .batches import encode
from .card import EncoderCard, Precision
from .protocol import Encoder

FORMAT, VERSION = "histolatent-encoder", 1
CARD, CONFIG, WEIGHTS = "card.json", "config.json", "model.safetensors"
GOLDEN_COUNT = 8
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 5e-2}

# `builder` of config.json -> module:function(weights, card, config, *, device, precision), which returns the encoder.
# Only what is listed here is ever imported, whatever a folder says.
BUILDERS = {
    "conv-latent": "histolatent.encoders.conv_latent:rebuild_conv_latent",
    "conv-small": "histolatent.encoders.conv_small:rebuild_conv_small",
    "linear-map": "histolatent.encoders.mapped:rebuild_mapped",
    "residual-map": "histolatent.encoders.mapped:rebuild_mapped",
    "timm": "histolatent.encoders.rebuild:rebuild_timm",
    "transformers": "histolatent.encoders.rebuild:rebuild_transformers",
}


def save_encoder(
    encoder: Encoder, folder: str | Path, *, overwrite: bool = False, beside: Callable[[Path], object] | None = None
) -> Path:
    """Write an encoder to a folder that `encoder(folder)` loads back: card, configuration, weights in safetensors.

    The card gets golden numbers, so that `?verify=yes` can tell later, and elsewhere, whether they still come out.
    `beside` is called with the folder before it is put in its place, to write files of its own there.

    Raises
    ------
    EncoderError
        If the encoder has no weights of its own to save (toys, callables, ONNX, vectors), or runs remote code.
    OutputError
        If the folder exists.
    """
    from .rebuild import saved_parts

    config, save_weights = saved_parts(encoder)
    card = encoder.card.model_copy(update={"golden": golden_numbers(encoder)})
    with whole(folder, overwrite=overwrite, mark=Mark(CONFIG, FORMAT, "format")) as part:
        part.mkdir()
        write_card(card, part)
        config = {"format": FORMAT, "version": VERSION, **config}
        (part / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_weights(part / WEIGHTS)
        if beside:
            beside(part)
    return Path(folder)


def load_folder(folder: Path, *, device: str | None, precision: Precision | None, trust_base: bool = False) -> Encoder:
    """Load an encoder that `save_encoder` wrote. The weights are hashed, and refused if they are not those of the card.

    A compaction may lie on an encoder that is a Python function, or a model with code of its own. That code runs only
    with `trust_base`.

    Raises
    ------
    EncoderError
        If a part is missing, unreadable, of a later format, or changed.
    """
    card = read_card(folder)
    config = _read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise EncoderError(
            "the folder is not a histolatent encoder", received=folder, valid=f'"format": "{FORMAT}" in {CONFIG}'
        )
    if config.get("version") != VERSION:
        raise EncoderError(
            "the encoder was written in another format version",
            received=config.get("version"),
            valid=VERSION,
            fix="update histolatent",
        )
    builder = BUILDERS.get(str(config.get("builder")))
    if builder is None:
        raise EncoderError(
            "the encoder is of an unknown make", received=config.get("builder"), valid=", ".join(BUILDERS)
        )
    module, _, function = builder.partition(":")
    build = getattr(importlib.import_module(module), function)
    return build(folder / WEIGHTS, card, {**config, "trusted": trust_base}, device=device, precision=precision)


def verify(encoder: Encoder) -> None:
    """Compute the golden numbers of an encoder again and compare them with its card.

    The largest difference may be 0.001 of the largest golden number in fp32, 0.02 in fp16, 0.05 in bf16: machines and
    libraries round differently, wrong weights or preprocessing are further off.

    Raises
    ------
    EncoderError
        If the card has no golden numbers, or they differ.

    >>> from histolatent.encoders import encoder
    >>> verify(encoder("toy:random-conv"))
    """
    card = encoder.card
    if not card.golden:
        raise EncoderError(
            f"{card.name} has no golden numbers to verify",
            fix="save it with save_encoder where it is known to be right, and load that folder",
        )
    stored, found = np.asarray(card.golden), np.asarray(golden_numbers(encoder))
    if stored.shape != found.shape:
        raise EncoderError(f"{card.name} gives {len(found)} golden numbers", valid=len(stored))
    difference = float(np.abs(stored - found).max() / max(float(np.abs(stored).max()), 1e-12))
    if difference > TOLERANCE[card.precision]:
        raise EncoderError(
            f"{card.name} does not give the numbers of its card: they differ by {difference:.3g} of the largest",
            received=_shown(found),
            valid=f"{_shown(stored)}, to within {TOLERANCE[card.precision]:g} of the largest in {card.precision}",
            fix="its weights, preprocessing or libraries are not those of the card: compare the versions in it",
        )


def golden_numbers(encoder: Encoder) -> tuple[float, ...]:
    """Return the first eight numbers that an encoder gives for a seeded noise tile of its input size."""
    px = encoder.card.preprocessing.input_px or 224
    tile = stream(0, "golden tile").integers(0, 256, (px, px, 3), dtype=np.uint8)
    return tuple(float(number) for number in encode(encoder, [tile])[0, :GOLDEN_COUNT])


def write_card(card: EncoderCard, folder: Path) -> None:
    """Write card.json."""
    text = json.dumps(card.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> EncoderCard:
    """Read card.json.

    Raises
    ------
    EncoderError
        If it is missing or not valid, with every field that is wrong.
    """
    if not folder.is_dir():
        raise EncoderError("there is no such folder", received=folder)
    if not (folder / CARD).exists():
        raise EncoderError(f"the folder has no {CARD}", received=folder, valid="a folder that save_encoder wrote")
    return validated(_read_json(folder / CARD), folder / CARD)


def validated(fields: dict[str, Any], origin: object) -> EncoderCard:
    """Build a card from a dict; say in one message what is wrong with it."""
    try:
        return EncoderCard.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(misfits(error.errors(include_url=False), "card"))
        raise EncoderError("the card is not valid", received=f"{origin}: {wrong}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EncoderError(f"the folder has no {path.name}", received=path.parent) from None
    except ValueError as error:
        raise EncoderError("the file is not JSON", received=f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise EncoderError("the file is not a JSON object", received=path)
    return found


def _shown(numbers: np.ndarray) -> str:
    return "[" + ", ".join(f"{number:.5g}" for number in numbers) + "]"
