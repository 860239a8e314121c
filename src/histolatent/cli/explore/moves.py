"""`histolatent explore path`, `direction`, `chain`."""

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import OptionError
from ..console import AllowOutside, Device, Overwrite, say
from .shared import (
    DENSER,
    FINER,
    KIND,
    Decoder,
    Out,
    Table,
    TilesOf,
    densities,
    film,
    read_space,
    real_tiles,
    refuse_nothing_to_show,
    refuse_outcome,
    say_hub,
    say_nothing_to_show,
    write_outcome,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ...explore.directions import Way
    from ...explore.space import LatentSpace, Point

PATH_EXAMPLE = "Example: histolatent explore path emb.zarr TILE_A TILE_B --decoder vae/ --method geodesic --out way/"
DIRECTION_EXAMPLE = "Example: histolatent explore direction emb.zarr label --tile TILE --decoder vae/ --out label/"
CHAIN_EXAMPLE = (
    'Example: histolatent explore chain emb.zarr TILE "grade +1" "label=tumour -2" "toward OTHER .3" -d vae/ --out out/'
)
#: Frames that a step of a chain stays.
HELD = 4
Kind = Annotated[
    str,
    typer.Option(
        help="difference, lda, logistic, svm (classes), or difference, ridge (numbers): the same way everywhere; seen: "
        "at each place the one on which the decoded tile changes in the attribute, its colours held (--decoder)."
    ),
]
SEEN = "seen"
STEP = re.compile(r"\s*(?P<name>.+?)\s*(?P<amount>[+-]\s*\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*")
TOWARD = re.compile(r"\s*toward\s+(?P<tile>\S+)\s+(?P<share>\d*\.?\d+)\s*")


def path(
    table: Table,
    first: Annotated[str, typer.Argument(help="The tile to start from, by its name in the table.")],
    last: Annotated[str, typer.Argument(help="The tile to go to.")],
    out: Out,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", help="lerp, slerp, nlerp, graph, geodesic. Repeatable. Default: slerp."),
    ] = None,
    steps: Annotated[int, typer.Option(min=3, help="Steps of the picture, both ends included.")] = 9,
    read: Annotated[
        str | None, typer.Option(help="What is read along the way: a column, or COLUMN=CLASS of more than two classes.")
    ] = None,
    decoder: Decoder = None,
    tiles: TilesOf = None,
    device: Device = None,
    allow_outside: AllowOutside = False,
    overwrite: Overwrite = False,
) -> None:
    """Go from one tile to another, and see what lies between: decoded, through real tiles, with its risk."""
    from ...report.exploring import draw_rows, draw_way

    if first == last:
        raise OptionError("a way has two ends", received=f"{first} twice")
    refuse_outcome(out, f"{KIND} path", overwrite=overwrite)
    space = read_space(table, decoder, tiles, allow_outside=allow_outside, device=device)
    say_hub(space)
    say_nothing_to_show(space)
    attribute = None if read is None else _direction(space, read, force=True)
    for note in () if attribute is None else attribute.notes:
        say(f"{read}: {note}")
    rows: dict[str, Any] = {}
    notes: dict[str, list[str]] = {}
    numbers: dict[str, Any] = {"first": first, "last": last, "ways": {}}
    movies: dict[str, list[Any]] = {}
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(method or ["slerp"]):
        way = space[first].path(space[last], method=name, steps=steps)
        frame, score = way.to_frame(), way.score(attribute)
        numbers["ways"][name] = {
            "score": score,
            "route": list(way.route),
            "steps": frame.to_dict("records"),
            "vectors": way.vectors,
        }
        if space.decoder is not None:
            rows[name] = way.decode()
            notes[name] = densities(frame["sparser"])
            fine = space[first].path(space[last], method=name, steps=FINER * steps)
            words = [f"{name}, {share:.0%} of the way" for share in fine.to_frame()["along"]]
            movies[name] = film(space, fine.vectors, words)
        if space.pictures is not None:
            rows[f"{name},\nreal tiles"] = real_tiles(space, frame["nearest"].tolist())
        readings = None
        if attribute is not None:
            import pandas as pd

            readings = pd.Series(attribute.value(way.vectors), name=read)
        figures[f"risk-{name}"] = draw_way(frame, readings)
        say(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in score.items()))
    if rows:
        figures = {"way": draw_rows(rows, notes=notes, under=DENSER), **figures}
    write_outcome(out, f"{KIND} path", numbers, figures=figures, movies=movies, overwrite=overwrite)


