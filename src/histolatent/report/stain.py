"""One tile's staining as a picture: what each stain is, which vectors were fitted, what else it could look like."""

import io
import math
import textwrap

import cv2
import matplotlib
import numpy as np
from jaxtyping import Float

from .._types import Tile
from ..errors import OptionError
from ..stain import (
    NORMALIZERS,
    Fit,
    NoChange,
    StainModel,
    canonical_vectors,
    colour_change,
    shipped_reference,
    stain_image,
    to_tile,
)
from ..stain.manifold import StainManifold
from ..stain.separate import density_of
from ..stain.vectors import STAIN_SETS, complete, unit_rows
from .canvas import COLOURS, STYLE

SIZE_INCHES, DPI = (14.0, 9.0), 100
GREY = "#555555"
SHOWN_REFERENCE = "phantom"
#: A cloud of this many pixels shows its shape, and draws fast.
CLOUD = 3000
CANONICAL_NAMES = "Ruifrok & Johnston 2001"
HATCHES = ("", "//", "..")
LETTERS = 150
#: Amounts of each stain in the grid, relative to the tile.
GAINS = (0.5, 1.0, 2.0)
#: Tiles of the grid are drawn at about 110 px; larger ones would only cost memory.
GRID_TILE = 256


@matplotlib.rc_context(STYLE)
def draw_stain(tile: Tile, fit: Fit, *, name: str = "tile", whose: str = "this tile alone") -> bytes:
    """Return a PNG of 1,400 x 900 px: the tile, each stain alone, the residual, the vectors, and a manifold grid.

    `name` is the tile's, `whose` says in words what the fit was made from. Of a fit that is not usable the canonical
    vectors are shown, and the verdict says so.

    Raises
    ------
    OptionError
        If the fit is one of colours (Reinhard's method), which has no vectors.
    """
    if not isinstance(fit, StainModel):
        raise OptionError("a fit of colours has no stain vectors to show", fix="fit with --method macenko")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES)
    FigureCanvasAgg(figure)
    rows = figure.add_gridspec(2, 1, left=0.055, right=0.985, top=0.855, bottom=0.065, hspace=0.24)
    pictures = rows[0].subgridspec(1, 4, wspace=0.06).subplots()
    lower = rows[1].subgridspec(1, 3, wspace=0.24, width_ratios=(1.08, 1.05, 0.87))
    _head(figure, fit, name, whose)
    _draw_pictures(pictures, tile, fit)
    _draw_plane(figure.add_subplot(lower[0]), tile, fit)
    _draw_bars(figure.add_subplot(lower[1]), fit)
    _draw_grid(figure.add_subplot(lower[2]), tile, fit)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def verdict(fit: StainModel) -> str:
    """Return what a fit is worth, in words."""
    if not fit.valid:
        return f"not usable ({fit.reason}): {fit.why}. Normalising leaves its tiles as they are"
    turned = ", ".join(
        f"{stain} {degrees:.0f}° from canonical"
        for stain, degrees in zip(fit.stains, fit.canonical_degrees, strict=True)
    )
    both = "them" if len(fit.stains) == 2 else f"{fit.stains[0]} and {fit.stains[1]}"
    said = f"usable: {turned}, {fit.separation_degrees:.0f}° between {both}"
    if fit.white_source == "default":
        said += ". No background was found, so amounts are by a default I0"
    if fit.method in NORMALIZERS and fit.stains == STAIN_SETS["H&E"]:
        change = colour_change(fit, shipped_reference(SHOWN_REFERENCE, fit.method))
        if isinstance(change, NoChange):
            said += f". Normalising to {SHOWN_REFERENCE!r} leaves its tiles as they are: {change.why}"
    return said


