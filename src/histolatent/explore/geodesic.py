"""The way on which a decoded tile changes least, found by gradients through the decoder. Imports torch."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from .._types import Matrix
from ..errors import OptionError
from .decoding import Differentiable
from .directions import Direction

#: Iterations, and tiles that stand for the space where density is asked for.
ITERATIONS, PILOTS = 60, 500
Way = Float[np.ndarray, "t d"]


def find_geodesic(
    decoder: Differentiable,
    start: Way,
    vectors: Matrix,
    *,
    features: Callable[[torch.Tensor], torch.Tensor] | None = None,
    density: float = 0.1,
    iterations: int = ITERATIONS,
    seed: int = 0,
) -> Way:
    r"""Return the way between the ends of `start` on which what is decoded changes least and evenly.

    It minimises $\frac T2 \sum_t \lVert \phi(D(z_{t+1})) - \phi(D(z_t)) \rVert^2$ over the steps between the ends, with
    D the decoder and $\phi$ `features` of images `(n, 3, h, w)`, the pixels themselves without any. `density` is the
    weight of a penalty on places far from tiles: the mean over steps of a smooth distance to the nearest of 500 tiles,
    as a share of the same at the start. It begins with `start`, such as the way through neighbours, and never returns a
    worse one. L-BFGS; a decoder need only be differentiable.

    Misleads: least change of pixels is not least change of tissue; give `features` of an encoder for that.

    Reference: Shao, Kumar & Fletcher 2018, CVPRW; Arvanitidis et al. 2018, ICLR.

    Raises
    ------
    OptionError
        If there are fewer than three steps.
    """
    if len(start) < 3:
        raise OptionError("a geodesic has three steps or more", received=len(start))
    device = getattr(decoder, "device", "cpu")
    whole = torch.from_numpy(np.ascontiguousarray(start, np.float32)).to(device)
    ends, inner = (whole[:1], whole[-1:]), whole[1:-1].clone().requires_grad_(True)
    random = np.random.Generator(np.random.Philox(seed))
    chosen = np.sort(random.permutation(len(vectors))[:PILOTS])
    pilots = torch.from_numpy(np.asarray(vectors[chosen], np.float32)).to(device)
    unit = float(_far(whole, pilots).mean().clamp(min=1e-6))
    look = features or (lambda images: images.flatten(1))
    with torch.no_grad():
        fixed = [look(decoder.images(end)) for end in ends]
        first = float(_energy(look(decoder.images(whole))).clamp(min=1e-12))

    def cost() -> torch.Tensor:
        seen = torch.cat([fixed[0], look(decoder.images(inner)), fixed[1]])
        return _energy(seen) / first + density * _far(inner, pilots).mean() / unit

    best, lowest = inner.detach().clone(), float(cost().detach())
    optimizer = torch.optim.LBFGS([inner], lr=0.5, max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        found = cost()
        found.backward()
        return found

    optimizer.step(closure)
    with torch.no_grad():
        if float(cost()) < lowest:
            best = inner.detach()
    return torch.cat([ends[0], best, ends[1]]).cpu().numpy().astype(np.float64)


def _energy(seen: torch.Tensor) -> torch.Tensor:
    return 0.5 * (len(seen) - 1) * (seen[1:] - seen[:-1]).square().sum()


def _far(places: torch.Tensor, pilots: torch.Tensor) -> torch.Tensor:
    """Return a smooth distance to the nearest pilots: squared distances under a soft minimum."""
    squares = torch.cdist(places, pilots).square()
    width = squares.detach().mean().clamp(min=1e-12) * 0.05
    return -width * torch.logsumexp(-squares / width, dim=1) + width * np.log(len(pilots))


def jacobian_directions(
    decoder: Differentiable, vector: Float[np.ndarray, " d"], count: int = 5, *, spread: float = 1.0
) -> list[Direction]:
    """Return the directions in which a decoded tile changes most about a vector, without any attribute.

    They are right singular vectors of the decoder's Jacobian there; a move of 1 is one of `spread` in the space, such
    as its standard deviation. They hold near the vector only, and are named by `name_directions`.

    Reference: Ramesh, Choi & LeCun 2019, ICLR (arXiv 1812.01161).
    """
    device = getattr(decoder, "device", "cpu")
    place = torch.from_numpy(np.asarray(vector, np.float32)).to(device)

    def decoded(z: torch.Tensor) -> torch.Tensor:
        return decoder.images(z[None]).flatten()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about a part of its own
        jacobian = torch.func.jacfwd(decoded)(place)
    assert isinstance(jacobian, torch.Tensor)
    axes = torch.linalg.svd(jacobian.double(), full_matrices=False)[2].cpu().numpy()
    found = []
    for k, axis in enumerate(axes[:count]):
        signed = axis * np.sign(axis[np.abs(axis).argmax()])
        read = signed / spread
        found.append(
            Direction(
                f"change {k + 1}", signed * spread, read, -float(read @ vector), "a step of the space", "jacobian"
            )
        )
    return found
