"""A virtual scanner: optics, colour and light, sensor noise, tone, file; set by hand, by name, or from pairs of tiles.

The picture is made by the camera of the stain manifold: there is one model of a camera in this house.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .._types import Tile
from ..errors import OptionError
from ..stain import ProtocolState, stain_matrix
from ..stain.manifold import AXES, Anchor
from ..stain.manifold.render import render_image
from .glass import slide_white

Three = tuple[float, float, float]
Matrix3 = tuple[Three, Three, Three]
COLOURS = ("red", "green", "blue")
IDENTITY: Matrix3 = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
ROW_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Scanner:
    r"""How one scanner shows what another one saw. Without arguments it changes nothing.

    In the order in which light takes it:

    - `blur_um`: sigma of a Gaussian, um; 0 to 5.
    - `colours`: the matrix on columns (R, G, B) of light relative to empty slide. Rows sum to 1, so that empty slide
      keeps its colour; each number off the diagonal is -0.3 to 0.3.
    - `light`: level of empty slide over that of the tile, for R, G, B; 0.75 to 1.34.
    - `noise_levels`: standard deviation of the sensor's noise at white, in grey levels before the tone curve; 0 to 20.
      A tenth of its variance is read noise, the rest shot noise, which falls with the light.
    - `gamma`: of the tone curve $255 (x / 255)^{1 / \gamma}$; above 1 lifts the mid-tones; 0.5 to 2.
    - `jpeg_quality`: of a file with 4:2:0 chroma, 5 to 99, or None for none.

    Raises
    ------
    OptionError
        If a number is out of its range, or a row of `colours` does not sum to 1.

    >>> Scanner(blur_um=0.4, jpeg_quality=80).part(0.5)
    Scanner(blur_um=0.2, jpeg_quality=90)
    """

    blur_um: float = 0.0
    colours: Matrix3 = IDENTITY
    light: Three = (1.0, 1.0, 1.0)
    noise_levels: float = 0.0
    gamma: float = 1.0
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        sums = [sum(row) for row in self.colours]
        if not all(abs(total - 1) < ROW_SUM_TOLERANCE for total in sums):
            raise OptionError(
                "rows of a scanner's colours do not sum to 1",
                received=", ".join(f"{total:g}" for total in sums),
                fix="divide each row by its sum, and put the sums into light",
            )
        for name, number in (
            ("gamma", self.gamma),
            *((f"light of {c}", x) for c, x in zip(COLOURS, self.light, strict=True)),
        ):
            if not (math.isfinite(number) and number > 0):
                raise OptionError(f"a scanner's {name} is no number above 0", received=number)
        if self.jpeg_quality is not None and not 5 <= self.jpeg_quality <= 99:
            raise OptionError(
                "a scanner's jpeg_quality is out of its range", received=self.jpeg_quality, valid="5 to 99, or None"
            )
        self.state()  # the axes say what is out of their limits

    def __repr__(self) -> str:
        plain = Scanner.__dataclass_fields__
        shown = [f"{name}={getattr(self, name)!r}" for name in plain if getattr(self, name) != plain[name].default]
        return f"Scanner({', '.join(shown)})"

    def state(self, seed: int = 0) -> ProtocolState:
        """Return where the scanner stands on the stain manifold; `seed` chooses the noise."""
        mixes = {
            f"mix_{own}_{other}": self.colours[i][j]
            for i, own in enumerate(COLOURS)
            for j, other in enumerate(COLOURS)
            if i != j
        }
        lights = {f"illuminant_{c}": math.log(level) for c, level in zip(COLOURS, self.light, strict=True)}
        return ProtocolState(
            blur=self.blur_um,
            gamma=math.log(self.gamma),
            noise=self.noise_levels,
            jpeg=0 if self.jpeg_quality is None else 100 - self.jpeg_quality,
            seed=seed,
            **mixes,
            **lights,
        )

    @classmethod
    def from_state(cls, state: ProtocolState) -> "Scanner":
        """Return the scanner of a state; what the state says of stain is left out."""
        rows = np.array([[0.0 if a == b else state[f"mix_{a}_{b}"] for b in COLOURS] for a in COLOURS])
        rows += np.diag(1 - rows.sum(axis=1))
        light = tuple(math.exp(state[f"illuminant_{colour}"]) for colour in COLOURS)
        return cls(
            state["blur"],
            tuple(map(tuple, rows.tolist())),  # pyright: ignore[reportArgumentType]
            light,  # pyright: ignore[reportArgumentType]
            state["noise"],
            math.exp(state["gamma"]),
            None if state["jpeg"] == 0 else round(100 - state["jpeg"]),
        )

    def part(self, share: float) -> "Scanner":
        """Return the scanner that lies a share of the way from none, 0, to this one, 1, on the stain manifold.

        Blur, noise, colour shares and JPEG loss grow with the share, gamma and light by its power.

        Raises
        ------
        OptionError
            If that leaves the range of a number.
        """
        state = self.state()
        return Scanner.from_state(state.moved(**{name: share * state[name] for name in AXES}))

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON-able values by name."""
        return {
            "blur_um": self.blur_um,
            "colours": [list(row) for row in self.colours],
            "light": list(self.light),
            "noise_levels": self.noise_levels,
            "gamma": self.gamma,
            "jpeg_quality": self.jpeg_quality,
        }


