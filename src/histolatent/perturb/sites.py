"""Virtual sites: tiles as an invented laboratory and scanner would have made them, by means no protocol state has.

The stain manifold trains, so it must not also set the examination. This module shares no code with `histolatent.stain`:
colours are mixed by a polynomial, the tone curve is an S, optics are an ellipse, grain is correlated, files are not
JPEG 4:2:0.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32

from .._types import Tile
from ..errors import InputError, OptionError
from ..provenance import stream
from .operation import known_mpp

Three = tuple[float, float, float]
Six = tuple[float, float, float, float, float, float]
Light = Float32[np.ndarray, "_h _w 3"]

STRAIGHT: tuple[Three, Three, Three] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
NOTHING: Six = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
NO_PRODUCTS: tuple[Six, Six, Six] = (NOTHING, NOTHING, NOTHING)
#: Channels that each of the six products multiplies.
PRODUCTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
ROW_SUM_TOLERANCE = 1e-6
#: Spread of the glass between slides, ln of the level, over that of all else: 0.12 gives one level in a hundred.
TINT_SHARE = 0.07
#: Points per pixel and axis at which the edge of an aperture is drawn.
FINER = 8
#: WebP holds no longer side.
LONGEST_PX = 16_383
_RANGES: dict[str, tuple[float, float]] = {
    "pivot": (0.2, 0.8),
    "defocus_um": (0.0, 5.0),
    "elongation": (1.0, 4.0),
    "direction_degrees": (0.0, 180.0),
    "fringe_um": (0.0, 2.0),
    "scale": (0.2, 1.0),
    "grain_levels": (0.0, 30.0),
    "grain_um": (0.0, 5.0),
    "stripe_levels": (0.0, 10.0),
    "sharpening": (0.0, 3.0),
    "sharpening_um": (0.1, 5.0),
    "spread": (0.0, 0.5),
}


@dataclass(frozen=True, kw_only=True)
class VirtualSite:
    r"""An invented site, outside what the stain manifold can do. Called with a tile, it returns the tile as its own.

    In the order in which it acts, with `a = 1 - level / 255` the absorbed share:

    - `defocus_um`: short radius of an evenly lit ellipse, um; `elongation`: long radius over short;
      `direction_degrees`: of the long one, from the x axis.
    - `fringe_um`: how far red falls from green along that direction, um; blue falls as far the other way.
    - `mixing` and `products`: $a' = M a + Q\,(a_r^2, a_g^2, a_b^2, a_r a_g, a_r a_b, a_g a_b)$; rows of `M` sum to 1.
    - `bend` for R, G, B, and `pivot`: an S-curve, $y = x + 4 b\,x (1 - x)(x - p)$ on shares of 255; below 0 it is flat
      in the middle.
    - `tint`: level of white over 255, for R, G, B.
    - `grain_levels`: standard deviation at mid-grey, in grey levels, falling as `4 y (1 - y)` to none at black and
      white; its grains are Gaussians of sigma `grain_um`. `stripe_levels`: of one offset for each column.
    - `scale`: the tile is stored at this share of its side, and enlarged again.
    - `sharpening`: share of what a Gaussian of `sharpening_um` takes away that is added.
    - `codec` and `quality`: of the file, 1 to 100.

    `spread` is the relative standard deviation between slides of defocus, products and bend, and 14 times that of the
    tint. Empty slide that is white stays white, but for the tint.

    Raises
    ------
    OptionError
        If a number is out of its range, a row of `mixing` does not sum to 1, or the codec is unknown.

    >>> site = virtual_sites()["soft"]
    >>> site(np.full((8, 8, 3), 200, np.uint8), mpp=0.5, slide="s1", tile_id="t1").shape
    (8, 8, 3)
    """

    name: str
    describes: str
    mixing: tuple[Three, Three, Three] = STRAIGHT
    products: tuple[Six, Six, Six] = NO_PRODUCTS
    bend: Three = (0.0, 0.0, 0.0)
    pivot: float = 0.5
    tint: Three = (1.0, 1.0, 1.0)
    defocus_um: float = 0.0
    elongation: float = 1.0
    direction_degrees: float = 0.0
    fringe_um: float = 0.0
    scale: float = 1.0
    grain_levels: float = 0.0
    grain_um: float = 0.4
    stripe_levels: float = 0.0
    sharpening: float = 0.0
    sharpening_um: float = 0.5
    codec: str = "none"
    quality: int = 100
    spread: float = 0.12

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            self._check(name, getattr(self, name), low, high)
        for row in self.mixing:
            if not abs(sum(row) - 1) < ROW_SUM_TOLERANCE:
                raise OptionError(
                    f"the virtual site {self.name!r}: a row of mixing does not sum to 1", received=f"{sum(row):g}"
                )
        for value in (*np.ravel(self.mixing), *np.ravel(self.products)):
            self._check("mixing or products", float(value), -2.0, 2.0)
        for value in self.bend:
            self._check("bend", value, -0.45, 0.45)
        for value in self.tint:
            self._check("tint", value, 0.7, 1.1)
        if self.codec not in CODECS:
            raise OptionError(
                f"the virtual site {self.name!r}: no such codec", received=repr(self.codec), valid=", ".join(CODECS)
            )
        self._check("quality", self.quality, 1, 100)

    def _check(self, name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            raise OptionError(
                f"the virtual site {self.name!r}: {name} is out of its range",
                received=f"{value:g}",
                valid=f"{low:g} to {high:g}",
            )

    def __call__(
        self, tile: np.ndarray, *, mpp: float | None, slide: str = "", seed: int = 0, tile_id: str = ""
    ) -> Tile:
        """Return the tile as this site shows it, a new array; the tile itself is not changed.

        `mpp` turns um into pixels, 0.5 if it is None. Slides of a site differ a little, by `seed` and `slide`; noise
        depends on `seed` and `tile_id`. Misleads where the tile's own blur or compression is worse than the site's: a
        tile is never made sharper than sharpening makes it.

        Raises
        ------
        InputError
            If the tile is not uint8 of shape (height, width, 3), or a side has no pixel or more than 16,383.
        OptionError
            If `mpp` is no positive number.
        """
        _check_tile(tile)
        um = known_mpp(mpp)
        drawn = stream(seed, "virtual site", self.name, slide).standard_normal(6)
        sharp, strong, bent = np.exp(self.spread * drawn[:3]).tolist()
        share = np.ascontiguousarray(tile).astype(np.float32) / np.float32(255)
        share = _spread_light(share, self, sharp * self.defocus_um / um)
        share = _shift_colours(share, self.fringe_um / um, math.radians(self.direction_degrees))
        share = _mix(share, np.array(self.mixing), strong * np.array(self.products))
        share = _bend(share, np.clip(bent * np.array(self.bend), -0.49, 0.49).astype(np.float32), self.pivot)
        share = share * (np.array(self.tint) * np.exp(TINT_SHARE * self.spread * drawn[3:])).astype(np.float32)
        share = _add_noise(share, self, um, stream(seed, "virtual site", self.name, tile_id, "noise"))
        share = _resample(share, self.scale)
        if self.sharpening:
            soft = cv2.GaussianBlur(share, (0, 0), max(self.sharpening_um / um, 0.3), borderType=cv2.BORDER_REFLECT)
            share = share + np.float32(self.sharpening) * (share - soft)
        levels = np.rint(np.clip(share, 0, 1) * np.float32(255)).astype(np.uint8)
        return CODECS[self.codec](levels, self.quality)

    def describe(self) -> str:
        """Return the site in one line: what it is, and every number that is not its default."""
        plain = {field.name: field.default for field in fields(self)}
        shown = [
            f"{name} {_shown(value)}"
            for name, value in asdict(self).items()
            if name not in ("name", "describes") and value != plain[name]
        ]
        return f"{self.name}: {self.describes} ({'; '.join(shown) or 'nothing'})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values by name."""
        return {name: _listed(value) for name, value in asdict(self).items()}


