"""Two runs: what may be compared, what may not and why, and what got worse."""

import numpy as np
import pandas as pd
import pytest

from histolatent.audit import AuditResult, AuditRun, Plan, audit_encoders
from histolatent.audit.runs import Run, compare_runs, joined_groups, pair_encoders
from histolatent.encoders import encoder
from histolatent.errors import InputError, OptionError
from histolatent.images.phantom import PhantomSpec, PhantomTiles

NAMES = ("toy:od-moments", "toy:random-conv")
SKIP = ("equivariance", "flips", "transfer", "neighbours", "distances", "factors", "discordance", "sensitivity")


@pytest.fixture(scope="module")
def audit() -> AuditRun:
    tiles = PhantomTiles(PhantomSpec(sites=2, patients=4, slides=1, tiles_per_site=16, tile_px=32, seed=5))
    plan = Plan(resamples=100, skip=SKIP)
    return audit_encoders(tiles, [encoder(name) for name in NAMES], plan=plan, baselines=NAMES[1:])


def run(audit: AuditRun, where: str = "a", **changed) -> Run:
    result = audit.result.model_copy(update={name: value for name, value in changed.items() if name != "tiles"})
    return Run(where, result, changed.get("tiles", audit.tiles))


def compared(first: Run, second: Run, names=NAMES[:1]):
    return compare_runs(first, second, [(name, name) for name in names], resamples=300)


def test_a_run_does_not_differ_from_itself(audit: AuditRun):
    found = compared(run(audit), run(audit, "b"))
    assert {item.outcome for item in found.changes} == {"undecided"}
    assert all(item.before == item.after and item.change.value == 0 for item in found.changes)
    assert found.left_out == []
    assert found.notes == ["toy:od-moments: weights, preprocessing and precision are the same in both runs"]
    assert (found.tiles, found.groups) == (32, 8)
    ignored = {item.name for item in audit.result.operations if item.role == "must-ignore"}
    assert {item.operation for item in found.changes if item.operation} == ignored
    assert {item.column for item in found.changes if item.column} >= {"label", "site"}
    frame = found.to_frame()
    assert len(frame) == len(found.changes)
    assert list(frame.columns)[7:12] == ["before", "after", "change", "low", "high"]
    assert found.to_dict()["changes"][0]["change"] == {"value": 0, "low": 0, "high": 0}


def test_what_got_worse_and_what_got_better_is_named(audit: AuditRun):
    tiles = audit.tiles.copy()
    tiles["displacement: blur"] += 0.4
    tiles["displacement: eosin-gain"] -= 0.4
    found = compared(run(audit), run(audit, "b", tiles=tiles))
    outcomes = {item.operation or item.column or item.metric: item for item in found.changes}
    assert outcomes["blur"].outcome == "worse"
    assert outcomes["blur"].change.value == pytest.approx(0.4)
    assert outcomes["blur"].after - outcomes["blur"].before == pytest.approx(0.4)
    assert outcomes["eosin-gain"].outcome == "better"
    assert {item.outcome for name, item in outcomes.items() if name not in ("blur", "eosin-gain")} == {"undecided"}
    back = compared(run(audit, "b", tiles=tiles), run(audit))
    assert next(item for item in back.changes if item.operation == "blur").outcome == "better"


def test_one_encoder_with_another(audit: AuditRun):
    tiles = audit.tiles.copy()
    tiles.loc[tiles["encoder"] == NAMES[1], "displacement: blur"] += 0.9
    changed = run(audit, tiles=tiles)
    there = compare_runs(changed, changed, [NAMES], resamples=300)
    back = compare_runs(changed, changed, [NAMES[::-1]], resamples=300)
    turned = {"worse": "better", "better": "worse", "undecided": "undecided"}
    for one, other in zip(there.changes, back.changes, strict=True):
        assert (one.first, one.second) == (other.second, other.first) == NAMES
        assert one.outcome == turned[other.outcome]
        assert (one.before, one.after) == (other.after, other.before)
    assert next(item.outcome for item in there.changes if item.operation == "blur") == "worse"


def test_an_operation_with_other_pixels_is_left_out_with_what_rests_on_it(audit: AuditRun):
    tiles = audit.tiles.copy()
    tiles.loc[3, "pixels: blur"] += np.uint64(1)
    found = compared(run(audit), run(audit, tiles=tiles))
    assert "blur" not in {item.operation for item in found.changes}
    assert "selectivity" not in {item.metric for item in found.changes}
    assert found.left_out[0].startswith("blur: the perturbed pixels differ (another seed, level,")
    assert found.left_out[1] == "selectivity: it rests on operations that are not the same in both runs"


def test_an_operation_of_one_run_only(audit: AuditRun):
    fewer = [item for item in audit.result.operations if item.name != "jpeg"]
    found = compared(run(audit), run(audit, operations=fewer))
    assert "jpeg" not in {item.operation for item in found.changes}
    assert found.left_out[0] == "jpeg: applied in one of the runs only"


def test_on_other_tiles_neither_yardstick_nor_probe_is_the_same(audit: AuditRun):
    some = audit.tiles[audit.tiles["tile"].isin(audit.tiles["tile"].unique()[:20])]
    found = compared(run(audit), run(audit, tiles=some))
    assert {item.metric for item in found.changes} == {"selectivity"}
    assert found.tiles == 20
    assert found.left_out[0].startswith(
        "displacement and probes: 20 tiles are the same in both runs, of 32 and 20, so that unrelated tiles"
    )


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"plan": {"seed": 1}}, "the seed is 0 and 1"),
        ({"clusters": {"null_apart_by": "patient"}}, "unrelated tiles are told by slide and patient"),
    ],
)
def test_what_is_not_on_one_footing_is_left_out(audit: AuditRun, changed, says):
    facts = {name: {**getattr(audit.result, name), **value} for name, value in changed.items()}
    found = compared(run(audit), run(audit, **facts))
    assert {item.metric for item in found.changes} == {"selectivity"}
    assert says in found.left_out[0]
    tiles = audit.tiles.iloc[::-1]
    assert "in another order" in compared(run(audit), run(audit, tiles=tiles)).left_out[0]


