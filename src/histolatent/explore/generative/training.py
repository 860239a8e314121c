"""Train a generative model on tiles: read once, train, look at tiles kept out, keep. Imports torch."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int
from lightning_fabric import Fabric
from torch import nn

from ..._types import Tile, Tiles
from ...encoders import Encoder, EncoderCard
from ...encoders.conv_latent import ConvLatent, embed_conv_latent
from ...encoders.embed import embed_views
from ...encoders.preprocess import prepare
from ...encoders.torch_models import TorchEncoder, weights_digest
from ...errors import InputError, TrainingError
from ...images import ChangedTiles, TileSource, keep_tiles, select_rows, spaced
from ...provenance import canonical_json, digest, environment, now, stream
from ...training.checkpoint import CHECKPOINT, keep, resume
from ...training.holdout import leave_out, make_folds
from ...training.processes import Told, make_fabric
from ...training.rates import rate_at
from .model import GenerativeModel, sized
from .networks import TileDecoder, divergence, misfit
from .plan import GenerativePlan, Kind

#: Ways a tile is turned and mirrored; a decoder of a frozen encoder is shown the first few of them.
SYMMETRIES, SHOWN = 8, 4
#: Tiles that are looked at when a checkpoint is written.
LOOKED = 256
#: Turns of a tile, tiles, and numbers at most, that principal components are fitted to; which of them are rounding.
TURNED, FITTED, MOST_VALUES, FLAT = 4, 4096, 2**27, 1e-3
#: Strengths of the regression of components on vectors that are given.
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)
FEWEST = 16


@dataclass(frozen=True)
class Turns:
    """The tile, mirrored and upside down: views of the size that it has."""

    names: tuple[str, ...] = tuple(f"turn {k}" for k in range(SHOWN))

    def __call__(self, tile: Tile, tile_id: str, mpp: float | None) -> list[Tile]:
        """Return all of them."""
        return [np.ascontiguousarray(turned(tile, k)) for k in range(SHOWN)]


@dataclass(frozen=True, eq=False)
class Data:
    """Tiles at the size that is trained on, who is kept out, and vectors of each in several turns for a decoder.

    `train` and `held_out` are rows of `tiles`.
    """

    tiles: TileSource
    train: Int[np.ndarray, " _t"]
    held_out: Int[np.ndarray, " _h"]
    column: str
    vectors: Float32[np.ndarray, "n k d"] | None = None

    def turned(self, rows: Int[np.ndarray, " _m"], turns: Int[np.ndarray, " _m"]) -> Tiles:
        """Return tiles of rows, each in its turn."""
        return np.stack([turned(self.tiles.read(int(row)), int(k)) for row, k in zip(rows, turns, strict=True)])


def train_generative(
    source: TileSource,
    kind: Kind,
    plan: GenerativePlan,
    folder: Path,
    *,
    on: Encoder | None = None,
    called: str = "",
    seed: int = 0,
    device: str | None = None,
    workers: int = 0,
    on_error: str = "stop",
    progress: Told | None = None,
) -> GenerativeModel:
    """Train an autoencoder (`ae`), a variational one (`vae`), or a `decoder` of the vectors of an encoder `on`.

    What is kept for resuming lies in `folder`: tiles at their size, and a checkpoint. The same call again goes on, with
    the same weights on a CPU as if it had not stopped. `called` is the string that loads `on`.

    Raises
    ------
    InputError
        If there are fewer than 16 tiles, or a tile cannot be read.
    TrainingError
        If the loss is no longer a number; the last good checkpoint stays.
    OutputError
        If a checkpoint of another plan is there, or the disk is full.
    """
    fabric = make_fabric(device, plan.training.precision)
    data = _read(source, plan, folder, on, seed, workers, on_error, progress)
    networks, encoder = _networks(kind, plan, on, data, seed)
    if not (folder / CHECKPOINT).exists():
        begin_linear(networks, data, plan, seed)
    history, checks = _run(fabric, networks, kind, plan, data, folder, seed, source, progress)
    network, base = networks["decoder"], on
    assert isinstance(network, TileDecoder)
    if encoder is not None:
        base = _finished(encoder, source.name, kind)
    assert base is not None  # there is one, or it was trained
    card = {
        "created": now(),
        "plan": plan.model_dump(mode="json"),
        "seed": seed,
        "source": {"name": source.name, "tiles": len(data.train), "held_out": len(data.held_out)},
        "held_out_by": data.column,
        "shown": [str(data.tiles.table.index[row]) for row in spaced(data.held_out, LOOKED)],
        "on": called or None,
        "encoder": base.card.identity,
        "history": history,
        "checks": checks,
        "environment": environment(),
    }
    return GenerativeModel(kind, base, network.cpu().eval().requires_grad_(False), card)


def keep_prepared(
    source: TileSource,
    tile_px: int,
    folder: Path,
    *,
    workers: int = 0,
    on_error: str = "stop",
    progress: Callable[[int, int], None] | None = None,
) -> TileSource:
    """Return the tiles of a source at one size, kept in `folder`; those that cannot be read are left out.

    See `keep_tiles` for its errors.
    """
    changed = ChangedTiles(source, partial(prepare, preprocessing=sized(tile_px)))
    return keep_tiles(changed, folder / f"{tile_px} px", workers=workers, on_error=on_error, progress=progress)


def _read(
    source: TileSource,
    plan: GenerativePlan,
    folder: Path,
    on: Encoder | None,
    seed: int,
    workers: int,
    on_error: str,
    progress: Told | None,
) -> Data:
    tiles = keep_prepared(
        source,
        plan.tile_px,
        folder,
        workers=workers,
        on_error=on_error,
        progress=progress and (lambda done, total: progress("reading tiles", done, total, {})),
    )
    if len(tiles.table) < FEWEST:
        raise InputError("too few tiles to train on", received=len(tiles.table), valid=f"{FEWEST}, better thousands")
    folds, column = make_folds(tiles.table, max(2, round(1 / plan.training.held_out)), seed)
    held_out, train = leave_out(folds, plan.training.held_out)
    vectors = None
    if on is not None:
        there = source.table.index.get_indexer(tiles.table.index)
        embedded = embed_views(
            select_rows(source, there),
            [on],
            [folder / "vectors"],
            views=Turns(),
            workers=workers,
            progress=progress and (lambda done, total: progress("embedding tiles", done, total, {})),
        )
        vectors = np.array(embedded.stores[0].vectors())
    return Data(tiles, train, held_out, column, vectors)


def turned(tile: np.ndarray, k: int) -> np.ndarray:
    """Return a tile as it is (0), mirrored (1), and upside down (2, 3); from 4 on turned by 90 degrees as well."""
    tile = tile[:, ::-1] if k & 1 else tile
    tile = tile[::-1] if k & 2 else tile
    return np.rot90(tile) if k & 4 else tile


def _networks(
    kind: Kind, plan: GenerativePlan, on: Encoder | None, data: Data, seed: int
) -> tuple[nn.ModuleDict, TorchEncoder | None]:
    """Return what is trained, with seeded weights; torch's global random state is neither used nor changed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if kind == "decoder":
            assert on is not None and data.vectors is not None  # a decoder is of some encoder's vectors
            decoder = TileDecoder(plan.tile_px, on.card.dim, plan.mending, plan.blocks)
            shown = torch.from_numpy(data.vectors[data.train].reshape(-1, on.card.dim))
            decoder.shift.copy_(shown.mean(dim=0))
            decoder.scale.copy_(shown.std(dim=0).clamp(min=1e-6))
            return nn.ModuleDict({"decoder": decoder}), None
        model = ConvLatent(plan.tile_px, plan.latent, plan.widths, variational=kind == "vae")
        decoder = TileDecoder(plan.tile_px, plan.latent, plan.mending, plan.blocks)
    card = EncoderCard(
        name=kind,
        kind="folder",
        source=kind,
        dim=plan.latent,
        preprocessing=sized(plan.tile_px),
        revision=f"seed {seed}",
        licence="that of the tiles",
        domain="pathology",
    )
    recipe = {
        "builder": "conv-latent",
        "tile_px": plan.tile_px,
        "widths": list(plan.widths),
        "variational": kind == "vae",
    }
    encoder = TorchEncoder(card, model, embed_conv_latent, "cpu", recipe)
    return nn.ModuleDict({"encoder": model, "decoder": decoder}), encoder


