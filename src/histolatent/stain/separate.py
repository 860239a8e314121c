"""Apply a stain model to an image: how much of each stain is where."""

import numpy as np
from jaxtyping import Float32

from .model import StainModel
from .pixels import read_levels
from .vahadane import CODE_PENALTY, sparse_codes
from .vectors import complete


def separate(image: np.ndarray, model: StainModel, *, layout: str = "HWC") -> Float32[np.ndarray, "_h _w 3"]:
    """Return the amount of each stain per pixel, in units of optical density along its unit vector.

    With two stains the third plane is the residual along their cross product: what they do not explain. Amounts are
    least squares and keep their sign; those of a Vahadane model are sparse and not negative, and the residual is the
    same. Use the fit of the whole slide, so that amounts compare between its tiles.

    Raises
    ------
    InputError
        If the image is not usable (see `read_levels`).
    """
    density = density_of(image, model, layout).reshape(-1, 3)
    rows = complete(model.rows)
    amounts = density @ np.linalg.inv(rows).astype(np.float32)
    if model.method == "vahadane":
        amounts[:, :2] = sparse_codes(density.T, model.rows.astype(np.float32), CODE_PENALTY).T
    shape = image.shape[:2] if layout == "HWC" else image.shape[1:]
    return amounts.reshape(*shape, 3)


def stain_image(
    image: np.ndarray, model: StainModel, stain: int, *, layout: str = "HWC"
) -> Float32[np.ndarray, "_h _w 3"]:
    """Return RGB levels 0 to 255, channels last, as if one stain alone (0, 1, or 2 for the residual) were on white.

    A negative amount would be brighter than white: it is shown as white, but for the residual, which is shown by its
    size.
    """
    plane = separate(image, model, layout=layout)[..., stain]
    plane = np.abs(plane) if stain >= len(model.stains) else np.maximum(plane, 0)
    vector = np.abs(complete(model.rows)[stain]).astype(np.float32)
    return np.float32(255) * np.exp(-plane[..., None] * vector)


def density_of(image: np.ndarray, model: StainModel, layout: str = "HWC") -> Float32[np.ndarray, "_h _w 3"]:
    """Return the natural-log optical density of an image against the model's background."""
    levels = read_levels(image, layout).astype(np.float32) + np.float32(model.offset)
    return np.log(np.array(model.white, np.float32)) - np.log(np.maximum(levels, np.float32(1)))
