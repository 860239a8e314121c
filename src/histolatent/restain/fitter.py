"""What is fitted, and how: the options of a fit in one frozen object. Light: workers import it, without pandas."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._types import Tile
from ..errors import OptionError, unknown
from ..stain import NORMALIZERS, Fit, Sample, fit_colour_samples, fit_samples, sample_pixels
from ..stain.fit import BETA, TILE_SAMPLE

#: What a slide without a readable tile is fitted to: nothing that is stained.
EMPTY = Sample(np.full((3, 1), 255, np.uint8))


@dataclass(frozen=True)
class Fitter:
    """How samples of tiles become a fit. Options as in `fit_samples`; `method` is a key of NORMALIZERS.

    Raises
    ------
    OptionError
        If an option is unknown, out of range, or not for this method: before any tile is read.
    """

    method: str = "macenko"
    stains: str = "H&E"
    vectors: Any = None
    white: Any = None
    beta: float = BETA
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in NORMALIZERS:
            raise unknown("normalisation method", self.method, NORMALIZERS)
        if self.vectors is not None and self.method != "fixed":
            raise OptionError(f"{self.method} finds its own vectors", fix="--method fixed, or give no vectors")
        if not self.of_stains and self.stains != "H&E":
            raise OptionError(f"{self.method} fits colours and not stains", received=self.stains, valid="H&E")
        self([EMPTY])

    @property
    def of_stains(self) -> bool:
        """Whether a StainModel is fitted, and not a ColourModel."""
        return NORMALIZERS[self.method] == self.method

    def __call__(self, samples: Sequence[Sample]) -> Fit:
        """Fit samples of the tiles of a slide."""
        if not self.of_stains:
            return fit_colour_samples(samples, NORMALIZERS[self.method], white=self.white)
        return fit_samples(
            samples,
            self.method,
            stains=self.stains,
            vectors=self.vectors,
            white=self.white,
            beta=self.beta,
            alpha=self.alpha,
        )

    def fit_tile(self, tile: Tile) -> Fit:
        """Fit one tile by itself."""
        return self([sample_pixels(tile, limit=TILE_SAMPLE)])

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON holds them."""
        plain = {key: np.asarray(value).tolist() for key, value in asdict(self).items() if value is not None}
        return {**dict.fromkeys(asdict(self)), **plain}
