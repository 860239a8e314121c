"""A contact sheet of perturbations: one tile, a row per operation, a column per severity."""

import io
import textwrap
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np

from .._types import Tile
from ..errors import OptionError
from ..perturb import ASSUMED_MPP, SEVERITIES, Donor, Operation, climb
from .canvas import COLOURS, STYLE

DPI = 100
THUMB, GAP, LABEL, CAPTION, HEAD, FOOT = 150, 10, 310, 22, 118, 14
LEAST_ROW = 178
#: Colour, sign and word say the role: two of them survive any eye and any printer.
ROLES = {"must-ignore": (COLOURS[0], "○"), "must-react": (COLOURS[1], "▲"), "control": ("#555555", "□")}
GREY, RULE = "#555555", 205
WRAP, MOST_LINES = 48, 5


@matplotlib.rc_context(STYLE)
def draw_ladders(
    tile: Tile,
    operations: Sequence[Operation],
    *,
    name: str = "tile",
    seed: int = 0,
    mpp: float | None = None,
    donors: Sequence[Donor] = (),
) -> bytes:
    """Return a PNG: the tile, and under each operation at severity 1 to 5 with its level and unit.

    `name` is the tile's id, which decides what is random, together with `seed`. The picture is 1,280 px wide and grows
    with the number of operations; tiles are shown at up to 150 px a side.

    Raises
    ------
    OptionError
        If there is no operation, or `mpp` is no positive number.
    """
    if not operations:
        raise OptionError("no operation to show")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    original = _shown(tile)
    high, wide = original.shape[:2]
    row = max(high + CAPTION, LEAST_ROW) + GAP
    width = LABEL + (len(SEVERITIES) + 1) * (THUMB + GAP) + GAP
    height = HEAD + row * len(operations) + FOOT
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)

    def write(x: int, y: int, text: str, **how) -> None:
        figure.text(x / width, 1 - y / height, text, **{"va": "top", "fontsize": 9, **how})

    _write_head(write, tile, name, seed, mpp, donors, operations)
    for number, operation in enumerate(operations):
        top = HEAD + number * row
        canvas[top - 3, GAP:-GAP] = RULE
        _write_label(write, operation, top)
        views = [original, *map(_shown, climb(tile, operation, tile_id=name, seed=seed, mpp=mpp, donors=donors))]
        captions = ["as it is", *(operation.caption(severity) for severity in SEVERITIES)]
        for column, (view, caption) in enumerate(zip(views, captions, strict=True)):
            left = LABEL + column * (THUMB + GAP) + (THUMB - wide) // 2
            above = top + CAPTION
            canvas[above - 1 : above + high + 1, left - 1 : left + wide + 1] = RULE  # white corners need an edge
            canvas[above : above + high, left : left + wide] = view
            write(LABEL + column * (THUMB + GAP) + THUMB // 2, top + 4, caption, ha="center", fontsize=8)
    figure.figimage(canvas, 0, 0, zorder=-1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _write_head(write, tile: Tile, name: str, seed: int, mpp: float | None, donors, operations) -> None:
    shown = name if len(name) <= 90 else f"…{name[-89:]}"
    write(GAP, 12, shown, fontsize=14, fontweight="bold")
    size = f"{tile.shape[1]} x {tile.shape[0]} px"
    scale = f"{mpp:g} um/px" if mpp else f"{ASSUMED_MPP:g} um/px assumed"
    text = f"{size}, {scale}, seed {seed}"
    if any(operation.needs_donor for operation in operations):
        text += (
            f"; other tissue: {len(donors)} tiles given" if donors else "; other tissue: drawn, as no tiles were given"
        )
    write(GAP, 38, text, color=GREY)
    for place, (role, (colour, sign)) in enumerate(ROLES.items()):
        said = {"must-ignore": "holds no biology", "must-react": "destroys biology", "control": "the machinery alone"}
        write(GAP + 300 * place, 58, f"{sign} {role}: {said[role]}", color=colour)
    for column, title in enumerate(("tile", *(f"severity {severity}" for severity in SEVERITIES))):
        write(LABEL + column * (THUMB + GAP) + THUMB // 2, 94, title, ha="center", fontweight="bold")


def _write_label(write, operation: Operation, top: int) -> None:
    colour, sign = ROLES[operation.role]
    write(GAP, top + 4, operation.name, fontsize=11, fontweight="bold")
    write(GAP, top + 24, f"{sign} {operation.role}", color=colour, fontweight="bold")
    if operation.family != operation.role:
        write(GAP + 115, top + 24, operation.family, color=GREY)
    unit = f", {operation.unit}" if operation.unit and operation.graded else ""
    at = top + 43
    for text, colour in (
        (f"{operation.parameter}{unit}", "#000000"),
        (operation.describes, "#222222"),
        (f"misleads: {operation.misleads}" if operation.misleads else "", GREY),
    ):
        lines = textwrap.wrap(text, WRAP, max_lines=MOST_LINES, placeholder=" …")
        write(GAP, at, "\n".join(lines), fontsize=7.5, color=colour, linespacing=1.2)
        at += 13 * len(lines) + 2


def _shown(tile: Tile) -> Tile:
    """Return a tile at the size in which it is shown: made smaller by area, or larger by whole pixels."""
    longer = max(tile.shape[:2])
    if longer > THUMB:
        sides = tuple(max(1, round(side * THUMB / longer)) for side in tile.shape[1::-1])
        return np.asarray(cv2.resize(tile, sides, interpolation=cv2.INTER_AREA), np.uint8)
    times = max(1, THUMB // longer)
    return np.repeat(np.repeat(tile, times, axis=0), times, axis=1)
