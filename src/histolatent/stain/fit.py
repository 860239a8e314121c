"""Fit staining: pixels of many tiles in, one frozen model out."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from ..errors import InputError, OptionError, unknown
from .colour import SPACES, to_space
from .density import check_white
from .macenko import macenko_vectors, tail_percentile
from .model import FAINTEST, FARTHEST_DEGREES, FEWEST_TISSUE, ColourModel, Fit, Reason, StainModel
from .pixels import as_bytes, read_levels
from .tissue import DEFAULT_WHITE, Densities, Pixels, absorbing, background_level, densities, tissue
from .vahadane import CODE_PENALTY, sparse_codes, vahadane_vectors
from .vectors import (
    MACENKO_REFERENCE,
    RUIFROK,
    STAIN_SETS,
    Rows,
    angle,
    angles_to,
    canonical_vectors,
    check_vectors,
    complete,
    lead,
    order_stains,
    unit_rows,
    unmixing,
)

CLOSEST_DEGREES = 6.0
#: How straight the way from one fitted vector to the other must lead from the first stain to the second (see `_lead`).
LEAST_LEAD = 0.1
NEARER_TO_DAB_DEGREES = 5.0
CLEARLY_DAB_DEGREES = 20.0
#: How many pixels are looked at: of each tile of a slide, and of a tile that is fitted alone.
SAMPLE, TILE_SAMPLE = 4096, 16384
#: 0.15 in natural-log density, as in the code lineage of torchstain and squidpy. Read as log10, as HistomicsTK does,
#: the 0.15 of Macenko's paper is 0.345 in natural logarithm.
BETA = 0.15
METHODS = ("fixed", "macenko", "vahadane")


@dataclass(frozen=True)
class Sample:
    """Pixels of one tile that a fit looks at.

    `outside` holds pixels that a mask left out: where there is a mask, it says what is tissue, and background is looked
    for outside it only. None without a mask.
    """

    pixels: Pixels
    outside: Pixels | None = None


def sample_pixels(
    image: np.ndarray, mask: np.ndarray | None = None, *, limit: int | None = SAMPLE, layout: str = "HWC"
) -> Sample:
    """Return the pixels of an image, or of its mask: all of them, or every k-th, which leaves about `limit`.

    Raises
    ------
    InputError
        If the image is not usable (see `read_levels`), or the mask is not one of bool, or has another shape.
    OptionError
        If the limit is not positive.
    """
    tile = as_bytes(read_levels(image, layout))
    if limit is not None and limit < 1:
        raise OptionError("a limit of pixels is a positive number, or None", received=limit)
    if mask is None:
        step = _step(tile.shape[0] * tile.shape[1], limit, tile.shape[1])
        if step > 1:
            return Sample(np.ascontiguousarray(tile.reshape(-1, 3)[::step].T))
        return Sample(np.stack(cv2.split(tile)).reshape(3, -1))
    if mask.dtype != bool:
        raise InputError("a mask is an array of bool, true where tissue is", received=mask.dtype, fix="mask > 0")
    if mask.shape != tile.shape[:2]:
        raise InputError("the mask has another shape than the tile", received=mask.shape, valid=tile.shape[:2])
    inside, pixels = mask.ravel(), np.stack(cv2.split(tile)).reshape(3, -1)
    return Sample(_thin(pixels[:, inside], limit, 1), _thin(pixels[:, ~inside], limit, 1))


def _thin(pixels: Pixels, limit: int | None, width: int) -> Pixels:
    return np.ascontiguousarray(pixels[:, :: _step(pixels.shape[1], limit, width)])


def _step(count: int, limit: int | None, width: int) -> int:
    step = 1 if limit is None else max(1, -(-count // limit))
    while step > 1 and math.gcd(step, width) > 1:  # or else the same columns would be taken from every row
        step += 1
    return step


@dataclass(frozen=True)
class _Setting:
    """What is the same for all tiles of a fit."""

    method: str
    stains: str
    canonical: Rows
    #: Densities to canonical amounts, as rows.
    unmix: Float[np.ndarray, "3 3"]
    white: Float[np.ndarray, "3"]
    white_source: Literal["background", "default", "given"]
    offset: Literal[0, 1]
    beta: float
    alpha: float


@dataclass(frozen=True)
class _Tissue:
    """The pixels of a tile that count, their densities, and mean colour and number of all that is not background."""

    pixels: Pixels
    density: Densities
    stained_colour: Float[np.ndarray, "3"]
    stained_pixels: int


@dataclass(frozen=True)
class _OneTile:
    """What one tile says."""

    reason: Reason
    vectors: Rows | None
    tissue: _Tissue


def fit_samples(
    samples: Sequence[Sample],
    method: str = "macenko",
    *,
    stains: str = "H&E",
    vectors: Any = None,
    white: Any = None,
    offset: Literal[0, 1] = 0,
    beta: float = BETA,
    alpha: float = 1.0,
) -> StainModel:
    """Fit one model to samples of the tiles of a slide.

    I0 is estimated over all samples, unless `white` gives it. Vectors are fitted to each tile alone; their median over
    the tiles that are valid, at length 1, is the slide's. `max_concentrations` is over the tissue of those tiles
    together. `method` is `macenko`, `vahadane` or `fixed`; `vectors` gives your own,
    whose angles are to those of `stains`, if there are as many. `stains` is `H&E`, `H-DAB` or,
    with `fixed` only, `H&E-DAB`. Macenko's vectors are fitted where every channel has a natural-log density of `beta`
    or more, at the `alpha` and `100 - alpha` percentiles of the angle. `offset` 1 adds 1 to every level before the
    logarithm, as torchstain does.

    A fit that is not usable is no error: `reason` says why, and normalising with it changes nothing.

    Raises
    ------
    InputError
        If there are no samples.
    OptionError
        If an option is unknown or out of range.
    """
    setting = _set_up(samples, method, stains, vectors, white, offset, beta, alpha)
    tiles = [_fit_tile(sample, setting) for sample in samples]
    used = [tile for tile in tiles if tile.reason == "ok"]
    if not used:
        reason: Reason = Counter[Reason](tile.reason for tile in tiles).most_common(1)[0][0]
        return _build(setting, setting.canonical, [], tiles, reason)
    fitted = [tile.vectors for tile in used if tile.vectors is not None]
    if len(fitted) == 1:
        return _build(setting, fitted[0], used, tiles, "ok")
    rows = unit_rows(np.median(fitted, axis=0))
    reason = _judge(rows, setting) if setting.method in ("macenko", "vahadane") else "ok"
    if reason != "ok":  # vectors that are usable one by one, and not when they are taken together
        return _build(setting, setting.canonical, [], tiles, reason)
    return _build(setting, rows, used, tiles, "ok")


def fit_stains(
    images: Iterable[np.ndarray], method: str = "macenko", *, layout: str = "HWC", **options: Any
) -> StainModel:
    """Fit one model to the tiles of a slide, which are read once and not kept. Options as in `fit_samples`.

    Looks at 4,096 pixels of each tile, on a grid, and holds 12 kB a tile.
    """
    return fit_samples([sample_pixels(image, layout=layout) for image in images], method, **options)


def fit_tile(
    image: np.ndarray,
    method: str = "macenko",
    *,
    mask: np.ndarray | None = None,
    limit: int | None = TILE_SAMPLE,
    layout: str = "HWC",
    **options: Any,
) -> StainModel:
    """Fit a model to one image: to about `limit` pixels on a grid, or all of them. Options as in `fit_samples`.

    With `mask` the masked pixels are the tissue, and background is looked for among the others.

    Misleads as a model of a slide: fitted tile by tile, the same pixel comes out differently in overlapping tiles.
    """
    return fit_samples([sample_pixels(image, mask, limit=limit, layout=layout)], method, **options)


def fit_colour_samples(samples: Sequence[Sample], space: str = "lab", *, white: Any = None) -> ColourModel:
    """Fit mean and standard deviation of the tissue in a colour space (`lab`, `ruderman`) over samples of tiles.

    Tissue is what `fit_samples` takes for tissue of H&E. Population standard deviation.
    """
    if space not in SPACES:
        raise unknown("colour space", space, SPACES)
    setting = _set_up(samples, "fixed", "H&E", None, white, 0, BETA, 1.0)
    found = [_tissue(sample, setting) for sample in samples]
    pixels = np.concatenate([one.pixels for one in found], axis=1)
    reason: Reason = "ok" if pixels.shape[1] >= FEWEST_TISSUE else "too-little-tissue"
    values = (
        to_space(np.ascontiguousarray(pixels.T)[None], space)[0].astype(np.float64) if pixels.size else np.zeros((1, 3))
    )
    sd = values.std(axis=0)
    if reason == "ok" and sd.min() < 1e-3 * SPACES[space]:
        reason = "flat-colour"
    return ColourModel(
        space=space,  # pyright: ignore[reportArgumentType]
        mean=_triple(values.mean(axis=0)),
        sd=_triple(sd),
        **_common(setting, found, len(samples), len(samples) if reason == "ok" else 0, reason),
    )


def fit_colour(images: Iterable[np.ndarray], space: str = "lab", *, layout: str = "HWC", **options: Any) -> ColourModel:
    """Fit mean and standard deviation of the tissue of a slide's tiles. See `fit_colour_samples`."""
    return fit_colour_samples([sample_pixels(image, layout=layout) for image in images], space, **options)


