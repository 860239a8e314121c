"""Encoders in timm's architectures, pretrained or with random weights. Imports torch and timm: load it late."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.layers.mlp import SwiGLUPacked

from ..errors import EncoderError, OptionError, nearest, unknown
from .card import Domain, EncoderCard, Interpolation, Pooling, Precision, Preprocessing
from .catalogue import CatalogueEntry, catalogue_entry, entry_of
from .hub import PICKLED, SAFE, fetch, fetch_weights, resolve_commit
from .source import Source, whole_number
from .stem import ConvStem
from .torch_models import (
    Stages,
    TorchEncoder,
    choose_device,
    choose_pooling,
    choose_precision,
    place,
    pool_tokens,
    probe_dim,
    weights_digest,
)
from .weight_files import local_weights, plain_errors, shapes_in

LAYERS: dict[str, Any] = {
    "SwiGLUPacked": SwiGLUPacked,
    "SiLU": torch.nn.SiLU,
    "GELU": torch.nn.GELU,
    "ConvStem": ConvStem,
}
LAYER_KEYS = ("mlp_layer", "act_layer", "norm_layer", "embed_layer")


@dataclass(frozen=True)
class Pretrained:
    """Where weights come from: the architecture, how to build it, the file, and the revision to record."""

    architecture: str
    kwargs: Mapping[str, Any]
    config: Mapping[str, Any]
    weights: Path
    revision: str
    licence: str
    domain: Domain


def load_timm(source: Source, name: str | None, *, device: str | None, precision: Precision | None) -> TorchEncoder:
    """Load `timm:NAME[@REVISION]` or `timm:hf-hub:ORG/NAME[@REVISION]` with pretrained weights."""
    for prefix in ("hf-hub:", "hf_hub:"):
        if source.rest.startswith(prefix):
            source = Source("hf", source.rest.removeprefix(prefix), source.revision, source.query)
            return load_repository(source, name, device=device, precision=precision)
    entry = catalogue_entry(name) if name else entry_of(f"timm:{source.rest}")
    architecture = _known(source.rest)
    config = timm.get_pretrained_cfg(source.rest)
    if config is None:
        raise unknown("pretrained timm model", source.rest, timm.list_pretrained(f"{architecture}.*"))
    weights, revision = _weights(source, config.hf_hub_id, config.hf_hub_filename, gated=False)
    pretrained = Pretrained(
        architecture,
        entry.kwargs if entry else {},
        {**config.to_dict(), "architecture": architecture},
        weights,
        revision,
        config.license or "check the model page",
        "general",  # what timm itself names was trained on everyday images
    )
    return _build_pretrained(source, entry, pretrained, device, precision)


def load_repository(
    source: Source, name: str | None, *, device: str | None, precision: Precision | None
) -> TorchEncoder:
    """Load a repository of the hub, or local weights of it, that timm's config.json describes."""
    entry = catalogue_entry(name) if name else entry_of(f"hf:{source.rest}")
    gated = entry is not None and entry.gated
    weights, revision = _weights(source, source.rest, None, gated=gated)
    beside = weights.parent / "config.json"
    if "weights" not in source.query:
        fetch(source.rest, "config.json", revision, gated=gated)
    described = read_config(beside) if beside.exists() else {}
    architecture = described.get("architecture") or (entry.architecture if entry else None)
    if not architecture:
        raise EncoderError(
            f"the architecture of {source.rest} is not known",
            received=f"no config.json in {beside.parent}",
            fix="put the config.json of the repository beside the weights",
        )
    if described.get("architecture"):
        kwargs = {**described.get("model_args", {}), **(entry.kwargs if entry else {})}
    else:
        kwargs = dict(entry.kwargs) if entry else {}
    config = {"num_classes": described.get("num_classes", 0), **described.get("pretrained_cfg", {})}
    licence = str(config.get("license") or "check the model page")
    pretrained = Pretrained(_known(architecture), kwargs, config, weights, revision, licence, "unknown")
    return _build_pretrained(source, entry, pretrained, device, precision)


def load_random(source: Source, *, device: str | None, precision: Precision | None) -> TorchEncoder:
    """Build `timm-random:NAME?seed=0&img_size=96`: the architecture with seeded random weights.

    The weights depend on the seed only: torch's global random state is neither used nor changed.
    """
    architecture = _known(source.rest)
    config = timm.get_pretrained_cfg(source.rest) or timm.get_pretrained_cfg(architecture)
    described = config.to_dict() if config is not None else {}
    seed, px = whole_number(source, "seed", 0) or 0, whole_number(source, "img_size", None)
    kwargs = _sized({}, described, px)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = create(architecture, kwargs, described)
    preprocessing = preprocessing_of(model, described, px)
    target = choose_device(device)
    model = place(model, target)
    pooling = choose_pooling(source.query.get("pooling"), "pooled", valid_poolings(model), source.rest)
    settings: dict[str, str | int | float | bool] = {"seed": seed}
    if px is not None:
        settings["img_size"] = px
    card = EncoderCard(
        name=f"{source.rest} (random weights)",
        kind="timm",
        source=f"timm-random:{source.rest}",
        dim=probe_dim(embed_timm, model, pooling, preprocessing.input_px or 224, target),
        preprocessing=preprocessing,
        pooling=pooling,
        precision=choose_precision(precision, "fp32", target),
        revision=f"seed {seed}",
        weights_sha256=weights_digest(model),
        licence="Apache-2.0 (architecture; there are no trained weights)",
        random_weights=True,
        settings=settings,
        notes="Nothing was learned. Figures of this encoder show that the pipeline runs, not what an encoder can do.",
    )
    return TorchEncoder(card, model, embed_timm, target, _recipe(architecture, kwargs, described, 0))


