"""How a site stains and scans: named protocols in physical units."""

from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

Vector = tuple[float, float, float]
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Stain:
    """A staining laboratory.

    `hematoxylin` and `eosin` are directions of natural-log optical density per channel (R, G, B), normalised where they
    are used. `*_strength` scale the concentrations; a concentration of 1 at strength 1 has an optical density of
    length 1. The `*_sd` are the spread between slides of the same laboratory: natural log for strengths, degrees for
    directions.
    """

    name: str
    hematoxylin: Vector
    eosin: Vector
    hematoxylin_strength: float = 1.0
    eosin_strength: float = 1.0
    strength_sd: float = 0.14
    direction_sd: float = 1.5


@dataclass(frozen=True)
class Scanner:
    """A slide scanner.

    `illuminant` is the grey level of empty glass per channel (0-255). `gamma` is the tone curve relative to the space
    in which the stain vectors are stated: level = 255 (light / 255)^(1 / gamma). `colour_matrix` acts on light, rows
    sum to 1 so that grey stays grey. `blur_um` is the sigma of the optics' Gaussian. `full_well` is the number of
    photo-electrons at level 255 (shot noise); `read_noise` is in grey levels. `jpeg_quality` None means lossless.
    """

    name: str
    illuminant: Vector = (243.0, 242.0, 245.0)
    gamma: float = 1.0
    colour_matrix: tuple[Vector, Vector, Vector] = IDENTITY
    blur_um: float = 0.3
    full_well: float = 12_000.0
    read_noise: float = 0.8
    jpeg_quality: int | None = 92


@dataclass(frozen=True)
class Protocol:
    """A site: which laboratory stains its slides, which scanner reads them."""

    site: str
    stain: Stain
    scanner: Scanner


# Around Ruifrok-Johnston and Macenko: https://doi.org/10.1109/ISBI.2009.5193250. Real eosin is nearer the latter.
_HARRIS = Stain("harris", (0.590, 0.695, 0.395), (0.205, 0.830, 0.520))
_MAYER = Stain("mayer", (0.700, 0.640, 0.300), (0.120, 0.900, 0.420), 0.80, 1.30)
_PALE = Stain("harris-old-bath", (0.580, 0.690, 0.420), (0.200, 0.830, 0.520), 0.68, 0.65)
_GILL = Stain("gill", (0.700, 0.630, 0.320), (0.250, 0.850, 0.460), 1.25, 0.75)
_PHLOXINE = Stain("phloxine", (0.520, 0.740, 0.430), (0.060, 0.950, 0.320), 1.05, 1.35)

_BENCH = Scanner("bench")
_WARM = Scanner(
    "warm-line-scan",
    illuminant=(246.0, 238.0, 226.0),
    gamma=0.88,
    colour_matrix=((1.12, -0.10, -0.02), (-0.05, 1.08, -0.03), (-0.02, -0.14, 1.16)),
    blur_um=0.45,
    full_well=6_000.0,
    read_noise=1.4,
    jpeg_quality=75,
)
_COOL = Scanner(
    "cool-led",
    illuminant=(229.0, 238.0, 248.0),
    gamma=1.15,
    colour_matrix=((0.94, 0.06, 0.00), (0.03, 0.94, 0.03), (0.00, 0.05, 0.95)),
    blur_um=0.35,
    jpeg_quality=85,
)
_SOFT = Scanner("soft-focus", illuminant=(238.0, 238.0, 238.0), blur_um=0.75, full_well=3_000.0, jpeg_quality=60)
_CLEAN = Scanner("lossless", illuminant=(250.0, 250.0, 250.0), blur_um=0.2, read_noise=0.4, jpeg_quality=None)


@cache
def protocols() -> MappingProxyType[str, Protocol]:
    """Return every site's protocol by name, the source first.

    `new-scanner` shares its stain with `source`, `new-stain` shares its scanner: each moves one thing only.

    >>> list(protocols())[:3]
    ['source', 'new-scanner', 'new-stain']
    >>> protocols()["new-scanner"].stain == protocols()["source"].stain
    True
    """
    sites = (
        Protocol("source", _HARRIS, _BENCH),
        Protocol("new-scanner", _HARRIS, _WARM),
        Protocol("new-stain", _MAYER, _BENCH),
        Protocol("faded", _PALE, _COOL),
        Protocol("blue-shift", _GILL, _COOL),
        Protocol("red-shift", _PHLOXINE, _CLEAN),
        Protocol("soft-focus", _HARRIS, _SOFT),
        Protocol("far", _GILL, _WARM),
    )
    return MappingProxyType({protocol.site: protocol for protocol in sites})
