"""Figures of an audit, as SVG text: colour-blind safe, with units, the same bytes for the same numbers."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.ticker import NullLocator

from ..audit.result import AuditResult, Dose, EncoderResult, Figure, OperationResult

#: Okabe & Ito 2008: told apart by people with any of the common colour deficiencies. Markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANELS_PER_ROW = 3
LEGEND_LETTERS = 132  # fit one row of the legend
TICKS = (0, 0.05, 0.2, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)

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
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
}


@matplotlib.rc_context(STYLE)
def draw_doses(result: AuditResult) -> str:
    """Draw displacement against severity, a panel per operation, a line per encoder, null bars at the right."""
    encoders = [encoder for encoder in result.encoders if encoder.doses and _has_null(encoder)]
    if not encoders:
        return ""
    rows = -(-len(result.operations) // PANELS_PER_ROW)
    figure, axes = _subplots(rows, PANELS_PER_ROW, (10.2, 2.9 * rows + 0.5), sharey=True)
    flat = [axis for row in axes for axis in row]
    top = 1.06 * max(_highest(encoder) for encoder in encoders)
    for axis, operation in zip(flat, result.operations, strict=False):
        for encoder in encoders:
            _draw_dose_line(axis, operation, encoder, encoders.index(encoder), _look(result, encoder))
        _dress_panel(axis, operation, encoders, top)
    for axis in flat[len(result.operations) :]:
        axis.set_visible(False)
    for row in axes:
        row[0].set_ylabel("displacement\n(unrelated tiles = 1)")
    names = [encoder.name for encoder in encoders]
    columns = max(1, min(len(names), LEGEND_LETTERS // (max(map(len, names)) + 8)))
    figure.legend(
        flat[0].containers, names, loc="upper center", ncols=columns, frameon=False, bbox_to_anchor=(0.5, 1.0)
    )
    lines_high = -(-len(names) // columns)
    figure.tight_layout(rect=(0, 0, 1, 1 - (0.2 + 0.19 * lines_high) / figure.get_figheight()))
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def draw_probes(result: AuditResult) -> str:
    """Draw what a probe reads of each target, a panel per target, a row per encoder, chance as a line."""
    targets = {probe.target: probe for encoder in result.encoders for probe in encoder.probes if not probe.reason}
    if not targets:
        return ""
    height = 0.34 * len(result.encoders) + 1.4
    figure, axes = _subplots(1, len(targets), (10.2, height), sharey=True)
    for axis, probe in zip(axes[0], targets.values(), strict=True):
        for row, encoder in enumerate(result.encoders):
            found = next((p for p in encoder.probes if p.target == probe.target and not p.reason), None)
            if found is not None:
                _draw_interval(axis, found.balanced_accuracy, row, _look(result, encoder))
        axis.axvline(probe.chance or 0, color="#555555", linestyle="--", linewidth=1)
        axis.text(probe.chance or 0, -0.75, " chance", fontsize=8, color="#555555", va="center")
        want = "kept: high is good" if probe.kind == "signal" else "leaked: high is bad"
        axis.set_title(f"{probe.title}\n{want}")
        axis.set_xlim(0, 1.02)
    figure.supxlabel("balanced accuracy on groups that the probe was not trained on", fontsize=STYLE["font.size"])
    _name_rows(axes[0][0], [encoder.name for encoder in result.encoders])
    figure.tight_layout()
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def draw_selectivity(result: AuditResult) -> str:
    """Draw how often destroying biology moves a tile further than a nuisance does, a row per encoder."""
    encoders = [encoder for encoder in result.encoders if encoder.selectivity is not None]
    if not encoders:
        return ""
    figure, axes = _subplots(1, 1, (10.2, 0.34 * len(encoders) + 1.2))
    axis = axes[0][0]
    for row, encoder in enumerate(encoders):
        assert encoder.selectivity is not None  # filtered above
        _draw_interval(axis, encoder.selectivity, row, _look(result, encoder))
    axis.axvline(0.5, color="#555555", linestyle="--", linewidth=1)
    axis.text(0.5, -0.75, " no preference", fontsize=8, color="#555555", va="center")
    axis.set_xlim(0, 1.02)
    axis.set_xlabel("P(destroying biology moves a tile further than a nuisance does)")
    _name_rows(axis, [encoder.name for encoder in encoders])
    figure.tight_layout()
    return _svg(figure)


def _subplots(rows: int, columns: int, size: tuple[float, float], **options):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    # The object-oriented way: no pyplot, no global state, no display.
    figure = Canvas(figsize=size)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _look(result: AuditResult, encoder: EncoderResult) -> dict[str, str]:
    """Return colour and marker of an encoder: the same in every figure, and no two alike up to 49 encoders."""
    lap, place = divmod(result.encoders.index(encoder), len(COLOURS))
    return {"color": COLOURS[place], "marker": MARKERS[(place + lap) % len(MARKERS)]}


def _draw_dose_line(axis, operation: OperationResult, encoder: EncoderResult, index: int, look: dict[str, str]) -> None:
    bounds = [_bounds(_displacement(encoder.doses, operation.name, step.severity)) for step in operation.steps]
    x = [step.severity + 0.06 * index for step in operation.steps]
    y = [value for _, value, _ in bounds]
    errors = [[value - low for low, value, _ in bounds], [high - value for _, value, high in bounds]]
    axis.errorbar(
        x,
        y,
        yerr=errors,
        **look,
        markersize=4,
        linewidth=1.4 if operation.graded else 0,
        elinewidth=1,
        capsize=0,
        clip_on=False,  # a marker at 0 is whole
    )
    null = encoder.null
    axis.plot(
        [5.7 + 0.14 * index] * 2,
        [null.p05 / null.median, null.p95 / null.median],
        color=look["color"],
        linewidth=3,
        alpha=0.55,
    )


def _dress_panel(axis, operation: OperationResult, encoders: Sequence[EncoderResult], top: float) -> None:
    axis.set_yscale("function", functions=(_root, _square))
    axis.axhline(1, color="#555555", linestyle="--", linewidth=1)
    axis.set_ylim(0, top)
    axis.set_yticks([tick for tick in TICKS if tick <= top])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_xticks([step.severity for step in operation.steps], [f"{step.level:g}" for step in operation.steps])
    role = {"must-ignore": "", "must-react": " (should react)", "control": " (control)"}[operation.role]
    axis.set_title(operation.name + role)
    unit = f", {operation.unit}" if operation.unit and operation.graded else ""
    axis.set_xlabel(operation.parameter + unit)
    axis.set_xlim(0.7, 5.8 + 0.14 * len(encoders))


def _root(values):
    import numpy as np

    return np.sqrt(np.maximum(values, 0))


def _square(values):
    return values**2


def _draw_interval(axis, figure: Figure, row: int, look: dict[str, str]) -> None:
    if figure.value is None:
        return
    if figure.low is not None and figure.high is not None:
        axis.plot([figure.low, figure.high], [row, row], color=look["color"], linewidth=2.2)
    axis.plot([figure.value], [row], **look, markersize=6, clip_on=False)
    axis.text(1.04, row, f"{figure.value:.2f}", va="center", fontsize=8, transform=axis.get_yaxis_transform())


def _name_rows(axis, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -1.1)
    axis.grid(axis="y", visible=False)


def _highest(encoder: EncoderResult) -> float:
    doses = [_bounds(dose.metrics["displacement"])[2] for dose in encoder.doses]
    return max(*doses, encoder.null.p95 / encoder.null.median)


def _bounds(figure: Figure) -> tuple[float, float, float]:
    """Return low, value, high; the value itself where there is no interval."""
    value = 0.0 if figure.value is None else figure.value
    return (value if figure.low is None else figure.low, value, value if figure.high is None else figure.high)


def _displacement(doses: Sequence[Dose], operation: str, severity: int) -> Figure:
    return next(d.metrics["displacement"] for d in doses if d.operation == operation and d.severity == severity)


def _has_null(encoder: EncoderResult) -> bool:
    return encoder.doses[0].metrics["displacement"].value is not None


def _svg(figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
