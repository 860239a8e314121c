"""Make one slide look like another: a change of colour from a fit of the slide to a fit of the reference."""

import json
import warnings
from collections.abc import Mapping, Sequence
from colorsys import rgb_to_hsv
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from ..errors import OptionError, unknown
from .fit import Sample, find_tissue, fit_colour, fit_tile, sample_pixels
from .model import FAINTEST, FEWEST_TISSUE, NORMALIZERS, AnyFit, ColourModel, Fit, StainModel, need_valid
from .recolour import Change, ColourChange, DensityChange, NoChange, SpaceChange, SparseChange, change_levels, recolour
from .vahadane import CODE_PENALTY
from .vectors import complete, unmixing

FARTHEST_HUE = 40.0
#: A colour whose channels differ by fewer levels is grey, and its hue noise; with more than the second, it is coloured.
GREY, COLOURED = 8.0, 16.0


class PerTileWarning(UserWarning):
    """Fitting tile by tile, and what it costs."""


def colour_change(
    fit: Fit,
    reference: Fit,
    *,
    modified: bool = False,
    background: Literal["keep", "map"] = "keep",
    hue_limit: float = FARTHEST_HUE,
    signed: bool = False,
) -> ColourChange:
    """Return the change that gives tissue fitted as `fit` the look of `reference`.

    Stain models match the 99th percentiles of the amounts and swap the vectors. Amounts are least squares that are not
    negative; with `signed` those of `macenko` keep their sign, as in its code lineage, where blood and bone can come
    out white. The residual is dropped, and with it what is no stain; but vectors that are `fixed` or given leave too
    much over, so between such it is kept, and so is the sign. A stain of which there is next to none (below 0.1) is
    not blown up.
    Colour models match mean and standard deviation per component; `modified` (Roy et al. 2021, EUSIPCO) keeps the mean
    lightness, widens lightness by `1 + (sd_reference - sd) / sd_reference` (0.05 for what is not positive) and shifts a
    and b by their means.
    With `background="map"` empty slide is changed as tissue is.

    A fit that is not usable, or a change that would turn the mean hue of the fit's tissue, or of all that is not
    background, by more than `hue_limit` degrees of HSV, gives a NoChange with the reason. 180 lets every turn pass.
    Misleads for a fit over many tiles: one with pen may turn where their mean does not; see `tile_change`.

    Raises
    ------
    OptionError
        If the two fits are of different kinds or stains, or the reference is not usable.
    """
    need_valid(reference, "this fit")
    check_matching(background, hue_limit)
    if not fit.valid:
        return NoChange(fit.reason, fit.why)
    keep = background == "keep"
    change: Change
    if isinstance(fit, StainModel) and isinstance(reference, StainModel):
        change = _between_stains(fit, reference, keep, signed)
    elif isinstance(fit, ColourModel) and isinstance(reference, ColourModel):
        change = _between_colours(fit, reference, modified, keep)
    else:
        raise OptionError("a stain model and a colour model cannot be matched", fix="fit both with the same method")
    colours = {"the tissue": fit.tissue_colour, "all that is not background": fit.stained_colour}
    return _unless_flipped(change, colours, hue_limit)


def tile_change(
    image: np.ndarray,
    fit: Fit,
    change: ColourChange,
    *,
    hue_limit: float = FARTHEST_HUE,
    mixed: bool = False,
    layout: str = "HWC",
) -> ColourChange:
    """Return the change, made from the fit of a slide, for one of its tiles: or NoChange, if the tile is mostly ink.

    That is, if more than half of what is not background is of no colour that stains can mix, and its mean hue would
    turn by more than `hue_limit`. With `mixed`, where the fit is of tiles of several stainings, also if the mean hue of
    the tile's tissue, or of all that is not background, would turn so. Looks at 4,096 pixels on a grid. A tile that is
    left as it is differs from the ones that overlap it: the price of not painting ink in the colour of tissue.

    Misleads as a search for ink: red ink passes for eosin, and a tile that is mostly tissue is changed with its ink.
    """
    if isinstance(change, NoChange):
        return change
    sample = sample_pixels(image, layout=layout)
    chosen, stained = find_tissue(sample, fit)
    count = int(np.count_nonzero(stained))
    if count < FEWEST_TISSUE:
        return change
    if 2 * len(chosen) < count:
        other = stained.copy()
        other[chosen] = False
        ink = sample.pixels.compress(other, axis=1).mean(axis=1).tolist()
        found = _unless_flipped(change, {"the ink, which is most of the tile,": ink}, hue_limit)
        if isinstance(found, NoChange):
            return found
    return _unless_unsuited(sample, chosen, stained, change, hue_limit) if mixed else change


