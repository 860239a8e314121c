"""What all torch encoders share: device, precision, normalisation, hashes. Imports torch: load it late."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .._types import Tiles, Vectors
from ..errors import EncoderError, OptionError
from .card import EncoderCard, Pooling, Precision, Preprocessing
from .dense import no_maps

HALF: dict[str, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}

Embed = Callable[[torch.nn.Module, torch.Tensor, Pooling], torch.Tensor]


@dataclass(frozen=True)
class Stages:
    """A network in two steps, so that what lies between them can be had too: features, and what is pooled of them.

    `grid` turns features into a map `(n, d, h, w)`. The pooling `mean+max` is of that map, whatever the network: the
    mean and the largest over places, `(n, 2 d)`. The largest of a larger tile is larger. `below` are the maps of the
    layers before, where they are finer, the finest first.
    """

    features: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]
    pool: Callable[[torch.nn.Module, torch.Tensor, Pooling], torch.Tensor]
    grid: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]
    below: Callable[[torch.nn.Module, torch.Tensor], Sequence[torch.Tensor]]

    def __call__(self, model: torch.nn.Module, images: torch.Tensor, pooling: Pooling) -> torch.Tensor:
        """Return the embedding, `(n, d)`."""
        features = self.features(model, images)
        if pooling != "mean+max":
            return self.pool(model, features, pooling)
        grid = self.grid(model, features).float()
        return torch.cat([grid.mean(dim=(2, 3)), grid.amax(dim=(2, 3))], dim=1)

    def dense(self, model: torch.nn.Module, images: torch.Tensor, pooling: Pooling) -> torch.Tensor:
        """Return the map of features, each place as a tile of that place alone is pooled: its mean is its largest."""
        grid = self.grid(model, self.features(model, images))
        return torch.cat([grid, grid], dim=1) if pooling == "mean+max" else grid


@dataclass(frozen=True, eq=False)
class TorchEncoder:
    """A torch model in evaluation mode, with a pooling function and a card.

    `recipe` says how to build the model again without its weights, for `save_encoder`; None if that is not possible.
    """

    card: EncoderCard
    model: torch.nn.Module
    embed: Embed
    device: str
    recipe: Mapping[str, Any] | None = field(default=None, repr=False)

    def forward(self, prepared: Tiles) -> Vectors:
        """Normalise on the device, run the model without gradients, pool; float32 whatever the precision."""
        return self._run(prepared, lambda images: [self.embed(self.model, images, self.card.pooling)])[0]

    def dense(self, prepared: Tiles) -> np.ndarray:
        """Return the map of features before pooling, float32 `(n, d, h, w)`. See `encode_dense`."""
        stages = self._stages()
        return self._run(prepared, lambda images: [stages.dense(self.model, images, self.card.pooling)])[0]

    def below(self, prepared: Tiles) -> list[np.ndarray]:
        """Return the maps of the layers before, where they are finer, the finest first. See `encode_levels`."""
        stages = self._stages()
        return self._run(prepared, lambda images: stages.below(self.model, images))

    def _stages(self) -> Stages:
        if not isinstance(self.embed, Stages):
            raise no_maps(self)
        return self.embed

    def at_precision(self, precision: Precision) -> "TorchEncoder":
        """Return the same encoder, computing in another precision: its weights are held in float32."""
        return replace(self, card=self.card.model_copy(update={"precision": precision}))

    def _run(self, prepared: Tiles, network: Callable[[torch.Tensor], Sequence[torch.Tensor]]) -> list[np.ndarray]:
        with torch.inference_mode():
            images = normalise(to_device(prepared, self.device), self.card.preprocessing)
            lower = HALF.get(self.card.precision)
            with torch.autocast(torch.device(self.device).type, dtype=lower, enabled=lower is not None):
                found = network(images)
            return [part.float().cpu().numpy() for part in found]


def to_device(prepared: Tiles, device: str) -> torch.Tensor:
    """Return uint8 tiles as an NCHW view in channels-last memory, on the device."""
    array = np.ascontiguousarray(prepared)
    if not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array).to(device).permute(0, 3, 1, 2)


def normalise(images: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Scale uint8 to 0-1, subtract the mean, divide by the standard deviation: torchvision's order, in float32."""
    if preprocessing.mean is None or preprocessing.std is None:
        return images.to(torch.float32).div(255)
    mean, std = (torch.tensor(part, device=images.device) for part in (preprocessing.mean, preprocessing.std))
    if torch.compiler.is_compiling():
        return images.to(torch.float32).div(255).sub(mean.view(1, 3, 1, 1)).div(std.view(1, 3, 1, 1))
    # Whole rows of pixels at a time: steps of three channels take five times as long on a CPU.
    width = images.shape[3]
    rows = images.permute(0, 2, 3, 1).flatten(2).div(255).sub_(mean.repeat(width)).div_(std.repeat(width))
    return rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)


