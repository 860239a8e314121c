"""Where things are in one tile: compartments as distances in um, and the table of nuclei. Nothing is painted here."""

import math
from dataclasses import dataclass, field

import numpy as np

from . import nuclei as n
from .cells import apart, die, divide, fill_sheet, fill_stroma, fill_tumour
from .cohort import ADENOCARCINOMA, LYMPHOID, MUCOSA, SOLID, TUMOURS, Biology
from .fields import FAR_UM, Canvas, Field, hex_points, patch
from .glands import Vacuole, gland_distances, line_glands, place_glands
from .nuclei import NO_NUCLEI, Nuclei

COMPARTMENTS = ("epithelium", "lumen", "necrosis", "adipose", "sheet", "vessel")


@dataclass(frozen=True)
class Layout:
    """One tile's anatomy. Planes are on the coarse grid, signed distances in um, negative inside."""

    biology: Biology
    canvas: Canvas
    epithelium: Field
    lumen: Field
    necrosis: Field
    adipose: Field
    sheet: Field  # lymphoid tissue
    vessel: Field
    nuclei: Nuclei
    goblets: list[Vacuole] = field(default_factory=list)
    adipocytes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))


def lay_out(canvas: Canvas, biology: Biology, rng: np.random.Generator) -> Layout:
    """Return the anatomy of one tile: compartments first, then the nuclei that live in them."""
    planes, lining, goblets = place_compartments(canvas, biology, rng)
    wall = NO_NUCLEI
    if biology.vessels > 0.45:
        planes["vessel"], wall = place_vessel(canvas, planes, rng)
    found = [lining, wall]
    if biology.label in TUMOURS:
        found += [fill_tumour(canvas, biology, planes, rng), die(canvas, biology, planes, rng)]
    if biology.label == LYMPHOID:
        found.append(fill_sheet(canvas, planes, rng))
    found.append(fill_stroma(canvas, biology, planes, rng))
    # Cells divide once it is settled which there are; a dividing cell needs room, so neighbours give way.
    nuclei = apart(divide(biology, apart(np.concatenate(found)), rng))
    adipocytes = hex_points(canvas, 36.0, 0.22, rng) if biology.adipose > 0 else np.zeros((0, 2))
    return Layout(biology, canvas, **planes, nuclei=nuclei, goblets=goblets, adipocytes=adipocytes)


def place_compartments(
    canvas: Canvas, biology: Biology, rng: np.random.Generator
) -> tuple[dict[str, Field], Nuclei, list[Vacuole]]:
    """Return the compartments as distances, with the nuclei and goblets that line the glands."""
    outside = np.full((len(canvas.coarse_axis()),) * 2, FAR_UM, np.float32)
    planes: dict[str, Field] = dict.fromkeys(COMPARTMENTS, outside)
    lining, goblets = NO_NUCLEI, []
    if biology.label in TUMOURS and biology.necrosis > 0:
        planes["necrosis"] = patch(canvas, rng, biology.necrosis, 26.0)
    if biology.label in (MUCOSA, ADENOCARCINOMA):
        glands = place_glands(canvas, biology, rng)
        planes["epithelium"], planes["lumen"] = gland_distances(canvas, glands)
        lining, goblets = line_glands(canvas, biology, glands, planes, rng)
    if biology.label == SOLID:
        planes["epithelium"] = patch(canvas, rng, 0.62 + 0.3 * rng.random(), 34.0)
    if biology.adipose > 0:
        planes["adipose"] = patch(canvas, rng, biology.adipose, 40.0)
    if biology.label == LYMPHOID:
        sheet = patch(canvas, rng, 0.75 + 0.25 * rng.random(), 36.0)
        planes["sheet"] = np.maximum(sheet, 1.5 - planes["adipose"])
    return planes, lining, goblets


def place_vessel(canvas: Canvas, planes: dict[str, Field], rng: np.random.Generator) -> tuple[Field, Nuclei]:
    """Return a capillary or venule in the stroma, if a free place turns up, and its endothelial nuclei."""
    axis = canvas.coarse_axis()
    radius = float(rng.uniform(3.5, 9.5))
    stretch, angle = float(rng.uniform(1.0, 2.2)), float(rng.uniform(0, math.pi))
    places = rng.uniform(0, canvas.tile_um, (6, 2))
    room = np.minimum(*(canvas.sample(planes[p], places[:, 0], places[:, 1]) for p in ("epithelium", "adipose")))
    free = np.flatnonzero(room > radius * stretch + 2.5)
    if not len(free):
        return np.full((len(axis), len(axis)), FAR_UM, np.float32), NO_NUCLEI
    x, y = places[free[0]]
    c, s = math.cos(angle), math.sin(angle)
    dx, dy = axis[None, :] - x, axis[:, None] - y
    distance = np.hypot((dx * c + dy * s) / stretch, dy * c - dx * s) - radius
    t = np.arange(0, 2 * math.pi, 9.0 / (radius * stretch))
    t = t[rng.random(len(t)) < 0.6] + rng.uniform(0, 6.3)
    u, v = (radius + 0.9) * stretch * np.cos(t), (radius + 0.9) * np.sin(t)
    wall = n.make_nuclei(
        x + u * c - v * s,
        y + u * s + v * c,
        major=rng.uniform(6.5, 10, len(t)),
        minor=rng.uniform(1.8, 2.6, len(t)),
        angle=np.arctan2(radius * np.cos(t), -radius * stretch * np.sin(t)) + angle,
        kind=n.ENDOTHELIAL,
        irregular=0.03,
        density=rng.uniform(1.0, 1.5, len(t)),
        coarse=0.2,
    )
    return distance.astype(np.float32), wall
