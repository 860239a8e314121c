"""What a phantom cohort is made from: a handful of numbers, checked."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...errors import OptionError, nearest
from .protocols import protocols

#: Inclusive bounds of every number in `PhantomSpec`, and what the number means.
BOUNDS: dict[str, tuple[float, float, str]] = {
    "sites": (1, len(protocols()), "sites, in the order of `protocols()`"),
    "patients": (1, 99, "patients per site"),
    "slides": (1, 9, "slides per patient"),
    "tiles_per_site": (1, 100_000, "tiles per site"),
    "tile_px": (32, 2048, "tile width and height in pixels"),
    "mpp": (0.1, 2.0, "um per pixel"),
    "seed": (0, 2**63 - 1, "the seed of everything"),
}


class PhantomSpec(BaseModel):
    """The size of a phantom cohort and its seed. Two equal specs give the same bytes.

    A tile with a given id does not change when `sites`, `patients`, `slides` or `tiles_per_site` grow.

    Raises
    ------
    OptionError
        If a number is out of its bounds (`BOUNDS`) or a name is unknown.

    >>> PhantomSpec(sites=2).site_names
    ('source', 'new-scanner')
    >>> PhantomSpec(tile_px=8)
    Traceback (most recent call last):
    ...
    histolatent.errors.OptionError: the phantom's tile_px is out of bounds. Received: 8. Valid: 32 to 2048 (tile width \
and height in pixels)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sites: int = Field(default=5)
    patients: int = 6
    slides: int = 2
    tiles_per_site: int = 400
    tile_px: int = 96
    mpp: float = 0.5
    seed: int = 0

    def __init__(self, **values: Any) -> None:
        unknown = sorted(set(values) - set(BOUNDS))
        if unknown:
            guess = nearest(unknown[0], BOUNDS)
            raise OptionError(
                f"the phantom has no option {unknown[0]!r}",
                valid=", ".join(BOUNDS),
                fix=f"did you mean {guess!r}?" if guess else None,
            )
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            low, high, meaning = BOUNDS[name]
            raise OptionError(
                f"the phantom's {name} is not a number of the right kind",
                received=first["input"],
                valid=f"{low:g} to {high:g} ({meaning})",
            ) from None

    @model_validator(mode="after")
    def _check_bounds(self) -> "PhantomSpec":
        for name, (low, high, meaning) in BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                names = f": {', '.join(protocols())}" if name == "sites" else ""
                raise OptionError(
                    f"the phantom's {name} is out of bounds",
                    received=value,
                    valid=f"{low:g} to {high:g} ({meaning}{names})",
                )
        return self

    @property
    def site_names(self) -> tuple[str, ...]:
        """The names of the sites that this cohort has, the source first."""
        return tuple(protocols())[: self.sites]

    @property
    def tile_um(self) -> float:
        """Width of a tile in um."""
        return self.tile_px * self.mpp
