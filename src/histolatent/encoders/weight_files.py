"""Weights from files, without running code from them. Imports torch: load it late."""

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import EncoderError
from ..provenance import file_digest
from .source import Source

_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
SAFE_SUFFIXES = (".safetensors",)
PICKLE_SUFFIXES = (".bin", ".pth", ".pt", ".ckpt")


def local_weights(source: Source) -> tuple[Path, str]:
    """Return the file that `?weights=` names, and its sha256 as the revision to record."""
    path = Path(source.query["weights"]).expanduser()
    if not path.is_file():
        raise EncoderError("there is no such weights file", received=path, fix="?weights=/path/to/model.safetensors")
    if path.suffix not in SAFE_SUFFIXES + PICKLE_SUFFIXES:
        raise EncoderError(
            "the weights are of an unknown kind", received=path, valid=", ".join(SAFE_SUFFIXES + PICKLE_SUFFIXES)
        )
    return path, f"sha256:{file_digest(path)}"


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors in a file."""
    with plain_errors(path):
        if path.suffix in SAFE_SUFFIXES:
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return {name: tuple(tensor.shape) for name, tensor in _unpickled(path).items()}


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors from a safetensors file, or from a pickle that holds nothing but tensors."""
    with plain_errors(path):
        if path.suffix in SAFE_SUFFIXES:
            from safetensors.torch import load_file

            return load_file(path)
        return _unpickled(path)


@contextlib.contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn what torch and safetensors raise for a bad file into a sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except pickle.UnpicklingError as error:
        raise EncoderError(
            "the weights file holds more than tensors, and is not unpickled",
            received=path,
            fix="ask for a safetensors file, or convert it where you trust it with safetensors.torch.save_file",
        ) from error
    except SafetensorError as error:
        raise EncoderError(
            "the weights file is damaged", received=f"{path}: {error}", fix="get it, or train it, again"
        ) from error
    except (EOFError, FileNotFoundError) as error:
        raise EncoderError("the weights file cannot be read", received=f"{path}: {error}") from error
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise EncoderError(
            "the weights do not fit the architecture, or the file is damaged",
            received=f"{path}: {' '.join(lines)[:400]}",
            fix="give the weights of the same model, whole",
        ) from error


def _unpickled(path: Path) -> dict[str, torch.Tensor]:
    found: Any = torch.load(path, map_location="cpu", weights_only=True)
    for nest in _NESTS:
        if isinstance(found, dict) and isinstance(found.get(nest), dict):
            found = found[nest]
            break
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise EncoderError("the weights file is not a table of tensors", received=path)
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}
