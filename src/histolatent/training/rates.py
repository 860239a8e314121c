"""How large the steps of a training are."""

import math


def rate_at(step: int, steps: int, warmup: float, highest: float) -> float:
    """Return the learning rate: a linear rise over the share `warmup` of the steps, then half a cosine down to 0."""
    warm = max(1, round(warmup * steps))
    if step < warm:
        return highest * (step + 1) / warm
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
