"""Glands: closed curves of epithelium around a lumen, their nuclei and their goblets."""

import math
from dataclasses import dataclass

import numpy as np

from .cells import epithelial_cells
from .cohort import MUCOSA, TUMOURS, Biology
from .fields import FAR_UM, Canvas, Field, hex_points
from .nuclei import NO_NUCLEI, Nuclei


@dataclass(frozen=True)
class Gland:
    """A closed curve around an epithelium: r(t) = radius (1 + sum of cosines)."""

    x: float
    y: float
    radius: float
    waves: np.ndarray  # (3, 2): cosine and sine amplitudes of 2, 3, 5 lobes
    height: float  # of the epithelium, um; the rest is lumen

    def edge(self, t: np.ndarray) -> np.ndarray:
        """Return the radius at angles `t`, in um."""
        k = np.array([2.0, 3.0, 5.0])
        angles = np.multiply.outer(t, k)
        return self.radius * (1 + np.cos(angles) @ self.waves[:, 0] + np.sin(angles) @ self.waves[:, 1])


@dataclass(frozen=True)
class Vacuole:
    """A goblet of mucin in an epithelial cell."""

    x: float
    y: float
    radius: float


def place_glands(canvas: Canvas, biology: Biology, rng: np.random.Generator) -> list[Gland]:
    """Return the glands: round and apart in mucosa, irregular and back to back in carcinoma."""
    benign = biology.label == MUCOSA
    spacing = 54.0 if benign else 40.0 + 10 * rng.random()
    centres = hex_points(canvas, spacing, 0.08 if benign else 0.17, rng)
    waves_sd = np.array([[0.05], [0.03], [0.015]]) * (1.0 if benign else 1.8 + 1.6 * biology.anaplasia)
    glands = []
    for x, y in centres:
        radius = spacing * (0.43 if benign else 0.50) * float(np.exp(rng.normal(0, 0.06 if benign else 0.16)))
        height = min(14.5 if benign else 11.0 + 4 * biology.anaplasia, 0.8 * radius)
        if rng.random() > biology.gland_formation:
            height = radius * (0.9 + 0.6 * rng.random())
        glands.append(Gland(float(x), float(y), radius, rng.normal(0, 1, (3, 2)) * waves_sd, height))
    return glands


def gland_distances(canvas: Canvas, glands: list[Gland]) -> tuple[Field, Field]:
    """Return the distances to the nearest epithelium's base and to the nearest lumen's edge."""
    axis = canvas.coarse_axis()
    width = float(axis[1] - axis[0])
    base = np.full((len(axis), len(axis)), FAR_UM, np.float32)
    lumen = base.copy()
    for gland in glands:
        reach = gland.radius * 1.6 + 10
        rows, columns = (
            slice(
                *np.clip([(c - reach - axis[0]) // width, (c + reach - axis[0]) // width + 2], 0, len(axis)).astype(int)
            )
            for c in (gland.y, gland.x)
        )
        dx, dy = axis[None, columns] - gland.x, axis[rows, None] - gland.y
        d = (np.hypot(dx, dy) - gland.edge(np.arctan2(dy, dx))).astype(np.float32)
        base[rows, columns] = np.minimum(base[rows, columns], d)
        lumen[rows, columns] = np.minimum(lumen[rows, columns], d + gland.height)
    return base, lumen


def line_glands(
    canvas: Canvas, biology: Biology, glands: list[Gland], planes: dict[str, Field], rng: np.random.Generator
) -> tuple[Nuclei, list[Vacuole]]:
    """Return the nuclei that line the glands, long axis across the epithelium, and goblets above some of them."""
    tumour = biology.label in TUMOURS
    d0, a = biology.nuclear_diameter_um, biology.anaplasia
    tables, goblets = [], []
    for gland in glands:
        pitch = 0.74 * d0 * biology.spacing / math.sqrt(biology.elongation)
        count = max(3, int(2 * math.pi * gland.radius / pitch))
        t = (np.arange(count) + rng.random() + rng.normal(0, 0.22, count)) * (2 * math.pi / count)
        depth = 0.62 * d0 + rng.normal(0, 0.35 + 0.8 * a, count)
        if tumour:
            depth += rng.random(count) ** 2 * max(gland.height - 1.15 * d0, 0.5) * (0.5 + 0.5 * a)
        r = gland.edge(t) - depth
        x, y = gland.x + r * np.cos(t), gland.y + r * np.sin(t)
        keep = np.abs(canvas.sample(planes["epithelium"], x, y) + depth) < 3.0
        tilt = rng.normal(0, 0.10 + 0.45 * a, count)
        table = epithelial_cells(biology, x, y, t + tilt, rng)
        tables.append(table[keep & (canvas.sample(planes["necrosis"], x, y) > 1)])
        if biology.mucin > 0 and not tumour:
            for i in np.flatnonzero(keep & (rng.random(count) < 0.7 * biology.mucin)):
                radius = gland.height * (0.17 + 0.05 * rng.random())
                at = float(r[i]) - 0.5 * d0 * math.sqrt(biology.elongation) - radius
                goblets.append(
                    Vacuole(float(gland.x + at * math.cos(t[i])), float(gland.y + at * math.sin(t[i])), radius)
                )
    return np.concatenate([NO_NUCLEI, *tables]), goblets