def _features(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model.forward_features(images)  # pyright: ignore[reportCallIssue]


def _pool(model: torch.nn.Module, features: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool features. `pooled` is what timm itself returns without a classifier."""
    if pooling == "pooled":
        pooled = model.forward_head(features, pre_logits=True)  # pyright: ignore[reportCallIssue]
        return pooled.flatten(1) if pooled.ndim == 4 else pooled
    if features.ndim == 4:
        return _grid(model, features).mean(dim=(2, 3))
    return pool_tokens(features, pooling, getattr(model, "num_prefix_tokens", 0))


def _grid(model: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Lay features out as a map `(n, d, h, w)`: tokens are those of a square of patches, after the prefix."""
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else features
    patches = features[:, getattr(model, "num_prefix_tokens", 0) :]
    side = round(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).unflatten(2, (side, side))


def _below(model: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Return the maps of all stages but the last of a convolutional network; none of one whose places stay as large."""
    if not isinstance(getattr(model, "feature_info", None), list) or not hasattr(model, "forward_intermediates"):
        return []
    found = model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")  # pyright: ignore[reportCallIssue]
    return [part for part in found if part.shape[2] > found[-1].shape[2]]


embed_timm = Stages(_features, _pool, _grid, _below)


def valid_poolings(model: torch.nn.Module) -> tuple[Pooling, ...]:
    """Return the poolings that a timm model allows: those with a class token only if it has one."""
    if getattr(model, "cls_token", None) is None:
        return ("pooled", "mean")
    return ("pooled", "cls", "mean", "cls+mean")


def preprocessing_of(model: torch.nn.Module, config: Mapping[str, Any], px: int | None) -> Preprocessing:
    """Translate timm's data configuration, with the input at `px` if given.

    Raises
    ------
    EncoderError
        For what cannot be expressed: inputs that are not square, padding, rarer filters.
    """
    data = resolve_data_config(pretrained_cfg=dict(config) or None, model=model)
    height, width = (px, px) if px else data["input_size"][-2:]
    filters: dict[str, Interpolation] = {
        "nearest": "nearest",
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "lanczos": "lanczos",
    }
    if height != width or data["crop_mode"] not in ("center", "squash") or data["interpolation"] not in filters:
        received = f"{height} x {width} px, crop_mode={data['crop_mode']}, interpolation={data['interpolation']}"
        raise EncoderError(
            "the preprocessing of this timm model is not supported",
            received=received,
            valid="square input, centre crop or squash, nearest, bilinear, bicubic or lanczos",
            fix="wrap it as callable:FILE.py:FUNCTION with a card of its own",
        )
    return Preprocessing(
        resize="squash" if data["crop_mode"] == "squash" else "shorter-side-crop",
        input_px=height,
        resize_px=math.floor(height / data["crop_pct"]),
        interpolation=filters[data["interpolation"]],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )


def create(architecture: str, kwargs: Mapping[str, Any], config: Mapping[str, Any], **more: Any) -> torch.nn.Module:
    """Create a timm model without a classifier unless asked, with layers that are named by string."""
    named = {key: LAYERS[value] if key in LAYER_KEYS else value for key, value in _checked(kwargs).items()}
    overlay = {key: value for key, value in config.items() if key in ("input_size", "fixed_input_size")}
    more = {"num_classes": 0, "pretrained_cfg_overlay": overlay, **more}
    try:
        return timm.create_model(architecture, **{**named, **more})
    except (AssertionError, TypeError, ValueError) as error:
        raise EncoderError(
            f"timm's {architecture} cannot be built like this", received=f"{dict(kwargs)}: {error}"
        ) from None


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a model."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise EncoderError("the configuration of the model cannot be read", received=f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise EncoderError("the configuration of the model is not a JSON object", received=path)
    return found


def _build_pretrained(
    source: Source, entry: CatalogueEntry | None, found: Pretrained, device: str | None, precision: Precision | None
) -> TorchEncoder:
    """Build the model with its weights, strictly: a weight that is missing or left over is an error."""
    px = whole_number(source, "img_size", None)
    kwargs = _sized(found.kwargs, found.config, px)
    model, classes = _with_weights(found, kwargs)
    if entry is not None and px is None:
        preprocessing = entry.preprocessing
    else:
        size = kwargs.get("img_size") if isinstance(kwargs.get("img_size"), int) else None
        preprocessing = preprocessing_of(model, found.config, px or size)
        if entry is not None:
            preprocessing = preprocessing.model_copy(
                update={"mean": entry.preprocessing.mean, "std": entry.preprocessing.std}
            )
    target = choose_device(device)
    model = place(model, target)
    default: Pooling = entry.pooling if entry else "pooled"
    pooling = choose_pooling(source.query.get("pooling"), default, valid_poolings(model), source.rest)
    dim = probe_dim(embed_timm, model, pooling, preprocessing.input_px or 224, target)
    if entry is not None and pooling == entry.pooling and dim != entry.dim:
        raise EncoderError(f"{entry.name} does not have the dimension of its card", received=dim, valid=entry.dim)
    card = EncoderCard(
        name=entry.name if entry else source.rest,
        kind="timm",
        source=f"{source.scheme}:{source.rest}",
        dim=dim,
        preprocessing=preprocessing,
        pooling=pooling,
        precision=choose_precision(precision, entry.precision if entry else "fp32", target),
        revision=found.revision,
        weights_sha256=weights_digest(model),
        domain=entry.domain if entry else found.domain,
        licence=entry.licence if entry else found.licence,
        gated=entry.gated if entry else False,
        settings={key: value for key, value in kwargs.items() if isinstance(value, str | int | float | bool)},
        notes=entry.notes if entry else "",
    )
    return TorchEncoder(card, model, embed_timm, target, _recipe(found.architecture, kwargs, found.config, classes))


def _with_weights(found: Pretrained, kwargs: Mapping[str, Any]) -> tuple[torch.nn.Module, int]:
    """Create the model with a classifier if the file has one, load it whole, and drop the classifier."""
    classifier = found.config.get("classifier")
    heads = [classifier] if isinstance(classifier, str) else list(classifier or [])
    shapes = shapes_in(found.weights)
    classes = max((shapes[f"{head}.weight"][0] for head in heads if f"{head}.weight" in shapes), default=0)
    overlay = {
        **{key: found.config[key] for key in ("input_size", "fixed_input_size", "classifier") if key in found.config},
        "num_classes": classes,
        "file": str(found.weights),
        "url": None,
        "hf_hub_id": None,
        "source": None,
        "custom_load": False,
    }
    with plain_errors(found.weights):
        model = create(
            found.architecture,
            {key: value for key, value in kwargs.items() if key != "num_classes"},
            found.config,
            pretrained=True,
            num_classes=classes,
            pretrained_cfg_overlay=overlay,
        )
    if classes:
        model.reset_classifier(0)  # pyright: ignore[reportCallIssue]
    return model, classes


def _weights(source: Source, repository: str | None, filename: str | None, *, gated: bool) -> tuple[Path, str]:
    """Return the weights file and the revision to record."""
    if "weights" in source.query:
        return local_weights(source)
    if not repository:
        raise EncoderError(
            f"timm has no weights for {source.rest} on the hub",
            fix=f"timm:{source.rest}?weights=/path/to/{SAFE}, or timm-random:{source.rest}",
        )
    commit = resolve_commit(repository, source.revision, gated=gated)
    names = (filename,) if filename else (SAFE, PICKLED)
    return fetch_weights(repository, commit, names, gated=gated), commit


def _known(name: str) -> str:
    architecture = name.partition(".")[0]
    if timm.is_model(architecture):
        return architecture
    guess = nearest(architecture, timm.list_models())
    raise OptionError(
        f"timm has no architecture {architecture!r}",
        valid="a name of timm.list_models()",
        fix=f"did you mean {guess!r}?" if guess else None,
    )


def _sized(kwargs: Mapping[str, Any], config: Mapping[str, Any], px: int | None) -> dict[str, Any]:
    """Put `img_size` where the architecture needs to know it; others take any size."""
    sized = dict(kwargs)
    if px is not None and (config.get("fixed_input_size") or "img_size" in kwargs):
        sized["img_size"] = px
    return sized


def _checked(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse layers that are not on the list: strings are never turned into code."""
    for key in LAYER_KEYS:
        if key in kwargs and kwargs[key] not in LAYERS:
            raise EncoderError(
                f"the layer {kwargs[key]!r} is not one that histolatent builds by name",
                received=f"{key}={kwargs[key]!r}",
                valid=", ".join(LAYERS),
            )
    return dict(kwargs)


def _recipe(architecture: str, kwargs: Mapping[str, Any], config: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Say how to build the model again, without its weights. `classes` says if a classifier has been dropped."""
    kept = {key: config[key] for key in ("input_size", "fixed_input_size") if key in config}
    return {
        "builder": "timm",
        "architecture": architecture,
        "kwargs": dict(kwargs),
        "config": kept,
        "dropped_classes": classes,
    }
