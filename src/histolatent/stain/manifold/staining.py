"""The staining part of a state: from a stain model and coordinates to one frozen change of density, and back."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Float

from ...errors import OptionError
from ..model import StainModel
from ..normalize import shipped_reference
from ..recolour import DensityChange
from ..vectors import canonical_vectors, complete
from .state import AXES, ProtocolState

Three = Float[np.ndarray, "3"]
#: The coordinates that two stain models can tell apart, by what they need: amounts, vectors, empty slide.
GAIN_AXES = ("hematoxylin_gain", "eosin_gain")
DIRECTION_AXES = ("hematoxylin_turn", "eosin_turn", "hematoxylin_tilt", "eosin_tilt")
LIGHT_AXES = ("illuminant_red", "illuminant_green", "illuminant_blue")
#: Vectors closer than this unmix a tile into large amounts of opposite sign, 4.8 times its density, and a change of one
#: stain then turns glass blue and specks white. Usual fits lie 15 to 35 degrees apart.
SEPARABLE_DEGREES = 12.0


@dataclass(frozen=True, eq=False)
class Anchor:
    """How the tiles of a slide are stained, as far as the manifold needs it.

    Rows of `vectors` are hematoxylin, eosin and the residual, their normalised cross product. `source` says where they
    come from: `fitted`, or `canonical` where no fit was usable. `why` says in words why the slide's own fit was not
    used, and is empty where it was.
    """

    vectors: Float[np.ndarray, "3 3"]
    max_concentrations: tuple[float, float]
    white: Three
    offset: int
    source: str = "fitted"
    why: str = ""


def check_stains(model: StainModel, what: str) -> None:
    """Raise OptionError unless a model is one of hematoxylin and eosin: the manifold has axes for no other stain."""
    if len(model.stains) != 2 or "dab" in model.stains:
        raise OptionError(
            f"{what} is not of hematoxylin and eosin", received=", ".join(model.stains), valid="hematoxylin, eosin"
        )


def fault(model: StainModel) -> str:
    """Return in words why a model cannot carry a manifold, or nothing: it is not valid, or does not tell its stains."""
    if not model.valid:
        return model.why
    apart = model.separation_degrees
    return f"the stains lie only {apart:.1f} degrees apart" if apart < SEPARABLE_DEGREES else ""


def anchor_of(*models: StainModel) -> Anchor:
    """Return the staining of the first usable model; the background is always that of the first one.

    Usable is a valid model whose stains lie 12 degrees apart or more. Without any, the vectors are the canonical ones,
    and the amounts those of the phantom reference: what is rendered is then plausible, but not this slide's. Background
    is found apart from tissue, so a fit that is not usable for its vectors may still know it.
    """
    first = models[0]
    why = fault(first)
    for model in models:
        if not fault(model):
            return _anchor(model, first, "fitted", why)
    reference = cast(StainModel, shipped_reference("phantom", "macenko"))
    return _anchor(reference.model_copy(update={"vectors": canonical_vectors()}), first, "canonical", why)


def _anchor(model: StainModel, background: StainModel, source: str, why: str) -> Anchor:
    hematoxylin, eosin = model.max_concentrations
    rows = complete(np.asarray(model.vectors))
    return Anchor(rows, (hematoxylin, eosin), np.array(background.white), background.offset, source, why)


def stained_vectors(vectors: Float[np.ndarray, "3 3"], state: ProtocolState) -> Float[np.ndarray, "3 3"]:
    """Return the vectors of a state: hematoxylin and eosin turned and tilted, the residual as it is.

    .. math:: v' = \\cos\\phi\\,(\\cos\\theta\\, v + \\sin\\theta\\, t) + \\sin\\phi\\, n

    with `t` the unit tangent toward the other stain, `n` the residual, turn `theta`, tilt `phi`. The residual stays,
    since what neither stain explains (pigment, pen) belongs to no staining protocol; so nothing breaks where two turned
    vectors meet. A channel of a vector may come out slightly negative, as it may in a fit: it is not cut at 0, or turns
    could not be taken back.
    """
    rows = vectors.copy()
    for k, name in enumerate(("hematoxylin", "eosin")):
        turn, tilt = math.radians(state[f"{name}_turn"]), math.radians(state[f"{name}_tilt"])
        own, tangent, normal = _frame(vectors, k)
        rows[k] = math.cos(tilt) * (math.cos(turn) * own + math.sin(turn) * tangent) + math.sin(tilt) * normal
    return rows


def _frame(vectors: Float[np.ndarray, "3 3"], stain: int) -> tuple[Three, Three, Three]:
    """Return a stain's vector, its tangent toward the other stain, and the normal of their plane."""
    own, other, normal = vectors[stain], vectors[1 - stain], vectors[2]
    across = other - (other @ own) * own
    return own, across / np.linalg.norm(across), normal


def density_change(anchor: Anchor, state: ProtocolState) -> DensityChange:
    """Return a state's change of optical density: unmix, gain, mix by the state's vectors, and the state's light."""
    rows = stained_vectors(anchor.vectors, state)
    gains = np.exp([state["hematoxylin_gain"], state["eosin_gain"], 0.0])
    matrix = np.linalg.solve(anchor.vectors, gains[:, None] * rows).T
    bias = np.array([state["hematoxylin_bias"], state["eosin_bias"]]) @ rows[:2]
    # The glass changes with the light, so background is not kept.
    return DensityChange(
        anchor.white,
        lit_white(anchor, state),
        matrix,
        bias,
        1 if anchor.offset else 0,
        keep_background=False,
    )


def lit_white(anchor: Anchor, state: ProtocolState) -> Three:
    """Return the level of empty slide under a state's light; may lie above 255, where a sensor saturates."""
    return anchor.white * np.exp([state[name] for name in LIGHT_AXES])


def coordinates_between(first: StainModel, second: StainModel) -> dict[str, float]:
    """Return where `second` stands seen from `first`: ratios of amounts, turns and tilts, ratios of white. Unchecked.

    Amounts are compared by their 99th percentiles over tissue.
    """
    gains = np.log(np.array(second.max_concentrations) / np.array(first.max_concentrations))
    light = np.log(np.array(second.white) / np.array(first.white))
    found: dict[str, float] = dict(zip((*GAIN_AXES, *LIGHT_AXES), (*gains.tolist(), *light.tolist()), strict=True))
    vectors = complete(first.rows)
    for k, name in enumerate(("hematoxylin", "eosin")):
        own, tangent, normal = _frame(vectors, k)
        row = second.rows[k] / np.linalg.norm(second.rows[k])
        found[f"{name}_turn"] = math.degrees(math.atan2(row @ tangent, row @ own))
        found[f"{name}_tilt"] = math.degrees(math.asin(min(1.0, max(-1.0, float(row @ normal)))))
    return {name: found[name] for name in AXES if name in found}


def state_between(first: StainModel, second: StainModel) -> ProtocolState:
    """Return the state that gives a tile stained as `first` the staining and the background of `second`.

    Blur, noise and tone do not show in a stain model, and are left as they are. Misleads where the two models were
    fitted to different kinds of tissue: a 99th percentile of hematoxylin is higher among lymphocytes.

    Raises
    ------
    OptionError
        If one of the models is not of hematoxylin and eosin, is not usable, or lies beyond the limits of an axis.
    """
    for model, what in ((first, "the first stain model"), (second, "the second stain model")):
        check_stains(model, what)
        if not model.valid or min(model.max_concentrations) <= 0:
            raise OptionError(f"{what} is not usable: {model.why}", received=f"{model.tissue_pixels} tissue pixels")
    return ProtocolState.from_dict(coordinates_between(first, second))
