"""Packages whose names are loaded when they are first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, names: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """Return a module's `__getattr__`. `names` maps each module below `package` to the names that come from it.

    A name must not be that of a module: the import system would put the module in its place.
    """
    homes = {name: home for home, group in names.items() for name in group}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return load
