"""Frozen results of a fit: how a slide is stained, or what its colours are. They serialise, and never change."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError, OptionError, nearest, unknown
from ..outputs import whole
from .vectors import RUIFROK, STAIN_SETS, Rows, angle, flat, lead

FORMAT = 1
#: Numbers are strict: JSON's true is no 1, and "240" is no 240.
Number = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Vector = tuple[Number, Number, Number]
Level = Annotated[float, Field(ge=1, le=256, strict=True)]
White = tuple[Level, Level, Level]
Shade = Annotated[float, Field(ge=0, le=256, strict=True)]
Colour = tuple[Shade, Shade, Shade]
Degrees = Annotated[float, Field(ge=0, le=180, strict=True)]
#: Mean and spread of a component of a colour space. No space here has a component beyond 255.
Component = Annotated[float, Field(ge=-1000, le=1000, strict=True)]
Spread = Annotated[float, Field(ge=0, le=1000, strict=True)]
#: Why a fit is not usable; the first that applies. `ok` is the only one that is.
REASONS: Mapping[str, str] = {
    "ok": "usable",
    "too-little-tissue": "fewer than 100 pixels of stained tissue",
    "one-stain": "the colours do not span two stains",
    "unclear-order": "it is not clear which of the two colours is which stain",
    "far-from-canonical": "a stain lies more than 45 degrees from its canonical vector",
    "looks-like-dab": "the second stain is nearer to DAB than to eosin: immunohistochemistry given as H&E?",
    "flat-colour": "the tissue has one colour, so no spread to match",
}
Reason = Literal[
    "ok", "too-little-tissue", "one-stain", "unclear-order", "far-from-canonical", "looks-like-dab", "flat-colour"
]
FINITE = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
#: How a slide may be matched to a reference: by name, what is fitted for it.
NORMALIZERS: Mapping[str, str] = MappingProxyType(
    {
        "macenko": "macenko",
        "vahadane": "vahadane",
        "fixed": "fixed",
        "reinhard": "lab",
        "reinhard-ruderman": "ruderman",
        "reinhard-modified": "lab",
    }
)
#: The kinds of a fit, as `kind` names them.
KINDS = ("stain", "colour")
#: How far a fitted vector may lie from its canonical one.
FARTHEST_DEGREES = 45.0
#: Fewer pixels of tissue are no fit.
FEWEST_TISSUE = 100
#: An amount of stain below which there is next to none.
FAINTEST = 0.1


def _writable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start + 1} is half of a pair, and cannot be written") from None
    return text


#: Text that a file or a terminal can show.
Text = Annotated[str, AfterValidator(_writable)]


class _Fit(BaseModel):
    model_config = FINITE

    #: I0: the level of empty slide per channel, where it came from, and what was added to a level before the logarithm.
    white: White
    white_source: Literal["background", "default", "given"]
    offset: Literal[0, 1] = 0
    #: Mean colour of the tissue, and of all that is not background, ink included; levels.
    tissue_colour: Colour
    stained_colour: Colour
    tissue_pixels: Count
    tiles: Annotated[int, Field(ge=1, strict=True)]
    tiles_used: Count
    reason: Reason

    @property
    def valid(self) -> bool:
        """Whether the fit may be used. If not, tiles are left as they are."""
        return self.reason == "ok"

    @property
    def why(self) -> str:
        """The reason in words."""
        return REASONS[self.reason]


class StainModel(_Fit):
    """How a slide is stained.

    `vectors` are unit rows of natural-log optical density, one per stain; `max_concentrations` the 99th percentile of
    each stain's amount over tissue; `canonical_degrees` the angle of each vector to the Ruifrok-Johnston one;
    `spread_degrees` the median angle of single tiles to the slide's vector (0 with one tile): a wide spread says that
    the slide has no one staining.
    """

    kind: Literal["stain"] = "stain"
    method: Literal["fixed", "given", "macenko", "vahadane"]
    stains: tuple[str, ...] = Field(min_length=2, max_length=3)
    vectors: tuple[Vector, ...]
    max_concentrations: tuple[Annotated[float, Field(ge=0, le=100, strict=True)], ...]
    canonical_degrees: tuple[Degrees, ...]
    spread_degrees: tuple[Degrees, ...]

    @model_validator(mode="after")
    def _check(self) -> "StainModel":
        if self.method != "given" and self.stains not in STAIN_SETS.values():
            raise ValueError(f"stains must be one of {', '.join(map(str, STAIN_SETS.values()))}")
        for name in ("vectors", "max_concentrations", "canonical_degrees", "spread_degrees"):
            if len(getattr(self, name)) != len(self.stains):
                raise ValueError(f"{name} must have one entry for each of {len(self.stains)} stains")
        if any(abs(math.hypot(*vector) - 1) > 1e-3 for vector in self.vectors):
            raise ValueError("vectors must be of length 1")
        if flat(self.rows):
            raise ValueError("vectors must not lie on one line, or in one plane")
        if self.valid and self.method in ("macenko", "vahadane") and min(self.max_concentrations) < FAINTEST:
            raise ValueError(f"max_concentrations of a usable fit must be at least {FAINTEST}")
        if self.valid and self.method in ("macenko", "vahadane"):
            if self.tissue_pixels < FEWEST_TISSUE or self.tiles_used < 1:
                raise ValueError(f"a usable fit has at least {FEWEST_TISSUE} tissue_pixels, of tiles_used")
            canonical = np.array([RUIFROK[stain] for stain in self.stains])
            if max(angle(*pair) for pair in zip(self.rows, canonical, strict=True)) > FARTHEST_DEGREES:
                raise ValueError(f"vectors of a usable fit lie within {FARTHEST_DEGREES:g} degrees of canonical ones")
            name = next(name for name, stains in STAIN_SETS.items() if stains == self.stains)
            if len(self.stains) == 2 and lead(self.rows, name) <= 0:
                raise ValueError(f"vectors of a usable fit lead from {self.stains[0]} to {self.stains[1]}")
        if self.tiles_used > self.tiles:
            raise ValueError("tiles_used is more than tiles")
        return self

    @property
    def rows(self) -> Rows:
        """The vectors as an array `(stains, 3)`."""
        return np.array(self.vectors)

    @property
    def separation_degrees(self) -> float:
        """The angle between the first two stains."""
        return angle(self.rows[0], self.rows[1])


class ColourModel(_Fit):
    """Mean and standard deviation of a slide's tissue per channel of a colour space: what Reinhard's method matches."""

    kind: Literal["colour"] = "colour"
    space: Literal["lab", "ruderman"]
    mean: tuple[Component, Component, Component]
    sd: tuple[Spread, Spread, Spread]


Fit = StainModel | ColourModel
#: A fit of either kind, as it is read from JSON.
AnyFit = Annotated[Fit, Field(discriminator="kind")]


class Facts(BaseModel):
    """How many tiles a slide has, how many of them were read, and which share of their area (0 to 1) is tissue."""

    model_config = FINITE | ConfigDict(extra="allow")

    tiles: int | None = Field(default=None, ge=0)
    sampled: int | None = Field(default=None, ge=0)
    tissue_share: float | None = Field(default=None, ge=0, le=1)


class Provenance(BaseModel):
    """What fits were made from, and what was met: facts of each slide and of all, tiles skipped, notes, and more."""

    model_config = FINITE | ConfigDict(extra="allow")

    slides: dict[str, Facts] = {}
    overall: Facts = Facts()
    skipped: dict[str, str] = {}
    notes: list[str] = []


class StainBook(BaseModel):
    """The fits of a cohort: one per slide, and one over all of it. This is what `stain.json` holds.

    `method` is a key of NORMALIZERS, and every fit is one of that method.
    """

    model_config = FINITE

    format: Literal[1] = FORMAT
    source: Text
    method: str
    overall: AnyFit
    slides: dict[str, AnyFit] = {}
    provenance: Provenance = Provenance()

    @model_validator(mode="after")
    def _check(self) -> "StainBook":
        if self.method not in NORMALIZERS:
            raise ValueError(f"method must be one of {', '.join(NORMALIZERS)}")
        for name, fit in (("overall", self.overall), *((f"slides.{name}", fit) for name, fit in self.slides.items())):
            found = fit.method if isinstance(fit, StainModel) else fit.space
            if found != NORMALIZERS[self.method] and (found, self.method) != ("given", "fixed"):
                raise ValueError(f"{name} is a fit of {found}, not of {self.method}")
        return self

    def of(self, slide: str) -> Fit:
        """Return the fit of a slide. Raises OptionError, with the nearest name, if there is none."""
        if slide not in self.slides:
            raise unknown("slide in the stain file", slide, self.slides)
        return self.slides[slide]

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write as JSON. Raises OutputError if it cannot, or the file exists."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
        with whole(path, overwrite=overwrite) as part:
            part.write_text(text + "\n", encoding="utf-8")


def read_book(path: str | os.PathLike[str]) -> StainBook:
    """Read a `stain.json`.

    Raises
    ------
    InputError
        If it is missing, no JSON, of another format, or a field is wrong: the message names the field.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "stain file not found", received=path, fix="histolatent stain fit SRC --out stain.json"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the stain file cannot be read ({error})", received=path) from None
    if not isinstance(document, dict) or "overall" not in document:
        raise InputError("this is JSON, but no stain file: it has no 'overall'", received=path)
    if document.get("format") is True or document.get("format") != FORMAT:
        raise InputError("unknown format of a stain file", received=document.get("format"), valid=FORMAT)
    try:
        book = StainBook.model_validate(document)
        json.dumps(book.model_dump(mode="json"), allow_nan=False).encode()
        return book
    except ValidationError as error:
        first = error.errors()[0]
        # A fit may be of two kinds, and Pydantic names the kind in the path.
        where = [str(part) for place, part in enumerate(first["loc"]) if part not in KINDS or place not in (1, 2)]
        field = "field " + ".".join(where) + ": " if where else ""
        guess = nearest(str(first["loc"][-1]), StainModel.model_fields) if first["type"] == "extra_forbidden" else None
        raise InputError(
            f"stain file: {field}{first['msg'].removeprefix('Value error, ')}",
            received=f"{path}: {str(first['input'])[:80].encode(errors='backslashreplace').decode()}",
            fix=f"did you mean {guess!r}?" if guess else "fit it again: histolatent stain fit SRC --out stain.json",
        ) from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"the stain file cannot be written again ({str(error)[:80]})", received=path) from None


def need_valid(fit: Fit, what: str) -> None:
    """Raise OptionError if a fit is not usable as a reference, or holds next to nothing of a stain."""
    if not fit.valid:
        raise OptionError(f"{what} cannot be a reference: {fit.why}", received=f"{fit.tissue_pixels} tissue pixels")
    if isinstance(fit, StainModel) and min(fit.max_concentrations) < FAINTEST:
        faint = fit.stains[int(np.argmin(fit.max_concentrations))]
        raise OptionError(
            f"{what} cannot be a reference: it holds next to no {faint}",
            received=f"{min(fit.max_concentrations)} (99th percentile, OD)",
            valid=f"{FAINTEST} or more",
        )