def choose_device(device: str | None) -> str:
    """Return the device asked for, checked, or the best one that is there: cuda, then mps, then cpu."""
    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError:
        kind, index = "", 0
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind not in there:
        raise OptionError("there is no such kind of device", received=device, valid="cuda, cuda:1, mps or cpu")
    if index >= there[kind]:
        valid = ", ".join(name for name, count in there.items() if count)
        raise OptionError("this machine has no such device", received=device, valid=valid, fix="leave --device out")
    return device


def choose_precision(asked: Precision | None, recommended: Precision, device: str) -> Precision:
    """Return the precision asked for, else the recommended one on CUDA, else fp32.

    >>> choose_precision(None, "fp16", "cpu")
    'fp32'
    """
    if asked is not None:
        return asked
    return recommended if device.startswith("cuda") else "fp32"


def place(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """Freeze a model, in evaluation mode and float32, on the device; convolutions get channels-last weights."""
    model = model.eval().requires_grad_(False).to(device=device, dtype=torch.float32)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue, reportArgumentType]


def probe_dim(embed: Embed, model: torch.nn.Module, pooling: Pooling, px: int, device: str) -> int:
    """Return the length of the vectors, from one black tile.

    Raises
    ------
    EncoderError
        If the model does not take tiles of this size, or the pooling does not give one vector per tile.
    """
    try:
        with torch.inference_mode():
            vectors = embed(model, torch.zeros(1, 3, px, px, device=device), pooling)
    except (AssertionError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise EncoderError(f"the model cannot embed a tile of {px} x {px} px", received=text) from error
    if vectors.ndim != 2 or len(vectors) != 1:
        raise EncoderError(
            f"pooling={pooling} does not give one vector per tile",
            received=f"shape {tuple(vectors.shape)}",
            fix="load it with ?pooling=cls, mean or cls+mean",
        )
    return vectors.shape[1]


def weights_digest(model: torch.nn.Module) -> str:
    """Return the sha256 over names, types, shapes and values of all weights, whatever file they came from."""
    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        whole.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        whole.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def pool_tokens(tokens: torch.Tensor, pooling: Pooling, prefix: int) -> torch.Tensor:
    """Reduce tokens `(n, prefix + patches, d)` to the class token, the mean of the patch tokens, or both in a row."""
    if pooling == "cls":
        return tokens[:, 0]
    mean = tokens[:, prefix:].mean(dim=1)
    return mean if pooling == "mean" else torch.cat([tokens[:, 0], mean], dim=-1)


def choose_pooling(asked: str | None, default: Pooling, valid: tuple[Pooling, ...], name: str) -> Pooling:
    """Return the pooling asked for by `?pooling=`, checked, else the default."""
    for pooling in valid:
        if pooling == (asked or default):
            return pooling
    raise OptionError(f"{name} cannot be pooled like this", received=asked or default, valid=", ".join(valid))
