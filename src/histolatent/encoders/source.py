"""The grammar of encoder names: `scheme:rest[@revision][?key=value&...]`."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from ..errors import OptionError, nearest, unknown

COMMON_KEYS = frozenset({"precision", "verify"})
KEYS = {
    "timm": COMMON_KEYS | {"weights", "revision", "pooling", "img_size"},
    "timm-random": COMMON_KEYS | {"seed", "img_size", "pooling"},
    "hf": COMMON_KEYS | {"weights", "revision", "pooling", "trust_remote_code"},
    "onnx": COMMON_KEYS,
    "callable": COMMON_KEYS,
    "npy": COMMON_KEYS,
    "folder": COMMON_KEYS | {"trust_base"},
    "toy": COMMON_KEYS | {"seed"},
}
CATALOGUE_KEYS = KEYS["timm"] | KEYS["hf"]
_REVISED = frozenset({"timm", "hf"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)  # two letters or more: C:\ is a path
_QUERY = re.compile(r"\?((?:[A-Za-z_]+=[^?]*)?)$", re.DOTALL)


@dataclass(frozen=True)
class Source:
    """A parsed encoder name. `scheme` is empty for a path or a bare name, to be told apart by what exists."""

    scheme: str
    rest: str
    revision: str | None = None
    query: dict[str, str] = field(default_factory=dict)


def parse_source(name: str) -> Source:
    r"""Split an encoder name into its parts.

    A revision is split off for `timm` and `hf` only, so that paths may hold `@`. Values of the query may be
    percent-encoded.

    Raises
    ------
    OptionError
        For an unknown scheme or key (with the nearest valid one), and for a revision given twice.

    >>> parse_source("hf:owkin/phikon@main?precision=fp16")
    Source(scheme='hf', rest='owkin/phikon', revision='main', query={'precision': 'fp16'})
    >>> parse_source("C:\\encoders\\ours").rest
    'C:\\encoders\\ours'
    """
    body, query = _split_query(name)
    matched = _SCHEME.fullmatch(body)
    scheme, rest = (matched[1].lower(), matched[2]) if matched else ("", body)
    if scheme and scheme not in KEYS:
        if Path(body).exists():
            scheme, rest = "", body
        else:
            raise unknown("encoder scheme", scheme, KEYS)
    revision = None
    if scheme in _REVISED or (not scheme and not Path(rest).exists()):
        rest, _, after = rest.partition("@")
        revision = after or None
    if "revision" in query:
        if revision is not None:
            raise OptionError("the revision is given twice", received=name, valid="@revision or ?revision=, not both")
        revision = query.pop("revision") or None
    if not rest:
        raise OptionError("the encoder has no name", received=name, valid=f"{scheme or 'scheme'}:NAME")
    return Source(scheme, rest, revision, query)


def check_keys(source: Source, keys: frozenset[str]) -> None:
    """Raise OptionError for a query key that the scheme does not take."""
    for key in source.query:
        if key not in keys:
            guess = nearest(key, keys)
            raise OptionError(
                f"{source.scheme or 'this kind of encoder'} does not take the key {key!r}",
                valid=", ".join(sorted(keys)),
                fix=f"did you mean {guess!r}?" if guess else None,
            )


def whole_number(source: Source, key: str, default: int | None) -> int | None:
    """Read a whole number from 0 from the query."""
    text = source.query.get(key)
    if text is None:
        return default
    if not text.isdecimal():
        raise OptionError(f"{key} is not a whole number", received=repr(text), valid=f"?{key}=0, 1, 2, ...")
    return int(text)


def yes_or_no(source: Source, key: str) -> bool:
    """Read `yes` or `no` from the query; absent means no."""
    text = source.query.get(key, "no")
    if text not in ("yes", "no"):
        raise OptionError(f"{key} is neither yes nor no", received=repr(text), valid=f"?{key}=yes or ?{key}=no")
    return text == "yes"


def _split_query(name: str) -> tuple[str, dict[str, str]]:
    matched = _QUERY.search(name)
    if matched is None:
        return name, {}
    query: dict[str, str] = {}
    for part in filter(None, matched[1].split("&")):
        key, equals, value = part.partition("=")
        if not equals or key in query:
            raise OptionError(
                "the query is not key=value&key=value", received=name, valid="each key once, with a value"
            )
        query[key] = unquote(value)
    return name[: matched.start()], query