def _check_tile(tile: Any) -> None:
    valid = f"uint8 (height, width, 3), sides 1 to {LONGEST_PX}"
    if not isinstance(tile, np.ndarray):
        raise InputError("a tile is no array", received=type(tile).__name__, valid=valid)
    sides = tile.shape[:2] if tile.ndim == 3 and tile.shape[2] == 3 else (0,)
    if tile.dtype != np.uint8 or not all(1 <= side <= LONGEST_PX for side in sides):
        raise InputError("a tile is of another type or shape", received=f"{tile.dtype} {tile.shape}", valid=valid)


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_shown(part) for part in value) + ")"
    return value if isinstance(value, str) else f"{value:g}"


def _spread_light(share: Light, site: VirtualSite, radius_px: float) -> Light:
    """Return light under an evenly lit ellipse; beyond the border it is mirrored."""
    if radius_px == 0:
        return share
    turn, long = math.radians(site.direction_degrees), radius_px * site.elongation
    reach = math.ceil(long)
    fine = (np.arange((2 * reach + 1) * FINER) + 0.5) / FINER - reach - 0.5
    x, y = fine[None, :], fine[:, None]
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    inside = (along / long) ** 2 + (across / radius_px) ** 2 <= 1
    kernel = inside.reshape(2 * reach + 1, FINER, 2 * reach + 1, FINER).mean((1, 3))
    if not kernel.any():
        return share
    return cv2.filter2D(share, -1, (kernel / kernel.sum()).astype(np.float32), borderType=cv2.BORDER_REFLECT)


