"""Named things, each registered once and looked up with a helpful error."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from .errors import unknown

T = TypeVar("T")


class PluginWarning(UserWarning):
    """A plug-in that could not be used. Everything else works without it."""


class Registry(Mapping[str, T], Generic[T]):
    """A read-mostly mapping from names to things of one kind, in order of registration.

    With `group`, other packages add to it: each entry point of that group is loaded when the registry is first read,
    and `take` turns what it names into things by name. One that fails, or takes a name that is in use, gives a
    PluginWarning with its name and its package, and is left out whole.

    >>> shapes = Registry[int]("shape")
    >>> shapes.register("square", 4)
    4
    >>> shapes["squar"]
    Traceback (most recent call last):
        ...
    histolatent.errors.OptionError: no shape is called 'squar'. Valid: square. Fix: did you mean 'square'?
    """

    def __init__(
        self, kind: str, group: str | None = None, take: Callable[[object], Mapping[str, T]] | None = None
    ) -> None:
        self.kind = kind
        self.group = group
        self._take = take
        self._items: dict[str, T] = {}
        self._added: dict[str, str] = {}
        self._loaded = group is None

    @property
    def added(self) -> Mapping[str, str]:
        """The plug-in, such as `smear (my-package 1.2)`, of each name that does not come with histolatent."""
        self._load()
        return dict(self._added)

    def register(self, name: str, item: T) -> T:
        """Add `item` under `name`; a name is registered once."""
        if name in self._items:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._items[name] = item
        return item

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # first, since a plug-in may read the registry itself
        for point in entry_points(group=str(self.group)):
            title = _title(point)
            try:
                found = dict(self._take(point.load())) if self._take else {}
            except Exception as error:  # noqa: BLE001 - it is not ours: it may raise anything, and must not stop the rest
                said = f"{type(error).__name__}: {error}"
                _warn(f"the plug-in {title} could not be loaded, and is left out: {said}")
                continue
            taken = sorted(set(found) & set(self._items))
            if taken:
                names = ", ".join(map(repr, taken))
                _warn(f"the plug-in {title} is left out: another {self.kind} is already called {names}")
                continue
            self._items.update(found)
            self._added.update(dict.fromkeys(found, title))

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._items[name]
        except KeyError:
            raise unknown(self.kind, name, self._items) from None

    def get(self, name: str, default: T | None = None) -> T | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return what is called `name`, or `default`: asking is no error."""
        self._load()
        return self._items.get(name, default)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._items)

    def __len__(self) -> int:
        self._load()
        return len(self._items)


def _title(point: EntryPoint) -> str:
    package = point.dist
    return (
        f"{point.name} ({package.name} {package.version})" if package is not None else f"{point.name} ({point.value})"
    )


def _warn(text: str) -> None:
    warnings.warn(PluginWarning(text), stacklevel=5)
