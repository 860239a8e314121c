"""`histolatent explore barycentre`."""

from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError, OptionError
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
    write_outcome,
)

if TYPE_CHECKING:
    import numpy as np

    from ...explore.space import LatentSpace

EXAMPLE = (
    "Example: histolatent explore barycentre emb.zarr --column label A B --decoder vae/ --tiles tiles/ --out middle/"
)
#: Tiles of a row of the picture; points that a middle of several groups is made of.
SHOWN, POINTS = 7, 100
#: What distances are, in words.
SQUARED = {
    "empirical_w2_squared": "squared Wasserstein-2",
    "gaussian_w2_squared": "squared Wasserstein-2 of normal distributions",
    "sliced_w2_squared": "squared Wasserstein-2 along single directions (sliced)",
}


def barycentre(
    table: Table,
    groups: Annotated[
        list[str], typer.Argument(help="Two values of the column, to go between, or more, to see their middle.")
    ],
    column: Annotated[str, typer.Option(help="The column that names groups: label, slide, site.")],
    out: Out,
    weights: Annotated[
        str | None, typer.Option(help="Weights of the groups, by comma. Of two, too, their middle is then shown.")
    ] = None,
    steps: Annotated[int, typer.Option(min=3, help="Tiles of each row of the picture.")] = SHOWN,
    decoder: Decoder = None,
    tiles: TilesOf = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of which tiles are drawn, and of halves.")] = 0,
    device: Device = None,
    allow_outside: AllowOutside = False,
    overwrite: Overwrite = False,
) -> None:
    """Go between two groups three ways: along means, by transport of tiles, of stain; or see the middle of several.

    Of each pair it says whether they are further apart than halves of one group are.
    """
    import numpy as np

    from ...report.exploring import draw_rows

    share = _weights(weights, groups)
    refuse_outcome(out, f"{KIND} barycentre", overwrite=overwrite)
    space = read_space(table, decoder, tiles, allow_outside=allow_outside, device=device)
    refuse_nothing_to_show(space)
    say_hub(space)
    for name in groups:
        space.mean_of(column, name)
    named = space.obs[column].astype(str).where(space.obs[column].notna()).to_numpy()
    sets = {name: np.flatnonzero(named == name) for name in groups}
    for name, rows in sets.items():
        if len(rows) < 2:
            raise InputError(
                f"{column} {name} is one tile, and no group",
                valid="2 tiles, better dozens",
                fix="histolatent explore path goes to a single tile",
            )
    if len(groups) == 2 and weights is None:
        rows, notes, movies, found = _between(space, sets, steps, seed)
        heads = [groups[0], *(f"{t:.2f}" for t in np.linspace(0, 1, steps)[1:-1]), groups[1]]
    else:
        rows, notes, movies, found = _middle(space, sets, share, steps, seed)
        heads = []
    for each in found.get("moves_most", [])[:3]:
        say(f"of the furthest moved: {each['tile']} to {each['to']}, by {each['length']:.3g}")
    distances = _distances(space, column, sets, seed)
    numbers = {
        "column": column,
        "groups": groups,
        "weights": share,
        "tiles": [len(each) for each in sets.values()],
        "distances": distances,
        "bures": _bures(space, sets, share),
        **found,
    }
    figures = {"between": draw_rows(rows, heads=heads, notes=notes, under=DENSER)}
    write_outcome(out, f"{KIND} barycentre", numbers, figures=figures, movies=movies, overwrite=overwrite)


def _weights(text: str | None, groups: list[str]) -> list[float]:
    if len(set(groups)) < max(2, len(groups)):
        raise OptionError("two groups or more, by their values, each once", received=", ".join(groups))
    try:
        found = [1.0] * len(groups) if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != len(groups) or not min(found) >= 0 or not 0 < sum(found) < float("inf"):
        raise OptionError(
            "weights are one number for each group, by comma, none negative, not all 0",
            received=text,
            fix=f"--weights {','.join('1' for _ in groups)}",
        )
    return [each / sum(found) for each in found]


