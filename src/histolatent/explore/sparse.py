"""The training of a sparse dictionary. Imports torch."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32

from ..training.processes import threads

RATE, DECAY = 3e-3, 0.2
#: Steps between looks for atoms that no tile uses any more; none is moved in the last third.
LOOKED = 200
Rows = Float32[np.ndarray, "n d"]


def train_dictionary(
    given: Rows,
    atoms: int,
    k: int,
    steps: int,
    batch_size: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what makes codes, `(d, a)` and `(a,)`, and the atoms, `(a, d)` of length 1.

    Steps are too small to be shared by threads, which would wait for each other where another process takes a core.
    """
    x = torch.from_numpy(given)
    random = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(atoms, x.shape[1], generator=random), dim=1)
    inward, bias = rows.T.clone().requires_grad_(True), torch.zeros(atoms, requires_grad=True)
    rows = rows.requires_grad_(True)
    optimizer = torch.optim.Adam([inward, bias, rows], lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - (1 - DECAY) * step / max(steps, 1))
    counts = torch.zeros(atoms)
    with threads(1):
        for step in range(steps):
            batch = x[torch.randint(len(x), (min(batch_size, len(x)),), generator=random)]
            raw = batch @ inward + bias
            kept, places = raw.topk(k, dim=1)
            codes = torch.zeros_like(raw).scatter(1, places, kept.clamp(min=0))
            optimizer.zero_grad()
            (codes @ rows - batch).square().sum(dim=1).mean().backward()
            optimizer.step()
            schedule.step()
            if progress:
                progress(step + 1, steps)
            with torch.no_grad():
                rows.div_(rows.norm(dim=1, keepdim=True).clamp(min=1e-8))
                counts += (codes > 0).sum(dim=0)
                if (step + 1) % LOOKED == 0 and step < 2 * steps / 3:
                    dead = torch.nonzero(counts == 0).flatten()
                    counts.zero_()
                    left = batch - codes @ rows
                    worst = left.square().sum(dim=1).topk(min(len(dead), len(left))).indices
                    for atom, row in zip(dead.tolist(), worst.tolist(), strict=False):
                        fresh = torch.nn.functional.normalize(left[row], dim=0)
                        rows[atom], inward[:, atom], bias[atom] = fresh, fresh, 0.0
    return (
        np.asarray(inward.detach().numpy(), np.float32).copy(),
        np.asarray(bias.detach().numpy(), np.float32).copy(),
        np.asarray(rows.detach().numpy(), np.float32).copy(),
    )
