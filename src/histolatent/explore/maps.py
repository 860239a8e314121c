"""Maps of a space: made from one graph, laid beside each other, kept on disk, and able to take in new tiles."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int
from scipy.linalg import orthogonal_procrustes

from .._types import Matrix, Vectors
from ..embeddings import card_of
from ..embeddings.table import KEY
from ..errors import InputError, OptionError
from .decoding import identity_of
from .graph import Graph, Others, find_among, make_graph
from .layouts import Function, Layout, Places, lay_out
from .stored import Form

if TYPE_CHECKING:
    from anndata import AnnData

FORM = Form("histolatent map", 1, "map", ("method", "metric", "options", "seed", "tiles", "card", "places", "vectors"))
#: Neighbours among which a new tile is placed.
PLACED_BY = 15
#: Distance, against that of the last of these, up to which two vectors are the same but for rounding.
SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Map:
    """Places of tiles in the plane, and what is needed to place others: `vectors` and names of the tiles mapped.

    `function` is what makes places from vectors, of methods that have one. `card` says what made the vectors.
    """

    method: str
    places: Places
    tiles: tuple[str, ...]
    vectors: Float32[np.ndarray, "n d"]
    metric: str = "cosine"
    options: Mapping[str, Any] | None = None
    seed: int = 0
    function: Function | None = None
    card: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Map({self.method!r}, {len(self.places)} tiles, seed {self.seed})"

    def place(self, new: Others) -> Float[np.ndarray, "m 2"]:
        """Return places of new vectors; those of the tiles mapped stay.

        `pca` and `autoencoder` are functions, and applied. Any other method puts a new tile to the weighted mean of the
        places of its 15 nearest tiles, with UMAP's weights (McInnes et al. 2018): it never lies outside them. A tile
        that was mapped, given again, lies where it was.

        Misleads: a tile unlike any other is still placed among those it is least unlike. `find_among` says how far.

        Raises
        ------
        InputError
            If the vectors are of another space, or not finite.
        """
        if new.ndim != 2 or new.shape[1] != self.vectors.shape[1]:
            raise InputError(
                "new tiles are of another space",
                received=f"{new.shape[-1]} dimensions",
                valid=f"{self.vectors.shape[1]}",
                fix="embed them with the encoder of the map",
            )
        if self.function is None:
            near = find_among(new, self.vectors, PLACED_BY, metric=self.metric)
            weights = membership(near)
            places = np.einsum("mk,mkc->mc", weights / weights.sum(axis=1, keepdims=True), self.places[near.index])
            same = near.distance[:, 0] <= SAME * near.distance[:, -1]
            places[same] = self.places[near.index[same, 0]]
            return places
        if not np.isfinite(new).all():
            raise InputError("new tiles hold NaN or infinite numbers")
        if self.method == "pca":
            return (new - self.function["mean"]) @ self.function["axes"]
        from .bottleneck import apply_bottleneck

        return apply_bottleneck(self.function, new)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each tile, with `x` and `y`."""
        return pd.DataFrame(self.places, index=pd.Index(self.tiles, name="tile"), columns=pd.Index(["x", "y"]))


def membership(near: Graph) -> Float[np.ndarray, "n k"]:
    """Return UMAP's weights of neighbours: 1 for the nearest, their sum the logarithm of their number.

    Of k = 1 the weight is 1.
    """
    lengths = near.distance - near.distance[:, :1]
    goal = np.log2(near.k)
    low, high = np.full(len(lengths), 1e-12), np.maximum(lengths.max(axis=1), 1e-12) * 1e3
    for _ in range(64):
        scale = np.sqrt(low * high)
        above = np.exp(-lengths / scale[:, None]).sum(axis=1) > goal
        low, high = np.where(above, low, scale), np.where(above, scale, high)
    return np.exp(-lengths / np.sqrt(low * high)[:, None])


def refuse_other_encoder(made: Map, table: "AnnData", what: str) -> None:
    """Raise InputError if a table is of another encoder than a map, as far as both say."""
    theirs, ours = card_of(table) if KEY in table.uns else {}, made.card or {}
    if None not in (identity_of(theirs), identity_of(ours)) and identity_of(theirs) != identity_of(ours):
        raise InputError(
            f"{what} embedded with another encoder than the tiles of the map",
            received=theirs["encoder"]["name"],
            valid=ours["encoder"]["name"],
        )


def make_map(
    vectors: Matrix,
    method: str = "umap",
    *,
    tiles: Sequence[str] | None = None,
    graph: Graph | None = None,
    metric: str = "cosine",
    seed: int = 0,
    card: Mapping[str, Any] | None = None,
    **options: Any,
) -> Map:
    """Map a space: `pca`, `tsne`, `umap`, `densmap`, `pacmap`, `localmap` or `autoencoder`.

    `graph` is that of `make_graph`, to be shared by several maps of the same vectors; its metric is then that of the
    map. `options` are those of the method, such as `perplexity=50`.

    Raises
    ------
    InputError
        If there are fewer than 5 tiles, or vectors are not finite, or all the same.
    OptionError
        If there is no such method, or it has no such option.
    MissingExtraError
        If its library is not installed.

    >>> vectors = np.random.default_rng(0).normal(size=(40, 8))
    >>> made = make_map(vectors, "pca")
    >>> bool(np.allclose(made.place(vectors[:3]), made.places[:3]))
    True
    """
    found = make_graph(vectors, metric=metric) if graph is None else graph
    if len(found.index) != len(vectors):
        raise InputError("the graph is of other tiles", received=f"{len(found.index)} and {len(vectors)} tiles")
    layout: Layout = lay_out(vectors, found, method, options, seed)
    names = tuple(str(row) for row in range(len(vectors))) if tiles is None else tuple(map(str, tiles))
    if len(names) != len(vectors):
        raise InputError("tiles have to be named each", received=f"{len(names)} names for {len(vectors)} vectors")
    kept = np.asarray(vectors, np.float32)
    return Map(method, layout.places, names, kept, found.metric, options, seed, layout.function, card)