def test_groups_of_either_run_are_kept_whole(audit: AuditRun):
    alone = audit.tiles.assign(group=audit.tiles.groupby("encoder").cumcount())
    found = compared(run(audit), run(audit, tiles=alone))
    assert "grouped otherwise" in found.left_out[0]
    assert found.groups == 8
    assert compared(run(audit, tiles=alone), run(audit)).groups == 8
    np.testing.assert_array_equal(joined_groups(np.array([3, 3, 9]), np.array([1, 1, 1])), [0, 0, 0])


def collapsed(audit: AuditRun) -> AuditResult:
    """The result with the first encoder one that gives every tile the same vector."""
    first, *others = audit.result.encoders
    first = first.model_copy(update={"null": first.null.model_copy(update={"defined": False})})
    return audit.result.model_copy(update={"encoders": [first, *others]})


def test_an_encoder_that_tells_nothing_apart_is_not_the_better_one(audit: AuditRun):
    after = Run("b", collapsed(audit), audit.tiles)
    found = compared(run(audit), after, NAMES)
    assert found.collapsed == ["toy:od-moments"]
    assert {item.first for item in found.changes} == {"toy:random-conv"}
    assert found.left_out == ["toy:od-moments: every tile has practically the same embedding in b"]
    alone = compared(run(audit), after)
    assert (alone.changes, alone.collapsed) == ([], ["toy:od-moments"])
    mended = compared(after, run(audit), NAMES)
    assert mended.collapsed == []
    with pytest.raises(InputError, match=r"nothing can be compared.*the same embedding in b and b"):
        compared(after, after)


def test_another_truth_is_another_question(audit: AuditRun):
    tiles = audit.tiles.copy()
    tiles["label: true"] = np.where(tiles.index % 2, "a", "b")
    found = compared(run(audit), run(audit, tiles=tiles))
    assert "label" not in {item.column for item in found.changes}
    assert found.left_out == ["probes of label: the truth is not the same in both runs"]


def test_tiles_with_other_pixels_do_not_count(audit: AuditRun):
    tiles = audit.tiles.copy()
    tiles.loc[tiles["tile"].isin(tiles["tile"].unique()[:2]), "pixels"] += np.uint64(1)
    found = compared(run(audit), run(audit, tiles=tiles))
    assert found.tiles == 30
    assert found.left_out[0] == "2 tiles of the same name: their pixels differ"
    with pytest.raises(
        InputError, match=r"too few tiles with the same pixels in common\. Received: 0\. Valid: at least"
    ):
        compared(run(audit), run(audit, tiles=audit.tiles.assign(pixels=np.uint64(0))))


def test_without_hashes_per_tile_those_of_the_run_decide(audit: AuditRun):
    bare = audit.tiles.drop(columns=[name for name in audit.tiles if name.startswith("pixels")])
    assert compared(run(audit, tiles=bare), run(audit, tiles=bare)).left_out == []
    other = {**audit.result.tiles, "pixels_sha256": "other"}
    with pytest.raises(InputError, match="the pixels of the tiles differ, or cannot be checked"):
        compared(run(audit, tiles=bare), Run("b", _with(audit, other), bare))
    trusted = Run("b", _with(audit, {"name": "v"}), bare)
    assert "taken on trust" in compared(trusted, trusted).notes[0]


def _with(audit: AuditRun, tiles: dict) -> AuditResult:
    return audit.result.model_copy(update={"tiles": tiles})


def test_nothing_in_common(audit: AuditRun):
    named = audit.tiles.assign(tile="x" + audit.tiles["tile"])
    with pytest.raises(
        InputError, match=r"no tile in common\. Received: .* in a; x.* in b\. Fix: audit the same tiles"
    ):
        compared(run(audit), run(audit, "b", tiles=named))
    figures = [name for name in audit.tiles if ":" in name or name == "selectivity"]
    with pytest.raises(InputError, match="nothing can be compared"):
        compared(run(audit), run(audit, tiles=audit.tiles.drop(columns=figures)))
    twice = pd.concat([audit.tiles, audit.tiles])
    with pytest.raises(InputError, match=r"does not hold each tile of toy:od-moments once"):
        compared(run(audit), run(audit, tiles=twice))


def test_which_encoders_are_compared(audit: AuditRun):
    result = audit.result
    assert pair_encoders(result, result) == [(NAMES[0], NAMES[0])]  # the other is a baseline
    assert pair_encoders(result, result, [NAMES[1]]) == [(NAMES[1], NAMES[1])]
    assert pair_encoders(result, result, (), [NAMES, NAMES]) == [NAMES]
    with pytest.raises(OptionError, match=r"no encoder of the second run is called 'toy:x'"):
        pair_encoders(result, result, (), [(NAMES[0], "toy:x")])
    other = result.model_copy(update={"encoders": [item for item in result.encoders if item.baseline]})
    with pytest.raises(OptionError, match=r"no encoder in common, baselines aside.*--between NAME_A=NAME_B"):
        pair_encoders(result, other)