def _shift_colours(share: Light, fringe_px: float, direction: float) -> Light:
    """Return light with red moved along a direction and blue against it; beyond the border it is mirrored."""
    if fringe_px == 0:
        return share
    height, width = share.shape[:2]
    moved = share.copy()
    for channel, way in ((0, 1.0), (2, -1.0)):
        right, down = way * fringe_px * math.cos(direction), way * fringe_px * math.sin(direction)
        matrix = np.array([[1.0, 0.0, right], [0.0, 1.0, down]])
        moved[..., channel] = cv2.warpAffine(
            share[..., channel], matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
    return moved


def _mix(share: Light, mixing: np.ndarray, products: np.ndarray) -> Light:
    """Return shares of light after a matrix and products of what each channel absorbs."""
    absorbed = 1 - share
    if not products.any():
        return np.clip(1 - absorbed @ mixing.T.astype(np.float32), 0, 1)
    pairs = np.stack([absorbed[..., first] * absorbed[..., second] for first, second in PRODUCTS], -1)
    mixed = absorbed @ mixing.T.astype(np.float32) + pairs @ products.T.astype(np.float32)
    return np.clip(1 - mixed, 0, 1)


def _bend(share: Light, bend: Float32[np.ndarray, "3"], pivot: float) -> Light:
    return np.clip(share + 4 * bend * share * (1 - share) * (share - np.float32(pivot)), 0, 1)


def _add_noise(share: Light, site: VirtualSite, mpp: float, random: np.random.Generator) -> Light:
    """Return shares with grain that is largest at mid-grey, and an offset for each column."""
    height, width = share.shape[:2]
    grain = random.standard_normal((height, width, 3), dtype=np.float32)
    stripes = random.standard_normal((1, width, 1), dtype=np.float32)
    if site.grain_levels:
        sigma = site.grain_um / mpp
        if sigma > 0.1:
            grain = cv2.GaussianBlur(grain, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(height, width, 3)
            kernel = cv2.getGaussianKernel(2 * math.ceil(4 * sigma) + 1, sigma)
            grain = grain / np.float32((kernel**2).sum())
        share = share + np.float32(site.grain_levels / 255) * grain * 4 * share * (1 - share)
    if site.stripe_levels:
        share = share + np.float32(site.stripe_levels / 255) * stripes
    return np.clip(share, 0, 1)


def _resample(share: Light, scale: float) -> Light:
    if scale == 1:
        return share
    height, width = share.shape[:2]
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = cv2.resize(share, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC)


def _through_file(tile: Tile, ending: str, options: list[int]) -> Tile:
    _, data = cv2.imencode(ending, cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), options)
    return np.asarray(cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB), np.uint8)


def _jpeg444(tile: Tile, quality: int) -> Tile:
    chroma = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _through_file(tile, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality, *chroma])


