"""Robustness of neighbourhoods against references of a few lines, limits, planted shifts, reasons."""

import numpy as np
import pytest

from histolatent.audit.robustness import (
    best_k,
    margin_index,
    measure_shortfalls,
    robustness_index,
    robustness_margin,
)
from histolatent.audit.undefined import Undefined
from histolatent.errors import InputError
from histolatent.neighbors import find_neighbors
from histolatent.stats import bootstrap

N, K, M = 300, 12, 3


def cohort(site=1.0, label=1.0, seed=0, n=N):
    """Three labels at four sites, ten slides each; unit noise plus offsets of the label and of the site."""
    rng = np.random.default_rng(seed)
    labels, sites = rng.integers(0, 3, n), rng.integers(0, 4, n)
    groups = 10 * sites + rng.integers(0, 10, n)
    noise, of_label, of_site = rng.normal(size=(n, 16)), rng.normal(size=(3, 16)), rng.normal(size=(4, 16))
    return (noise + label * of_label[labels] + site * of_site[sites]).astype(np.float32), labels, sites, groups


def near(data, k=K, m=M):
    vectors, labels, sites, groups = data
    return find_neighbors(vectors, k, m=m, labels=labels, confounders=sites, groups=groups)


def types_by_hand(data):
    """Sorted neighbours of other groups of each tile: distance, same label, same site."""
    vectors, labels, sites, groups = data
    units = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    distance = 1 - units @ units.T
    for i in range(len(vectors)):
        others = [j for j in np.argsort(distance[i]) if groups[j] != groups[i]]
        yield distance[i, others], labels[others] == labels[i], sites[others] == sites[i]


def index_by_hand(data, weigh):
    so = os = 0.0
    for distance, label, site in types_by_hand(data):
        weight = weigh(distance[:K])
        so += weight[label[:K] & ~site[:K]].sum()
        os += weight[~label[:K] & site[:K]].sum()
    return so / (so + os)


def margins_by_hand(data):
    rows = []
    for distance, label, site in types_by_hand(data):
        so, os = distance[label & ~site][:M].mean(), distance[~label & site][:M].mean()
        rows.append((os - so) / (os + so))
    return np.array(rows)


@pytest.mark.parametrize("site", [0.0, 1.0, 3.0])
def test_against_references(site):
    data = cohort(site)
    found = near(data)
    assert robustness_index(found, K).value == pytest.approx(index_by_hand(data, np.ones_like), abs=1e-12)
    typed = np.concatenate([d[:K][(s != p)[:K]] for d, s, p in types_by_hand(data)])
    weighted = margin_index(found, K)
    assert weighted.tau == pytest.approx(np.median(typed), abs=1e-12)
    by_hand = index_by_hand(data, lambda distance: np.exp(-distance / np.median(typed)))
    assert weighted.value == pytest.approx(by_hand, abs=1e-12)
    margin, values = robustness_margin(found, M), margins_by_hand(data)
    np.testing.assert_allclose(margin.values, values, atol=1e-12)
    assert margin.median == pytest.approx(np.median(values), abs=1e-12)
    assert margin.worst == pytest.approx(values[values <= np.percentile(values, 10)].mean(), abs=1e-12)
    assert margin.confounded == np.mean(values <= 0)
    assert margin.coverage == 1


def test_the_older_form_is_same_label_over_same_site():
    data = cohort()
    label = sum(same[:K].sum() for _, same, _ in types_by_hand(data))
    site = sum(same[:K].sum() for _, _, same in types_by_hand(data))
    assert robustness_index(near(data), K).ratio == pytest.approx(label / site)


def test_noise_is_at_chance():
    found = [robustness_index(near(cohort(0, 0, seed, 900)), K) for seed in range(4)]
    assert np.mean([one.value - one.chance for one in found]) == pytest.approx(0, abs=0.02)
    assert np.mean([robustness_margin(near(cohort(0, 0, seed, 900)), M).median for seed in range(4)]) > -0.05


def test_limits():
    label, site = cohort(0, 30), cohort(30, 0)
    assert robustness_index(near(label), K).value == 1
    assert margin_index(near(label), K).value == 1
    assert robustness_margin(near(label), M).median > 0.8
    assert robustness_index(near(site), K).value == 0
    assert robustness_margin(near(site), M).confounded == 1
    assert robustness_margin(near(site), M).worst < -0.8


def test_every_figure_falls_with_a_growing_site():
    rows = []
    for site in (0.0, 0.4, 0.8, 1.2, 1.6):
        found = near(cohort(site))
        margin = robustness_margin(found, M)
        index = robustness_index(found, K)
        rows.append(
            [index.value, index.ratio, margin_index(found, K).value, margin.median, margin.worst, -margin.confounded]
        )
    assert (np.diff(rows, axis=0) < 0).all()


def test_order_scale_and_rotation_do_not_matter():
    vectors, *codes = data = cohort()
    order = np.random.default_rng(4).permutation(N)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(16, 16)))[0]
    plain = robustness_index(near(data), K)
    changed = [tuple(part[order] for part in data), (700 * vectors, *codes), (vectors.astype(float) @ turn, *codes)]
    for other in changed:
        found = near(other)
        assert robustness_index(found, K).value == plain.value
        assert margin_index(found, K).value == pytest.approx(margin_index(near(data), K).value, abs=1e-9)
        assert robustness_margin(found, M).worst == pytest.approx(robustness_margin(near(data), M).worst, abs=1e-6)
    shuffled = robustness_index(near(changed[0]), K)
    np.testing.assert_array_equal(shuffled.counts, plain.counts[order])


