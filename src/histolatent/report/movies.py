"""Frames to GIF and MP4, by imageio and the ffmpeg that it brings along."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..errors import InputError, OptionError, require
from ..outputs import whole

Frame = UInt8[np.ndarray, "_h _w 3"]
FORMS = (".gif", ".mp4")


def write_movie(path: Path, frames: Sequence[Frame], *, per_second: float = 10.0, overwrite: bool = False) -> Path:
    """Write frames of one size as `.gif` (which repeats) or `.mp4` (H.264, as browsers play it).

    Sides of an MP4 are made even by a line of the edge's pixels.

    Raises
    ------
    InputError
        If there are no frames, or they differ in size.
    OptionError
        If the ending is another one, or the rate is not positive.
    OutputError
        If the file exists and not `overwrite`, or the disk is full.
    MissingExtraError
        If imageio is not installed.
    """
    if path.suffix not in FORMS:
        raise OptionError("a movie ends in .gif or .mp4", received=path.name, valid=", ".join(FORMS))
    if not frames or len({frame.shape for frame in frames}) > 1:
        raise InputError("frames of a movie are of one size", received=[frame.shape for frame in frames[:3]])
    if not per_second > 0:
        raise OptionError("frames a second are positive", received=per_second)
    imageio = require("imageio.v3", "explore")
    if path.suffix == ".gif":
        data = io.BytesIO()
        imageio.imwrite(data, np.stack(frames), extension=".gif", duration=1000 / per_second, loop=0)
        with whole(path, overwrite=overwrite) as part:
            part.write_bytes(data.getvalue())
        return path
    require("imageio_ffmpeg", "explore")
    height, width = frames[0].shape[:2]
    edge = ((0, height % 2), (0, width % 2), (0, 0))
    even = np.stack([np.pad(frame, edge, mode="edge") for frame in frames])
    with whole(path, overwrite=overwrite) as part:
        # The writer goes by the ending, which a hidden sibling does not have.
        written = part.with_name(part.name + ".mp4")
        try:
            imageio.imwrite(
                written, even, fps=per_second, codec="libx264", pixelformat="yuv420p", macro_block_size=1, quality=8
            )
            written.replace(part)
        finally:
            written.unlink(missing_ok=True)
    return path


def there_and_back(frames: Sequence[Frame]) -> list[Frame]:
    """Return frames from the first to the last and back: a movie of them repeats without a jump."""
    return [*frames, *frames[-2:0:-1]]
