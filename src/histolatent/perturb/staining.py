"""Another stain on the same tissue: amounts, directions, and another laboratory's look."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .._types import Tile
from ..stain import (
    NoChange,
    ProtocolState,
    StainModel,
    add_stain,
    colour_change,
    concentrations,
    fit_tile,
    fixed_prior,
    hed_jitter,
    optical_density,
    recolour,
    shipped_reference,
    stain_matrix,
    to_tile,
)
from ..stain.manifold import Anchor
from ..stain.manifold.staining import density_change
from ..stain.recolour import tissue_plane
from .glass import slide_white
from .operation import Operation, register

STAIN_GAINS = (1.1, 1.25, 1.5, 1.75, 2.0)
FIXED = "separated by fixed stain vectors: on slides far from them some of the other stain moves along"


def stain_gain(tile: Tile, *stains: int) -> Callable[[float], Tile]:
    """Return the tile as a function of the factor on some stains (0 hematoxylin, 1 eosin); the rest stays exact.

    Separation is by the fixed Ruifrok-Johnston vectors. Negative amounts are left alone, and amounts fade out between
    optical densities of 0.15 and 0.05, so the background keeps its colour.
    """
    white = slide_white(tile)
    tissue = tissue_plane(np.ascontiguousarray(tile), white.astype(np.float64))[..., None]
    amounts = tissue * np.maximum(concentrations(optical_density(tile, white)), 0)

    def gain(factor: float) -> Tile:
        changed = tile
        for stain in stains:
            changed = add_stain(changed, (factor - 1.0) * amounts[..., stain], stain)
        return changed

    return gain


def in_state(tile: Tile, state: ProtocolState) -> Tile:
    """Return the tile under the staining of a state of the stain manifold; the background is kept, the camera ignored.

    The tile's own staining is taken to be the fixed vectors, and its white that of its glass: a fit to one
    tile is less certain than what a state changes.
    """
    anchor = Anchor(stain_matrix().astype(np.float64), (1.0, 1.0), slide_white(tile).astype(np.float64), 0)
    return recolour(tile, replace(density_change(anchor, state), keep_background=True))


def restain(tile: Tile, reference: StainModel | None = None) -> Callable[[float], Tile]:
    """Return the tile as a function of how far, 0 to 1, its staining goes toward a reference; Macenko's, if not given.

    The tile is fitted by Macenko's method. In optical density, the way is straight. A tile that cannot be fitted, or
    whose hue would flip, stays as it is.
    """
    fit = fit_tile(tile, "macenko", white=tuple(slide_white(tile).tolist()))
    target = shipped_reference("macenko", "macenko") if reference is None else reference
    change = colour_change(fit, target)
    if isinstance(change, NoChange):
        return lambda share: tile.copy()
    levels = tile.astype(np.float32)
    start, end = (np.log(np.maximum(part, 1)) for part in (levels, 255 * recolour(levels / 255, change)))
    return lambda share: to_tile(np.exp((1 - share) * start + share * end))


def _turned(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    angles = random.uniform(0, 2 * np.pi, 2).tolist()

    def turn(degrees: float) -> Tile:
        coordinates = {}
        for stain, angle in zip(("hematoxylin", "eosin"), angles, strict=True):
            coordinates[f"{stain}_turn"] = degrees * np.cos(angle)
            coordinates[f"{stain}_tilt"] = degrees * np.sin(angle)
        return in_state(tile, ProtocolState(**coordinates))

    return turn


def _jitter(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    seed, white = int(random.integers(2**31)), slide_white(tile)
    return lambda strength: recolour(tile, hed_jitter(seed, "tile", strength, white=tuple(map(float, white))))


def _protocol(tile: Tile, mpp: float, random: np.random.Generator) -> Callable[[float], Tile]:
    seed = int(random.integers(2**31))
    prior = fixed_prior().only("stain")
    return lambda width: in_state(tile, prior.widened(width).draw(np.random.default_rng(seed)))


HEMATOXYLIN_GAIN = register(
    Operation(
        name="hematoxylin-gain",
        family="stain",
        role="must-ignore",
        parameter="hematoxylin factor",
        unit="x",
        levels=STAIN_GAINS,
        limits=(1.001, 10.0),
        path=lambda tile, mpp, random: stain_gain(tile, 0),
        describes="stained longer in hematoxylin",
        misleads="separated by fixed stain vectors: on slides far from them some eosin moves along",
    )
)
EOSIN_GAIN = register(
    Operation(
        name="eosin-gain",
        family="stain",
        role="must-ignore",
        parameter="eosin factor",
        unit="x",
        levels=STAIN_GAINS,
        limits=(1.001, 10.0),
        path=lambda tile, mpp, random: stain_gain(tile, 1),
        describes="stained longer in eosin",
        misleads="separated by fixed stain vectors: on slides far from them some hematoxylin moves along",
    )
)
STAIN_GAIN = register(
    Operation(
        name="stain-gain",
        family="stain",
        role="must-ignore",
        parameter="factor on both stains",
        unit="x",
        levels=STAIN_GAINS,
        limits=(1.001, 10.0),
        path=lambda tile, mpp, random: stain_gain(tile, 0, 1),
        describes="stained longer in both, or cut thicker",
        misleads="dark nuclei become black, and their texture is lost: the last levels take biology away",
    )
)
FADING = register(
    Operation(
        name="fading",
        family="stain",
        role="must-ignore",
        parameter="factor on both stains",
        unit="x",
        levels=(0.9, 0.8, 0.65, 0.5, 0.35),
        limits=(0.01, 0.999),
        path=lambda tile, mpp, random: stain_gain(tile, 0, 1),
        describes="both stains paler, as in an old slide",
        misleads=FIXED,
    )
)
STAIN_ROTATION = register(
    Operation(
        name="stain-rotation",
        family="stain",
        role="must-ignore",
        parameter="turn of both stain vectors",
        unit="degrees",
        levels=(2.0, 4.0, 6.0, 9.0, 12.0),
        limits=(0.1, 20.0),
        path=_turned,
        describes="dyes of another hue: each vector turned in optical density, in a direction drawn for the tile",
        misleads="some directions give hues that no dye has; dyes differ by 3 to 8 degrees",
    )
)
HED_JITTER = register(
    Operation(
        name="hed-jitter",
        family="stain",
        role="must-ignore",
        parameter="strength",
        unit="OD",
        levels=(0.02, 0.05, 0.1, 0.15, 0.2),
        limits=(0.001, 0.99),
        path=_jitter,
        describes="gain and bias of hematoxylin, eosin and DAB in natural-log optical density, drawn for the tile; "
        "0.05 is HED-light, 0.2 HED-strong",
        misleads="the third stain is DAB: pale tissue may turn yellow or blue, as no laboratory would make it",
        reference="Tellez et al. 2019, Medical Image Analysis 58:101544",
    )
)
RESTAIN = register(
    Operation(
        name="restain",
        family="stain",
        role="must-ignore",
        parameter="share of the way",
        unit="",
        levels=(0.2, 0.4, 0.6, 0.8, 1.0),
        limits=(0.001, 1.0),
        path=lambda tile, mpp, random: restain(tile),
        describes="toward the staining of Macenko's reference, fitted to this tile",
        misleads="a tile that is stained like the reference hardly changes, and one that cannot be fitted not at all",
        reference="Macenko et al. 2009, ISBI",
    )
)
PROTOCOL = register(
    Operation(
        name="protocol",
        family="stain",
        role="must-ignore",
        parameter="width of the fixed prior",
        unit="x",
        levels=(0.25, 0.5, 0.75, 1.0, 1.5),
        limits=(0.01, 10.0),
        path=_protocol,
        describes="the staining of another laboratory: a state of the stain manifold, drawn for the tile",
        misleads="where a tile's draw lies near its own staining, it hardly changes at any level; "
        "how far laboratories differ is an assumption, and 1.5 may be past it",
    )
)
