"""The loop of a training, in this process: steps, checks, checkpoints. Imports torch."""

import contextlib
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..encoders.torch_models import TorchEncoder
from ..errors import CompactionError
from ..images import Item, cores, stream_tiles
from ..images.kept import AsRead
from ..provenance import canonical_json, stream
from ..training.checkpoint import CHECKPOINT, keep, resume
from ..training.processes import Told, threads
from .backbones import make_backbone
from .plan import CompactionPlan
from .prepared import Prepared
from .training import Networks, Step, read_batches, run_step

#: Tiles that the spread of the amounts is taken from.
SPREAD_TILES = 64
#: Twin retrieval has risen where it is higher by more than this.
RISE = 0.005


def run_loop(
    fabric: Fabric, prepared: Prepared, folder: Path, workers: int, on_error: str, progress: Told | None
) -> bytes:
    """Train in this process, which may be one of several; return weights, curves and checks, saved by torch."""
    plan, views = prepared.views.plan, prepared.views
    backbone = make_backbone(plan.backbone, views.tile_px, views.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(views.seed)
        networks = Networks(backbone, plan)
    spread, decoder = torch.from_numpy(_spread(prepared, on_error)), networks.decoder
    networks.spread.copy_(spread)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        networks = torch.nn.SyncBatchNorm.convert_sync_batchnorm(networks)
    look, model = _look(fabric, prepared, backbone.encoder, workers), backbone.encoder.model
    optimizer = torch.optim.AdamW(
        networks.parameters(), lr=plan.training.learning_rate, weight_decay=plan.training.weight_decay, fused=True
    )
    wrapped, optimizer = fabric.setup(networks, optimizer)
    steps, identity = plan.training.steps, _identity(prepared)
    averaged = None
    if plan.training.ema:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(plan.training.ema), use_buffers=True)
    state: dict[str, Any] = {
        "networks": wrapped,
        "optimizer": optimizer,
        "step": 0,
        "history": [],
        "checks": [],
        "best": {},
        "identity": identity,
    } | ({} if averaged is None else {"averaged": averaged})
    judged = model if averaged is None else averaged.module
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        resume(fabric, checkpoint, state, identity)
    if not state["checks"]:
        state["checks"].append({"step": 0, **look(judged)})
    batches = read_batches(
        prepared.source,
        prepared.rows,
        views,
        first_step=state["step"],
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=workers,
        on_error=on_error,
    )
    own = [fabric.device] if fabric.device.type == "cuda" else []
    with contextlib.closing(batches), threads(_threads(fabric, workers)), torch.random.fork_rng(devices=own):
        for seen in batches if not _is_over(state, plan) else ():
            at = state["step"]
            # What a network drops at random depends on the step alone, also after an interruption.
            torch.manual_seed(int(stream(views.seed, "step", at, fabric.global_rank).integers(2**31)))
            networks.train()
            cost = run_step(
                wrapped,
                optimizer,
                Step.of(seen, prepared.manifold, fabric.device),
                plan,
                at=at,
                backward=fabric.backward,
                no_sync=lambda: fabric.no_backward_sync(wrapped),
            )
            cost = _mean_over_processes(fabric, cost)
            looks = (at + 1) % plan.training.check_every == 0 or at + 1 == steps
            numbers = all(map(math.isfinite, cost.values()))
            if not numbers or (looks and not _is_finite(networks)):
                raise CompactionError(
                    "the loss is no longer a number" if not numbers else "the weights are no longer numbers",
                    received=f"step {at + 1}: " + ", ".join(f"{key} {value:g}" for key, value in cost.items()),
                    valid=f"the last good state is kept in {checkpoint}" if checkpoint.exists() else None,
                    fix="lower training.learning_rate, and run again with --restart",
                )
            if averaged is not None:
                averaged.update_parameters(model)
            state["history"].append({"step": at + 1, **cost})
            state["step"] = at + 1
            if progress and fabric.is_global_zero:
                progress("training", at + 1, steps, cost)
            if looks:
                check = {"step": at + 1, **look(judged)}
                state["checks"].append(check)
                if plan.training.patience:
                    _note_best(state, check, judged)
                if progress and fabric.is_global_zero:
                    progress("checked", at + 1, steps, check)
                keep(fabric, checkpoint, state)
                if _is_over(state, plan):
                    break
    chosen = state["best"] if plan.training.patience else {"step": state["step"], "weights": _weights(judged)}
    outcome = {key: state[key] for key in ("step", "history", "checks")}
    packed = io.BytesIO()
    parts = {"decoder": decoder and decoder.state_dict(), "spread": spread}
    torch.save({**outcome, **parts, "of_step": chosen["step"], "weights": chosen["weights"]}, packed)
    return packed.getvalue()


