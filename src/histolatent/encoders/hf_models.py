"""Encoders from the Hugging Face hub through transformers. Imports torch and transformers: load it late."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ..errors import EncoderError, require
from .card import EncoderCard, Interpolation, Pooling, Precision, Preprocessing
from .catalogue import CatalogueEntry, catalogue_entry, entry_of
from .hub import PICKLED, SAFE, WEIGHTS, fetch, fetch_code, fetch_weights, resolve_commit
from .source import Source, yes_or_no
from .torch_models import (
    TorchEncoder,
    choose_device,
    choose_pooling,
    choose_precision,
    place,
    pool_tokens,
    probe_dim,
    weights_digest,
)
from .weight_files import local_weights, plain_errors

CLIP = "CLIPVisionModelWithProjection"
_RESAMPLE: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_PINNED = 40  # hex digits of a whole commit


def load_hf(source: Source, name: str | None, *, device: str | None, precision: Precision | None) -> TorchEncoder:
    """Load `hf:ORG/NAME[@REVISION]` with transformers, or with timm if the repository's config.json is timm's."""
    from .timm_models import load_repository, read_config

    entry = catalogue_entry(name) if name else entry_of(f"hf:{source.rest}")
    _refuse_packages(entry)
    gated = entry is not None and entry.gated
    if "weights" in source.query:
        weights, revision = local_weights(source)
        beside = weights.parent / "config.json"
        config = read_config(beside) if beside.exists() else None
    else:
        revision = resolve_commit(source.rest, source.revision, gated=gated)
        found = fetch(source.rest, "config.json", revision, gated=gated)
        config = read_config(found) if found else None
    has_config = config is not None
    if "architecture" in config if has_config else entry is not None and entry.architecture:
        pinned = source.revision if "weights" in source.query else revision
        return load_repository(
            Source(source.scheme, source.rest, pinned, source.query), name, device=device, precision=precision
        )
    if config is None:
        raise EncoderError(f"{source.rest} has no config.json", fix="put the one of the repository beside the weights")
    trusted = _trusted(source, entry, config, revision)
    folder = _files(source, revision, trusted=trusted, gated=gated)
    model, kind, missing = _read_model(folder, config, trusted=trusted)
    return _finish(source, entry, model, kind, missing, folder, revision, trusted, device, precision)


def embed_transformers(model: torch.nn.Module, images: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Run a transformers vision model and pool its output. Register tokens are no patches and stay out of the mean."""
    output = model(pixel_values=images)
    if pooling == "image-features":
        return output.image_embeds
    if pooling == "pooled":
        return output.pooler_output.flatten(1)
    hidden = output.last_hidden_state
    if hidden.ndim == 4:
        return hidden.mean(dim=(2, 3))
    return pool_tokens(hidden, pooling, 1 + int(getattr(model.config, "num_register_tokens", 0) or 0))


def preprocessing_from(config: Mapping[str, Any]) -> Preprocessing:
    """Translate a preprocessor_config.json of transformers.

    Raises
    ------
    EncoderError
        For what cannot be expressed, with the fields that say so.
    """
    size, crop = config.get("size", 224), config.get("crop_size")
    cropped = bool(config.get("do_center_crop", False))
    crop_px = _side(crop) if cropped and crop is not None else None
    shorter = size["shortest_edge"] if isinstance(size, dict) and "shortest_edge" in size else None
    if shorter is None and isinstance(size, int) and cropped:
        shorter = size
    resize_px = shorter or _side(size)
    scaled = config.get("do_rescale", True) and abs(config.get("rescale_factor", 1 / 255) * 255 - 1) < 1e-6
    filtered = config.get("resample", 2)
    if not config.get("do_resize", True) or not scaled or filtered not in _RESAMPLE or resize_px is None:
        keys = ("do_resize", "size", "resample", "do_rescale", "rescale_factor")
        raise EncoderError(
            "the preprocessing of this model is not supported",
            received={key: config[key] for key in keys if key in config},
            valid="a resize by Pillow, then 1/255",
            fix="wrap it as callable:FILE.py:FUNCTION with a card of its own",
        )
    normalised = config.get("do_normalize", True)
    try:
        return Preprocessing(
            resize="shorter-side-crop" if shorter else "squash",
            input_px=crop_px or resize_px,
            resize_px=resize_px if shorter or crop_px else None,
            interpolation=_RESAMPLE[filtered],
            mean=tuple(config["image_mean"]) if normalised else (0.0, 0.0, 0.0),
            std=tuple(config["image_std"]) if normalised else (1.0, 1.0, 1.0),
        )
    except (ValidationError, KeyError) as error:
        raise EncoderError("the preprocessing of this model is not complete", received=str(error)) from None


