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
MOVE = _register(
    Metric(
        name="move",
        title="move of an operation (unrelated tiles = 1)",
        better="lower",
        range=(0, None),
        chance=1.0,
        describes="root mean square length of the moves of an operation, divided by the root mean square distance of "
        "two unrelated tiles",
        misleads="a few tiles that move far decide it; not the same on L2-normalised vectors",
    )
)
EXPLAINED = _register(
    Metric(
        name="explained",
        title="move explained by a fitted map",
        better="neither",
        range=(None, 1),
        chance=0.0,
        describes="1 - squared error of a map on groups that it was not fitted on, against the better of the tile "
        "itself and the average perturbed tile; the verdict of equivariance rests on it",
        misleads="noise in the move cannot be foretold; with fewer tiles than dimensions a linear map may exist and "
        "not be found",
        reference="Lenc & Vedaldi 2015",
    )
)
GAP_CLOSED = _register(
    Metric(
        name="gap_closed",
        title="gap closed by a fitted map",
        better="neither",
        range=(None, 1),
        chance=None,
        describes="(cos(predicted, z') - cos(z, z')) / (1 - cos(z, z')) on held-out groups, as a ratio of sums over "
        "tiles",
        misleads="perturbed embeddings that have nothing to do with the tile reach up to .5, by shrinking to the "
        "average: read it beside that floor",
    )
)
DIRECTION_CONSISTENCY = _register(
    Metric(
        name="direction_consistency",
        title="direction consistency",
        better="neither",
        range=(0, 1),
        chance=None,
        describes="squared length of the mean move over the mean squared length of the moves; 1 if all tiles move "
        "alike, chance is 1/n",
        misleads="near 1 whenever the shift is large beside all else, also if the tile is lost on the way",
    )
)
SHARED_CONSISTENCY = _register(
    Metric(
        name="shared_consistency",
        title="direction consistency between groups",
        better="neither",
        range=(None, 1),
        chance=0.0,
        describes="direction consistency from pairs of tiles of different groups only, so that chance is 0 and what "
        "one group shares does not count",
        misleads="near 1 whenever the shift is large beside all else, also if the tile is lost on the way",
    )
)
EFFECTIVE_RANK = _register(
    Metric(
        name="effective_rank",
        title="effective rank",
        better="neither",
        range=(1, None),
        chance=None,
        describes="exponential of the entropy of the normalised singular values: how many directions are really used",
        misleads="cannot exceed the number of tiles, and is highest for noise",
        reference="Roy & Vetterli 2007",
    )
)
LINEAR_CKA = _register(
    Metric(
        name="linear_cka",
        title="linear CKA, debiased",
        better="higher",
        range=(None, 1),
        chance=0.0,
        describes="centred kernel alignment of the embeddings of the same tiles before and after, each term by its "
        "unbiased estimate",
        misleads="decided by the few directions of largest variance; the biased estimate goes to 1 for anything as "
        "dimensions outnumber tiles",
        reference="Kornblith et al. 2019; Song et al. 2012",
    )
)
PROCRUSTES_RESIDUAL = _register(
    Metric(
        name="procrustes_residual",
        title="Procrustes residual",
        better="lower",
        range=(0, 1),
        chance=None,
        describes="what a shift, a rotation and one scale leave of the difference of two embeddings of the same tiles",
        misleads="a rotation always fits where dimensions outnumber tiles",
        reference="Gower 1975",
    )
)
MUTUAL_NEIGHBOURS = _register(
    Metric(
        name="mutual_neighbours",
        title="neighbours kept",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="share of a tile's k nearest tiles that are the same in both embeddings; chance is k / (n - 1)",
        misleads="near-copies, such as overlapping tiles, stay neighbours under anything",
        reference="Huh et al. 2024",
    )
)
GAUSSIAN_W2_SQUARED = _register(
    Metric(
        name="gaussian_w2_squared",
        title="Gaussian W2, squared",
        better="lower",
        range=(0, None),
        chance=None,
        describes="squared Wasserstein-2 distance of two batches as normal distributions, which is what FID reports; "
        "the version by class is its mean over classes",
        misleads="sampling alone lifts it: read it against its split-half floor; collapse lowers it: read it beside "
        "effective rank and label accuracy",
        reference="Dowson & Landau 1982",
    )
)
EMPIRICAL_W2_SQUARED = _register(
    Metric(
        name="empirical_w2_squared",
        title="empirical W2, squared",
        better="lower",
        range=(0, None),
        chance=None,
        describes="squared Wasserstein-2 distance of the tiles of two batches, by exact transport on a subsample",
        misleads="sampling alone lifts it: read it against its split-half floor; collapse lowers it: read it beside "
        "effective rank and label accuracy",
        reference="Flamary et al. 2021",
    )
)
SLICED_W2_SQUARED = _register(
    Metric(
        name="sliced_w2_squared",
        title="sliced W2, squared",
        better="lower",
        range=(0, None),
        chance=None,
        describes="mean squared Wasserstein-2 distance of two batches along random directions",
        misleads="a difference along one direction of many is diluted; sampling alone lifts it: read it against its "
        "split-half floor; collapse lowers it: read it beside effective rank and label accuracy",
        reference="Bonneel et al. 2015",
    )
)
PROXY_A_DISTANCE = _register(
    Metric(
        name="proxy_a_distance",
        title="proxy A-distance",
        better="lower",
        range=(-2, 2),
        chance=0.0,
        describes="2 (1 - 2 error) of a fresh probe that tells two batches apart, on groups it was not trained on",
        misleads="saturates at 2, and sees linear differences only; collapse lowers it",
        reference="Ben-David et al. 2007",
    )
)
MONOTONICITY = _register(
    Metric(
        name="monotonicity",
        title="monotonicity of the dose-response",
        better="higher",
        range=(-1, 1),
        chance=0.0,
        describes="Spearman correlation of a figure's mean with severity",
        misleads="says nothing of size: a rise of no account is as monotone as a steep one",
    )
)
LABEL_FLIPS = _register(
    Metric(
        name="label_flips",
        title="label flips",
        better="lower",
        range=(0, 1),
        chance=None,
        describes="share of held-out tiles whose predicted label changes under the perturbation, by a linear probe of "
        "unperturbed tiles",
        misleads="an easy task hides large moves, and a probe that always says the same never flips: read it beside "
        "the accuracy",
    )
)
DISAGREEMENT = _register(
    Metric(
        name="disagreement",
        title="disagreement of eye and encoder",
        better="neither",
        range=(-1, 1),
        chance=0.0,
        describes="rank of a pair of tiles by latent distance less its rank by image distance (stain structure, colour "
        "and texture)",
        misleads="some pair is the most discordant in any embedding; tiles out of register have no common structure",
    )
)
SENSITIVITY = _register(
    Metric(
        name="sensitivity",
        title="local sensitivity (unrelated tiles = 1)",
        better="neither",
        range=(0, None),
        chance=None,
        describes="cosine distance by which covering a patch moves the embedding, divided by the median distance of "
        "unrelated tiles",
        misleads="what stands twice in a tile can be covered once without effect",
        reference="Zeiler & Fergus 2014",
    )
)
