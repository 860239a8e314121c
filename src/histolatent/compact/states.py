"""Views of a tile for compaction: the tile, and renderings under states of its stain manifold. Light: no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._types import Tile
from ..errors import OptionError
from ..stain.manifold import StainManifold

#: How much wider than the prior the states are that nothing is fitted to.
WIDER = 1.5


@dataclass(frozen=True, eq=False)
class StateViews:
    """The tile, `states` renderings under the prior, and `held_out` ones under a prior `wider` times as wide.

    States are keyed by (seed, tile, view): they depend neither on order nor on workers. `slides` names the slide of a
    tile, whose staining it is rendered from; tiles that it does not name are rendered from that of the whole cohort.

    Raises
    ------
    OptionError
        If there is no state at all, or the factor is below 1.
    """

    manifold: StainManifold
    slides: Mapping[str, str]
    states: int = 4
    held_out: int = 2
    wider: float = WIDER
    seed: int = 0

    def __post_init__(self) -> None:
        if self.states < 0 or self.held_out < 0 or self.states + self.held_out < 1:
            raise OptionError(
                "too few states", received=f"{self.states} and {self.held_out} held out", valid="1 in all"
            )
        if not self.wider >= 1:
            raise OptionError("held-out states are not wider", received=self.wider, valid="1 or more, such as 1.5")

    @property
    def names(self) -> tuple[str, ...]:
        """`tile`, `state 1`, ..., `held out 1`, ..."""
        states = (f"state {k}" for k in range(1, self.states + 1))
        return ("tile", *states, *(f"held out {k}" for k in range(1, self.held_out + 1)))

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sequence[Tile]:
        """Return the tile under each state, in the order of `names`."""
        wide = self.manifold.with_prior(self.manifold.prior.widened(self.wider)) if self.held_out else self.manifold
        drawn = [self.manifold.sample(self.seed, tile_id, name) for name in self.names[1 : self.states + 1]]
        drawn += [wide.sample(self.seed, tile_id, name) for name in self.names[self.states + 1 :]]
        slide = self.slides.get(tile_id)
        return [
            tile,
            *(self.manifold.render(tile, state, mpp=mpp, slide=slide, tile_id=tile_id) for state in drawn),
        ]
