"""What is the same for each step of a training: tiles, who is held out, the manifold, views. Imports torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .._types import Tile
from ..encoders import Preprocessing
from ..encoders.preprocess import prepare as prepare_tile
from ..errors import InputError
from ..images import ChangedTiles, Item, TileSource, keep_tiles, select_rows, stream_tiles
from ..images.kept import AsRead
from ..images.selected import SelectedTiles
from ..stain.manifold import AXES, Prior, StainManifold, fixed_prior
from ..stain.manifold.camera import DEFAULT_MPP
from ..training.holdout import leave_out, make_folds
from .augmentation import fit_augmentation
from .checker import Checker
from .frozen import fit_manifold, slides_of
from .plan import CompactionPlan
from .states import StateViews
from .training_views import TrainingViews


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that is the same for each step: tiles, rows to train and to check on, manifold, views."""

    source: TileSource
    rows: tuple[int, ...]
    held_out: tuple[int, ...]
    manifold: StainManifold
    views: TrainingViews
    column: str

    def checker(self, workers: int) -> Checker:
        """Return what looks at an encoder on the held-out tiles, under wider states."""
        views = self.views
        wider = StateViews(self.manifold, views.slides, states=0, held_out=2, seed=views.seed)
        return Checker(self.source, self.held_out, wider, tile_px=views.tile_px, seed=views.seed, workers=workers)


def prepare(
    source: TileSource,
    plan: CompactionPlan,
    folder: Path,
    *,
    seed: int = 0,
    workers: int = 0,
    on_error: str = "stop",
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Read the tiles once, fit the manifold, hold slides out, and check that there is enough to train on.

    Tiles are kept in `folder` for the epochs to come, at the size that the plan asks for; see `keep_tiles`.

    Raises
    ------
    InputError
        If there are fewer tiles than a batch, tiles are smaller than the crop, or there is no H&E.
    """
    if plan.input_px:
        source = resize_tiles(source, plan.input_px, on_error=on_error)
    source = keep_tiles(source, folder, workers=workers, on_error=on_error, progress=progress)
    groups = max(2, round(1 / plan.training.held_out))
    folds, column = make_folds(source.table, groups, seed)
    held_out, rows = leave_out(folds, plan.training.held_out)
    if len(rows) < plan.training.batch_size:
        raise InputError(
            "there are fewer tiles than a batch",
            received=f"{len(rows)} tiles to train on, {len(held_out)} held out by {column}",
            valid=f"at least {plan.training.batch_size}",
            fix=f"set training.batch_size to {max(4, len(rows) // 2)} or less, or bring more tiles",
        )
    first = _first_tile(source, rows.tolist(), on_error)
    tile_px = plan.tile_px or min(first.shape[:2])
    if min(first.shape[:2]) < tile_px:
        raise InputError(
            "the tiles are smaller than the crop to train on",
            received=f"{first.shape[1]} x {first.shape[0]} px",
            valid=f"at least {tile_px} px",
            fix="set tile_px to less, or leave it out",
        )
    if plan.backbone != "conv-small" and first.shape[:2] != (tile_px, tile_px):
        raise InputError(
            f"{plan.backbone} takes whole square tiles, and no crops of them",
            received=f"tiles of {first.shape[1]} x {first.shape[0]} px and crops of {tile_px} px",
            fix="set input_px to the side of the crop (tile_px): tiles are then brought to it",
        )
    manifold = fit_manifold(source, prior=plan.states.prior, workers=workers, seed=seed, on_error=on_error)
    prior = manifold.prior.only(*plan.states.parts)
    manifold = manifold.with_prior(prior.widened(plan.states.strength or 1.0))
    seen = manifold if plan.states.strength else manifold.with_prior(no_states())
    augmentation = None
    if plan.states.kind != "manifold" and plan.states.strength:
        augmentation = fit_augmentation(
            plan.states.kind, select_rows(source, rows), seed=seed, workers=workers, on_error=on_error
        )
    views = TrainingViews(seen, slides_of(source), plan, tile_px, seed, augmentation)
    return Prepared(source, tuple(rows.tolist()), tuple(held_out.tolist()), manifold, views, column)


def resize_tiles(source: TileSource, px: int, *, on_error: str = "stop") -> TileSource:
    """Return tiles at the size that an encoder takes; um per pixel change by as much as the side of the first tile."""
    table = source.table
    first = _first_tile(source, range(len(table)), on_error)
    known = table["mpp"].fillna(DEFAULT_MPP) if "mpp" in table else DEFAULT_MPP
    resized = ChangedTiles(source, partial(prepare_tile, preprocessing=Preprocessing(resize="squash", input_px=px)))
    return SelectedTiles(resized, np.arange(len(table)), table.assign(mpp=known * (min(first.shape[:2]) / px)))


def _first_tile(source: TileSource, rows: Sequence[int], on_error: str) -> Tile:
    """Return the first of some tiles that can be read.

    Raises
    ------
    InputError
        If none can.
    """
    for item in stream_tiles(source, rows, AsRead(), on_error=on_error):
        if isinstance(item, Item):
            return item.value
    raise InputError("none of the tiles can be read", received=f"{len(rows)} tiles of {source.name}")


def no_states() -> Prior:
    """Return the prior under which a tile is seen as it is."""
    return fixed_prior(**dict.fromkeys(AXES, 0.0))
