"""No protocol state makes an unseen site: not those of the phantom, not the virtual ones.

For a tile of the source, all axes of the stain manifold but noise and JPEG are searched for the state that comes
closest to the same tissue at another site. As a control, the same search is made for the site without the effects that
the manifold lacks. The search is given more than states get: the tile before noise, file and the source's own blur, its
true stain vectors, a state of its own for each tile, and targets without noise and file.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.optimize import least_squares

from histolatent.images.phantom import PhantomSpec, PhantomTiles, protocols
from histolatent.images.phantom.render import illuminate, render, see, stain_slide, tone, vary_thickness
from histolatent.perturb import virtual_sites
from histolatent.perturb.sites import NO_PRODUCTS
from histolatent.provenance import stream
from histolatent.stain.manifold import AXES, Anchor, ProtocolState
from histolatent.stain.manifold.render import render_image
from histolatent.stain.vectors import complete

SOURCE = PhantomTiles(PhantomSpec(sites=1, patients=3, slides=1, tiles_per_site=12, tile_px=64))
CHOSEN = (0, 4)
BENCH = protocols()["source"]
SEED, MPP = SOURCE.spec.seed, SOURCE.spec.mpp
#: Noise and JPEG are set aside: they are compared without.
SEARCHED = [axis for axis in AXES.values() if axis.name not in ("noise", "jpeg")]
SD = np.array([axis.sd for axis in SEARCHED])
LOW, HIGH = (np.array([axis.limits[k] for axis in SEARCHED]) / SD for k in (0, 1))
#: Squares over which levels are compared, in pixels: 2 um, in which pixel noise has averaged out.
BLOCK_PX = 4
STARTS = 2
#: A site is unlike every state if it is left this many times further away than any control, and than the noise.
BEYOND_CONTROL, BEYOND_NOISE = 10, 2
#: What a control may be left with, in levels: half of what rounding moves a level at most.
FOUND = 0.25


def blocks(levels: np.ndarray, side: int = BLOCK_PX) -> np.ndarray:
    height, width, _ = levels.shape
    return levels.reshape(height // side, side, width // side, side, 3).mean((1, 3))


def rms(levels) -> float:
    return float(np.sqrt(np.mean(np.square(levels))))


@cache
def names(index: int) -> tuple[str, str]:
    tile = str(SOURCE.table.index[index])
    return tile, tile.rpartition("/")[0]


@cache
def maps(index: int):
    return SOURCE.concentrations(index)


def thickness(index: int, protocol):
    tile, slide = names(index)
    return vary_thickness(SEED, tile, slide, protocol.stain, maps(index)[0].shape, MPP)


def without_noise(index: int, protocol) -> np.ndarray:
    """Return the levels of a tile at a site, without noise, rounding and file."""
    staining = stain_slide(SEED, names(index)[1], protocol.stain)
    light = illuminate(*maps(index), staining, protocol.scanner, thickness(index, protocol))
    return tone(see(light, protocol.scanner, MPP), protocol.scanner)


def sharp_source(index: int) -> np.ndarray:
    return without_noise(index, replace(BENCH, scanner=replace(BENCH.scanner, blur_um=0.0)))


def closest(index: int, source: np.ndarray, target: np.ndarray, block: int = BLOCK_PX) -> float:
    """Return what is left in levels, root mean square over squares, at the state that comes closest to the target."""
    vectors = complete(stain_slide(SEED, names(index)[1], BENCH.stain).vectors)
    anchor = Anchor(vectors, (1.0, 1.0), np.array(BENCH.scanner.illuminant), 0)
    wanted = blocks(target, block)

    def left(x: np.ndarray) -> np.ndarray:
        values = np.clip(x, LOW, HIGH) * SD
        state = ProtocolState(**dict(zip((axis.name for axis in SEARCHED), values, strict=True)))
        return (blocks(255 * render_image(source / 255, state, anchor, MPP, "", "HWC"), block) - wanted).ravel()

    def slopes(x: np.ndarray) -> np.ndarray:
        here, steps = left(x), np.where(x + 0.02 < HIGH, 0.01, -0.01)
        return np.stack([(left(x + step) - here) / step[k] for k, step in enumerate(np.diag(steps))], axis=1)

    found = []
    for start in range(STARTS):
        rng = np.random.default_rng(start)
        x = start * rng.standard_normal(len(SEARCHED))
        x[[axis.name for axis in SEARCHED].index("blur")] = 1.0
        x = np.clip(x, LOW + 0.01, HIGH - 0.01)
        bounds = (LOW - 1e-9, HIGH + 1e-9)
        found.append(rms(least_squares(left, x, slopes, bounds, max_nfev=15).fun))
    return min(found)


def scan_noise(index: int, protocol) -> float:
    """Return by how much one scan differs from the mean of many: root mean square over squares, sensor and file."""
    tile, slide = names(index)
    staining, wave = stain_slide(SEED, slide, protocol.stain), thickness(index, protocol)
    pair = [
        blocks(render(*maps(index), staining, protocol.scanner, MPP, stream(SEED, tile, k), wave).astype(float))
        for k in ("one", "two")
    ]
    return rms(pair[0] - pair[1]) / np.sqrt(2)


@cache
def control(site: str) -> float:
    """Return what the search leaves of a site of the phantom without its new effects: the worst tile."""
    plain = protocols()[site].plain()
    return max(closest(i, sharp_source(i), without_noise(i, plain)) for i in CHOSEN)


UNSEEN = [site for site in protocols() if site != "source"]


@pytest.mark.slow
@pytest.mark.parametrize("site", UNSEEN)
def test_no_state_makes_an_unseen_site_of_the_phantom(site):
    protocol = protocols()[site]
    left = rms([closest(i, sharp_source(i), without_noise(i, protocol)) for i in CHOSEN])
    noise = rms([scan_noise(i, protocol) for i in CHOSEN])
    worst = max(control(each) for each in UNSEEN)
    message = f"{site}: {left:.2f} levels left; control {control(site):.3f}, worst {worst:.3f}; noise {noise:.2f}"
    assert worst < FOUND, f"the search does not find what is there: {message}"
    assert left > BEYOND_CONTROL * worst, message
    assert left > BEYOND_NOISE * noise, message


# Virtual sites take and give whole levels, so what is searched is rounded, and a control is left with about 0.1.


def quiet(site):
    return replace(site, grain_levels=0.0, stripe_levels=0.0, codec="none", spread=0.0)


def plain(site):
    """The site without what the manifold lacks: a matrix and a tint are left."""
    straight = {"products": NO_PRODUCTS, "bend": (0.0, 0.0, 0.0), "scale": 1.0, "sharpening": 0.0}
    return replace(quiet(site), **straight, defocus_um=0.0, elongation=1.0, fringe_um=0.0)


def rounded(index: int) -> np.ndarray:
    return np.rint(without_noise(index, BENCH)).astype(np.uint8)


def seen_by(site, index: int, tile_id: str = "") -> np.ndarray:
    return site(rounded(index), mpp=MPP, slide=names(index)[1], seed=SEED, tile_id=tile_id).astype(float)


@cache
def virtual_control(name: str) -> float:
    site = plain(virtual_sites()[name])
    return max(closest(i, rounded(i).astype(float), seen_by(site, i)) for i in CHOSEN)


@pytest.mark.slow
@pytest.mark.parametrize("name", virtual_sites())
def test_no_state_makes_a_virtual_site(name):
    site = virtual_sites()[name]
    left = rms([closest(i, rounded(i).astype(float), seen_by(quiet(site), i)) for i in CHOSEN])
    noise = rms([blocks(seen_by(site, i, "one") - seen_by(site, i, "two")) for i in CHOSEN]) / np.sqrt(2)
    worst = max(virtual_control(each) for each in virtual_sites())
    own = virtual_control(name)
    message = f"{name}: {left:.2f} levels left; control {own:.3f}, worst {worst:.3f}; noise {noise:.2f}"
    assert worst < FOUND, f"the search does not find what is there: {message}"
    assert left > BEYOND_CONTROL * worst, message
    assert left > BEYOND_NOISE * noise, message
