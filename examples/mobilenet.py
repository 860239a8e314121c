"""A real pretrained encoder behind a Python function: MobileNet v1 (ImageNet, 8-bit) through ai-edge-litert.

    pip install ai-edge-litert
    export HISTOLATENT_DATA=/path/to/data
    histolatent embed tiles/ --encoder callable:examples/mobilenet.py:encode --out emb.zarr

The model file is `encoders/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite` of the folder that HISTOLATENT_DATA
names (google-coral/test_data, Apache-2.0). It takes uint8 RGB 224 x 224 and returns 1024 numbers. Natural images, no
pathology.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from histolatent.errors import EncoderError

FILE = "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"


def model_path() -> Path:
    """Return where the model file should lie."""
    return Path(os.environ.get("HISTOLATENT_DATA", "data")) / "encoders" / FILE


@lru_cache(maxsize=1)
def interpreter() -> Any:
    """Build the interpreter, once, when the first tile comes."""
    path = model_path()
    if not path.is_file():
        raise EncoderError(
            "the MobileNet file is not there", received=path, fix="set HISTOLATENT_DATA to the folder with encoders/"
        )
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as error:
        raise EncoderError("ai-edge-litert is not installed", fix="pip install ai-edge-litert") from error
    built = Interpreter(model_path=str(path), num_threads=1)
    built.allocate_tensors()
    return built


def encode(tiles: np.ndarray) -> np.ndarray:
    """Embed uint8 RGB tiles (n, 224, 224, 3) as float32 (n, 1024), one by one: the file has a batch of one."""
    model = interpreter()
    into, out = model.get_input_details()[0], model.get_output_details()[0]
    scale, zero = out["quantization"]
    rows = []
    for tile in tiles:
        model.set_tensor(into["index"], np.ascontiguousarray(tile[None]))
        model.invoke()
        row = model.get_tensor(out["index"]).reshape(-1)
        rows.append((row.astype(np.float32) - zero) * scale if scale else row.astype(np.float32))
    return np.stack(rows)


encode.card = {  # pyright: ignore[reportFunctionMemberAccess]
    "name": "mobilenet-v1 (ImageNet, 8-bit)",
    "domain": "general",
    "licence": "Apache-2.0",
    "preprocessing": {
        "resize": "shorter-side-crop",
        "resize_px": 224,
        "input_px": 224,
        "interpolation": "bilinear",
    },
    **({"weights": model_path()} if model_path().is_file() else {}),
    "notes": "Natural images, no pathology. Scaling to -1..1 is part of the 8-bit arithmetic of the file.",
}
