"""A map by a network with two numbers in its middle: an autoencoder of vectors. Imports torch."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from .._types import Matrix
from .graph import metric_rows

BATCH, RATE = 256, 2e-3
Other = Float[np.ndarray, "_m _d"]


def fit_bottleneck(
    vectors: Matrix, *, width: int = 128, epochs: int = 200, metric: str = "cosine", seed: int = 0
) -> dict[str, np.ndarray]:
    """Train `d - width - 2 - width - d` to give back standardised vectors; return what makes places of vectors.

    With the cosine as metric, vectors are divided by their lengths first. torch's global random state is neither used
    nor changed.
    """
    given = metric_rows(vectors.astype(np.float64), metric)
    mean, spread = given.mean(axis=0), np.maximum(given.std(), 1e-12)
    x = torch.from_numpy(((given - mean) / spread).astype(np.float32))
    d = x.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inward = nn.Sequential(nn.Linear(d, width), nn.Tanh(), nn.Linear(width, 2))
        outward = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, d))
        optimizer = torch.optim.Adam([*inward.parameters(), *outward.parameters()], lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                (outward(inward(x[rows])) - x[rows]).square().mean().backward()
                optimizer.step()
            schedule.step()
    first, last = inward[0], inward[2]
    parts = {"first": first.weight, "first_bias": first.bias, "last": last.weight, "last_bias": last.bias}
    kept = {name: np.asarray(part.tolist()) for name, part in parts.items() if isinstance(part, torch.Tensor)}
    return {**kept, "mean": mean, "spread": np.array(spread), "unit": np.array(float(metric == "cosine"))}


def apply_bottleneck(function: Mapping[str, np.ndarray], vectors: Other) -> Float[np.ndarray, "_m 2"]:
    """Return the places of vectors."""
    given = metric_rows(vectors.astype(np.float64), "cosine" if function["unit"] else "euclidean")
    x = (given - function["mean"]) / function["spread"]
    return np.tanh(x @ function["first"].T + function["first_bias"]) @ function["last"].T + function["last_bias"]
