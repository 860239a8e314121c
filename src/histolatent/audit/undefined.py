"""A figure that does not exist for these tiles, with the reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Undefined:
    """Why a figure is not defined. It stands where the figure would, so that no NaN is passed on."""

    reason: str


COLLAPSED = "all embeddings are the same, so no tile is nearer than another"
