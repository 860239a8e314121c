"""Encoders to ONNX: pixels in, vectors out. Imports torch inside its functions."""

import contextlib
import copy
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EncoderError, OptionError, require
from ..outputs import refuse_existing, whole
from ..provenance import stream
from .batches import encode
from .folder import TOLERANCE
from .onnx_models import load_onnx
from .protocol import Encoder

if TYPE_CHECKING:
    import torch

#: Operators of this version are what runtimes of the last years know.
OPSET = 18
#: Side of the tiles that an encoder of any size is traced with, and compared on.
TRACED_PX, COMPARED_PX = 96, (64, 128)
COMPARED_TILES = 5


def export_onnx(encoder: Encoder, path: str | os.PathLike[str], *, overwrite: bool = False) -> float:
    """Write an encoder as `FILE.onnx`, with its card beside it; return by how much its vectors differ.

    The model takes uint8 RGB `(n, h, w, 3)`, as `prepare` brings it to size, and gives float32 `(n, d)`: scaling, mean
    and standard deviation are inside. `encoder("onnx:FILE.onnx")` loads it. Vectors of seeded tiles are computed with
    both; the largest difference, as a share of the largest number, is returned.

    Raises
    ------
    EncoderError
        If the encoder is no torch model, or a map on one; if it cannot be exported; or if the vectors differ by more
        than 0.001: then nothing is written.
    OptionError
        If the file does not end in `.onnx`.
    OutputError
        If it exists, and not `overwrite`.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise OptionError("the file is to end in .onnx", received=target, fix=f"name it {target.name}.onnx")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "export")
    card_path = target.with_name(target.name + ".card.json")
    for place in (target, card_path):
        refuse_existing(place, overwrite=overwrite)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / target.name
        trial_card = trial.with_name(card_path.name)
        _write(_traceable(encoder), encoder, trial)
        fields = encoder.card.model_dump(mode="json", exclude={"kind", "source", "revision", "weights_sha256"})
        fields |= {"golden": None, "settings": {**encoder.card.settings, "layout": "NHWC"}}
        text = json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        trial_card.write_text(text, encoding="utf-8")
        difference = _compare(encoder, load_onnx(trial, device="cpu", precision=None))
        for made, place in ((trial_card, card_path), (trial, target)):
            with whole(place, overwrite=overwrite) as part:
                shutil.copyfile(made, part)
    return difference


def _traceable(encoder: Encoder) -> "torch.nn.Module":
    """Return pixels to vectors as one torch module, on the CPU and in float32."""
    torch = require("torch", "encoders")
    from .mapped import MappedEncoder
    from .maps import LinearMap
    from .torch_models import TorchEncoder, normalise

    maps = []
    while isinstance(encoder, MappedEncoder):
        maps.insert(0, encoder.map)
        encoder = encoder.base
    if not isinstance(encoder, TorchEncoder):
        raise EncoderError(
            f"{encoder.card.name} is no torch model",
            received=f"an encoder of kind {encoder.card.kind}",
            valid="timm and transformers models, encoders in folders, and compactions on them",
        )
    embed, card = encoder.embed, encoder.card

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = copy.deepcopy(encoder.model).cpu().float().eval()

        def forward(self, images: "torch.Tensor") -> "torch.Tensor":
            vectors = embed(self.model, normalise(images.permute(0, 3, 1, 2), card.preprocessing), card.pooling)
            vectors = vectors.float()
            for change in maps:
                parts = {name: torch.from_numpy(values).float() for name, values in vars(change).items()}
                moved = vectors - parts["mean"]
                if isinstance(change, LinearMap):
                    vectors = vectors + (moved @ parts["read"] * (parts["gains"] - 1)) @ parts["write"].T
                else:
                    hidden = torch.relu(moved / parts["sd"] @ parts["inward"] + parts["bias"])
                    vectors = vectors + parts["sd"] * (hidden @ parts["outward"] + parts["shift"])
            return vectors

    return Whole()


def _write(model: "torch.nn.Module", encoder: Encoder, path: Path) -> None:
    import torch

    px = encoder.card.preprocessing.input_px
    tiles = torch.zeros((2, px or TRACED_PX, px or TRACED_PX, 3), dtype=torch.uint8)
    free = {0: torch.export.Dim.DYNAMIC}
    if px is None:
        free |= {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the exporter's own parts
            torch.onnx.export(
                model,
                (tiles,),
                str(path),
                input_names=["tiles"],
                output_names=["vectors"],
                opset_version=OPSET,
                dynamic_shapes=(free,),
                external_data=False,
                dynamo=True,
            )
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise EncoderError(f"{encoder.card.name} cannot be exported", received=text) from error
    finally:
        log.setLevel(level)


def _compare(encoder: Encoder, exported: Encoder) -> float:
    """Return the largest difference of vectors of seeded tiles, as a share of the largest number."""
    rng, px = stream(0, "exported tiles"), encoder.card.preprocessing.input_px
    sides = COMPARED_PX if px is None else (px, 2 * px)
    tiles = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in sides for _ in range(COMPARED_TILES)]
    one, other = encode(encoder, tiles), encode(exported, tiles)
    difference = float(np.abs(one - other).max() / max(float(np.abs(one).max()), 1e-12))
    if not difference <= TOLERANCE["fp32"]:
        raise EncoderError(
            f"{encoder.card.name} gives other vectors once exported: they differ by {difference:.3g} of the largest",
            valid=f"{TOLERANCE['fp32']:g} or less",
            fix="load it with device cpu and precision fp32, and export it again",
        )
    return difference
