"""Encoders from ONNX files. Imports onnxruntime inside its functions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._types import Tiles, Vectors
from ..errors import EncoderError, OptionError, require
from ..provenance import file_digest
from .card import EncoderCard, Precision, Preprocessing
from .folder import validated

if TYPE_CHECKING:
    import onnxruntime

LAYOUTS = ("NCHW", "NHWC")
MINIMAL = {
    "name": "my encoder",
    "licence": "unknown",
    "preprocessing": {
        "resize": "shorter-side-crop",
        "resize_px": 224,
        "input_px": 224,
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "settings": {"layout": "NCHW"},
}
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclass(frozen=True, eq=False)
class OnnxEncoder:
    """A session of onnxruntime with a card."""

    card: EncoderCard
    session: "onnxruntime.InferenceSession"
    batch: int | None
    kind: type[np.generic]

    def forward(self, prepared: Tiles) -> Vectors:
        """Normalise, lay out, run. A model with a fixed batch runs batch by batch, the last one filled with zeros."""
        images = _laid_out(prepared, self.card, self.kind)
        step = self.batch or max(len(images), 1)
        rows = [self._run(images[start : start + step], step) for start in range(0, len(images), step)]
        return np.concatenate(rows) if rows else np.empty((0, self.card.dim), np.float32)

    def _run(self, images: np.ndarray, step: int) -> np.ndarray:
        count = len(images)
        if self.batch and count < step:
            images = np.concatenate([images, np.zeros((step - count, *images.shape[1:]), images.dtype)])
        output = str(self.card.settings.get("output", "")) or self.session.get_outputs()[0].name
        found = np.asarray(self.session.run([output], {self.session.get_inputs()[0].name: images})[0], np.float32)
        return found.reshape(len(found), -1)[:count] if found.ndim == 4 else found[:count]


def load_onnx(path: Path, *, device: str | None, precision: Precision | None) -> OnnxEncoder:
    """Load `FILE.onnx` with its card, `FILE.onnx.card.json` or `FILE.card.json`.

    The card holds EncoderCard fields; `preprocessing` is a must. `settings.layout` is NCHW or NHWC, `settings.output`
    names the output if it is not the first one. The file is its own revision. Precision is what the file computes in.

    Raises
    ------
    EncoderError
        If the file or the card is missing or not valid, or the model does not take images or return vectors.
    """
    path = path.expanduser()
    if not path.is_file():
        raise EncoderError("there is no such ONNX file", received=path)
    if precision not in (None, "fp32"):
        raise OptionError("the precision of an ONNX file is what it was exported in", received=f"precision={precision}")
    fields = _sidecar(path)
    layout = fields.get("settings", {}).get("layout", "NCHW")
    if layout not in LAYOUTS:
        raise EncoderError("the layout in the card is unknown", received=layout, valid=" or ".join(LAYOUTS))
    session = _session(path, device)
    shape, kind = _input(session, layout)
    sha256 = file_digest(path)
    fields |= {"kind": "onnx", "source": f"onnx:{path.name}", "weights_sha256": sha256}
    fields = {"name": path.name, "revision": f"sha256:{sha256}", **fields}
    card = validated({"dim": 1, **fields}, f"card of {path.name}")
    _check_size(card.preprocessing, shape, layout)
    batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
    encoder = OnnxEncoder(card, session, batch, kind)
    dim = fields.get("dim") or _probe(encoder)
    return OnnxEncoder(card.model_copy(update={"dim": dim}), session, batch, kind)


def _laid_out(prepared: Tiles, card: EncoderCard, kind: type[np.generic]) -> np.ndarray:
    """Return the input array: scaled and normalised unless the model takes uint8."""
    images: np.ndarray = prepared
    if kind is not np.uint8:
        images = prepared.astype(np.float32) / np.float32(255)
        rule = card.preprocessing
        if rule.mean is not None and rule.std is not None:
            images = (images - np.asarray(rule.mean, np.float32)) / np.asarray(rule.std, np.float32)
        images = images.astype(kind, copy=False)
    if card.settings.get("layout", "NCHW") == "NCHW":
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images)


def _sidecar(path: Path) -> dict[str, Any]:
    """Read the card beside an ONNX file; if there is none, print the one to write."""
    places = (path.with_name(path.name + ".card.json"), path.with_suffix(".card.json"))
    for place in places:
        if place.is_file():
            try:
                found = json.loads(place.read_text(encoding="utf-8"))
            except ValueError as error:
                raise EncoderError("the card is not JSON", received=f"{place}: {error}") from None
            if not isinstance(found, dict) or "preprocessing" not in found:
                raise EncoderError("the card does not say how to prepare tiles", received=place, valid=_minimal())
            return found
    raise EncoderError(
        "an ONNX file does not say how to prepare tiles, and has no card beside it",
        received=path,
        fix=f"write {places[0].name} with your own values in place of these: {_minimal()}",
    )


def _minimal() -> str:
    return json.dumps(MINIMAL)


def _session(path: Path, device: str | None) -> "onnxruntime.InferenceSession":
    runtime = require("onnxruntime", "encoders")
    there = runtime.get_available_providers()
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device != "cpu" else ["CPUExecutionProvider"]
    if device is not None and device.startswith("cuda") and wanted[0] not in there:
        raise OptionError("this onnxruntime has no CUDA", received=device, fix="pip install onnxruntime-gpu")
    try:
        return runtime.InferenceSession(path, providers=[name for name in wanted if name in there])
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise EncoderError("onnxruntime cannot load this file", received=f"{path}: {text}") from error


def _input(session: "onnxruntime.InferenceSession", layout: str) -> tuple[Sequence[Any], type[np.generic]]:
    """Return shape and type of the one image input."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in TYPES:
        shown = ", ".join(f"{part.name}: {part.type} {part.shape}" for part in inputs)
        raise EncoderError(
            "the ONNX model does not take one batch of images", received=shown, valid="one float or uint8 input, 4-D"
        )
    shape = inputs[0].shape
    channels = shape[1 if layout == "NCHW" else 3]
    if isinstance(channels, int) and channels != 3:
        other = LAYOUTS[1 - LAYOUTS.index(layout)]
        raise EncoderError(
            f"the input of the ONNX model is not {layout} with three channels",
            received=shape,
            fix=f'"settings": {{"layout": "{other}"}} in its card',
        )
    return shape, TYPES[inputs[0].type]


def _check_size(preprocessing: Preprocessing, shape: Sequence[Any], layout: str) -> None:
    """Refuse a card whose input size is not the one that the model was exported with."""
    sides = [side for side in (shape[2:] if layout == "NCHW" else shape[1:3]) if isinstance(side, int)]
    if any(side != preprocessing.input_px for side in sides):
        raise EncoderError(
            "the card prepares tiles to another size than the ONNX model takes",
            received=f"input_px {preprocessing.input_px}",
            valid=f"{' x '.join(map(str, sides))} px",
        )


def _probe(encoder: OnnxEncoder) -> int:
    px = encoder.card.preprocessing.input_px or 224
    found = encoder.forward(np.zeros((1, px, px, 3), np.uint8))
    if found.ndim != 2:
        raise EncoderError(
            "the ONNX model does not return one vector per tile",
            received=f"shape {found.shape}",
            valid="(n, d)",
            fix='name another output in its card: "settings": {"output": "..."}',
        )
    return found.shape[1]
