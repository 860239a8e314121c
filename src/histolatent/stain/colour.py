"""Colour spaces in which Reinhard's method works: CIELab (D65, sRGB) and Ruderman's l-alpha-beta.

Both are, but for a toe near black, a matrix, a power or logarithm per component, and another matrix. An affine change
in the space is then one matrix between two powers, so a tile is changed without ever being in the space.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16

from .pixels import Levels

#: IEC 61966-2-1 to XYZ, D65, divided by the white point, rows X, Y, Z.
XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
XYZ = XYZ / XYZ.sum(axis=1, keepdims=True)
#: From the cube roots to L, a, b: L = 116 y - 16, a = 500 (x - y), b = 200 (y - z).
_LAB = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_LAB_SHIFT = np.array([-16.0, 0.0, 0.0])
TOE = 6.0 / 29.0
#: Ruderman, Cronin & Chiao 1998, with the matrices of Reinhard et al. 2001 (rows L, M, S); RGB in levels.
LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_OPPONENT = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array([[1.0, 1.0, 1.0], [1.0, 1.0, -2.0], [1.0, -1.0, 0.0]])
LEAST_CONE = 1.0
FROM_XYZ, FROM_LMS = np.linalg.inv(XYZ), np.linalg.inv(LMS)
#: What is brighter by far is white, and nothing overflows.
LARGEST_LOGARITHM = 30.0
#: Light is scaled by this before the curve of sRGB, so that the curve ends in levels.
_GAIN = (255 * 1.055) ** 2.4
#: The spaces, and the size of a typical value of each.
SPACES: Mapping[str, float] = MappingProxyType({"lab": 50.0, "ruderman": 1.0})
_LINEAR = np.where(
    np.arange(256) / 255 > 0.04045, ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4, np.arange(256) / 255 / 12.92
).astype(np.float32)


def to_space(levels: Levels, space: str) -> Float32[np.ndarray, "_h _w 3"]:
    """Return L, a, b (L 0 to 100) or Ruderman's l, alpha, beta (decimal logarithm of levels) of RGB levels 0 to 255."""
    return cv2.transform(_roots(levels, space), np.column_stack(space_matrix(space)))


def shift_in_space(
    levels: Levels, space: str, scale: Float[np.ndarray, "3"], shift: Float[np.ndarray, "3"]
) -> Float32[np.ndarray, "_h _w 3"]:
    """Return RGB levels after each component of the space became `scale * component + shift`. Not clipped above 255.

    In CIELab, levels of 8 bits go through tables of 16 bits: dark pixels then cost what others do.
    """
    change = _in_roots(space, tuple(scale), tuple(shift))
    if space == "lab" and levels.dtype == np.uint8:
        changed = _by_tables(levels, change)
        if changed is not None:
            return changed
    return _levels(cv2.transform(_roots(levels, space), change), space)


@lru_cache(maxsize=64)
def _in_roots(space: str, scale: tuple[float, ...], shift: tuple[float, ...]) -> np.ndarray:
    """Return what a change in the space is for the roots: one affine matrix. Kept, since a slide has many tiles."""
    matrix, offset = space_matrix(space)
    wider = np.array(scale)[:, None] * matrix
    moved = (np.array(scale) - 1) * offset + np.array(shift)
    return np.linalg.inv(matrix) @ np.column_stack([wider, moved])


def space_matrix(space: str) -> tuple[np.ndarray, np.ndarray]:
    return (_LAB, _LAB_SHIFT) if space == "lab" else (_OPPONENT / np.log(10.0), np.zeros(3))


def _roots(levels: Levels, space: str) -> Float32[np.ndarray, "_h _w 3"]:
    """Return cube roots of XYZ, or natural logarithms of LMS."""
    if space == "ruderman":
        cones = cv2.transform(levels.astype(np.float32), LMS)
        return cv2.log(at_least(cones, LEAST_CONE), dst=cones)
    linear = cv2.LUT(levels, _LINEAR[None]) if levels.dtype == np.uint8 else _linear(levels)
    xyz = cv2.transform(linear, XYZ)
    return _bend(np.cbrt(xyz), xyz, TOE**3, 1 / (3 * TOE**2), 4 / 29)