def _threads(fabric: Fabric, workers: int) -> int:
    """On a CPU, leave a core to each worker: threads that wait for one that works for another take longer than one."""
    now = torch.get_num_threads()
    return max(1, min(now, cores() // fabric.world_size - workers)) if fabric.device.type == "cpu" else now


def _look(
    fabric: Fabric, prepared: Prepared, encoder: TorchEncoder, workers: int
) -> Callable[[torch.nn.Module], dict[str, float]]:
    """Return what looks at a model in the first process, and tells all of them."""
    device = str(fabric.device)
    checker = prepared.checker(workers) if fabric.is_global_zero else None

    def look(model: torch.nn.Module) -> dict[str, float]:
        found = {}
        if checker is not None:
            was = model.training
            found = asdict(checker(TorchEncoder(encoder.card, model.eval(), encoder.embed, device)))
            model.train(was)
        return fabric.broadcast(found) if fabric.world_size > 1 else found

    return look


def _mean_over_processes(fabric: Fabric, cost: dict[str, float]) -> dict[str, float]:
    if fabric.world_size == 1:
        return cost
    means = fabric.all_reduce(torch.tensor(list(cost.values()), device=fabric.device), reduce_op="mean")
    assert isinstance(means, torch.Tensor)  # as what was handed in
    return dict(zip(cost, means.tolist(), strict=True))


def _is_finite(networks: torch.nn.Module) -> bool:
    """Whether all weights are; those of the processes differ by nothing."""
    return all(bool(torch.isfinite(weight).all()) for weight in networks.parameters())


def _note_best(state: dict[str, Any], check: Mapping[str, float], model: torch.nn.Module) -> None:
    """Keep the weights of the check at which most tiles found themselves again."""
    if not state["best"] or check["twin_top1"] > state["best"]["score"] + RISE:
        state["best"] = {"step": check["step"], "score": check["twin_top1"], "weights": _weights(model)}


def _is_over(state: Mapping[str, Any], plan: CompactionPlan) -> bool:
    """Whether so many checks as the plan is patient for have brought nothing more."""
    if plan.training.patience is None or not state["best"]:
        return False
    since = [check for check in state["checks"] if check["step"] > state["best"]["step"]]
    return len(since) >= plan.training.patience


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _spread(prepared: Prepared, on_error: str) -> np.ndarray:
    """Return the standard deviations of the amounts of both stains over some tiles."""
    views, step = prepared.views, max(1, len(prepared.rows) // SPREAD_TILES)
    ids = prepared.source.table.index
    found = [
        views.amounts(item.value, views.slides.get(str(ids[item.index]))).reshape(-1, 2).std(axis=0)
        for item in stream_tiles(prepared.source, prepared.rows[::step], AsRead(), on_error=on_error)
        if isinstance(item, Item)
    ]
    return np.maximum(np.mean(found, axis=0), 1e-3).astype(np.float32)


def _identity(prepared: Prepared) -> str:
    from ..encoders.embed import source_digest

    facts = {
        "plan": prepared.views.plan.model_dump(mode="json", exclude={"about"}),
        "seed": prepared.views.seed,
        "tiles": source_digest(prepared.source),
        "manifold": prepared.manifold.to_dict(),
    }
    return canonical_json(facts)
