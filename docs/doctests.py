"""Set examples of a docstring apart from the section before them, for the reference.

The house style ends a docstring with a bare doctest. The NumPy style reads it as a part of the last section, so a
heading is put before it.
"""

import re
from typing import Any

import griffe

FIRST = re.compile(r"^(?=>>> )", re.MULTILINE)


class Doctests(griffe.Extension):
    """Put `Examples` before the first doctest of each docstring that has none."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one docstring."""
        if obj.docstring is not None and "Examples\n---" not in obj.docstring.value:
            obj.docstring.value = FIRST.sub("Examples\n--------\n", obj.docstring.value, count=1)
