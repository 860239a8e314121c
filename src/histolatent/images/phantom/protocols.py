"""How a site stains and scans: named protocols in physical units."""

import math
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

Vector = tuple[float, float, float]
Place = tuple[float, float]
#: Thickness of a section at which the strengths of a stain are stated.
NOMINAL_UM = 4.0
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Stain:
    """A staining laboratory.

    `hematoxylin` and `eosin` are directions of natural-log optical density per channel (R, G, B), normalised where they
    are used. `*_strength` scale the concentrations; a concentration of 1 at strength 1 has an optical density of
    length 1. The `*_sd` are the spread between slides of the same laboratory: natural log for strengths, degrees for
    directions.

    `section_um` is what the microtome is set to; amounts grow with it, from 1 at 4 um. `chatter_um` is the amplitude of
    waves in the thickness within a section, 0 for none, at a period of `chatter_period_um`. `*_capacity` is the amount
    that the densest structure takes up at most: of an amount `c` a tissue holds `c / (1 + c / capacity)`; infinite is
    no limit.
    """

    name: str
    hematoxylin: Vector
    eosin: Vector
    hematoxylin_strength: float = 1.0
    eosin_strength: float = 1.0
    strength_sd: float = 0.14
    direction_sd: float = 1.5
    section_um: float = NOMINAL_UM
    chatter_um: float = 0.0
    chatter_period_um: float = 80.0
    hematoxylin_capacity: float = math.inf
    eosin_capacity: float = math.inf


@dataclass(frozen=True)
class Scanner:
    """A slide scanner.

    `illuminant` is the grey level of empty glass per channel (0-255). `gamma` is the tone curve relative to the space
    in which the stain vectors are stated: level = 255 (light / 255)^(1 / gamma). `colour_matrix` acts on light, rows
    sum to 1 so that grey stays grey. `blur_um` is the sigma of the optics' Gaussian. `full_well` is the number of
    photo-electrons at level 255 (shot noise); `read_noise` is in grey levels. `jpeg_quality` None means lossless.

    `focus_um` is how far from the section the focal plane of each channel lies, through an objective of numerical
    `aperture`: out of focus, a point becomes a disk. `astigmatism_um` is the distance between the focal planes of two
    meridians, the first at `astigmatism_degrees` from the x axis: the disk becomes an ellipse. `red_um` and `blue_um`
    are how far right and down red and blue fall beside green. `contrast` is the slope of an S-curve after the gamma,
    at `pivot`, a share of 255: above 1 has a toe and a shoulder, below 1 is flat in the middle, 1 is none.
    """

    name: str
    illuminant: Vector = (243.0, 242.0, 245.0)
    gamma: float = 1.0
    colour_matrix: tuple[Vector, Vector, Vector] = IDENTITY
    blur_um: float = 0.3
    full_well: float = 12_000.0
    read_noise: float = 0.8
    jpeg_quality: int | None = 92
    focus_um: Vector = (0.0, 0.0, 0.0)
    aperture: float = 0.75
    astigmatism_um: float = 0.0
    astigmatism_degrees: float = 0.0
    red_um: Place = (0.0, 0.0)
    blue_um: Place = (0.0, 0.0)
    contrast: float = 1.0
    pivot: float = 0.5


@dataclass(frozen=True)
class Protocol:
    """A site: which laboratory stains its slides, which scanner reads them."""

    site: str
    stain: Stain
    scanner: Scanner

    def plain(self) -> "Protocol":
        """Return the site without chatter, limits of uptake, defocus, astigmatism, shifted colours and S-curve.

        What is left is Beer-Lambert, one Gaussian, a matrix, a gamma, noise and JPEG. Slides and noise are the same.
        """
        stain = replace(self.stain, chatter_um=0.0, hematoxylin_capacity=math.inf, eosin_capacity=math.inf)
        straight = {"focus_um": (0.0, 0.0, 0.0), "red_um": (0.0, 0.0), "blue_um": (0.0, 0.0)}
        scanner = replace(self.scanner, **straight, astigmatism_um=0.0, contrast=1.0)
        return Protocol(self.site, stain, scanner)


