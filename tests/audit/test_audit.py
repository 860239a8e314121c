"""The verb: what an audit says of encoders whose answer is known, and that it says the same twice."""

import json
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import pytest

from histolatent.audit import METRICS, AuditResult, Plan, audit_encoders, readings, space
from histolatent.encoders import EncoderCard, encoder
from histolatent.encoders.callables import CallableEncoder
from histolatent.encoders.vectors import VectorEncoder
from histolatent.errors import InputError, OptionError
from histolatent.images import open_tiles
from histolatent.images.phantom import PhantomSpec, PhantomTiles

QUICK = Plan(resamples=100)


@dataclass(frozen=True, eq=False)
class Memory:
    """Tiles in memory; those in `broken` cannot be read."""

    pixels: np.ndarray
    table: pd.DataFrame
    broken: tuple[int, ...] = ()
    name: str = "memory"

    def read(self, index: int) -> np.ndarray:
        if index in self.broken:
            raise InputError("the file is broken", received=self.table.index[index])
        return self.pixels[index]


@pytest.fixture(scope="module")
def small() -> Memory:
    """Twelve tiles of four patients."""
    random = np.random.default_rng(0)
    pixels = random.integers(60, 255, (12, 24, 24, 3), dtype=np.uint8)
    table = pd.DataFrame(
        {
            "label": ["a", "b", "c"] * 4,
            "site": ["x"] * 6 + ["y"] * 6,
            "patient": [f"p{i // 3}" for i in range(12)],
            "mpp": 0.5,
        },
        index=pd.Index([f"t{i}" for i in range(12)], name="tile"),
    )
    return Memory(pixels, table)


def function_encoder(function, name: str = "planted", dim: int = 3) -> CallableEncoder:
    card = EncoderCard(name=name, kind="callable", source=f"callable:{name}", dim=dim, revision="1")
    return CallableEncoder(card, function)


def vector_encoder(vectors: np.ndarray, name: str = "npy:v.npy") -> VectorEncoder:
    card = EncoderCard(name=name, kind="vectors", source=name, dim=vectors.shape[1], revision="1")
    return VectorEncoder(card, vectors.astype(np.float32))


def nuclear(tiles: np.ndarray) -> np.ndarray:
    """Return what nuclei there are, by a threshold that follows the tile: share, number and size, on one axis each."""
    rows = []
    for tile in tiles:
        density = -np.log(np.maximum(tile, 1) / 255)
        hematoxylin = cv2.GaussianBlur(density[..., 0] - 0.45 * density[..., 1], (3, 3), 0)
        mask = hematoxylin > 0.5 * np.quantile(hematoxylin, 0.99)
        count, _, found, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        contrast = (hematoxylin[mask].mean() - hematoxylin[~mask].mean()) / hematoxylin.std() if mask.any() else 0
        rows.append(
            [mask.mean() * 3, (count - 1) / 20, contrast / 3, np.sqrt(found[1:, 4]).std() / 8 if count > 1 else 0]
        )
    return np.asarray(rows, np.float32)


def without_time(result: AuditResult) -> str:
    return json.dumps({**result.to_dict(), "created": None}, sort_keys=True, allow_nan=False)


def named(result: AuditResult, name: str):
    return next(item for item in result.encoders if item.name == name)


def check(result: AuditResult, encoder_name: str, name: str):
    return next(item for item in named(result, encoder_name).checks if item.name == name)


def test_the_constant_fails_for_its_null(audited):
    constant = named(audited, "toy:constant")
    assert constant.verdict == "FAIL"
    assert check(audited, "toy:constant", "unrelated tiles differ").status == "FAIL"
    assert check(audited, "toy:constant", "keeps label").status != "PASS"
    assert check(audited, "toy:constant", "leaks less than it keeps").status != "PASS"
    assert constant.selectivity is None
    assert constant.worst == []
    assert all(dose.metrics["displacement"].value is None for dose in constant.doses)
    assert all(dose.metrics["twin_rank"].value == 0.5 for dose in constant.doses)
    assert any("worth nothing" in finding for finding in audited.findings)
    assert not any("toy:constant" in (item.first, item.second) for item in audited.comparisons)


def test_the_random_projection_fails_on_the_phantom(audited):
    projection = named(audited, "toy:random-projection")
    assert projection.verdict == "FAIL"
    failed = [item for item in projection.checks if item.status == "FAIL"]
    assert failed
    assert all(item.sentence and item.figure is not None for item in failed)


