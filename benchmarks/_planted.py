"""Slides whose stain vectors are known: the phantom's morphology under vectors, strengths and a camera of our choice.

Rendered by the phantom, which shares no code with what is tested. Used by the tests and by `stain.py`.
"""

import numpy as np

from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.images.phantom.protocols import Scanner, protocols
from histolatent.images.phantom.render import Staining, render

WHITE = 250.0
LOSSLESS = Scanner("lossless", (WHITE,) * 3, blur_um=0.2, read_noise=0.4, jpeg_quality=None)
NOISELESS = Scanner("noiseless", (WHITE,) * 3, blur_um=0.0, read_noise=0.0, full_well=1e12, jpeg_quality=None)


class Planted:
    """Draws slides; 48 tiles of the phantom are the pool that they are made of."""

    def __init__(self) -> None:
        source = PhantomTiles(PhantomSpec(sites=1, patients=6, slides=1, tiles_per_site=48, tile_px=64, seed=5))
        self.maps = [source.concentrations(index) for index in range(len(source.table))]

    def slide(self, seed: int, scanner: Scanner, *, separable: bool, tiles: int = 8):
        """Return the true vectors, the true amounts per tile, and the tiles.

        In the phantom, as in tissue, no nucleus is free of eosin. With `separable` the lesser part of each mixture is
        taken away, so that pure pixels of both stains exist, which every method presumes.
        """
        rng = np.random.default_rng(seed)
        stain = [protocol.stain for protocol in protocols().values()][seed % len(protocols())]
        rows = _unit(_unit([stain.hematoxylin, stain.eosin]) + np.radians(3) * rng.standard_normal((2, 3)))
        rows = _unit(np.maximum(rows, 0))
        strengths = (stain.hematoxylin_strength, stain.eosin_strength)
        gains = np.array(strengths) * np.exp(0.14 * rng.standard_normal(2))
        maps = [self.maps[index] for index in rng.choice(len(self.maps), tiles, replace=False)]
        if separable:
            maps = [(np.maximum(h - 0.5 * e, 0), np.maximum(e - h, 0)) for h, e in maps]
        amounts = [np.stack(pair, -1) * gains for pair in maps]
        return rows, amounts, [render(h, e, Staining(rows, gains), scanner, 0.5, rng) for h, e in maps]


def _unit(rows) -> np.ndarray:
    return np.asarray(rows, float) / np.linalg.norm(rows, axis=1, keepdims=True)
