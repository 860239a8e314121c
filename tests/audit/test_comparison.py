"""Encoders compared tile by tile: planted differences are found and named, and nothing differs from itself."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from histolatent.audit.comparison import compare_encoders, compare_tables
from histolatent.audit.result import OperationResult, Step
from histolatent.stats import holm

GROUPS, EACH = 20, 6
N = GROUPS * EACH


def operation(name: str, family: str = "stain", role: str = "must-ignore") -> OperationResult:
    return OperationResult(
        name=name,
        family=family,
        role=role,
        parameter="x",
        unit="",
        graded=True,
        control=None,
        describes="",
        misleads="",
        steps=[Step(severity=s, level=s, pixels_sha256="") for s in range(1, 6)],
    )


OPERATIONS = [
    operation("gain"),
    operation("turn"),
    operation("blur", "acquisition"),
    operation("erased", role="must-react"),
]


def table(seed: int = 0, **moved: float) -> pd.DataFrame:
    """Tiles of 20 groups; each figure is noise around 0.5, moved by what is given."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(GROUPS), EACH)
    base = 0.5 + 0.1 * np.random.default_rng(99).normal(size=GROUPS)[group]  # shared: tiles differ alike
    columns = {"tile": [f"t{i}" for i in range(N)], "group": group}
    for item in OPERATIONS:
        columns[f"displacement: {item.name}"] = base + 0.02 * random.normal(size=N) + moved.get(item.name, 0)
    columns["selectivity"] = np.clip(base + 0.02 * random.normal(size=N) + moved.get("selectivity", 0), 0, 1)
    for target, right in (("label", 0.7), ("site", 0.6)):
        truth = np.where(np.arange(N) % 2, "a", "b")
        share = right + moved.get(target, 0)
        hit = random.permuted(np.arange(N) < share * N)
        columns[f"{target}: true"] = truth.astype(object)
        columns[f"{target}: read"] = np.where(hit, truth, np.where(truth == "a", "b", "a")).astype(object)
    return pd.DataFrame(columns).set_index("tile")


def compared(first: pd.DataFrame, second: pd.DataFrame, names=("one", "two"), **more):
    return compare_tables([(*names, first, second)], OPERATIONS, resamples=500, **more)


def by_name(found) -> dict:
    return {item.operation or item.column or item.metric: item for item in found}


def test_an_encoder_does_not_differ_from_itself():
    found = compared(table(), table())
    assert set(by_name(found)) == {"gain", "turn", "blur", "selectivity", "label", "site"}
    for item in found:
        assert item.difference.value == 0
        assert (item.p, item.p_holm, item.p_bh, item.better) == (1, 1, 1, None)


@pytest.mark.parametrize(
    ("moved", "by", "better"),
    [
        ("gain", 0.05, "one"),
        ("gain", -0.05, "two"),
        ("blur", 0.05, "one"),
        ("selectivity", 0.05, "two"),
        ("selectivity", -0.05, "one"),
        ("label", 0.25, "two"),
        ("label", -0.25, "one"),
        ("site", 0.3, "one"),
        ("site", -0.3, "two"),
    ],
)
def test_a_planted_difference_is_found_and_named(moved, by, better):
    found = by_name(compared(table(1), table(2, **{moved: by})))
    assert found[moved].better == better
    assert found[moved].difference.value == pytest.approx(-by, abs=0.03)
    assert all(item.better is None for name, item in found.items() if name != moved)


def test_a_label_at_sites_that_were_not_seen_is_a_figure_of_its_own():
    def unseen(seed: int, share: float) -> pd.DataFrame:
        whole = table(seed)
        hit = np.random.default_rng(seed).permuted(np.arange(N) < share * N)
        truth = whole["label: true"].to_numpy(object)
        read = np.where(hit, truth, np.where(truth == "a", "b", "a")).astype(object)
        read[:6] = None  # of one site nothing could be read
        return whole.assign(**{"unseen label: true": truth, "unseen label: read": read})

    found = compared(unseen(1, 0.6), unseen(2, 0.9))
    (item,) = [item for item in found if item.metric == "unseen_accuracy"]
    assert (item.column, item.family, item.better, item.tiles) == ("label", "signal", "two", N - 6)
    assert item.difference.value == pytest.approx(-0.3, abs=0.05)
    assert {one.better for one in found if one is not item} == {None}