def _webp(tile: Tile, quality: int) -> Tile:
    return _through_file(tile, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


CODECS: dict[str, Callable[[Tile, int], Tile]] = {
    "none": lambda tile, quality: tile,
    "jpeg444": _jpeg444,
    "webp": _webp,
}


@cache
def virtual_sites() -> MappingProxyType[str, VirtualSite]:
    """Return the virtual sites by name, from the mildest on. None of them is a product or a hospital.

    >>> list(virtual_sites())
    ['soft', 'rose', 'flat', 'mixed', 'strong']
    """
    sites = (
        VirtualSite(
            name="soft",
            describes="mostly optics and noise: astigmatic, stored small, coarse grain",
            tint=(0.985, 0.985, 0.98),
            defocus_um=0.5,
            elongation=3.0,
            direction_degrees=35.0,
            scale=0.7,
            grain_levels=2.5,
            grain_um=0.4,
            stripe_levels=0.5,
            fringe_um=0.4,
            codec="webp",
            quality=82,
        ),
        VirtualSite(
            name="rose",
            describes="mostly colour: violet nuclei, rose fibres, more local contrast",
            mixing=((0.98, 0.02, 0.0), (-0.02, 1.06, -0.04), (0.03, 0.02, 0.95)),
            products=(
                (-0.26, 0.06, 0.0, 0.0, 0.0, 0.0),
                (0.0, -0.16, 0.0, 0.12, 0.0, 0.0),
                (0.12, 0.0, -0.20, 0.0, 0.0, 0.0),
            ),
            bend=(0.10, 0.26, 0.14),
            tint=(0.99, 0.97, 0.98),
            grain_levels=0.8,
            sharpening=0.22,
            sharpening_um=5.0,
            codec="jpeg444",
            quality=95,
        ),
        VirtualSite(
            name="flat",
            describes="an archive: dull colours, flat in the middle, sharpened",
            mixing=((0.96, 0.03, 0.01), (0.01, 0.98, 0.01), (0.0, 0.04, 0.96)),
            products=(
                (-0.12, 0.0, 0.0, 0.0, 0.0, 0.0),
                (0.0, -0.10, 0.0, 0.0, 0.0, 0.0),
                (0.0, 0.03, -0.08, 0.0, 0.0, 0.0),
            ),
            bend=(-0.25, -0.22, -0.15),
            pivot=0.55,
            tint=(0.97, 0.965, 0.955),
            defocus_um=0.4,
            scale=0.8,
            grain_levels=0.8,
            sharpening=0.7,
            sharpening_um=1.2,
            codec="webp",
            quality=90,
        ),
        VirtualSite(
            name="mixed",
            describes="a little of everything: warm, contrasty, an even disk out of focus",
            mixing=((1.03, -0.02, -0.01), (0.02, 0.96, 0.02), (0.0, 0.04, 0.96)),
            products=(
                (0.0, -0.06, 0.0, 0.0, 0.0, 0.0),
                (0.05, 0.0, 0.0, -0.08, 0.0, 0.0),
                (0.0, 0.06, 0.04, 0.0, 0.0, 0.0),
            ),
            bend=(0.30, 0.20, 0.10),
            tint=(0.99, 0.975, 0.955),
            defocus_um=0.6,
            elongation=1.3,
            direction_degrees=100.0,
            grain_levels=1.5,
            stripe_levels=0.4,
            fringe_um=0.3,
            codec="jpeg444",
            quality=88,
        ),
        VirtualSite(
            name="strong",
            describes="far off: cold, hard tones, doubled edges, coarse grain, a small file",
            mixing=((1.05, -0.03, -0.02), (0.04, 0.92, 0.04), (-0.03, 0.05, 0.98)),
            products=(
                (0.12, -0.06, 0.0, 0.0, 0.0, 0.0),
                (0.0, -0.15, 0.0, 0.05, 0.0, 0.0),
                (-0.04, 0.0, -0.15, 0.0, 0.0, 0.0),
            ),
            bend=(0.30, 0.28, 0.20),
            pivot=0.6,
            tint=(0.945, 0.965, 0.985),
            defocus_um=0.5,
            elongation=2.0,
            direction_degrees=150.0,
            scale=0.7,
            grain_levels=1.5,
            grain_um=0.5,
            stripe_levels=0.6,
            sharpening=0.8,
            sharpening_um=1.0,
            fringe_um=0.3,
            codec="webp",
            quality=75,
        ),
    )
    return MappingProxyType({site.name: site for site in sites})
