"""Figures of an audit: colour-blind safe, legible in grey, with units, the same bytes for the same numbers."""

from collections.abc import Sequence

from ..audit.result import AuditResult, EncoderResult, FactorResult, Figure
from .canvas import (
    GREY,
    WIDTH,
    Drawn,
    bounds,
    draw_interval,
    face,
    finish,
    look,
    name_rows,
    panels,
    shorts,
    styled,
)
from .doses import draw_doses

PANELS_PER_ROW = 3
#: Keeps words legible where another line runs through them.
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
UNREAD = 0.05  # R2 of a factor that is not read


def draw_all(result: AuditResult) -> dict[str, Drawn]:
    """Return every figure that there is something to draw for, by name."""
    doses = {f"dose-response-{i}" if i > 1 else "dose-response": part for i, part in enumerate(draw_doses(result), 1)}
    drawn = {
        **doses,
        "selectivity": draw_selectivity(result),
        "leakage-signal": draw_plane(result),
        "probes": draw_probes(result),
        "factors": draw_factors(result),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


@styled
def draw_probes(result: AuditResult) -> Drawn | None:
    """Draw what a probe reads of each target, a panel per target, a row per encoder, chance as a line."""
    targets = {probe.target: probe for encoder in result.encoders for probe in encoder.probes if not probe.reason}
    if not targets:
        return None
    figure, axes = panels(1, len(targets), (WIDTH, 0.34 * len(result.encoders) + 1.4), sharey=True)
    for axis, probe in zip(axes[0], targets.values(), strict=True):
        for row, encoder in enumerate(result.encoders):
            found = next((p for p in encoder.probes if p.target == probe.target and not p.reason), None)
            if found is not None:
                draw_interval(axis, found.balanced_accuracy, row, look(result, encoder), hollow=encoder.baseline)
        _mark(axis, probe.chance or 0, "chance")
        want = "kept: high is good" if probe.kind == "signal" else "leaked: high is bad"
        axis.set_title(f"{probe.title}\n{want}")
        axis.set_xlim(0, 1.02)
    figure.supxlabel("balanced accuracy on groups that the probe was not trained on", fontsize=9)
    name_rows(axes[0][0], shorts(result.encoders))
    figure.tight_layout()
    return finish(figure)


@styled
def draw_selectivity(result: AuditResult) -> Drawn | None:
    """Draw how often destroying biology moves a tile further than a nuisance does: over all, and by operation."""
    encoders = [encoder for encoder in result.encoders if encoder.selectivity is not None]
    if not encoders:
        return None
    operations = list(dict.fromkeys(item.operation for encoder in encoders for item in encoder.selectivities))
    shown: list[str | None] = [None, *(operations if len(operations) > 1 else [])]
    across = min(PANELS_PER_ROW, len(shown))
    rows = -(-len(shown) // across)
    size = (WIDTH, rows * (0.3 * len(encoders) + 0.85) + 0.35)
    figure, axes = panels(rows, across, size, sharey=True)
    flat = [axis for row in axes for axis in row]
    for axis, operation in zip(flat, shown, strict=False):
        for row, encoder in enumerate(encoders):
            share = _share(encoder, operation)
            if share is not None:
                draw_interval(axis, share, row, look(result, encoder), hollow=encoder.baseline)
        _mark(axis, 0.5, "" if operation else "no preference")
        alone = operations[0] if len(operations) == 1 else "all that destroy biology"
        axis.set_title(operation or alone)
        axis.set_xlim(0, 1.02)
    for axis in flat[len(shown) :]:
        axis.set_visible(False)
    name_rows(flat[0], shorts(encoders))
    for axis in flat[1:]:
        axis.grid(axis="y", visible=False)
    figure.supxlabel("P(destroying biology moves a tile further than a nuisance does)", fontsize=9)
    figure.tight_layout()
    return finish(figure)


@styled
def draw_plane(result: AuditResult) -> Drawn | None:
    """Draw what leaks against what is kept, a marker per encoder with both intervals, each from chance to perfect."""
    found = []
    for encoder in result.encoders:
        leak, signal = encoder.worst_leak, encoder.signal
        if leak is not None and signal is not None:
            found.append((encoder, leak.skill, signal.skill, leak.title, signal.title))
    if not found:
        return None
    figure, axes = panels(1, 1, (WIDTH, 5.0))
    axis, handles = axes[0][0], []
    for encoder, leak, signal, _, _ in found:
        handles.append(_cross(axis, leak, signal, look(result, encoder), hollow=encoder.baseline))
    lowest = min(-0.05, *(bounds(part)[0] for _, leak, signal, _, _ in found for part in (leak, signal))) - 0.02
    axis.plot([lowest, 1], [lowest, 1], color=GREY, linestyle="--", linewidth=1)
    for line in (axis.axhline, axis.axvline):
        line(0, color="#bbbbbb", linewidth=0.9)
    axis.set_xlim(lowest, 1.03)
    axis.set_ylim(lowest, 1.03)
    axis.set_aspect("equal")
    corner = {"fontsize": 8, "color": GREY, "bbox": BEHIND, "zorder": 3}
    axis.text(lowest + 0.03, 0.99, "keeps, does not leak", va="top", **corner)
    axis.text(1.0, lowest + 0.03, "leaks, does not keep", ha="right", **corner)
    leaks, labels = (sorted({str(item[i]) for item in found}) for i in (3, 4))
    axis.set_xlabel(f"skill of the worst leak ({' or '.join(leaks)}): 0 is chance, 1 perfect")
    axis.set_ylabel("skill of the label" if labels == ["label"] else f"skill of the label ({' or '.join(labels)})")
    names = [
        name + (" (baseline)" if item[0].baseline else "")
        for name, item in zip(shorts([item[0] for item in found]), found, strict=True)
    ]
    axis.legend(handles, names, loc="upper left", frameon=False, bbox_to_anchor=(1.03, 1.0))
    figure.tight_layout()
    return finish(figure)


@styled
def draw_factors(result: AuditResult) -> Drawn | None:
    """Draw how well known factors are read, before and after each operation: a map of heat per encoder."""
    readable = {
        item.factor
        for encoder in result.encoders
        for item in encoder.factors
        if item.r2.value is not None and item.r2.value > UNREAD
    }
    encoders = [encoder for encoder in result.encoders if any(item.r2.value is not None for item in encoder.factors)]
    if not encoders or not readable:
        return None
    columns = list(
        dict.fromkeys(after.operation for encoder in encoders for item in encoder.factors for after in item.after)
    )
    names = [item.factor for item in encoders[0].factors if item.factor in readable]
    figure, axes = panels(len(encoders), 1, (WIDTH, (0.27 * len(names) + 0.42) * len(encoders) + 1.9), sharex=True)
    titles = shorts(encoders)
    images = [
        _draw_heat(row[0], encoder, names, columns, title + (" (baseline)" if encoder.baseline else ""))
        for row, encoder, title in zip(axes, encoders, titles, strict=True)
    ]
    axes[-1][0].set_xticks(range(len(columns) + 1), ["as it is", *columns], rotation=40, ha="right")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.55 / figure.get_figheight()))
    inner = axes[0][0].get_position()
    bar_axis = figure.add_axes((inner.x0, 1 - 0.22 / figure.get_figheight(), 0.3, 0.12 / figure.get_figheight()))
    bar = figure.colorbar(images[0], cax=bar_axis, orientation="horizontal")
    bar.outline.set_visible(False)
    bar_axis.tick_params(labelsize=8)
    bar_axis.text(1.05, 0.5, "R²", transform=bar_axis.transAxes, va="center", fontsize=9)
    return finish(figure)


