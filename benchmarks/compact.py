"""Compaction of a frozen encoder on real tiles: what unseen sites gain, and what the source loses.

Tiles of osteosarcoma, MobileNet (ImageNet) as examples/mobilenet.py loads it. Maps are fitted to states of the tiles
of some slides, probes for the label to those tiles as they are; both are read on the other slides, as they are and as
virtual sites render them, which are outside the family of the states. There, too, tiles are looked for again between
two held-out states, and a fresh probe is asked which site rendered a tile: what is left of it. Beside the linear map
and the adapter: taking out the 64 directions in which states differ most, and whitening by their covariance.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _bench import Bench, start

from histolatent.compact.adapter import fit_adapter
from histolatent.compact.closed_form import fit_closed_form
from histolatent.compact.frozen import fit_manifold, make_folds, slides_of
from histolatent.compact.scatter import Scatter
from histolatent.compact.states import StateViews
from histolatent.encoders import encoder
from histolatent.encoders.embed import embed_views
from histolatent.errors import EncoderError
from histolatent.images import Cut, default_workers, open_tiles, select_rows, spaced
from histolatent.neighbors import twin_ranks
from histolatent.perturb import VirtualSite, virtual_sites
from histolatent.probes import FittedProbe, fit_probe, grouped_folds
from histolatent.stats import paired_difference, weighted_mean

STATES, HELD_OUT, FOLDS, REMOVED, TILES = 4, 2, 4, 64, {"quick": 480, "full": 960}
ENCODER = f"callable:{Path(__file__).parent.parent / 'examples' / 'mobilenet.py'}:encode"
Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class StatesAndSites:
    """The tile, states of it, and the tile at each virtual site."""

    states: StateViews
    sites: tuple[tuple[str, VirtualSite], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the states, then of the sites."""
        return (*self.states.names, *(name for name, _ in self.sites))

    def __call__(self, tile, tile_id, mpp):
        """Return all of them."""
        slide = self.states.slides.get(tile_id)
        there = [site(tile, mpp=mpp, slide=slide, tile_id=tile_id) for _, site in self.sites]
        return [*self.states(tile, tile_id, mpp), *there]


@dataclass(frozen=True, eq=False)
class Fold:
    """Tiles of slides that are read, and the maps that were fitted to the others, by way."""

    rows: np.ndarray
    maps: Mapping[str, Map]

    def split(self, n: int) -> list[str]:
        """Return what each of `n` tiles is for."""
        return ["test" if row else "train" for row in np.isin(np.arange(n), self.rows)]


def main() -> None:
    """Measure and write `results/compact.json`."""
    bench = start("compact", __doc__ or "")
    check_frozen(bench)
    bench.finish()


def check_frozen(bench: Bench) -> None:
    """Compare maps on a frozen encoder."""
    data = os.environ.get("HISTOLATENT_DATA")
    try:
        loaded = encoder(ENCODER)
    except EncoderError as error:
        bench.check("linear_label_lost_on_the_source", None, "<= 0.01", str(error))
        return
    whole = open_tiles(Path(data or "data") / "osteosarcoma", cut=Cut(256))
    source = select_rows(whole, spaced(np.arange(len(whole.table)), TILES[bench.mode]))
    manifold = fit_manifold(source, prior="fitted", workers=default_workers(), seed=0, on_error="stop")
    states = StateViews(manifold, slides_of(source), states=STATES, held_out=HELD_OUT)
    views = StatesAndSites(states, tuple(virtual_sites().items()))
    with tempfile.TemporaryDirectory() as folder:
        embedded = embed_views(source, [loaded], [Path(folder) / "e"], views=views, workers=default_workers())
        vectors = np.array(embedded.stores[0].vectors())
    # Views: the tile, states that maps are fitted to, held-out ones, sites.
    seen = 1 + STATES + HELD_OUT
    slides = np.unique(source.table["slide"].astype(str), return_inverse=True)[1]
    labels = [str(label) for label in source.table["label"]]
    folds = [
        Fold(fold, _maps(vectors[:, :seen], rest, source))
        for rest, fold in grouped_folds(np.unique(labels, return_inverse=True)[1], slides, FOLDS, 0)
    ]
    right = _read(vectors, seen, slides, labels, folds)
    columns = ["source", *states.names[-HELD_OUT:], *virtual_sites()]
    chance = max(labels.count(label) for label in set(labels)) / len(labels)
    bench.measured["frozen"] = {
        "encoder": loaded.card.identity,
        "tiles": len(labels),
        "slides": len(set(slides.tolist())),
        "largest_class": chance,
        "sites": list(virtual_sites()),
        "accuracy": {name: dict(zip(columns, at.mean(axis=0).tolist(), strict=True)) for name, at in right.items()},
    }
    for name in ("linear", "adapter", "adapter, probe of before", "64 directions out", "whitened"):
        _compare(bench, name, right[name], right["as it is"], slides)
    for what, found in _told_apart(vectors, seen, slides, folds).items():
        for name in ("linear", "adapter"):
            gained = paired_difference(weighted_mean(found[name]), weighted_mean(found["as it is"]), slides).estimate
            target = "> 0" if what == "twin_retrieval" else None
            said = f"95 % {gained}; {found['as it is'].mean():.3f} to {found[name].mean():.3f}"
            bench.check(f"{name}_{what}_gained", gained.value, target, said)


