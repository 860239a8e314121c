"""Every figure of a map, registered once: direction, range, chance, source, and when it misleads."""

from ..metric import Metric
from ..registry import Registry

VENNA = "Venna & Kaski 2001, ICANN; Venna & Kaski 2006, Neural Networks 19:889"
LEE = "Lee & Verleysen 2007, Neurocomputing 70:1431"
RANKS = "Lee & Verleysen 2009, Neurocomputing 72:1431"
AUC = "Lee, Peluffo-Ordonez & Verleysen 2015, Neurocomputing 169:246"
TRIMAP = "Amid & Warmuth 2019, arXiv 1910.00204"
SHEPARD = "Shepard 1962, Psychometrika 27:125"
STRESS = "Smelser, Miller & Kobourov 2024, arXiv 2408.07724"

#: The figures of a map by name.
MAP_METRICS: Registry[Metric] = Registry("figure of a map")

for _metric in (
    Metric(
        name="trustworthiness",
        title="trustworthiness",
        better="higher",
        range=(0, 1),
        chance=0.5,
        describes="1 less a penalty for tiles near in the map that were not near in the space, by their rank there",
        misleads="it counts ranks among all tiles: a map may lose nine of ten neighbours and have .98, as long "
        "as the false ones were not far away; never read it without recall",
        reference=VENNA,
    ),
    Metric(
        name="continuity",
        title="continuity",
        better="higher",
        range=(0, 1),
        chance=0.5,
        describes="1 less a penalty for tiles near in the space that are not near in the map, by their rank there",
        misleads="as trustworthiness does; a map that tears a cluster in two halves of the same shape hardly loses any",
        reference=VENNA,
    ),
    Metric(
        name="mrre_false",
        title="ranks of false neighbours (MRRE)",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="1 less the mean relative error of ranks of the neighbours in the map",
        misleads="the few nearest weigh most; like trustworthiness it is near 1 for poor maps of many tiles",
        reference=LEE,
    ),
    Metric(
        name="mrre_missing",
        title="ranks of missing neighbours (MRRE)",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="1 less the mean relative error of ranks of the neighbours in the space",
        misleads="as that of false neighbours does",
        reference=LEE,
    ),
    Metric(
        name="recall",
        title="neighbours kept",
        better="higher",
        range=(0, 1),
        chance=None,
        describes="share of the k nearest tiles in the space that are among the k nearest in the map; chance is k/N",
        misleads="grows with k; a near miss counts as a miss; among a sample of tiles it is far higher than among all",
        reference=RANKS,
    ),
    Metric(
        name="r_nx",
        title="neighbours kept beyond chance",
        better="higher",
        range=(None, 1),
        chance=0.0,
        describes="recall, moved and scaled so that a random layout has 0 and a perfect one 1",
        misleads="of one k alone: clusters kept with their insides shuffled look bad at small k, good at large",
        reference=AUC,
    ),
    Metric(
        name="auc",
        title="neighbours kept, over all sizes",
        better="higher",
        range=(None, 1),
        chance=0.0,
        describes="mean of neighbours kept beyond chance over all k, weighed by 1 / k",
        misleads="one figure for near and far: two maps with the same may err at opposite ends",
        reference=AUC,
    ),
    Metric(
        name="triplets",
        title="which of two is nearer",
        better="higher",
        range=(0, 1),
        chance=0.5,
        describes="share of random triplets in which the map says rightly which of two tiles is nearer to the third",
        misleads="says how the large shape is kept, nothing of neighbours",
        reference=TRIMAP,
    ),
    Metric(
        name="shepard",
        title="rank correlation of distances",
        better="higher",
        range=(-1, 1),
        chance=0.0,
        describes="Spearman correlation of distances in the space and in the map, over random pairs",
        misleads="pairs that are far apart decide; distances in many dimensions hardly differ, so that good maps may "
        "have little",
        reference=SHEPARD,
    ),
    Metric(
        name="stress",
        title="misfit of distances",
        better="lower",
        range=(0, 1),
        chance=None,
        describes="misfit of distances in the map at their best scale, as a share of those in the space; random pairs",
        misleads="where distances hardly differ, a random layout has hardly more than a good map: read the floor",
        reference=STRESS,
    ),
):
    MAP_METRICS.register(_metric.name, _metric)