# Around Ruifrok-Johnston and Macenko: https://doi.org/10.1109/ISBI.2009.5193250. Real eosin is nearer the latter.
# Laboratories cut H&E at 2 to 5 um: https://doi.org/10.1007/s12022-025-09855-2. Chatter is set to a tenth to a sixth of
# the section. Capacities are chosen, not measured: they take a sixth to a third off the densest nuclei or fibres.
_HARRIS = Stain("harris", (0.590, 0.695, 0.395), (0.205, 0.830, 0.520))
_MAYER = Stain(
    "mayer",
    (0.700, 0.640, 0.300),
    (0.120, 0.900, 0.420),
    0.80,
    1.30,
    section_um=5.0,
    chatter_um=0.8,
    chatter_period_um=70.0,
    hematoxylin_capacity=4.0,
    eosin_capacity=4.0,
)
_PALE = Stain(
    "harris-old-bath",
    (0.580, 0.690, 0.420),
    (0.200, 0.830, 0.520),
    0.90,
    0.85,
    section_um=3.0,
    chatter_um=0.4,
    chatter_period_um=45.0,
    hematoxylin_capacity=3.0,
)
_GILL = Stain(
    "gill",
    (0.700, 0.630, 0.320),
    (0.250, 0.850, 0.460),
    1.25,
    0.75,
    chatter_um=0.4,
    chatter_period_um=110.0,
    hematoxylin_capacity=4.0,
)
_PHLOXINE = Stain(
    "phloxine",
    (0.520, 0.740, 0.430),
    (0.060, 0.950, 0.320),
    1.05,
    1.35,
    chatter_um=0.6,
    chatter_period_um=90.0,
    eosin_capacity=2.5,
)

# A 20x objective of aperture 0.75 has a depth of field of about 1 um, the wavelength over the squared aperture. Most
# channels are in focus within one such depth, and all fall less than a pixel beside each other; the soft scanner is off
# by up to 2.6 um, as where the map of focus is coarse. Astigmatism and curved fields of slide scanners were measured in
# https://doi.org/10.1364/OE.23.001319. Contrasts are chosen, as of a picture style: a quarter more, or an eighth less.
_BENCH = Scanner("bench")
_WARM = Scanner(
    "warm-line-scan",
    illuminant=(246.0, 238.0, 226.0),
    gamma=0.88,
    colour_matrix=((1.12, -0.10, -0.02), (-0.05, 1.08, -0.03), (-0.02, -0.14, 1.16)),
    blur_um=0.35,
    full_well=6_000.0,
    read_noise=1.4,
    jpeg_quality=75,
    focus_um=(0.6, 0.0, -1.0),
    red_um=(0.25, 0.10),
    blue_um=(-0.30, -0.10),
    contrast=1.25,
    pivot=0.55,
)
_COOL = Scanner(
    "cool-led",
    illuminant=(229.0, 238.0, 248.0),
    gamma=1.15,
    colour_matrix=((0.94, 0.06, 0.00), (0.03, 0.94, 0.03), (0.00, 0.05, 0.95)),
    blur_um=0.35,
    jpeg_quality=85,
    focus_um=(-0.4, 0.2, 0.9),
    red_um=(0.0, -0.15),
    blue_um=(0.0, 0.25),
    contrast=0.87,
)
_SOFT = Scanner(
    "soft-focus",
    illuminant=(238.0, 238.0, 238.0),
    blur_um=0.35,
    full_well=5_000.0,
    jpeg_quality=70,
    focus_um=(0.8, 1.5, 2.6),
    astigmatism_um=1.0,
    astigmatism_degrees=30.0,
    red_um=(-0.25, 0.15),
    blue_um=(0.30, -0.15),
    contrast=1.2,
)
_CLEAN = Scanner(
    "lossless",
    illuminant=(250.0, 250.0, 250.0),
    blur_um=0.2,
    read_noise=0.4,
    jpeg_quality=None,
    focus_um=(0.5, 0.0, 0.5),
    red_um=(0.15, 0.0),
    blue_um=(0.0, 0.20),
    contrast=1.15,
    pivot=0.6,
)


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
