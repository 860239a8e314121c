"""Methods that lay a space out in the plane: each is given the same vectors and the same nearest neighbours."""

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from .._types import Matrix
from ..errors import InputError, OptionError, require, unknown
from ..registry import Registry
from ..spectrum import principal_axes
from .graph import Graph, metric_rows

Places = Float[np.ndarray, "n 2"]
#: Arrays by name: what places new tiles by itself.
Function = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Layout:
    """Places of tiles, and the function that gave them where there is one: then it also places other tiles."""

    places: Places
    function: Function | None = None


@dataclass(frozen=True)
class MapMethod:
    """A method of mapping. `fit` takes vectors, their graph, options and a seed; `options` are its defaults.

    `most` says of an option how large it may be, given the graph. Defaults are made smaller for few tiles.
    """

    name: str
    describes: str
    fit: Callable[[Matrix, Graph, Mapping[str, Any], int], Layout]
    options: Mapping[str, float] = field(default_factory=dict)
    reference: str = ""
    most: Mapping[str, Callable[[Graph], float]] = field(default_factory=dict)

    def asked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return its options with some of them changed.

        Raises
        ------
        OptionError
            If it has no such option.
        """
        for name in given:
            if name not in self.options:
                raise unknown(f"option of {self.name}", name, self.options)
        return {**self.options, **given}


#: Methods of mapping by name.
LAYOUTS: Registry[MapMethod] = Registry("method of mapping")


def _pca(vectors: Matrix, graph: Graph, options: Mapping[str, Any], seed: int) -> Layout:
    if vectors.shape[1] < 2:
        raise InputError("a space of one dimension has no plane", received=vectors.shape)
    return _plane(vectors)


def _plane(vectors: Matrix) -> Layout:
    """Return the plane in which most varies: what starts there has the large shape of the space."""
    mean, axes, _ = principal_axes(vectors, 2)
    axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))  # of a space on a line, the second is flat
    return Layout((vectors - mean) @ axes, {"mean": mean, "axes": axes})


def _tsne(vectors: Matrix, graph: Graph, options: Mapping[str, Any], seed: int) -> Layout:
    tsne = require("openTSNE", "explore")
    affinities = tsne.affinity.PerplexityBasedNN(
        knn_index=known_neighbours(graph.first(_width(options["perplexity"], graph))),
        perplexity=min(float(options["perplexity"]), _most_perplexity(graph)),
    )
    start = tsne.initialization.rescale(_plane(vectors).places)
    fitted = tsne.TSNE(random_state=seed, early_exaggeration_iter=250, n_iter=500, n_jobs=1).fit(
        affinities=affinities, initialization=start
    )
    return Layout(np.asarray(fitted, np.float64))


def _most_perplexity(graph: Graph) -> float:
    return graph.k / 3


def _width(perplexity: float, graph: Graph) -> int:
    return max(1, min(graph.k, int(3 * perplexity)))


def known_neighbours(graph: Graph) -> Any:
    """Return what openTSNE asks for neighbours: those that are known already."""
    index = require("openTSNE.nearest_neighbors", "explore").KNNIndex

    class Known(index):
        def __init__(self) -> None:
            self.k, self.n_samples = graph.k, len(graph.index)

        def build(self) -> tuple[np.ndarray, np.ndarray]:
            return graph.index, graph.chords

    return Known()


def _umap(vectors: Matrix, graph: Graph, options: Mapping[str, Any], seed: int, *, dense: bool = False) -> Layout:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Tensorflow is not there
        umap = require("umap", "explore")
    n = len(vectors)
    k = min(int(options["neighbours"]), n - 1)
    near = graph.first(k - 1)
    own = np.arange(n)[:, None]
    known = (np.hstack([own, near.index]), np.hstack([np.zeros((n, 1)), near.distance]).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its threads, of the search index that is not needed, of few tiles
        fitted = umap.UMAP(
            n_neighbors=k,
            min_dist=options["min_dist"],
            metric=graph.metric,
            random_state=seed,
            init=10 * _unit_square(_plane(vectors).places),
            precomputed_knn=known,
            densmap=dense,
        ).fit_transform(vectors)
    return Layout(np.asarray(fitted, np.float64))


def _pacmap(vectors: Matrix, graph: Graph, options: Mapping[str, Any], seed: int, *, local: bool = False) -> Layout:
    pacmap = require("pacmap", "explore")
    n, k = len(vectors), int(options["neighbours"])
    if n < 4 * k:
        k = max(2, n // 4)
    near = graph.first(k + 50)
    # As its authors choose: the nearest by distance over the scales of both ends.
    lengths = near.chords
    scale = np.maximum(lengths[:, 3:6].mean(axis=1), 1e-10)
    chosen = np.argsort(lengths**2 / (scale[:, None] * scale[near.index]), axis=1, kind="stable")[:, :k]
    pairs = np.stack([np.repeat(np.arange(n), k), np.take_along_axis(near.index, chosen, axis=1).ravel()], axis=1)
    given = metric_rows(vectors, graph.metric)
    kind = pacmap.LocalMAP if local else pacmap.PaCMAP
    logging.getLogger("pacmap").setLevel(logging.ERROR)  # it warns that its seed is set
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its seed, and that pairs were given
        fitted = kind(
            n_neighbors=k, pair_neighbors=pairs.astype(np.int32), random_state=seed, apply_pca=given.shape[1] > 100
        ).fit_transform(np.asarray(given, np.float32), init="pca")
    return Layout(np.asarray(fitted, np.float64))


def _bottleneck(vectors: Matrix, graph: Graph, options: Mapping[str, Any], seed: int) -> Layout:
    from .bottleneck import apply_bottleneck, fit_bottleneck

    function = fit_bottleneck(
        vectors, width=int(options["width"]), epochs=int(options["epochs"]), metric=graph.metric, seed=seed
    )
    return Layout(apply_bottleneck(function, vectors), function)


def _unit_square(places: Places) -> Places:
    spread = np.abs(places).max()
    return places / spread if spread > 0 and math.isfinite(spread) else places


_UMAP = {"neighbours": 15, "min_dist": 0.1}
_MOST_UMAP = {"neighbours": lambda graph: graph.k + 1}
_MOST_PACMAP = {"neighbours": lambda graph: min(len(graph.index) // 4, graph.k)}
for _method in (
    MapMethod("pca", "the plane in which most varies", _pca, {}, "Pearson 1901"),
    MapMethod(
        "tsne",
        "neighbours kept, sizes of gaps free",
        _tsne,
        {"perplexity": 30},
        "van der Maaten & Hinton 2008, JMLR 9",
        {"perplexity": _most_perplexity},
    ),
    MapMethod("umap", "neighbours kept, tight", _umap, _UMAP, "McInnes et al. 2018, arXiv 1802.03426", _MOST_UMAP),
    MapMethod(
        "densmap",
        "UMAP that keeps local density",
        partial(_umap, dense=True),
        _UMAP,
        "Narayan et al. 2021, Nature Biotechnology 39:765",
        _MOST_UMAP,
    ),
    MapMethod(
        "pacmap",
        "neighbours and the large shape",
        _pacmap,
        {"neighbours": 10},
        "Wang et al. 2021, JMLR 22",
        _MOST_PACMAP,
    ),
    MapMethod(
        "localmap",
        "PaCMAP with false edges dropped",
        partial(_pacmap, local=True),
        {"neighbours": 10},
        "Wang et al. 2025, AAAI 39:21518",
        _MOST_PACMAP,
    ),
    MapMethod(
        "autoencoder",
        "a network with two numbers in the middle",
        _bottleneck,
        {"width": 128, "epochs": 200},
        "Hinton & Salakhutdinov 2006, Science 313:504",
    ),
):
    LAYOUTS.register(_method.name, _method)


def lay_out(vectors: Matrix, graph: Graph, method: str, options: Mapping[str, Any], seed: int) -> Layout:
    """Lay a space out by a method.

    Raises
    ------
    OptionError
        If there is no such method, or it has no such option, or that is too large for so few tiles.
    MissingExtraError
        If its library is not installed.
    InputError
        If a row is zero and the metric is the cosine.
    """
    chosen = LAYOUTS[method]
    if graph.metric == "cosine" and not np.linalg.norm(vectors, axis=1).all():
        raise InputError("a vector is zero, and has no direction", fix="leave the tile out, or take metric euclidean")
    for name, most in chosen.most.items():
        if float(options.get(name, 0)) > most(graph):
            raise OptionError(
                f"{name} of {method} is too large for {len(vectors)} tiles",
                received=options[name],
                valid=f"up to {most(graph):g}",
            )
    layout = chosen.fit(vectors, graph, chosen.asked(options), seed)
    if not np.isfinite(layout.places).all():
        raise OptionError(
            f"{method} did not converge", received=f"options {dict(options)}", fix="another seed or method"
        )
    return layout
