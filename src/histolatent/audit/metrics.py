"""Every figure of an audit, registered once: direction, range, chance, source, and when it misleads."""

from ..metric import Metric
from ..registry import Registry
from .references import (
    BEN_DAVID,
    BONNEEL,
    CKA,
    CROMA,
    DOWSON,
    GOWER,
    HARMONY,
    KBET,
    LENC,
    PATHOROB,
    PEYRE,
    PLATONIC,
    PLISMBENCH,
    ROUSSEEUW,
    ROY,
    SCIB,
    TRANSFORMATIONS,
    UNROBUST,
    ZEILER,
)

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
        reference=TRANSFORMATIONS,
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
        reference=PLISMBENCH,
    )
)
TWIN_TOP3, TWIN_TOP5, TWIN_TOP10 = (
    _register(
        Metric(
            name=f"twin_top{k}",
            title=f"found again among {k}",
            better="higher",
            range=(0, 1),
            chance=None,
            describes=f"share of perturbed tiles that have their own original among the {k} nearest; chance is {k}/n",
            misleads="depends on the size of the pool: compare only runs with the same tiles",
            reference=PLISMBENCH,
        )
    )
    for k in (3, 5, 10)
)
CROSS_TOP1, CROSS_TOP3, CROSS_TOP5, CROSS_TOP10 = (
    _register(
        Metric(
            name=f"cross_top{k}",
            title=f"found again across, among {k}",
            better="higher",
            range=(0, 1),
            chance=None,
            describes=f"share of real pairs whose other half is among the {k} nearest tiles, mean of both directions; "
            f"the pool is both sets without the tile itself, so that chance is {k} / (2n - 1)",
            misleads="falls with the size of the pool, and where a slide repeats itself: compare only runs with the "
            "same tiles",
            reference=PLISMBENCH,
        )
    )
    for k in (1, 3, 5, 10)
)
CROSS_COSINE = _register(
    Metric(
        name="cross_cosine",
        title="cosine similarity of real pairs",
        better="higher",
        range=(-1, 1),
        chance=None,
        describes="cosine of the two vectors of a real pair, mean over tiles",
        misleads="says nothing alone: an encoder in which all tiles are alike has it too. Read the displacement",
        reference=PLISMBENCH,
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
SELECTIVITY_RATIO = _register(
    Metric(
        name="selectivity_ratio",
        title="displacement of destroyed biology over that of nuisances",
        better="higher",
        range=(0, None),
        chance=1.0,
        describes="mean displacement by an operation that destroys biology, over the mean by must-ignore operations",
        misleads="a few tiles that move far decide it; depends on the severities compared",
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
NEIGHBOUR_ACCURACY = _register(
    Metric(
        name="neighbour_accuracy",
        title="balanced accuracy of a vote of neighbours",
        better="neither",
        range=(0, 1),
        chance=None,
        describes="mean recall over classes of a majority vote of the 10 nearest tiles of other groups; chance is near "
        "1 / classes. High is good for a label, bad for a site",
        misleads="rare classes are outvoted; where a label goes with a site, neighbours of the site vote for it",
    )
)
LEAK = _register(
    Metric(
        name="leak",
        title="skill of the worst leak less that of the label",
        better="lower",
        range=(None, None),
        chance=None,
        describes="balanced accuracy of the site, scanner or stain that is read best, less that of the label, each as "
        "its way from chance (0) to perfect (1), on the same resamples",
        misleads="an encoder that reads nothing has 0; a label that goes with a site is read through it",
    )
)
UNSEEN_ACCURACY = _register(
    Metric(
        name="unseen_accuracy",
        title="label read at a site left out",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="balanced accuracy of a probe of the label on one site, trained on all others; chance is 1 / classes",
        misleads="sites differ in how hard their tiles are: read it beside the gap",
    )
)
TRANSFER_GAP = _register(
    Metric(
        name="transfer_gap",
        title="what leaving a site out costs",
        better="higher",
        range=(-1, 1),
        chance=None,
        describes="balanced accuracy of the label at a site by a probe that has not seen the site, less that of one "
        "that has, on the same tiles; neither has seen the patients",
        misleads="the probe that has seen the site also has more tiles; an encoder that reads nothing loses nothing",
    )
)
FACTOR_R2 = _register(
    Metric(
        name="factor_r2",
        title="R2 of a known factor",
        better="higher",
        range=(None, 1),
        chance=0.0,
        describes="share of the variance of a factor of the tissue that a ridge regression foretells on groups it was "
        "not fitted on; after a perturbation by the same fit",
        misleads="factors go with each other and with staining: one may be read through another. Below 0 it is worse "
        "than the mean",
    )
)
R2 = _register(
    Metric(
        name="r2",
        title="R2 of a fitted map",
        better="neither",
        range=(None, 1),
        chance=0.0,
        describes="1 - squared error of a map against the average perturbed tile, on groups it was not fitted on",
        misleads="high for any map where tiles hardly move: read what is explained beyond that",
    )
)
ACCURACY_CHANGE = _register(
    Metric(
        name="accuracy_change",
        title="accuracy lost under a perturbation",
        better="higher",
        range=(-1, 1),
        chance=0.0,
        describes="balanced accuracy of the label under a perturbation less that without, by a linear probe of "
        "unperturbed tiles",
        misleads="a probe near chance has nothing to lose",
    )
)
ROBUSTNESS_INDEX = _register(
    Metric(
        name="robustness_index",
        title="robustness index",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="among the 50 nearest tiles that share either the label or the site, the share that shares the "
        "label; none of the tile's own group. Chance is stated beside it",
        misleads="depends on k and on how many tiles there are of each label at each site: compare encoders on the "
        "same tiles only",
        reference=PATHOROB,
    )
)
ROBUSTNESS_RATIO = _register(
    Metric(
        name="robustness_ratio",
        title="same label over same site",
        better="higher",
        range=(0, None),
        chance=None,
        describes="how many of the 50 nearest tiles share the label, over how many share the site",
        misleads="has no upper bound, and counts tiles that share both on both sides",
        reference=UNROBUST,
    )
)
MARGIN_INDEX = _register(
    Metric(
        name="margin_index",
        title="robustness index, weighted by nearness",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="the robustness index with each neighbour counting exp(-distance / tau), tau the median distance of "
        "those that count",
        misleads="tau is of the encoder, so the weights of two encoders differ",
        reference=CROMA,
    )
)
MARGIN_MEDIAN = _register(
    Metric(
        name="margin_median",
        title="robustness margin",
        better="higher",
        range=(-1, 1),
        chance=None,
        describes="(a - b) / (a + b) with a the mean distance to the 5 nearest tiles of another label at the same "
        "site, b to those of the same label at another site; median over tiles. Chance is stated beside it",
        misleads="0 is not chance, as there are more tiles of the one kind than of the other; a median hides the "
        "tiles of which the site decides: see the worst tenth and the share at or below 0",
        reference=CROMA,
    )
)
MARGIN_EXCESS = _register(
    Metric(
        name="margin_excess",
        title="robustness margin above chance",
        better="higher",
        range=(-2, 2),
        chance=0.0,
        describes="the robustness margin less what it is where label, site and patient are dealt anew to the tiles",
        misleads="chance is of one deal to some thousand tiles, held fixed; compare encoders on the same tiles only",
        reference=CROMA,
    )
)
MARGIN_WORST = _register(
    Metric(
        name="margin_worst",
        title="robustness margin, worst tenth",
        better="higher",
        range=(-1, 1),
        chance=None,
        describes="mean of the robustness margin over the tenth of tiles where it is lowest",
        misleads="falls with mislabelled tiles, and is below 0 for an encoder without any preference",
        reference=CROMA,
    )
)
MARGIN_CONFOUNDED = _register(
    Metric(
        name="margin_confounded",
        title="share of tiles with a margin at or below 0",
        better="lower",
        range=(0, 1),
        chance=None,
        describes="share of tiles to which another label of the same site is at least as near as the same label of "
        "another site",
        misleads="counts a tile that is nearly undecided as one that is wrong",
        reference=CROMA,
    )
)
CLUSTERING_SCORE = _register(
    Metric(
        name="clustering_score",
        title="clusters: label against site",
        better="higher",
        range=(-1.5, 1.5),
        chance=0.0,
        describes="adjusted Rand index of k-means clusters and labels, less that of clusters and sites; the number of "
        "clusters has the highest cosine silhouette",
        misleads="sees only the few largest directions; clusters that cross label and site give 0, as noise does. An "
        "index below chance takes it a little beyond 1",
        reference=PATHOROB,
    )
)
PERFORMANCE_DROP = _register(
    Metric(
        name="performance_drop",
        title="average performance drop",
        better="higher",
        range=(-1, None),
        chance=0.0,
        describes="relative change of a probe's accuracy on balanced tiles as its training tiles confound label and "
        "site ever more; 0: nothing is lost",
        misleads="an encoder that reads nothing has nothing to lose: read it beside the accuracy",
        reference=PATHOROB,
    )
)
ILISI = _register(
    Metric(
        name="ilisi",
        title="mixing of sites (iLISI)",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="effective number of sites around a tile (inverse Simpson index, perplexity 30), median over tiles, "
        "scaled so that 0 is one site and 1 all alike",
        misleads="collapse mixes perfectly; sites of unequal size cannot reach 1, nor can tiles whose own group is "
        "left out",
        reference=HARMONY,
    )
)
CLISI = _register(
    Metric(
        name="clisi",
        title="purity of labels (cLISI)",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="the same of labels, scaled so that 1 is one label around each tile",
        misleads="is near 1 for most encoders, so that it separates few",
        reference=HARMONY,
    )
)
KBET = _register(
    Metric(
        name="kbet",
        title="kBET acceptance",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="share of tiles around which sites are as frequent as everywhere (chi-squared test, 50 tiles, 5 %)",
        misleads="rejects nearly any difference when k is large; tiles of one slide are no independent draws",
        reference=KBET,
    )
)
BATCH_SILHOUETTE = _register(
    Metric(
        name="batch_silhouette",
        title="silhouette of sites",
        better="lower",
        range=(-1, 1),
        chance=0.0,
        describes="mean silhouette of tiles in their site, by cosine: 1 where each site is a cluster of its own",
        misleads="below 0.10 is weak evidence: two sites that a probe separates with 99.8 % have 0.057. Read it beside "
        "a fresh probe of the site",
        reference=ROUSSEEUW,
    )
)
BATCH_SILHOUETTE_EUCLIDEAN = _register(
    Metric(
        name="batch_silhouette_euclidean",
        title="silhouette of sites, Euclidean",
        better="lower",
        range=(-1, 1),
        chance=0.0,
        describes="the same with Euclidean distance",
        misleads="as the silhouette of sites; one dimension of large scale can decide it",
        reference=ROUSSEEUW,
    )
)
BATCH_SILHOUETTE_SCIB = _register(
    Metric(
        name="batch_silhouette_scib",
        title="mixing of sites within labels (scIB silhouette)",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="1 - |silhouette of the site| within each label, mean over its tiles, then over labels",
        misleads="is above 0.9 for encoders whose sites a probe reads perfectly; takes a tile amidst another site for "
        "badly mixed",
        reference=SCIB,
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
        reference=LENC,
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
        reference=ROY,
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
        reference=CKA,
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
        reference=GOWER,
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
        reference=PLATONIC,
    )
)
GAUSSIAN_W2_SQUARED = _register(
    Metric(
        name="gaussian_w2_squared",
        title="Gaussian W2, squared",
        better="lower",
        range=(0, None),
        chance=None,
        describes="squared Wasserstein-2 distance of two batches as normal distributions, which is what FID reports",
        misleads="sampling alone lifts it: read it against its split-half floor; collapse lowers it: read it beside "
        "effective rank and label accuracy",
        reference=DOWSON,
    )
)
CLASS_GAUSSIAN_W2_SQUARED = _register(
    Metric(
        name="class_gaussian_w2_squared",
        title="Gaussian W2 within classes, squared",
        better="lower",
        range=(0, None),
        chance=None,
        describes="the same between tiles of one class, mean over classes: what is not a difference of class balance",
        misleads="each class has fewer tiles, so that sampling lifts it more: read it against its split-half floor",
        reference=DOWSON,
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
        reference=PEYRE,
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
        reference=BONNEEL,
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
        reference=BEN_DAVID,
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
        reference=ZEILER,
    )
)
