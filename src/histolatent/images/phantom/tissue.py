"""One tile painted as concentrations: fibres, cytoplasm, lumens, fat, mucin, necrosis, blood, then nuclei."""

import math

import cv2
import numpy as np

from . import nuclei as n
from .cohort import LYMPHOID, TUMOURS, Biology
from .fields import Canvas, Field, hex_points, lattice_noise, smooth_noise, soften, step_up
from .layout import Layout
from .nuclei import draw_nuclei

Maps = tuple[Field, Field]


def paint(layout: Layout, rng: np.random.Generator) -> Maps:
    """Return the concentrations of hematoxylin and eosin on the tile's pixels.

    Absorbance of empty glass is 0. The maps hold the section itself (its morphology and thickness); what a laboratory
    and a scanner make of it is `render`'s part.
    """
    canvas, biology = layout.canvas, layout.biology
    planes = {name: canvas.refine(getattr(layout, name)) for name in ("epithelium", "lumen", "necrosis", "adipose")}
    ripple = 0.8 * smooth_noise(rng, canvas.size, 3.5 / canvas.step)
    h, e = paint_stroma(canvas, biology, rng)
    if biology.adipose > 0:
        h, e = paint_adipose(layout, planes["adipose"] + ripple, rng, h, e)
    if biology.label == LYMPHOID:
        h, e = paint_sheet(layout, rng, h, e)
    if layout.epithelium.min() < 0:
        h, e = paint_epithelium(layout, planes, ripple, rng, h, e)
    if layout.goblets:
        h, e = paint_goblets(layout, rng, h, e)
    if biology.necrosis > 0:
        h, e = paint_necrosis(canvas, planes["necrosis"] + 2.5 * ripple, planes["lumen"], rng, h, e)
    if layout.vessel.min() < 0:
        h, e = paint_vessel(layout, rng, h, e)
    h, e = draw_nuclei(canvas, layout.nuclei, rng, h, e)
    return finish(canvas, rng, h, e)


def finish(canvas: Canvas, rng: np.random.Generator, h: Field, e: Field) -> Maps:
    """Return the maps on the tile's pixels, with the section's grain and uneven thickness."""
    grain = 1 + 0.09 * smooth_noise(rng, canvas.size, 0.7 / canvas.step)
    uneven = 1 + 0.06 * smooth_noise(rng, canvas.size, 35.0 / canvas.step)
    h = n.blur_nuclear_shadow(canvas, h)
    h, e = (np.maximum(canvas.crop(field * uneven * grain), 0).astype(np.float32) for field in (h, e))
    return h, e


