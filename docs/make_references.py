"""Write `src/histolatent/stain/references.json`: the phantom's source site in numbers, and Macenko's published ones.

`python docs/make_references.py`; a test says when the file and the code have come apart.
"""

import json
from pathlib import Path
from typing import Any

from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.stain import (
    MACENKO_REFERENCE,
    Fit,
    StainModel,
    fit_colour_samples,
    fit_samples,
    sample_pixels,
)
from histolatent.stain.vectors import unit_rows

FILE = Path(__file__).parent.parent / "src" / "histolatent" / "stain" / "references.json"
SPEC = PhantomSpec(sites=1, patients=6, slides=2, tiles_per_site=120, tile_px=224, seed=0)


def phantom() -> dict[str, Fit]:
    """Fit every method to the source site of the phantom, all slides together."""
    tiles = PhantomTiles(SPEC)
    samples = [sample_pixels(tiles.read(index)) for index in range(len(tiles.table))]
    fits: dict[str, Fit] = {method: fit_samples(samples, method) for method in ("macenko", "vahadane", "fixed")}
    fits |= {space: fit_colour_samples(samples, space) for space in ("lab", "ruderman")}
    return fits


def macenko() -> dict[str, Fit]:
    """Take the numbers of the code lineage of Macenko et al. 2009; nothing is fitted, so there is no tissue colour."""
    rows = unit_rows([*MACENKO_REFERENCE.values()])
    fit = StainModel(
        method="given",
        stains=tuple(MACENKO_REFERENCE),
        vectors=tuple(tuple(row) for row in rows.round(6).tolist()),
        max_concentrations=(1.9705, 1.0308),
        canonical_degrees=(0.0, 0.0),
        spread_degrees=(0.0, 0.0),
        white=(240.0, 240.0, 240.0),
        white_source="given",
        tissue_colour=(0.0, 0.0, 0.0),
        stained_colour=(0.0, 0.0, 0.0),
        tissue_pixels=0,
        tiles=1,
        tiles_used=1,
        reason="ok",
    )
    return {"macenko": fit, "vahadane": fit}


def document() -> dict[str, Any]:
    """Return both references as what is written."""
    return {
        "phantom": _entry(f"phantom, {SPEC!r}", phantom()),
        "macenko": _entry("Macenko et al. 2009, ISBI: reference of its code lineage", macenko()),
    }


def _entry(source: str, fits: dict[str, Fit]) -> dict[str, Any]:
    return {"source": source, "fits": {target: fit.model_dump(mode="json") for target, fit in fits.items()}}


if __name__ == "__main__":
    FILE.write_text(json.dumps(document(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