def _levels(roots: Float32[np.ndarray, "_h _w 3"], space: str) -> Float32[np.ndarray, "_h _w 3"]:
    if space == "ruderman":
        cones = cv2.exp(np.minimum(roots, np.float32(LARGEST_LOGARITHM), out=roots), dst=roots)
        return at_least(cv2.transform(cones, FROM_LMS), 0.0)
    xyz = _bend(cv2.pow(roots, 3), roots, TOE, 3 * TOE**2, -4 / 29 * 3 * TOE**2)
    linear = cv2.transform(xyz, _GAIN * FROM_XYZ)
    # 255 (1.055 x^(1 / 2.4) - 0.055), by logarithms; what has none lies below the bend.
    out = cv2.log(linear)
    out *= np.float32(1 / 2.4)
    out = cv2.exp(out, dst=out)
    out -= np.float32(255 * 0.055)
    return _bend(out, linear, _GAIN * 0.0031308, 255 * 12.92 / _GAIN, 0.0, least=0.0)


def _bend(
    curve: Float32[np.ndarray, "_h _w 3"],
    values: Float32[np.ndarray, "_h _w 3"],
    below: float,
    slope: float,
    shift: float,
    least: float = -np.inf,
) -> Float32[np.ndarray, "_h _w 3"]:
    """Put a line `slope * value + shift`, not under `least`, in a curve's place where values are at most `below`."""
    if values.min() <= below:
        low = np.flatnonzero(values.ravel() <= below)
        line = values.ravel()[low] * np.float32(slope) + np.float32(shift)
        curve.ravel()[low] = np.maximum(line, np.float32(least))
    return curve


def at_least(values: Float32[np.ndarray, "_h _w 3"], bound: float) -> Float32[np.ndarray, "_h _w 3"]:
    """Raise values to a bound, in place."""
    flat = values.reshape(len(values), -1)  # one channel: OpenCV then takes the bound for all, and is fast
    return cv2.max(flat, bound, dst=flat).reshape(values.shape)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _linear(levels: Float32[np.ndarray, "_h _w 3"]) -> Float32[np.ndarray, "_h _w 3"]:
    share = levels / np.float32(255)
    bent = ((np.maximum(share, 0.04) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(share > 0.04045, bent, share / np.float32(12.92)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Tables:
    """CIELab in 16 bits: levels to light, light to roots, roots to light, light to levels."""

    light: UInt16[np.ndarray, "1 256"]
    roots: UInt16[np.ndarray, "1 65536"]
    back: UInt16[np.ndarray, "1 65536"]
    levels: Float32[np.ndarray, "1 65536"]


_STEPS = 65535
#: A change that multiplies roots by more than this multiplies their rounding too: to more than a level.
_LARGEST_GAIN = 2.0
#: Light is kept between these, white being 1; roots between those of the same. About -330 to 380 levels.
_DIMMEST, _BRIGHTEST = -0.1, 2.5
_LOW, _HIGH = 4 / 29 + _DIMMEST / (3 * TOE**2), np.cbrt(_BRIGHTEST)


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    share = np.linspace(0, 1, _STEPS + 1)
    light, root = _BRIGHTEST * share, _LOW + (_HIGH - _LOW) * share
    roots = np.where(share > TOE**3, np.cbrt(share), share / (3 * TOE**2) + 4 / 29)
    back = np.where(root > TOE, root**3, 3 * TOE**2 * (root - 4 / 29))
    bent = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    shares = (_LINEAR, (roots - _LOW) / (_HIGH - _LOW), (back - _DIMMEST) / (_BRIGHTEST - _DIMMEST))
    levels_in, roots_in, roots_out = (np.rint(np.clip(part, 0, 1) * _STEPS).astype(np.uint16)[None] for part in shares)
    return _Tables(levels_in, roots_in, roots_out, (255 * bent).astype(np.float32)[None])


def _by_tables(
    levels: UInt8[np.ndarray, "_h _w 3"], change: Float[np.ndarray, "3 4"]
) -> Float32[np.ndarray, "_h _w 3"] | None:
    """Do what `_levels` of the changed `_roots` does in CIELab; None where tables are too coarse or small."""
    if not np.abs(change[:, :3]).max() <= _LARGEST_GAIN:
        return None
    tables = _tables()
    roots = cv2.LUT(cv2.transform(cv2.LUT(levels, tables.light), XYZ), tables.roots)
    shift = (change[:, 3] + (change[:, :3].sum(axis=1) - 1) * _LOW) / (_HIGH - _LOW) * _STEPS
    roots = cv2.transform(roots, np.column_stack([change[:, :3], shift]))
    if roots.min() == 0 or roots.max() == _STEPS:
        return None
    wide = (_BRIGHTEST - _DIMMEST) / _BRIGHTEST
    shift = FROM_XYZ.sum(axis=1) * _DIMMEST / _BRIGHTEST * _STEPS
    light = cv2.transform(cv2.LUT(roots, tables.back), np.column_stack([wide * FROM_XYZ, shift]))
    return cv2.LUT(light, tables.levels)