def fibre_noise(
    canvas: Canvas, along: Field, across: Field, rng: np.random.Generator, width_um: float, length_um: float
) -> Field:
    """Return noise that is long along the fibres and thin across them; coordinates are in um from the middle."""
    reach_um = 0.75 * canvas.size * canvas.step
    row_um, column_um = min(canvas.step, width_um / 3), length_um / 5
    shape = math.ceil(2 * reach_um / row_um) + 4, math.ceil(2 * reach_um / column_um) + 4
    texture = lattice_noise(rng, shape, (width_um / row_um, length_um / column_um))
    return cv2.remap(
        texture,
        (along + np.float32(reach_um)) * np.float32(1 / column_um),
        (across + np.float32(reach_um)) * np.float32(1 / row_um),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def paint_stroma(canvas: Canvas, biology: Biology, rng: np.random.Generator) -> Maps:
    """Return collagen: wavy strands and fibrils along one direction that drifts, with clefts between them.

    `fibrosis` 0 is a loose net of thin strands, 1 is a dense band without gaps.
    """
    axis, um = canvas.axis(), canvas.step
    middle = canvas.tile_um / 2
    c, s = math.cos(biology.fibre_angle), math.sin(biology.fibre_angle)
    x, y = axis[None, :] - middle, axis[:, None] - middle
    wave = (
        3.4 * smooth_noise(rng, canvas.size, 30.0 / um)
        + 1.0 * smooth_noise(rng, canvas.size, 9.0 / um)
        + 0.25 * smooth_noise(rng, canvas.size, 2.5 / um)
    )
    along = (x * c + y * s + 0.6 * wave).astype(np.float32)
    across = (y * c - x * s + wave).astype(np.float32)
    slant = across + np.float32(0.16) * along
    bundles = fibre_noise(canvas, along, across, rng, 3.4, 26.0)
    fibrils = fibre_noise(canvas, along, across, rng, 0.75, 9.0)
    thin = fibre_noise(canvas, along, slant, rng, 2.1, 15.0)
    thick = fibre_noise(canvas, along, across, rng, 3.6, 20.0)
    loose = smooth_noise(rng, canvas.size, 20.0 / um)
    dense = np.float32(2.3 * biology.fibrosis - 1.15) + 0.45 * loose
    fill = step_up(0.8 * bundles + dense, -1.1, 1.0)
    strands = np.maximum(step_up(np.abs(thin), 0.42, 0.05), 0.9 * step_up(np.abs(thick), 0.38, 0.06))
    cleft = step_up(fibre_noise(canvas, along, slant, rng, 1.7, 17.0) - 0.35 * dense, 0.85, 1.5)
    e = fill * (0.33 + 0.07 * bundles + 0.10 * fibrils) + strands * (0.25 - 0.13 * fill) * (1 + 0.35 * fibrils)
    e = np.maximum(e * (1 - 0.85 * cleft), 0.018) * np.float32(1.12 * biology.eosinophilia)
    h = (0.03 + 0.05 * fill + 0.03 * strands + 0.02 * fibrils) * (1 - 0.7 * cleft) * np.float32(biology.basophilia)
    return h.astype(np.float32), e.astype(np.float32)


def mix(below: Maps, above: tuple[Field | float, Field | float], cover: Field) -> Maps:
    """Return `above` laid over `below` with the given cover (0 to 1)."""
    h, e = (
        b + cover * (np.float32(a) if isinstance(a, float) else a) - cover * b
        for b, a in zip(below, above, strict=True)
    )
    return h, e


def cell_borders(canvas: Canvas, centres: np.ndarray, rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """Return, for cells around the given centres: distance to the centre (um), a value per cell, and the borders."""
    size = canvas.size
    seeds = np.ones((size, size), np.uint8)
    column = np.clip(((centres[:, 0] - canvas.low) / canvas.step).astype(int), 0, size - 1)
    row = np.clip(((centres[:, 1] - canvas.low) / canvas.step).astype(int), 0, size - 1)
    seeds[row, column] = 0
    blank = np.zeros((size, size), np.float32)
    if not len(centres):
        return blank + np.float32(99.0), blank, blank
    distance, found = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    cells = np.asarray(found, dtype=np.int32)
    values = rng.standard_normal(int(cells.max()) + 1).astype(np.float32)[cells]
    border = np.zeros((size, size), np.float32)
    border[:, 1:] = cells[:, 1:] != cells[:, :-1]
    border[1:] = np.maximum(border[1:], cells[1:] != cells[:-1])
    border = np.minimum(soften(border, 0.38 / canvas.step) * np.float32(1.0 / canvas.step), 1.0)
    return distance * np.float32(canvas.step), soften(values, 0.5 / canvas.step), border


def paint_epithelium(
    layout: Layout, planes: dict[str, Field], ripple: Field, rng: np.random.Generator, h: Field, e: Field
) -> Maps:
    """Return the maps with epithelium or tumour nests, their cell borders, basement membrane and lumens."""
    canvas, biology = layout.canvas, layout.biology
    tumour = biology.label in TUMOURS
    base = planes["epithelium"] + 0.7 * ripple * (1.6 if tumour else 0.6)
    lumen = planes["lumen"] + ripple * (1.0 if tumour else 0.35)
    own = layout.nuclei[np.isin(layout.nuclei["kind"], (n.EPITHELIAL, n.TUMOUR))]
    away, value, border = cell_borders(canvas, np.stack([own["x"], own["y"]], 1), rng)
    granules = smooth_noise(rng, canvas.size, 0.9 / canvas.step)
    cloud = smooth_noise(rng, canvas.size, 4.0 / canvas.step)
    cyto_h = (0.20 + 0.05 * value + 0.04 * granules + 0.03 * cloud) * biology.basophilia
    cyto_e = (0.40 + 0.06 * value + 0.05 * granules + 0.05 * cloud) * biology.eosinophilia
    d0 = biology.nuclear_diameter_um
    gap = (1 - biology.cohesion) * step_up(away + 0.5 * granules, 0.52 * d0, 0.80 * d0)
    tight = border * np.float32(0.25 + 0.6 * biology.cohesion)
    cyto_e = cyto_e * (1 - 0.80 * gap) + 0.17 * tight
    cyto_h = cyto_h * (1 - 0.75 * gap) - 0.06 * border * (1 - biology.cohesion)
    cyto_e = cyto_e * (1 - 0.75 * border * (1 - biology.cohesion))
    inside = step_up(base, 0.5, -0.5)
    # Tumour nests shrink away from the stroma; benign glands sit on a thin membrane.
    rim = np.exp(-(((base - 1.0) / 0.7) ** 2))
    if tumour:
        retraction = (
            rim * np.float32(0.75) * step_up(ripple + smooth_noise(rng, canvas.size, 16 / canvas.step), -0.2, 0.9)
        )
        h, e = h * (1 - retraction), e * (1 - retraction)
    else:
        e = e + 0.16 * rim
    h, e = mix((h, e), (cyto_h, cyto_e), inside)
    apical = np.exp(-(((lumen - 0.7) / 0.7) ** 2)) * inside
    e = e + 0.16 * apical
    hollow = step_up(lumen, 0.3, -0.7)
    wisps = np.maximum(
        smooth_noise(rng, canvas.size, 2.2 / canvas.step) + smooth_noise(rng, canvas.size, 7 / canvas.step), 0
    )
    secret = 0.05 + 0.35 * biology.mucin
    return mix((h, e), (0.10 * secret * wisps + 0.04 * secret, 0.10 * secret * wisps), hollow)


def paint_goblets(layout: Layout, rng: np.random.Generator, h: Field, e: Field) -> Maps:
    """Return the maps with goblets: pale grey-blue mucin in a thin wall."""
    canvas = layout.canvas
    axis = canvas.axis()
    foam = smooth_noise(rng, canvas.size, 1.2 / canvas.step)
    h, e = h.copy(), e.copy()
    for goblet in layout.goblets:
        reach = goblet.radius + 1.5
        columns, rows = (slice(*np.searchsorted(axis, [c - reach, c + reach]).tolist()) for c in (goblet.x, goblet.y))
        d = np.hypot(axis[None, columns] - goblet.x, axis[rows, None] - goblet.y) - goblet.radius
        if not d.size:
            continue
        d = d + 0.35 * foam[rows, columns]
        cover = step_up(d, 0.4, -0.4)
        wall = np.exp(-((d / 0.5) ** 2))
        h[rows, columns] = h[rows, columns] * (1 - cover) + cover * (0.10 + 0.025 * foam[rows, columns])
        e[rows, columns] = e[rows, columns] * (1 - cover) + cover * 0.045 + 0.08 * wall
    return h, e


def paint_adipose(layout: Layout, adipose: Field, rng: np.random.Generator, h: Field, e: Field) -> Maps:
    """Return the maps with fat: empty, rounded vacuoles in thin walls."""
    canvas, um = layout.canvas, layout.canvas.step
    bow = [1.6 * smooth_noise(rng, canvas.size, 14.0 / um) / um for _ in range(2)]
    index = np.arange(canvas.size, dtype=np.float32)
    _, _, border = cell_borders(canvas, layout.adipocytes, rng)
    border = cv2.remap(
        border, index[None, :] + bow[0], index[:, None] + bow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    depth = cv2.distanceTransform((border < 0.35).astype(np.uint8), cv2.DIST_L2, 5) * np.float32(um)
    depth = soften(depth, 1.3 / um) + 0.12 * smooth_noise(rng, canvas.size, 2.5 / um)
    wall = step_up(depth, 1.05, 0.50)
    inside = step_up(adipose, 0.8, -0.8)
    rim = np.exp(-((adipose / 0.7) ** 2))
    wall = np.maximum(wall, 0.8 * rim)
    fibrils = 1 + 0.2 * smooth_noise(rng, canvas.size, 1.2 / um)
    return mix((h, e), (0.06 * wall, 0.015 + 0.40 * wall * fibrils), inside)


def paint_sheet(layout: Layout, rng: np.random.Generator, h: Field, e: Field) -> Maps:
    """Return the maps with the ground of lymphoid tissue: a fine net, little cytoplasm, sinuses."""
    canvas, biology = layout.canvas, layout.biology
    sheet = canvas.refine(layout.sheet)
    net = np.abs(smooth_noise(rng, canvas.size, 3.2 / canvas.step))
    grain = smooth_noise(rng, canvas.size, 1.0 / canvas.step)
    strands = step_up(net, 0.55, 0.05)
    ground_h = (0.13 + 0.05 * strands + 0.03 * grain) * biology.basophilia
    ground_e = (0.16 + 0.20 * strands + 0.04 * grain) * biology.eosinophilia
    return mix((h, e), (ground_h, ground_e), step_up(sheet, 1.5, -1.5))


def paint_necrosis(canvas: Canvas, necrosis: Field, lumen: Field, rng: np.random.Generator, h: Field, e: Field) -> Maps:
    """Return the maps with necrosis: smudged, granular eosin, ghosts of cells, dust of nuclei."""
    smudge = smooth_noise(rng, canvas.size, 7.0 / canvas.step)
    granules = smooth_noise(rng, canvas.size, 1.1 / canvas.step)
    ghosts = smooth_noise(rng, canvas.size, 4.0 / canvas.step)
    dust = step_up(smooth_noise(rng, canvas.size, 0.9 / canvas.step), 1.7, 2.4)
    dead_e = np.maximum(0.42 + 0.09 * smudge + 0.09 * granules + 0.09 * np.abs(ghosts), 0.1)
    dead_h = np.maximum(0.10 + 0.04 * smudge + 0.04 * granules, 0.02) + 0.7 * dust
    return mix((h, e), (dead_h, dead_e), step_up(necrosis, 1.5, -1.5) * step_up(lumen, -0.5, 0.5))


def paint_vessel(layout: Layout, rng: np.random.Generator, h: Field, e: Field) -> Maps:
    """Return the maps with a vessel: a wall, and red cells (paler in their middle) in the lumen."""
    canvas = layout.canvas
    vessel = canvas.refine(layout.vessel)
    wall = step_up(vessel, 2.6, 1.8)
    h, e = mix((h, e), (0.08, 0.62), wall)
    h, e = mix((h, e), (0.01, 0.03), step_up(vessel, 0.4, -0.4))
    red = hex_points(canvas, 6.3, 0.16, rng)
    room = canvas.sample(layout.vessel, *red.T)
    red = red[(room < -2.4) & (rng.random(len(red)) < rng.uniform(0.2, 1.0))]
    away, value, _ = cell_borders(canvas, red, rng)
    disc = step_up(away, 3.15, 2.65) * step_up(vessel, 0.3, -0.3)
    pallor = 1 - 0.30 * step_up(away, 1.6, 0.2)
    return mix((h, e), (0.02, (1.05 + 0.12 * value) * pallor), disc)