def test_intervals_hold_the_value_and_a_resample_is_the_figure_of_its_tiles():
    data = cohort()
    found = near(data)
    margin = robustness_margin(found, M)
    counts = np.random.default_rng(0).integers(0, 3, N).astype(float)
    repeated = np.repeat(margin.values, counts.astype(int))
    assert margin.median_statistic()(counts[None, :])[0] == pytest.approx(np.median(repeated))
    worst = repeated[repeated <= np.percentile(repeated, 10)].mean()
    assert margin.worst_statistic()(counts[None, :])[0] == pytest.approx(worst)
    assert margin.confounded_statistic()(counts[None, :])[0] == pytest.approx(np.mean(repeated <= 0))
    index = robustness_index(found, K)
    for statistic in (index.statistic(), index.ratio_statistic(), margin.median_statistic(), margin.worst_statistic()):
        estimate = bootstrap(statistic, data[3], resamples=200)
        assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vectors": np.ones((N, 16), np.float32)}, "all embeddings are the same"),
        ({"labels": np.zeros(N, int)}, "all tiles have one label"),
        ({"sites": np.zeros(N, int)}, "all tiles have one confounder"),
        ({"sites": cohort()[1]}, "no label occurs at two confounders"),
    ],
)
@pytest.mark.parametrize("figure", [robustness_index, margin_index, robustness_margin])
def test_what_cannot_be_said_has_a_reason(change, reason, figure):
    data = dict(zip(("vectors", "labels", "sites", "groups"), cohort(), strict=True)) | change
    found = figure(near(tuple(data.values())), M)
    assert isinstance(found, Undefined)
    assert reason in found.reason


def test_groups_that_hold_a_label_leave_no_other_label_here():
    vectors, labels, sites, _ = cohort()
    found = robustness_index(near((vectors, labels, sites, sites)), K)
    assert found == Undefined("no confounder has two labels in different groups")


def test_copies_have_no_margin():
    vectors, labels, sites, _ = cohort()
    one = np.repeat(vectors[:2], N // 2, axis=0)
    found = find_neighbors(one, K, m=M, labels=labels, confounders=sites)
    assert isinstance(robustness_margin(found, M), Undefined)
    assert "copies" in margin_index(found, K).reason
    assert 0 < margin_index(found, K, tau=0.1).value < 1


def test_tiles_with_too_few_of_a_type_are_left_out_and_counted():
    vectors, labels, sites, groups = cohort()
    labels = np.where(np.arange(N) < 2, 3, labels)  # two tiles of a label of their own
    margin = robustness_margin(near((vectors, labels, sites, groups)), M)
    assert margin.coverage == (N - 2) / N
    assert not np.isin([0, 1], margin.rows).any()
    assert np.isfinite(margin.values).all()


def test_k_is_chosen_by_the_vote_as_by_hand():
    data = cohort(site=2, label=0.6)
    found = near(data, k=40)
    labels = data[1]
    scores = []
    for k in (1, 5, 20, 40):
        votes = labels[found.plain.index[:, :k]]
        guess = np.array([np.bincount(row).argmax() for row in votes])
        scores.append(np.mean([(guess == labels)[labels == label].mean() for label in range(3)]))
    assert best_k(found, (1, 5, 20, 40)) == (1, 5, 20, 40)[int(np.argmax(scores))]


def test_messages():
    vectors, labels, sites, groups = cohort()
    found = near((vectors, labels, sites, groups))
    with pytest.raises(InputError, match=r"too few neighbours were searched for. Received: 12, 50 are needed"):
        robustness_index(found)
    with pytest.raises(InputError, match=r"too few neighbours were searched for. Received: 3, 4 are needed"):
        robustness_margin(found, 4)
    with pytest.raises(InputError, match=r"tau has to be above 0. Received: 0"):
        margin_index(found, K, tau=0)
    with pytest.raises(InputError, match=r"have no types. Fix: search with labels and confounders"):
        robustness_index(find_neighbors(vectors, K), K)
    with pytest.raises(InputError, match="candidates for k"):
        best_k(found, ())


def test_nearness_is_mutual_and_intervals_are_widened_for_it():
    """In clumps of ten, each pair of tiles counts at both ends: squares are about twice what tiles alone say."""
    rng = np.random.default_rng(0)
    labels, sites, groups = rng.integers(0, 2, N), rng.integers(0, 2, N), rng.permutation(N)

    def search(vectors):
        return find_neighbors(vectors.astype(np.float32), 9, labels=labels, confounders=sites, groups=groups)

    clumps = search(rng.normal(size=(30, 8))[np.arange(N) % 30] + 0.01 * rng.normal(size=(N, 8)))
    wider = measure_shortfalls(clumps, groups, k=9, m=M, deals=400)
    assert wider.index == pytest.approx(np.sqrt(2), rel=0.15)
    assert wider.margin > 1
    assert measure_shortfalls(clumps, groups, k=9, m=M, deals=400) == wider
    nothing = measure_shortfalls(search(np.ones((N, 4))), groups, k=9)
    assert (nothing.index, nothing.margin) == (1, 1)