def test_the_order_of_encoders_flips_signs_only():
    first, second = table(1), table(2, gain=0.05, label=0.2)
    there, back = by_name(compared(first, second)), by_name(compared(second, first, ("two", "one")))
    for name, item in there.items():
        other = back[name]
        assert other.difference.value == pytest.approx(-item.difference.value)
        assert (other.difference.low, other.difference.high) == pytest.approx(
            (-item.difference.high, -item.difference.low)
        )
        assert (other.p, other.p_holm, other.p_bh) == pytest.approx((item.p, item.p_holm, item.p_bh))
        assert other.better == item.better


def test_only_tiles_of_both_count():
    first, second = table(1), table(2, gain=0.05)
    short = second.iloc[::-1].iloc[: N // 2]
    short = pd.concat([short, short.iloc[:3].rename(lambda name: f"other {name}")])
    found = by_name(compared(first, short))
    assert {item.tiles for item in found.values()} == {N // 2}
    again = by_name(compared(first.loc[short.index[: N // 2]], second))
    assert {name: item.difference for name, item in found.items()} == {
        name: item.difference for name, item in again.items()
    }
    holes = second.assign(**{"displacement: gain": second["displacement: gain"].where(np.arange(N) >= 12)})
    holes.loc["t5", "label: read"] = None
    found = by_name(compared(first, holes))
    assert (found["gain"].tiles, found["blur"].tiles, found["label"].tiles) == (N - 12, N, N - 1)
    assert compared(first, second.rename(lambda name: f"x{name}")) == []


def test_adjustments_are_those_of_their_tables():
    found = compared(table(1), table(2, gain=0.004, turn=0.003, label=0.1, site=0.1))
    for family in {item.family for item in found}:
        mine = [item for item in found if item.family == family]
        expected = holm(np.array([item.p for item in mine]))
        assert [item.p_holm for item in mine] == pytest.approx(expected, rel=0.01)
    expected = false_discovery_control([item.p for item in found])
    assert [item.p_bh for item in found] == pytest.approx(expected, rel=0.01)
    for one in found:
        assert one.p_holm >= one.p and one.p_bh >= one.p
        for other in found:
            if one.p <= other.p:
                assert one.p_bh <= other.p_bh + 1e-9
                assert one.family != other.family or one.p_holm <= other.p_holm + 1e-9


def test_one_group_decides_nothing():
    found = compared(table(1).assign(group=0), table(2, gain=0.5))
    assert all((item.p, item.p_holm, item.p_bh, item.better) == (None,) * 4 for item in found)


def test_more_than_a_thousand_groups_are_joined():
    n = 2400
    random = np.random.default_rng(0)
    tables = [
        pd.DataFrame(
            {"group": np.arange(n), "displacement: gain": 0.5 + 0.1 * random.normal(size=n) + shift},
            index=pd.Index([f"t{i}" for i in range(n)], name="tile"),
        )
        for shift in (0, 0.05)
    ]
    [item] = compared(*tables)
    assert item.better == "one"
    width = 2 * 1.96 * 0.1 * np.sqrt(2 / n)
    assert item.difference.high - item.difference.low == pytest.approx(width, rel=0.15)


def test_every_pair_of_an_audit_is_compared():
    tiles = pd.concat([table(i).reset_index().assign(encoder=f"e{i}") for i in range(3)], ignore_index=True)
    found = compare_encoders(tiles, OPERATIONS, resamples=200)
    assert {(item.first, item.second) for item in found} == {("e0", "e1"), ("e0", "e2"), ("e1", "e2")}
    assert len(found) == 18
