"""A Python function as an encoder."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .._types import Tiles, Vectors
from ..errors import EncoderError, HistolatentError, OptionError, described, nearest
from ..provenance import file_digest
from .card import EncoderCard, Preprocessing
from .folder import validated

PROBE_PX = 224
OWN_FIELDS = ("kind", "source", "weights_sha256")


@dataclass(frozen=True)
class CallableEncoder:
    """A function from uint8 tiles `(n, h, w, 3)` to numbers `(n, d)`, with a card."""

    card: EncoderCard
    function: Callable[[Tiles], Any]

    def forward(self, prepared: Tiles) -> Vectors:
        """Call the function and check what it returns."""
        return _as_vectors(_call(self.function, prepared, self.card.name), len(prepared), self.card.name)


def _call(function: Callable[[Tiles], Any], tiles: Tiles, name: str) -> Any:
    """Call a user's function with tiles of its own; what it raises becomes an EncoderError that says where."""
    try:
        return function(tiles.copy())
    except (HistolatentError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise EncoderError(f"the function {name} raised {described(error)}", received=f"tiles {tiles.shape}") from error


def load_callable(target: str) -> CallableEncoder:
    """Load `MODULE:FUNCTION` or `FILE.py:FUNCTION`.

    The function may have an attribute `card`, a dict of EncoderCard fields: `name`, `licence`, `preprocessing`, `dim`,
    `revision`, `notes`, ..., and `weights`, the path of a file that is hashed. The revision is the sha256 of the source
    file unless given, and the dimension is found with a noise tile unless given.

    Raises
    ------
    EncoderError
        If there is no such module, file or function, its card is not valid, or it returns something else.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise OptionError(
            "a callable is named by its module and its function",
            received=f"callable:{target}",
            valid="callable:package.module:function or callable:path/to/file.py:function",
        )
    module, file = _import(place)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
        guess = nearest(name, functions)
        raise EncoderError(
            f"{place} has no function {name!r}",
            valid=", ".join(sorted(functions)) or "none",
            fix=f"did you mean {guess!r}?" if guess else None,
        )
    fields = _fields(function, place, name, file)
    dim = fields.get("dim")
    probed = validated({"dim": 1, **fields}, f"callable:{target}")
    if dim is None:
        dim = _probe(function, probed)
    return CallableEncoder(probed.model_copy(update={"dim": dim}), function)


def _import(place: str) -> tuple[ModuleType, Path | None]:
    """Import a module by name, or a file by path; return it with its source file."""
    path = Path(place).expanduser()
    try:
        if path.suffix == ".py":
            return _import_file(path), path
        if "" not in sys.path:  # the folder one stands in, as with python -m
            sys.path.insert(0, "")
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        fix = "pip install it" if error.name and error.name not in place else "name it from the folder one stands in"
        raise EncoderError(f"there is no module {error.name!r}", received=f"callable:{place}", fix=fix) from error
    except (ImportError, SyntaxError) as error:
        raise EncoderError("the module of the callable cannot be imported", received=f"{place}: {error}") from error
    source = getattr(module, "__file__", None)
    return module, Path(source) if source else None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise EncoderError("there is no such Python file", received=path, valid="callable:path/to/file.py:function")
    name = f"histolatent_callable_{file_digest(path)[:16]}"  # the same file is imported once
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise EncoderError("the Python file cannot be imported", received=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _fields(function: Callable[..., Any], place: str, name: str, file: Path | None) -> dict[str, Any]:
    """Return card fields: what the function's `card` says over what is known of it."""
    given = getattr(function, "card", {})
    if isinstance(given, EncoderCard):
        given = given.model_dump(exclude_unset=True)
    if not isinstance(given, Mapping):
        raise EncoderError(
            f"the attribute card of {name} is not a dict", received=type(given).__name__, valid="EncoderCard fields"
        )
    given = {key: value for key, value in given.items() if key not in OWN_FIELDS}
    weights = given.pop("weights", None)
    short = Path(place).name if place.endswith(".py") else place
    fields = {"name": f"{short}:{name}", "preprocessing": Preprocessing(), **given}
    fields |= {"kind": "callable", "source": f"callable:{short}:{name}"}
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise EncoderError(f"the weights file of {name} is missing", received=path)
        fields["weights_sha256"] = file_digest(path)
    if "revision" not in fields:
        if file is None:
            raise EncoderError(f"{name} has no source file to tell its revision", fix="set card['revision']")
        fields["revision"] = f"sha256:{file_digest(file)}"
    return fields


def _probe(function: Callable[..., Any], card: EncoderCard) -> int:
    """Find the dimension with one noise tile."""
    px = card.preprocessing.input_px or PROBE_PX
    tile = np.random.default_rng(0).integers(0, 256, (1, px, px, 3), dtype=np.uint8)
    dim = _as_vectors(_call(function, tile, card.name), 1, card.name).shape[1]
    if dim < 1:
        raise EncoderError(f"{card.name} returns no numbers", received="shape (1, 0)")
    return dim


def _as_vectors(found: Any, count: int, name: str) -> Vectors:
    """Return float32 `(n, d)`, or say what was returned instead."""
    valid, fix = f"a NumPy array of numbers ({count}, d)", None
    if isinstance(found, np.ndarray):
        if found.ndim == 2 and len(found) == count and found.dtype.kind in "fiu":
            return found.astype(np.float32, copy=False)
        received = f"{found.dtype} array {found.shape}"
        if found.ndim == 1 and count == 1:
            fix = "return array[None]: the function gets a batch, and returns one row per tile"
    else:
        received = f"{type(found).__module__}.{type(found).__qualname__}"
        if type(found).__module__.partition(".")[0] == "torch":
            fix = "return tensor.detach().cpu().numpy()"
        elif isinstance(found, list | tuple):
            fix = "return np.asarray(rows, dtype=np.float32)"
    raise EncoderError(
        f"the function {name} returns something else than vectors", received=received, valid=valid, fix=fix
    )