def _draw_heat(axis, encoder: EncoderResult, names: Sequence[str], columns: Sequence[str], title: str):
    import numpy as np

    factors = {item.factor: item for item in encoder.factors}
    values = np.array([[_r2(factors.get(name), column) for column in (None, *columns)] for name in names])
    image = axis.imshow(np.clip(values, 0, 1), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axis.grid(visible=False)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            text, ink = ("< 0" if value < 0 else f"{value:.2f}"), ("white" if value < 0.55 else "black")
            axis.text(column, row, text, ha="center", va="center", fontsize=7.5, color=ink)
    axis.set_yticks(range(len(names)), names)
    axis.set_title(title)
    axis.axvline(0.5, color="white", linewidth=2)
    return image


def _r2(item: FactorResult | None, operation: str | None) -> float:
    if item is None:
        return float("nan")
    figure = item.r2 if operation is None else next((a.r2 for a in item.after if a.operation == operation), None)
    return float("nan") if figure is None or figure.value is None else figure.value


def _share(encoder: EncoderResult, operation: str | None) -> Figure | None:
    if operation is None:
        return encoder.selectivity
    return next((item.share for item in encoder.selectivities if item.operation == operation), None)


def _cross(axis, across: Figure, up: Figure, style: dict[str, str], *, hollow: bool):
    (left, x, right), (low, y, high) = bounds(across), bounds(up)
    axis.plot([left, right], [y, y], color=style["color"], linewidth=1.4)
    axis.plot([x, x], [low, high], color=style["color"], linewidth=1.4)
    return axis.plot([x], [y], **style, **face(hollow), markersize=8, linestyle="none", clip_on=False)[0]


def _mark(axis, x: float, words: str) -> None:
    axis.axvline(x, color=GREY, linestyle="--", linewidth=1)
    if words:
        axis.text(x, -0.75, f" {words}", fontsize=8, color=GREY, va="center", bbox=BEHIND)
