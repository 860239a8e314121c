"""Populations of nuclei: epithelium and tumour, lymphocytes, fibroblasts, dying and dividing cells."""

import math

import numpy as np
from scipy.spatial import KDTree

from . import nuclei as n
from .cohort import ADENOCARCINOMA, LYMPHOID, MUCOSA, STROMA, TUMOURS, Biology
from .fields import FAR_UM, Canvas, Field, hex_points, patch
from .nuclei import Nuclei


def epithelial_cells(
    biology: Biology, x: np.ndarray, y: np.ndarray, angle: np.ndarray, rng: np.random.Generator
) -> Nuclei:
    """Return epithelial or tumour nuclei that follow the tile's factors."""
    count = len(x)
    tumour = biology.label in TUMOURS
    diameter = biology.nuclear_diameter_um * np.exp(rng.normal(0, biology.pleomorphism, count))
    diameter = np.clip(diameter, 4.2, 19.0)
    stretch = np.sqrt(np.maximum(biology.elongation * np.exp(rng.normal(0, 0.10, count)), 1.0))
    chromatin = np.clip(biology.chromatin + rng.normal(0, 0.10, count), 0, 1)
    return n.make_nuclei(
        x,
        y,
        major=diameter * stretch,
        minor=diameter / stretch,
        angle=angle,
        kind=n.TUMOUR if tumour else n.EPITHELIAL,
        irregular=np.abs(rng.normal(0.04 + 0.11 * biology.anaplasia, 0.03, count)),
        density=np.clip(rng.normal(1.02, 0.13 + 0.12 * biology.anaplasia, count), 0.6, 1.7),
        vesicular=np.clip(0.15 + 0.55 * chromatin + rng.normal(0, 0.15, count), 0, 1),
        coarse=chromatin,
        nucleolus=np.clip(0.75 * biology.anaplasia + rng.normal(0.12, 0.25, count), 0, 1),
    )


def fill_tumour(canvas: Canvas, biology: Biology, planes: dict[str, Field], rng: np.random.Generator) -> Nuclei:
    """Return tumour nuclei inside nests, or deep in the epithelium of glands."""
    d0 = biology.nuclear_diameter_um
    points = hex_points(canvas, d0 * biology.spacing, 0.16, rng)
    base, lumen, dead = sample_planes(canvas, planes, ("epithelium", "lumen", "necrosis"), points)
    ringed = 1.3 * d0 if biology.label == ADENOCARCINOMA else 0.42 * d0
    points = points[(base < -ringed) & (lumen > 0.55 * d0) & (dead > 1)]
    return epithelial_cells(biology, points[:, 0], points[:, 1], rng.uniform(0, math.pi, len(points)), rng)


def divide(biology: Biology, cells: Nuclei, rng: np.random.Generator) -> Nuclei:
    """Return the cells, each in mitosis with the tile's chance. The rate is above nature's, so that there is truth."""
    cells = cells.copy()
    chosen = (rng.random(len(cells)) < biology.mitotic_rate) & (cells["kind"] == n.TUMOUR)
    count = int(chosen.sum())
    phases = rng.choice([n.PROMETAPHASE, n.METAPHASE, n.ANAPHASE, n.TELOPHASE], count, p=[0.25, 0.4, 0.22, 0.13])
    major = rng.uniform(6.5, 9.5, count)
    cells["phase"][chosen] = phases
    cells["major"][chosen] = np.where(phases == n.PROMETAPHASE, 7.5, major)
    minor = np.array([0, 6.8, 2.6, 5.8, 8.8])
    cells["minor"][chosen] = np.minimum(minor[phases], cells["major"][chosen])
    cells["angle"][chosen] = rng.uniform(0, math.pi, count)
    cells["density"][chosen] = rng.uniform(1.75, 2.3, count)
    return cells


def die(canvas: Canvas, biology: Biology, planes: dict[str, Field], rng: np.random.Generator) -> Nuclei:
    """Return apoptotic bodies among tumour cells (they look like mitoses) and debris in necrosis."""
    points = hex_points(canvas, 6.0, 0.4, rng)
    base, lumen, dead = sample_planes(canvas, planes, ("epithelium", "lumen", "necrosis"), points)
    chance = np.where(dead < -1, 0.22, np.where((base < -3) & (lumen > 2), 0.010 + 0.012 * biology.anaplasia, 0.0))
    chance = np.where((dead < -1) & (lumen < 0), 0.1, chance)
    points = points[rng.random(len(points)) < chance]
    count = len(points)
    size = rng.uniform(1.2, 4.0, count)
    return n.make_nuclei(
        points[:, 0],
        points[:, 1],
        major=size * 1.1,
        minor=size / 1.1,
        angle=rng.uniform(0, math.pi, count),
        kind=n.APOPTOTIC,
        irregular=rng.uniform(0.02, 0.18, count),
        density=rng.uniform(1.1, 2.2, count),
    )


def _lymphocytes(points: np.ndarray, rng: np.random.Generator, plasma: float = 0.0) -> Nuclei:
    count = len(points)
    is_plasma = rng.random(count) < plasma
    size = np.where(is_plasma, rng.normal(6.6, 0.5, count), rng.normal(5.7, 0.45, count))
    return n.make_nuclei(
        points[:, 0],
        points[:, 1],
        major=size * 1.06,
        minor=size / 1.06,
        angle=rng.uniform(0, math.pi, count),
        kind=np.where(is_plasma, n.PLASMA, n.LYMPHOCYTE),
        irregular=np.abs(rng.normal(0.03, 0.02, count)),
        density=np.clip(rng.normal(1.45, 0.16, count), 1.0, 2.0),
        coarse=np.where(is_plasma, 0.8, rng.uniform(0.25, 0.5, count)),
        vesicular=np.where(is_plasma, 0.3, 0.05),
    )


