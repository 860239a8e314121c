"""Random changes of staining for training: each is drawn as a frozen change, which `recolour` then applies.

Drawn from the seed and the tile's id alone, so that a tile gets the same change in any order, batch or worker. To get
another one in each epoch, put the epoch into the seed or the id. The torch path applies the same changes:
`histolatent.stain.tensors.recolour`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, Field

from ..errors import InputError, OptionError, unknown
from ..provenance import stream
from .colour import SPACES
from .density import check_white
from .fit import Sample, fit_colour, fit_colour_samples
from .model import FINITE, ColourModel, StainModel, Vector
from .normalize import colour_change
from .recolour import ColourChange, DensityChange, NoChange
from .tissue import DEFAULT_WHITE
from .vectors import canonical_vectors, complete

#: How far HED jitter goes, by name: HED-light and HED-strong of Tellez et al. 2019.
HED_STRENGTHS: Mapping[str, float] = MappingProxyType({"light": 0.05, "strong": 0.2})
#: How many virtual templates are drawn for a tile before it is left as it is.
MOST_DRAWS = 64

Positive = Annotated[float, Field(gt=0)]
Spread = Annotated[float, Field(ge=0)]


def hed_jitter(
    seed: int,
    tile_id: str | int,
    strength: str | float = "light",
    *,
    white: Any = DEFAULT_WHITE,
    background: str = "keep",
) -> DensityChange:
    r"""Draw a change of hematoxylin, eosin and DAB, each on its own: $s' = \alpha s + \beta$.

    $\alpha \sim U(1 - \sigma, 1 + \sigma)$ and $\beta \sim U(-\sigma, \sigma)$ for each of the three stains of Ruifrok
    and Johnston (`H&E-DAB`), in natural-log optical density along their unit vectors, where $\sigma$ is `strength`:
    `light` 0.05, `strong` 0.2, or a number above 0 and below 1. All strengths share their draws: a stronger jitter of
    the same tile goes further the same way.

    `white` is the level of empty slide, one or three; best that of the slide's fit (`StainModel.white`). The default of
    240 is that of the fits for slides without background: with the original's 255, glass of a usual scanner counts as
    pale tissue. With `background="keep"` glass keeps its colour: the bias acts on tissue only, and pixels fade from
    their own colour to the new one between optical densities of 0.05 and 0.15. The original adds the bias everywhere,
    which tints glass of level 243 by 6 levels on average when light, and 16 when strong: `white=255, background="map"`.

    Raises
    ------
    OptionError
        If an argument is unknown or out of range.

    Notes
    -----
    Misleads: 0.05 here is not 0.05 in scikit-image, whose stains are in units of 13.8 since version 0.18; there, the
    bias moves a pixel some ten times further. The third stain is DAB, so H&E tiles may turn a little yellow or blue;
    when strong, they leave what a laboratory would produce: pale tissue turns olive or salmon, beside glass that stays
    white. That is domain randomisation, not a model of staining.

    References
    ----------
    Tellez et al. 2019, Medical Image Analysis 58:101544, https://doi.org/10.1016/j.media.2019.101544.

    >>> change = hed_jitter(0, "tile-7")
    >>> bool((change.matrix == hed_jitter(0, "tile-7").matrix).all())
    True
    """
    sigma = _strength(strength)
    random = stream(seed, tile_id, "hed-jitter")
    gains, biases = sigma * random.uniform(-1.0, 1.0, (2, 3))
    return _stain_change(canonical_vectors("H&E-DAB"), 1 + gains, biases, check_white(white), 0, background)


def concentration_jitter(
    seed: int,
    tile_id: str | int,
    model: StainModel,
    *,
    gain_sd: float = 0.15,
    bias_sd: float = 0.03,
    background: str = "keep",
) -> ColourChange:
    r"""Draw a change of the amounts of a slide's own stains: $c' = e^{g} c + b$.

    $g \sim N(0, \text{gain\_sd}^2)$, so a stain is as often halved as doubled, and $b \sim N(0, \text{bias\_sd}^2)$ in
    natural-log optical density, for each stain of the fit. The residual stays as it is: no colour appears that the
    slide does not have. With `background="keep"` glass keeps its colour, and the bias acts on tissue only. Gains and
    biases share their draws over all spreads. A fit that is not usable gives a NoChange with the reason.

    Amounts are least squares, with their sign, for a Vahadane model too: sparse ones would lose the residual.

    Raises
    ------
    OptionError
        If a spread is negative or not finite, or another argument is unknown or out of range.

    >>> from histolatent.stain import shipped_reference
    >>> same = concentration_jitter(0, "tile-7", shipped_reference("phantom", "macenko"), gain_sd=0, bias_sd=0)
    >>> bool(np.allclose(same.matrix, np.eye(3)) and np.allclose(same.bias, 0))
    True
    """
    for name, sd in (("gain_sd", gain_sd), ("bias_sd", bias_sd)):
        if not (math.isfinite(sd) and sd >= 0):
            raise OptionError(f"{name} is no standard deviation", received=sd, valid="0 or more; 0.15 is usual")
    random = stream(seed, tile_id, "concentration-jitter")
    if not model.valid:
        _check_background(background)
        return NoChange(model.reason, model.why)
    stains = len(model.stains)
    draws = random.standard_normal((2, 3))[:, :stains]
    gains, biases = np.ones(3), np.zeros(3)
    gains[:stains], biases[:stains] = np.exp(gain_sd * draws[0]), bias_sd * draws[1]
    return _stain_change(complete(model.rows), gains, biases, np.array(model.white), model.offset, background)


class RandStainNAModel(BaseModel):
    """How the colours of a cohort's tissue vary: what virtual templates are drawn from.

    For each channel of `space`: mean and standard deviation, over `images`, of an image's mean (`mean_mean`, `mean_sd`)
    and of its standard deviation (`sd_mean`, `sd_sd`). `left_out` images were not usable. `model_dump_json` and
    `model_validate_json` write and read it.
    """

    model_config = FINITE

    format: Literal[1] = 1
    kind: Literal["randstainna"] = "randstainna"
    space: Literal["lab", "ruderman"]
    mean_mean: Vector
    mean_sd: tuple[Spread, Spread, Spread]
    sd_mean: tuple[Positive, Positive, Positive]
    sd_sd: tuple[Spread, Spread, Spread]
    images: int = Field(ge=2)
    left_out: int = Field(ge=0)


def fit_randstainna(
    images: Iterable[np.ndarray | Sample | ColourModel], space: str = "lab", *, white: Any = None, layout: str = "HWC"
) -> RandStainNAModel:
    """Fit the distribution of virtual templates to images, samples of them, or their colour fits.

    An image may be a tile, or a whole slide's ColourModel: what varies between them is what will be drawn. Statistics
    are over tissue, see `fit_colour`; images whose tissue is not usable are left out and counted. Standard deviations
    over images are of a sample (n - 1). `white` is the level of empty slide, looked up in each image if not given.

    Raises
    ------
    InputError
        If fewer than two images are usable.
    OptionError
        If the space is unknown, or a colour fit is in another one.

    Notes
    -----
    Misleads on a cohort of few tiles, or of one tissue: then the spread is that of biology, and none of staining.

    References
    ----------
    Shen et al. 2022, MICCAI, https://arxiv.org/abs/2206.12694.
    """
    if space not in SPACES:
        raise unknown("colour space", space, SPACES)
    fits = [_colours(image, space, white, layout) for image in images]
    used = [fit for fit in fits if fit.valid]
    if len(used) < 2:
        reasons = Counter(fit.reason for fit in fits if not fit.valid)
        why = "".join(f", {count} {reason}" for reason, count in sorted(reasons.items()))
        raise InputError(
            "virtual templates need at least two usable images",
            received=f"{len(fits)} images, {len(used)} usable{why}",
            fix="pass more tiles with tissue, from several slides",
        )
    means, sds = np.array([fit.mean for fit in used]), np.array([fit.sd for fit in used])
    return RandStainNAModel(
        space=space,  # pyright: ignore[reportArgumentType]
        mean_mean=_triple(means.mean(axis=0)),
        mean_sd=_triple(means.std(axis=0, ddof=1)),
        sd_mean=_triple(sds.mean(axis=0)),
        sd_sd=_triple(sds.std(axis=0, ddof=1)),
        images=len(used),
        left_out=len(fits) - len(used),
    )


def randstainna_change(
    image: np.ndarray | Sample | ColourModel,
    model: RandStainNAModel,
    seed: int,
    tile_id: str | int,
    *,
    white: Any = None,
    background: str = "keep",
    layout: str = "HWC",
) -> ColourChange:
    r"""Draw a virtual template, and return the change that matches an image's tissue to it as Reinhard's method does.

    The template has mean $A_c \sim N(\text{mean\_mean}_c, \text{mean\_sd}_c^2)$ and standard deviation
    $D_c \sim N(\text{sd\_mean}_c, \text{sd\_sd}_c^2)$ in each channel of the model's space, and a component becomes
    $(x - \mu_c) D_c / \sigma_c + A_c$, with $\mu$ and $\sigma$ of the tissue of the image, or of its slide if a
    ColourModel is passed. RGB in, RGB out.

    A template is drawn again, whole, while one of its $D_c$ is not positive, or the tissue's mean hue would turn by
    more than 40 degrees. So no bound collects draws: what is drawn is the normal, cut off there. If 64 templates fail,
    the image is unlike the cohort, and a NoChange says `hue-flip`. An image without enough tissue gives a NoChange with
    the fit's reason. With `background="keep"` glass keeps its colour.

    Raises
    ------
    OptionError
        If a ColourModel is of another space than the model, or another argument is unknown or out of range.

    Notes
    -----
    Misleads on a tile without glass if `white` is not given: pale tissue is taken for glass, keeps its colour, and gets
    a rim where it meets what changes. Misleads where tiles differ in tissue: a tile of lymphocytes is matched to the
    same templates as one of muscle; pass the slide's ColourModel in place of the tile to keep what differs within a
    slide. Channels are drawn independently, as in the original, so templates may be of colours that no slide of the
    cohort has, and a channel that hardly varies in the tile (often the third of `ruderman`) is stretched with its
    noise. The original also draws the space, of LAB, HSV and HED, takes statistics over all pixels, background
    included, and returns BGR.

    References
    ----------
    Shen et al. 2022, MICCAI, https://arxiv.org/abs/2206.12694.
    """
    _check_background(background)
    random = stream(seed, tile_id, "randstainna")
    fit = _colours(image, model.space, white, layout)
    change: ColourChange = NoChange(fit.reason, fit.why)
    for _ in range(MOST_DRAWS if fit.valid else 0):
        template = _draw_template(model, random)
        if template is None:
            continue
        change = colour_change(fit, template, background=background)  # pyright: ignore[reportArgumentType]
        if not isinstance(change, NoChange):
            return change
    return change


def _draw_template(model: RandStainNAModel, random: np.random.Generator) -> ColourModel | None:
    """Return a template, or None if a standard deviation came out not positive."""
    normal = random.standard_normal((2, 3))
    mean = np.array(model.mean_mean) + np.array(model.mean_sd) * normal[0]
    sd = np.array(model.sd_mean) + np.array(model.sd_sd) * normal[1]
    if sd.min() <= 0:
        return None
    return ColourModel(
        space=model.space,
        mean=_triple(mean),
        sd=_triple(sd),
        white=DEFAULT_WHITE,
        white_source="given",
        tissue_colour=(0.0, 0.0, 0.0),
        stained_colour=(0.0, 0.0, 0.0),
        tissue_pixels=0,
        tiles=1,
        tiles_used=1,
        reason="ok",
    )


def _colours(image: np.ndarray | Sample | ColourModel, space: str, white: Any, layout: str) -> ColourModel:
    if isinstance(image, Sample):
        return fit_colour_samples([image], space, white=white)
    if not isinstance(image, ColourModel):
        return fit_colour([image], space, white=white, layout=layout)
    if image.space != space:
        raise OptionError("a colour fit is in another space", received=image.space, valid=space)
    return image


def _stain_change(
    rows: Float[np.ndarray, "3 3"],
    gains: Float[np.ndarray, "3"],
    biases: Float[np.ndarray, "3"],
    white: Float[np.ndarray, "3"],
    offset: Literal[0, 1],
    background: str,
) -> DensityChange:
    """Return the change of amounts `gains * amounts + biases` of three unit vectors, as one of optical density."""
    _check_background(background)
    matrix = rows.T @ (gains[:, None] * np.linalg.inv(rows.T))
    bias = rows.T @ biases
    if background == "keep":
        return DensityChange(white, white, matrix, bias, offset)
    # Everywhere the same, a bias is another background.
    return DensityChange(white, white * np.exp(-bias), matrix, offset=offset, keep_background=False)


def _strength(strength: str | float) -> float:
    if isinstance(strength, str):
        if strength not in HED_STRENGTHS:
            raise unknown("strength of HED jitter", strength, HED_STRENGTHS)
        return HED_STRENGTHS[strength]
    if not (0 < strength < 1):
        raise OptionError(
            "the strength of HED jitter is out of range",
            received=strength,
            valid="light (0.05), strong (0.2), or a number above 0 and below 1",
        )
    return float(strength)


def _check_background(background: str) -> None:
    if background not in ("keep", "map"):
        raise OptionError("unknown treatment of the background", received=background, valid="keep, map")


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third
