"""Classes of slides by attention: which tiles of a slide count is learnt with the class. Imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..._types import Codes
from ...errors import InputError
from ...probes import grouped_folds
from ...provenance import stream
from ..cohort import Cohort
from .heads import Read, copies_of, slides_of
from .task import Task

FOLDS = 3


@dataclass(frozen=True)
class BagPlan:
    """How the attention is trained, the same for every method."""

    width: int = 64
    steps: int = 200
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    tiles: int = 256


class Attention(nn.Module):
    """Gated attention over the tiles of a slide, and a class from the mean that it weighs.

    Ilse, Tomczak & Welling 2018, ICML.
    """

    def __init__(self, dim: int, classes: int, width: int) -> None:
        super().__init__()
        self.values, self.gates, self.weight = nn.Linear(dim, width), nn.Linear(dim, width), nn.Linear(width, 1)
        self.head = nn.Linear(dim, classes)

    def forward(self, tiles: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Return the scores of bags `(b, n, d)`, one for each class; `there` `(b, n)` says which places hold a tile."""
        scores = self.weight(torch.tanh(self.values(tiles)) * torch.sigmoid(self.gates(tiles)))[..., 0]
        shares = torch.softmax(scores.masked_fill(~there, -torch.inf), dim=1)
        return self.head((shares[..., None] * tiles).sum(dim=1))


def read_bags(task: Task, cohort: Cohort, read: Read, *, plan: BagPlan | None = None, seed: int = 0) -> pd.DataFrame:
    """Return a row for each slide: at unseen sites by what was trained on all slides of the source, there in folds.

    Augmented copies of a slide's tiles are trained on as slides of their own.

    Raises
    ------
    InputError
        If the slides of the source cannot be split by patient so that every class is trained on.
    """
    plan, slides = plan or BagPlan(), slides_of(task, cohort)
    names, codes = np.unique(slides.labels, return_inverse=True)
    bags = [read.vectors[rows] for rows in slides.rows]
    copies = {row: copies_of(cohort, read, slides.rows[row]) for row in slides.trained}

    def fit_and_ask(trained: np.ndarray, asked: np.ndarray) -> np.ndarray:
        own = [bag for row in trained for bag in (bags[row], *copies[row])]
        classes = np.repeat(codes[trained], 1 + len(read.copies))
        network = train_attention(own, classes, len(names), plan, seed=seed)
        return np.stack([network(bags[row]) for row in asked])

    parts = []
    for site, asked in slides.asked.items():
        if asked is slides.trained:
            folds = grouped_folds(codes[asked], slides.groups[asked], FOLDS, seed)
            if not folds:
                raise InputError(
                    f"the task {task.name} cannot be read: patients of the source cannot be split so that every class "
                    "is trained on",
                    fix="take a cohort with more patients of each class, or leave the task out",
                )
            chances = np.zeros((len(asked), len(names)))
            for train, test in folds:
                chances[test] = fit_and_ask(asked[train], asked[test])
        else:
            chances = fit_and_ask(slides.trained, asked)
        parts.append(_rows(site, asked, slides.groups[asked], codes[asked], chances))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained attention, with what standardises its tiles."""

    network: Attention
    mean: np.ndarray
    sd: np.ndarray

    def __call__(self, bag: np.ndarray) -> np.ndarray:
        """Return the probability of each class."""
        with torch.inference_mode():
            tiles = torch.from_numpy(((bag - self.mean) / self.sd).astype(np.float32))
            scores = self.network(tiles[None], torch.ones(1, len(tiles), dtype=torch.bool))[0]
            return torch.softmax(scores, dim=0).numpy()


def train_attention(bags: Sequence[np.ndarray], codes: Codes, classes: int, plan: BagPlan, *, seed: int) -> Trained:
    """Train on bags `(n, d)` with a class each; classes count alike, and `plan.tiles` of a bag are seen at a time."""
    tiles = np.concatenate(bags)
    mean, sd = tiles.mean(axis=0), tiles.std(axis=0)
    sd = np.where(sd > 1e-6 * np.abs(tiles).max(axis=0), sd, np.inf)
    ready = [torch.from_numpy(((bag - mean) / sd).astype(np.float32)) for bag in bags]
    weights = len(codes) / (classes * np.maximum(np.bincount(codes, minlength=classes), 1))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = Attention(len(mean), classes, plan.width)
    loss = nn.CrossEntropyLoss(torch.from_numpy(weights.astype(np.float32)))
    optimiser = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
    random = stream(seed, "bags")
    for _ in range(plan.steps):
        rows = random.permutation(len(ready))[: plan.batch_size]
        seen = [ready[row][random.permutation(len(ready[row]))[: plan.tiles]] for row in rows]
        there = nn.utils.rnn.pad_sequence([torch.ones(len(bag), dtype=torch.bool) for bag in seen], batch_first=True)
        scores = network(nn.utils.rnn.pad_sequence(seen, batch_first=True), there)
        optimiser.zero_grad()
        loss(scores, torch.from_numpy(codes[rows])).backward()
        optimiser.step()
    return Trained(network.eval(), mean, sd)


def _rows(site: str, units: np.ndarray, groups: Codes, truth: Codes, chances: np.ndarray) -> pd.DataFrame:
    columns: Mapping[str, object] = {
        "site": site,
        "unit": units,
        "group": groups,
        "truth": truth,
        "predicted": chances.argmax(axis=1),
        "score": chances[:, -1],
    }
    return pd.DataFrame(columns)
