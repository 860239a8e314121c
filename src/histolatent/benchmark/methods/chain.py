"""Methods by name, and chains of them: `macenko+compact` normalises, and then trains on what came out."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import OptionError
from ...registry import Registry
from . import alignment, compaction, normalisers, plain, transfer
from .base import STAGES, Method
from .plain import AS_IT_IS


def _take(item: object) -> Mapping[str, Method]:
    found = [item] if isinstance(item, Method) else list(item)  # pyright: ignore[reportArgumentType]
    for method in found:
        if not isinstance(method, Method):
            raise TypeError(f"{method!r} is no Method")
    return {method.name: method for method in found}


#: Every method by name. Other packages add to it by the entry point group `histolatent.methods`.
METHODS: Registry[Method] = Registry("method", "histolatent.methods", _take)
for _module in (plain, normalisers, transfer, alignment, compaction):
    for _method in _module.METHODS:
        METHODS.register(_method.name, _method)


@dataclass(frozen=True)
class Chain:
    """Methods that act one after the other: at most one on tiles, one network, one on vectors.

    It travels to other processes as the `text` that it was parsed from.
    """

    text: str
    name: str
    tiles: Method | None
    encoder: Method
    vectors: Method | None

    def __reduce__(self) -> tuple[object, ...]:
        return parse_chain, (self.text,)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, in the order in which they act."""
        return tuple(method for method in (self.tiles, self.encoder, self.vectors) if method is not None)

    @property
    def needs_target(self) -> bool:
        """Whether any of them needs unlabelled tiles of the sites that it is judged at."""
        return any(method.needs_target for method in self.methods)

    @property
    def embeds(self) -> tuple[Method, ...]:
        """The methods but its change of vectors: chains that share these share what was trained."""
        return tuple(method for method in (self.tiles, self.encoder) if method is not None)

    @property
    def network(self) -> str:
        """What these are called."""
        return "+".join(method.name for method in self.embeds if method.name != AS_IT_IS) or AS_IT_IS


def parse_chain(text: str) -> Chain:
    """Return a chain from the names of its methods: `none`, `macenko`, `reinhard+linear`.

    A name that ends in `.py:NAME` is a Method in a file.

    Raises
    ------
    OptionError
        If there is no such method, or two act at the same stage, or not in the order tiles, network, vectors.
    """
    found: dict[str, Method] = {}
    for name in text.split("+"):
        method = _from_file(name) if _in_file(name) else METHODS[name.strip()]
        if method.stage in found:
            raise OptionError(
                "two methods of a chain act at the same stage",
                received=f"{text}: {found[method.stage].name} and {method.name} on the {method.stage}",
                valid="one on tiles, one encoder, one on vectors",
            )
        if any(STAGES.index(stage) > STAGES.index(method.stage) for stage in found):
            raise OptionError(
                "the methods of a chain do not stand in the order in which they act",
                received=text,
                valid="tiles, then encoder, then vectors",
            )
        found[method.stage] = method
    name = "+".join(method.name for method in found.values())
    return Chain(text, name, found.get("tiles"), found.get("encoder", METHODS[AS_IT_IS]), found.get("vectors"))


def _in_file(name: str) -> bool:
    return ".py:" in name


def _from_file(text: str) -> Method:
    place, _, name = text.rpartition(":")
    path = Path(place)
    if not path.is_file():
        raise OptionError("there is no such file", received=place, valid="FILE.py:NAME, where NAME is a Method")
    spec = importlib.util.spec_from_file_location(f"histolatent_method_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a file that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    method = getattr(module, name, None)
    if not isinstance(method, Method):
        there = [key for key, value in vars(module).items() if isinstance(value, Method)]
        raise OptionError("this is no Method", received=text, valid=", ".join(there) or "a Method, by its name")
    return replace(method, file=path)