def _read(vectors, seen, slides, labels, folds: Sequence[Fold]) -> dict[str, np.ndarray]:
    """Return whether each tile was read right, `(n, 1 + held-out states + sites)`, by way of embedding."""
    n, views, _ = vectors.shape
    places = [0, *range(seen - HELD_OUT, views)]
    found: dict[str, np.ndarray] = {}
    for fold in folds:
        split = fold.split(n)
        before = _probe(vectors[:, 0], labels, slides, split)
        for name, change in fold.maps.items():
            probe = (
                before if name == "adapter, probe of before" else _probe(change(vectors[:, 0]), labels, slides, split)
            )
            at = found.setdefault(name, np.zeros((n, len(places))))
            for column, place in enumerate(places):
                reading = probe.read(change(vectors[:, place]))
                at[reading.rows, column] = reading.correct
    return found


def _told_apart(vectors, seen, slides, folds: Sequence[Fold]) -> dict[str, dict[str, np.ndarray]]:
    """Return, of each tile by way of embedding, whether it finds itself again, and how often its site is read."""
    n, sites = len(vectors), [0, *range(seen, vectors.shape[1])]
    twins: dict[str, np.ndarray] = {}
    site: dict[str, np.ndarray] = {}
    for fold in folds:
        for name in ("as it is", "linear", "adapter"):
            change = fold.maps[name]
            first, second = (change(vectors[fold.rows, seen - back]) for back in (2, 1))
            twins.setdefault(name, np.zeros(n))[fold.rows] = twin_ranks(first, second, np.arange(len(fold.rows))) < 1
            there = np.concatenate([change(vectors[:, place]) for place in sites])
            named = [str(place) for place in sites for _ in range(n)]
            reading = _probe(there, named, np.tile(slides, len(sites)), fold.split(n) * len(sites)).read(there)
            told = site.setdefault(name, np.zeros(n))
            np.add.at(told, reading.rows % n, reading.correct / len(sites))
    return {"twin_retrieval": twins, "site_read": site}


def _maps(vectors: np.ndarray, rows: np.ndarray, source) -> dict[str, Map]:
    """Fit each way to the states of some tiles."""
    parts, _ = make_folds(source.table[["slide"]].iloc[rows], FOLDS, seed=1)
    inner = [rows[part] for part in parts]
    linear = fit_closed_form(vectors, inner, held_out=HELD_OUT).map.apply
    adapter = fit_adapter(vectors, np.sort(np.concatenate(inner[1:])), inner[0], held_out=HELD_OUT).map.apply
    scatter = Scatter(vectors.shape[2]).add(vectors[rows, :-HELD_OUT])
    variances, directions = np.linalg.eigh(scatter.within / (scatter.views - scatter.tiles))
    most = directions[:, -REMOVED:]
    white = directions / np.sqrt(variances + 0.1 * variances.mean()) @ directions.T
    return {
        "as it is": lambda x: x,
        "linear": linear,
        "adapter": adapter,
        "adapter, probe of before": adapter,
        "64 directions out": lambda x: (x - ((x - scatter.mean) @ most) @ most.T).astype(np.float32),
        "whitened": lambda x: ((x - scatter.mean) @ white).astype(np.float32),
    }


def _probe(vectors, labels, slides, split) -> FittedProbe:
    fitted = fit_probe(vectors, labels, slides, split=split)
    assert isinstance(fitted, FittedProbe), fitted
    return fitted


def _compare(bench: Bench, name: str, after: np.ndarray, before: np.ndarray, slides: np.ndarray) -> None:
    """Record what the source loses and what sites gain, with intervals over slides."""
    key = name.replace(", ", "_").replace(" ", "_")
    lost = paired_difference(weighted_mean(before[:, 0]), weighted_mean(after[:, 0]), slides).estimate
    target = "<= 0.01" if name in ("linear", "adapter") else None
    bench.check(f"{key}_label_lost_on_the_source", lost.value, target, f"95 % {lost}")
    for where, columns in (("wider_states", slice(1, 1 + HELD_OUT)), ("virtual_sites", slice(1 + HELD_OUT, None))):
        then, now = (at[:, columns].mean(axis=1) for at in (before, after))
        gained = paired_difference(weighted_mean(now), weighted_mean(then), slides).estimate
        said = f"95 % {gained}; before {then.mean():.3f}, on the source {before[:, 0].mean():.3f}"
        bench.check(f"{key}_label_gained_at_{where}", gained.value, None, said)


if __name__ == "__main__":
    main()
