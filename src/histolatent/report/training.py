"""A training run as a page: curves, what is decoded, and the manifold before and after."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compact.guards import MOST_COLOUR
from ..compact.showing import Shown
from ..stain import canonical_vectors
from .canvas import COLOURS, GREY, MARKERS, WIDTH, Drawn, finish, panels, styled

if TYPE_CHECKING:
    from ..compact.run import Trained

#: Of a curve of losses, a running mean over this share of the steps is drawn beside the steps.
SMOOTH = 0.03
#: Density of each stain where its amount is 1, for pictures of amounts.
STRONGEST = (1.6, 1.0)
PARTS = {
    "compaction": "compaction loss, weighted",
    "reconstruction": "reconstruction error, weighted",
    "adversary": "loss of the adversary, weighted",
}
CHECKS = {
    "twin_top1": ("twin retrieval", "share of held-out tiles that\nfind themselves again", (0, 1.02)),
    "ratio": ("compaction ratio", "variance within tiles\nover all variance", (0, None)),
    "rank": ("effective rank", "dimensions in use", (0, None)),
    "colour": ("colour", "share of the embedding that\nmean colours explain", (None, 1.0)),
}


def write_training(trained: "Trained", folder: str | Path) -> None:
    """Write `training.html`, which needs no other file, and `losses.csv` and `checks.csv` into a folder."""
    from markupsafe import Markup

    from .environment import make_environment  # Jinja loads late

    environment, card = make_environment(), trained.card
    last = last_map(card["plan"])
    kept = [("last map", card["after"])] if last else []
    figures = {
        "curves": draw_curves(trained.history, trained.checks, card["weights_of_step"]),
        "map": draw_map(trained.shown),
        "sheet": draw_sheet(trained.shown),
    }
    page = environment.get_template("training.html.j2").render(
        card=card,
        checks=[*((check["step"], check) for check in trained.checks), *kept],
        last=last,
        findings=trained.findings,
        figures={name: Markup(drawn.svg) for name, drawn in figures.items()},
        said=in_words(card),
    )
    (Path(folder) / "training.html").write_text(page, encoding="utf-8")
    for name, rows in (("losses", trained.history), ("checks", trained.checks)):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else ["step"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        (Path(folder) / f"{name}.csv").write_text(text.getvalue(), encoding="utf-8")


def in_words(card: Mapping[str, Any]) -> str:
    """Return what training did, in two sentences."""
    before, after = card["before"], card["after"]
    return (
        f"Of held-out tiles, {after['twin_top1']:.0%} find themselves again under wider states than those of training "
        f"(before training {before['twin_top1']:.0%}). Staining and scanning make up {after['ratio']:.0%} of the "
        f"variance of the embedding (before: {before['ratio']:.0%}), which uses {after['rank']:.0f} dimensions "
        f"(before: {before['rank']:.0f})."
    )


def last_map(plan: Mapping[str, Any]) -> str:
    """Return what was done to the vectors of the trained network; nothing where nothing was."""
    done = []
    if plan["whiten"]:
        done.append("whitened by how states move them")
    if plan["remove_above"] < 1:
        done.append(f"without directions of which states are more than {plan['remove_above']:.0%} of the variance")
    return ", ".join(done)


@styled
def draw_curves(history: Sequence[Mapping[str, float]], checks: Sequence[Mapping[str, float]], chosen: int) -> Drawn:
    """Draw each loss over steps, and below them each figure of the held-out tiles."""
    parts = [name for name in PARTS if history and name in history[0]]
    figure, axes = panels(2, 4, (WIDTH, 4.6))
    steps = np.array([entry["step"] for entry in history])
    for axis, name in zip(axes[0], parts, strict=False):
        values = np.array([entry[name] for entry in history])
        axis.plot(steps, values, color=COLOURS[5], linewidth=0.6)
        axis.plot(steps, _running_mean(values), color=COLOURS[0], linewidth=1.6)
        axis.set_title(name)
        axis.set_ylabel(PARTS[name])
        axis.set_ylim(0, float(np.quantile(values, 0.98)) * 1.15 or 1)
    for axis in axes[0][len(parts) :]:
        axis.set_axis_off()
    for axis, (name, (title, unit, limits)) in zip(axes[1], CHECKS.items(), strict=True):
        axis.plot([c["step"] for c in checks], [c[name] for c in checks], color=COLOURS[1], marker="o", markersize=3)
        axis.axvline(chosen, color=GREY, linewidth=0.8, linestyle=":")
        axis.set_title(title)
        axis.set_ylabel(unit)
        axis.set_ylim(*limits)
    axes[1][3].axhline(MOST_COLOUR, color=GREY, linewidth=0.8, linestyle="--")
    for axis in axes.flat:
        axis.set_xlabel("step")
    figure.tight_layout()
    return finish(figure)


@styled
def draw_map(shown: Shown) -> Drawn:
    """Draw tiles and their states on the first two principal components, before and after."""
    figure, axes = panels(1, 2, (WIDTH, 4.8))
    for axis, points, share, title in zip(
        axes[0], (shown.before, shown.after), shown.spans, ("before training", "after"), strict=True
    ):
        for tile, states in enumerate(points):
            colour, marker = COLOURS[tile % len(COLOURS)], MARKERS[tile // len(COLOURS) % len(MARKERS)]
            for state in states[1:]:
                axis.plot(*np.stack([states[0], state]).T, color=colour, linewidth=0.6, alpha=0.6)
            axis.plot(*states[1:].T, linestyle="", marker=marker, markersize=2.5, color=colour, alpha=0.6)
            axis.plot(*states[0], linestyle="", marker=marker, markersize=6, color=colour, markeredgecolor="white")
        axis.set_title(f"{title}: {share:.0%} of the variance is in this plane")
        axis.set_xlabel("first principal component")
        axis.set_ylabel("second principal component")
    figure.tight_layout()
    return finish(figure)


@styled
def draw_sheet(shown: Shown) -> Drawn:
    """Draw tiles under states, and what is decoded from each."""
    tiles, views = shown.seen.shape[:2]
    decoded = shown.decoded is not None
    rows = tiles * (2 if decoded else 1)
    figure, axes = panels(rows, views + decoded, (WIDTH, WIDTH / (views + 1) * rows * 1.02))
    for axis in axes.flat:
        axis.set_axis_off()
    for tile in range(tiles):
        top = tile * (2 if decoded else 1)
        for view in range(views):
            axes[top][view].imshow(shown.seen[tile, view])
            if shown.decoded is not None:
                axes[top + 1][view].imshow(picture_of(shown.decoded[tile, view]), interpolation="nearest")
        if decoded:
            axes[top + 1][views].imshow(picture_of(shown.wanted[tile]), interpolation="nearest")
    for view in range(views):
        axes[0][view].set_title("as it is" if view == 0 else f"state {view}", fontsize=9, loc="center")
    if decoded:
        axes[0][views].set_title("wanted", fontsize=9, loc="center")
    figure.tight_layout(pad=0.4)
    return finish(figure)


def picture_of(amounts: np.ndarray) -> np.ndarray:
    """Return amounts `(2, q, q)`, relative to a slide's strongest, under canonical staining as RGB, 0 to 1."""
    density = np.einsum("kij,k,kc->ijc", np.maximum(amounts, 0), np.array(STRONGEST), canonical_vectors()[:2])
    return np.exp(-density)


def _running_mean(values: np.ndarray) -> np.ndarray:
    width = max(1, round(SMOOTH * len(values)))
    total = np.convolve(values, np.ones(width), "same")
    return total / np.convolve(np.ones(len(values)), np.ones(width), "same")