def find_tissue(sample: Sample, fit: Fit) -> tuple[Int[np.ndarray, " _k"], Bool[np.ndarray, " _m"]]:
    """Return where a sample's tissue is, by the stains and the white of a fit, and which pixels are not background."""
    if isinstance(fit, StainModel):
        canonical = fit.rows if fit.method == "given" else unit_rows([RUIFROK[name] for name in fit.stains])
    else:
        canonical = canonical_vectors()
    density = densities(sample.pixels, np.array(fit.white), fit.offset)
    return tissue(sample.pixels, density, np.linalg.inv(complete(canonical)).T, len(canonical))


def _set_up(
    samples: Sequence[Sample],
    method: str,
    stains: str,
    vectors: Any,
    white: Any,
    offset: Literal[0, 1],
    beta: float,
    alpha: float,
) -> _Setting:
    if not samples:
        raise InputError("there are no tiles to fit staining to")
    if method not in METHODS:
        raise unknown("separation method", method, METHODS)
    canonical = canonical_vectors(stains)
    if vectors is not None:
        method, canonical = "given", check_vectors(vectors)
    elif method != "fixed" and len(canonical) != 2:
        raise OptionError(f"{method} finds two stains", received=stains, valid="H&E, H-DAB", fix="--method fixed")
    if not (0 <= beta < 3 and 0 < alpha < 50 and offset in (0, 1)):
        raise OptionError(
            "an option of the fit is out of range",
            received=f"beta {beta}, alpha {alpha}, offset {offset}",
            valid="beta 0 to 3 (natural log), alpha above 0 and below 50 (percent), offset 0 or 1",
        )
    source: Literal["background", "default", "given"] = "given"
    if white is None:
        looked_at = [sample.pixels if sample.outside is None else sample.outside for sample in samples]
        found = background_level(np.concatenate([_thin(pixels, SAMPLE, 1) for pixels in looked_at], axis=1))
        source = "default" if found is None else "background"
        level = np.array(DEFAULT_WHITE) if found is None else found
    else:
        level = check_white(white)
    return _Setting(
        method,
        stains,
        canonical,
        np.linalg.inv(complete(canonical)).T,
        level,
        source,
        offset,
        float(beta),
        float(alpha),
    )


