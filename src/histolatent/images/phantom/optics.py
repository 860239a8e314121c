"""Where the light of a point falls: a disk out of focus, an ellipse under astigmatism, each colour at its own place."""

import math

import cv2
import numpy as np
from jaxtyping import Float, Float32

from .protocols import Scanner

#: Refractive index of the mounting medium and of glass.
MEDIUM = 1.515
#: Rays that are traced through the aperture.
RAYS = 2000


def aperture_rays() -> Float[np.ndarray, "r 2"]:
    """Return points spread evenly over the unit disk, along a spiral."""
    k = np.arange(RAYS)
    radius, angle = np.sqrt((k + 0.5) / RAYS), k * math.pi * (3.0 - math.sqrt(5.0))
    rays = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return rays - rays.mean(0)


def point_spread(scanner: Scanner, channel: int, mpp: float) -> Float32[np.ndarray, "k k"]:
    """Return what a point becomes in a channel (R, G, B) beside the Gaussian; sums to 1, of odd side.

    A focal plane `z` um away gives a disk of radius `z tan(asin(aperture / n))`, without diffraction. A ray between
    pixels is shared among the four next to it.
    """
    spread = math.tan(math.asin(scanner.aperture / MEDIUM)) / mpp
    planes = scanner.focus_um[channel] + np.array([0.5, -0.5]) * scanner.astigmatism_um
    turn = math.radians(scanner.astigmatism_degrees)
    axes = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    beside = (scanner.red_um, (0.0, 0.0), scanner.blue_um)[channel]
    falls = aperture_rays() * planes * spread @ axes + np.asarray(beside) / mpp
    reach = math.ceil(np.abs(falls).max() - 1e-9)
    kernel = np.zeros((2 * reach + 2, 2 * reach + 2))
    low = np.floor(falls).astype(int)
    across, down = (falls - low).T
    column, row = (low + reach).T
    for right, below in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (across if right else 1 - across) * (down if below else 1 - down)
        np.add.at(kernel, (row + below, column + right), weight)
    kernel = kernel[: 2 * reach + 1, : 2 * reach + 1]
    return (kernel / kernel.sum()).astype(np.float32)


def defocus(light: Float[np.ndarray, "h w 3"], scanner: Scanner, mpp: float) -> Float[np.ndarray, "h w 3"]:
    """Return light after each channel's point spread; beyond the border it is mirrored."""
    seen = np.empty_like(light)
    for channel in range(3):
        kernel = point_spread(scanner, channel, mpp)
        # OpenCV correlates; a point has to spread as the kernel shows.
        seen[..., channel] = cv2.filter2D(
            light[..., channel], -1, kernel[::-1, ::-1].copy(), borderType=cv2.BORDER_REFLECT_101
        )
    return seen