def _head(figure, fit: StainModel, name: str, whose: str) -> None:
    shown = name if len(name) <= 90 else f"…{name[-89:]}"
    figure.text(0.02, 0.962, shown, fontsize=14, fontweight="bold", va="center")
    colour = "#000000" if fit.valid else COLOURS[1]
    lines = textwrap.wrap(verdict(fit), LETTERS, max_lines=2, placeholder=" …")
    said = ("✓ " if fit.valid else "✕ ") + "\n".join(lines)
    figure.text(0.02, 0.942, said, fontsize=11, color=colour, va="top", linespacing=1.15)
    levels = " / ".join(f"{level:.0f}" for level in fit.white)
    origin = {"background": "found in the background", "default": "the default: no background found", "given": "given"}
    text = f"background I0: {levels} (R / G / B levels, {origin[fit.white_source]})   ·   fit: {fit.method}, {whose}"
    if fit.tiles > 1:
        text += f", {fit.tiles_used} of {fit.tiles} tiles used"
    figure.text(
        0.02, 0.895, textwrap.shorten(text, LETTERS + 20, placeholder=" …"), fontsize=9, color=GREY, va="center"
    )


def _draw_pictures(axes, tile: Tile, fit: StainModel) -> None:
    height, width = tile.shape[:2]
    names = (*fit.stains, "residual")[:3]
    titles, captions = ["tile"], [f"{width} x {height} px"]
    for number, stain in enumerate(names):
        titles.append("residual" if number >= len(fit.stains) else f"{stain} alone")
        if number >= len(fit.stains):
            captions.append("what the two do not explain, by its size")
        elif fit.valid:
            captions.append(f"99th percentile over tissue: {fit.max_concentrations[number]:.2f} OD")
        else:
            captions.append("by the canonical vector")
    images = [tile, *(to_tile(stain_image(tile, fit, number)) for number in range(3))]
    for axis, image, title, caption in zip(axes, images, titles, captions, strict=True):
        axis.imshow(image, interpolation="nearest" if max(height, width) < 300 else "antialiased")
        axis.set_title(title)
        axis.set_xlabel(caption)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(True)
            spine.set_color("#bbbbbb")


def _canonical(fit: StainModel) -> Float[np.ndarray, "_ 3"]:
    """Return the canonical vectors of the fit's stains; of vectors that were given, those themselves."""
    known = next((name for name, stains in STAIN_SETS.items() if stains == fit.stains), None)
    return fit.rows if known is None else canonical_vectors(known)


