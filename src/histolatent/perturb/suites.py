"""Sets of operations: by name, or from a file of your own."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._types import Tile
from ..errors import HistolatentError, InputError, OptionError, nearest, unknown
from .donors import Donor
from .operation import OPERATIONS, SEVERITIES, Operation, climb

GEOMETRIC = ("rotation", "quarter-turn", "flip", "translation", "scale", "scale-down", "shear", "elastic")
PHOTOMETRIC = (
    "brightness",
    "brighter",
    "contrast-up",
    "contrast-down",
    "gamma",
    "saturation",
    "desaturation",
    "hue",
    "white-balance",
)
ACQUISITION = (
    "blur",
    "defocus",
    "motion-blur",
    "noise",
    "jpeg",
    "pixelate",
    "vignetting",
    "cross-talk",
    "virtual-scanner",
)
STAIN = (
    "hematoxylin-gain",
    "eosin-gain",
    "stain-gain",
    "fading",
    "stain-rotation",
    "hed-jitter",
    "restain",
    "protocol",
)
ARTEFACT = ("pen", "fold", "bubble", "dust", "cut-out")
MUST_REACT = ("nuclei-erased", "nuclei-dilated", "nuclei-eroded", "patch-shuffle", "phase-scramble", "tissue-swap")
CONTROLS = ("no-op", "rotation-there-and-back", "resampling", "jpeg-round-trip", "png-round-trip")

#: Each suite holds something of every role: without a must-react operation an audit has no selectivity, and without a
#: control no scale for what the machinery does.
SUITES: Mapping[str, tuple[str, ...]] = {
    "quick": (
        "rotation",
        "flip",
        "blur",
        "jpeg",
        "brightness",
        "hematoxylin-gain",
        "eosin-gain",
        "nuclei-erased",
        "rotation-there-and-back",
    ),
    "standard": (
        "rotation",
        "quarter-turn",
        "flip",
        "scale",
        "elastic",
        "brightness",
        "contrast-down",
        "gamma",
        "white-balance",
        "blur",
        "noise",
        "jpeg",
        "virtual-scanner",
        "hematoxylin-gain",
        "eosin-gain",
        "stain-rotation",
        "protocol",
        "pen",
        "bubble",
        "nuclei-erased",
        "patch-shuffle",
        "tissue-swap",
        "rotation-there-and-back",
        "resampling",
        "jpeg-round-trip",
    ),
    "full": (*GEOMETRIC, *PHOTOMETRIC, *ACQUISITION, *STAIN, *ARTEFACT, *MUST_REACT, *CONTROLS),
    "stain": (*STAIN, "nuclei-erased", "no-op"),
    "scanner": (*PHOTOMETRIC, *ACQUISITION, "nuclei-erased", "jpeg-round-trip", "png-round-trip"),
    "geometry": (*GEOMETRIC, "patch-shuffle", "rotation-there-and-back", "resampling", "no-op"),
    "must-react": (*MUST_REACT, "flip", "brightness", "blur", "no-op"),
}
FIELDS = ("include", "operations", "exclude", "levels")


def suite(name: str | os.PathLike[str]) -> tuple[Operation, ...]:
    """Return the operations of a suite: one of `SUITES`, or a TOML file (its name ends in `.toml`).

    A file picks operations, and may set their levels:

    ```toml
    include = ["quick"]
    operations = ["pen", "fold"]
    exclude = ["flip"]

    [levels]
    blur = [0.1, 0.2, 0.3, 0.4, 0.5]
    ```

    Operations come in this order: those of the suites in `include`, then `operations`, each once, less `exclude`.

    Raises
    ------
    OptionError
        If there is no such suite, or the file names something unknown or wrong: the message names file and field.
    InputError
        If the file cannot be read, or is no TOML.
    """
    if str(name).lower().endswith(".toml"):
        return read_suite(name)
    if str(name) not in SUITES:
        error = unknown("suite", str(name), SUITES)
        raise OptionError(error.what, valid=f"{error.valid}, or a file.toml", fix=error.fix)
    return tuple(OPERATIONS[operation] for operation in SUITES[str(name)])


def read_suite(path: str | os.PathLike[str]) -> tuple[Operation, ...]:
    """Return the operations of a suite file. See `suite`."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"the suite file cannot be read: {reason}", received=Path(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the suite file is no TOML: {error}", received=Path(path)) from None
    try:
        return _resolve(document)
    except HistolatentError as error:
        raise OptionError(
            f"{Path(path).name}: {error.what}", received=error.received, valid=error.valid, fix=error.fix
        ) from None


