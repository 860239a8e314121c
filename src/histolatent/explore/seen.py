"""Attributes as decoded tiles show them, and moves that change one of them and hold others. Imports torch.

A straight direction knows what vectors have in common. What a picture shows of an attribute need not be straight in the
space: where nuclei stand is in every number of an autoencoder's vectors, how large they are in none. Here the attribute
is read in the decoded tile, and the way there is found at each place, by gradients through the decoder.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import nn

from .._types import Codes, Matrix
from ..errors import InputError
from ..provenance import stream
from .attributes import Attribute
from .decoding import Differentiable
from .directions import Way
from .reading import ReadCard, judge_reading

#: Channels of the untrained convolutions, each at half the side of the last; looks that a move is led by, in turn.
WIDTHS, LOOKS = (12, 24, 48), 4
#: Numbers that a look sees: two of each channel, of the tile and of the layers.
SEEN = 2 * (3 + sum(WIDTHS))
#: Tiles that readers are fitted to at most; tiles that effects are measured on; tiles decoded at a time.
FITTED, ASKED, BATCH = 2000, 32, 64
#: Penalties of the ridge regression on standardised features.
PENALTIES = tuple(10.0**power for power in np.arange(-2, 5.5, 0.5))
DEALT = 100
#: A step, as a share of the attribute's spread; the least change of what is read for a change of the attribute.
STEP, LEAST_GAIN = 0.25, 0.05
#: What has to be left of an attribute's slope beside those that are held; the longest step, as a share of the radius.
LEFT, LONGEST = 1e-3, 0.2
SMALL = 1e-6


class Look(nn.Module):
    """Untrained convolutions: means and root mean squares over places of each layer, and of each channel of the tile.

    Images `(n, 3, h, w)` from 0 to 1 to `(n, 174)`: nothing is learnt, and another seed sees other things.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, width in itertools.pairwise((3, *WIDTHS)):
            weight = torch.randn(width, before, 3, 3, generator=random) * math.sqrt(2 / (9 * before))
            self.weights.append(nn.Parameter(weight, requires_grad=False))
            self.biases.append(nn.Parameter(0.3 * torch.randn(width, generator=random), requires_grad=False))

    def forward(self, images: Float[torch.Tensor, "n 3 h w"]) -> Float[torch.Tensor, "n _f"]:
        """Return what is seen."""
        found, seen = [colours(images)], images * 2 - 1
        for weight, bias in zip(self.weights, self.biases, strict=True):
            seen = torch.relu(nn.functional.conv2d(seen, weight, bias, padding=1))
            found += [seen.mean(dim=(2, 3)), (seen.square().mean(dim=(2, 3)) + SMALL).sqrt()]
            seen = nn.functional.avg_pool2d(seen, 2) if min(seen.shape[2:]) > 1 else seen
        return torch.cat(found, dim=1)


def colours(images: Float[torch.Tensor, "n 3 h w"]) -> Float[torch.Tensor, "n 6"]:
    """Return mean and standard deviation of each channel."""
    return torch.cat([images.mean(dim=(2, 3)), (images.var(dim=(2, 3)) + SMALL).sqrt()], dim=1)


@dataclass(frozen=True, eq=False)
class Seen:
    """Decoded tiles of a space as several looks see them: those to move by, and a last that judges what came of it.

    `radius` is how far tiles lie from their mean, as root mean square.
    """

    decoder: Differentiable
    looks: tuple[Look, ...]
    rows: Codes
    features: tuple[Float[np.ndarray, "m _f"], ...]
    radius: float
    device: str


def look_at(decoder: Differentiable, vectors: Matrix, *, seed: int = 0) -> Seen:
    """Decode tiles of a space, up to 2,000 of them, and look at them in several ways."""
    device = str(getattr(decoder, "device", "cpu"))
    rows = np.sort(stream(seed, "looked at").permutation(len(vectors))[:FITTED])
    looks = tuple(Look((LOOKS + 1) * seed + k).to(device) for k in range(LOOKS + 1))
    radius = float(np.sqrt(vectors.var(axis=0, dtype=np.float64).sum()))
    return Seen(decoder, looks, rows, _features(decoder, looks, vectors[rows], device), radius, device)


