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
TICKS = (0, 0.05, 0.2, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
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
        for index, encoder in enumerate(encoders):
            _draw_dose_line(axis, operation, encoder, index)
        _dress_panel(axis, operation, encoders, top)
    for axis in flat[len(result.operations) :]:
        axis.set_visible(False)
    for row in axes:
        row[0].set_ylabel("displacement\n(unrelated tiles = 1)")
    handles, names = flat[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="upper center", ncols=min(4, len(names)), frameon=False, bbox_to_anchor=(0.5, 1.0)
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.42 / figure.get_figheight() * (1 + (len(names) - 1) // 4)))
    return _svg(figure)


def draw_probes(result: AuditResult) -> str:
    """Draw what a probe reads of each target, a panel per target, a row per encoder, chance as a line."""
    targets = {probe.target: probe for encoder in result.encoders for probe in encoder.probes if not probe.reason}
    if not targets:
        return ""
    height = 0.34 * len(result.encoders) + 1.2
    figure, axes = _subplots(1, len(targets), (10.2, height), sharey=True)
    for axis, probe in zip(axes[0], targets.values(), strict=True):
        for index, encoder in enumerate(result.encoders):
            found = next((p for p in encoder.probes if p.target == probe.target and not p.reason), None)
            if found is not None:
                _draw_interval(axis, found.balanced_accuracy, index)
        axis.axvline(probe.chance or 0, color="#555555", linestyle="--", linewidth=1)
        axis.text(probe.chance or 0, -0.75, " chance", fontsize=8, color="#555555", va="center")
        want = "kept: high is good" if probe.kind == "signal" else "leaked: high is bad"
        axis.set_title(f"{probe.title} ({want})")
        axis.set_xlabel("balanced accuracy, other groups")
        axis.set_xlim(0, 1.02)
    _name_rows(axes[0][0], [encoder.name for encoder in result.encoders])
    figure.tight_layout()
    return _svg(figure)


def draw_selectivity(result: AuditResult) -> str:
    """Draw how often destroying biology moves a tile further than a nuisance does, a row per encoder."""
    encoders = [encoder for encoder in result.encoders if encoder.selectivity is not None]
    if not encoders:
        return ""
    figure, axes = _subplots(1, 1, (7, 0.34 * len(encoders) + 1.2))
    axis = axes[0][0]
    for index, encoder in enumerate(encoders):
        assert encoder.selectivity is not None  # filtered above
        _draw_interval(axis, encoder.selectivity, index)
    axis.axvline(0.5, color="#555555", linestyle="--", linewidth=1)
    axis.text(0.5, -0.75, " no preference", fontsize=8, color="#555555", va="center")
    axis.set_xlim(0, 1.02)
    axis.set_xlabel("P(destroying nuclei moves a tile further than a nuisance does)")
    _name_rows(axis, [encoder.name for encoder in encoders])
    figure.tight_layout()
    return _svg(figure)


def _subplots(rows: int, columns: int, size: tuple[float, float], **options):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    # The object-oriented way: no pyplot, no global state, no display.
    with matplotlib.rc_context(STYLE):
        figure = Canvas(figsize=size)
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _draw_dose_line(axis, operation: OperationResult, encoder: EncoderResult, index: int) -> None:
    bounds = [_bounds(_displacement(encoder.doses, operation.name, step.severity)) for step in operation.steps]
    x = [step.severity + 0.06 * index for step in operation.steps]
    y = [value for _, value, _ in bounds]
    errors = [[value - low for low, value, _ in bounds], [high - value for _, value, high in bounds]]
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    axis.errorbar(
        x,
        y,
        yerr=errors,
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=1.4 if operation.graded else 0,
        elinewidth=1,
        capsize=0,
        label=encoder.name,
    )
    null = encoder.null
    axis.plot(
        [5.7 + 0.14 * index] * 2,
        [null.p05 / null.median, null.p95 / null.median],
        color=colour,
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


def _draw_interval(axis, figure: Figure, index: int) -> None:
    if figure.value is None:
        return
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    if figure.low is not None and figure.high is not None:
        axis.plot([figure.low, figure.high], [index, index], color=colour, linewidth=2.2)
    axis.plot([figure.value], [index], marker=marker, color=colour, markersize=6)
    axis.text(1.04, index, f"{figure.value:.2f}", va="center", fontsize=8, transform=axis.get_yaxis_transform())


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
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
