"""Real pairs: the same figures as an audit of pixels gives, rows matched by tile, and what is wrong said."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from histolatent.audit import METRICS, Plan, Policy, audit_encoders, audit_pairs, ladder
from histolatent.audit.matching import match_rows, rows_of
from histolatent.audit.pairs import Pairs, Unseen, layer_tables
from histolatent.audit.policy import Band
from histolatent.audit.robustness import robustness_index
from histolatent.audit.runs import Run, compare_runs
from histolatent.embeddings import make_table, obs_of, read_table, write_table
from histolatent.encoders import EncoderCard, encoder
from histolatent.errors import InputError, OptionError
from histolatent.images.phantom import PhantomTiles
from histolatent.neighbors import find_neighbors
from histolatent.provenance import stream
from histolatent.report import read_result, write_report

QUICK = Plan(resamples=100)
BARE = Plan(
    resamples=100, skip=("equivariance", "flips", "transfer", "neighbours", "distances", "discordance", "sensitivity")
)
CROSS = {f"cross_top{k}" for k in (1, 3, 5, 10)} | {"cross_cosine"}


def planted(n: int = 120, d: int = 16, *, shift: float = 0.0, noise: float = 0.2, norm: float = 1.0, seed: int = 0):
    """Tiles, and the same under a scanner that adds noise and one shift to all."""
    random = np.random.default_rng(seed)
    before = random.normal(size=(n, d))
    after = before + noise * random.normal(size=(n, d)) + shift * np.eye(d)[0]
    return (norm * before).astype(np.float32), (norm * after).astype(np.float32)


def tiles(n: int = 120) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": [("tumour", "stroma", "other")[i % 3] for i in range(n)],
            "site": [("x", "y")[i // 12 % 2] for i in range(n)],
            "patient": [f"p{i // 6}" for i in range(n)],
        },
        index=pd.Index([f"t{i:03d}" for i in range(n)], name="tile"),
    )


def table_of(vectors: np.ndarray, ids, obs: pd.DataFrame | None = None) -> AnnData:
    return AnnData(X=vectors, obs=pd.DataFrame(index=pd.Index(ids)) if obs is None else obs)


def dose(run, change: str, place: int = 0):
    return next(item for item in run.result.encoders[place].doses if item.operation == change)


def said(run) -> str:
    return "\n".join(run.result.warnings)


@pytest.fixture(scope="module")
def kept(cohort: PhantomTiles, tmp_path_factory) -> tuple:
    """An audit of pixels, and its table with every perturbed embedding as a layer, on disk."""
    work = tmp_path_factory.mktemp("kept")
    run = audit_encoders(cohort, [encoder("toy:od-moments")], work, plan=QUICK, keep=True)
    return run, work / "toy_od-moments.zarr"


@pytest.mark.slow
def test_a_perturbation_given_as_pairs_gives_the_figures_of_the_audit(kept):
    audited, path = kept
    table = read_table(path)
    changes = {"jpeg": "jpeg@3", "nuclei-erased": "nuclei-erased@5", "rotation": "rotation@3"}
    roles = {"nuclei-erased": "must-react"}
    run = audit_pairs(Pairs("toy:od-moments", table, layer_tables(table, changes)), roles=roles, plan=QUICK)
    whole, pairs = audited.result.encoders[0], run.result.encoders[0]
    assert pairs.null == whole.null
    assert pairs.probes == whole.probes
    assert pairs.identity == whole.identity
    for change, layer in changes.items():
        severity = int(layer[-1])
        assert dose(run, change).severity == severity
        expected = next(d for d in whole.doses if (d.operation, d.severity) == (change, severity)).metrics
        found = dose(run, change).metrics
        assert set(found) - set(expected) == CROSS
        assert {name: found[name] for name in expected} == expected
        for part in ("equivariance", "flips", "parts"):
            here, there = ([i for i in getattr(e, part) if i.operation == change] for e in (pairs, whole))
            assert here == there and (here or part == "parts"), part
        name = f"displacement: {change}"
        assert np.array_equal(run.tiles[name], audited.tiles[name])
    assert pairs.selectivity is not None
    assert not pairs.responses


def test_retrieval_is_that_of_a_float64_brute_force():
    before, after = planted(noise=0.9, norm=800.0)
    run = audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=BARE)
    exact = [part.astype(np.float64) for part in (before, after)]
    units = [part / np.linalg.norm(part, axis=1)[:, None] for part in exact]
    pool = np.concatenate(units)
    similarity = pool @ pool.T
    np.fill_diagonal(similarity, -np.inf)
    n = len(before)
    twin = np.arange(2 * n) + np.where(np.arange(2 * n) < n, n, -n)
    closer = (similarity > similarity[np.arange(2 * n), twin][:, None]).sum(axis=1)
    found = dose(run, "B").metrics
    for k in (1, 3, 5, 10):
        figure = found[f"cross_top{k}"]
        assert figure.value == pytest.approx((closer < k).mean(), abs=1e-5)
        assert figure.low is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high
    assert found["cross_cosine"].value == pytest.approx((units[0] * units[1]).sum(axis=1).mean(), abs=1e-5)
    assert 0 < found["cross_top1"].value < 1


def test_long_vectors_give_no_nan():
    before, after = planted(norm=800.0)
    run = audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=QUICK)
    frame = run.result.to_frame()
    found = frame[frame["operation"] == "B"]
    assert len(found) > 20
    assert found["value"].notna().all()
    assert run.tiles["displacement: B"].notna().all()


def test_of_many_pairs_a_sample_is_looked_for_among_all(monkeypatch):
    before, after = planted(noise=0.9)
    exact = dose(audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=BARE), "B").metrics
    monkeypatch.setattr(ladder, "RETRIEVED_TILES", 100)
    plan = BARE.model_copy(update={"rank_queries": 60})
    sampled = dose(audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=plan), "B").metrics
    assert sampled["cross_cosine"] == exact["cross_cosine"]
    assert sampled["cross_top1"] != exact["cross_top1"]
    assert sampled["cross_top1"].value == pytest.approx(exact["cross_top1"].value, abs=0.2)


def test_every_figure_of_a_pair_has_its_card():
    before, after = planted()
    run = audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=BARE)
    assert set(dose(run, "B").metrics) <= set(METRICS)
    assert set(METRICS) >= CROSS


def test_rows_are_matched_by_tile_whatever_their_order():
    before, after = planted()
    obs = tiles()
    random = np.random.default_rng(3)
    first = np.arange(5, 120)  # the other lacks 0 to 4, and has one more that this one lacks
    order = random.permutation(np.arange(0, 117))
    one = table_of(before[first], obs.index[first], obs.iloc[first])
    two = table_of(after[order], obs.index[order])
    run = audit_pairs(Pairs("e", one, {"B": two}), plan=BARE)
    shared = np.arange(5, 117)
    expected = audit_pairs(Pairs("e", before[shared], {"B": after[shared]}), obs.iloc[shared], plan=BARE)
    assert dose(run, "B").metrics == dose(expected, "B").metrics
    assert run.tiles["tile"].tolist() == obs.index[shared].tolist()
    assert run.result.encoders[0].probes == expected.result.encoders[0].probes
    assert "e, before: 3 of 115 tiles are not in every table, and are left out (t117, t118, t119)" in said(run)
    assert "e, B: 5 of 117 tiles are not in every table" in said(run)
    assert "left out" not in said(expected)


def test_columns_of_a_table_lie_over_those_of_the_vectors():
    before, after = planted()
    obs = tiles()
    one = table_of(before, obs.index, obs.assign(label="old"))
    over = obs[["label"]].iloc[::-1]
    run = audit_pairs(Pairs("e", one, {"B": after}), over, plan=BARE)
    assert run.result.encoders[0].probes[0].classes == ["other", "stroma", "tumour"]
    assert {probe.target for probe in run.result.encoders[0].probes} == {"label", "site"}
    assert run.result.clusters["by"] == "patient"


def test_rows_without_ids_are_matched_by_their_order():
    before, after = planted()
    numbered = [table_of(part, map(str, range(120))) for part in (before, after)]
    run = audit_pairs(Pairs("e", numbered[0], {"B": numbered[1]}), tiles(), plan=BARE)
    assert (
        dose(run, "B").metrics == dose(audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=BARE), "B").metrics
    )
    assert "no tile ids in e, before; e, B: rows are taken to be in the order of the table of tiles" in said(run)
    bare = audit_pairs(Pairs("e", numbered[0], {"B": numbered[1]}), plan=BARE)
    assert "rows are taken to be in the same order" in said(bare)
    assert bare.tiles["tile"].tolist()[:2] == ["0", "1"]


def test_numbers_are_ids_to_a_table_whose_ids_are_among_them():
    numbered = rows_of("all", table_of(np.zeros((6, 2), np.float32), map(str, range(6))))
    some = rows_of("some", table_of(np.zeros((3, 2), np.float32), ["4", "1", "5"]))
    found = match_rows([numbered, some])
    assert found.ids.tolist() == ["4", "1", "5"]
    assert [places.tolist() for places in found.places] == [[4, 1, 5], [0, 1, 2]]


def test_tables_on_disk(kept, tmp_path):
    _, path = kept
    table = read_table(path)
    layers = layer_tables(table, {"B": "jpeg@5"})
    expected = dose(audit_pairs(Pairs("e", table, layers), plan=BARE), "B").metrics
    random = np.random.default_rng(0)
    order = random.permutation(table.n_obs)
    for form in (".zarr", ".h5ad", ".parquet", ".csv", ".npy"):
        after = make_table(np.asarray(table.layers["jpeg@5"])[order], obs_of(table).iloc[order], {"origin": "B"})
        read = read_table(write_table(after, tmp_path / f"b{form}"))
        found = audit_pairs(Pairs("e", table, {"B": read}), plan=BARE)
        assert dose(found, "B").metrics == expected, form
        assert not any("left out" in note for note in found.result.warnings)


@pytest.mark.slow
def test_several_encoders_and_changes_are_compared():
    before, after = planted(noise=0.2)
    other, moved = planted(noise=1.5, d=24, seed=1)
    pairs = [
        Pairs("steady", before, {"B": after, "C": (2 * before).astype(np.float32)}),
        Pairs("shaky", other, {"C": moved, "B": moved}),
    ]
    run = audit_pairs(pairs, tiles(), plan=QUICK)
    assert [encoder.name for encoder in run.result.encoders] == ["steady", "shaky"]
    assert [operation.name for operation in run.result.operations] == ["B", "C"]
    assert dose(run, "C").metrics["displacement"].value == pytest.approx(0, abs=1e-6)
    assert dose(run, "C").metrics["displacement_euclidean"].value > 0.5
    found = [item for item in run.result.comparisons if item.metric == "displacement" and item.operation == "B"]
    assert len(found) == 1
    assert found[0].better == "steady"
    assert found[0].family == "pair"
    assert "shaky: the vectors of C are those of B, number by number" in said(run)


def test_the_verdict_asks_of_pairs_what_can_be_asked():
    before, near = planted(noise=0.1)
    _, far = planted(noise=40.0)
    run = audit_pairs(Pairs("e", before, {"near": near, "far": far}), tiles(), plan=QUICK)
    checks = {check.name: check for check in run.result.encoders[0].checks}
    assert checks["ignores near"].status == "PASS"
    assert checks["ignores far"].status == "FAIL"
    assert "near (real pairs) stays closer than unrelated tiles" in checks["ignores near"].sentence
    assert "selectivity" not in checks
    assert {family.family for family in run.result.encoders[0].families} >= {"pair", "signal", "leakage"}
    assert [step.level for operation in run.result.operations for step in operation.steps] == [None, None]
    assert {worst.operation for worst in run.result.encoders[0].worst} == {"far"}


def test_roles():
    before, near = planted(noise=0.1)
    _, far = planted(noise=4.0)
    changes = {"B": near, "again": near, "other tissue": far}
    run = audit_pairs(
        Pairs("e", before, changes), tiles(), roles={"again": "control", "other tissue": "must-react"}, plan=QUICK
    )
    checks = {check.name: check for check in run.result.encoders[0].checks}
    assert checks["selectivity"].status == "PASS"
    assert checks["reacts to other tissue"].status == "PASS"
    assert "ignores again" not in checks
    assert "by its control alone" in checks["ignores B"].sentence
    assert [operation.steps[0].severity for operation in run.result.operations] == [3, 3, 5]
    with pytest.raises(OptionError, match=r"no change is called 'again and'. .*did you mean 'again'"):
        audit_pairs(Pairs("e", before, changes), roles={"again and": "control"})
    with pytest.raises(OptionError, match="did you mean 'must-react'"):
        audit_pairs(Pairs("e", before, changes), roles="mustreact")


def test_a_policy_may_require_retrieval():
    before, after = planted(noise=0.1)
    require = [{"figure": "cross_top1", "operation": "B", "at_least": 0.9}]
    policy = Policy.model_validate({"severity": 2, "require": require})
    run = audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=Plan(resamples=100, policy=policy))
    check = next(check for check in run.result.encoders[0].checks if check.family == "required")
    assert check.status == "PASS"
    assert dose(run, "B").severity == 2


def test_sets_that_differ_lie_above_their_floor():
    before, after = planted(n=400, shift=3.0)
    run = audit_pairs(Pairs("e", before, {"B": after, "none": before.copy()}), tiles(400), plan=QUICK)
    found = {batch.batch: batch for batch in run.result.encoders[0].batches if batch.column == "pair"}
    assert set(found) == {"B", "none"}
    assert all(distance.above_floor for distance in found["B"].distances)
    assert not any(distance.above_floor for distance in found["none"].distances)
    assert found["B"].halves_by == "group"


def test_the_same_vectors_twice_are_said():
    before, _ = planted()
    run = audit_pairs(Pairs("e", before, {"B": before.copy()}), tiles(), plan=BARE)
    assert "e: the vectors of B are those of the tiles before, number by number" in said(run)
    assert dose(run, "B").metrics["displacement"].value == 0


def test_rows_in_another_order_are_said():
    before, after = planted()
    run = audit_pairs(Pairs("e", before, {"B": after[::-1].copy()}), tiles(), plan=BARE)
    assert "tiles are found again under B hardly better than by chance" in said(run)
    right = audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=BARE)
    assert "by chance" not in said(right)


def test_the_card_is_that_of_the_table(kept, tmp_path):
    _, path = kept
    table = read_table(path)
    card = encoder("toy:od-moments").card
    run = audit_pairs(Pairs("ours", table, layer_tables(table, {"B": "jpeg@3"})), plan=BARE)
    assert run.result.encoders[0].identity == card.identity
    assert run.result.encoders[0].card["name"] == "ours"
    other = EncoderCard.model_validate({**card.model_dump(), "revision": "another"})
    after = make_table(np.asarray(table.layers["jpeg@3"]), obs_of(table), {"encoder": other.model_dump(mode="json")})
    run = audit_pairs(Pairs("ours", table, {"B": after}), plan=BARE)
    assert "B: the card says that toy:od-moments made these vectors, and another encoder" in said(run)
    before, moved = planted()
    bare = [audit_pairs(Pairs("e", before, {"B": part}), plan=BARE).result for part in (moved, before)]
    assert bare[0].encoders[0].card["kind"] == "vectors"
    assert bare[0].encoders[0].identity != bare[1].encoders[0].identity
    assert bare[0].tiles["vectors_sha256"]["e"]["before"] == bare[1].tiles["vectors_sha256"]["e"]["B"]


def test_a_constant_encoder_fails_and_nothing_breaks():
    flat = np.ones((120, 8), np.float32)
    run = audit_pairs(Pairs("flat", flat, {"B": flat.copy()}), tiles(), plan=QUICK)
    found = run.result.encoders[0]
    assert found.verdict == "FAIL"
    assert dose(run, "B").metrics["displacement"].value is None
    assert dose(run, "B").metrics["cross_top10"].value == pytest.approx(10 / 239, abs=1e-5)


def test_a_part_of_the_tiles_is_drawn_as_an_audit_draws_it():
    before, after = planted()
    plan = BARE.model_copy(update={"max_tiles": 50})
    run = audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=plan)
    rows = tiles().index.get_indexer(run.tiles["tile"])
    assert len(rows) == 50 == run.result.tiles["tiles"]
    part = audit_pairs(Pairs("e", before[rows], {"B": after[rows]}), tiles().iloc[rows], plan=BARE)
    assert dose(part, "B").metrics == dose(run, "B").metrics


def test_the_plan_says_that_nothing_was_perturbed():
    before, after = planted()
    result = audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=BARE).result
    again = Plan.model_validate(result.plan)
    assert (again.suite, again.operations) == ("pairs", {})
    with pytest.raises(OptionError, match="the plan holds no operation"):
        audit_encoders("phantom", [encoder("toy:constant")], plan=again)


def test_measuring_is_told_of_every_step():
    before, after = planted()
    steps: list[tuple[int, int]] = []
    audit_pairs(Pairs("e", before, {"B": after, "C": after}), plan=BARE, measuring=lambda *step: steps.append(step))
    assert steps == [(i, 6) for i in range(1, 7)]


def test_the_views_are_not_copied():
    from histolatent.audit.pairs import _Views

    before, after = planted()
    views = _Views((before, after))
    assert views.shape == (120, 2, 16)
    assert np.shares_memory(views[np.arange(120), 1], after)
    assert np.array_equal(views[np.array([3, 5]), 0], before[[3, 5]])


GOOD, MOVED = planted()
WRONG = GOOD.copy()
WRONG[7, 2] = np.inf


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (lambda: Pairs("e", GOOD, {"B": MOVED[:, :5]}), "different dimensions.*e, before: 16; e, B: 5"),
        (lambda: Pairs("e", GOOD, {"B": WRONG}), "e, B: 1 of 120 vectors hold NaN or infinite.*t007"),
        (lambda: Pairs("e", GOOD, {"B": GOOD.astype(object)}), "e, B is no table of numbers.*object array"),
        (lambda: Pairs("e", GOOD, {"B": GOOD[0]}), "rows without tile ids cannot be matched"),
        (lambda: Pairs("e", GOOD, {"B": MOVED[:100]}), "rows without tile ids.*120 rows, e, B: 100.*NAME.ids.txt"),
        (lambda: Pairs("e", GOOD, {}), "there is nothing after"),
        (lambda: Pairs("e", GOOD, {"before": MOVED}), "a change cannot be called before"),
        (lambda: Pairs("e", GOOD, {"B": table_of(MOVED, [f"u{i}" for i in range(120)])}), "no tile is in all tables"),
        (lambda: [], "no encoder to audit"),
        (lambda: [Pairs("e", GOOD, {"B": MOVED})] * 2, "an encoder is named twice"),
        (
            lambda: [Pairs("e", GOOD, {"B": MOVED}), Pairs("f", GOOD, {"C": MOVED})],
            "encoders have vectors for different changes.*e: B; f: C",
        ),
        (
            lambda: Pairs("e", GOOD, {"B": MOVED}, EncoderCard(name="x", kind="toy", source="x", dim=3, revision="1")),
            "the vectors are not of the encoder of the card x.*16.*3 dimensions",
        ),
    ],
)
def test_what_is_wrong_is_said(pairs, message):
    with pytest.raises((InputError, OptionError), match=message):
        audit_pairs(pairs(), tiles(), plan=BARE)


def test_too_few_tiles_and_ids_that_stand_twice():
    with pytest.raises(InputError, match="too few tiles to audit"):
        audit_pairs(Pairs("e", GOOD[:9], {"B": MOVED[:9]}), plan=BARE)
    with pytest.raises(InputError, match=r"the table of tiles: 1 tile ids stand more than once.*t001"):
        audit_pairs(Pairs("e", GOOD, {"B": MOVED}), tiles().rename(index={"t002": "t001"}), plan=BARE)
    with pytest.raises(OptionError, match=r"no layer is called 'jpg'. Valid: jpeg. Fix: did you mean 'jpeg'"):
        layer_tables(AnnData(X=GOOD, layers={"jpeg": MOVED}), {"B": "jpg"})


def test_the_report_of_pairs_has_no_pictures(tmp_path):
    run = audit_pairs(Pairs("e", GOOD, {"scanner B": MOVED}), tiles(), plan=QUICK)
    out = write_report(run.result, Unseen("pairs", tiles()), tmp_path / "audit", tiles=run.tiles, seconds=run.seconds)
    assert read_result(out) == run.result
    page = (out / "report.html").read_text()
    assert "scanner B" in page
    assert "data:image/png" not in page


@pytest.mark.slow
def test_many_pairs_need_no_matrix_of_all_by_all():
    n, d = 100_000, 64
    random = np.random.default_rng(0)
    before = random.normal(size=(n, d)).astype(np.float32)
    after = before + random.normal(size=(n, d)).astype(np.float32)
    table = pd.DataFrame({"patient": np.arange(n) // 2000}, index=pd.RangeIndex(n).astype(str))
    plan = BARE.model_copy(update={"rank_queries": 500})
    tracemalloc.start()
    run = audit_pairs(Pairs("e", before, {"B": after}), table, plan=plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e9  # all by all in float32 is 40 GB
    assert 0.5 < dose(run, "B").metrics["cross_top1"].value <= 1


def test_more_tiles_than_neighbours_are_measured_of():
    before, after = planted(n=300)
    plan = QUICK.model_copy(update={"space_tiles": 100, "rank_queries": 50})
    run = audit_pairs(Pairs("e", before, {"B": after}), tiles(300), plan=plan)
    found = run.result.encoders[0]
    index = next(space for space in found.space if space.metric == "robustness_index")
    assert index.tiles == 100
    table = tiles(300)
    codes = {name: np.unique(table[name], return_inverse=True)[1] for name in ("label", "site", "patient")}
    asked = np.sort(stream(plan.seed, "space", 300).permutation(300)[:100])
    among_all = find_neighbors(
        before, 89, labels=codes["label"], confounders=codes["site"], groups=codes["patient"], rows=asked
    )
    assert index.figure.value == pytest.approx(robustness_index(among_all, 50).value, abs=1e-6)
    assert next(batch for batch in found.batches if batch.column == "pair").distances[0].tiles <= 50


def test_a_band_of_real_pairs_judges_them():
    before, after = planted(noise=1.5)
    loose = Policy(families={"pair": Band(pass_at=0.1, fail_below=0.0)})
    strict = Policy(families={"pair": Band(pass_at=1.0, fail_below=1.0)})
    said = []
    for policy in (loose, strict):
        plan = BARE.model_copy(update={"policy": policy})
        (encoder,) = audit_pairs(Pairs("e", before, {"B": after}), tiles(), plan=plan).result.encoders
        said.append(next(check.status for check in encoder.checks if check.name == "ignores B"))
    assert said == ["PASS", "FAIL"]


def test_two_audits_of_pairs_are_compared():
    before, after = planted()
    worse = after + np.random.default_rng(5).normal(size=after.shape)
    first, second = (audit_pairs(Pairs("e", before, {"B": moved}), tiles(), plan=QUICK) for moved in (after, worse))
    runs = [Run(where, run.result, run.tiles) for run, where in ((first, "a"), (second, "b"))]
    changes = compare_runs(*runs, [("e", "e")])
    moved = next(item for item in changes.changes if item.metric == "displacement")
    assert moved.operation == "B" and moved.outcome == "worse" and moved.change.low > 0