def _features(
    decoder: Differentiable, looks: Sequence[Look], vectors: np.ndarray, device: str
) -> tuple[np.ndarray, ...]:
    """Decode vectors, and return what each look sees, `(m, f)`."""
    parts: list[list[np.ndarray]] = [[] for _ in looks]
    with torch.inference_mode():
        for start in range(0, len(vectors), BATCH):
            batch = np.ascontiguousarray(vectors[start : start + BATCH], np.float32)
            images = decoder.images(torch.from_numpy(batch).to(device)).clamp(0, 1)
            for look, part in zip(looks, parts, strict=True):
                part.append(look(images).double().cpu().numpy())
    return tuple(np.concatenate([np.empty((0, SEEN)), *part]) for part in parts)


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads an attribute in what a look sees, in the attribute's units. `spread` is that of what it reads."""

    weights: Float[np.ndarray, " _f"]
    bias: float
    spread: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return what is read."""
        return features @ self.weights + self.bias


@dataclass(frozen=True, eq=False)
class SeenDirection:
    """A move that changes what a decoded tile shows of an attribute, and holds its colours and `held`.

    At each place it is the shortest change of the vector that does so: $J^+ \\delta$, with J the slopes of what is read
    and $\\delta$ the change that is asked, in steps of a quarter of the attribute's spread. A move of 1 `unit` changes
    what is read by `gain`, as much as it differs between tiles that differ by 1. Looks take turns from step to step, so
    that what one of them alone takes for the attribute is not what changes; `judge` reads it by one that has no turn.

    Where the decoder cannot draw so much of it, a move ends short: `value` says how far it came. Misleads: what changes
    is what a reader takes for the attribute; `seen_effects` says what another reader sees of it.
    """

    name: str
    unit: str
    seen: Seen
    readers: tuple[Reader, ...]
    judge: Reader
    gain: float
    card: ReadCard
    deviation: float
    spread: float = 1.0
    held: tuple["SeenDirection", ...] = ()
    notes: tuple[str, ...] = ()
    positive: str | None = None

    def __repr__(self) -> str:
        return f"SeenDirection({self.name!r}, 1 = {self.unit})"

    @property
    def dim(self) -> int:
        """Length of the vectors that it moves."""
        return self.seen.decoder.dim

    @property
    def encoder(self) -> str | None:
        """Identity of the encoder whose vectors it moves; None where it is not known."""
        return self.seen.decoder.encoder

    def without(self, *others: "SeenDirection") -> "SeenDirection":
        """Return the move that holds what others show, too.

        Raises
        ------
        InputError
            If one is of another decoder, or a straight direction.
        """
        for other in others:
            if not isinstance(other, SeenDirection) or other.seen is not self.seen:
                raise InputError(
                    f"{other.name} is not seen in the same decoded tiles as {self.name}",
                    fix="fit both with kind 'seen', in one space",
                )
        said = f"leaves {', '.join(other.name for other in others)} as they are"
        return replace(self, held=(*self.held, *others), notes=(*self.notes, said))

    def value(self, vectors: Float[np.ndarray, "*_m d"]) -> np.ndarray:
        """Return what is read of the decoded tiles of vectors, in the attribute's units: the mean of all looks."""
        given = np.asarray(vectors, np.float32)
        flat = given.reshape(-1, self.dim)
        seen = _features(self.seen.decoder, self.seen.looks[:LOOKS], flat, self.seen.device)
        found = [reader(features) for reader, features in zip(self.readers, seen, strict=True)]
        return np.mean(found, axis=0).reshape(given.shape[:-1])

    def moved(self, vectors: Float[np.ndarray, "*m d"], amount: float) -> Float[np.ndarray, "*m d"]:
        """Return vectors moved by `amount` units of the attribute.

        Raises
        ------
        InputError
            If nothing is left of the attribute beside what is held.
        """
        given = np.asarray(vectors, np.float64)
        flat = given.reshape(-1, self.dim)
        parts = [self._move(flat[start : start + BATCH], amount) for start in range(0, len(flat), BATCH)]
        return np.concatenate([flat[:0], *parts]).reshape(given.shape)

    def _move(self, vectors: np.ndarray, amount: float) -> np.ndarray:
        if not amount:
            return vectors
        device, own = self.seen.device, self.readers[0].spread
        spreads = torch.tensor(self.seen.features[0][:, :6].std(axis=0), dtype=torch.float32).clamp(min=SMALL)
        spreads = spreads.to(device)
        weights = [
            torch.tensor(
                np.stack([each.readers[look].weights / each.readers[0].spread for each in (self, *self.held)], axis=1),
                dtype=torch.float32,
                device=device,
            )
            for look in range(LOOKS)
        ]

        def read(places: torch.Tensor, look: int) -> torch.Tensor:
            images = self.seen.decoder.images(places).clamp(0, 1)
            # Colours are had from the images, so that their slopes need not come back through the look.
            return torch.cat([self.seen.looks[look](images) @ weights[look], colours(images) / spreads], dim=1)

        places = torch.from_numpy(vectors.astype(np.float32)).to(device)
        with torch.no_grad():
            wanted = [read(places, look) for look in range(LOOKS)]
        for values in wanted:
            values[:, 0] += amount * self.gain / own
        steps = max(LOOKS, math.ceil(abs(amount) / (STEP * self.spread)))
        # A last round of steps mends what curvature and the other looks left over.
        for step, left in enumerate((*range(steps, 0, -1), *[1] * LOOKS)):
            look = step % LOOKS
            asked = places.detach().requires_grad_(True)
            found = read(asked, look)
            slopes = torch.stack(
                [torch.autograd.grad(each.sum(), asked, retain_graph=True)[0] for each in found.unbind(dim=1)], dim=1
            )
            change = wanted[look] - found.detach()
            change[:, 0] /= left
            places = asked.detach() + self._shortest(slopes.double(), change.double()).float()
        return places.cpu().numpy().astype(np.float64)

    def _shortest(self, slopes: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Return the shortest moves that change what is read as asked, `(n, d)`, none longer than a step may be."""
        first, rest = slopes[:, :1], slopes[:, 1:]
        gram = slopes @ slopes.transpose(1, 2)
        scale = gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None].clamp(min=1e-12)
        gram = gram + SMALL * scale * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        beside = (first @ rest.transpose(1, 2)) @ torch.linalg.solve(gram[:, 1:, 1:], rest @ first.transpose(1, 2))
        if float((1 - (beside / gram[:, :1, :1]).flatten()).max()) < LEFT:
            raise InputError(
                f"nothing is left of {self.name} beside what is held",
                received=", ".join(["the tile's colours", *(other.name for other in self.held)]),
                fix="hold fewer, or ones that do not say the same",
            )
        move = (slopes.transpose(1, 2) @ torch.linalg.solve(gram, change[:, :, None]))[:, :, 0]
        longest = LONGEST * self.seen.radius
        return move * (longest / move.norm(dim=1, keepdim=True).clamp(min=longest))


def fit_seen(seen: Seen, given: Attribute, *, seed: int = 0) -> SeenDirection:
    """Fit what reads an attribute in decoded tiles, and return the move that changes it. See `SeenDirection`.

    Readers are ridge regressions on what untrained convolutions see, with confounders regressed out of the attribute.

    Raises
    ------
    InputError
        If the attribute is known of fewer than ten of the tiles that were looked at.
    """
    own, asked = np.intersect1d(seen.rows, given.rows, return_indices=True)[1:]
    if len(own) < 10:
        raise InputError(f"{given.name} is known of too few tiles", received=len(own), valid="10 or more")
    given = given.at(asked)
    told = np.linalg.lstsq(given.design, given.values, rcond=None)[0]
    left = given.values - given.design[:, 1:] @ told[1:]
    looks = [features[own] for features in seen.features]
    *readers, judge = (_fit(features, left) for features in looks)
    card, gain = _judge(looks[:LOOKS], given, left, seed)
    return SeenDirection(
        given.name,
        given.unit,
        seen,
        tuple(readers),
        judge,
        gain,
        card,
        float(given.values.std()),
        given.spread,
        notes=(
            *given.notes,
            *(() if card.believable or card.untested else (f"decoded tiles do not show {given.name}",)),
        ),
        positive=given.positive,
    )


def _fit(features: Matrix, y: np.ndarray) -> Reader:
    from sklearn.linear_model import RidgeCV

    mean, scale = _scale(features)
    made = RidgeCV(alphas=PENALTIES).fit((features - mean) / scale, y)
    weights = made.coef_ / scale
    return Reader(weights, float(made.intercept_ - mean @ weights), max(float((features @ weights).std()), SMALL))


def _scale(features: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return what features are standardised by; those that do not vary count for nothing."""
    spread = features.std(axis=0)
    return features.mean(axis=0), np.where(spread < SMALL, np.inf, spread)


def _judge(looks: Sequence[Matrix], given: Attribute, left: np.ndarray, seed: int) -> tuple[ReadCard, float]:
    """Return what is read on other groups, and by how much what is read differs where the attribute differs by 1."""
    from sklearn.linear_model import Ridge

    def read(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return np.mean([_fit(features[train], left[train])(features[test]) for features in looks], axis=0)

    def read_dealt(train: np.ndarray, test: np.ndarray, whose: np.ndarray) -> np.ndarray:
        mean, scale = _scale(looks[0][train])
        made = Ridge(alpha=len(train)).fit((looks[0][train] - mean) / scale, left[whose])
        return made.predict((looks[0][test] - mean) / scale)

    card, scores = judge_reading(given, read, read_dealt, times=DEALT, seed=seed)
    known = np.isfinite(scores)
    if not known.any():
        return card, 1.0
    gain = np.cov(scores[known], left[known], bias=True)[0, 1] / max(left[known].var(), SMALL**2)
    return card, float(np.clip(gain, LEAST_GAIN, 1))


def seen_effects(
    ways: Sequence[Way], readers: Sequence[SeenDirection], vectors: Matrix, *, seed: int = 0
) -> pd.DataFrame:
    """Return how much a move along each way (row) changes what decoded tiles show (column), in standard deviations.

    Tiles, 32 of them, are moved by the attribute's standard deviation, or from class to class. They are read by the
    judges of `readers`, which no move was led by. Standard deviations are of the attributes: what can hardly be seen
    changes little here, whatever is done.
    """
    rows = np.sort(stream(seed, "effects").permutation(len(vectors))[:ASKED])
    asked = vectors[rows].astype(np.float64)

    def read(places: np.ndarray) -> np.ndarray:
        spaces = dict.fromkeys(each.seen for each in readers)
        last = {seen: _features(seen.decoder, seen.looks[LOOKS:], places, seen.device)[0] for seen in spaces}
        return np.stack([each.judge(last[each.seen]) for each in readers])

    before = read(asked)
    spreads = np.array([each.deviation for each in readers])
    effects = [(read(way.moved(asked, way.spread)) - before).mean(axis=1) / spreads for way in ways]
    return pd.DataFrame(
        effects,
        index=pd.Index([way.name for way in ways], name="moved"),
        columns=pd.Index([each.name for each in readers], name="read"),
    )
