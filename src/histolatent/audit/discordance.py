"""Pairs of tiles on which eye and encoder disagree: alike but far apart, and different but close together."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from .._types import Matrix
from ..errors import InputError, OptionError
from ..images.similarity import structural_similarity
from ..neighbors import find_neighbors
from ..provenance import stream
from ..spectrum import check_vectors, is_constant
from ..stats import share_above
from .appearance import check_thumbnails, describe_appearance, stain_planes
from .displacement import cosine_distances
from .dose import spearman

#: Range of a stain's density for the constants of SSIM; stained tissue hardly exceeds it.
DENSITY_RANGE = 2.0
REFERENCE_PAIRS = 5000
NEIGHBOURS = 5
SHOWN = 20


@dataclass(frozen=True)
class Discordance:
    """Discordant pairs, the strongest first, and how far image and embedding agree at all.

    `alike_but_far` and `different_but_close` have one row per pair: `first` and `second` (rows of the input),
    `image_rank` and `latent_rank` (share of random pairs that are closer, 0 to 1), `disagreement` (the latent rank less
    the image rank, -1 to 1), `ssim`, `appearance` and `latent` (the distances themselves). `agreement` is the Spearman
    correlation of image and latent distance over the random pairs. With a `reason` there are no pairs.
    """

    alike_but_far: pd.DataFrame
    different_but_close: pd.DataFrame
    agreement: float
    pairs: int
    reason: str | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return all pairs in one table, with their `kind`."""
        parts = {"alike but far": self.alike_but_far, "different but close": self.different_but_close}
        return pd.concat([frame.assign(kind=kind) for kind, frame in parts.items()], ignore_index=True)


@dataclass(frozen=True)
class _Pairs:
    first: np.ndarray
    second: np.ndarray
    ssim: np.ndarray
    appearance: np.ndarray
    latent: np.ndarray


def discordant_pairs(
    vectors: Matrix,
    thumbnails: UInt8[np.ndarray, "..."],
    *,
    shown: int = SHOWN,
    reference: int = REFERENCE_PAIRS,
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
) -> Discordance:
    """Rank pairs of tiles by the disagreement of image distance and latent distance.

    `vectors` is `(n, d)`, `thumbnails` `(n, h, w, 3)` uint8 of the same tiles, 32 to 96 px a side. `reference` random
    pairs are measured, and a distance becomes its rank among them. Image rank is the mean of two: of 1 - SSIM of the
    stain planes, and of the Euclidean distance of colour-and-texture descriptors. Latent distance is cosine.
    Candidates are the random pairs, and the `neighbours` nearest tiles of each in the descriptor and in the embedding;
    no n x n matrix is held. A tile appears in one pair of each list only, so that one odd tile does not fill it.

    Misleads: some pair is the most discordant in any embedding. Read the list beside `agreement`, and look at the
    tiles: an encoder may be right that two tiles that look alike at thumbnail size are not.

    Raises
    ------
    InputError
        If there are fewer than 10 tiles, their number differs, thumbnails are not RGB or under 16 px, or vectors hold
        NaN.
    OptionError
        If `shown`, `reference` or `neighbours` is not positive.
    """
    _check(vectors, thumbnails, shown=shown, reference=reference, neighbours=neighbours)
    if is_constant(vectors):
        nothing = _table(_Pairs(*(np.empty(0),) * 5), np.empty(0), np.empty(0))
        reason = "every tile has practically the same embedding: no two tiles are further apart than others"
        return Discordance(nothing, nothing, float("nan"), 0, reason)
    planes = stain_planes(thumbnails)
    appearance = describe_appearance(planes)
    random = _random_pairs(len(vectors), reference, seed)
    close = _paired(find_neighbors(vectors, min(neighbours, len(vectors) - 1)).plain.index)
    every = np.concatenate([random, _similar_pairs(appearance, neighbours), close])
    candidates, places = np.unique(every, axis=0, return_inverse=True)
    drawn = places.ravel()[: len(random)]
    pairs = _measure(candidates, planes, appearance, vectors)
    image = (_ranks(-pairs.ssim, drawn) + _ranks(pairs.appearance, drawn)) / 2
    latent = _ranks(pairs.latent, drawn)
    table = _table(pairs, image, latent)
    agreement = spearman(image[None, drawn], latent[drawn])[0]
    return Discordance(
        _strongest(table, shown, sign=1), _strongest(table, shown, sign=-1), float(agreement), len(candidates)
    )