def begin_linear(networks: nn.ModuleDict, data: Data, plan: GenerativePlan, seed: int) -> None:
    """Set what is linear in the networks: principal components of training tiles in all turns, of unit variance.

    A decoder of given vectors foretells the components from these, by ridge regression. What training then adds is what
    components miss: they are the best that a linear map of so many numbers can do, so it starts from there.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV

    random = stream(seed, "components")
    values = 3 * plan.tile_px**2
    turns = SYMMETRIES if data.vectors is None else SHOWN
    pairs = np.stack(np.divmod(random.permutation(len(data.train) * turns), turns), axis=1)
    pairs = pairs[: min(len(data.train) * TURNED, FITTED, MOST_VALUES // values)]
    rows = data.train[pairs[:, 0]]
    images = data.turned(rows, pairs[:, 1]).transpose(0, 3, 1, 2).reshape(len(rows), values).astype(np.float32) / 255
    fitted: Any = PCA(min(plan.latent, len(images) - 1), svd_solver="randomized", random_state=seed).fit(images)
    spreads = np.sqrt(np.maximum(fitted.explained_variance_, 0)).astype(np.float32)
    kept = spreads > FLAT * spreads[0]
    axes, spreads = fitted.components_[kept].astype(np.float32), spreads[kept]
    decoder = networks["decoder"]
    assert isinstance(decoder, TileDecoder)
    decoder.middle.copy_(torch.from_numpy(fitted.mean_.astype(np.float32)))
    if data.vectors is None:
        encoder = networks["encoder"]
        assert isinstance(encoder, ConvLatent)
        # The encoder sees pixels from -1 to 1.
        encoder.centre.copy_(decoder.middle * 2 - 1)
        encoder.axes[:, : len(axes)].copy_(torch.from_numpy(axes.T / spreads / 2))
        decoder.rows[: len(axes)].copy_(torch.from_numpy(axes * spreads[:, None]))
        return
    given = (data.vectors[rows, pairs[:, 1]] - decoder.shift.numpy()) / decoder.scale.numpy()
    wanted = (images - fitted.mean_) @ axes.T
    foretold: Any = RidgeCV(alphas=PENALTIES, fit_intercept=False).fit(given, wanted)
    decoder.rows.copy_(torch.from_numpy(foretold.coef_.T.astype(np.float32) @ axes))


def _finished(encoder: TorchEncoder, source: str, kind: Kind) -> TorchEncoder:
    model = encoder.model.cpu().eval().requires_grad_(False)
    found = weights_digest(model)
    notes = f"Trained on {source} as the encoder of an autoencoder ({kind}). Research use."
    card = encoder.card.model_copy(update={"weights_sha256": found, "revision": f"sha256:{found[:16]}", "notes": notes})
    return replace(encoder, card=card, model=model)


def _run(
    fabric: Fabric,
    networks: nn.ModuleDict,
    kind: Kind,
    plan: GenerativePlan,
    data: Data,
    folder: Path,
    seed: int,
    source: TileSource,
    progress: Told | None,
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Train from the start or from a checkpoint; return costs by step, and what held-out tiles cost at checks."""
    settings = plan.training
    latent = plan.latent if data.vectors is None else data.vectors.shape[2]
    step = _Step(networks, kind, plan)
    optimizer = torch.optim.AdamW(step.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    wrapped, optimizer = fabric.setup(step, optimizer)
    facts = {"kind": kind, "plan": plan.model_dump(mode="json", exclude={"about"}), "seed": seed}
    identity = canonical_json({**facts, "tiles": digest(source.table.to_csv())})
    state: dict[str, Any] = {
        "networks": wrapped,
        "optimizer": optimizer,
        "step": 0,
        "history": [],
        "checks": [],
        "identity": identity,
    }
    if (folder / CHECKPOINT).exists():
        resume(fabric, folder / CHECKPOINT, state, identity)
    for rows in _batches(data.train, settings.batch_size, seed, state["step"], settings.steps):
        at = state["step"]
        for group in optimizer.param_groups:
            group["lr"] = rate_at(at, settings.steps, settings.warmup, settings.learning_rate)
        wrapped.train()
        optimizer.zero_grad()
        cost, parts = wrapped(*_seen(data, rows, latent, seed, at, fabric.device))
        if not math.isfinite(cost.item()):
            raise TrainingError(
                "the loss is no longer a number",
                received=f"step {at + 1}",
                valid=f"the last good state is kept in {folder / CHECKPOINT}" if state["checks"] else None,
                fix="lower training.learning_rate, and run again with --restart",
            )
        fabric.backward(cost)
        optimizer.step()
        state["step"] = at + 1
        state["history"].append({"step": at + 1, **parts})
        if progress:
            progress("training", at + 1, settings.steps, parts)
        if (at + 1) % settings.check_every == 0 or at + 1 == settings.steps:
            state["checks"].append({"step": at + 1, **_look(wrapped, data, latent, seed, fabric.device)})
            if progress:
                progress("checked", at + 1, settings.steps, state["checks"][-1])
            keep(fabric, folder / CHECKPOINT, state)
    return state["history"], state["checks"]


class _Step(nn.Module):
    """What a step costs."""

    def __init__(self, networks: nn.ModuleDict, kind: Kind, plan: GenerativePlan) -> None:
        super().__init__()
        self.networks, self.kind, self.plan = networks, kind, plan

    def forward(
        self, images: torch.Tensor, vectors: torch.Tensor | None, noise: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the cost, and its parts; `noise` is standard normal, as vectors are."""
        parts: dict[str, float] = {}
        extra, decoder = images.new_zeros(()), self.networks["decoder"]
        if vectors is None:
            encoder = self.networks["encoder"]
            assert isinstance(encoder, ConvLatent)
            latent, spread = encoder.latent(encoder(images * 2 - 1))
            latent = latent.float()
            if spread is None:
                extra = self.plan.shrink * latent.square().mean()
            else:
                spread = spread.float().clamp(-12, 6)
                told = divergence(latent, spread)
                parts["divergence"] = float(told.detach())
                extra = self.plan.beta * told / images[0].numel()
                latent = latent + noise * (0.5 * spread).exp() if self.training else latent
        else:
            assert isinstance(decoder, TileDecoder)
            latent = vectors + self.plan.noise * decoder.scale * noise if self.training else vectors
        decoded = decoder(latent).float()
        cost = misfit(decoded, images, self.plan.bands)
        parts["misfit"] = float(cost.detach())
        parts["psnr"] = float(-10 * torch.log10((decoded.detach() - images).square().mean().clamp(min=1e-9)))
        return cost + extra, parts


def _batches(rows: np.ndarray, size: int, seed: int, first: int, last: int) -> Iterator[np.ndarray]:
    """Yield the rows of each step, from `first` to before `last`: all of them once an epoch, as far as they fill."""
    size = min(size, len(rows))
    per_epoch = len(rows) // size
    for step in range(first, last):
        epoch, place = divmod(step, per_epoch)
        order = stream(seed, "order", epoch).permutation(len(rows))
        yield rows[order[place * size : (place + 1) * size]]


def _seen(
    data: Data, rows: np.ndarray, latent: int, seed: int, step: int, device: torch.device, *, turn: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Return tiles from 0 to 1, turned at random, their vectors if they are given, and noise."""
    random = stream(seed, "seen", step)
    turns = random.integers(SHOWN if data.vectors is not None else SYMMETRIES, size=len(rows)) * turn
    images = torch.from_numpy(data.turned(rows, turns)).to(device).permute(0, 3, 1, 2).float().div(255)
    vectors = None
    if data.vectors is not None:
        vectors = torch.from_numpy(data.vectors[rows, turns]).to(device)
    noise = torch.from_numpy(random.standard_normal((len(rows), latent), np.float32)).to(device)
    return images, vectors, noise


def _look(step: nn.Module, data: Data, latent: int, seed: int, device: torch.device) -> dict[str, float]:
    """Return what held-out tiles cost, as they are."""
    step.eval()
    rows = data.held_out[:LOOKED]
    with torch.inference_mode():
        parts = step(*_seen(data, rows, latent, seed, -1, device, turn=False))[1]
    return {f"held_out_{name}": value for name, value in parts.items()}
