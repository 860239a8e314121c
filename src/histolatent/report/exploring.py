"""Pictures of a latent space: maps with their trust, ways, directions, mixtures, what a model makes of tiles."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from ..explore.directions import Direction, DirectionCard
from ..explore.faithfulness import Faithfulness
from ..explore.maps import Map
from ..explore.metrics import MAP_METRICS
from ..explore.trust import MapTrust
from .canvas import COLOURS, FRAME_DPI, GREY, MARKERS, WIDTH, Drawn, blank, finish, frame_of, panels, short, styled
from .movies import Frame

if TYPE_CHECKING:
    from ..explore.seen import SeenDirection

#: Maps beside each other, and values that get a colour of their own.
ACROSS, MOST_VALUES = 3, len(COLOURS) * len(MARKERS)
#: Letters of a caption in an inch, and inches for a legend above the panels.
LETTERS, LEGEND = 13, 0.5
#: Inches of a letter of a row's name, and between tiles.
LETTER, GAP = 0.078, 0.04
#: Classes are drawn in so many turns, so that none covers the others.
TURNS = 10
Row = UInt8[np.ndarray, "_n _h _w 3"]


@styled
def draw_maps(maps: Sequence[Map], trusts: Sequence[MapTrust | None], values: pd.Series | None = None) -> Drawn:
    """Draw maps side by side, tiles coloured by a column; under each how far to believe it."""
    across = 2 if len(maps) == 4 else min(ACROSS, len(maps))
    rows = -(-len(maps) // across)
    side = WIDTH / max(across, 2)
    figure, axes = panels(rows, across, (side * across, rows * (side + 0.75) + LEGEND))
    handles: list[Any] = []
    names: list[str] = []
    for axis, made, trust in zip(axes.flat, maps, trusts, strict=False):
        handles, names = _scatter(axis, made, values)
        axis.set_title(made.method)
        _caption(axis, made, "" if trust is None else trust.caption(), side)
    for axis in axes.flat[len(maps) :]:
        axis.set_axis_off()
    figure.tight_layout(rect=(0, 0, 1, 1 - LEGEND / figure.get_figheight() if handles else 1))
    if handles:
        figure.legend(
            handles,
            names,
            loc="upper center",
            ncols=min(len(names), 6),
            frameon=False,
            markerscale=3,
            bbox_to_anchor=(0.5, 1.0),
        )
    return finish(figure)


def _caption(axis, made: Map, text: str, inches: float) -> None:
    """Write a map's trust under it; its method is named above."""
    axis.set_xlabel(_wrapped(text.removeprefix(f"{made.method}: "), int(inches * LETTERS)), fontsize=7.5, color=GREY)


def _wrapped(text: str, letters: int) -> str:
    return "\n".join(textwrap.wrap(text, letters))


def _as_map(axis) -> None:
    """Give a panel one scale both ways, small: in a map it says nothing but where a place is, as for `--box`."""
    axis.grid(visible=False)
    axis.spines[:].set_color("#dddddd")
    axis.tick_params(labelsize=6, labelcolor=GREY, color="#dddddd", length=2)
    axis.locator_params(nbins=5)
    axis.set_aspect("equal", adjustable="datalim")


def _dot_size(tiles: int, least: float = 2, most: float = 18) -> float:
    """Return the area of a dot, smaller where there are more of them."""
    return float(np.clip(4000 / tiles, least, most))


