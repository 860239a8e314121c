"""A benchmark as a page: scores at the source and at unseen sites, ranks, tables, what failed."""

import math
from pathlib import Path

from ..benchmark.cohort import SOURCE, UNSEEN
from ..benchmark.compare import Ranks
from ..benchmark.tables import Summary, all_tables, in_order
from ..outputs import whole
from .canvas import COLOURS, GREY, WIDTH, Drawn, finish, panels, short, styled

#: Panels of scores in a row, and inches for each method of one.
ACROSS, ROW = 3, 0.24


def write_benchmark(summary: Summary, path: Path, *, name: str) -> None:
    """Write the page, which needs no other file."""
    from markupsafe import Markup

    from .environment import make_environment  # Jinja loads late

    drawn = {"scores": draw_scores(summary)}
    if summary.ranks is not None:
        drawn["ranks"] = draw_ranks(summary.ranks)
    page = (
        make_environment()
        .get_template("benchmark.html.j2")
        .render(
            name=name,
            summary=summary,
            tables=all_tables(summary),
            figures={key: Markup(figure.svg) for key, figure in drawn.items()},
        )
    )
    with whole(path, overwrite=True) as part:
        part.write_text(page, encoding="utf-8")


@styled
def draw_scores(summary: Summary) -> Drawn:
    """Draw, for each task, the score of each method at the source and unseen, with its interval; best on top."""
    methods = in_order(summary)
    rows = math.ceil(len(summary.tasks) / ACROSS)
    across = min(ACROSS, len(summary.tasks))
    figure, axes = panels(rows, across, (WIDTH, rows * (0.9 + ROW * len(methods))))
    for axis, task in zip(axes.flat, summary.tasks, strict=False):
        for place, row in enumerate(methods):
            name, colour = row["method"], COLOURS[1] if row["needs_target"] else COLOURS[0]
            source, unseen = (summary.at(task, name, where) for where in (SOURCE, UNSEEN))
            if unseen.low is not None and unseen.high is not None:
                axis.plot([unseen.low, unseen.high], [place, place], color=colour, linewidth=2, alpha=0.5)
            axis.plot(source.value, place, marker="|", color=GREY, markersize=9, linestyle="")
            axis.plot(
                unseen.value,
                place,
                marker="s" if row["needs_target"] else "o",
                color=colour,
                markersize=5,
                linestyle="",
            )
        axis.set_yticks(range(len(methods)), [short(row["method"]) for row in methods])
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.set_title(task.name)
        axis.set_xlabel(task.scores[0])
    for axis in axes.flat[len(summary.tasks) :]:
        axis.set_axis_off()
    figure.tight_layout()
    return finish(figure)


@styled
def draw_ranks(ranks: Ranks) -> Drawn:
    """Draw mean ranks, best on the left; a bar joins those that are no farther apart than the critical difference."""
    ordered = sorted(ranks.mean.items(), key=lambda item: item[1])
    bars = cliques([rank for _, rank in ordered], ranks.critical)
    figure, axes = panels(1, 1, (WIDTH, 1.1 + 0.24 * len(ordered) + 0.14 * len(bars)))
    axis = axes[0][0]
    for place, (name, rank) in enumerate(ordered):
        axis.plot(rank, place, marker="o", color=COLOURS[0], linestyle="")
        axis.annotate(
            f"{short(name)} ({rank:.1f})", (rank, place), xytext=(8, 0), textcoords="offset points", va="center"
        )
    for number, (first, last) in enumerate(bars):
        depth = len(ordered) - 0.3 + 0.5 * number
        axis.plot([ordered[first][1], ordered[last][1]], [depth, depth], color="black", linewidth=3)
    axis.set_ylim(len(ordered) + 0.5 * len(bars), -0.7)
    axis.set_xlim(0.8, len(ordered) + 1.5)
    axis.set_yticks([])
    axis.set_xlabel(f"mean rank over {ranks.blocks} tasks and unseen sites (1 is best)")
    figure.tight_layout()
    return finish(figure)


def cliques(ranks: list[float], critical: float) -> list[tuple[int, int]]:
    """Return first and last of each longest run of ordered ranks that spans less than the critical difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(k for k in range(first, len(ranks)) if ranks[k] - ranks[first] < critical)
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found
