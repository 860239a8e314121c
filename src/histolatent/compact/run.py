"""Train an encoder from tiles of one source: prepare, train, check, keep. Imports torch."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ..encoders import Encoder
from ..encoders.mapped import map_encoder
from ..encoders.maps import LinearMap
from ..encoders.torch_models import TorchEncoder
from ..errors import OptionError
from ..images import TileSource, select_rows
from ..outputs import remove
from ..provenance import environment, now
from ..training.processes import Told, launch, make_fabric, started_outside
from .backbones import finished, make_backbone, pooled, resizing
from .guards import Finding, HeldOut, judge
from .last_map import STATES, fit_last_map
from .loop import run_loop
from .plan import CompactionPlan
from .prepared import Prepared, prepare
from .showing import Shown, show
from .states import StateViews
from .training import make_decoder


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run left: encoder, curves, what the checks saw, what is wrong with it, provenance, and what to look at."""

    encoder: Encoder
    history: tuple[Mapping[str, float], ...]
    checks: tuple[Mapping[str, float], ...]
    findings: tuple[Finding, ...]
    card: Mapping[str, Any]
    shown: Shown


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
            workers=workers + 1 if workers else 0,  # nothing is trained meanwhile
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
    left = launch(fabric, run_loop, *given, told=progress) if started_here else run_loop(fabric, *given, progress)
    outcome = torch.load(io.BytesIO(left), weights_only=True, map_location="cpu")
    backbone, untrained = (make_backbone(plan.backbone, views.tile_px, views.seed) for _ in range(2))
    backbone.encoder.model.load_state_dict(outcome["weights"])
    notes = f"Trained on {prepared.source.name} alone, by latent manifold compaction. Research use."
    network = finished(
        backbone.encoder, name=f"{plan.backbone} compacted", source="latent manifold compaction", notes=notes
    )
    network = pooled(network, plan.pooling, backbone.grid_dim)
    change = _last_map(fabric, prepared, network, folder, workers, on_error, progress) if plan.has_last_map else None

    def mapped(base: TorchEncoder) -> Encoder:
        return base if change is None else map_encoder(base, None, change, called=base.card.name, notes=notes)

    encoder = mapped(network)
    checks = outcome["checks"]
    first, trained = _held_out(checks[0]), _held_out(next(c for c in checks if c["step"] == outcome["of_step"]))
    last = prepared.checker(workers)(encoder) if plan.has_last_map else trained
    findings = tuple(judge(last, trained=trained, before=first))
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
    if started_outside():
        fabric.barrier()  # the first process removes the tiles that others still read
    # Until here crops were embedded as they are; from here on tiles are, of any size.
    return Trained(
        mapped(resizing(network, plan.input_px)), tuple(outcome["history"]), tuple(checks), findings, card, shown
    )


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


def _held_out(check: Mapping[str, float]) -> HeldOut:
    return HeldOut(**{key: value for key, value in check.items() if key != "step"})
