"""Stain normalisation: each slide is fitted, and given the look of the source."""

from collections.abc import Callable, Mapping

from ...images import TileSource, open_tiles
from ...restain import fit_source, normalize_source
from .base import Method, TilesMethod, Work


def _normaliser(method: str) -> TilesMethod:
    def fit(
        source: TileSource, target: Mapping[str, TileSource] | None, work: Work
    ) -> Callable[[TileSource, str], TileSource]:
        reference = work.folder / f"{method}.json"
        if not reference.exists():
            fit_source(source, method, by="all", workers=work.workers, seed=work.seed).write(reference)

        def change(tiles: TileSource, site: str) -> TileSource:
            folder = work.folder / f"{method} {site}"
            if not folder.exists():
                normalize_source(
                    tiles, folder, to=reference, method=method, by="slide", workers=work.workers, seed=work.seed
                )
            return open_tiles(folder)

        return change

    return fit


METHODS = (
    Method(
        "reinhard",
        "tiles",
        "stain normalisation: means and deviations in l-alpha-beta",
        _normaliser("reinhard"),
        "Reinhard et al. 2001, IEEE CG&A 21:34",
        columns=("slide",),
    ),
    Method(
        "macenko",
        "tiles",
        "stain normalisation: planes of optical density",
        _normaliser("macenko"),
        "Macenko et al. 2009, ISBI",
        columns=("slide",),
    ),
    Method(
        "vahadane",
        "tiles",
        "stain normalisation: sparse factors",
        _normaliser("vahadane"),
        "Vahadane et al. 2016, IEEE TMI 35:1962",
        columns=("slide",),
    ),
)
