"""Train an encoder from tiles of one source: prepare, train, check, keep. Imports torch."""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..encoders import Encoder
from ..encoders.mapped import map_encoder
from ..encoders.maps import LinearMap
from ..encoders.torch_models import TorchEncoder
from ..errors import CompactionError, InputError, OptionError
from ..images import Item, TileSource, cores, keep_tiles, select_rows, stream_tiles
from ..images.kept import AsRead
from ..outputs import remove
from ..provenance import canonical_json, environment, now
from ..stain.manifold import AXES, Prior, StainManifold, fixed_prior
from .backbones import finished, make_backbone
from .checker import Checker
from .checkpoint import CHECKPOINT, keep, resume
from .frozen import fit_manifold, leave_out, make_folds, slides_of
from .guards import Finding, HeldOut, judge
from .plan import CompactionPlan
from .processes import Told, launch, make_fabric, started_outside
from .showing import Shown, show
from .states import StateViews
from .training import Networks, Step, make_decoder, read_batches, run_step, steps_in
from .training_views import TrainingViews
from .whitening import STATES, fit_last_map

#: Tiles that the spread of the amounts is taken from.
SPREAD_TILES = 64
#: Twin retrieval has risen where it is higher by more than this.
RISE = 0.005


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run left: encoder, curves, what the checks saw, what is wrong with it, provenance, and what to look at."""

    encoder: Encoder
    history: tuple[Mapping[str, float], ...]
    checks: tuple[Mapping[str, float], ...]
    findings: tuple[Finding, ...]
    card: Mapping[str, Any]
    shown: Shown


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
    manifold = manifold.with_prior(prior.widened(plan.states.strength or 1.0))
    seen = manifold if plan.states.strength else manifold.with_prior(no_states())
    views = TrainingViews(seen, slides_of(source), plan, tile_px, seed)
    return Prepared(source, tuple(rows.tolist()), tuple(held_out.tolist()), manifold, views, column)


def no_states() -> Prior:
    """Return the prior under which a tile is seen as it is."""
    return fixed_prior(**dict.fromkeys(AXES, 0.0))


def compact_encoder(
    source: TileSource,
    plan: CompactionPlan,
    folder: Path,
    *,
    seed: int = 0,
    device: str | None = None,
    devices: int = 1,
    workers: int = 0,
    on_error: str = "stop",
    restart: bool = False,
    progress: Told | None = None,
) -> Trained:
    """Prepare and train; see `prepare` and `train`.

    What is kept for resuming lies in `folder`. `devices` processes are started, one for each device; under torchrun
    those that it started share the work. `progress` is called with what is done, how far, of how much, and costs.
    """
    fabric = make_fabric(device, plan.training.precision, devices)
    if started_outside():
        fabric.launch()
    prepared = None
    if fabric.is_global_zero:
        if restart:
            remove(folder)
        prepared = prepare(
            source,
            plan,
            folder,
            seed=seed,
            workers=workers,
            on_error=on_error,
            progress=progress and (lambda done, total: progress("reading tiles", done, total, {})),
        )
    if started_outside():
        prepared = fabric.broadcast(prepared)
    assert prepared is not None  # the first process has made it
    return train(prepared, folder, fabric=fabric, workers=workers, on_error=on_error, progress=progress)


def train(
    prepared: Prepared,
    folder: Path,
    *,
    fabric: Fabric | None = None,
    workers: int = 0,
    on_error: str = "stop",
    progress: Told | None = None,
) -> Trained:
    """Train from the start, or from the checkpoint that an interrupted run left in `folder`.

    `fabric` is that of `make_fabric`; without one, training takes the best device that there is.

    Raises
    ------
    CompactionError
        If the loss is no longer finite; the last good checkpoint stays.
    OptionError
        If a batch cannot be divided by the number of processes.
    OutputError
        If a checkpoint of another plan is there, or the disk is full.
    """
    plan, views = prepared.views.plan, prepared.views
    fabric = fabric or make_fabric(None, plan.training.precision)
    share = fabric.world_size * (2 if plan.objective.neighbours else 1)
    if plan.training.batch_size % share:
        raise OptionError(
            "a batch cannot be divided by the number of processes"
            + (", in pairs" if share > fabric.world_size else ""),
            received=f"batches of {plan.training.batch_size} tiles, {fabric.world_size} processes",
            fix=f"set training.batch_size to a multiple of {share}",
        )
    given = (prepared, folder, workers, on_error)
    started_here = fabric.world_size > 1 and not started_outside()
    left = launch(fabric, _loop, *given, told=progress) if started_here else _loop(fabric, *given, progress)
    outcome = torch.load(io.BytesIO(left), weights_only=True, map_location="cpu")
    backbone, untrained = (make_backbone(plan.backbone, views.tile_px, views.seed) for _ in range(2))
    backbone.encoder.model.load_state_dict(outcome["weights"])
    notes = f"Trained on {prepared.source.name} alone, by latent manifold compaction. Research use."
    network = finished(
        backbone.encoder, name=f"{plan.backbone} compacted", source="latent manifold compaction", notes=notes
    )
    encoder = network
    if plan.has_last_map:
        change = _last_map(fabric, prepared, network, folder, workers, on_error, progress)
        encoder = map_encoder(network, None, change, called=network.card.name, notes=notes)
    checks = outcome["checks"]
    first, trained = _held_out(checks[0]), _held_out(next(c for c in checks if c["step"] == outcome["of_step"]))
    last = _checker(prepared, workers)(encoder) if plan.has_last_map else trained
    findings = tuple(judge(last, first))
    card = {
        "created": now(),
        "kind": "encoder",
        "plan": plan.model_dump(mode="json"),
        "seed": views.seed,
        "processes": fabric.world_size,
        "source": {"name": prepared.source.name, "tiles": len(prepared.rows), "held_out": len(prepared.held_out)},
        "held_out_by": prepared.column,
        "manifold": prepared.manifold.to_dict(),
        "steps": outcome["step"],
        "weights_of_step": outcome["of_step"],
        "before": asdict(first),
        "trained": asdict(trained),
        "after": asdict(last),
        "findings": [asdict(finding) for finding in findings],
        "environment": environment(),
    }
    decoder = None
    if outcome["decoder"] is not None:
        decoder = make_decoder(backbone)
        decoder.load_state_dict(outcome["decoder"])
    before = finished(untrained.encoder, name="untrained", source="", notes="")
    decoding = replace(backbone, encoder=network)
    spread = outcome["spread"].numpy()
    shown = show(
        prepared.source, prepared.held_out, prepared.manifold, views, before, encoder, decoding, decoder, spread
    )
    return Trained(encoder, tuple(outcome["history"]), tuple(checks), findings, card, shown)


def _loop(
    fabric: Fabric, prepared: Prepared, folder: Path, workers: int, on_error: str, progress: Told | None
) -> bytes:
    """Train in this process, which may be one of several; return weights, curves and checks, saved by torch."""
    plan, views = prepared.views.plan, prepared.views
    backbone = make_backbone(plan.backbone, views.tile_px, views.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(views.seed)
        networks = Networks(backbone, plan)
    spread, decoder = torch.from_numpy(_spread(prepared)), networks.decoder
    networks.spread.copy_(spread)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        networks = torch.nn.SyncBatchNorm.convert_sync_batchnorm(networks)
    look, model = _look(fabric, prepared, backbone.encoder, workers), backbone.encoder.model
    optimizer = torch.optim.AdamW(
        networks.parameters(), lr=plan.training.learning_rate, weight_decay=plan.training.weight_decay, fused=True
    )
    wrapped, optimizer = fabric.setup(networks, optimizer)
    steps, identity = steps_in(plan, len(prepared.rows)), _identity(prepared)
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
    per_epoch = steps // plan.training.epochs
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
    with contextlib.closing(batches), _threads(fabric, workers):
        for seen in batches if not _is_over(state, plan) else ():
            at = state["step"]
            networks.train()
            cost = run_step(
                wrapped,
                optimizer,
                Step.of(seen, prepared.manifold, fabric.device),
                plan,
                at=at,
                steps=steps,
                backward=fabric.backward,
                no_sync=lambda: fabric.no_backward_sync(wrapped),
            )
            cost = _mean_over_processes(fabric, cost)
            if not all(map(math.isfinite, cost.values())):
                raise CompactionError(
                    "the loss is no longer a number",
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
            epoch, rest = divmod(at + 1, per_epoch)
            if rest == 0 and (epoch % plan.training.check_every == 0 or at + 1 == steps):
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


@contextlib.contextmanager
def _threads(fabric: Fabric, workers: int) -> Iterator[None]:
    """On a CPU, leave a core to each worker: threads that wait for one that works for another take longer than one."""
    before = torch.get_num_threads()
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, min(before, cores() // fabric.world_size - workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _last_map(
    fabric: Fabric,
    prepared: Prepared,
    network: TorchEncoder,
    folder: Path,
    workers: int,
    on_error: str,
    progress: Told | None,
) -> LinearMap:
    """Fit in the first process, and tell those that were started with it."""
    change = None
    if fabric.is_global_zero:
        device, views = str(fabric.device), prepared.views
        change = fit_last_map(
            replace(network, model=network.model.to(device), device=device),
            select_rows(prepared.source, np.array(prepared.rows)),
            StateViews(prepared.manifold, views.slides, states=STATES, held_out=0, seed=views.seed),
            folder,
            views.plan.whiten,
            views.plan.remove_above,
            workers=workers,
            on_error=on_error,
            progress=progress and (lambda done, total: progress("embedding states", done, total, {})),
        )
        network.model.cpu()
    if started_outside():
        change = fabric.broadcast(change)
    assert change is not None  # the first process has made it
    return change


def _checker(prepared: Prepared, workers: int) -> Checker:
    views = prepared.views
    wider = StateViews(prepared.manifold, views.slides, states=0, held_out=2, seed=views.seed)
    return Checker(prepared.source, prepared.held_out, wider, tile_px=views.tile_px, seed=views.seed, workers=workers)


def _look(
    fabric: Fabric, prepared: Prepared, encoder: TorchEncoder, workers: int
) -> Callable[[torch.nn.Module], dict[str, float]]:
    """Return what looks at a model in the first process, and tells all of them."""
    device = str(fabric.device)
    checker = _checker(prepared, workers) if fabric.is_global_zero else None

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


def _held_out(check: Mapping[str, float]) -> HeldOut:
    return HeldOut(**{key: value for key, value in check.items() if key != "step"})


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