@pytest.mark.data
@pytest.mark.slow
def test_the_floors_fail_on_real_tiles(data):
    source = open_tiles(data / "oral_cancer")
    names = ("toy:random-projection", "toy:constant")
    plan = Plan(resamples=200, max_tiles=200)
    result = audit_encoders(source, [encoder(name) for name in names], plan=plan).result
    assert [item.verdict for item in result.encoders] == ["FAIL", "FAIL"]
    assert check(result, "toy:constant", "unrelated tiles differ").status == "FAIL"
    failed = [item.name for item in named(result, "toy:random-projection").checks if item.status == "FAIL"]
    assert {"selectivity", "selectivity against geometric"} <= set(failed)
    assert result.tiles["tiles"] == 200
    assert any("too narrow" in warning for warning in result.warnings)


@pytest.mark.slow
def test_an_encoder_that_sees_nuclei_is_selective(cohort):
    result = audit_encoders(cohort, [function_encoder(nuclear, "nuclear", 4)], plan=QUICK).result
    answer = check(result, "nuclear", "selectivity")
    assert answer.status == "PASS", answer.sentence
    assert answer.figure.value > 0.7
    read = named(result, "nuclear").probes[0]
    assert read.target == "label"
    assert read.balanced_accuracy.low > read.chance


def test_flips_do_not_move_what_cannot_see_them(audited):
    for name in ("toy:od-moments", "toy:colour-histogram"):
        for dose in named(audited, name).doses:
            if dose.operation == "flip":
                assert dose.metrics["displacement"].value == 0
                assert dose.metrics["auroc_null"].value == 1
                assert dose.metrics["twin_rank"].value == 0


def test_displacement_grows_with_the_severity_of_a_stain_change(audited):
    for name in ("hematoxylin-gain", "eosin-gain"):
        doses = [dose for dose in named(audited, "toy:od-moments").doses if dose.operation == name]
        values = [dose.metrics["displacement"].value for dose in sorted(doses, key=lambda dose: dose.severity)]
        assert (np.diff(values) > 0).all(), name


def test_the_worst_tiles_are_the_worst(audited):
    moments = named(audited, "toy:od-moments")
    values = [worst.displacement for worst in moments.worst]
    assert len(values) == 6
    assert values == sorted(values, reverse=True)
    assert len({worst.tile for worst in moments.worst}) == 6
    roles = {operation.name: operation.role for operation in audited.operations}
    assert {roles[worst.operation] for worst in moments.worst} == {"must-ignore"}


def test_what_was_done_is_recorded(audited):
    assert [operation.name for operation in audited.operations] == list(Plan().operations)
    for operation in audited.operations:
        assert [step.severity for step in operation.steps] == [1, 2, 3, 4, 5]
        assert len({step.pixels_sha256 for step in operation.steps}) == 5, operation.name
    assert audited.clusters == {"by": "patient", "count": 12, "null_apart_by": "slide"}
    assert audited.tiles["tiles"] == 60
    assert [item.baseline for item in audited.encoders] == [False, False, False, True]
    assert [probe.title for probe in audited.encoders[0].probes] == ["diagnosis", "site", "scanner", "stain"]
    null = audited.encoders[0].null
    assert null.p05 <= null.median <= null.p95
    assert null.same_label_median is not None


@pytest.mark.slow
def test_every_encoder_set_sees_the_same_pixels(audited, cohort):
    plan = Plan(resamples=300, columns={"label": "diagnosis"})
    alone = audit_encoders(cohort, [encoder("toy:constant")], plan=plan).result
    assert alone.operations == audited.operations
    assert alone.tiles == audited.tiles
    assert named(alone, "toy:constant") == named(audited, "toy:constant")


@pytest.mark.slow
def test_numbers_do_not_depend_on_batches_or_workers():
    source = PhantomTiles(PhantomSpec(sites=2, patients=3, slides=1, tiles_per_site=6, tile_px=32, seed=3))
    toys = [encoder(name) for name in ("toy:od-moments", "toy:colour-histogram")]
    first = audit_encoders(source, toys, plan=QUICK).result
    other = audit_encoders(source, toys, plan=QUICK, batch_size=17, workers=2).result
    assert without_time(first) == without_time(other)
    changed = audit_encoders(source, toys, plan=Plan(resamples=100, seed=1)).result
    assert [item.steps for item in first.operations] != [item.steps for item in changed.operations]


@pytest.mark.slow
def test_the_order_of_encoders_changes_no_number(small):
    toys = [encoder(name) for name in ("toy:od-moments", "toy:colour-histogram")]
    first = audit_encoders(small, toys, plan=QUICK).result
    second = audit_encoders(small, toys[::-1], plan=QUICK).result
    assert named(first, "toy:od-moments") == named(second, "toy:od-moments")