def direction(
    table: Table,
    column: Annotated[str, typer.Argument(help="The attribute: a column of classes, or of numbers.")],
    out: Out,
    tile: Annotated[list[str] | None, typer.Option("--tile", help="Tile to move, by its name. Repeatable.")] = None,
    kind: Kind = "difference",
    confounder: Annotated[
        list[str] | None, typer.Option("--confounder", help="Column to adjust for: scanner, site. Repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="Column whose direction is taken out of it. Repeatable.")
    ] = None,
    positive: Annotated[str | None, typer.Option(help="The class to move toward.")] = None,
    negative: Annotated[
        str | None, typer.Option(help="The class to move from, if there are more than two. Default: all others.")
    ] = None,
    amounts: Annotated[
        str,
        typer.Option(
            help="How far to move, by comma: of classes from one to the other, of a number in its standard deviations."
        ),
    ] = "-2,-1,0,1,2",
    force: Annotated[bool, typer.Option("--force", help="Fit it although confounders tell nearly all of it.")] = False,
    decoder: Decoder = None,
    tiles: TilesOf = None,
    device: Device = None,
    allow_outside: AllowOutside = False,
    overwrite: Overwrite = False,
) -> None:
    """Fit the direction of an attribute, say what it is worth, and move tiles along it."""
    from ...report.exploring import draw_effects, draw_rows, in_words

    wanted = _amounts(amounts)
    refuse_outcome(out, f"{KIND} direction", overwrite=overwrite)
    space = read_space(table, decoder, tiles, allow_outside=allow_outside, device=device)
    if tile:
        say_nothing_to_show(space)
    options: dict[str, Any] = {"confounders": confounder or [], "force": force}
    found = _direction(space, column, kind, positive=positive, negative=negative, **options)
    theirs = SEEN if kind == SEEN else "difference"
    others = [_direction(space, name, theirs, force=True) for name in without or []]
    if others:
        found = found.without(*others)
    effects = _effects(kind, [found, *others], space.vectors)
    moves = [amount * found.spread for amount in wanted]
    figures: dict[str, Any] = {"effects": draw_effects(effects)}
    numbers: dict[str, Any] = {
        "column": column,
        "unit": found.unit,
        "card": None if found.card is None else vars(found.card),
        "notes": list(found.notes),
        "spread": found.spread,
        "effects": effects.to_dict(),
        "vector": getattr(found, "vector", None),
        "tiles": {},
    }
    rows: dict[str, Any] = {}
    notes: dict[str, list[str]] = {}
    movies: dict[str, list[Any]] = {}
    for name in tile or []:
        points = [space[name].move(found, amount) for amount in moves]
        numbers["tiles"][name] = [
            {"amount": amount, "read": float(found.value(point.vector)), **point.risk()}
            for amount, point in zip(moves, points, strict=True)
        ]
        if space.decoder is not None:
            rows[name] = space.decode(_stacked(points))
            notes[name] = densities(each["sparser"] for each in numbers["tiles"][name])
            movies[f"along-{len(movies) + 1}"] = _swing(space, space[name], found, wanted)
        if space.pictures is not None:
            rows[f"{name},\nreal tiles"] = real_tiles(space, [each["nearest"] for each in numbers["tiles"][name]])
    if rows:
        heads = [f"{amount:+g}" if amount else "as it is" for amount in wanted]
        figures["moved"] = draw_rows(rows, heads=heads, notes=notes, under=DENSER)
    write_outcome(out, f"{KIND} direction", numbers, figures=figures, movies=movies, overwrite=overwrite)
    say(in_words(found))
    for note in found.notes:
        say(f"  {note}")


def _direction(space: "LatentSpace", text: str, kind: str = "difference", **options: Any) -> Any:
    """Return the direction of COLUMN, or of COLUMN=CLASS: to that class from all others."""
    column, _, named = text.partition("=")
    options = {"name": text, **options, **({"positive": named} if named else {})}
    return space.seen(column, **options) if kind == SEEN else space.direction(column, kind=kind, **options)


def _effects(kind: str, directions: list[Any], vectors: "np.ndarray") -> "pd.DataFrame":
    """Return what a move along each changes of all: of what vectors say, or of what decoded tiles show."""
    if kind == SEEN:
        from ...explore.seen import seen_effects

        return seen_effects(directions, directions, vectors)
    from ...explore.directions import side_effects

    return side_effects(directions, vectors)


def _stacked(points: "list[Point]") -> "np.ndarray":
    import numpy as np

    return np.stack([point.vector for point in points])


def _swing(space: "LatentSpace", point: "Point", along: "Way", amounts: list[float]) -> list[Any]:
    """Return frames from the least amount to the largest and back."""
    import numpy as np

    from ...report.movies import there_and_back

    there = np.linspace(min(amounts), max(amounts), FINER * len(amounts))
    vectors = _stacked([point.move(along, float(amount) * along.spread) for amount in there])
    return there_and_back(film(space, vectors, [f"{along.name} {amount:+.1f}" for amount in there]))


def _amounts(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError("amounts are numbers, by comma", received=text, fix="--amounts=-2,-1,0,1,2") from None
    if len(found) < 2:
        raise OptionError("two amounts or more", received=text)
    return found


def chain(
    table: Table,
    tile: Annotated[str, typer.Argument(help="The tile to start from.")],
    operations: Annotated[
        list[str],
        typer.Argument(
            help='In their order: "COLUMN +2", "COLUMN=CLASS -1", "toward TILE 0.3". Of classes 1 is from one to the '
            "other, of a number its standard deviation."
        ),
    ],
    out: Out,
    kind: Kind = "difference",
    decoder: Decoder = None,
    tiles: TilesOf = None,
    device: Device = None,
    allow_outside: AllowOutside = False,
    overwrite: Overwrite = False,
) -> None:
    """Chain operations on a tile: moves along directions of columns, and parts of ways to other tiles."""
    import numpy as np

    from ...report.exploring import draw_rows

    parsed = [_operation(text) for text in operations]
    refuse_outcome(out, f"{KIND} chain", overwrite=overwrite)
    space = read_space(table, decoder, tiles, allow_outside=allow_outside, device=device)
    refuse_nothing_to_show(space)
    for name in dict.fromkeys(name for name, _, is_way in parsed if not is_way):
        found = _direction(space, name, kind, force=True)
        space = space.knowing(found)
        for note in found.notes:
            say(f"{name}: {note}")
    points, backwards = [space[tile]], space[tile]
    for operation in parsed:
        points.append(_moved(points[-1], *operation))
    for operation in reversed(parsed):
        backwards = _moved(backwards, *operation)
    heads = [tile, *(_said(space, *operation) for operation in parsed)]
    apart = float(np.linalg.norm(points[-1].vector - backwards.vector))
    unit = float(np.median(space.graph.distance[:, 0]))
    steps = [{"said": said, "vector": point.vector, **point.risk()} for said, point in zip(heads, points, strict=True)]
    numbers = {"tile": tile, "operations": operations, "steps": steps, "order_matters_by": apart / max(unit, 1e-300)}
    rows: dict[str, Any] = {}
    notes: dict[str, list[str]] = {}
    movies: dict[str, list[Any]] = {}
    if space.decoder is not None:
        rows["decoded"] = space.decode(_stacked(points))
        notes["decoded"] = densities(each["sparser"] for each in steps)
        movies["chain"] = _through(space, points, heads)
    if space.pictures is not None:
        rows["nearest\nreal tile"] = real_tiles(space, [str(each["nearest"]) for each in steps])
    figures = {"chain": draw_rows(rows, heads=heads, notes=notes, under=DENSER)}
    write_outcome(out, f"{KIND} chain", numbers, figures=figures, movies=movies, overwrite=overwrite)
    say(
        f"{', '.join(heads)}; nearest tile {steps[-1]['nearest']}, "
        f"{steps[-1]['sparser']:.0%} of tiles lie in denser places"
    )
    say(f"in the other order it would end {apart / max(unit, 1e-300):.2f} spacings of tiles away")


def _moved(point: "Point", name: str, amount: float, is_way: bool) -> "Point":
    """Return a point after an operation."""
    if is_way:
        return point.toward(point.space[name], amount)
    along = point.space.directions[name]
    return point.move(along, amount * along.spread)


def _said(space: "LatentSpace", name: str, amount: float, is_way: bool) -> str:
    """Return an operation in words, with the unit of its amount where it is one of a number."""
    if is_way:
        return f"{amount:g} toward {name}"
    return f"{name} {amount:+g}" + ("" if getattr(space.directions[name], "positive", None) else " sd")


def _through(space: "LatentSpace", points: "list[Point]", heads: list[str]) -> list[Any]:
    """Return frames from each point to the next, straight between them; each stays for a while."""
    import numpy as np

    from ...explore.paths import lerp

    steps = np.concatenate([np.zeros(HELD), np.linspace(0, 1, 2 * FINER, endpoint=False)])
    ways = [lerp(first.vector, last.vector, steps) for first, last in pairwise(points)]
    words = [word for here, there in pairwise(heads) for word in [here] * HELD + [f"→ {there}"] * 2 * FINER]
    vectors = np.concatenate([*ways, np.repeat(points[-1].vector[None], HELD, axis=0)])
    return film(space, vectors, words + heads[-1:] * HELD)


def _operation(text: str) -> tuple[str, float, bool]:
    """Return name, amount, and whether it is a part of a way."""
    toward = TOWARD.fullmatch(text)
    if toward:
        return toward["tile"], float(toward["share"]), True
    step = STEP.fullmatch(text)
    if not step:
        raise OptionError(
            "an operation is a column and an amount, or a way",
            received=text,
            valid='"grade +1", "label=tumour -2", "toward TILE 0.3"',
        )
    return step["name"], float(step["amount"].replace(" ", "")), False
