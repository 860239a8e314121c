"""Dose and response, drawn: a small panel per operation, with unrelated tiles and thresholds marked."""

from collections.abc import Sequence

from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

from ..audit.result import AuditResult, Crossing, Dose, EncoderResult, Figure, OperationResult, Response
from .canvas import GREY, WIDTH, Drawn, bounds, draw_legend, face, finish, look, panels, shorts, styled

TICKS = (0, 0.05, 0.2, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)
ROLES = {"must-ignore": "", "must-react": " (should react)", "control": " (control)"}
ACROSS, PANELS = 3, 12  # to a row, and to a figure that fits a printed page
#: Panels reach at least so high: unrelated tiles are at 1, half of them above.
LEAST_TOP = 1.5
BANDS_AT, BAND_STEP = 5.75, 0.16
#: Where what lies before the first severity is drawn.
LEFT = 0.7


def draw_doses(result: AuditResult) -> list[Drawn]:
    """Draw displacement against severity, a panel per operation, a line per encoder; twelve panels to a figure.

    At the right of a panel stands the middle 90 % of unrelated pairs of each encoder. Where a curve first reaches the
    level of the plan, a tick on a bar from early to late marks it.
    """
    encoders = [encoder for encoder in result.encoders if encoder.doses and encoder.null.defined]
    if not encoders:
        return []
    parts = [result.operations[start : start + PANELS] for start in range(0, len(result.operations), PANELS)]
    return [_draw_part(result, encoders, operations) for operations in parts]


@styled
def _draw_part(result: AuditResult, encoders: Sequence[EncoderResult], operations: Sequence[OperationResult]) -> Drawn:
    rows = -(-len(operations) // ACROSS)
    across = min(ACROSS, max(2, len(result.operations)))
    figure, axes = panels(rows, across, (WIDTH, 2.9 * rows + 0.5), sharey=True)
    flat = [axis for row in axes for axis in row]
    top = 1.06 * max(LEAST_TOP, *(_highest(encoder) for encoder in encoders))
    handles = []
    for axis, operation in zip(flat, operations, strict=False):
        lines = [_draw_line(axis, result, operation, encoder, place) for place, encoder in enumerate(encoders)]
        handles = handles or lines
        _draw_level(axis, result, operation, encoders)
        _dress(axis, operation, encoders, top)
    for axis in flat[len(operations) :]:
        axis.set_visible(False)
    for row in axes:
        row[0].set_ylabel("displacement\n(unrelated tiles = 1)")
    high = draw_legend(figure, handles, shorts(encoders))
    figure.tight_layout(rect=(0, 0, 1, 1 - high / figure.get_figheight()))
    return finish(figure)


def _draw_line(axis, result: AuditResult, operation: OperationResult, encoder: EncoderResult, place: int):
    style = look(result, encoder)
    points = [bounds(_displacement(encoder.doses, operation.name, step.severity)) for step in operation.steps]
    x = [step.severity + 0.06 * place for step in operation.steps]
    y = [value for _, value, _ in points]
    errors = [[value - low for low, value, _ in points], [high - value for _, value, high in points]]
    joined = operation.graded and len(points) > 1
    line = axis.errorbar(
        x,
        y,
        yerr=errors,
        **style,
        **face(encoder.baseline),
        markersize=4,
        linewidth=1.4 if joined else 0,
        elinewidth=1,
        capsize=0,
        clip_on=False,  # a marker at 0 is whole
    )
    null = encoder.null
    band = [null.p05 / null.median, null.p95 / null.median]
    axis.plot([BANDS_AT + BAND_STEP * place] * 2, band, color=style["color"], linewidth=3, alpha=0.55)
    return line


def _draw_level(axis, result: AuditResult, operation: OperationResult, encoders: Sequence[EncoderResult]) -> None:
    """Draw where each curve reaches the level: a bar from early to late, and a tick where the mean does."""
    found = [
        (encoder, response)
        for encoder in encoders
        for response in encoder.responses
        if response.operation == operation.name
    ]
    if not found:
        return
    axis.axhline(found[0][1].level, color=GREY, linestyle=":", linewidth=0.8)
    for place, (encoder, response) in enumerate(found):
        if response.crossing.severity is None:
            continue
        offset = ScaledTranslation(0, 3.5 * (place - (len(found) - 1) / 2) / 72, axis.figure.dpi_scale_trans)
        how = {"color": look(result, encoder)["color"], "transform": axis.transData + offset, "clip_on": False}
        early, late = _ends(response)
        axis.plot([early, late], [response.level] * 2, linewidth=1.6, alpha=0.75, **how)
        at = max(LEFT, response.crossing.severity)
        axis.plot([at], [response.level], marker="|", markersize=9, markeredgewidth=2, **how)


def _ends(response: Response) -> tuple[float, float]:
    def place(crossing: Crossing) -> float:
        if crossing.severity is not None:
            return crossing.severity
        return 5.0 if crossing.outcome == "never crosses" else LEFT

    return max(LEFT, place(response.early)), max(LEFT, place(response.late))


def _dress(axis, operation: OperationResult, encoders: Sequence[EncoderResult], top: float) -> None:
    axis.set_yscale("function", functions=(_root, _square))
    axis.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axis.set_ylim(0, top)
    axis.set_yticks([tick for tick in TICKS if tick <= top])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_locator(NullLocator())
    if len(operation.steps) == 1 and operation.steps[0].level is None:
        axis.set_xticks([operation.steps[0].severity], [operation.parameter or "pair"])
    else:
        named = [f"{step.level:g}" if step.level is not None else "" for step in operation.steps]
        axis.set_xticks([step.severity for step in operation.steps], named)
        unit = f", {operation.unit}" if operation.unit and operation.graded else ""
        axis.set_xlabel(operation.parameter + unit)
    axis.set_title(operation.name + ROLES.get(operation.role, f" ({operation.role})"))
    axis.set_xlim(0.6, BANDS_AT + 0.1 + BAND_STEP * len(encoders))


def _root(values):
    import numpy as np

    return np.sqrt(np.maximum(values, 0))


def _square(values):
    return values**2


def _highest(encoder: EncoderResult) -> float:
    return max(1.0, *(bounds(dose.metrics["displacement"])[2] for dose in encoder.doses))


def _displacement(doses: Sequence[Dose], operation: str, severity: int) -> Figure:
    return next(d.metrics["displacement"] for d in doses if (d.operation, d.severity) == (operation, severity))
