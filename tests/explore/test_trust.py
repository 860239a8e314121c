"""Which tiles to believe, which islands are there, what a picture adds: planted truths and nulls."""

import numpy as np
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.explore.islands import judge_island
from histolatent.explore.maps import make_map
from histolatent.explore.points import permuted_features, reliability, stability
from histolatent.explore.trust import compare_purity, judge_map


def sheet(n=400, d=20, seed=0):
    """A filled rectangle, turned into d dimensions with a little noise: no islands."""
    random = np.random.default_rng(seed)
    plane = random.uniform(size=(n, 2)) * (3, 1)
    turn = np.linalg.qr(random.normal(size=(d, d)))[0][:2]
    return (plane @ turn + 0.02 * random.normal(size=(n, d))).astype(np.float32), plane


def test_an_island_that_is_there_is_found():
    random = np.random.default_rng(0)
    inside = np.arange(300) < 60
    vectors = (random.normal(size=(300, 20)) + 1.6 * inside[:, None]).astype(np.float32)
    found = judge_island(vectors, inside, metric="euclidean")
    assert found.real and found.auroc.value > 0.95 and found.valley < 0.6 and found.p < 0.05
    assert found.silhouette > 0.1 and found.tiles == 60
    assert "is there in the space" in str(found)


@pytest.mark.slow
def test_a_piece_cut_from_a_continuum_is_no_island():
    """A probe tells each piece from what is around it; a gap is what no piece has. Of 40 pieces few are called one."""
    called, probes = [], []
    for seed in range(40):
        vectors, plane = sheet(seed=seed)
        corner = np.random.default_rng(seed).uniform(0, 2)
        inside = (plane[:, 0] > corner) & (plane[:, 0] < corner + 0.8)
        if seed % 2:
            inside = plane @ np.random.default_rng(seed).normal(size=2) > np.median(plane.sum(axis=1)) / 2
            inside = inside if 20 < inside.sum() < 380 else plane[:, 1] > 0.6
        found = judge_island(vectors, inside, metric="euclidean", seed=seed)
        called.append(found.real)
        probes.append(found.auroc.value)
    assert np.max(probes) > 0.9 and sum(called) <= 4


def test_islands_that_cannot_be_tested_are_said():
    vectors = sheet()[0]
    with pytest.raises(InputError, match=r"too few tiles for an island.*3 inside, 397 outside"):
        judge_island(vectors, np.arange(400) < 3)
    with pytest.raises(InputError, match="7 for 400"):
        judge_island(vectors, np.arange(400) < 50, groups=np.zeros(7, int))


def longhand_score(x, y, row):
    """What scDEED correlates, tile by tile: distances in the map to the nearer half, by both orders."""
    others = [i for i in range(len(x)) if i != row]
    far_x, far_y = ({i: float(np.linalg.norm(s[i] - s[row])) for i in others} for s in (x, y))
    half = len(x) // 2
    first = [far_y[i] for i in sorted(others, key=far_x.get)[:half]]
    second = [far_y[i] for i in sorted(others, key=far_y.get)[:half]]
    return np.corrcoef(first, second)[0, 1]


def test_reliability_is_that_of_its_paper_and_finds_misplaced_tiles():
    vectors, plane = sheet()
    places = plane.copy()
    lost = np.arange(0, 400, 20)
    places[lost] = np.random.default_rng(1).permutation(places)[lost]
    null = permuted_features(vectors, metric="euclidean")
    assert np.array_equal(np.sort(null, axis=0), np.sort(vectors, axis=0)) and not np.array_equal(null, vectors)
    nowhere = make_map(null, "pca", metric="euclidean").places
    rows = np.arange(400)
    found = reliability(vectors, places, null, nowhere, rows, metric="euclidean")
    for row in (0, 7, 399):
        assert found.scores[row] == pytest.approx(longhand_score(vectors, places, row))
    verdicts = np.array(found.verdicts)
    assert found.dubious < found.trusted
    assert np.median(found.scores[lost]) < np.median(np.delete(found.scores, lost)) - 0.3
    trusted = [float((part == "trusted").mean()) for part in (verdicts[lost], np.delete(verdicts, lost))]
    assert trusted[0] < 0.2 and trusted[1] > 0.5
    with pytest.raises(InputError, match="different numbers of tiles"):
        reliability(vectors, places[:5], null, nowhere, rows)


