"""Every figure of an audit, registered once: direction, range, chance, source, and when it misleads."""

from dataclasses import dataclass
from typing import Literal

from ..registry import Registry

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


METRICS: Registry[Metric] = Registry("metric")


def _register(metric: Metric) -> Metric:
    return METRICS.register(metric.name, metric)


DISPLACEMENT = _register(
    Metric(
        name="displacement",
        title="displacement (unrelated tiles = 1)",
        better="lower",
        range=(0, None),
        chance=1.0,
        describes="cosine distance between a tile and its perturbed twin, divided by the median distance of unrelated "
        "tiles; mean over tiles",
        misleads="an encoder in which all tiles lie close together has a small null: small absolute moves look large, "
        "rightly so; a mean hides the tiles that move most",
        reference="arXiv 2606.24430",
    )
)
DISPLACEMENT_EUCLIDEAN = _register(
    Metric(
        name="displacement_euclidean",
        title="displacement, Euclidean (unrelated tiles = 1)",
        better="lower",
        range=(0, None),
        chance=1.0,
        describes="the same with Euclidean distance, which also sees a change of length",
        misleads="one dimension of large scale can decide it",
    )
)
AUROC_NULL = _register(
    Metric(
        name="auroc_null",
        title="P(moved less than to an unrelated tile)",
        better="higher",
        range=(0, 1),
        chance=0.5,
        describes="probability that a tile is closer (cosine) to its twin than a random pair of unrelated tiles is",
        misleads="1.0 is not invariance: a move may be far from zero and still below every unrelated pair",
    )
)
TWIN_RANK = _register(
    Metric(
        name="twin_rank",
        title="rank of the twin",
        better="lower",
        range=(0, 1),
        chance=0.5,
        describes="share of the other tiles that are closer to the perturbed tile than its own original is; mean",
        misleads="grows with near-copies in the pool, such as overlapping tiles",
    )
)
TWIN_TOP1 = _register(
    Metric(
        name="twin_top1",
        title="found again at once",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="share of perturbed tiles whose nearest tile is their own original; chance is 1/n",
        misleads="depends on the size of the pool: compare only runs with the same tiles",
        reference="top-1 accuracy of plismbench, when the pool is both sets",
    )
)
COSINE_DISTANCE = _register(
    Metric(
        name="cosine_distance",
        title="cosine distance",
        better="lower",
        range=(0, 2),
        chance=None,
        describes="1 - cosine of a tile and its twin, mean over tiles",
        misleads="means nothing alone: encoders differ in how far apart unrelated tiles are",
    )
)
SELECTIVITY = _register(
    Metric(
        name="selectivity",
        title="selectivity",
        better="higher",
        range=(0, 1),
        chance=0.5,
        describes="probability that destroying biology moves a tile further than a nuisance does",
        misleads="depends on the severities compared; they are stated",
    )
)
BALANCED_ACCURACY = _register(
    Metric(
        name="balanced_accuracy",
        title="balanced accuracy of a fresh probe",
        better="neither",
        range=(0, 1),
        chance=None,
        describes="mean recall over classes of a logistic regression, scored on groups it was not trained on; chance "
        "is 1 / classes. High is good for a label, bad for a site",
        misleads="a label that goes with a site is read through the site, and the other way round",
    )
)
AUROC = _register(
    Metric(
        name="auroc",
        title="AUROC of a fresh probe",
        better="neither",
        range=(0, 1),
        chance=0.5,
        describes="area under the ROC curve of the same probe, mean over classes (one against the rest)",
        misleads="scores of different folds are pooled, which lowers it: what holds nothing can come out below 0.5",
    )
)
