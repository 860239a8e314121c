"""Render one image under a state: one change per pixel, then the camera."""

import numpy as np

from ..pixels import Levels, read_levels, write_levels
from ..recolour import change_levels
from .camera import blur, camera_of, cut_noise, noise_of, sense, through_jpeg, to_bytes
from .staining import Anchor, density_change
from .state import ProtocolState


def render_image(
    image: np.ndarray, state: ProtocolState, anchor: Anchor, mpp: float | None, tile_id: str, layout: str
) -> np.ndarray:
    """Return the image of a slide under a state. See `StainManifold.render`."""
    levels = read_levels(image, layout)
    if state.is_tile:
        return np.array(image)
    shape = levels.shape
    change = density_change(anchor, state)
    camera = camera_of(state, change.white_out, mpp)
    light = change_levels(_in_one_row(levels), change)
    if camera.blur_px:
        light = _in_one_row(blur(_as_image(light, shape), camera.blur_px))
    noise = _in_one_row(noise_of(cut_noise(shape[0], shape[1], state.seed, tile_id))) if camera.noise else None
    seen = sense(light, camera, noise)
    seen = _as_image(to_bytes(seen) if levels.dtype == np.uint8 else seen, shape)
    if camera.quality is not None:
        seen = through_jpeg(to_bytes(seen), camera.quality).astype(levels.dtype, copy=False)
    return write_levels(seen, image, layout)


def _in_one_row(levels: Levels) -> Levels:
    """Return the pixels as one row, filled up to a multiple of 64.

    Vectorised loops end in a scalar one whose last bit may differ. Without a rest, no pixel is ever in it, and a pixel
    comes out the same wherever it lies in a tile.
    """
    row = np.ascontiguousarray(levels).reshape(1, -1, 3)
    rest = -row.shape[1] % 64
    return np.concatenate([row, np.repeat(row[:, :1], rest, axis=1)], axis=1) if rest else row


def _as_image(row: Levels, shape: tuple[int, ...]) -> Levels:
    return np.ascontiguousarray(row[0, : shape[0] * shape[1]].reshape(shape))
