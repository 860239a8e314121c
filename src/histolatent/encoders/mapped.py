"""An encoder with a frozen map on its vectors, as a folder: the map, and the encoder by name or as a folder inside."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._types import Tiles, Vectors
from ..errors import EncoderError, HistolatentError
from ..provenance import digest
from .card import EncoderCard, Precision
from .dense import DenseEncoder, no_maps
from .load import encoder
from .maps import LinearMap, ResidualMap
from .protocol import Encoder, HasPrecision
from .source import parse_source

#: Where in the folder the base lies, if it is a folder itself.
BASE = "base"


@dataclass(frozen=True, eq=False)
class MappedEncoder:
    """`map(base(tiles))`: the vectors of another encoder, each changed by itself.

    `recipe` and `tensors` are what the folder holds of the map; `name` is the string that loads the base, None if it is
    saved with the map.
    """

    card: EncoderCard
    base: Encoder
    name: str | None
    map: LinearMap | ResidualMap = field(repr=False)
    recipe: dict[str, Any] = field(repr=False)
    tensors: dict[str, np.ndarray] = field(repr=False)

    def forward(self, prepared: Tiles) -> Vectors:
        """Embed with the base, then map."""
        return self.map.apply(self.base.forward(prepared))

    def at_precision(self, precision: Precision) -> "MappedEncoder | None":
        """Return the same map on a base that computes in another precision, None where the base cannot."""
        base = self.base.at_precision(precision) if isinstance(self.base, HasPrecision) else None
        if base is None:
            return None
        return replace(self, card=self.card.model_copy(update={"precision": precision}), base=base)

    def dense(self, prepared: Tiles) -> np.ndarray:
        """Return the map of features of the base, each place mapped as a tile of that place alone is: `(n, d, h, w)`.

        Only of a linear map, and a base that pools by mean, or by mean and largest.
        """
        linear = isinstance(self.map, LinearMap) and self.base.card.pooling in ("mean", "mean+max")
        if not (linear and isinstance(self.base, DenseEncoder)):
            raise no_maps(self)
        found = np.moveaxis(self.base.dense(prepared), 1, -1)
        return np.moveaxis(self.map.apply(found.reshape(-1, found.shape[-1])).reshape(found.shape), -1, 1)

    def below(self, prepared: Tiles) -> list[np.ndarray]:
        """Return the maps of the layers of the base that lie before the last: the map is not of these."""
        if not isinstance(self.base, DenseEncoder):
            raise no_maps(self)
        return self.base.below(prepared)

    def config(self) -> dict[str, Any]:
        """Return what `config.json` says."""
        known = {"base_identity": self.base.card.identity, "base_precision": self.base.card.precision}
        place = BASE if self.name is None or self.folder else lasting_name(self.name, self.base.card)
        return {**self.recipe, "base": place, **known}

    @property
    def folder(self) -> Path | None:
        """Where the base lies, if it is a folder."""
        if self.name is None:
            return None
        source = parse_source(self.name)
        place = Path(source.rest).expanduser()
        return place if source.scheme in ("", "folder") and place.is_dir() else None

    def save_weights(self, path: Path) -> None:
        """Write the map, and beside it the base if it is a folder or has no name: other bases are loaded by name."""
        from safetensors.numpy import save_file

        from .folder import save_encoder

        save_file({name: np.ascontiguousarray(values) for name, values in self.tensors.items()}, path)
        if self.name is None:
            save_encoder(self.base, path.parent / BASE)
        elif self.folder:
            shutil.copytree(self.folder, path.parent / BASE)


#: The maps that a folder may hold, by the builder that its `config.json` names.
MAPS: Mapping[str, type[LinearMap] | type[ResidualMap]] = {"linear-map": LinearMap, "residual-map": ResidualMap}
_CALLED = {"linear-map": "linear compaction", "residual-map": "adapter"}


def map_encoder(
    base: Encoder, name: str | None, change: LinearMap | ResidualMap, *, called: str | None = None, notes: str = ""
) -> MappedEncoder:
    """Put a map on an encoder.

    `name` is the string that loads the encoder, or a folder; None saves the encoder with the map. `called` is the name
    on the card, by default what the map and the encoder are called.
    """
    builder = next(key for key, kind in MAPS.items() if isinstance(change, kind))
    tensors = {key: np.ascontiguousarray(values, np.float32) for key, values in vars(change).items()}
    weights = tensors_digest(tensors)
    card = base.card.model_copy(
        update={
            "name": called or f"{base.card.name} + {_CALLED[builder]}",
            "kind": "folder",
            "source": f"{_CALLED[builder]} on {base.card.source}",
            "revision": f"sha256:{weights[:16]} on {base.card.revision}",
            "weights_sha256": weights,
            "golden": None,
            "settings": {**base.card.settings, "base": base.card.identity},
            "notes": notes,
        }
    )
    return MappedEncoder(card, base, name, _map_of(builder, tensors), {"builder": builder}, tensors)


def rebuild_mapped(
    weights: Path, card: EncoderCard, config: dict[str, Any], *, device: str | None, precision: Precision | None
) -> MappedEncoder:
    """Build an encoder with a map from its folder."""
    builder = str(config["builder"])
    base, name = _load_base(weights.parent, config, device, precision)
    tensors = _read_tensors(weights, card, tuple(field.name for field in fields(MAPS[builder])))
    used = card.model_copy(update={"precision": base.card.precision})
    return MappedEncoder(used, base, name, _map_of(builder, tensors), {"builder": builder}, tensors)


def _map_of(builder: str, tensors: dict[str, np.ndarray]) -> LinearMap | ResidualMap:
    """Return the map of what the file holds, so that an encoder gives the same before and after it is saved."""
    return MAPS[builder](**{key: values.astype(np.float64) for key, values in tensors.items()})


def lasting_name(name: str, card: EncoderCard) -> str:
    """Return the name of an encoder such that it loads the same from elsewhere, and later.

    Paths of files are written in full, and pretrained weights of a hub with the revision that was loaded.
    """
    source = parse_source(name)
    query = name[len(name.partition("?")[0]) :]
    if source.scheme == "callable":
        place, colon, function = source.rest.rpartition(":")
        if place.endswith(".py"):
            return f"callable:{Path(place).expanduser().resolve()}{colon}{function}"
    if source.scheme == "onnx":
        return f"onnx:{Path(source.rest).expanduser().resolve()}{query}"
    if source.scheme in ("timm", "hf") and not source.revision and "weights" not in source.query:
        return f"{source.scheme}:{source.rest}@{card.revision}{query}"
    return name


def runs_code(name: str) -> bool:
    """Whether loading an encoder of that name runs code that is not of histolatent and its libraries."""
    source = parse_source(name)
    return source.scheme == "callable" or source.query.get("trust_remote_code") == "yes"


def tensors_digest(tensors: dict[str, np.ndarray]) -> str:
    """Return the sha256 over names, shapes and bytes."""
    parts = {
        key: [list(values.shape), digest(np.ascontiguousarray(values).tobytes())] for key, values in tensors.items()
    }
    return digest(parts)


def _load_base(
    folder: Path, config: dict[str, Any], device: str | None, precision: Precision | None
) -> tuple[Encoder, str]:
    name = config.get("base")
    if not isinstance(name, str) or not name:
        raise EncoderError("the configuration names no encoder that the compaction lies on", received=folder)
    trusted = bool(config.get("trusted"))
    if name == BASE:
        place = f"folder:{folder / BASE}" + ("?trust_base=yes" if trusted else "")
    else:
        place = name
        if runs_code(name) and not trusted:
            raise EncoderError(
                "the encoder that the compaction lies on runs code of its own when it is loaded",
                received=f"{folder}: {name}",
                fix=f"look at that code; if you trust it, load {folder}?trust_base=yes",
            )
    try:
        base = encoder(place, device=device, precision=precision)
    except HistolatentError as error:
        if "trust_base" in str(error):
            raise
        raise EncoderError(
            f"the encoder that the compaction lies on cannot be loaded: {error}", received=place
        ) from error
    at_rest = base.card.model_copy(update={"precision": config.get("base_precision")})
    if at_rest.identity != config.get("base_identity"):
        raise EncoderError(
            "the encoder that the compaction lies on is not the one that it was fitted to",
            received=f"{place} of identity {at_rest.identity[:16]}",
            valid=str(config.get("base_identity"))[:16],
            fix="load the same revision and weights, or fit the compaction again",
        )
    return base, place.partition("?")[0] if name == BASE else place


def _read_tensors(path: Path, card: EncoderCard, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EncoderError("the weights file cannot be read", received=f"{path}: {error}") from None
    found = tensors_digest({key: tensors[key] for key in names if key in tensors})
    if set(tensors) != set(names) or found != card.weights_sha256:
        raise EncoderError(
            "the weights are not those of the card: the file was changed",
            received=f"{path} with sha256 {found}",
            valid=card.weights_sha256,
            fix="fit the compaction again, or get the folder again",
        )
    return tensors
