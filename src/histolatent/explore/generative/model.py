"""A trained generative model: its encoder, its decoder, and the folder that both are kept in. Imports torch."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..._types import Tiles, Vectors
from ...encoders import Encoder, Preprocessing, encode, encoder, save_encoder
from ...encoders.batches import prepare_many
from ...encoders.torch_models import choose_device
from ...encoders.weight_files import plain_errors, read_weights
from ...errors import EncoderError, InputError
from ...outputs import Mark, whole
from ...provenance import canonical_json
from .networks import TileDecoder
from .plan import KINDS, Kind

FORMAT, VERSION = "histolatent-generative", 1
CARD, WEIGHTS, ENCODER = "generative.json", "decoder.safetensors", "encoder"
MARK = Mark(CARD, FORMAT, "format")
BATCH = 64
HALF = (0.5, 0.5, 0.5)


def sized(tile_px: int) -> Preprocessing:
    """Return the rule that brings a tile to the size that a model decodes."""
    return Preprocessing(resize="squash", input_px=tile_px, mean=HALF, std=HALF)


@dataclass(frozen=True, eq=False)
class GenerativeModel:
    """Tiles to vectors and back. `card` is what `generative.json` holds: plan, source, curves, figures.

    Of kind `decoder`, `base` is the frozen encoder whose vectors are decoded; else it is the model's own.
    """

    kind: Kind
    base: Encoder
    network: TileDecoder
    card: Mapping[str, Any]
    device: str = "cpu"

    def __repr__(self) -> str:
        return f"GenerativeModel({self.kind}, {self.base.card.name}, {self.dim} numbers, {self.tile_px} px)"

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.base.card.dim

    @property
    def encoder(self) -> str:
        """Identity of the encoder whose vectors these are."""
        return self.base.card.identity

    @property
    def tile_px(self) -> int:
        """Side of the tiles that are decoded."""
        return int(self.card["plan"]["tile_px"])

    def prepared(self, tiles: Sequence[np.ndarray]) -> Tiles:
        """Return raw tiles at the size that is decoded, to be compared with what comes back."""
        return np.stack(prepare_many(tiles, sized(self.tile_px)))

    def encode(self, tiles: Iterable[np.ndarray]) -> Vectors:
        """Return the vectors of raw tiles of any sizes; of a variational model the mean, never a sample."""
        return encode(self.base, tiles)

    def images(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return tiles `(n, 3, px, px)` from 0 to 1, with gradients."""
        return self.network(vectors).clamp(0, 1)

    def decode(self, vectors: Vectors) -> Tiles:
        """Return uint8 RGB tiles of vectors `(n, d)`.

        Raises
        ------
        InputError
            If vectors are of another length, or not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise InputError("vectors are of another space", received=vectors.shape, valid=f"(n, {self.dim})")
        if not np.isfinite(vectors).all():
            raise InputError("vectors hold NaN or infinite numbers")
        found = [np.empty((0, self.tile_px, self.tile_px, 3), np.uint8)]
        with torch.inference_mode():
            for start in range(0, len(vectors), BATCH):
                part = torch.from_numpy(np.ascontiguousarray(vectors[start : start + BATCH])).to(self.device)
                levels = self.network(part).mul(255).round().clamp(0, 255).to(torch.uint8)
                found.append(levels.permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(found)


def save_model(
    model: GenerativeModel,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    beside: Callable[[Path], object] | None = None,
) -> Path:
    """Write a model to a folder that `read_model` reads, weights in safetensors.

    The encoder of `ae` and `vae` lies in `encoder/`, to be used anywhere: `--encoder FOLDER/encoder`. That of `decoder`
    is named by the string that loads it. `beside` is called with the folder before it is put in its place.

    Raises
    ------
    OutputError
        If the folder exists and not `overwrite`, or is not of a model; or the disk is full.
    """
    from safetensors.torch import save_file

    target = Path(folder)
    with whole(target, overwrite=overwrite, mark=MARK) as part:
        part.mkdir(parents=True)
        if model.kind != "decoder":
            save_encoder(model.base, part / ENCODER)
        tensors = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.network.state_dict().items()
        }
        save_file(tensors, part / WEIGHTS)
        if beside:
            beside(part)
        document = {"format": FORMAT, "version": VERSION, "kind": model.kind, **model.card}
        (part / CARD).write_text(canonical_json(document) + "\n", encoding="utf-8")
    return target


def read_model(folder: str | os.PathLike[str], *, device: str | None = None) -> GenerativeModel:
    """Read a model that `save_model` wrote.

    Raises
    ------
    EncoderError
        If it is no such folder, of a later version, or the encoder that a decoder was trained on is another one now.
    """
    place, chosen = Path(folder), choose_device(device)
    try:
        card = json.loads((place / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            "this is no generative model", received=f"{place}: {error}", valid="a folder of `explore train`"
        ) from None
    if card.get("format") != FORMAT or card.get("version") != VERSION or card.get("kind") not in KINDS:
        raise EncoderError(
            "this is no generative model that can be read",
            received=f"{card.get('format')}, version {card.get('version')}",
            valid=f"{FORMAT}, version {VERSION}",
        )
    base = encoder(str(place / ENCODER) if card["kind"] != "decoder" else card["on"], device=device)
    if card["kind"] == "decoder" and base.card.identity != card["encoder"]:
        raise EncoderError(
            "the encoder that the decoder was trained on gives other vectors now",
            received=f"{card['on']} with identity {base.card.identity[:12]}",
            valid=card["encoder"][:12],
            fix="pin its revision, or train the decoder anew",
        )
    plan = card["plan"]
    network = TileDecoder(plan["tile_px"], base.card.dim, tuple(plan["mending"]), plan["blocks"])
    with plain_errors(place / WEIGHTS):
        network.load_state_dict(read_weights(place / WEIGHTS), strict=True)
    network = network.eval().requires_grad_(False).to(chosen)
    facts = {key: value for key, value in card.items() if key not in ("format", "version")}
    return GenerativeModel(card["kind"], base, network, facts, chosen)