def empty_model(kind: str, config: Mapping[str, Any]) -> torch.nn.Module:
    """Build a transformers model from its configuration, without weights worth having."""
    transformers = require("transformers", "encoders")
    with torch.random.fork_rng(devices=[]):
        if kind == CLIP:
            return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))
        settings = dict(config)
        return transformers.AutoModel.from_config(
            transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
        )


def _finish(
    source: Source,
    entry: CatalogueEntry | None,
    model: torch.nn.Module,
    kind: str,
    missing: list[str],
    folder: Path,
    revision: str,
    trusted: bool,
    device: str | None,
    precision: Precision | None,
) -> TorchEncoder:
    """Check the pooling, place the model, write the card."""
    valid = _valid_poolings(kind, model, missing)
    pooling = choose_pooling(source.query.get("pooling"), entry.pooling if entry else valid[0], valid, source.rest)
    preprocessing = entry.preprocessing if entry else _preprocessing(source, folder, revision)
    target = choose_device(device)
    model = place(model, target)
    dim = probe_dim(embed_transformers, model, pooling, preprocessing.input_px or 224, target)
    if entry is not None and pooling == entry.pooling and dim != entry.dim:
        raise EncoderError(f"{entry.name} does not have the dimension of its card", received=dim, valid=entry.dim)
    card = EncoderCard(
        name=entry.name if entry else source.rest,
        kind="hf",
        source=f"hf:{source.rest}",
        dim=dim,
        preprocessing=preprocessing,
        pooling=pooling,
        precision=choose_precision(precision, entry.precision if entry else "fp32", target),
        revision=revision,
        weights_sha256=weights_digest(model),
        domain=entry.domain if entry else "unknown",
        licence=entry.licence if entry else "check the model page",
        gated=entry.gated if entry else False,
        settings={"trust_remote_code": True} if trusted else {},
        notes=entry.notes if entry else "",
    )
    config = model.config.to_dict()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    recipe = None if trusted else {"builder": "transformers", "class": kind, "model": _plain(config)}
    return TorchEncoder(card, model, embed_transformers, target, recipe)


def _refuse_packages(entry: CatalogueEntry | None) -> None:
    """Say how to use an encoder that only its own package can build."""
    if entry is not None and entry.package:
        raise EncoderError(
            f"{entry.name} can be built by its own package {entry.package!r} only, which histolatent does not contain",
            fix=f"install it from its authors, get access at https://huggingface.co/{entry.repository}, and wrap it: a "
            "function from uint8 (n, h, w, 3) to (n, d), named callable:FILE.py:FUNCTION",
        )


def _trusted(source: Source, entry: CatalogueEntry | None, config: Mapping[str, Any], revision: str) -> bool:
    """Say whether code of the repository may run: only if asked for, at a whole commit."""
    asked = yes_or_no(source, "trust_remote_code")
    if not asked and not (entry is not None and entry.remote_code) and "auto_map" not in config:
        return False
    if "weights" in source.query:
        raise EncoderError(f"{source.rest} runs code of its repository, which local weights do not bring along")
    if asked and source.revision is not None and len(source.revision) == _PINNED:
        return True
    raise EncoderError(
        f"{source.rest} runs Python code of its repository, which is done only when asked for, at a pinned commit",
        received=f"revision {source.revision}, trust_remote_code={'yes' if asked else 'no'}",
        fix=f"read that code, then load hf:{source.rest}@{revision}?trust_remote_code=yes",
    )


