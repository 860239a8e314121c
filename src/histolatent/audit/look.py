"""What needs the pixels again: pairs of which eye and encoder disagree, and the parts of a tile that matter."""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from .._types import Tile, Tiles, Vectors
from ..encoders import Encoder, encode
from ..errors import EncoderError, InputError, OptionError
from ..images import TileSource, known_mpp
from ..perturb import ASSUMED_MPP
from ..stain import tissue_mask
from .discordance import discordant_pairs
from .measured import Measured
from .result import DiscordanceResult, PairOfTiles, SensitivityResult, WorstTile, rounded
from .sensitivity import PATCH_UM, sensitivity_map

#: Tiles that are compared with each other, how large, and how many pairs are named.
COMPARED_TILES, THUMB_PX, SHOWN_PAIRS = 300, 48, 6
REFERENCE_PAIRS = 5000
SENSITIVE_TILES, GRID = 2, 16
#: A tile with less tissue is nearly empty.
LEAST_TISSUE = 0.05


def thumbnails(source: TileSource, rows: Sequence[int] | np.ndarray) -> Tiles:
    """Return tiles of the source at 48 px, made smaller by area."""
    read = (source.read(int(row)) for row in rows)
    return np.stack([cv2.resize(tile, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA) for tile in read])


def nearly_empty(shown: Tiles | None) -> str | None:
    """Return what to say of thumbnails with next to no tissue; None where there are none."""
    if shown is None:
        return None
    count = sum(tissue_mask(tile).mean() < LEAST_TISSUE for tile in shown)
    if not count:
        return None
    return (
        f"{count} of {len(shown)} tiles that were looked at hold less than {LEAST_TISSUE:.0%} tissue: dust decides how "
        "far they move (leave them out; of larger images that are cut, --tissue does)"
    )


def compare_by_eye(vectors: Vectors, shown: Tiles, chosen: np.ndarray, measured: Measured) -> DiscordanceResult | None:
    """Find discordant pairs among the tiles `chosen`, whose thumbnails are `shown`; None with fewer than ten."""
    if len(chosen) < 10:
        return None
    found = discordant_pairs(
        vectors[chosen], shown, shown=SHOWN_PAIRS, reference=REFERENCE_PAIRS, seed=measured.plan.seed
    )
    names = measured.table.index[chosen]

    def pairs(table: pd.DataFrame) -> list[PairOfTiles]:
        parts = ("disagreement", "image_rank", "latent_rank", "ssim")
        return [
            PairOfTiles(
                first=str(names[row["first"]]),
                second=str(names[row["second"]]),
                **{part: float(f"{row[part]:.6g}") for part in parts},
            )
            for row in table.to_dict("records")
        ]

    return DiscordanceResult(
        agreement=rounded(found.agreement),
        pairs=found.pairs,
        tiles=len(chosen),
        alike_but_far=pairs(found.alike_but_far),
        different_but_close=pairs(found.different_but_close),
        reason=found.reason,
    )


def find_sensitive_parts(
    encoder: Encoder, source: TileSource, worst: Sequence[WorstTile], measured: Measured, null_median: float
) -> list[SensitivityResult]:
    """Cover patches of the tiles that moved most, and measure which of them move the embedding.

    A tile that is smaller than the patch, or that cannot be read any more, is passed over.
    """
    places = {str(tile): place for place, tile in enumerate(measured.table.index)}
    found = []
    for entry in worst[:SENSITIVE_TILES]:
        place = places[entry.tile]
        mpp = known_mpp(measured.table, place) or measured.plan.mpp or ASSUMED_MPP
        try:
            tile: Tile = source.read(int(measured.rows[place]))
            item = sensitivity_map(lambda tiles: encode(encoder, tiles), tile, mpp=mpp, null_median=null_median)
        except (InputError, OptionError, EncoderError):
            continue
        grid = cv2.resize(item.heat, (GRID, GRID), interpolation=cv2.INTER_AREA)
        found.append(
            SensitivityResult(
                tile=entry.tile,
                patch_um=PATCH_UM,
                patches=item.patches,
                largest=float(f"{item.largest:.6g}"),
                concentration=rounded(item.concentration()),
                heat=[[float(f"{value:.3g}") for value in line] for line in grid],
            )
        )
    return found
