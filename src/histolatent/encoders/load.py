"""Any encoder by one string."""

from pathlib import Path
from typing import get_args

from ..errors import OptionError, unknown
from .card import Precision
from .protocol import Encoder
from .source import CATALOGUE_KEYS, KEYS, Source, check_keys, parse_source, whole_number, yes_or_no


def encoder(name: str, *, device: str | None = None, precision: str | None = None) -> Encoder:
    """Load an encoder by name: `scheme:rest[@revision][?key=value&...]`.

    | name | what it loads |
    | --- | --- |
    | `uni2-h`, `phikon-v2`, ... | an encoder of the catalogue, with its card |
    | `timm:NAME`, `timm:hf-hub:ORG/NAME@REVISION` | pretrained weights in timm's architecture |
    | `timm-random:NAME?seed=0&img_size=96` | the architecture with seeded random weights |
    | `hf:ORG/NAME@REVISION` | a model of the Hugging Face hub (transformers, or timm if its config says so) |
    | `onnx:FILE.onnx` | an ONNX file with a card beside it |
    | `callable:MODULE:FUNCTION`, `callable:FILE.py:FUNCTION` | a Python function |
    | `npy:VECTORS.npy` | precomputed vectors; pixels cannot be embedded |
    | `folder:PATH`, or a path | a folder that `save_encoder` wrote |
    | `toy:NAME?seed=0` | a baseline without weights |

    Keys: `precision=fp32|fp16|bf16` and `verify=yes` for all; `weights=PATH` (local weights in place of the hub's),
    `revision=`, `pooling=` for timm and hf; `img_size=` for timm; `seed=` for timm-random and toy;
    `trust_remote_code=yes` for hf; `trust_base=yes` for a compaction that lies on a Python function.

    `device` is `cuda`, `cuda:1`, `mps` or `cpu`; by default the best that is there. `precision` defaults to the one of
    the card on a CUDA device, and to fp32 elsewhere, where the lower ones are slower and less exact; the card of the
    loaded encoder says what is in use.

    Raises
    ------
    OptionError
        For a name, key or value that is not valid.
    EncoderError
        If the weights, their revision or their card cannot be had, with the way to get them.

    >>> encoder("toy:colour-histogram").card.dim
    112
    """
    source = parse_source(name)
    if not source.scheme:
        source, card_name = _resolve_bare(source)
    else:
        card_name = None
    check_keys(source, CATALOGUE_KEYS if card_name else KEYS[source.scheme])
    precision = _precision(precision, source)
    loaded = _load(source, card_name, device, precision)
    if yes_or_no(source, "verify"):
        from .folder import verify

        verify(loaded)
    return loaded


def _load(source: Source, card_name: str | None, device: str | None, precision: Precision | None) -> Encoder:
    """Dispatch on the scheme; what is heavy is imported by the branch that needs it."""
    if source.scheme not in ("timm", "timm-random", "hf", "folder", "onnx") and precision not in (None, "fp32"):
        raise OptionError(f"{source.scheme} encoders have no {precision} version", valid="precision=fp32")
    match source.scheme:
        case "toy":
            from .toys import toy_encoder

            return toy_encoder(source.rest, seed=whole_number(source, "seed", 0) or 0)
        case "npy":
            from .vectors import load_vectors

            return load_vectors(Path(source.rest))
        case "callable":
            from .callables import load_callable

            return load_callable(source.rest)
        case "onnx":
            from .onnx_models import load_onnx

            return load_onnx(Path(source.rest), device=device, precision=precision)
        case "folder":
            from .folder import load_folder

            trusted = yes_or_no(source, "trust_base")
            return load_folder(Path(source.rest), device=device, precision=precision, trust_base=trusted)
        case "timm-random":
            from .timm_models import load_random

            return load_random(source, device=device, precision=precision)
        case "timm":
            from .timm_models import load_timm

            return load_timm(source, card_name, device=device, precision=precision)
        case _:
            from .hf_models import load_hf

            return load_hf(source, card_name, device=device, precision=precision)


def _resolve_bare(source: Source) -> tuple[Source, str | None]:
    """Tell a folder from a name of the catalogue; return the full source and the catalogue's name."""
    from .catalogue import catalogue_entry, entry_names

    path = Path(source.rest).expanduser()
    if path.is_dir():
        return Source("folder", str(path), source.revision, source.query), None
    if path.is_file():
        scheme = {".onnx": "onnx", ".npy": "npy"}.get(path.suffix.lower())
        raise OptionError(
            "an encoder is given as a file without a scheme",
            received=source.rest,
            fix=f"write {scheme}:{source.rest}" if scheme else "write callable:, onnx: or npy: before it",
        )
    if source.rest in entry_names():
        full = parse_source(catalogue_entry(source.rest).string)
        return Source(full.scheme, full.rest, source.revision or full.revision, source.query), source.rest
    if any(mark in source.rest for mark in "/\\"):
        raise OptionError(
            "there is no such folder",
            received=source.rest,
            valid="a folder with card.json, or scheme:name",
            fix=f"write hf:{source.rest} for a model of the Hugging Face hub" if source.rest.count("/") == 1 else None,
        )
    raise unknown("encoder", source.rest, [*entry_names(), *(f"{scheme}:..." for scheme in KEYS)])


def _precision(precision: str | None, source: Source) -> Precision | None:
    """Return the precision asked for, by argument or by key, checked."""
    asked = precision or source.query.get("precision")
    if precision and source.query.get("precision", precision) != precision:
        raise OptionError("two precisions are given", received=f"{precision} and {source.query['precision']}")
    for known in get_args(Precision):
        if asked == known:
            return known
    if asked is None:
        return None
    raise unknown("precision", asked, get_args(Precision))