def _resolve(document: Mapping[str, Any]) -> tuple[Operation, ...]:
    _check_keys(document)
    names: list[str] = []
    for part in _strings(document, "include"):
        if part not in SUITES:
            raise _in_field("include", unknown("suite", part, SUITES))
        names += SUITES[part]
    names += [_known("operations", name) for name in _strings(document, "operations")]
    out = [_known("exclude", name) for name in _strings(document, "exclude")]
    chosen = [name for name in dict.fromkeys(names) if name not in out]
    for name in out:
        if name not in names:
            raise OptionError(f"exclude: {name!r} is not in the suite", valid=", ".join(dict.fromkeys(names)) or "none")
    levels = document.get("levels", {})
    if not isinstance(levels, dict):
        raise OptionError("levels is no table", received=repr(levels), fix="[levels], then blur = [0.1, 0.2, ...]")
    for name in levels:
        _known("levels", name)
        if name not in chosen:
            raise OptionError(f"levels: {name!r} is not in the suite", fix=f"add {name!r} to operations")
    if not chosen:
        raise OptionError("the suite holds no operation", fix='operations = ["blur"], or include = ["quick"]')
    return tuple(_at_levels(OPERATIONS[name], levels.get(name)) for name in chosen)


def _check_keys(document: Mapping[str, Any]) -> None:
    for key in document:
        if key not in FIELDS:
            guess = nearest(key, FIELDS)
            raise OptionError(
                f"unknown key {key!r}", valid=", ".join(FIELDS), fix=f"did you mean {guess!r}?" if guess else None
            )


def _strings(document: Mapping[str, Any], field: str) -> list[str]:
    found = document.get(field, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise OptionError(
            f"{field} is no list of names",
            received=repr(found),
            fix=f'{field} = ["{"quick" if field == "include" else "blur"}"]',
        )
    return found


def _known(field: str, name: str) -> str:
    if name not in OPERATIONS:
        raise _in_field(field, unknown("perturbation", name, OPERATIONS))
    return name


def _in_field(field: str, error: OptionError) -> OptionError:
    return OptionError(f"{field}: {error.what}", received=error.received, valid=error.valid, fix=error.fix)


def _at_levels(operation: Operation, levels: object) -> Operation:
    if levels is None:
        return operation
    numbers = isinstance(levels, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in levels)
    if not isinstance(levels, list) or not numbers:
        raise OptionError(f"levels.{operation.name} is no list of numbers", received=repr(levels), valid="five numbers")
    try:
        return operation.at(levels)
    except OptionError as error:
        raise _in_field("levels", error) from None


@dataclass(frozen=True)
class Ladder:
    """All renderings of a tile that an audit looks at: the tile, then every operation at every severity.

    Operations may be given by name. `donors` are tiles that a tissue swap may take its tissue from.

    Raises
    ------
    OptionError
        If an operation is unknown, or there twice.
    """

    operations: Sequence[str | Operation]
    seed: int = 0
    assumed_mpp: float | None = None
    donors: tuple[Donor, ...] = ()

    def __post_init__(self) -> None:
        found = tuple(OPERATIONS[item] if isinstance(item, str) else item for item in self.operations)
        names = [operation.name for operation in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise OptionError("an operation is in the ladder twice", received=", ".join(twice))
        object.__setattr__(self, "operations", found)

    @property
    def resolved(self) -> tuple[Operation, ...]:
        """The operations themselves."""
        return tuple(item for item in self.operations if isinstance(item, Operation))

    @property
    def steps(self) -> tuple[tuple[str, int], ...]:
        """Operation and severity of each view after the first."""
        return tuple((operation.name, severity) for operation in self.resolved for severity in SEVERITIES)

    @property
    def names(self) -> tuple[str, ...]:
        """Return `tile`, then names such as `blur@3`."""
        return ("tile", *(f"{operation}@{severity}" for operation, severity in self.steps))

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sequence[Tile]:
        """Render every step; `mpp` of the tile counts before the assumed one."""
        scale = mpp or self.assumed_mpp
        views = [tile]
        for operation in self.resolved:
            views += climb(tile, operation, tile_id=tile_id, seed=self.seed, mpp=scale, donors=self.donors)
        return views