def scan(
    tile: Tile, scanner: Scanner, *, tile_id: str, seed: int = 0, mpp: float | None = None, white: Three | None = None
) -> Tile:
    """Return the tile as another scanner shows it; a scanner that changes nothing returns the same pixels.

    `white` is the level of empty slide, R, G, B; without it, that of the tile's glass, or of its brightest part. `mpp`
    turns um into pixels, 0.5 if it is not known. The noise depends on `seed` and `tile_id`.

    Misleads where the tile is at 0 or 255: what was cut off there is not known. Its own blur, noise and compression
    stay in it: a scanner can be made worse, not better.

    Raises
    ------
    OptionError
        If `mpp` is no positive number.
    """
    level = slide_white(tile) if white is None else np.array(white)
    anchor = Anchor(stain_matrix().astype(np.float64), (1.0, 1.0), np.asarray(level, np.float64), 0)
    return render_image(tile, scanner.state(seed), anchor, mpp, tile_id, "HWC")


def _mixed(rg: float, rb: float, gr: float, gb: float, br: float, bg: float) -> Matrix3:
    return ((1 - rg - rb, rg, rb), (gr, 1 - gr - gb, gb), (br, bg, 1 - br - bg))


#: Invented scanners with numbers that are typical of a kind. None of them is a product, and none was measured on one.
SCANNERS: Mapping[str, Scanner] = MappingProxyType(
    {
        "soft-warm": Scanner(0.6, _mixed(0.04, 0.0, 0.03, 0.02, 0.0, 0.06), (1.03, 0.99, 0.93), 1.5, 1.08, 75),
        "sharp-cool": Scanner(0.0, _mixed(-0.08, -0.02, -0.05, -0.05, -0.01, -0.09), (0.97, 1.0, 1.04), 3.0, 0.9, 85),
        "dim-noisy": Scanner(0.25, _mixed(0.06, 0.02, 0.04, 0.04, 0.02, 0.08), (0.86, 0.88, 0.9), 6.0, 0.95, 90),
        "flat-archive": Scanner(0.35, _mixed(0.08, 0.03, 0.06, 0.05, 0.03, 0.1), (1.0, 1.0, 0.98), 1.0, 1.3, 45),
        "punchy": Scanner(0.15, _mixed(-0.1, -0.04, -0.08, -0.06, -0.03, -0.1), (1.04, 1.03, 1.04), 2.0, 0.8, 80),
    }
)