def test_the_frame_is_tidy_and_complete(audited):
    frame = audited.to_frame()
    keys = ["encoder", "metric", "operation", "severity", "column", "of"]
    assert list(frame.columns) == [*keys, "value", "low", "high"]
    assert set(frame["metric"]) <= set(METRICS)
    assert not frame.duplicated(keys).any()
    whole = frame[frame["of"].isna() & frame["severity"].notna()]
    for name in ("displacement", "auroc_null", "twin_rank", "twin_top10"):
        assert len(whole[whole["metric"] == name]) == 4 * 9 * 5
    known = frame[frame["low"].notna()]
    assert (known["low"] <= known["high"]).all()
    for name in frame["metric"].unique():
        values, (low, high) = frame.loc[frame["metric"] == name, "value"].dropna(), METRICS[name].range
        assert low is None or (values >= low - 1e-9).all(), name
        assert high is None or (values <= high + 1e-9).all(), name
    probes = audited.probes_frame()
    assert len(probes) == 4 * 4
    assert not probes.duplicated(["encoder", "target"]).any()


def test_vectors_are_audited_without_pixels(cohort):
    random = np.random.default_rng(0)
    codes = np.unique(cohort.table["label"], return_inverse=True)[1]
    vectors = np.eye(codes.max() + 1)[codes] * 5 + random.normal(size=(60, codes.max() + 1))
    result = audit_encoders(cohort, [vector_encoder(vectors)], plan=QUICK).result
    found = result.encoders[0]
    assert check(result, "npy:v.npy", "robustness").status == "UNDEFINED"
    assert check(result, "npy:v.npy", "robustness").sentence == "precomputed vectors: no tile could be perturbed"
    assert check(result, "npy:v.npy", "keeps label").status == "PASS"
    assert check(result, "npy:v.npy", "leaks less than it keeps").status == "PASS"
    assert found.verdict == "WARN"
    assert found.doses == []
    assert result.operations == []
    assert result.tiles["tiles"] == 60
    without_time(result)


@pytest.mark.slow
def test_what_is_slow_sees_a_part_of_many_tiles(monkeypatch):
    cohort = PhantomTiles(PhantomSpec(sites=2, patients=6, slides=1, tiles_per_site=60, tile_px=32))
    codes = np.unique(cohort.table["label"], return_inverse=True)[1]
    vectors = np.random.default_rng(0).normal(size=(120, 6)) + 3 * np.eye(6)[codes]
    whole = audit_encoders(cohort, [vector_encoder(vectors)], plan=QUICK).result.encoders[0]
    for module in (space, readings):
        monkeypatch.setattr(module, "SLOW_TILES", 100)
    part = audit_encoders(cohort, [vector_encoder(vectors)], plan=QUICK).result.encoders[0]
    tiles_of = {item.probes[0].tiles: item.probes[0].target for item in (whole, part)}
    assert tiles_of == {120: "label", 100: "label"}
    assert sum(left.tiles for left in part.transfer) == 100
    tiles = {item.metric: item.tiles for item in part.space if item.column == "site"}
    assert tiles["batch_silhouette"] == tiles["batch_silhouette_euclidean"] == 100
    assert tiles["robustness_index"] == 120  # neighbours are those of all
    assert part.null == whole.null


def test_vectors_stand_beside_encoders(small):
    result = audit_encoders(small, [vector_encoder(np.eye(12)), encoder("toy:constant")], plan=QUICK).result
    first, second = result.encoders
    assert first.doses == []
    assert len(second.doses) == 45
    assert check(result, "npy:v.npy", "robustness").status == "UNDEFINED"


def test_vectors_must_match_the_tiles(small):
    with pytest.raises(InputError, match=r"npy:v\.npy has 11 rows for 12 tiles\. Fix: give one vector per row"):
        audit_encoders(small, [vector_encoder(np.ones((11, 3)))])


