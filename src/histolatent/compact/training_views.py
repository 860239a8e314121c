"""What a worker makes of a tile for training: a crop, seen under several states. Light: no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import cv2
import numpy as np
from jaxtyping import Float, Float16, Float32, Int, UInt8

from .._types import Tile
from ..errors import InputError
from ..provenance import stream
from ..stain.manifold import AXES, ProtocolState, StainManifold
from .augmentation import Augmentation
from .plan import CompactionPlan

_NORMAL = NormalDist()
#: Pixels of a tile for each pixel of the amounts that are reconstructed, a side.
TARGET_STRIDE = 4


@dataclass(frozen=True)
class ToRender:
    """What a device needs to render the views of a tile."""

    states: tuple[ProtocolState, ...]
    names: tuple[str, ...]
    slide: str | None
    mpp: float | None


@dataclass(frozen=True, eq=False)
class Seen:
    """One tile as a step sees it. `amounts` are those under canonical staining, at a quarter of the sides.

    `coordinates` are in standard deviations of the prior; `laboratories` number the virtual laboratories. `to_render`
    is None where `pixels` are rendered already.
    """

    pixels: UInt8[np.ndarray, "v s s 3"]
    amounts: Float16[np.ndarray, "v 2 q q"]
    coordinates: Float32[np.ndarray, "v a"]
    laboratories: Int[np.ndarray, " v"]
    to_render: ToRender | None


@dataclass(frozen=True, eq=False)
class TrainingViews:
    """Crop, turn and mirror a tile, and render it under states, or leave that to the device.

    Called with a name of the form `epoch tile-id`; everything random is keyed by (seed, epoch, tile, view). A state is
    drawn by way of a virtual laboratory: of the variance of the normal scores behind it, the share `between` is the
    laboratory's. Laboratories are standardised, so that scores have mean 0 and variance 1 whatever was drawn. With an
    `augmentation` tiles are seen under that, and states are drawn and not used.
    """

    manifold: StainManifold
    slides: Mapping[str, str]
    plan: CompactionPlan
    tile_px: int
    seed: int
    augmentation: Augmentation | None = None

    def __call__(self, tile: Tile, name: str, mpp: float | None) -> Seen:
        """Return the views."""
        epoch, _, tile_id = name.partition(" ")
        rng = stream(self.seed, "training", int(epoch), tile_id)
        slide = self.slides.get(tile_id)
        if min(tile.shape[:2]) < self.tile_px:
            raise InputError(
                "a tile is smaller than the crop to train on",
                received=f"{tile_id}: {tile.shape[1]} x {tile.shape[0]} px",
                valid=f"at least {self.tile_px} px",
                fix="set tile_px to less, or leave small tiles out",
            )
        amounts = self.amounts(tile, slide)
        views = self.plan.states.views
        places = [Place.draw(tile.shape, self.tile_px, rng)] * views
        if rng.random() >= self.plan.same_place:
            places = [places[0], *(Place.draw(tile.shape, self.tile_px, rng) for _ in range(views - 1))]
        laboratories = rng.integers(self.plan.states.batches, size=views)
        states = tuple(self.state(int(laboratory), rng) for laboratory in laboratories)
        names = tuple(f"{name} {view}" for view in range(views))
        pixels = [place.turn(place.cut(tile)) for place in places]
        later = self.plan.states.render == "device"
        if self.augmentation is not None:
            white = self.manifold.anchor_of(slide).white
            pixels = [self.augmentation(crop, own, white) for crop, own in zip(pixels, names, strict=True)]
        elif not later:
            pixels = [
                self.manifold.render(crop, state, mpp=mpp, slide=slide, tile_id=own)
                for crop, state, own in zip(pixels, states, names, strict=True)
            ]
        return Seen(
            np.stack(pixels),
            np.stack([self.target(amounts, place) for place in places]).astype(np.float16),
            np.stack([state.to_array() * self._inverse_sds for state in states]).astype(np.float32),
            laboratories,
            ToRender(states, names, slide, mpp) if later else None,
        )

    def state(self, laboratory: int, rng: np.random.Generator) -> ProtocolState:
        """Draw a state of a virtual laboratory."""
        between = self.plan.states.between
        own = math.sqrt(1 - between) * rng.standard_normal(len(AXES))
        scores = math.sqrt(between) * self._laboratories[laboratory] + own
        quantiles = np.array([_NORMAL.cdf(score) for score in scores])
        return self.manifold.prior.place(quantiles, int(rng.integers(2**31)))

    @cached_property
    def _laboratories(self) -> Float[np.ndarray, "b a"]:
        drawn = stream(self.seed, "virtual laboratories").standard_normal((self.plan.states.batches, len(AXES)))
        return (drawn - drawn.mean(axis=0)) / drawn.std(axis=0)

    @cached_property
    def _inverse_sds(self) -> Float[np.ndarray, " a"]:
        sds = np.array(self.manifold.prior.sds)
        return np.divide(1, sds, out=np.zeros_like(sds), where=sds > 0)

    def target(self, amounts: Float32[np.ndarray, "h w 2"], place: "Place") -> Float32[np.ndarray, "2 q q"]:
        """Return the amounts of a crop, as they are reconstructed."""
        side = self.tile_px // TARGET_STRIDE
        reduced = cv2.resize(place.turn(place.cut(amounts)), (side, side), interpolation=cv2.INTER_AREA)
        return reduced.transpose(2, 0, 1)

    def amounts(self, tile: Tile, slide: str | None) -> Float32[np.ndarray, "h w 2"]:
        """Return how much of each stain there is, relative to the slide's strongest."""
        anchor = self.manifold.anchor_of(slide)
        logs = np.log(anchor.white) - np.log(np.maximum(np.arange(256)[:, None] + anchor.offset, 1))
        density = cv2.LUT(tile, logs.astype(np.float32)[:, None, :])
        unmix = np.linalg.inv(anchor.vectors)[:, :2] / np.maximum(anchor.max_concentrations, 1e-3)
        return cv2.transform(density, unmix.T.astype(np.float32))


@dataclass(frozen=True)
class Place:
    """Where a crop lies, and how it is turned."""

    top: int
    left: int
    side: int
    quarters: int
    mirrored: bool

    @classmethod
    def middle(cls, shape: tuple[int, ...], side: int) -> "Place":
        """Return the middle of an image of that shape, as it is."""
        top, left = ((size - side) // 2 for size in shape[:2])
        return cls(top, left, side, 0, False)

    @classmethod
    def draw(cls, shape: tuple[int, ...], side: int, rng: np.random.Generator) -> "Place":
        """Return a random place in an image of that shape, turned and mirrored at random."""
        top, left = (int(rng.integers(max(size - side, 0) + 1)) for size in shape[:2])
        return cls(top, left, side, int(rng.integers(4)), bool(rng.integers(2)))

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the crop."""
        return image[self.top : self.top + self.side, self.left : self.left + self.side]

    def turn(self, crop: np.ndarray) -> np.ndarray:
        """Return the crop turned and mirrored."""
        turned = np.rot90(crop, self.quarters)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)
