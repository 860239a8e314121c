"""What is true of the drawn tiles: factors that were drawn, and counts of what came out."""

import math

import numpy as np
import pandas as pd

from . import nuclei as n
from .cohort import grade_of
from .fields import Canvas
from .layout import Layout
from .nuclei import Nuclei


def within(canvas: Canvas, nuclei: Nuclei) -> Nuclei:
    """Return the nuclei whose centre lies on the tile."""
    inside = (nuclei["x"] >= 0) & (nuclei["x"] < canvas.tile_um) & (nuclei["y"] >= 0) & (nuclei["y"] < canvas.tile_um)
    return nuclei[inside]


def annotate(layout: Layout) -> pd.DataFrame:
    """Return one row per nucleus whose centre lies on the tile, mitotic figures and apoptotic bodies included.

    `x`, `y` are tile pixels with (0, 0) at the tile's top left corner; axes are full lengths in um; `angle` is that of
    the long axis in degrees, clockwise from the x axis as seen on the screen, 0 to 180.
    """
    inside = within(layout.canvas, layout.nuclei)
    return pd.DataFrame(
        {
            "x": inside["x"] / layout.canvas.mpp,
            "y": inside["y"] / layout.canvas.mpp,
            "kind": np.array(n.KINDS, dtype=object)[inside["kind"]],
            "major_um": inside["major"],
            "minor_um": inside["minor"],
            "angle": np.degrees(inside["angle"]) % 180,
            "mitosis": inside["phase"] > 0,
            "phase": np.array(n.PHASES, dtype=object)[inside["phase"]],
        }
    )


def measure(layout: Layout) -> dict[str, float | int | bool]:
    """Return the truth of one tile.

    Nuclei are counted where their centre lies on the tile; apoptotic bodies are not nuclei. Nuclear size, shape and
    pleomorphism are of epithelial and tumour nuclei in interphase (of all, where a tile has none of them).
    """
    canvas, biology = layout.canvas, layout.biology
    inside = within(canvas, layout.nuclei)
    cells = inside[inside["kind"] != n.APOPTOTIC]
    resting = cells[cells["phase"] == 0]
    own = resting[np.isin(resting["kind"], (n.EPITHELIAL, n.TUMOUR))]
    shaped = own if len(own) >= 3 else resting
    area = math.pi / 4 * shaped["major"] * shaped["minor"]
    immune = np.isin(cells["kind"], (n.LYMPHOCYTE, n.PLASMA))
    count = max(len(cells), 1)
    mm2 = (canvas.tile_um / 1000) ** 2
    return {
        "tumour": grade_of(biology) > 0,
        "grade": grade_of(biology),
        "anaplasia": biology.anaplasia,
        "nuclear_count": len(cells),
        "nuclear_density_per_mm2": len(cells) / mm2,
        "nuclear_area_um2": float(area.mean()) if len(area) else math.nan,
        "pleomorphism": float(area.std() / area.mean()) if len(area) >= 3 else math.nan,
        "elongation": float((shaped["major"] / shaped["minor"]).mean()) if len(shaped) else math.nan,
        "chromatin": float(shaped["coarse"].mean()) if len(shaped) else math.nan,
        "lymphocyte_fraction": float(immune.sum() / count),
        "mitotic_count": int((cells["phase"] > 0).sum()),
        "mitotic_density_per_mm2": float((cells["phase"] > 0).sum() / mm2),
        "apoptotic_count": int((inside["kind"] == n.APOPTOTIC).sum()),
        **measure_areas(layout),
    }


def measure_areas(layout: Layout) -> dict[str, float]:
    """Return the share of the tile's area that each compartment takes, and how far the epithelium forms glands."""
    canvas = layout.canvas
    axis = canvas.coarse_axis()
    on_tile = (axis >= 0) & (axis < canvas.tile_um)
    part = np.ix_(on_tile, on_tile)
    epithelium = layout.epithelium[part] < 0
    lumen = epithelium & (layout.lumen[part] < 0)
    necrosis = layout.necrosis[part] < 0
    shares = {
        "epithelium_fraction": epithelium & ~lumen & ~necrosis,
        "lumen_fraction": lumen,
        "necrosis_fraction": necrosis & ~lumen,
        "adipose_fraction": (layout.adipose[part] < 0) & ~epithelium,
    }
    areas = {name: float(mask.mean()) for name, mask in shares.items()}
    return areas | {"gland_formation": layout.biology.gland_formation}