def _check(vectors: Matrix, thumbnails: np.ndarray, **counts: int) -> None:
    check_thumbnails(thumbnails)
    check_vectors(vectors, least=10)
    if len(vectors) != len(thumbnails):
        raise InputError("vectors and thumbnails are not of the same tiles", received=(len(vectors), len(thumbnails)))
    for name, count in counts.items():
        if count < 1:
            raise OptionError(f"{name} is not a number of things", received=count, valid="1 or more")


def _random_pairs(n: int, count: int, seed: int) -> Int[np.ndarray, "p 2"]:
    """Return up to `count` different pairs in ascending order; all of them if there are no more."""
    every = n * (n - 1) // 2
    if every <= count:
        return np.stack(np.triu_indices(n, 1), axis=1)
    random = stream(seed, "pairs", n)
    first = random.integers(0, n, 2 * count)
    second = (first + random.integers(1, n, 2 * count)) % n
    pairs = np.sort(np.stack([first, second], axis=1), axis=1)
    kept = np.sort(np.unique(pairs, axis=0, return_index=True)[1])[:count]  # in the order of the draw
    return pairs[kept]


def _similar_pairs(appearance: Float[np.ndarray, "n e"], k: int) -> Int[np.ndarray, "p 2"]:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(k, len(appearance) - 1)).fit(appearance)
    return _paired(search.kneighbors(return_distance=False))


def _paired(near: Int[np.ndarray, "n k"]) -> Int[np.ndarray, "p 2"]:
    """Return each row with each of its neighbours, the smaller number first."""
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    return np.sort(np.stack([rows, near.ravel()], axis=1), axis=1)


def _measure(pairs: Int[np.ndarray, "p 2"], planes: np.ndarray, appearance: np.ndarray, vectors: np.ndarray) -> _Pairs:
    first, second = pairs.T
    away = np.linalg.norm(appearance[first] - appearance[second], axis=1)
    latent = np.concatenate(
        [
            cosine_distances(vectors[first[i : i + 4096]], vectors[second[i : i + 4096]])
            for i in range(0, len(first), 4096)
        ]
    )
    return _Pairs(first, second, structural_similarity(planes, first, second, value_range=DENSITY_RANGE), away, latent)


def _ranks(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the share of the drawn values that are below each value, ties half."""
    return 1 - share_above(values, values[drawn])


def _table(pairs: _Pairs, image: np.ndarray, latent: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "first": pairs.first.astype(int),
            "second": pairs.second.astype(int),
            "disagreement": latent - image,
            "image_rank": image,
            "latent_rank": latent,
            "ssim": pairs.ssim,
            "appearance": pairs.appearance,
            "latent": pairs.latent,
        }
    )


def _strongest(table: pd.DataFrame, shown: int, *, sign: int) -> pd.DataFrame:
    """Return the rows of the strongest disagreement of one sign, no tile twice."""
    order = np.argsort(-sign * table["disagreement"].to_numpy(), kind="stable")
    first, second = table["first"].to_numpy(), table["second"].to_numpy()
    strength = sign * table["disagreement"].to_numpy()
    used: set[int] = set()
    kept: list[int] = []
    for row in order:
        if len(kept) == shown or strength[row] <= 0:
            break
        pair = {int(first[row]), int(second[row])}
        if used.isdisjoint(pair):
            used |= pair
            kept.append(int(row))
    return table.iloc[kept].reset_index(drop=True)
