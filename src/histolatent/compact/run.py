"""Train an encoder from tiles of one source: prepare, train, check, keep. Imports torch."""

import contextlib
import json
import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from .._types import Tile
from ..encoders import Encoder, encode
from ..encoders.torch_models import TorchEncoder, choose_device
from ..errors import CompactionError, InputError, OptionError, OutputError
from ..images import Item, TileSource, keep_tiles, stream_tiles
from ..images.kept import AsRead
from ..outputs import disk_errors
from ..provenance import canonical_json, environment, now, stream
from ..stain.manifold import StainManifold
from .backbones import finished, make_backbone
from .frozen import fit_manifold, leave_out, make_folds, slides_of
from .guards import Finding, HeldOut, judge, look
from .plan import CompactionPlan
from .states import StateViews
from .training import Networks, Step, read_batches, run_step, steps_in
from .training_views import TrainingViews

Told = Callable[[str, int, int, Mapping[str, float]], None]
#: Held-out tiles that a check looks at, and tiles that the spread of the amounts is taken from.
CHECK_TILES, SPREAD_TILES = 400, 64
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run left: the encoder, the curves, what the checks saw, what is wrong with it, and its provenance."""

    encoder: Encoder
    history: tuple[Mapping[str, float], ...]
    checks: tuple[Mapping[str, float], ...]
    findings: tuple[Finding, ...]
    card: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that is the same for each step: tiles, rows to train and to check on, manifold, views."""

    source: TileSource
    rows: tuple[int, ...]
    held_out: tuple[int, ...]
    manifold: StainManifold
    views: TrainingViews
    column: str


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

    Tiles are kept in `folder` for the epochs to come, see `keep_tiles`.

    Raises
    ------
    InputError
        If there are fewer tiles than a batch, tiles are smaller than the crop, or there is no H&E.
    """
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
    first = next(
        item.value
        for item in stream_tiles(source, rows.tolist(), AsRead(), on_error=on_error)
        if isinstance(item, Item)
    )
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
            fix="cut square tiles of one size, and leave tile_px out",
        )
    manifold = fit_manifold(source, prior=plan.states.prior, workers=workers, seed=seed, on_error=on_error)
    prior = manifold.prior.only(*plan.states.parts)
    manifold = manifold.with_prior(prior.widened(plan.states.strength))
    views = TrainingViews(manifold, slides_of(source), plan, tile_px, seed)
    return Prepared(source, tuple(rows.tolist()), tuple(held_out.tolist()), manifold, views, column)


def train(
    prepared: Prepared,
    folder: Path,
    *,
    device: str | None = None,
    workers: int = 0,
    on_error: str = "stop",
    restart: bool = False,
    progress: Told | None = None,
) -> Trained:
    """Train from the start, or from the checkpoint that an interrupted run left in `folder`.

    Raises
    ------
    CompactionError
        If the loss is no longer finite; the last good checkpoint stays.
    OutputError
        If a checkpoint of another plan is there, or the disk is full.
    """
    plan, views = prepared.views.plan, prepared.views
    backbone = make_backbone(plan.backbone, views.tile_px, views.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(views.seed)
        networks = Networks(backbone, plan)
    networks.spread.copy_(torch.from_numpy(_spread(prepared)))
    fabric = Fabric(**_hardware(device, plan.training.precision))
    checker = _Checker(prepared, backbone.encoder, fabric.device)
    optimizer = torch.optim.AdamW(
        networks.parameters(), lr=plan.training.learning_rate, weight_decay=plan.training.weight_decay
    )
    wrapped, optimizer = fabric.setup(networks, optimizer)
    steps, identity = steps_in(plan, len(prepared.rows)), _identity(prepared)
    state = {"networks": wrapped, "optimizer": optimizer, "step": 0, "history": [], "checks": [], "identity": identity}
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists() and not restart:
        _resume(fabric, checkpoint, state, identity)
    if not state["checks"]:
        state["checks"].append({"step": 0, **asdict(checker())})
    per_epoch = steps // plan.training.epochs
    batches = read_batches(
        prepared.source,
        prepared.rows,
        views,
        first_step=state["step"],
        workers=workers,
        on_error=on_error,
    )
    with contextlib.closing(batches):
        for seen in batches:
            at = state["step"]
            networks.train()
            cost = run_step(
                wrapped,
                optimizer,
                Step.of(seen, fabric.device),
                plan,
                at=at,
                steps=steps,
                backward=fabric.backward,
                no_sync=lambda: fabric.no_backward_sync(wrapped),
            )
            if not all(map(math.isfinite, cost.values())):
                raise CompactionError(
                    "the loss is no longer a number",
                    received=f"step {at + 1}: " + ", ".join(f"{key} {value:g}" for key, value in cost.items()),
                    valid=f"the last good state is kept in {checkpoint}" if checkpoint.exists() else None,
                    fix="lower training.learning_rate, and run again with --restart",
                )
            state["history"].append({"step": at + 1, **cost})
            state["step"] = at + 1
            if progress:
                progress("training", at + 1, steps, cost)
            epoch, rest = divmod(at + 1, per_epoch)
            if rest == 0 and (epoch % plan.training.check_every == 0 or at + 1 == steps):
                state["checks"].append({"step": at + 1, **asdict(checker())})
                _keep(fabric, checkpoint, state)
    first, last = (_held_out(state["checks"][place]) for place in (0, -1))
    findings = tuple(judge(last, first))
    notes = f"Trained on {prepared.source.name} alone, by latent manifold compaction. Research use."
    encoder = finished(
        backbone.encoder, name=f"{plan.backbone} compacted", source="latent manifold compaction", notes=notes
    )
    card = {
        "created": now(),
        "kind": "encoder",
        "plan": plan.model_dump(mode="json"),
        "seed": views.seed,
        "source": {"name": prepared.source.name, "tiles": len(prepared.rows), "held_out": len(prepared.held_out)},
        "held_out_by": prepared.column,
        "manifold": prepared.manifold.to_dict(),
        "steps": state["step"],
        "before": asdict(first),
        "after": asdict(last),
        "findings": [asdict(finding) for finding in findings],
        "environment": environment(),
    }
    return Trained(encoder, tuple(state["history"]), tuple(state["checks"]), findings, card)


def _held_out(check: Mapping[str, float]) -> HeldOut:
    return HeldOut(**{key: value for key, value in check.items() if key != "step"})


def _hardware(device: str | None, precision: str) -> dict[str, Any]:
    """Return what Fabric is told: accelerator, device, precision. One process on one device."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise OptionError(
            "training runs in one process, on one device, so far",
            received=f"WORLD_SIZE={os.environ['WORLD_SIZE']}",
            fix="start it without torchrun",
        )
    chosen = torch.device(choose_device(device))
    half = chosen.type == "cuda" and torch.cuda.is_bf16_supported()
    precision = ("bf16" if half else "fp32") if precision == "auto" else precision
    return {
        "accelerator": chosen.type,
        "devices": [chosen.index or 0] if chosen.type == "cuda" else 1,
        "precision": {"bf16": "bf16-mixed", "fp32": "32-true"}[precision],
    }


