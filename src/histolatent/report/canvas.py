"""What all figures share: colours and markers of encoders, panels, intervals, and SVG and PNG with fixed bytes."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np

from ..audit.result import AuditResult, EncoderResult, Figure
from .movies import Frame

#: Okabe & Ito 2008: told apart by people with any of the common colour deficiencies. Markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 10.2  # inches; 100 px of the page each
PNG_DPI = 150
FRAME_DPI = 100
GREY = "#555555"
MOST_LETTERS = 34  # of a name in a figure; the page has it in full
LEGEND_LETTERS = 132  # fit one row of the legend
LINE = 0.19  # inches

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "histolatent",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True)
class Drawn:
    """A figure in both forms. Jupyter shows it."""

    svg: str
    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


styled = matplotlib.rc_context(STYLE)


def blank(size: tuple[float, float]):
    """Return a figure without panels. The object-oriented way: no pyplot, no global state, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def panels(rows: int, columns: int, size: tuple[float, float], **options):
    """Return a figure and its panels."""
    figure = blank(size)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def finish(figure) -> Drawn:
    """Return a figure as SVG and PNG: the same bytes for the same numbers."""
    text, pixels = io.StringIO(), io.BytesIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(pixels, format="png", dpi=PNG_DPI, metadata={"Software": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids of groups are the same in every figure, and one page holds them all; nothing refers to them.
    return Drawn(re.sub(r'<g id="[a-z]+(?:\.[a-z]+)?_[\w.]+">', "<g>", svg), pixels.getvalue())


def frame_of(figure) -> Frame:
    """Return a figure as a frame of a movie."""
    figure.set_dpi(FRAME_DPI)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def look(result: AuditResult, encoder: EncoderResult) -> dict[str, str]:
    """Return colour and marker of an encoder: the same in every figure, and no two alike up to 49 encoders."""
    lap, place = divmod(result.encoders.index(encoder), len(COLOURS))
    return {"color": COLOURS[place], "marker": MARKERS[(place + lap) % len(MARKERS)]}


def short(name: str) -> str:
    """Return a name that fits a figure: both ends of a long one."""
    if len(name) <= MOST_LETTERS:
        return name
    half = (MOST_LETTERS - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def shorts(encoders: Sequence[EncoderResult]) -> list[str]:
    """Return names for a figure, in full where two would become the same."""
    names = [short(encoder.name) for encoder in encoders]
    return [name if names.count(name) == 1 else encoder.name for name, encoder in zip(names, encoders, strict=True)]


def draw_legend(figure, handles, names: Sequence[str]) -> float:
    """Draw a legend above the panels, in as many rows as the names need, and return its height in inches."""
    columns = max(1, min(len(names), LEGEND_LETTERS // (max(map(len, names)) + 8)))
    figure.legend(handles, names, loc="upper center", ncols=columns, frameon=False, bbox_to_anchor=(0.5, 1.0))
    return 0.2 + LINE * -(-len(names) // columns)


def draw_interval(axis, figure: Figure, row: int, style: dict[str, str], *, hollow: bool = False) -> None:
    """Draw a value with its interval at a row, and the value in words at the right edge."""
    if figure.value is None:
        axis.text(1.03, row, "n. d.", va="center", fontsize=8, color=GREY, transform=axis.get_yaxis_transform())
        return
    if figure.low is not None and figure.high is not None:
        axis.plot([figure.low, figure.high], [row, row], color=style["color"], linewidth=2.2, clip_on=False)
    axis.plot([figure.value], [row], **style, **face(hollow), markersize=6, clip_on=False, linestyle="none")
    axis.text(1.03, row, f"{figure.value:.2f}", va="center", fontsize=8, transform=axis.get_yaxis_transform())


def face(hollow: bool) -> dict[str, str]:
    """Return how a marker is filled: baselines are hollow."""
    return {"markerfacecolor": "white"} if hollow else {}


def name_rows(axis, names: Sequence[str]) -> None:
    """Name the rows of a panel, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -1.1)
    axis.grid(axis="y", visible=False)


def bounds(figure: Figure) -> tuple[float, float, float]:
    """Return low, value, high; the value itself where there is no interval."""
    value = 0.0 if figure.value is None else figure.value
    return (value if figure.low is None else figure.low, value, value if figure.high is None else figure.high)
