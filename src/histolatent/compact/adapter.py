"""Compaction of a frozen encoder by a small residual network on its vectors. Imports torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from ..encoders.maps import ResidualMap
from ..errors import InputError
from .closed_form import Judged, Rows, judge_map
from .losses import ratio

#: Rows of a step are tiles with all their views; epochs without gain on the left-out fold before it stops.
BATCH, PATIENCE, MOST_EPOCHS, CHECK_EVERY = 128, 4, 400, 5
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2


@dataclass(frozen=True, eq=False)
class Adapted:
    """A residual map, what it and the identity did to the left-out fold, and the epochs that it took."""

    map: ResidualMap
    before: Judged
    after: Judged
    epochs: int

    def to_dict(self) -> dict[str, Any]:
        """Return what a card says of it, JSON-able."""
        return {"before": self.before.to_dict(), "after": self.after.to_dict(), "epochs": self.epochs}


class _Residual(nn.Module):
    """The map while it is trained; it starts as the identity."""

    def __init__(self, mean: np.ndarray, sd: np.ndarray, width: int) -> None:
        super().__init__()
        d = len(mean)
        self.mean, self.sd = (nn.Buffer(torch.from_numpy(x.astype(np.float32))) for x in (mean, sd))
        self.inward, self.outward = nn.Linear(d, width), nn.Linear(width, d)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.sd * self.outward(torch.relu(self.inward((x - self.mean) / self.sd)))

    def frozen(self) -> ResidualMap:
        with torch.no_grad():
            inward, outward = (layer.weight.T.numpy().copy() for layer in (self.inward, self.outward))
            bias, shift = (layer.bias.numpy().copy() for layer in (self.inward, self.outward))
            return ResidualMap(self.mean.numpy(), self.sd.numpy(), inward, bias, outward, shift)


def fit_adapter(
    vectors: Float[np.ndarray, "n v d"],
    fitted: Rows,
    judged: Rows,
    *,
    held_out: int = 2,
    width: int = 512,
    compaction: float = 1.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Adapted:
    r"""Train a residual map on the views of the rows `fitted`; stop by the rows `judged`.

    .. math:: \frac{\overline{\lVert A(x_{iv}) - x_{i0} \rVert^2}}{\operatorname{tr} \operatorname{Cov}(x_{i0})}
              + w\,\rho(A(x))

    The first term asks every view to become the tile's own embedding, so that what was trained on the source's
    embeddings goes on working; the second is the compaction ratio. View 0 is the tile, the last `held_out` views are
    states of a wider prior, on which the same sum decides when to stop. Deterministic on a CPU.

    Raises
    ------
    InputError
        If there are too few tiles.
    """
    if len(fitted) < 4 or len(judged) < 2:
        raise InputError(
            "too few tiles to train an adapter on",
            received=f"{len(fitted)} to fit and {len(judged)} to judge",
            valid="4 and 2 or more",
        )
    seen = torch.from_numpy(np.ascontiguousarray(vectors[fitted, : vectors.shape[1] - held_out]))
    kept = np.ascontiguousarray(vectors[judged])
    left = torch.from_numpy(kept[:, [0, *range(kept.shape[1] - held_out, kept.shape[1])]])
    tiles = seen[:, 0].double().numpy()
    spread = float(((tiles - tiles.mean(axis=0)) ** 2).sum(axis=1).mean())
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = _Residual(tiles.mean(axis=0), np.maximum(tiles.std(axis=0), 1e-6 * np.sqrt(spread)), width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def cost(views: torch.Tensor) -> torch.Tensor:
        moved = network(views)
        close = (moved - views[:, :1]).square().sum(dim=2).mean() / spread
        return close + compaction * ratio(moved.transpose(0, 1))

    best, best_cost, best_epoch = network.frozen(), float("inf"), 0
    for epoch in range(1, MOST_EPOCHS + 1):
        for rows in torch.randperm(len(seen), generator=generator).split(BATCH):
            if len(rows) < 2:
                continue
            optimizer.zero_grad()
            cost(seen[rows]).backward()
            optimizer.step()
        if progress:
            progress(epoch, MOST_EPOCHS)
        if epoch % CHECK_EVERY == 0:
            with torch.no_grad():
                now = float(cost(left))
            if now < best_cost:
                best, best_cost, best_epoch = network.frozen(), now, epoch
            elif epoch - best_epoch >= PATIENCE * CHECK_EVERY:
                break
    before, after = (judge_map(apply, kept, name) for apply, name in ((lambda x: x, 0.0), (best.apply, 1.0)))
    return Adapted(best, before, after, best_epoch)