def _scatter(axis, made: Map, values: pd.Series | None) -> tuple[list[Any], list[str]]:
    size = _dot_size(len(made.places))
    _as_map(axis)
    if values is None:
        axis.scatter(*made.places.T, s=size, color=COLOURS[0], linewidths=0, rasterized=True)
        return [], []
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > len(COLOURS):
        points = axis.scatter(*made.places.T, s=size, c=values, cmap="cividis", linewidths=0, rasterized=True)
        bar = axis.figure.colorbar(points, ax=axis, shrink=0.6)
        bar.set_label(str(values.name))
        bar.outline.set_visible(False)
        return [], []
    named = values.astype(str).where(values.notna(), "not known")
    kinds = sorted(named.unique())[:MOST_VALUES]
    of_kind = {kind: np.flatnonzero((named == kind).to_numpy()) for kind in kinds}
    drawn: dict[str, Any] = {}
    for turn in range(TURNS):
        for place, kind in enumerate(kinds):
            rows = of_kind[kind][turn::TURNS]
            colour = GREY if kind == "not known" else COLOURS[place % len(COLOURS)]
            marker = MARKERS[place // len(COLOURS) % len(MARKERS)]
            points = axis.scatter(
                *made.places[rows].T, s=size, color=colour, marker=marker, linewidths=0, rasterized=True
            )
            drawn.setdefault(kind, points)
    return list(drawn.values()), [short(kind) for kind in drawn]


@styled
def draw_points(made: Map, trust: MapTrust) -> Drawn:
    """Draw, on the map itself, which tiles' surroundings are kept, and which places are to be believed."""
    points = trust.points
    k = next(figure.k for figure in trust.faithfulness.figures if figure.metric == "recall")
    titles = {
        f"recall@{k}": f"of the {k} nearest tiles,\nshare shown near",
        "stability": "share of neighbours\nthat other seeds show, too",
        "reliability": "reliability of surroundings\n(0: as without structure)",
    }
    shown = [(name, title) for name, title in titles.items() if name in points]
    figure, axes = panels(1, len(shown), (WIDTH, WIDTH / max(len(shown), 2) + 0.8))
    rows = points.index.to_numpy()
    size = _dot_size(len(rows), 3, 22)
    for axis, (name, title) in zip(axes[0], shown, strict=True):
        axis.scatter(*made.places.T, s=2, color="#dddddd", linewidths=0, rasterized=True)
        drawn = axis.scatter(
            *made.places[rows].T, s=size, c=points[name], cmap="cividis", linewidths=0, rasterized=True
        )
        _as_map(axis)
        axis.set_title(title, fontsize=9)
        bar = axis.figure.colorbar(drawn, ax=axis, shrink=0.7)
        bar.outline.set_visible(False)
    figure.supxlabel(_wrapped(trust.caption(), int(WIDTH * LETTERS)), fontsize=7.5, color=GREY)
    figure.tight_layout()
    return finish(figure)


@styled
def draw_selection(made: Map, inside: np.ndarray, said: str) -> Drawn:
    """Draw a map with some of its tiles marked, and what was found of them."""
    figure, axes = panels(1, 1, (WIDTH * 0.6, WIDTH * 0.6))
    axis = axes[0][0]
    size = _dot_size(len(made.places))
    axis.scatter(*made.places[~inside].T, s=size, color="#bbbbbb", linewidths=0, rasterized=True)
    axis.scatter(*made.places[inside].T, s=1.5 * size, color=COLOURS[1], linewidths=0, rasterized=True)
    _as_map(axis)
    axis.set_title(made.method)
    axis.set_xlabel(_wrapped(said, int(WIDTH * 0.6 * LETTERS)), fontsize=8, color=GREY)
    figure.tight_layout()
    return finish(figure)


@styled
def draw_walk(
    made: Map,
    values: pd.Series | None,
    places: Float[np.ndarray, "t 2"],
    tiles: Row,
    notes: Sequence[str],
    stops: Sequence[int],
    caption: str,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[list[Frame], Drawn]:
    """Return the frames of a walk: where it is in the map, what is there, and below it each of the `stops` passed.

    The last of them comes as a picture, too: the whole route.

    `places` and `tiles` are of every step, with a note each; `stops` are steps, in their order.
    """
    figure = blank((WIDTH, 0.56 * WIDTH))
    across = max(len(stops), 4)
    grid = figure.add_gridspec(2, across + 6, height_ratios=(3.4, 1), left=0.03, right=0.97, bottom=0.16, top=0.93)
    whole, large = figure.add_subplot(grid[:, :6]), figure.add_subplot(grid[0, 6:])
    strip = [figure.add_subplot(grid[1, 6 + place]) for place in range(len(stops))]
    handles, names = _scatter(whole, made, values)
    if handles:
        whole.legend(handles, names, loc="upper left", frameon=False, markerscale=3, fontsize=7.5)
    whole.set_title(made.method)
    _caption(whole, made, caption, 0.46 * WIDTH)
    whole.plot(*places.T, color="white", linewidth=3.5)
    whole.plot(*places.T, color="#888888", linewidth=1.2)
    trail = whole.plot([], [], color="black", linewidth=2.2)[0]
    here = whole.plot([], [], "o", color="white", markeredgecolor="black", markeredgewidth=2, markersize=10)[0]
    shown = large.imshow(tiles[0], interpolation="nearest")
    for axis in (large, *strip):
        _as_picture(axis)
    frames = []
    for step, (tile, note) in enumerate(zip(tiles, notes, strict=True)):
        trail.set_data(*places[: step + 1].T)
        here.set_data(places[step : step + 1, 0], places[step : step + 1, 1])
        shown.set_data(tile)
        large.set_xlabel(note, fontsize=9)
        if step in stops:
            strip[stops.index(step)].imshow(tile, interpolation="nearest")
        frames.append(frame_of(figure))
        if progress:
            progress(step + 1, len(tiles))
    return frames, finish(figure)


@styled
def draw_film(tiles: Row, notes: Sequence[str], *, least: int = 288) -> list[Frame]:
    """Return tiles as frames of a movie, at least so many px wide, each with its note of up to two lines below it."""
    times = -(-least // tiles[0].shape[0])
    side, below = times * tiles[0].shape[0] / FRAME_DPI, 0.46
    figure = blank((side, side + below))
    axis = figure.add_axes((0, below / (side + below), 1, side / (side + below)))
    _as_picture(axis)
    shown = axis.imshow(tiles[0], interpolation="nearest", aspect="auto")
    said = figure.text(0.5, 0.5 * below / (side + below), "", ha="center", va="center", fontsize=8.5)
    frames = []
    for tile, note in zip(tiles, notes, strict=True):
        shown.set_data(tile)
        said.set_text("\n".join(map(short, note.split("\n"))))
        frames.append(frame_of(figure))
    return frames


@styled
def draw_faithfulness(found: Sequence[tuple[str, Faithfulness]]) -> Drawn:
    """Draw the figures of several maps beside each other, each with its interval, and the floor of a random layout."""
    names = [figure.name for figure in found[0][1].figures]
    across = 4
    rows = -(-len(names) // across)
    figure, axes = panels(rows, across, (WIDTH, rows * (0.78 + 0.22 * len(found))))
    for axis, name in zip(axes.flat, names, strict=False):
        for place, (_, each) in enumerate(found):
            own = each[name]
            colour = COLOURS[place % len(COLOURS)]
            if own.estimate.low is not None and own.estimate.high is not None:
                axis.plot([own.estimate.low, own.estimate.high], [place, place], color=colour, linewidth=2)
            axis.plot(own.estimate.value, place, marker="o", color=colour, markersize=5, linestyle="")
            axis.plot(own.floor, place, marker="|", color=GREY, markersize=9, linestyle="")
        axis.set_yticks(range(len(found)), [short(method) for method, _ in found])
        axis.set_ylim(len(found) - 0.5, -0.5)
        axis.locator_params(axis="x", nbins=3)
        known, size = MAP_METRICS[found[0][1][name].metric], found[0][1][name].k
        lines = [
            _wrapped(known.title, 26),
            f"{size} nearest" if size else "",
            "low is good" if known.better == "lower" else "",
        ]
        axis.set_title("\n".join(filter(None, lines)), fontsize=7.5)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    figure.supxlabel("with 95 % intervals; the stroke is what a random layout has", fontsize=8, color=GREY)
    figure.tight_layout()
    return finish(figure)


@styled
def draw_rows(
    rows: Mapping[str, Row],
    heads: Sequence[str] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
    *,
    under: str = "",
) -> Drawn:
    """Draw rows of tiles, each with its name on the left, `heads` over the columns, `notes` under tiles.

    `under` all of them stands what the notes mean, where there are any.
    """
    count, noted = max(len(tiles) for tiles in rows.values()), notes or {}
    left = LETTER * max(len(line) for name in rows for line in name.split("\n")) + 0.15
    side = (WIDTH - left - GAP) / count - GAP
    heights = [side + (0.24 if name in noted else 0) + GAP for name in rows]
    below = 0.22 if under and noted else 0.0
    titles = [_wrapped(head, max(int(side / LETTER), 6)) for head in heads]
    above = 0.14 + 0.16 * max(title.count("\n") + 1 for title in titles) if titles else GAP
    height = sum(heights) + above + below
    figure, top = blank((WIDTH, height)), height - above
    for row, ((name, tiles), taken) in enumerate(zip(rows.items(), heights, strict=True)):
        for place, tile in enumerate(tiles):
            box = (left + place * (side + GAP), top - side, side, side)
            axis = figure.add_axes(tuple(np.divide(box, (WIDTH, height, WIDTH, height))))
            _as_picture(axis)
            axis.imshow(tile, interpolation="nearest", aspect="auto")
            if name in noted:
                axis.set_xlabel(noted[name][place], fontsize=7, labelpad=2)
            if place == 0:
                axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
            if row == 0 and place < len(titles):
                axis.set_title(titles[place], fontsize=8.5, loc="center", pad=3)
        top -= taken
    if below:
        figure.text(0.5, 0.05 / height, under, ha="center", va="bottom", fontsize=7, color=GREY)
    return finish(figure)


def _as_picture(axis) -> None:
    """Leave a panel nothing but what is shown in it."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


@styled
def draw_way(frame: pd.DataFrame, readings: pd.Series | None = None) -> Drawn:
    """Draw how far to believe each step of a way, and what is read of it."""
    shown = [("sparser", "share of tiles in denser places")]
    shown += [("cycle", "cycle error (spacings)")] if "cycle" in frame else []
    panel_count = len(shown) + (readings is not None)
    figure, axes = panels(1, panel_count, (WIDTH * min(1, panel_count / 3 + 0.1), 2.2))
    for axis, (name, title) in zip(axes[0], shown, strict=False):
        axis.plot(frame["along"], frame[name], color=COLOURS[0], marker="o", markersize=4)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("share of the way")
        axis.set_ylim(0, 1.08 * max(float(frame[name].max()), 1e-9))
    if readings is not None:
        axes[0][-1].plot(frame["along"], readings, color=COLOURS[1], marker="s", markersize=4)
        axes[0][-1].set_title(f"read: {readings.name}", fontsize=9)
        axes[0][-1].set_xlabel("share of the way")
    figure.tight_layout()
    return finish(figure)


@styled
def draw_effects(effects: pd.DataFrame) -> Drawn:
    """Draw what a move along each direction changes of what each reads, in standard deviations."""
    rows, columns = effects.shape
    figure, axes = panels(1, 1, (min(WIDTH, 3.6 + 0.62 * columns), 1.5 + 0.42 * rows))
    axis = axes[0][0]
    most = max(1.0, float(np.abs(effects.to_numpy()).max()))
    axis.imshow(effects.to_numpy(), cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
    axis.grid(visible=False)
    for (row, column), value in np.ndenumerate(effects.to_numpy()):
        ink = "white" if abs(value) > 0.6 * most else "black"
        axis.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    axis.set_xticks(range(columns), [short(str(name)) for name in effects.columns], rotation=40, ha="right")
    axis.set_yticks(range(rows), [short(str(name)) for name in effects.index])
    axis.set_xlabel("what is read, in standard deviations")
    axis.set_ylabel("a move along")
    figure.tight_layout()
    return finish(figure)


def in_words(direction: "Direction | SeenDirection") -> str:
    """Return what a direction is worth, in a sentence."""
    card = direction.card
    if card is None:
        return f"{direction.name}: not fitted to an attribute; a move of 1 is {direction.unit or 'a step'}."
    where = "" if isinstance(card, DirectionCard) else "in decoded tiles "
    if card.untested:
        return f"{direction.name}: a move of 1 is {direction.unit}; {where}not testable: {card.untested}."
    worth = "it can be believed" if card.believable else "it is not to be believed"
    if card.by == "tile":
        worth += "; no patients are named, and tiles of one may lie on both sides"
    groups = f"other {card.by}s, of {card.groups} in all"
    read = f"read with {card.score} {card.reads:.2f} on {groups} (dealt values: up to {card.shuffled:.2f})"
    if isinstance(card, DirectionCard):
        read += (
            f"; directions of other {card.by}s are {card.stable:.2f} alike; better than {card.percentile:.0%} of "
            "random directions"
        )
    else:
        read = f"in decoded tiles it is {read}"
    return f"{direction.name}: a move of 1 is {direction.unit}; {read}: {worth}."