def align(maps: Sequence[Map]) -> list[Map]:
    """Return maps turned, mirrored, moved and scaled onto the first one as nearly as they can be: nothing else changes.

    Neighbours and shapes stay; only then can maps be compared by eye. Maps that are functions can be placed into as
    before: the turn is made part of the function. Orthogonal Procrustes, with one scale.

    Raises
    ------
    InputError
        If maps are not of the same tiles.
    """
    if any(other.tiles != maps[0].tiles for other in maps):
        raise InputError("maps to be aligned are of the same tiles, in the same order")
    first = maps[0].places - maps[0].places.mean(axis=0)
    found = [maps[0]]
    for other in maps[1:]:
        middle = other.places.mean(axis=0)
        moved = other.places - middle
        turn, size = orthogonal_procrustes(moved, first)
        scale = float(size / max((moved**2).sum(), 1e-300))
        found.append(_turned(other, scale * turn, maps[0].places.mean(axis=0) - scale * middle @ turn))
    return found


def _turned(old: Map, turn: Float[np.ndarray, "2 2"], shift: Float[np.ndarray, " 2"]) -> Map:
    function = None
    if old.function is not None and old.method == "pca":
        mean, axes = old.function["mean"], old.function["axes"]
        turned = axes @ turn
        function = {"mean": mean - shift @ np.linalg.pinv(turned), "axes": turned}
    elif old.function is not None:
        last = turn.T @ old.function["last"]
        function = {**old.function, "last": last, "last_bias": old.function["last_bias"] @ turn + shift}
    return replace(old, places=old.places @ turn + shift, function=function)


def save_map(made: Map, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a map to a folder that `read_map` reads: `map.json` and `map.npz`, no code.

    Raises
    ------
    OutputError
        If the folder exists and not `overwrite`, or is not of a map; or the disk is full.
    """
    document = {
        "method": made.method,
        "metric": made.metric,
        "options": dict(made.options or {}),
        "seed": made.seed,
        "tiles": list(made.tiles),
        "card": dict(made.card or {}),
    }
    arrays = {"places": made.places, "vectors": made.vectors}
    arrays |= {f"function/{name}": values for name, values in (made.function or {}).items()}
    return FORM.write(Path(folder), document, arrays, overwrite=overwrite)


def read_map(folder: str | os.PathLike[str]) -> Map:
    """Read a map that `save_map` wrote.

    Raises
    ------
    InputError
        If it is no map, or of a later version.
    """
    document, arrays = FORM.read(Path(folder))
    function = {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith("function/")}
    return Map(
        document["method"],
        arrays["places"],
        tuple(document["tiles"]),
        arrays["vectors"],
        document["metric"],
        document["options"],
        document["seed"],
        function or None,
        document["card"],
    )


def shared_neighbours(first: Places, second: Places, k: int = PLACED_BY) -> Float[np.ndarray, " n"]:
    """Return, for each tile, the Jaccard index of its `k` nearest tiles in two maps: shared ones over all.

    1 where both maps put the same tiles around it; about k / 2n at random.
    """
    n = len(first)
    if len(second) != n:
        raise InputError("maps of different tiles", received=f"{n} and {len(second)}")
    if not 0 < k < n:
        raise OptionError("so many neighbours are not there", received=k, valid=f"1 to {n - 1}")
    near = [nearest_in_map(places, k) for places in (first, second)]
    shared = np.array([len(np.intersect1d(*pair, assume_unique=True)) for pair in zip(*near, strict=True)])
    return shared / (2 * k - shared)


def nearest_in_map(places: Places, k: int) -> Int[np.ndarray, "n _k"]:
    """Return the `k` nearest tiles of each tile in a map, none of them itself."""
    from scipy.spatial import KDTree

    found = KDTree(places).query(places, k + 1)[1]
    own = np.arange(len(places))[:, None]
    # Of tiles at one place, the tile itself need not come first.
    order = np.argsort(found == own, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)[:, :k]


def compare_maps(maps: Sequence[Map], k: int | None = None) -> pd.DataFrame:
    """Return a row for each pair of maps: neighbours they share, and how far apart they are once aligned.

    Neighbours are the `k` nearest; without one 15, or all others where there are fewer. `shared` is the mean of
    `shared_neighbours`; `apart` is Procrustes' disparity, 0 of the same shape to 1. Where maps of one method with
    different seeds share few neighbours, what they show is their seed's.
    """
    rows = []
    for i, first in enumerate(maps):
        size = min(PLACED_BY, len(first.places) - 1) if k is None else k
        for second in maps[i + 1 :]:
            one, other = (each.places - each.places.mean(axis=0) for each in align([first, second]))
            apart = float(((one - other) ** 2).sum() / (one**2).sum())
            shared = float(shared_neighbours(first.places, second.places, size).mean())
            rows.append({"first": _title(first), "second": _title(second), "shared": shared, "apart": apart})
    return pd.DataFrame(rows, columns=pd.Index(["first", "second", "shared", "apart"]))


def _title(made: Map) -> str:
    return f"{made.method}, seed {made.seed}"


def to_obsm(maps: Sequence[Map]) -> dict[str, Vectors]:
    """Return maps as scanpy and cellxgene look for them in `obsm`: `X_umap`, `X_tsne` and so on."""
    found: dict[str, Vectors] = {}
    for made in maps:
        name = f"X_{made.method}" if f"X_{made.method}" not in found else f"X_{made.method}_{made.seed}"
        found[name] = made.places.astype(np.float32)
    return found