def fill_sheet(canvas: Canvas, planes: dict[str, Field], rng: np.random.Generator) -> Nuclei:
    """Return a sheet of lymphocytes, with a paler centre of larger cells that are not tumour."""
    points = hex_points(canvas, 6.5 + 1.6 * rng.random(), 0.17, rng)
    sheet, vessel = sample_planes(canvas, planes, ("sheet", "vessel"), points)
    planes = planes | {"centre": patch(canvas, rng, 0.42 * rng.random(), 36.0)}
    central = sample_planes(canvas, planes, ("centre",), points)[0] < 0
    keep = (sheet < 0) & (vessel > 2.5) & (rng.random(len(points)) < np.where(central, 0.62, 0.94))
    points, central = points[keep], central[keep]
    cells = _lymphocytes(points, rng, plasma=0.08)
    large = central & (rng.random(len(points)) < 0.75)
    count = int(large.sum())
    grown = rng.normal(7.6, 0.9, count)
    cells["major"][large], cells["minor"][large] = grown * 1.1, grown / 1.1
    cells["density"][large] = rng.normal(1.0, 0.12, count)
    cells["vesicular"][large] = rng.uniform(0.4, 0.8, count)
    cells["nucleolus"][large] = rng.uniform(0.0, 0.5, count)
    cells["kind"][large] = n.LYMPHOCYTE
    return cells


def sample_planes(
    canvas: Canvas, planes: dict[str, Field], names: tuple[str, ...], points: np.ndarray
) -> list[np.ndarray]:
    """Return the named distances at points (n, 2), in um."""
    return [canvas.sample(planes[name], points[:, 0], points[:, 1]) for name in names]


def _free(canvas: Canvas, planes: dict[str, Field], points: np.ndarray) -> np.ndarray:
    """Return how far each point is from any compartment that stroma gives way to, in um."""
    taken = sample_planes(canvas, planes, ("epithelium", "sheet", "vessel", "necrosis"), points)
    fat = sample_planes(canvas, planes, ("adipose",), points)[0]
    return np.minimum.reduce([*taken, np.where(fat > 0.5, FAR_UM, -FAR_UM)])


def fill_stroma(canvas: Canvas, biology: Biology, planes: dict[str, Field], rng: np.random.Generator) -> Nuclei:
    """Return fibroblasts along the fibres and scattered lymphocytes in what no other compartment takes."""
    points = hex_points(canvas, 13.0, 0.30, rng)
    points = points[(_free(canvas, planes, points) > 2.5) & (rng.random(len(points)) < 0.50)]
    count = len(points)
    length = rng.uniform(8.5, 15.0, count)
    spindles = n.make_nuclei(
        points[:, 0],
        points[:, 1],
        major=length,
        minor=rng.uniform(2.1, 3.8, count),
        angle=biology.fibre_angle + rng.normal(0, 0.28, count),
        kind=n.FIBROBLAST,
        irregular=np.abs(rng.normal(0.04, 0.02, count)),
        bend=rng.normal(0, 0.5, count),
        density=rng.uniform(0.8, 1.35, count),
        vesicular=rng.uniform(0.0, 0.4, count),
        coarse=rng.uniform(0.1, 0.4, count),
    )
    points = hex_points(canvas, 7.5, 0.25, rng)
    planes = planes | {"cluster": patch(canvas, rng, 0.5, 22.0)}
    cluster, epithelium, lumen = sample_planes(canvas, planes, ("cluster", "epithelium", "lumen"), points)
    rate = biology.lymphocytes * (0.3 if biology.label == LYMPHOID else 1.0)
    chance = np.where(epithelium < 0, 0.06, np.where(cluster < 0, 1.25, 0.4)) * rate
    room = (_free(canvas, planes, points) > 2.0) | ((epithelium < 0) & (lumen > 2))
    points = points[room & (rng.random(len(points)) < chance)]
    plasma = {MUCOSA: 0.4, STROMA: 0.15}.get(biology.label, 0.1)
    return np.concatenate([_lymphocytes(points, rng, plasma), spindles])


def apart(nuclei: Nuclei) -> Nuclei:
    """Return the nuclei without those that lie on an earlier one; mitotic figures come first and are kept."""
    order = np.argsort(nuclei["phase"] == 0, kind="stable")
    nuclei = nuclei[order]
    if len(nuclei) < 2:
        return nuclei
    where = np.stack([nuclei["x"], nuclei["y"]], 1)
    room = np.where(nuclei["phase"] > 0, 8.5, np.sqrt(nuclei["major"] * nuclei["minor"])) / 2
    pairs = KDTree(where).query_pairs(float(2 * room.max()), output_type="ndarray")
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    distance = np.linalg.norm(where[pairs[:, 0]] - where[pairs[:, 1]], axis=1)
    close = pairs[distance < 0.90 * (room[pairs[:, 0]] + room[pairs[:, 1]])]
    gone = np.zeros(len(nuclei), bool)
    for i, j in close.tolist():
        if not gone[i]:
            gone[j] = True
    return nuclei[~gone]
