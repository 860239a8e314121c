"""Named things, each registered once and looked up with a helpful error."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from .errors import unknown

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A read-mostly mapping from names to things of one kind, in order of registration.

    >>> shapes = Registry[int]("shape")
    >>> shapes.register("square", 4)
    4
    >>> shapes["squar"]
    Traceback (most recent call last):
        ...
    histolatent.errors.OptionError: no shape is called 'squar'. Valid: square. Fix: did you mean 'square'?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, name: str, item: T) -> T:
        """Add `item` under `name`; a name is registered once."""
        if name in self._items:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._items[name] = item
        return item

    def __getitem__(self, name: str) -> T:
        try:
            return self._items[name]
        except KeyError:
            raise unknown(self.kind, name, self._items) from None

    def get(self, name: str, default: T | None = None) -> T | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return what is called `name`, or `default`: asking is no error."""
        return self._items.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
