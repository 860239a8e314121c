"""Where a tile may stand on its stain manifold: named coordinates with units, all 0 for the tile itself."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ...errors import InputError, OptionError, nearest

Part = Literal["stain", "camera"]
PARTS = ("stain", "camera")


@dataclass(frozen=True)
class Axis:
    """One way in which a protocol may differ.

    `sd` is that of the fixed prior, in `unit`; a one-sided axis starts at 0 and has the half-normal law of that `sd`.
    `limits` are inclusive: what lies beyond is no plausible brightfield H&E, and is refused.
    """

    name: str
    unit: str
    part: Part
    describes: str
    sd: float
    one_sided: bool
    limits: tuple[float, float]


def _stain(name: str, unit: str, describes: str, sd: float, limit: float) -> Axis:
    return Axis(name, unit, "stain", describes, sd, False, (-limit, limit))


def _camera(name: str, unit: str, describes: str, sd: float, limit: float, one_sided: bool = False) -> Axis:
    return Axis(name, unit, "camera", describes, sd, one_sided, (0.0 if one_sided else -limit, limit))


# The standard deviations are meant for slides of other laboratories and scanners. The sites of the phantom, set up from
# published vectors and from what scanners do, were the scale; each entry names what it was compared with.
_GAIN = "ln of the amount of {0} over the tile's; strengths of laboratories differ by factors of 0.6 to 1.4"
_BIAS = "{0} added wherever there is tissue; 0.05 is the HED-light of the literature at its widest"
_TURN = "{0}'s vector, turned in the plane of both stains, positive toward {1}; dyes differ by 3 to 8 degrees"
_TILT = "{0}'s vector, turned out of that plane, positive toward the residual; half of what dyes differ in the plane"
_LIGHT = "ln of the {0} level of empty slide over the slide's own; scanners' glass lies between levels 226 and 250"
_MIX = "share of {1} in {0}, taken from {0} itself: rows of the colour matrix sum to 1; scanners reach 0.14"
_COLOURS = ("red", "green", "blue")

_ALL = (
    _stain("hematoxylin_gain", "ln", _GAIN.format("hematoxylin"), 0.22, 1.5),
    _stain("eosin_gain", "ln", _GAIN.format("eosin"), 0.28, 1.5),
    _stain("hematoxylin_bias", "optical density", _BIAS.format("hematoxylin"), 0.03, 0.3),
    _stain("eosin_bias", "optical density", _BIAS.format("eosin"), 0.03, 0.3),
    _stain("hematoxylin_turn", "degrees", _TURN.format("hematoxylin", "eosin"), 3.0, 20.0),
    _stain("eosin_turn", "degrees", _TURN.format("eosin", "hematoxylin"), 3.0, 20.0),
    _stain("hematoxylin_tilt", "degrees", _TILT.format("hematoxylin"), 2.0, 20.0),
    _stain("eosin_tilt", "degrees", _TILT.format("eosin"), 2.0, 20.0),
    *(_camera(f"illuminant_{colour}", "ln", _LIGHT.format(colour), 0.03, 0.3) for colour in _COLOURS),
    _camera(
        "gamma", "ln", "ln of the tone curve's gamma; positive lifts the mid-tones; scanners: 0.88 to 1.15", 0.1, 0.7
    ),
    _camera("blur", "um", "sigma of a Gaussian beside the tile's own blur; soft scanners add 0.7", 0.35, 5.0, True),
    _camera("noise", "grey levels", "sd of added sensor noise at white; an old sensor adds 4", 2.0, 20.0, True),
    _camera("jpeg", "100 - quality", "JPEG loss, 4:2:0; 0 is no JPEG at all; archives write 8 to 40", 18.0, 95.0, True),
    *(
        _camera(f"mix_{own}_{other}", "share", _MIX.format(own, other), 0.04, 0.3)
        for own in _COLOURS
        for other in _COLOURS
        if other != own
    ),
)
#: Every axis by name. Their order is that of all arrays of coordinates.
AXES: Mapping[str, Axis] = MappingProxyType({axis.name: axis for axis in _ALL})
_INDEX = {name: k for k, name in enumerate(AXES)}


def check_axis(name: str) -> Axis:
    """Return an axis by name. Raises OptionError, with the nearest name, if there is none."""
    if name not in AXES:
        guess = nearest(name, AXES)
        raise OptionError(
            f"the stain manifold has no axis {name!r}",
            valid=", ".join(AXES),
            fix=f"did you mean {guess!r}?" if guess else None,
        )
    return AXES[name]


@dataclass(frozen=True, init=False, repr=False)
class ProtocolState:
    """A protocol relative to a tile's own: one coordinate for each of `AXES`, 0 where it is not named.

    `seed` chooses the sensor noise, and nothing else. States compare and hash by value.

    Raises
    ------
    OptionError
        If an axis is unknown, or a coordinate is no finite number within the limits of its axis.

    >>> state = ProtocolState(eosin_gain=0.25, blur=0.4, seed=3)
    >>> state
    ProtocolState(eosin_gain=0.25, blur=0.4, seed=3)
    >>> state["blur"], state["gamma"], state == ProtocolState.from_dict(state.to_dict())
    (0.4, 0.0, True)
    """

    values: tuple[float, ...]
    seed: int

    def __init__(self, *, seed: Any = 0, **coordinates: Any) -> None:
        values = [0.0] * len(AXES)
        for name, value in coordinates.items():
            axis = check_axis(name)
            values[_INDEX[name]] = _coordinate(axis, value)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
            raise OptionError(
                "the seed of a protocol state is no whole number", received=repr(seed), valid="0 to 2**63 - 1"
            )
        object.__setattr__(self, "values", tuple(values))
        object.__setattr__(self, "seed", int(seed))

    def __getitem__(self, name: str) -> float:
        return self.values[_INDEX[check_axis(name).name]]

    def __repr__(self) -> str:
        shown = [f"{name}={value:.4g}" for name, value in zip(AXES, self.values, strict=True) if value]
        return f"ProtocolState({', '.join([*shown, f'seed={self.seed}'] if self.seed else shown)})"

    def __reduce__(self) -> tuple[object, ...]:
        return ProtocolState.from_array, (self.values, self.seed)

    @property
    def is_tile(self) -> bool:
        """Whether every coordinate is 0: the tile itself."""
        return not any(self.values)

    def moved(self, **coordinates: Any) -> "ProtocolState":
        """Return the state with these coordinates (and `seed`) in place of its own."""
        return ProtocolState.from_dict(self.to_dict() | coordinates)

    def to_dict(self) -> dict[str, float | int]:
        """Return every coordinate by name, in the order of `AXES`, then the seed."""
        return {**dict(zip(AXES, self.values, strict=True)), "seed": self.seed}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "ProtocolState":
        """Return the state of a dictionary; what it does not name is 0. Raises as the constructor does."""
        return cls(**{str(name): value for name, value in document.items()})

    def to_array(self) -> Float[np.ndarray, " a"]:
        """Return the coordinates in the order of `AXES`. The seed is no coordinate."""
        return np.array(self.values)

    @classmethod
    def from_array(cls, coordinates: Iterable[float], seed: int = 0) -> "ProtocolState":
        """Return the state with these coordinates in the order of `AXES`.

        Raises
        ------
        InputError
            If there are more or fewer than axes.
        OptionError
            As the constructor.
        """
        values = np.asarray(list(coordinates))
        if values.shape != (len(AXES),):
            raise InputError(
                "coordinates do not match the axes", received=f"shape {values.shape}", valid=f"({len(AXES)},)"
            )
        return cls(seed=seed, **dict(zip(AXES, values.tolist(), strict=True)))


def _coordinate(axis: Axis, value: Any) -> float:
    low, high = axis.limits
    valid = f"{low:g} to {high:g} ({axis.unit})"
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise OptionError(f"{axis.name} is no finite number", received=repr(value), valid=valid)
    if not low <= number <= high:
        raise OptionError(f"{axis.name} is out of its limits", received=f"{number:g}", valid=valid)
    return number + 0.0  # -0.0 would print, and compare by bits, as another state