def _tissue(sample: Sample, setting: _Setting) -> _Tissue:
    pixels, density = sample.pixels, densities(sample.pixels, setting.white, setting.offset)
    if sample.outside is not None:
        return _Tissue(pixels, density, _mean(pixels), pixels.shape[1])
    chosen, absorbs = tissue(pixels, density, setting.unmix, len(setting.canonical))
    all_stained = pixels.compress(absorbs, axis=1)
    return _Tissue(pixels.take(chosen, axis=1), density.take(chosen, axis=1), _mean(all_stained), all_stained.shape[1])


def _fit_tile(sample: Sample, setting: _Setting) -> _OneTile:
    found = _tissue(sample, setting)
    if found.pixels.shape[1] < FEWEST_TISSUE:
        return _OneTile("too-little-tissue", None, found)
    if setting.method in ("fixed", "given"):
        return _OneTile("ok", setting.canonical, found)
    if setting.method == "macenko":
        opaque = absorbing(found.pixels, setting.white, setting.offset, setting.beta)
        density = found.density.take(np.flatnonzero(opaque), axis=1)
        rows = macenko_vectors(density, setting.alpha) if density.shape[1] >= FEWEST_TISSUE else None
    else:
        rows = vahadane_vectors(found.pixels, found.density, setting.canonical)
    if rows is None:
        return _OneTile("one-stain", None, found)
    rows = order_stains(rows, setting.canonical)
    return _OneTile(_judge(rows, setting), rows, found)


