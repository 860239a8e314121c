"""The phantom as a source of tiles."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float32

from ..._types import Tile
from ...errors import InputError, unknown
from ...provenance import stream
from .cohort import draw_biology, list_tiles
from .fields import Canvas
from .layout import Layout, lay_out
from .protocols import protocols
from .render import render_site
from .spec import PhantomSpec
from .tissue import Maps, paint
from .truth import annotate, measure


@dataclass(frozen=True)
class Drawn:
    """All that one tile has: its pixels, and what is true of them."""

    pixels: Tile
    truth: dict[str, float | int | bool]
    annotations: pd.DataFrame


class PhantomTiles:
    """A synthetic H&E cohort with known truth. Implements `TileSource`; immutable, small, picklable.

    Nothing is stored: each tile is drawn when it is read, from streams keyed by the seed and the tile's id. Tiles next
    to each other on a slide do not continue each other.

    >>> tiles = PhantomTiles(PhantomSpec(sites=2, tiles_per_site=24, seed=7))
    >>> tiles.read(0).shape, tiles.table.site.nunique()
    ((96, 96, 3), 2)
    """

    def __init__(self, spec: PhantomSpec | None = None) -> None:
        self.spec = PhantomSpec() if spec is None else spec

    def __repr__(self) -> str:
        return f"PhantomTiles({self.spec!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return PhantomTiles, (self.spec,)

    @property
    def name(self) -> str:
        """What a person calls this source."""
        return f"phantom-{self.spec.seed}"

    @property
    def table(self) -> pd.DataFrame:
        """One row per tile. Cheap: nothing is drawn.

        Beside the known columns: `tumour` (bool), `grade` (1-3, 0 without tumour), and the slide's target, `diagnosis`
        (its dominant carcinoma) and `diagnosis_grade`.
        """
        return self._table

    @cached_property
    def _table(self) -> pd.DataFrame:
        return list_tiles(self.spec)

    @cached_property
    def truth(self) -> pd.DataFrame:
        """One row per tile: the factors that were drawn and the counts that came out. Lays every tile out once."""
        return self.complete_truth([self.truth_of(i) for i in range(len(self.table))])

    def complete_truth(self, rows: list[dict[str, float | int | bool]]) -> pd.DataFrame:
        """Return the truth of every tile as a frame, with the targets of its slide."""
        truth = pd.DataFrame(rows, index=self.table.index)
        return truth.join(self.table[["diagnosis", "diagnosis_grade"]])

    def truth_of(self, index: int) -> dict[str, float | int | bool]:
        """Return the truth of one tile."""
        return measure(self._layout(index))

    def read(self, index: int) -> Tile:
        """Return a tile as its own site rendered it."""
        return self.read_as(index, self._row(index)[2])

    def read_as(self, index: int, site: str) -> Tile:
        """Return the same morphology under another site's protocol.

        The section is the same; it is stained by that site's laboratory (the very same slide, if the laboratory is the
        same) and read by its scanner.

        Raises
        ------
        OptionError
            If no site is called so.
        """
        if site not in protocols():
            raise unknown("phantom site", site, protocols())
        tile, slide, _ = self._row(index)
        return self._render(self.concentrations(index), tile, slide, site)

    def concentrations(self, index: int) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
        """Return the hematoxylin and eosin of a tile, before any laboratory: 0 is glass, 1 is an OD of length 1."""
        tile = self._row(index)[0]
        return paint(self._layout(index), stream(self.spec.seed, tile, "paint"))

    def annotations(self, index: int) -> pd.DataFrame:
        """Return one row per nucleus with its centre on the tile: place, kind, axes, angle, mitosis."""
        return annotate(self._layout(index))

    def draw(self, index: int) -> Drawn:
        """Return pixels, truth and annotations of a tile at the price of one."""
        tile, slide, site = self._row(index)
        layout = self._layout(index)
        pixels = self._render(paint(layout, stream(self.spec.seed, tile, "paint")), tile, slide, site)
        return Drawn(pixels, measure(layout), annotate(layout))

    def _render(self, maps: Maps, tile: str, slide: str, site: str) -> Tile:
        return render_site(
            maps, seed=self.spec.seed, tile=tile, slide=slide, protocol=protocols()[site], mpp=self.spec.mpp
        )

    def _row(self, index: int) -> tuple[str, str, str]:
        if not 0 <= index < len(self.table):
            raise InputError("no tile has this index", received=index, valid=f"0 to {len(self.table) - 1}")
        tile = str(self.table.index[index])
        slide = tile.rpartition("/")[0]
        return tile, slide, tile.partition("/")[0]

    def _layout(self, index: int) -> Layout:
        tile = self._row(index)[0]
        biology = draw_biology(self.spec, tile, str(self.table["label"].iat[index]))
        return lay_out(Canvas(self.spec.tile_px, self.spec.mpp), biology, stream(self.spec.seed, tile, "layout"))
