"""Which protocols to expect: a zero-mean law over the axes. It serialises, and draws states."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ...errors import InputError, OptionError, nearest
from .state import AXES, PARTS, ProtocolState, check_axis

Square = Float[np.ndarray, "a a"]
FORMAT = 1
LIGHT_CORRELATION = 0.5
_NORMAL = NormalDist()


@dataclass(frozen=True, repr=False)
class Prior:
    """A normal law over the axes with mean 0, cut at the axes' limits; half-normal where an axis is one-sided.

    `sds` are standard deviations before the cut, 0 for an axis that is switched off, and `correlation` their
    correlation, both in the order of `AXES`. `source` says whether slides shaped it; then `slides` is how many,
    `inflation` by what their standard deviations were multiplied, and `weight` the share of the slides in the
    covariance of the stain (the fixed prior has the rest).
    """

    sds: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]
    source: Literal["fixed", "fitted"] = "fixed"
    slides: int = 0
    inflation: float = 1.0
    weight: float = 0.0

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {sd:.3g}" for name, sd in self.sd.items() if sd)
        fitted = f"{self.slides} slides, inflation {self.inflation:g}, weight {self.weight:.2f}: "
        return f"Prior({self.source}: {fitted if self.source == 'fitted' else ''}{shown})"

    @property
    def sd(self) -> dict[str, float]:
        """Standard deviation by axis, in its unit."""
        return dict(zip(AXES, self.sds, strict=True))

    @property
    def covariance(self) -> Square:
        """The covariance before the cut, in the order of `AXES`."""
        return np.outer(self.sds, self.sds) * np.array(self.correlation)

    def only(self, *names: str) -> "Prior":
        """Return the prior with all axes switched off but those named: axes, or the parts `stain` and `camera`.

        Raises
        ------
        OptionError
            If a name is neither, or none is given.
        """
        if not names:
            raise OptionError("no axis is left", valid=f"{', '.join(PARTS)}, or names of axes")
        kept: set[str] = set()
        for name in names:
            of_part = {axis.name for axis in AXES.values() if axis.part == name}
            kept |= of_part or {check_axis(name).name}
        sds = tuple(sd if name in kept else 0.0 for name, sd in self.sd.items())
        return self._with(sds)

    def widened(self, factor: float) -> "Prior":
        """Return the prior with every standard deviation multiplied. The limits of the axes stay.

        Raises
        ------
        OptionError
            If the factor is not above 0, or not finite.
        """
        check_positive("the factor of a wider prior", factor)
        return self._with(tuple(sd * factor for sd in self.sds))

    def draw(self, rng: np.random.Generator) -> ProtocolState:
        """Return a state, with a noise seed of its own.

        Axes are drawn one after the other, each from its normal law given those before, cut at its limits: what a
        redrawing until it fits gives, by one uniform number an axis. So two priors, fed the same stream, give states
        that correspond.
        """
        uniform = rng.random(len(AXES))
        return self.place(uniform, int(rng.integers(2**31)))

    def place(self, uniform: Float[np.ndarray, " a"], seed: int = 0) -> ProtocolState:
        """Return the state at quantiles of the law, one in 0 to 1 for each axis: `draw` without the randomness."""
        factor = self._factor
        scores = np.zeros(len(AXES))
        values = []
        for k, (axis, sd) in enumerate(zip(AXES.values(), self.sds, strict=True)):
            before, width = float(factor[k, :k] @ scores[:k]), float(factor[k, k])
            low, high = (limit / sd - before if sd else 0.0 for limit in axis.limits)
            scores[k] = _cut_normal(float(uniform[k]), low / width, high / width) if sd and width > 1e-6 else 0.0
            value = sd * (before + width * scores[k])
            values.append(min(max(value, axis.limits[0]), axis.limits[1]))  # rounding, at the limits themselves
        return ProtocolState.from_array(values, seed)

    @cached_property
    def _factor(self) -> Square:
        return _factor(np.array(self.correlation))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values; correlations of 0 are left out."""
        names = list(AXES)
        pairs = [
            {"axes": [names[j], names[k]], "value": self.correlation[j][k]}
            for j in range(len(names))
            for k in range(j + 1, len(names))
            if self.correlation[j][k]
        ]
        return {
            "format": FORMAT,
            "source": self.source,
            "slides": self.slides,
            "inflation": self.inflation,
            "weight": self.weight,
            "sd": self.sd,
            "correlations": pairs,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Prior":
        """Return the prior of a dictionary that `to_dict` made. Axes that `sd` does not name are off.

        Raises
        ------
        InputError
            If a field is missing, unknown or wrong: the message names it.
        """
        return _read(document)

    def _with(self, sds: tuple[float, ...]) -> "Prior":
        # An axis that is off is correlated with nothing, so that a prior has one way to be written down.
        off = np.array(sds) == 0
        kept = np.where(off[:, None] | off[None, :], np.eye(len(sds)), np.array(self.correlation))
        return Prior(sds, as_rows(kept), self.source, self.slides, self.inflation, self.weight)


def fixed_prior(**sds: float) -> Prior:
    """Return the prior of the documented standard deviations in `AXES`; name an axis to set another.

    Axes are uncorrelated, but for the light's channels: they share half of their variance, since lamps differ in
    brightness as much as in colour, and tinted glass is rarer than dim glass.

    Raises
    ------
    OptionError
        If an axis is unknown, or a standard deviation is negative or not finite.

    >>> fixed_prior(blur=0.0).only("blur", "gamma")
    Prior(fixed: gamma 0.1)
    """
    for name, value in sds.items():
        check_axis(name)
        if not (np.isfinite(value) and value >= 0):
            raise OptionError(f"the standard deviation of {name} is no number of at least 0", received=value)
    values = tuple(float(sds.get(axis.name, axis.sd)) for axis in AXES.values())
    light = np.array([name.startswith("illuminant_") for name in AXES])
    correlation = np.where(light[:, None] & light[None, :], LIGHT_CORRELATION, 0.0)
    np.fill_diagonal(correlation, 1.0)
    return Prior((1.0,) * len(AXES), as_rows(correlation))._with(values)


def _cut_normal(uniform: float, low: float, high: float) -> float:
    """Return the standard normal between two bounds, at a quantile. Works in the tail that has the digits."""
    if low > 0:
        return -_cut_normal(1 - uniform, -high, -low)
    below, above = _NORMAL.cdf(low), _NORMAL.cdf(high)
    share = below + uniform * (above - below)
    return min(max(_NORMAL.inv_cdf(share), low), high) if 0 < share < 1 else min(max(0.0, low), high)


def _factor(correlation: Square) -> Square:
    """Return a lower triangular factor. Unlike NumPy's, it takes axes that others determine fully."""
    factor = np.zeros_like(correlation)
    for k in range(len(correlation)):
        rest = correlation[k:, k] - factor[k:, :k] @ factor[k, :k]
        if rest[0] > 1e-12:
            factor[k:, k] = rest / np.sqrt(rest[0])
    return factor


def as_rows(matrix: Square) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


def check_positive(what: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise OptionError(f"{what} is no number above 0", received=value, valid="above 0, such as 2")


_FIELDS = ("format", "source", "slides", "inflation", "weight", "sd", "correlations")


def _read(document: Mapping[str, Any]) -> Prior:
    for name in document:
        if name not in _FIELDS:
            guess = nearest(str(name), _FIELDS)
            raise _wrong(str(name), "is unknown", ", ".join(_FIELDS), f"did you mean {guess!r}?" if guess else None)
    for name in _FIELDS:
        if name not in document:
            raise _wrong(name, "is missing", None)
    if document["format"] != FORMAT:
        raise _wrong("format", "is of another version", FORMAT, received=document["format"])
    source = document["source"]
    if source not in ("fixed", "fitted"):
        raise _wrong("source", "is neither", "fixed, fitted", received=source)
    slides = document["slides"]
    if isinstance(slides, bool) or not isinstance(slides, int) or slides < 0:
        raise _wrong("slides", "is no count", "0 or more", received=slides)
    inflation = _number(document["inflation"], "inflation", 1e-6, np.inf)
    weight = _number(document["weight"], "weight", 0.0, 1.0)
    sds = _read_sds(document["sd"])
    return Prior(sds, as_rows(_read_correlations(document["correlations"])), source, slides, inflation, weight)


def _read_sds(found: Any) -> tuple[float, ...]:
    if not isinstance(found, Mapping):
        raise _wrong("sd", "is no mapping of axes to standard deviations", None, received=found)
    for name in found:
        if name not in AXES:
            guess = nearest(str(name), AXES)
            raise _wrong(f"sd.{name}", "is no axis", ", ".join(AXES), f"did you mean {guess!r}?" if guess else None)
    return tuple(_number(found.get(name, 0.0), f"sd.{name}", 0.0, np.inf) for name in AXES)


def _read_correlations(found: Any) -> Square:
    if not isinstance(found, list | tuple):
        raise _wrong("correlations", "is no list", '[{"axes": [name, name], "value": number}]', received=found)
    names = list(AXES)
    matrix = np.eye(len(names))
    for k, entry in enumerate(found):
        field = f"correlations.{k}"
        pair = entry.get("axes") if isinstance(entry, Mapping) else None
        if not isinstance(pair, list | tuple) or len(set(pair)) != 2 or not set(pair) <= AXES.keys():
            raise _wrong(f"{field}.axes", "does not name two axes", ", ".join(AXES), received=pair)
        first, second = map(names.index, pair)
        matrix[first, second] = matrix[second, first] = _number(entry.get("value"), f"{field}.value", -1.0, 1.0)
    if np.linalg.eigvalsh(matrix).min() < -1e-9:
        raise _wrong("correlations", "contradict each other: no law has them", "a positive semi-definite matrix")
    return matrix


def _number(value: Any, field: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (low <= value <= high and value < np.inf):
        raise _wrong(field, "is no finite number in its range", f"{low:g} to {high:g}", received=value)
    return float(value)


def _wrong(field: str, what: str, valid: object, fix: str | None = None, received: object = None) -> InputError:
    return InputError(
        f"prior of the stain manifold: field {field} {what}",
        received=None if received is None else repr(received),
        valid=valid,
        fix=fix,
    )
