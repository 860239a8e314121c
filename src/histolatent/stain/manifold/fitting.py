"""Fit the prior: how far the slides at hand lie apart says how far the next ones may."""

from collections.abc import Sequence

import numpy as np

from ...errors import OptionError
from ..fit import FAINTEST
from ..model import StainModel
from ..vectors import unit_rows
from .prior import Prior, Square, as_rows, check_positive, fixed_prior
from .staining import DIRECTION_AXES, GAIN_AXES, LIGHT_AXES, check_stains, coordinates_between, fault
from .state import AXES

#: Laboratories of the phantom differ 1.5 times (amounts) to 3 times (vectors) as much as slides of one of them do.
INFLATION = 2.0
#: The fixed prior counts as much as so many slides: about the number of coordinates that slides tell.
PRIOR_SLIDES = 8.0


def fit_prior(
    models: Sequence[StainModel], *, inflation: float = INFLATION, prior_slides: float = PRIOR_SLIDES
) -> Prior:
    """Return the prior that the spread over slides suggests; one model per slide.

    Each slide stands where its model does, seen from the cohort's median model. With their covariance `S` over `n`
    slides and that of the fixed prior `D`, which is diagonal but for the light, the fitted one is

    .. math:: w\\, k^2 S + (1 - w)\\, D, \\qquad w = \\frac{n - 1}{n - 1 + m}

    with `k` the `inflation` and `m` the `prior_slides`. The inflation says how much more other laboratories differ than
    slides at hand do. Gains and directions form one block, the light another, uncorrelated: one is the laboratory's,
    the other the scanner's. Slides whose background was not found say nothing of the light, and given vectors nothing
    of directions; what fewer than two slides tell, and what no stain model tells (bias, tone, blur, noise, JPEG, colour
    matrix), is the fixed prior's. Models that are not valid, or whose stains lie closer than 12 degrees, are left
    out; with fewer than two others this is the fixed prior.

    Misleads where slides differ in tissue more than in staining: amounts are compared by percentiles over tissue.

    Raises
    ------
    OptionError
        If the inflation is not above 0, `prior_slides` is negative, or a model is not of hematoxylin and eosin.
    """
    check_positive("the inflation", inflation)
    if not (np.isfinite(prior_slides) and prior_slides >= 0):
        raise OptionError("prior_slides is no number of at least 0", received=prior_slides, valid="0 to trust slides")
    for model in models:
        check_stains(model, "a stain model")
    usable = [model for model in models if not fault(model) and min(model.max_concentrations) >= FAINTEST]
    if len(usable) < 2:
        return fixed_prior()
    covariance = fixed_prior().covariance
    directed = all(model.method in ("macenko", "vahadane") for model in usable)
    lit = [model for model in usable if model.white_source != "default"]
    names = list(AXES)
    for slides, block in ((usable, GAIN_AXES + (DIRECTION_AXES if directed else ())), (lit, LIGHT_AXES)):
        if len(slides) < 2:
            continue
        at = np.ix_([names.index(name) for name in block], [names.index(name) for name in block])
        weight = _weight(len(slides), prior_slides)
        covariance[at] = weight * inflation**2 * _spread(slides, block) + (1 - weight) * covariance[at]
    sds = np.sqrt(covariance.diagonal())
    scale = np.where(sds > 0, sds, 1.0)
    correlation = (covariance + covariance.T) / (2 * np.outer(scale, scale))
    np.fill_diagonal(correlation, 1.0)
    weight = _weight(len(usable), prior_slides)
    return Prior(tuple(sds.tolist()), as_rows(correlation), "fitted", len(usable), float(inflation), weight)


def median_model(models: Sequence[StainModel]) -> StainModel:
    """Return a model with the median vectors, amounts and background of several."""
    rows = unit_rows(np.median([model.rows for model in models], axis=0))
    amounts = np.exp(np.median(np.log([model.max_concentrations for model in models]), axis=0))
    white = np.median([model.white for model in models], axis=0)
    return models[0].model_copy(
        update={
            "vectors": tuple(map(tuple, rows.tolist())),
            "max_concentrations": tuple(amounts.tolist()),
            "white": tuple(white.tolist()),
        }
    )


def _spread(models: Sequence[StainModel], block: tuple[str, ...]) -> Square:
    centre = median_model(models)
    found = [coordinates_between(centre, model) for model in models]
    return np.cov(np.array([[at[name] for name in block] for at in found]), rowvar=False)


def _weight(slides: int, prior_slides: float) -> float:
    return (slides - 1) / (slides - 1 + prior_slides)