def _judge(rows: Rows, setting: _Setting) -> Reason:
    """Return what is wrong with fitted vectors, if anything."""
    apart = angle(rows[0], rows[1])
    if apart < CLOSEST_DEGREES:
        return "one-stain"
    to_dab = angle(rows[1], np.array(RUIFROK["dab"]))
    to_eosin = angle(rows[1], np.array(MACENKO_REFERENCE["eosin"]))
    brown = setting.stains == "H&E" and to_dab + NEARER_TO_DAB_DEGREES < to_eosin
    # DAB itself is more than 45 degrees from canonical eosin: the reason that helps comes first.
    if brown and to_dab < CLEARLY_DAB_DEGREES:
        return "looks-like-dab"
    if max(angle(row, true) for row, true in zip(rows, setting.canonical, strict=True)) > FARTHEST_DEGREES:
        return "far-from-canonical"
    to_first, to_second = angles_to(rows, setting.stains)
    # Both ends of a fan of the second stain alone, such as bone in eosin, lie about that stain.
    about_second = to_second[0] < to_first[0] and to_second[1] < to_first[1]
    if about_second and to_second[0] <= to_second[1]:
        return "one-stain"
    if lead(rows, setting.stains) < LEAST_LEAD:
        return "unclear-order"
    return "looks-like-dab" if brown else "ok"


def _amounts(density: Densities, rows: Rows, method: str) -> np.ndarray:
    if method == "vahadane":
        return sparse_codes(density, rows.astype(np.float32), CODE_PENALTY)
    return unmixing(rows).T.astype(np.float32) @ density


def _build(setting: _Setting, rows: Rows, used: list[_OneTile], tiles: list[_OneTile], reason: Reason) -> StainModel:
    largest = np.zeros(len(rows))
    if used:
        amounts = _amounts(np.concatenate([tile.tissue.density for tile in used], axis=1), rows, setting.method)
        largest = np.array([max(tail_percentile(column, 99.0), 0.0) for column in amounts])
        if setting.method in ("macenko", "vahadane") and largest.min() < FAINTEST:
            reason = "one-stain"
    turned = [
        [angle(*pair) for pair in zip(tile.vectors, rows, strict=True)] for tile in used if tile.vectors is not None
    ]
    spread = np.median(turned, axis=0) if len(turned) > 1 else np.zeros(len(rows))
    names = (
        STAIN_SETS[setting.stains] if setting.method != "given" else tuple(f"stain {k + 1}" for k in range(len(rows)))
    )
    known = canonical_vectors(setting.stains)
    canonical = known if len(known) == len(rows) else setting.canonical
    return StainModel(
        method=setting.method,  # pyright: ignore[reportArgumentType]
        stains=names,
        vectors=tuple(_triple(row) for row in rows),
        max_concentrations=tuple(round(float(value), 6) for value in largest),
        canonical_degrees=tuple(round(angle(row, true), 3) for row, true in zip(rows, canonical, strict=True)),
        spread_degrees=tuple(round(float(value), 3) for value in spread),
        **_common(setting, [tile.tissue for tile in used or tiles], len(tiles), len(used), reason),
    )


def _common(setting: _Setting, found: Sequence[_Tissue], tiles: int, used: int, reason: Reason) -> dict[str, Any]:
    pixels = np.concatenate([one.pixels for one in found], axis=1)
    weights = np.array([one.stained_pixels for one in found], float)
    colours = np.array([one.stained_colour for one in found])
    return {
        "white": _triple(setting.white),
        "white_source": setting.white_source,
        "offset": setting.offset,
        "tissue_colour": _triple(_mean(pixels)),
        "stained_colour": _triple(weights @ colours / max(weights.sum(), 1.0)),
        "tissue_pixels": pixels.shape[1],
        "tiles": tiles,
        "tiles_used": used,
        "reason": reason,
    }


def _mean(pixels: Pixels) -> Float[np.ndarray, "3"]:
    return pixels.mean(axis=1) if pixels.size else np.zeros(3)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = (round(float(value), 6) for value in values)
    return first, second, third
