"""What has to be known of a figure."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """What a reader has to know before believing a figure. `better` is said of a must-ignore change or a signal."""

    name: str
    title: str
    better: Direction
    range: tuple[float | None, float | None]
    chance: float | None
    describes: str
    misleads: str
    reference: str = ""