def test_structure_that_is_not_there_is_dubious_as_often_as_the_null():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 20))
    null = permuted_features(vectors, metric="euclidean")
    maps = [make_map(each, "pca", metric="euclidean").places for each in (vectors, null)]
    found = reliability(vectors, maps[0], null, maps[1], np.arange(300), metric="euclidean")
    shares = [found.verdicts.count(name) / 300 for name in ("dubious", "unclear", "trusted")]
    assert shares[0] < 0.12 and shares[1] > 0.8 and shares[2] < 0.12


def test_stability_is_of_pairs_of_maps():
    vectors = sheet()[0]
    made = [make_map(vectors, "pca", seed=seed) for seed in range(3)]
    assert stability(made).tolist() == [1.0] * 400
    with pytest.raises(InputError, match="2 or more"):
        stability(made[:1])


def test_what_a_picture_adds_is_told_from_what_is_there():
    vectors, plane = sheet()
    sites = np.array(["a", "b"])[np.arange(400) % 2].tolist()
    made = make_map(vectors, "pca", metric="euclidean")
    plain = compare_purity(made, "site", sites)
    assert plain.chance == pytest.approx(199 / 399)
    assert plain.space.value == pytest.approx(0.5, abs=0.03) and abs(plain.added.value) < 0.03
    from dataclasses import replace

    torn = replace(made, places=made.places + 9.0 * (np.arange(400) % 2)[:, None])  # the picture tears sites apart
    added = compare_purity(torn, "site", sites)
    assert added.map.value == 1 and added.added.low > 0.4
    some = [site if row % 3 else None for row, site in enumerate(sites)]
    assert compare_purity(made, "site", some).space.value == pytest.approx(0.5, abs=0.05)
    # Three pairs of tiles, each far from the other: whose neighbours are not known says nothing, rather than 0.
    order = np.argsort(plane[:, 0])
    few = [None] * 400
    for row in (*order[:6], *order[-6:], order[200]):
        few[row] = "left" if plane[row, 0] < 1 else "right"
    lonely = compare_purity(made, "site", few, groups=np.arange(400) // 2)
    assert lonely.space.value == 1 and lonely.map.value == 1
    with pytest.raises(InputError, match="no neighbours of each other"):
        compare_purity(
            made, "site", ["a" if row == order[0] else "b" if row == order[-1] else None for row in range(400)]
        )
    with pytest.raises(InputError, match="fewer than two values"):
        compare_purity(made, "site", ["a"] * 400)
    with pytest.raises(InputError, match="site is of other tiles"):
        compare_purity(made, "site", sites[:9])


def test_all_of_it_in_one_object_and_one_line():
    vectors, _ = sheet(120)
    made = make_map(vectors, "pca")
    halves = (["x"] * 60) + (["y"] * 60)
    found = judge_map(made, columns={"label": halves}, groups=np.repeat(np.arange(6), 20), seeds=2, anchors=50)
    assert set(found.points) >= {"recall@15", "false@50", "missing@15", "stability", "reliability", "verdict"}
    assert len(found.points) == 50
    line = found.caption()
    assert line.startswith("pca: of the 15 nearest tiles the map shows ") and "at random" in line
    assert "other seeds agree on 100%" in line and "no better than by chance" in line
    frame = found.to_frame()
    assert {"trustworthiness", "recall", "auc", "purity added"} <= set(frame["metric"])
    small = judge_map(make_map(vectors[:20], "pca"), seeds=1, null=False)
    assert {figure.k for figure in small.faithfulness.figures} == {None, 4}  # 15 is more than half of 20
    with pytest.raises(OptionError, match=r"k = 80 of 120 tiles.*1 to 59"):
        judge_map(made, sizes=(80,), seeds=1, null=False)