def _files(source: Source, revision: str, *, trusted: bool, gated: bool) -> Path:
    """Return a folder with config and weights under the names that transformers looks for."""
    if "weights" in source.query:
        path = Path(source.query["weights"]).expanduser()
        if path.name not in (SAFE, PICKLED):
            raise EncoderError(
                "transformers finds weights by name", received=path.name, valid=f"{SAFE} or {PICKLED}", fix="rename it"
            )
        return path.parent
    weights = fetch_weights(source.rest, revision, gated=gated)
    if weights.name.endswith(".index.json"):
        from .timm_models import read_config

        for shard in sorted(set(read_config(weights)["weight_map"].values())):
            fetch_weights(source.rest, revision, (shard,), gated=gated)
    if trusted:
        fetch_code(source.rest, revision, gated=gated)
    return weights.parent


def _read_model(folder: Path, config: Mapping[str, Any], *, trusted: bool) -> tuple[torch.nn.Module, str, list[str]]:
    """Load a model from a folder; return it, its class, and the weights that the file does not have.

    A pooler that is missing is set to zero, so that the weights do not depend on chance; any other gap is an error.
    """
    transformers = require("transformers", "encoders")
    kind = CLIP if config.get("model_type") == "clip" else "AutoModel"
    loader = getattr(transformers, kind)
    safe = any((folder / name).exists() for name in WEIGHTS[:2])
    with torch.random.fork_rng(devices=[]), plain_errors(folder):
        try:
            model, report = loader.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=trusted,
                use_safetensors=safe,
                output_loading_info=True,
            )
        except (ValueError, OSError) as error:
            text = " ".join(str(error).split())[:300]
            raise EncoderError("transformers cannot load this model", received=f"{folder}: {text}") from error
    missing = sorted(report["missing_keys"])
    gaps = [key for key in missing if not key.startswith("pooler.")]
    if gaps:
        raise EncoderError(
            "the weights file does not hold all weights of the model",
            received=f"{len(gaps)} missing, such as {', '.join(gaps[:3])}",
            fix="get the whole file again",
        )
    with torch.no_grad():
        for key in missing:
            model.get_parameter(key).zero_()
    return model, kind, missing


def _valid_poolings(kind: str, model: torch.nn.Module, missing: list[str]) -> tuple[Pooling, ...]:
    if kind == CLIP:
        return ("image-features",)
    pooled: tuple[Pooling, ...] = () if missing or getattr(model, "pooler", None) is None else ("pooled",)
    if not hasattr(model.config, "hidden_size"):  # a convolutional model has a width per stage
        return (*pooled, "mean")
    return ("cls", "mean", "cls+mean", *pooled)


def _preprocessing(source: Source, folder: Path, revision: str) -> Preprocessing:
    from .timm_models import read_config

    path: Path | None = folder / "preprocessor_config.json"
    if path is not None and not path.exists():
        path = None if "weights" in source.query else fetch(source.rest, "preprocessor_config.json", revision)
    if path is None:
        raise EncoderError(
            f"{source.rest} does not say how to prepare its input",
            received="no preprocessor_config.json",
            fix="put the one of the repository beside the weights, or wrap the model as callable:FILE.py:FUNCTION",
        )
    return preprocessing_from(read_config(path))


def _side(size: Any) -> int | None:
    """Return the side of a square size, however it is written."""
    if isinstance(size, int):
        return size
    if isinstance(size, dict) and size.get("height") == size.get("width"):
        return size.get("height")
    return None


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Keep what JSON can hold and a configuration can be built from."""
    return {
        key: value
        for key, value in config.items()
        if not key.startswith("_") and key not in ("dtype", "torch_dtype", "transformers_version", "architectures")
    }