class _Checker:
    """Embeds held-out tiles and wider states of them, which are rendered once."""

    def __init__(self, prepared: Prepared, encoder: TorchEncoder, device: torch.device) -> None:
        self.encoder = TorchEncoder(encoder.card, encoder.model, encoder.embed, str(device), None)
        rows = list(prepared.held_out)
        if len(rows) > CHECK_TILES:
            drawn = stream(prepared.views.seed, "check tiles").permutation(len(rows))[:CHECK_TILES]
            rows = [rows[place] for place in np.sort(drawn)]
        views = StateViews(prepared.manifold, prepared.views.slides, states=0, held_out=2, seed=prepared.views.seed)
        crop = _Crop(views, prepared.views.tile_px)
        items = stream_tiles(prepared.source, rows, crop, on_error="skip")
        self.tiles = [item.value for item in items if isinstance(item, Item)]
        if len(self.tiles) < 2:
            raise InputError("too few held-out tiles to check the training on", received=len(self.tiles), valid="2")
        self.colours = np.array(
            [np.concatenate([tile[0].mean(axis=(0, 1)), tile[0].std(axis=(0, 1))]) for tile in self.tiles]
        )

    def __call__(self) -> HeldOut:
        model = self.encoder.model
        was = model.training
        model.eval()
        flat = [view for tile in self.tiles for view in tile]
        vectors = encode(self.encoder, flat).reshape(len(self.tiles), -1, self.encoder.card.dim)
        model.train(was)
        return look(vectors, self.colours)


@dataclass(frozen=True, eq=False)
class _Crop:
    """Views, cut to the middle."""

    views: StateViews
    side: int

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> Sequence[Tile]:
        top, left = ((size - self.side) // 2 for size in tile.shape[:2])
        return [view[top : top + self.side, left : left + self.side] for view in self.views(tile, tile_id, mpp)]


def _spread(prepared: Prepared) -> np.ndarray:
    """Return the standard deviations of the amounts of both stains over some tiles."""
    views, step = prepared.views, max(1, len(prepared.rows) // SPREAD_TILES)
    ids = prepared.source.table.index
    found = [
        views.amounts(prepared.source.read(row), views.slides.get(str(ids[row]))).reshape(-1, 2).std(axis=0)
        for row in prepared.rows[::step]
    ]
    return np.maximum(np.mean(found, axis=0), 1e-3).astype(np.float32)


def _identity(prepared: Prepared) -> str:
    from ..encoders.embed import source_digest

    facts = {
        "plan": prepared.views.plan.model_dump(mode="json"),
        "seed": prepared.views.seed,
        "tiles": source_digest(prepared.source),
        "manifold": prepared.manifold.to_dict(),
    }
    return canonical_json(facts)


def _keep(fabric: Fabric, path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint: the one before it stands until the new one is whole."""
    part = path.with_suffix(".part")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fabric.save(part, state)
            part.replace(path)
        except RuntimeError as error:  # torch's writer hides the reason of a failed write
            raise OutputError(
                "the checkpoint could not be written; the one before it is kept",
                received=f"{path}: {str(error).splitlines()[0]}",
                fix="free space, then run the same command again",
            ) from error
        finally:
            part.unlink(missing_ok=True)


def _resume(fabric: Fabric, path: Path, state: dict[str, Any], identity: str) -> None:
    """Load a checkpoint into `state`, if it is of the same plan."""
    found = {"identity": ""}
    try:
        fabric.load(path, found, strict=False)
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, pickle.UnpicklingError) as error:
        raise OutputError(
            "the checkpoint cannot be read",
            received=f"{path}: {str(error).splitlines()[0]}",
            fix="pass --restart to train from the start",
        ) from error
    if found["identity"] != identity:
        old, new = json.loads(found["identity"]), json.loads(identity)
        parts = ", ".join(key for key in new if old.get(key) != new[key])
        raise OutputError(
            f"a checkpoint with another {parts} is there",
            received=path,
            fix="pass --restart to drop it, or choose another --out",
        )
    fabric.load(path, state)