def test_vectors_follow_a_subset_and_skipped_tiles(small):
    """Each vector says which tile it is of; the pixels of a tile say so too."""
    table = pd.DataFrame(small.table.drop(columns=["label", "site"]))
    pixels = np.stack([np.full((24, 24, 3), 20 * i, np.uint8) for i in range(12)])
    numbers = np.stack([np.cos(np.arange(12) / 9), np.sin(np.arange(12) / 9)], axis=1)
    seen = function_encoder(lambda tiles: numbers[np.minimum(tiles[:, 4, 4, 0] // 20, 11)], "seen", 2)
    plan = Plan(resamples=100, max_tiles=11, on_error="skip")
    source = Memory(pixels, table, broken=(5,))
    result = audit_encoders(source, [vector_encoder(numbers), seen], plan=plan).result
    first, second = result.encoders
    assert first.null == second.null
    assert result.tiles["tiles"] == 10
    assert list(result.tiles["skipped"]) == ["t5"]
    assert "the file is broken" in result.tiles["skipped"]["t5"]


def test_a_broken_tile_stops_the_run_unless_it_may_be_skipped(small):
    source = Memory(small.pixels, small.table, broken=(3, 4))
    with pytest.raises(InputError, match="the file is broken"):
        audit_encoders(source, [encoder("toy:constant")], plan=QUICK)
    plan = Plan(resamples=100, on_error="skip")
    result = audit_encoders(source, [encoder("toy:constant")], plan=plan).result
    assert sorted(result.tiles["skipped"]) == ["t3", "t4"]
    source = Memory(small.pixels, small.table, broken=(3, 4, 5))
    with pytest.raises(InputError, match=r"too few tiles to audit. Received: 9"):
        audit_encoders(source, [encoder("toy:constant")], plan=plan)


def test_what_cannot_be_audited_is_said_before_any_tile_is_read(small):
    unreadable = Memory(small.pixels, small.table, broken=tuple(range(12)))
    constant = encoder("toy:constant")
    with pytest.raises(OptionError, match=r"no encoder to audit. Fix: name one"):
        audit_encoders(unreadable, [])
    with pytest.raises(OptionError, match=r"an encoder is named twice. Received: toy:constant"):
        audit_encoders(unreadable, [constant, constant])
    table = small.table.assign(split=["train"] * 5 + ["test"] * 7)
    with pytest.raises(InputError, match="1 patient stands in more than one part of the split"):
        audit_encoders(Memory(small.pixels, table, broken=tuple(range(12))), [constant])


def test_a_label_without_a_site_and_a_site_without_a_label(small):
    moments = encoder("toy:od-moments")
    no_site = Memory(small.pixels, pd.DataFrame(small.table.drop(columns="site")))
    answer = check(audit_encoders(no_site, [moments], plan=QUICK).result, moments.card.name, "leaks less than it keeps")
    assert answer.status == "UNDEFINED"
    no_label = Memory(small.pixels, pd.DataFrame(small.table.drop(columns="label")))
    result = audit_encoders(no_label, [moments], plan=QUICK).result
    assert check(result, moments.card.name, "signal").status == "UNDEFINED"
    assert check(result, moments.card.name, "leaks less than it keeps").status == "UNDEFINED"
    bare = Memory(small.pixels, pd.DataFrame(small.table[["mpp"]]))
    result = audit_encoders(bare, [moments], plan=QUICK).result
    assert result.clusters["by"] == "tile"
    assert len(result.probes_frame()) == 0
    assert "reason" in result.probes_frame()


def test_labels_and_sites_on_different_tiles_are_not_compared(small):
    table = small.table.assign(
        label=["a", "b", "a", "b", "a", "b"] + [None] * 6, site=[None] * 6 + ["x", "y", "x", "y", "x", "y"]
    )
    result = audit_encoders(Memory(small.pixels, table), [encoder("toy:od-moments")], plan=QUICK).result
    assert check(result, "toy:od-moments", "leaks less than it keeps").status == "UNDEFINED"


def test_an_interrupted_audit_goes_on_and_ends_the_same(small, tmp_path):
    calls = []

    def means(tiles: np.ndarray) -> np.ndarray:
        calls.append(len(tiles))
        return tiles.reshape(len(tiles), -1, 3).mean(axis=1).astype(np.float32)

    def breaks(tiles: np.ndarray) -> np.ndarray:
        if len(calls) == 7:
            raise KeyboardInterrupt
        return means(tiles)

    moments = encoder("toy:od-moments")
    whole = audit_encoders(small, [moments, function_encoder(means)], tmp_path / "whole", plan=QUICK).result
    full = len(calls)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        audit_encoders(small, [moments, function_encoder(breaks)], tmp_path / "work", plan=QUICK)
    assert list((tmp_path / "work").glob("*.partial"))
    resumed = audit_encoders(small, [moments, function_encoder(means)], tmp_path / "work", plan=QUICK).result
    assert without_time(resumed) == without_time(whole)
    assert len(calls) == full  # nothing was embedded twice
    assert {path.suffix for path in (tmp_path / "work").iterdir()} == {".partial"}  # kept until the result is safe


def test_kept_tables_hold_every_view(small, tmp_path):
    from histolatent.embeddings import read_table

    audit_encoders(small, [encoder("toy:od-moments")], tmp_path / "work", plan=QUICK, keep=True)
    table = read_table(tmp_path / "work" / "toy_od-moments.zarr")
    assert table.shape == (12, 12)
    assert len([name for name in table.layers if name]) == 45
    np.testing.assert_array_equal(table.layers["flip@1"], table.X)


def test_progress_counts_every_tile(small):
    seen = []
    audit_encoders(
        small, [encoder("toy:constant")], plan=QUICK, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def labelled(n: int, *, labels: int, sites: int, patients: int) -> Memory:
    """Tiles of patients who each have every label, of whole sites."""
    patient = np.arange(n) % patients
    table = pd.DataFrame(
        {
            "label": [f"l{code}" for code in np.random.default_rng(9).integers(0, labels, n)],
            "site": [f"s{code % sites}" for code in patient],
            "patient": [f"p{code}" for code in patient],
        },
        index=pd.Index([f"t{i:04d}" for i in range(n)], name="tile"),
    )
    return Memory(np.zeros((n, 16, 16, 3), np.uint8), table)


@pytest.mark.parametrize(("labels", "sites", "below"), [(5, 2, True), (3, 4, False)])
def test_a_margin_of_nothing_is_at_its_chance_and_not_at_zero(labels, sites, below):
    vectors = np.random.default_rng(0).normal(size=(600, 16))
    source = labelled(600, labels=labels, sites=sites, patients=40)
    result = audit_encoders(source, [vector_encoder(vectors)], plan=QUICK).result.encoders[0]
    found = {item.metric: item for item in result.space if item.column == "site"}
    margin, excess = found["margin_median"], found["margin_excess"]
    assert (margin.figure.value < -0.04) is below and margin.chance == pytest.approx(margin.figure.value, abs=0.02)
    assert excess.figure.value == pytest.approx(margin.figure.value - margin.chance, abs=1e-5)
    assert abs(excess.figure.value) < 0.02 and excess.chance == 0


@pytest.mark.parametrize(("n", "sites"), [(40, 1), (40, 2), (240, 2)])
def test_one_patient_has_no_interval(n, sites):
    source = labelled(n, labels=2, sites=1, patients=1)
    source.table["site"] = [f"s{i % sites}" for i in range(n)]  # who has no neighbour of another patient has none
    vectors = np.random.default_rng(0).normal(size=(n, 6))
    result = audit_encoders(source, [vector_encoder(vectors), vector_encoder(vectors[::-1], "w")], plan=QUICK).result
    assert result.clusters["count"] == 1
    assert "all tiles are of one patient: no figure has an interval, so that nothing is judged" in result.warnings
    judged = [item for one in result.encoders for item in one.checks if item.family not in ("contract", "yardstick")]
    assert {item.status for item in judged} == {"UNDEFINED"}
    assert any("Audit tiles of several patients" in finding for finding in result.findings)
    assert all(item.p is None and item.better is None for item in result.comparisons)


def test_a_site_that_is_the_label_is_not_probed():
    source = labelled(60, labels=3, sites=2, patients=12)
    source.table["site"] = [f"of {label}" for label in source.table["label"]]
    vectors = np.random.default_rng(0).normal(size=(60, 6))
    result = audit_encoders(source, [vector_encoder(vectors)], plan=QUICK).result
    probe = next(item for item in result.encoders[0].probes if item.target == "site")
    assert probe.reason == "it divides the tiles as label does: what is read of one is read of both"
    assert check(result, "npy:v.npy", "leaks less than it keeps").status == "UNDEFINED"
    assert any(said.startswith("Give tiles of each label from several sites: site") for said in result.findings)


def test_tiles_that_are_nearly_empty_are_counted(small):
    assert not any(
        "tissue" in said for said in audit_encoders(small, [encoder("toy:od-moments")], plan=QUICK).result.warnings
    )
    pixels = small.pixels.copy()
    pixels[:3] = 244
    pixels[:3, 10:14, 10:14] = 60  # dust
    result = audit_encoders(Memory(pixels, small.table), [encoder("toy:od-moments")], plan=QUICK).result
    (said,) = (said for said in result.warnings if "tissue" in said)
    assert said.startswith(f"3 of {len(pixels)} tiles that were looked at hold less than 5% tissue")


def test_copies_of_a_tile_are_no_fault_of_the_encoder(small):
    pixels = np.repeat(small.pixels[:1], len(small.pixels), axis=0)
    result = audit_encoders(Memory(pixels, small.table), [encoder("toy:od-moments")], plan=QUICK).result
    (answer,) = result.encoders[0].contract
    assert (answer.name, answer.status) == ("tiles differ", "UNDEFINED")
    assert "11 tiles have the very pixels of another: no encoder can tell them apart" in result.warnings
