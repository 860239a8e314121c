"""Nuclei and mitotic figures: their table, and how they are drawn into the concentration maps."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from .fields import Canvas, Field, smooth_noise, soften

KINDS = ("epithelial", "tumour", "lymphocyte", "plasma cell", "fibroblast", "endothelial", "apoptotic body")
EPITHELIAL, TUMOUR, LYMPHOCYTE, PLASMA, FIBROBLAST, ENDOTHELIAL, APOPTOTIC = range(len(KINDS))
PHASES = ("none", "prometaphase", "metaphase", "anaphase", "telophase")
INTERPHASE, PROMETAPHASE, METAPHASE, ANAPHASE, TELOPHASE = range(len(PHASES))

NUCLEUS = np.dtype(
    [
        ("x", "f8"),  # um
        ("y", "f8"),
        ("major", "f8"),  # full axes, um
        ("minor", "f8"),
        ("angle", "f8"),  # of the long axis, radians
        ("kind", "i4"),
        ("phase", "i4"),
        ("irregular", "f8"),  # relative amplitude of the outline
        ("bend", "f8"),
        ("density", "f8"),  # hematoxylin
        ("vesicular", "f8"),  # 0 solid, 1 empty with a marked membrane
        ("coarse", "f8"),  # chromatin clumps
        ("nucleolus", "f8"),  # 0 none, 1 prominent
    ]
)
#: A table of nuclei, dtype `NUCLEUS`.
Nuclei = Shaped[np.ndarray, "_"]
NO_NUCLEI: Nuclei = np.zeros(0, NUCLEUS)

CHUNK_PX = 400_000
MITOSIS_REACH_UM = 7.5


def make_nuclei(x: np.ndarray, y: np.ndarray, **columns: Any) -> Nuclei:
    """Return a table of nuclei at the given places; columns not named are 0."""
    table = np.zeros(len(x), NUCLEUS)
    table["x"], table["y"] = x, y
    for name, values in columns.items():
        table[name] = values
    return table


def half_width(nuclei: Nuclei) -> np.ndarray:
    """Return how far from its centre each nucleus may leave a mark, in um."""
    reach = nuclei["major"] * (0.55 + 0.6 * nuclei["irregular"]) + 0.9
    return np.where(nuclei["phase"] > 0, MITOSIS_REACH_UM, reach)


def touching(canvas: Canvas, nuclei: Nuclei) -> np.ndarray:
    """Return which nuclei may leave a mark on the tile."""
    reach = half_width(nuclei) + 1.0
    return np.logical_and.reduce(
        [(nuclei[axis] > -reach) & (nuclei[axis] < canvas.tile_um + reach) for axis in ("x", "y")]
    )


def draw_nuclei(
    canvas: Canvas, nuclei: Nuclei, rng: np.random.Generator, hematoxylin: Field, eosin: Field
) -> tuple[Field, Field]:
    """Return the concentration maps with the nuclei drawn in.

    Nuclei are drawn in batches of like size, as patches. Absorbance adds where they overlap, as it does in a section.
    """
    pad = math.ceil(float(half_width(nuclei).max(initial=1.0)) / canvas.step) + 2
    h = np.pad(hematoxylin, pad, mode="edge")
    e = np.pad(eosin, pad, mode="edge")
    fine = np.pad(smooth_noise(rng, canvas.size, 0.55 / canvas.step), pad, mode="reflect")
    clumps = np.pad(smooth_noise(rng, canvas.size, 1.25 / canvas.step), pad, mode="reflect")
    shapes = rng.standard_normal((len(nuclei), 10)).astype(np.float32)
    seen = touching(canvas, nuclei)
    nuclei, shapes = nuclei[seen], shapes[seen]
    order = np.lexsort((half_width(nuclei), nuclei["phase"] > 0))
    start = 0
    while start < len(order):
        stop = _end_of_batch(half_width(nuclei)[order], nuclei["phase"][order] > 0, start, canvas.step)
        batch = order[start:stop]
        _draw_batch(canvas, nuclei[batch], shapes[batch], (fine, clumps), h, e, pad)
        start = stop
    inner = slice(pad, pad + canvas.size)
    return h[inner, inner], e[inner, inner]


def _end_of_batch(reach: np.ndarray, mitotic: np.ndarray, start: int, step: float) -> int:
    """Return where a batch ends: patches of like size, of one kind, and not too many pixels."""
    stop = start + 1
    while stop < len(reach):
        width = 2 * math.ceil(reach[stop] / step) + 1
        alike = reach[stop] <= 1.35 * reach[start] and mitotic[stop] == mitotic[start]
        if not alike or (stop + 1 - start) * width * width > CHUNK_PX:
            break
        stop += 1
    return stop


def _draw_batch(
    canvas: Canvas,
    nuclei: Nuclei,
    shapes: Float32[np.ndarray, "n 10"],
    noises: tuple[Field, Field],
    h: Field,
    e: Field,
    pad: int,
) -> None:
    reach = math.ceil(float(half_width(nuclei).max()) / canvas.step)
    column = np.floor((nuclei["x"] - canvas.low) / canvas.step).astype(int) + pad
    row = np.floor((nuclei["y"] - canvas.low) / canvas.step).astype(int) + pad
    inside = (column >= reach) & (column < h.shape[1] - reach) & (row >= reach) & (row < h.shape[0] - reach)
    nuclei, shapes, column, row = nuclei[inside], shapes[inside], column[inside], row[inside]
    if not len(nuclei):
        return
    span = np.arange(-reach, reach + 1)
    rows, columns = row[:, None] + span, column[:, None] + span
    fine, clumps = (noise[rows[:, :, None], columns[:, None, :]] for noise in noises)
    dx = ((columns - pad + 0.5) * canvas.step + canvas.low - nuclei["x"][:, None]).astype(np.float32)[:, None, :]
    dy = ((rows - pad + 0.5) * canvas.step + canvas.low - nuclei["y"][:, None]).astype(np.float32)[:, :, None]
    c, s = (f(nuclei["angle"]).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    u, v = dx * c + dy * s, dy * c - dx * s
    paint = _mitoses if nuclei["phase"][0] > 0 else _interphase
    cover, clear, dh, de = paint(nuclei, shapes, u, v, fine, clumps, canvas.step)
    for i in range(len(nuclei)):
        where = np.s_[row[i] - reach : row[i] + reach + 1, column[i] - reach : column[i] + reach + 1]
        h[where] = h[where] * (1 - clear[i]) + cover[i] * dh[i]
        e[where] = e[where] * (1 - clear[i]) + cover[i] * de[i]


Paint = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _column(nuclei: Nuclei, name: str) -> Float32[np.ndarray, "n 1 1"]:
    return nuclei[name].astype(np.float32)[:, None, None]


def _interphase(
    nuclei: Nuclei,
    shapes: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    fine: np.ndarray,
    clumps: np.ndarray,
    step: float,
) -> Paint:
    """Return cover, clearing, hematoxylin and eosin of ordinary nuclei: outline, membrane, chromatin, nucleoli."""
    a, b = _column(nuclei, "major") / 2, _column(nuclei, "minor") / 2
    v = v - _column(nuclei, "bend") * b * ((u / a) ** 2 - 0.4)
    uu, vv = u / a, v / b
    q = np.sqrt(uu * uu + vv * vv) + 1e-6
    c1, s1 = uu / q, vv / q
    c2, s2 = c1 * c1 - s1 * s1, 2 * c1 * s1
    c3, s3 = c2 * c1 - s2 * s1, s2 * c1 + c2 * s1
    k = shapes[:, :, None, None] * _column(nuclei, "irregular")[:, None]
    outline = 1 + 0.55 * (k[:, 0] * c2 + k[:, 1] * s2) + 0.65 * (k[:, 2] * c3 + k[:, 3] * s3)
    c5, s5 = c3 * c2 - s3 * s2, s3 * c2 + c3 * s2
    outline = outline + 0.35 * (k[:, 4] * c5 + k[:, 5] * s5)
    q = q / np.maximum(outline, 0.4)
    width = np.sqrt(a * b)
    depth = (1 - q) * width
    edge = 0.28 + step / 2
    cover = np.clip(0.5 + depth / (2 * edge), 0, 1)
    cover = cover * cover * (3 - 2 * cover)
    vesicular, coarse = _column(nuclei, "vesicular"), _column(nuclei, "coarse")
    membrane = np.exp(-(((depth - 0.55) / 0.45) ** 2))
    chromatin = 1 + (0.12 + 0.10 * coarse) * fine + (0.06 + 0.42 * coarse) * np.maximum(clumps, -1.2)
    body = (1 - 0.60 * vesicular) * chromatin + (0.16 + 0.50 * vesicular) * membrane
    nucleolus = np.zeros_like(body)
    for j, size in ((6, 1.0), (8, 0.75)):
        cx, cy = (np.clip(shapes[:, i], -1.3, 1.3)[:, None, None] * 0.33 for i in (j, j + 1))
        radius = (0.45 + 0.75 * _column(nuclei, "nucleolus")) * size
        away = np.sqrt((u - cx * a) ** 2 + (v - cy * b) ** 2)
        nucleolus = np.maximum(nucleolus, np.clip(0.5 + (radius - away) / 0.5, 0, 1))
    nucleolus *= np.minimum(_column(nuclei, "nucleolus") * 1.6, 1.0)
    density = _column(nuclei, "density")
    dh = density * np.maximum(body, 0.12) + 0.55 * nucleolus
    de = 0.16 + 0.12 * (1 - vesicular) + 0.55 * nucleolus
    return cover, cover * 0.72, dh, de


def _mitoses(
    nuclei: Nuclei,
    shapes: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    fine: np.ndarray,
    clumps: np.ndarray,
    step: float,
) -> Paint:
    """Return cover, clearing, hematoxylin and eosin of mitotic figures: chromosomes in a cleared, rounded cell."""
    phase = _column(nuclei, "phase")
    half = _column(nuclei, "major") / 2
    ragged = 0.55 * fine + 0.75 * clumps
    # Signed depths in um, positive inside. Plate: a bar along u. Anaphase, telophase: two bars, apart along v.
    apart = np.where(phase == TELOPHASE, 3.6, 2.1).astype(np.float32)
    curved = v - 0.05 * u * u * np.sign(shapes[:, :1, None])
    plate = 1.25 - np.sqrt(np.maximum(np.abs(u) - half + 1.25, 0) ** 2 + curved**2)
    short = half * np.where(phase == TELOPHASE, 0.72, 0.88)
    bar_v = np.abs(v) - apart - 0.06 * u * u
    pair = 1.0 - np.sqrt(np.maximum(np.abs(u) - short + 1.0, 0) ** 2 + bar_v**2)
    radius = np.sqrt(u * u + (v * 1.15) ** 2)
    knot = np.minimum(3.4 - radius, 0.9 + 0.55 * radius) + 0.7 * clumps - 0.3
    depth = np.where(phase == METAPHASE, plate, np.where(phase == PROMETAPHASE, knot, pair)) + 0.32 * ragged
    edge = 0.25 + step / 2
    chromosomes = np.clip(0.5 + depth / (2 * edge), 0, 1)
    cell = np.clip((6.2 - np.sqrt(u * u + v * v)) / 1.6, 0, 1)
    cell = cell * cell * (3 - 2 * cell)
    # The cell around the figure is pale and even: cover holds the figure, clearing removes what was there.
    cover = np.maximum(chromosomes, cell)
    dh = np.where(cover > 0, (chromosomes * _column(nuclei, "density") + (1 - chromosomes) * 0.10), 0)
    de = chromosomes * 0.25 + (1 - chromosomes) * (0.24 + 0.03 * fine)
    return cover, np.maximum(chromosomes * 0.85, cell * 0.75), dh, de * cell.clip(0.6)


def blur_nuclear_shadow(canvas: Canvas, hematoxylin: Field) -> Field:
    """Return the map with a faint shadow of nuclei above and below the plane of focus."""
    return 0.9 * hematoxylin + 0.1 * soften(hematoxylin, 1.2 / canvas.step)
