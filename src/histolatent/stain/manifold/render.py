"""Render one image under a state: one change per pixel, then the camera."""

import numpy as np

from ...errors import OptionError
from ..pixels import Levels, in_one_row, read_levels, write_levels
from ..recolour import change_levels
from .camera import blur, camera_of, cut_noise, noise_of, sense, through_jpeg, to_bytes
from .staining import Anchor, density_change
from .state import ProtocolState


def render_image(
    image: np.ndarray, state: ProtocolState, anchor: Anchor, mpp: float | None, tile_id: str, layout: str
) -> np.ndarray:
    """Return the image of a slide under a state. See `StainManifold.render`."""
    levels = read_levels(image, layout)
    if not isinstance(state, ProtocolState):
        raise OptionError("a state is a ProtocolState", received=type(state).__name__, fix="ProtocolState(blur=0.5)")
    if state.is_tile:
        return np.array(image)
    shape = levels.shape
    change = density_change(anchor, state)
    camera = camera_of(state, change.white_out, mpp)
    light = change_levels(in_one_row(levels), change)
    if camera.blur_px:
        light = in_one_row(blur(_as_image(light, shape), camera.blur_px))
    noise = in_one_row(noise_of(cut_noise(shape[0], shape[1], state.seed, tile_id))) if camera.noise else None
    seen = sense(light, camera, noise)
    seen = _as_image(to_bytes(seen) if levels.dtype == np.uint8 else seen, shape)
    if camera.quality is not None:
        seen = through_jpeg(to_bytes(seen), camera.quality).astype(levels.dtype, copy=False)
    return write_levels(seen, image, layout)


def _as_image(row: Levels, shape: tuple[int, ...]) -> Levels:
    return np.ascontiguousarray(row[0, : shape[0] * shape[1]].reshape(shape))