def _between(space: "LatentSpace", sets: "dict[str, np.ndarray]", steps: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Return rows, notes and movies of the way from one group to the other, and its numbers."""
    import numpy as np

    from ...explore.between import mix_stains, show_transport
    from ...explore.transport import transport
    from ...report.movies import there_and_back

    first, second = sets.values()
    plan = transport(space.vectors[first], space.vectors[second], seed=seed)
    at, fine = np.linspace(0, 1, steps), np.linspace(0, 1, FINER * steps)
    ends = [space.vectors[each].mean(axis=0, dtype=np.float64) for each in (first, second)]
    line = np.stack([(1 - t) * ends[0] + t * ends[1] for t in at])
    carried = show_transport(plan, at)
    risks = {"line": space.risks(line), "transport": space.risks(carried)}
    rows: dict[str, Any] = {}
    notes: dict[str, list[str]] = {}
    movies: dict[str, list[Any]] = {}
    if space.decoder is not None:
        rows["line of\nmeans"] = space.decode(line)
        rows["transport,\none tile"] = space.decode(carried)
        for name, each in zip(rows, risks.values(), strict=True):
            notes[name] = densities(each["sparser"])
        words = [f"transport, {share:.0%} of the way" for share in fine]
        movies["transport"] = there_and_back(film(space, show_transport(plan, fine), words))
    if space.pictures is not None:
        rows["line,\nreal tiles"] = real_tiles(space, risks["line"]["nearest"].tolist())
        shown = rows["transport,\nreal tiles"] = real_tiles(space, risks["transport"]["nearest"].tolist())
        rows["stain,\nin pixels"] = mix_stains(shown[0], shown[-1], at)
    most = [
        {
            "tile": space.tiles[first[int(row["tile"])]],
            "to": space.tiles[second[int(row["to"])]],
            "length": row["length"],
        }
        for row in plan.moves().head(10).to_dict("records")
    ]
    found = {
        "distance": plan.distance,
        "moves_most": most,
        "risks": {name: each.to_dict("records") for name, each in risks.items()},
    }
    return rows, notes, movies, found


def _middle(
    space: "LatentSpace", sets: "dict[str, np.ndarray]", share: list[float], steps: int, seed: int
) -> tuple[Any, Any, Any, Any]:
    """Return rows and notes of the middle of several groups, with the tile of each that goes there, and its numbers."""
    import numpy as np

    from ...explore.transport import barycentre as middle_of
    from ...explore.transport import transport
    from ...images import spaced

    vectors = [space.vectors[each] for each in sets.values()]
    points = middle_of(vectors, share, points=POINTS, seed=seed)
    order = np.argsort(np.linalg.norm(points - points.mean(axis=0), axis=1), kind="stable")
    shown = order[spaced(np.arange(len(order)), steps)]
    plans = {name: transport(points, part, seed=seed) for name, part in zip(sets, vectors, strict=True)}
    partners = {
        name: sets[name][plan.moves().set_index("tile").loc[shown, "to"].to_numpy(int)] for name, plan in plans.items()
    }
    risks = space.risks(points)
    rows: dict[str, Any] = {}
    for name, tiles in partners.items():
        if space.pictures is not None:
            rows[f"{name},\nreal tiles"] = real_tiles(space, [space.tiles[row] for row in tiles])
        else:
            rows[f"{name},\ndecoded"] = space.decode(space.vectors[tiles])
    notes: dict[str, list[str]] = {}
    if space.decoder is not None:
        rows["middle,\ndecoded"] = space.decode(points[shown])
        notes["middle,\ndecoded"] = densities(risks["sparser"].iloc[shown])
    if space.pictures is not None:
        rows["middle,\nnearest"] = real_tiles(space, risks["nearest"].iloc[shown].tolist())
    found = {
        "distances_to_middle": {name: plan.distance for name, plan in plans.items()},
        "middle": [{"vector": point, **risk} for point, risk in zip(points, risks.to_dict("records"), strict=True)],
    }
    for name, plan in plans.items():
        say(f"{name} is {plan.distance:.4g} from the middle (Wasserstein-2 of vectors as they are)")
    return rows, notes, {}, found


def _distances(space: "LatentSpace", column: str, sets: "dict[str, np.ndarray]", seed: int) -> "list[Any] | str":
    """Return distances of all pairs beside their floors, and say them; or why they cannot be had."""
    import numpy as np

    from ...explore.attributes import groups_of
    from ...explore.transport import compare_sets

    rows = np.concatenate(list(sets.values()))
    names = np.repeat(list(sets), [len(each) for each in sets.values()]).tolist()
    by, codes = groups_of(space.obs)
    labels = space.obs["label"].iloc[rows].tolist() if "label" in space.obs and column != "label" else None
    try:
        found = compare_sets(
            space.vectors[rows], names, groups=None if codes is None else codes[rows], labels=labels, seed=seed
        )
    except InputError as error:
        say(str(error))
        return str(error)
    records = found.to_dict("records")
    for row in records:
        halves = f"halves by {by if row['halves_by'] == 'group' else 'tile'}"
        above = "above" if row["above_floor"] else "not above"
        say(
            f"{row['first']} and {row['second']}, {SQUARED[row['distance']]}: halves of the two are "
            f"{row['between']:.4g} apart, halves of one {row['floor']:.4g} (scale {row['scale']}, {halves}); that is "
            f"{above} the {row['floor_p95']:.4g} below which 95 % of the latter are"
        )
    return records


def _bures(space: "LatentSpace", sets: "dict[str, np.ndarray]", share: list[float]) -> dict[str, Any]:
    """Return how far groups are as normal distributions, from each other and from their middle."""
    from ...explore.transport import Gaussian, bures_barycentre

    normal = {name: Gaussian.of(space.vectors[each]) for name, each in sets.items()}
    pairs = [
        {"first": one, "second": other, "distance": normal[one].distance(normal[other])}
        for one, other in combinations(normal, 2)
    ]
    try:
        middle = bures_barycentre(list(normal.values()), share)[0]
    except InputError as error:
        return {"pairs": pairs, "to_middle": None, "reason": str(error)}
    to_middle = {name: each.distance(middle) for name, each in normal.items()}
    return {"covariances": "shrunk (Ledoit & Wolf)", "pairs": pairs, "to_middle": to_middle}