def _unless_unsuited(
    sample: Sample, chosen: np.ndarray, stained: np.ndarray, change: Change, limit: float
) -> ColourChange:
    """Return the change, or NoChange if it turns the hue of what a tile shows, or of its tissue."""
    parts = {"all that the tile shows": sample.pixels.compress(stained, axis=1)}
    if len(chosen) >= FEWEST_TISSUE:
        parts["the tile's tissue"] = sample.pixels.take(chosen, axis=1)
    for what, pixels in parts.items():
        row = np.ascontiguousarray(pixels.T)[None]
        after = np.minimum(change_levels(row, change), 255)[0].mean(axis=0).tolist()
        turn = _turn(row[0].mean(axis=0).tolist(), after)
        if turn > limit:
            return _flipped(what, turn, limit)
    return change


def check_matching(background: str, hue_limit: float) -> None:
    """Raise OptionError unless these are options of `colour_change`."""
    if background not in ("keep", "map"):
        raise OptionError("unknown treatment of the background", received=background, valid="keep, map")
    if not (0 < hue_limit <= 180):
        raise OptionError("the hue limit is out of range", received=hue_limit, valid="above 0, up to 180 degrees")


def normalize(image: np.ndarray, fit: Fit, reference: Fit, *, layout: str = "HWC", **options: Any) -> np.ndarray:
    """Return one image in the look of the reference, by the fit of its slide. Options as in `colour_change`.

    For many tiles of a slide, make the change once, and call `tile_change` and `recolour` for each.
    """
    return recolour(image, colour_change(fit, reference, **options), layout=layout)


def normalize_tile(
    image: np.ndarray, reference: Fit, method: str = "macenko", *, layout: str = "HWC", **options: Any
) -> tuple[np.ndarray, ColourChange]:
    """Fit and normalise one image by itself; return it with the change that was made (or NoChange, and why).

    Warns with PerTileWarning: neighbouring tiles get different changes, so that the same pixel differs between
    overlapping tiles, and a tile of lymphocytes is made as pink as one of muscle. Fit per slide where you can.
    """
    warnings.warn(
        PerTileWarning(
            "fitted to one tile: the same pixel comes out differently in the next tile, and what differs in tissue is "
            "taken for stain. Fit per slide with fit_stains or fit_colour where you can"
        ),
        stacklevel=2,
    )
    if method not in NORMALIZERS:
        raise unknown("normalisation method", method, NORMALIZERS)
    target = NORMALIZERS[method]
    fit = fit_tile(image, method, layout=layout, **options) if target == method else _tile_colour(image, target, layout)
    change = colour_change(fit, reference, modified=method == "reinhard-modified")
    return recolour(image, change, layout=layout), change


def reference_names() -> tuple[str, ...]:
    """Return the references that come with the package: numbers, not images."""
    return tuple(_shipped())


def shipped_reference(name: str, method: str) -> Fit:
    """Return a shipped reference for a normalisation method.

    `phantom` is the source site of the phantom; `macenko` the vectors and amounts of Macenko's code lineage, for
    `macenko` and `vahadane` only: it has no means of colours, and its vectors are none to swap with a fixed set.

    Raises
    ------
    OptionError
        If there is no such reference, or it has no numbers for this method.
    """
    shipped = _shipped()
    if name not in shipped:
        raise unknown("reference", name, shipped)
    if method not in NORMALIZERS:
        raise unknown("normalisation method", method, NORMALIZERS)
    fits = shipped[name]
    target = NORMALIZERS[method]
    if target not in fits:
        valid = ", ".join(other for other, needed in NORMALIZERS.items() if needed in fits)
        raise OptionError(f"the reference {name!r} has no numbers for {method}", valid=valid)
    return fits[target]


