"""A latent space as something to move in: tiles as points, moved, mixed, chained, decoded, and doubted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32

from .._types import Tile, Tiles
from ..embeddings import card_of
from ..embeddings.table import KEY, obs_of
from ..errors import InputError, OptionError, nearest, unknown
from ..images import TileSource
from .attributes import NUISANCES, groups_of, read_attribute
from .decoding import Decoder, Differentiable, Encodes, check_fit, identity_of
from .directions import Direction, Way
from .graph import Graph, find_among, make_graph
from .paths import LINES, along, graph_route, mix

if TYPE_CHECKING:
    from anndata import AnnData

    from .seen import Seen, SeenDirection

#: Neighbours of the graph that ways lead through, and by which density is judged.
NEIGHBOURS = 15
METHODS = (*LINES, "graph", "geodesic")
#: Steps that a geodesic is solved with at least, and its options.
GEODESIC_STEPS, GEODESIC = 9, ("features", "density", "iterations", "seed")
Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """Vectors of tiles, and what is needed to see what lies between them.

    `decoder` turns vectors into tiles; without one, places are shown by the real tiles nearest to them, of `pictures`.
    `directions` are known by name. Distances are Euclidean: those along which ways are straight.

    >>> space = LatentSpace(np.eye(6, 4, dtype=np.float32) + 1, tuple("abcdef"))
    >>> space["a"].toward(space["b"], 0.5).vector.tolist()
    [1.5, 1.5, 1.0, 1.0]
    """

    vectors: Float32[np.ndarray, "n d"]
    tiles: tuple[str, ...]
    decoder: Decoder | None = None
    pictures: TileSource | None = None
    obs: pd.DataFrame = field(default_factory=pd.DataFrame)
    directions: Mapping[str, Way] = field(default_factory=dict)
    encoder: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.vectors, np.ndarray):
            raise InputError(
                "vectors are an array", received=type(self.vectors).__name__, fix="of a table: LatentSpace.of(table)"
            )
        if not len(self.vectors):
            raise InputError("a space of no tiles", received=f"vectors of shape {self.vectors.shape}")
        if len(self.tiles) != len(self.vectors):
            raise InputError(
                "tiles have to be named each", received=f"{len(self.tiles)} for {len(self.vectors)} vectors"
            )
        if len(self._rows) < len(self.tiles):
            twice = next(tile for row, tile in enumerate(self.tiles) if self._rows[tile] != row)
            raise InputError("a tile's name is its own", received=f"{twice} more than once")
        if not np.isfinite(self.vectors).all():
            row = int(np.argmin(np.isfinite(self.vectors).all(axis=1)))
            raise InputError("vectors hold NaN or infinite numbers", received=f"first of tile {self.tiles[row]}")
        if self.decoder is not None:
            check_fit(self.decoder, self.vectors.shape[1], self.encoder)

    def __repr__(self) -> str:
        known = f", directions {', '.join(self.directions)}" if self.directions else ""
        return f"LatentSpace({len(self.tiles)} tiles, {self.vectors.shape[1]} numbers{known})"

    @classmethod
    def of(
        cls,
        table: "AnnData",
        decoder: Decoder | None = None,
        pictures: TileSource | None = None,
        *,
        rep: str | None = None,
    ) -> "LatentSpace":
        """Return the space of an embedding table, or of any AnnData: of `X`, or of what `obsm` has as `rep`.

        Only of `X` with a card it is known which encoder made it.

        Raises
        ------
        InputError
            If the decoder is of another encoder's vectors, as their cards say, or lengths differ.
        OptionError
            If `obsm` has no such `rep`.
        """
        if rep is not None and rep not in table.obsm:
            raise unknown("representation in obsm", rep, map(str, table.obsm))
        encoder = identity_of(card_of(table)) if rep is None and KEY in table.uns else None
        vectors = np.asarray(table.X if rep is None else table.obsm[rep], np.float32)
        return cls(vectors, tuple(map(str, table.obs_names)), decoder, pictures, obs_of(table), {}, encoder)

    def __getitem__(self, tile: object) -> "Point":
        """Return a tile as a point.

        Raises
        ------
        OptionError
            If there is no such tile, with the nearest name.
        """
        return Point(self, self.vectors[self._row(tile)].astype(np.float64), (str(tile),))

    def _row(self, tile: object) -> int:
        found = self._rows.get(tile) if isinstance(tile, str) else None
        if found is None:
            guess = nearest(str(tile), self.tiles)
            raise OptionError(
                "there is no such tile",
                received=tile,
                valid=f"one of {len(self.tiles)}: {', '.join(self.tiles[:3])}, ...",
                fix=f"did you mean {guess!r}?" if guess else None,
            )
        return found

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {tile: row for row, tile in enumerate(self.tiles)}

    @cached_property
    def middle(self) -> Vector:
        """The mean of all tiles, about which ways on the sphere turn."""
        return self.vectors.mean(axis=0, dtype=np.float64)

    @cached_property
    def graph(self) -> Graph:
        """Nearest tiles of each tile."""
        return make_graph(self.vectors, k=min(NEIGHBOURS, len(self.tiles) - 1), metric="euclidean")

    @cached_property
    def hub(self) -> tuple[str, float]:
        """The tile that is among the nearest 15 of most others, and of what share of all tiles."""
        counts = np.bincount(self.graph.index.ravel(), minlength=len(self.tiles))
        return self.tiles[int(counts.argmax())], float(counts.max()) / len(self.tiles)

    @cached_property
    def _spacing(self) -> Float[np.ndarray, " n"]:
        """Mean distance of each tile from its nearest ones: small where the space is dense."""
        return self.graph.distance.mean(axis=1)

    def at(self, vector: Sequence[float] | np.ndarray, said: str = "a vector") -> "Point":
        """Return any vector as a point.

        Raises
        ------
        InputError
            If it is of another length, or not finite.
        """
        found = np.asarray(vector, np.float64)
        if found.shape != (self.vectors.shape[1],) or not np.isfinite(found).all():
            raise InputError(
                "this is no vector of the space",
                received=f"shape {found.shape}",
                valid=f"{self.vectors.shape[1]} numbers",
            )
        return Point(self, found, (said,))

    def mean_of(self, column: str, value: object) -> "Point":
        """Return the mean of all tiles with a value in a column: the middle of a class, a slide, a site.

        Raises
        ------
        InputError
            If there is no such column, or no tile with that value.
        """
        if column not in self.obs:
            raise unknown("column", column, [str(name) for name in self.obs.columns])
        rows = np.flatnonzero((self.obs[column].astype(str) == str(value)).to_numpy())
        if not len(rows):
            there = sorted({str(each) for each in self.obs[column].dropna()})
            raise InputError(f"no tile has this {column}", received=value, valid=", ".join(there[:12]))
        return Point(self, self.vectors[rows].mean(axis=0, dtype=np.float64), (f"mean of {column} {value}",))

    def mix(self, weights: "Mapping[str, float]", *, how: str = "linear") -> "Point":
        """Return a mixture of tiles by weights: `space.mix({"a": 1, "b": 2})`; `linear`, or on the `sphere`.

        Raises
        ------
        OptionError, InputError
            If a tile is not there, or weights do not mix. See `paths.mix`.
        """
        rows = [self._row(tile) for tile in weights]
        if not rows:
            raise InputError("nothing to mix", valid="weights by tile")
        shares = list(weights.values())
        found = mix(self.vectors[rows].astype(np.float64), shares, how=how, middle=self.middle)
        said = " + ".join(f"{weight:g} {tile}" for tile, weight in weights.items())
        return Point(self, found, (f"mix of {said}",))

    def knowing(self, *directions: Way) -> "LatentSpace":
        """Return the space with directions that points can be moved along by name.

        Raises
        ------
        InputError
            If one is of another space.
        """
        for direction in directions:
            self._check_way(direction)
        made = replace(self, directions={**self.directions, **{each.name: each for each in directions}})
        # What was found of vectors and tiles is of these, too.
        fields = set(self.__dataclass_fields__)
        made.__dict__.update({name: found for name, found in self.__dict__.items() if name not in fields})
        return made

    def _check_way(self, way: Way) -> None:
        if way.dim != self.vectors.shape[1]:
            raise InputError(
                f"{way.name} is of another space", received=f"{way.dim} numbers", valid=self.vectors.shape[1]
            )
        if None not in (way.encoder, self.encoder) and way.encoder != self.encoder:
            raise InputError(
                f"{way.name} is of another encoder's vectors",
                fix=f"fit it in this space: space.direction({way.name!r})",
            )

    def direction(
        self, column: str, *, confounders: Sequence[str] = (), groups: str | None = None, **options: Any
    ) -> Direction:
        """Fit the direction of a column of `obs`. See `Direction.fit`; columns stand for values.

        Groups are patients, else slides, where there are any. Site, scanner and stain are suspects, where they are
        known and no confounders.

        Raises
        ------
        OptionError
            If there is no such column.
        InputError
            If a confounder or a suspect tells the column, unless `force`; or see `Direction.fit`.
        """
        values, given = self._given(column, confounders, groups)
        found = Direction.fit(self.vectors, values, **{"name": column, **given, **options})
        return replace(found, encoder=self.encoder)

    def seen(
        self, column: str, *, confounders: Sequence[str] = (), groups: str | None = None, **options: Any
    ) -> "SeenDirection":
        """Return the move that changes what decoded tiles show of a column of `obs`. See `SeenDirection`.

        Options are those of `read_attribute`: `positive`, `negative`, `force`.

        Raises
        ------
        OptionError
            If there is no such column.
        InputError
            If the space has no decoder that can be differentiated; or see `read_attribute`.
        """
        from .seen import fit_seen

        values, given = self._given(column, confounders, groups)
        attribute = read_attribute(len(values), values, **{"name": column, **given, **options})
        return fit_seen(self._looked_at, attribute)

    def _given(self, column: str, confounders: Sequence[str], groups: str | None) -> tuple[list[Any], dict[str, Any]]:
        """Return what columns say of all tiles: values; groups, confounders and suspects."""
        for name in (column, *confounders, *([groups] if groups else [])):
            if name not in self.obs:
                raise unknown("column", name, [str(each) for each in self.obs.columns])
        by, codes = groups_of(self.obs, groups)
        suspects = [] if column in NUISANCES else [name for name in NUISANCES if name in self.obs]
        return [None if pd.isna(value) else value for value in self.obs[column].tolist()], {
            "groups": codes,
            "by": by,
            "confounders": {name: self.obs[name].tolist() for name in confounders},
            "suspects": {name: self.obs[name].tolist() for name in suspects if name not in confounders},
        }

    @cached_property
    def _looked_at(self) -> "Seen":
        from .seen import look_at

        return look_at(self.differentiable("what decoded tiles show"), self.vectors)

    def differentiable(self, what: str, *, fix: str | None = None) -> Differentiable:
        """Return the decoder, if gradients can be had through it.

        Raises
        ------
        InputError
            If there is none, or they cannot.
        """
        if not isinstance(self.decoder, Differentiable):
            raise InputError(
                f"{what} needs a decoder that can be differentiated",
                received="no decoder" if self.decoder is None else type(self.decoder).__name__,
                valid="a model of `explore train`, or one with a method `images`",
                fix=fix,
            )
        return self.decoder

    def decode(self, vectors: Float[np.ndarray, "m d"]) -> Tiles:
        """Return the tiles of vectors.

        Raises
        ------
        InputError
            If the space has no decoder.
        """
        if self.decoder is None:
            raise InputError(
                "the space has no decoder, and a vector alone is no picture",
                fix="train one with `histolatent explore train --kind decoder --on ENCODER`, or look at the real tiles "
                "nearby: point.nearest(5), path.through_tiles()",
            )
        return self.decoder.decode(np.asarray(vectors, np.float32))

    def show(self, tile: str) -> Tile:
        """Return the pixels of a real tile.

        Raises
        ------
        InputError
            If the space has no pictures, or the tile is not among them.
        """
        if self.pictures is None:
            raise InputError(
                "the space has no pictures", fix="give it the tiles: LatentSpace.of(table, pictures=tiles)"
            )
        place = self._pictured.get(tile)
        if place is None:
            raise InputError("the tile is not among the pictures", received=tile)
        return self.pictures.read(place)

    @cached_property
    def _pictured(self) -> dict[str, int]:
        assert self.pictures is not None  # it was asked for
        return {str(tile): row for row, tile in enumerate(self.pictures.table.index)}

    def risks(self, vectors: Float[np.ndarray, "m d"], decoded: Tiles | None = None) -> pd.DataFrame:
        """Return, for each vector, how far to believe it; `decoded` are its tiles, if they are known already.

        - `nearest`, `distance`: the tile that is nearest, and how far it is;
        - `sparser`: the share of tiles whose surroundings are denser than the vector's, by the mean distance to the 15
          nearest tiles but for the very nearest, which of a tile is itself: about half of tiles, and of vectors drawn
          as they were. Above .95 the vector is where hardly any tile is. Below .05 it is nearer to tiles than they are
          to each other, which a mean of several is in many dimensions: dense, and no tile either;
        - `cycle`: with a decoder that encodes, how far the vector moves when it is decoded and encoded again, in units
          of the median distance of a tile from its nearest: what comes back elsewhere was never of that place.
        """
        near = find_among(np.asarray(vectors, np.float64), self.vectors, self.graph.k + 1, metric="euclidean")
        spacing, own = near.distance[:, 1:].mean(axis=1), np.sort(self._spacing)
        found = {
            "nearest": [self.tiles[row] for row in near.index[:, 0]],
            "distance": near.distance[:, 0],
            "sparser": np.searchsorted(own, spacing) / len(own),
        }
        if isinstance(self.decoder, Encodes):
            back = self.decoder.encode(self.decode(vectors) if decoded is None else decoded)
            unit = max(float(np.median(self.graph.distance[:, 0])), 1e-300)
            found["cycle"] = np.linalg.norm(back - vectors, axis=1) / unit
        return pd.DataFrame(found)


@dataclass(frozen=True, eq=False)
class Point:
    """A place in a space, and how it came about. Operations return new points, and can be chained."""

    space: LatentSpace
    vector: Vector
    said: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Point({', '.join(self.said)})"

    def _then(self, vector: np.ndarray, said: str) -> "Point":
        return Point(self.space, vector, (*self.said, said))

    def _in_space(self, other: "Point | str") -> "Point":
        """Return a point, or a tile by its name, of this space."""
        point = self.space[other] if isinstance(other, str) else other
        if point.space.vectors is not self.space.vectors:
            raise InputError(
                "the points are of two spaces", fix="embed the tiles of both with one encoder, in one table"
            )
        return point

    def toward(self, other: "Point | str", t: float, *, method: str = "lerp") -> "Point":
        """Return the place on the way to another point, or tile by its name, `t` from 0 (here) to 1 (there).

        Raises
        ------
        OptionError
            If there is no such way, or `t` is not from 0 to 1.
        InputError
            If the other point is of another space.
        """
        if not 0 <= t <= 1:
            raise OptionError("a place on the way lies from 0 to 1", received=t)
        other = self._in_space(other)
        found = self.path(other, method=method, steps=np.array([0.0, t, 1.0])).vectors[1]
        return self._then(found, f"{t:g} toward {other.said[-1]}")

    def path(
        self, other: "Point | str", *, method: str = "slerp", steps: "int | np.integer | np.ndarray" = 9, **options: Any
    ) -> "Path":
        """Return the way to another point, or tile by its name: `lerp`, `slerp`, `nlerp`, `graph` or `geodesic`.

        `graph` leads through tiles that are neighbours of each other; where an end is no tile, it starts at the nearest
        one. `geodesic` is the way on which the decoded tile changes least; it needs a decoder that can be
        differentiated, and takes the options of `find_geodesic`. It is solved with nine steps or more, and straight
        between them.

        Raises
        ------
        OptionError
            If there is no such way or option, or fewer than two steps.
        InputError
            If the other point is of another space, there is no way through neighbours, or no decoder for a geodesic.
        """
        other = self._in_space(other)
        if method not in METHODS:
            raise unknown("way", method, METHODS)
        known = ("method", "steps", *(GEODESIC if method == "geodesic" else ()))
        for name in options:
            if name not in known:
                raise unknown(f"option of the way {method}", name, known)
        count = isinstance(steps, int | np.integer)
        at = np.linspace(0, 1, max(int(steps), 0)) if count else np.asarray(steps, np.float64)
        if len(at) < 2:
            raise OptionError("a way has two ends", received=f"{steps if count else len(at)} steps", valid="2 or more")
        space, ends = self.space, (self.vector, other.vector)
        route: tuple[str, ...] = ()
        if method in LINES:
            vectors = LINES[method](*ends, at, middle=space.middle)
        else:
            decoder = None
            if method == "geodesic":
                decoder = space.differentiable("a geodesic", fix="take method graph or slerp")
            rows = [int(find_among(end[None], space.vectors, 1, metric="euclidean").index[0, 0]) for end in ends]
            corners = graph_route(space.vectors, space.graph, rows[0], rows[1])
            route = tuple(space.tiles[row] for row in corners)
            through = np.concatenate([ends[0][None], space.vectors[corners[1:-1]], ends[1][None]]).astype(np.float64)
            vectors = along(through, at)
            if decoder is not None:
                from .geodesic import find_geodesic

                even = np.linspace(0, 1, max(len(at), GEODESIC_STEPS))
                solved = find_geodesic(decoder, along(through, even), space.vectors, **options)
                vectors = np.stack([np.interp(at, even, column) for column in solved.T], axis=1)
        return Path(self, other, method, vectors, route)

    def move(self, direction: "Way | str", amount: float) -> "Point":
        """Return the point moved along a direction, which may be one of the space's by name.

        Raises
        ------
        OptionError
            If the space knows no such direction, or the amount is not finite.
        InputError
            If the direction is of another space.
        """
        chosen = self._known(direction)
        if not np.isfinite(amount):
            raise OptionError("an amount is a finite number", received=amount)
        self.space._check_way(chosen)
        return self._then(chosen.moved(self.vector, amount), f"{chosen.name} {amount:+g}")

    def _known(self, direction: "Way | str") -> "Way":
        if not isinstance(direction, str):
            return direction
        if direction not in self.space.directions:
            raise unknown("direction", direction, self.space.directions)
        return self.space.directions[direction]

    def until(self, direction: "Direction | str", probability: float) -> "Point":
        """Return the point moved along a direction of a class until it is read with a probability.

        Raises
        ------
        OptionError
            If the space knows no such direction, it is none of a class that is the same everywhere, or the probability
            not between 0 and 1.
        """
        chosen = self._known(direction)
        if not isinstance(chosen, Direction):
            raise OptionError("only a straight direction of two classes has a probability", received=chosen.name)
        return self.move(chosen, chosen.amount_for(self.vector, probability))

    def decode(self) -> Tile:
        """Return the tile of this place.

        Raises
        ------
        InputError
            If the space has no decoder; `nearest` shows real tiles instead.
        """
        return self.space.decode(self.vector[None])[0]

    def nearest(self, k: int = 5) -> pd.DataFrame:
        """Return the `k` nearest real tiles, with their distances and what is known of them."""
        if not 1 <= k <= len(self.space.tiles):
            raise OptionError("so many tiles are not there", received=k, valid=f"1 to {len(self.space.tiles)}")
        near = find_among(self.vector[None], self.space.vectors, k, metric="euclidean")
        rows = near.index[0]
        table = self.space.obs.iloc[rows].reset_index(drop=True) if len(self.space.obs.columns) else pd.DataFrame()
        found = pd.DataFrame({"tile": [self.space.tiles[row] for row in rows], "distance": near.distance[0]})
        return pd.concat([found, table], axis=1)

    def risk(self) -> dict[str, Any]:
        """Return how far to believe the place: see `LatentSpace.risks`."""
        return {str(name): value for name, value in self.space.risks(self.vector[None]).iloc[0].items()}


@dataclass(frozen=True, eq=False)
class Path:
    """A way from a point to another: `vectors` at its steps; `route` names the tiles that it leads through, if any."""

    first: Point
    last: Point
    method: str
    vectors: Float[np.ndarray, "t d"]
    route: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Path({self.first.said[-1]} to {self.last.said[-1]}, {self.method}, {len(self.vectors)} steps)"

    @cached_property
    def _decoded(self) -> Tiles:
        return self.first.space.decode(self.vectors)

    @cached_property
    def _risks(self) -> pd.DataFrame:
        space = self.first.space
        return space.risks(self.vectors, None if space.decoder is None else self._decoded)

    def decode(self) -> Tiles:
        """Return a tile for each step."""
        return self._decoded

    def through_tiles(self) -> list[str]:
        """Return the real tile nearest to each step: the way without a decoder. One tile may come several times."""
        return self.to_frame()["nearest"].tolist()

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each step: how far along it is, and how far to believe it (`LatentSpace.risks`)."""
        lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.vectors, axis=0), axis=1))])
        return self._risks.assign(along=lengths / max(lengths[-1], 1e-300))

    def score(self, reads: Way | None = None) -> dict[str, float]:
        """Return what the way is like.

        - `length`, and `detour`, its share of the straight line (1 or more);
        - `evenness`: the shortest step over the longest, 1 of an even pace; with a decoder also `seen_length` and
          `seen_evenness`, of the decoded tiles, as root mean square of pixels from 0 to 1;
        - `sparsest`: the largest `sparser` of all steps between the ends; `cycle`: the largest cycle error, if there is
          one;
        - `monotone`: with an attribute's direction, the share of steps on which it moves toward the end's value.
        """
        frame, steps = self.to_frame(), np.linalg.norm(np.diff(self.vectors, axis=0), axis=1)
        straight = float(np.linalg.norm(self.vectors[-1] - self.vectors[0]))
        inner = frame.iloc[1:-1] if len(frame) > 2 else frame
        found = {
            "length": float(steps.sum()),
            "detour": float(steps.sum() / max(straight, 1e-300)),
            "evenness": float(steps.min() / max(steps.max(), 1e-300)),
            "sparsest": float(inner["sparser"].max()),
        }
        if "cycle" in inner:
            found["cycle"] = float(inner["cycle"].max())
        if self.first.space.decoder is not None:
            tiles = self._decoded.astype(np.float64) / 255
            seen = np.sqrt((np.diff(tiles, axis=0) ** 2).mean(axis=(1, 2, 3)))
            found |= {"seen_length": float(seen.sum()), "seen_evenness": float(seen.min() / max(seen.max(), 1e-300))}
        if reads is not None:
            values = reads.value(self.vectors)
            way = np.sign(values[-1] - values[0])
            found["monotone"] = float((np.sign(np.diff(values)) == way).mean())
        return found
