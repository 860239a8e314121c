"""Errors that say what is wrong, what was received, what is valid and how to fix it."""

import difflib
import importlib
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

#: Registries have fewer names than this; slides of a cohort may be thousands.
MOST_NAMES = 60


class HistolatentError(Exception):
    """Base of every error that histolatent raises on purpose.

    The message has up to four parts, in this order: what is wrong, what was received, what is valid, how to fix it.

    >>> print(HistolatentError("tile size is no number", received="abc", valid="an integer", fix="pass --tile-px 96"))
    tile size is no number. Received: abc. Valid: an integer. Fix: pass --tile-px 96
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        received: object | None = None,
        valid: object | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.received, self.valid, self.fix = what, received, valid, fix
        parts = [
            what,
            *(f"{word}: {part}" for word, part in (("Received", received), ("Valid", valid)) if part is not None),
        ]
        if fix is not None:
            parts.append(f"Fix: {fix}")
        super().__init__(". ".join(parts))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.received, self.valid, self.fix)


def _rebuild(
    kind: type[HistolatentError], what: str, received: object, valid: object, fix: str | None
) -> HistolatentError:
    return kind(what, received=received, valid=valid, fix=fix)


class InputError(HistolatentError):
    """Data that cannot be used: a file, a manifest, an array, a table."""


class OptionError(HistolatentError):
    """An argument, option, name or configuration key that is not valid."""


class EncoderError(HistolatentError):
    """An encoder that cannot be loaded, or that breaks its own contract."""


class OperationError(HistolatentError):
    """A perturbation that fails, or returns no tile."""


class OutputError(HistolatentError):
    """A result that cannot be written, or must not be overwritten."""


class TrainingError(HistolatentError):
    """A training that failed; what it had is kept."""


class CompactionError(HistolatentError):
    """A compaction that could not be trained, or that came out as nothing of use."""


class MissingExtraError(HistolatentError):
    """A feature whose optional dependencies are not installed."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name most like `name`, or None if nothing is.

    >>> nearest("gausian", ["gaussian", "jpeg"])
    'gaussian'
    """
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(kind: str, name: str, names: Iterable[str]) -> OptionError:
    """Build the error for a name that is not one of `names`, with the nearest one. Of many names, some are listed."""
    names = sorted(names)
    guess = nearest(name, names)
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return OptionError(
        f"no {kind} is called {name!r}",
        valid=", ".join(names[:MOST_NAMES]) + more or "none",
        fix=f"did you mean {guess!r}?" if guess else None,
    )


def misfits(errors: Iterable[Mapping[str, Any]], whole: str) -> list[str]:
    """Return the errors of a pydantic model, each as the place and what is wrong there; `whole` is the place of all."""
    return [f"{'.'.join(map(str, part['loc'])) or whole}: {part['msg']}" for part in errors]


def described(error: BaseException) -> str:
    """Return what an exception of somebody else's code says, and where it was raised, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}{f' ({said})' if said else ''}{where}"


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises
    ------
    MissingExtraError
        One sentence with the install line, if `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{module.split('.')[0]} is not installed", fix=f"pip install 'histolatent[{extra}]'"
        ) from None