@cache
def _shipped() -> dict[str, dict[str, Fit]]:
    text = files("histolatent.stain").joinpath("references.json").read_text(encoding="utf-8")
    fits = TypeAdapter(dict[str, AnyFit])
    return {name: fits.validate_python(reference["fits"]) for name, reference in json.loads(text).items()}


def _tile_colour(image: np.ndarray, space: str, layout: str) -> ColourModel:
    return fit_colour([image], space, layout=layout)


def _between_stains(fit: StainModel, reference: StainModel, keep: bool, signed: bool) -> Change:
    named = "given" not in (fit.method, reference.method)
    if len(fit.stains) != len(reference.stains) or (named and fit.stains != reference.stains):
        raise OptionError(
            "the fit and the reference are of different stains",
            received=", ".join(fit.stains),
            valid=", ".join(reference.stains),
        )
    gains = np.array(reference.max_concentrations) / np.maximum(fit.max_concentrations, FAINTEST)
    white_in, white_out = np.array(fit.white), np.array(reference.white)
    if fit.method == "vahadane":
        return SparseChange(white_in, white_out, fit.rows, reference.rows, gains, CODE_PENALTY, fit.offset, keep)
    if {fit.method, reference.method} <= {"fixed", "given"}:
        # Vectors that were not fitted never fit exactly: what they leave over is colour too, and stays.
        gains = np.append(gains, np.ones(3 - len(gains)))
        matrix = (np.linalg.inv(complete(fit.rows)) @ (gains[:, None] * complete(reference.rows))).T
    elif signed or len(fit.stains) == 3:
        matrix = (unmixing(fit.rows) @ (gains[:, None] * reference.rows)).T
    else:
        return SparseChange(white_in, white_out, fit.rows, reference.rows, gains, 0.0, fit.offset, keep)
    return DensityChange(white_in, white_out, matrix, offset=fit.offset, keep_background=keep)


def _between_colours(fit: ColourModel, reference: ColourModel, modified: bool, keep: bool) -> SpaceChange:
    if fit.space != reference.space:
        raise OptionError("the two fits are in different colour spaces", received=fit.space, valid=reference.space)
    mean, sd = np.array(fit.mean), np.array(fit.sd)
    target_mean, target_sd = np.array(reference.mean), np.array(reference.sd)
    scale, about = target_sd / np.maximum(sd, 1e-9), target_mean
    if modified:
        wider = (target_sd[0] - sd[0]) / target_sd[0]
        scale = np.array([1 + (wider if wider > 0 else 0.05), 1.0, 1.0])
        about = np.array([mean[0], *target_mean[1:]])
    return SpaceChange(np.array(fit.white), fit.space, scale, about - scale * mean, keep)


def _unless_flipped(change: Change, colours: Mapping[str, Sequence[float]], limit: float) -> ColourChange:
    """Return the change, or NoChange if it turns the HSV hue of any of the colours by more than the limit.

    `colours` says in words what each of them is the mean of.
    """
    turns = {what: _hue_turn(colour, change) for what, colour in colours.items()}
    what = max(turns, key=lambda name: turns[name])
    return change if turns[what] <= limit else _flipped(what, turns[what], limit)


def _flipped(what: str, turn: float, limit: float) -> NoChange:
    return NoChange("hue-flip", f"the mean hue of {what} would turn by {turn:.1f} degrees, more than {limit:g}")


def _hue_turn(colour: Sequence[float], change: Change) -> float:
    """Return by how many degrees a change turns the hue of a colour."""
    return _turn(colour, change_levels(np.array([[colour]], np.float32), change)[0, 0].tolist())


def _turn(before: Sequence[float], after: Sequence[float]) -> float:
    """Return by how many degrees the HSV hue turns: 180 where grey becomes coloured."""
    if max(before) - min(before) < GREY:
        return 180.0 if max(after) - min(after) >= COLOURED else 0.0
    turn = 360 * (rgb_to_hsv(*after)[0] - rgb_to_hsv(*before)[0])
    return abs((turn + 180) % 360 - 180)
