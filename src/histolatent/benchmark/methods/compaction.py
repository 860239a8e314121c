"""Latent manifold compaction: a network trained under states of the stain manifold, or a map on a frozen one."""

from collections.abc import Callable, Mapping

from ..._types import Vectors
from ...images import TileSource
from .base import Base, Method, Network, OfSite, Space, VectorsMethod, Work
from .plain import train_network

_PAPER = "the idea of arXiv 2602.24251"


def _fit_encoder(source: TileSource, base: Base, work: Work) -> Network:
    return Network(train_network(source, base.plan, work))


def _frozen(kind: str) -> VectorsMethod:
    def fit(source: Space, target: Mapping[str, OfSite] | None, work: Work) -> Callable[[Vectors, str], Vectors]:
        from ...compact.frozen import compact_frozen

        made = compact_frozen(
            source.tiles,
            source.encoder,
            source.encoder.card.name,
            work.folder / kind,
            kind=kind,
            seed=work.seed,
            workers=work.workers,
            restart=True,
        )
        change = made.encoder.map
        return lambda vectors, site: change.apply(vectors)

    return fit


METHODS = (
    Method("compact", "encoder", "compaction: a network trained under stain and camera states", _fit_encoder, _PAPER),
    Method("linear", "vectors", "compaction of vectors, in closed form", _frozen("linear"), _PAPER),
    Method("adapter", "vectors", "compaction of vectors, by a residual network", _frozen("adapter"), _PAPER),
)