def _draw_plane(axis, tile: Tile, fit: StainModel) -> None:
    """Draw pixels and vectors in the plane of the first two canonical vectors, the first to the right."""
    canonical = _canonical(fit)
    across = canonical[1] - (canonical[1] @ canonical[0]) * canonical[0]
    plane = np.stack([canonical[0], unit_rows(across[None])[0]], axis=1)
    density = density_of(tile, fit).reshape(-1, 3)
    step = max(1, len(density) // CLOUD)
    points = density[::step] @ plane
    far = float(np.clip(np.percentile(np.linalg.norm(points, axis=1), 99.5), 0.6, 4.0)) * 1.05
    axis.scatter(points[:, 0], points[:, 1], c=tile.reshape(-1, 3)[::step] / 255, s=5, linewidths=0)
    ends = [canonical[:2] @ plane * far]
    for number, stain in enumerate(fit.stains[:2]):
        look = {"color": COLOURS[number], "solid_capstyle": "butt"}
        x, y = ends[0][number]
        axis.plot([0, x], [0, y], **look, linestyle="--", linewidth=1.5, label=f"{stain}, canonical")
        if fit.valid:
            ends.append((fit.rows[number] @ plane * far)[None])
            x, y = ends[-1][0]
            axis.plot([0, x], [0, y], **look, linewidth=2.6, label=f"{stain}, {fit.canonical_degrees[number]:.1f}° off")
    seen = points[np.linalg.norm(points, axis=1) <= far]
    _set_limits(axis, np.concatenate([*ends, seen, [[0.0, 0.0]]]))
    axis.legend(loc="upper left", fontsize=8, ncols=2, frameon=False, borderpad=0.2, columnspacing=1.2)
    axis.set_title("pixels and vectors in the plane of the stains")
    axis.set_xlabel(f"optical density along canonical {fit.stains[0]}")
    axis.set_ylabel("OD at right angles to it")


def _set_limits(axis, points: Float[np.ndarray, "_n 2"]) -> None:
    """Make room for all points at one scale for both directions, with the legend above them."""
    place, (width, height) = axis.get_position(), axis.figure.get_size_inches()
    wide, high = place.width * width, place.height * height
    low, top = points.min(axis=0), points.max(axis=0)
    span = (top - low) * (1.1, 1.35)
    scale = max(span[0] / wide, span[1] / high)
    middle = (low[0] + top[0]) / 2
    bottom = low[1] - 0.05 * (top[1] - low[1])
    axis.set_xlim(middle - scale * wide / 2, middle + scale * wide / 2)
    axis.set_ylim(bottom, bottom + scale * high)


def _draw_bars(axis, fit: StainModel) -> None:
    """Draw each vector's optical density per channel: fitted as a bar, canonical as a line across it."""
    names = (*fit.stains, "residual")[:3]
    fitted, canonical = complete(fit.rows), complete(_canonical(fit))
    for number, stain in enumerate(names):
        places = np.arange(3) + (number - 1) * 0.27
        axis.bar(
            places,
            fitted[number],
            0.23,
            color=COLOURS[number],
            hatch=HATCHES[number],
            edgecolor="white",
            linewidth=0,
            label=stain,
        )
        axis.hlines(canonical[number], places - 0.13, places + 0.13, color="black", linewidth=1.8)
    axis.hlines([], 0, 0, color="black", linewidth=1.8, label=f"canonical ({CANONICAL_NAMES})")
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xticks(range(3), ["red", "green", "blue"])
    low, high = min(fitted.min(), canonical.min(), 0), max(fitted.max(), canonical.max())
    axis.set_ylim(1.1 * low, high + 0.42)
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left", fontsize=8, ncols=2, frameon=False)
    axis.set_axisbelow(True)
    axis.set_title("vectors" if fit.valid else "vectors: canonical, since no fit can be used")
    axis.set_ylabel("optical density of a unit of stain (natural log)")


def _draw_grid(axis, tile: Tile, fit: StainModel) -> None:
    """Draw the tile at other amounts of hematoxylin and eosin: a plane of its stain manifold."""
    axis.set_title("stain manifold")
    axis.grid(visible=False)
    reason = "the stain manifold is one of H&E" if fit.stains != STAIN_SETS["H&E"] else None
    if reason or not fit.valid:
        axis.set_axis_off()
        text = reason or "no stain manifold without a usable fit"
        axis.text(0.5, 0.5, text, color=GREY, ha="center", va="center", transform=axis.transAxes)
        return
    shrink = min(1.0, GRID_TILE / max(tile.shape[:2]))
    tile = np.asarray(cv2.resize(tile, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8)
    logs = [math.log(gain) for gain in GAINS]
    images = StainManifold(fit).grid(tile, "eosin_gain", "hematoxylin_gain", logs, logs).tiles
    n, (height, width) = len(GAINS), tile.shape[:2]
    gap = max(2, max(height, width) // 60)
    sheet = np.full((n * (height + gap) - gap, n * (width + gap) - gap, 3), 255, np.uint8)
    for row, line in enumerate(images):
        for column, image in enumerate(line):
            top, left = (n - 1 - row) * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = image
    axis.imshow(sheet, interpolation="antialiased")
    names = [f"x {gain:g}" for gain in GAINS]
    axis.set_xticks([(width + gap) * i + width / 2 for i in range(n)], names)
    axis.set_yticks([(height + gap) * i + height / 2 for i in range(n)], names[::-1])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xlabel("amount of hematoxylin")
    axis.set_ylabel("amount of eosin")
