"""The stain manifold on batches of torch tensors: one state for each tile, on any device, with gradients."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float

from ...errors import InputError, OptionError
from ..manifold.camera import (
    LEAST_LIGHT,
    READ_SHARE,
    Camera,
    camera_of,
    cut_noise,
    gaussian_kernel,
    noise_field,
    through_jpeg,
)
from ..manifold.sampler import StainManifold
from ..manifold.staining import Anchor, lit_white, stained_vectors
from ..manifold.state import ProtocolState
from .pixels import Planes, blocks, from_levels, in_layout, mix, numbers, read_batch, to_levels
from .recolour import tissue_plane
from .separate import logarithms

#: Parameters of a block; `m` is the number of its tiles, or 1.
PerTile = Float[torch.Tensor, "_m _s"]


def render_batch(
    batch: torch.Tensor,
    states: Sequence[ProtocolState],
    manifold: StainManifold,
    *,
    mpp: float | Sequence[float] | None = None,
    slides: Sequence[str | None] | None = None,
    tile_ids: Sequence[str] | None = None,
    layout: str = "NCHW",
    check: bool = True,
) -> torch.Tensor:
    """Return each tile under its state, in the type, layout and device that the batch came in.

    Does to each tile what `StainManifold.render` does, to within one level without JPEG; the noise is the same. With
    JPEG a level that rounds the other way may move its whole block of 8 pixels by some levels. A tile comes out the
    same whatever is beside it, and the batch is not changed. State 0 gives the same bits.

    `mpp` is one for all tiles, or one for each; without it 0.5 um per pixel is assumed. `slides` names the slide of
    each tile, see `StainManifold.anchor_of`. `check` as in `recolour`.

    Gradients flow from a float batch through everything but JPEG, which is made on the host and which they pass as if
    it were not there. They are zero where light was cut at 0 or 255.

    Raises
    ------
    InputError
        If the batch is not usable (see `read_batch`), or states, slides, resolutions or ids are not as many as tiles.
    OptionError
        If a slide is unknown, or a resolution is no positive number.
    """
    planes = read_batch(batch, layout, check=check)
    count = len(planes)
    _check_count("states", states, count)
    anchors = _anchors(manifold, slides, count)
    resolutions: Sequence[float | None] = list(mpp) if isinstance(mpp, Sequence) else [mpp] * count
    _check_count("resolutions", resolutions, count)
    names = [""] * count if tile_ids is None else list(tile_ids)
    _check_count("tile ids", names, count)
    tiles = list(planes.unbind())
    if not tiles:
        return batch.clone()
    for block in blocks([i for i in range(count) if not states[i].is_tile], planes):
        chosen = torch.stack([tiles[i] for i in block])
        whites = [lit_white(anchors[i], states[i]) for i in block]
        cameras = [camera_of(states[i], white, resolutions[i]) for i, white in zip(block, whites, strict=True)]
        light = _light(chosen, [states[i] for i in block], [anchors[i] for i in block], whites)
        seen = _photograph(light, cameras, [(states[i].seed, names[i]) for i in block])
        for i, tile in zip(block, from_levels(seen, chosen.dtype).unbind(), strict=True):
            tiles[i] = tile
    return in_layout(torch.stack(tiles), layout)


def render_light(
    amounts: Planes,
    vectors: Float[torch.Tensor, "_m _s 3"],
    gains: PerTile,
    bias: PerTile,
    white: PerTile,
    tissue: Planes | None = None,
) -> Planes:
    """Return the light behind stained tissue, `(n, 3, h, w)`: all that staining does, before any camera.

    .. math:: l = I_0\\, e^{-W^\\top (e^{a} C + b\\,[\\mathrm{tissue}])}

    `amounts` `(n, s, h, w)` are `C`, of two stains, or of three with the residual; rows of `vectors` `(m, s, 3)` are
    `W`; `gains` `(m, s)` in natural logarithm are `a`; `bias` `(m, s)` in optical density is `b`; `white` `(m, 3)` in
    levels is `I_0`; `tissue` `(n, 1, h, w)` from 0 to 1 says where the bias counts, by default everywhere. `m` is the
    number of tiles, or 1. Levels are neither rounded nor cut. Gradients flow to every argument.
    """
    grown = amounts * gains.exp()[..., None, None]
    shift = bias[..., None, None]
    grown = grown + (shift if tissue is None else shift * tissue)
    # Written out, as in `mix`: a matrix product would be rounded to ten bits where TF32 is allowed.
    rows = vectors[..., None, None]
    density = grown[:, :1] * rows[:, 0]
    for k in range(1, amounts.shape[1]):
        density = density.addcmul(grown[:, k : k + 1], rows[:, k])
    return white[..., None, None] * torch.exp(-density)


def _light(
    planes: torch.Tensor, states: Sequence[ProtocolState], anchors: Sequence[Anchor], whites: Sequence[np.ndarray]
) -> Planes:
    levels = to_levels(planes)
    clear = np.stack([anchor.white for anchor in anchors])
    offset = anchors[0].offset
    unmix = np.stack([np.linalg.inv(anchor.vectors).T for anchor in anchors])
    amounts = mix(numbers(np.log(clear), levels)[..., None, None] - logarithms(levels, offset), unmix)
    gains, bias = (
        np.array([[state[f"hematoxylin_{what}"], state[f"eosin_{what}"], 0.0] for state in states])
        for what in ("gain", "bias")
    )
    rows = np.stack([stained_vectors(anchor.vectors, state) for anchor, state in zip(anchors, states, strict=True)])
    tissue = tissue_plane(levels, clear, rounded=planes.dtype == torch.uint8) if bias.any() else None
    given = (numbers(values, levels) for values in (rows, gains, bias, np.stack(whites)))
    light = render_light(amounts, *given, tissue=tissue)
    return (light - offset).clamp_min(0) if offset else light


def _photograph(light: Planes, cameras: Sequence[Camera], seeds: Sequence[tuple[int, str]]) -> Planes:
    """Return levels 0 to 255 of light: what `camera` does, for a block of tiles."""
    light = _some(light, [k for k, camera in enumerate(cameras) if camera.blur_px], cameras, _blurred)
    light = mix(light, np.stack([camera.mix for camera in cameras]))
    noisy = [k for k, camera in enumerate(cameras) if camera.noise]
    if noisy:
        share = light.clamp_min(0) * _column((1 - READ_SHARE) / np.stack([camera.white for camera in cameras]), light)
        sd = _column(np.array([[camera.noise] for camera in cameras]), light) * (share + READ_SHARE).sqrt()
        light = light + sd * _noise(light, noisy, seeds)
    light = light.clamp(LEAST_LIGHT, 255)
    exponents = np.array([[camera.exponent] for camera in cameras])
    if (exponents != 1).any():
        bend = _column(exponents, light)
        light = torch.where(bend == 1, light, 255 * torch.exp(torch.log(light / 255) * bend))
    return _some(light, [k for k, camera in enumerate(cameras) if camera.quality is not None], cameras, _compressed)


def _some(
    light: Planes,
    which: list[int],
    cameras: Sequence[Camera],
    do: Callable[[Planes, Sequence[Camera]], Planes],
) -> Planes:
    """Return the tiles, some of them after `do`."""
    if not which:
        return light
    tiles = list(light.unbind())
    for k, tile in zip(which, do(torch.stack([tiles[k] for k in which]), [cameras[k] for k in which]), strict=True):
        tiles[k] = tile
    return torch.stack(tiles)


def _blurred(light: Planes, cameras: Sequence[Camera]) -> Planes:
    """Return tiles under Gaussians of their own: taps are added up one after the other.

    A grouped convolution does the same, but may be rounded to ten bits on an accelerator; shorter kernels are filled
    up with zeros, which change no sum.
    """
    for axis in (3, 2):
        side = light.shape[axis]
        kernels = [gaussian_kernel(camera.blur_px, side) for camera in cameras]
        radius = max(len(kernel) for kernel in kernels) // 2
        filled = np.stack([np.pad(kernel, radius - len(kernel) // 2) for kernel in kernels])
        taps = numbers(filled, light)[:, :, None, None, None]
        # Mirrored about the outermost pixel; on a side of one pixel there is nothing to mirror.
        padding = (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius)
        wide = torch.nn.functional.pad(light, padding, mode="reflect") if radius else light
        total = wide.narrow(axis, 0, side) * taps[:, 0]
        for k in range(1, 2 * radius + 1):
            total = total.addcmul(wide.narrow(axis, k, side), taps[:, k])
        light = total
    return light


@lru_cache(maxsize=2)
def _field(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(noise_field().copy()).to(device)


def _noise(light: Planes, noisy: list[int], seeds: Sequence[tuple[int, str]]) -> Planes:
    """Return the standard normals of the noisy tiles, and zeros for the others."""
    _, _, height, width = light.shape
    cuts = [cut_noise(height, width, *seeds[k]) for k in noisy]
    rows = torch.from_numpy(np.stack([cut.rows for cut in cuts])).to(light.device)
    columns = torch.from_numpy(np.stack([cut.columns for cut in cuts])).to(light.device)
    cut = _field(light.device)[rows[:, :, None], columns[:, None, :]].to(light.dtype).permute(0, 3, 1, 2)
    found = torch.zeros_like(light)
    found[noisy] = cut * _column(np.array([[each.sign] for each in cuts]), light)
    return found


def _compressed(levels: Planes, cameras: Sequence[Camera]) -> Planes:
    """Return tiles through JPEG, made on the host; gradients pass as if it were not there."""
    decoded = []
    for tile, camera in zip(levels.detach().round().to(torch.uint8).permute(0, 2, 3, 1).cpu(), cameras, strict=True):
        decoded.append(through_jpeg(np.ascontiguousarray(tile.numpy()), cast(int, camera.quality)))
    files = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(levels)
    return levels + (files - levels).detach() if levels.requires_grad else files


def _column(values: np.ndarray, like: Planes) -> torch.Tensor:
    return numbers(values, like)[..., None, None]


def _anchors(manifold: StainManifold, slides: Sequence[str | None] | None, count: int) -> list[Anchor]:
    if slides is None:
        return [manifold.anchor_of(None)] * count
    if isinstance(slides, str):
        raise OptionError("slides is one name", received=slides, valid="one for each tile", fix=f"[{slides!r}] * n")
    _check_count("slides", slides, count)
    known = {slide: manifold.anchor_of(slide) for slide in dict.fromkeys(slides)}
    anchors = [known[slide] for slide in slides]
    if len({anchor.offset for anchor in anchors}) > 1:
        raise OptionError("models of these slides add different offsets before the logarithm", received="0 and 1")
    return anchors


def _check_count(what: str, given: Sequence[Any], count: int) -> None:
    if len(given) != count:
        raise InputError(f"there must be as many {what} as tiles", received=f"{len(given)} {what} for {count} tiles")
