"""Figures of maps against scikit-learn and a longhand reference; floors, intervals, anchors without bias."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness

from histolatent.errors import InputError, OptionError
from histolatent.explore.faithfulness import measure_faithfulness
from histolatent.explore.metrics import MAP_METRICS

K = (5, 12)


def spaces(n=140, d=7, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)) * np.linspace(3, 0.5, d)
    return x, x[:, :2] + random.normal(size=(n, 2))


def longhand(x, y, k):
    """Every figure from two whole matrices of ranks, as the definitions have them."""
    n = len(x)
    ranks = []
    for space in (x, y):
        far = cdist(space, space)
        np.fill_diagonal(far, -1)
        ranks.append(np.argsort(np.argsort(far, axis=1, kind="stable"), axis=1, kind="stable"))
    r, s = ranks
    off = ~np.eye(n, dtype=bool)
    near_x, near_y = (r <= k) & off, (s <= k) & off
    scale = 2 / (n * k * (2 * n - 3 * k - 1))
    errors = n * sum(abs(n - 2 * i + 1) / i for i in range(1, k + 1))
    q = [((np.maximum(r, s) <= size) & off).sum() / (n * size) for size in range(1, n - 1)]
    curve = [((n - 1) * q[size - 1] - size) / (n - 1 - size) for size in range(1, n - 1)]
    weights = 1 / np.arange(1, n - 1)
    return {
        "trustworthiness": 1 - scale * (r - k)[near_y & ~near_x].sum(),
        "continuity": 1 - scale * (s - k)[near_x & ~near_y].sum(),
        "mrre_false": 1 - (np.abs(r - s)[near_y] / s[near_y]).sum() / errors,
        "mrre_missing": 1 - (np.abs(r - s)[near_x] / r[near_x]).sum() / errors,
        "recall": (near_x & near_y).sum() / (n * k),
        "r_nx": curve[k - 1],
        "auc": float(np.average(curve, weights=weights)),
    }


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("wide", [2, 11])
def test_every_figure_is_what_its_definition_says(exact, wide):
    x, y = spaces()
    y = np.hstack([y, np.zeros((len(y), wide - 2))])  # few columns are compared by differences, many by products
    found = measure_faithfulness(x, y, sizes=K, anchors=None, metric="euclidean", exact=exact)
    for k in K:
        for name, value in longhand(x, y, k).items():
            own = found[name if name == "auc" else f"{name}@{k}"].estimate.value
            assert own == pytest.approx(value, abs=1e-12), (name, k)
        assert found[f"trustworthiness@{k}"].estimate.value == pytest.approx(trustworthiness(x, y, n_neighbors=k))
    assert {figure.metric for figure in found.figures} == set(MAP_METRICS)


def test_the_cosine_is_the_euclidean_distance_of_unit_vectors():
    x, y = spaces()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    first = measure_faithfulness(x, y, sizes=K, anchors=None, exact=True)
    second = measure_faithfulness(unit, y, sizes=K, anchors=None, metric="euclidean", exact=True)
    assert first.to_frame().equals(second.to_frame())


def test_limits_of_a_perfect_map_and_of_a_random_one():
    random = np.random.default_rng(3)
    x = random.normal(size=(400, 2))
    turned = 7 * x @ np.array([[0, 1.0], [-1, 0]]) + 3
    same = measure_faithfulness(x, turned, sizes=(10,), metric="euclidean")
    for figure in same.figures:
        assert figure.estimate.value == pytest.approx(0 if figure.metric == "stress" else 1, abs=1e-6), figure.name
    for metric in ("recall", "trustworthiness"):
        assert same[f"{metric}@10"].floor == pytest.approx(10 / 399 if metric == "recall" else 0.5, abs=0.03)
    chance = measure_faithfulness(x, random.normal(size=(400, 2)), sizes=(10,), anchors=None, metric="euclidean")
    for name, value in {"r_nx@10": 0, "auc": 0, "triplets": 0.5, "shepard": 0}.items():
        assert chance[name].estimate.value == pytest.approx(value, abs=0.02), name
        assert chance[name].floor == pytest.approx(value, abs=0.06), name


def test_distances_are_compared_as_scipy_does():
    x, y = spaces(300)
    found = measure_faithfulness(x, y, sizes=(5,), anchors=None, metric="euclidean", exact=True)
    far = [cdist(space, space)[np.triu_indices(len(x), 1)] for space in (x, y)]
    assert found["shepard"].estimate.value == pytest.approx(spearmanr(*far).statistic, abs=0.02)
    scale = far[0] @ far[1] / (far[1] @ far[1])
    stress = np.linalg.norm(far[0] - scale * far[1]) / np.linalg.norm(far[0])
    assert found["stress"].estimate.value == pytest.approx(stress, abs=0.01)


def test_nothing_depends_on_the_order_of_tiles_or_on_scale():
    x, y = spaces()
    order = np.random.default_rng(1).permutation(len(x))
    first = measure_faithfulness(x, y, sizes=K, anchors=None, metric="euclidean", exact=True)
    second = measure_faithfulness(3 * x[order], 0.1 * y[order], sizes=K, anchors=None, metric="euclidean", exact=True)
    for figure in first.figures:
        tolerance = 0.05 if figure.metric in ("triplets", "shepard", "stress") else 1e-12  # of other pairs
        assert second[figure.name].estimate.value == pytest.approx(figure.estimate.value, abs=tolerance)


def test_anchors_are_without_bias_and_their_interval_holds_the_truth():
    x, y = spaces(600, 12)
    truth = measure_faithfulness(x, y, sizes=(15,), anchors=None, metric="euclidean")
    inside, values = [], []
    for seed in range(60):
        drawn = measure_faithfulness(x, y, sizes=(15,), anchors=150, metric="euclidean", seed=seed)["recall@15"]
        values.append(drawn.estimate.value)
        inside.append(drawn.estimate.low <= truth["recall@15"].estimate.value <= drawn.estimate.high)
    assert np.mean(values) == pytest.approx(truth["recall@15"].estimate.value, abs=0.004)
    assert 0.85 <= np.mean(inside) <= 1  # benchmarks/explore.py counts 300 draws
    half = np.random.default_rng(0).permutation(600)[:300]
    subsampled = measure_faithfulness(x[half], y[half], sizes=(15,), anchors=None, metric="euclidean")
    assert subsampled["recall@15"].estimate.value > truth["recall@15"].estimate.value + 0.05
    every = truth["recall@15"].estimate
    assert every.low == every.value == every.high


def test_groups_make_intervals_wider():
    x, y = spaces(300)
    groups = np.repeat(np.arange(6), 50)
    y[groups == 0] = np.random.default_rng(0).normal(size=(50, 2))  # one patient is mapped badly
    alone, grouped = (
        measure_faithfulness(x, y, sizes=(10,), anchors=100, metric="euclidean", groups=by)["recall@10"].estimate
        for by in (None, groups)
    )
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_copies_tie_by_row_and_constant_columns_do_no_harm():
    x, y = spaces(60)
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    found = measure_faithfulness(x, y, sizes=(5,), anchors=None, metric="euclidean", exact=True)
    assert found["recall@5"].estimate.value == pytest.approx(longhand(x, y, 5)["recall"])


@pytest.mark.parametrize(
    ("n", "options", "error", "said"),
    [
        (4, {}, InputError, "too few tiles to have neighbourhoods.*4"),
        (60, {"sizes": (30,)}, OptionError, "not defined for so many.*k = 30 of 60.*1 to 29"),
        (60, {"metric": "manhattan"}, OptionError, "no such metric.*cosine, euclidean"),
        (60, {"anchors": 1}, OptionError, "too few anchors"),
        (60, {"groups": np.zeros(7, int)}, InputError, "7 for 60 tiles"),
    ],
)
def test_what_cannot_be_judged_is_said(n, options, error, said):
    x, y = spaces(n)
    with pytest.raises(error, match=said):
        measure_faithfulness(x, y, **{"sizes": (5,), **options})


def test_bad_numbers_and_a_map_of_one_point_are_said():
    x, y = spaces(60)
    with pytest.raises(InputError, match="every tile is at the same place"):
        measure_faithfulness(x, np.ones((60, 2)), sizes=(5,))
    y[3, 1] = np.nan
    with pytest.raises(InputError, match=r"the places of the map hold NaN.*row 3"):
        measure_faithfulness(x, y, sizes=(5,))
    with pytest.raises(InputError, match="59 and 60"):
        measure_faithfulness(x, y[:59], sizes=(5,))
    with pytest.raises(OptionError, match="no such figure"):
        measure_faithfulness(x, spaces(60)[1], sizes=(5,))["recall@6"]
