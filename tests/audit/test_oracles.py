"""Encoders whose behaviour is known: each must be told for what it is, by the figures and by the verdict."""

import numpy as np
import pandas as pd
import pytest

from histolatent.audit import AuditResult, Plan, audit_encoders
from histolatent.audit.result import EncoderResult, EquivarianceResult
from histolatent.encoders import EncoderCard, encoder
from histolatent.encoders.callables import CallableEncoder
from histolatent.encoders.vectors import VectorEncoder
from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.perturb import OPERATIONS, SUITES, perturb

PARTS = ("discordance", "sensitivity", "distances", "neighbours", "factors", "transfer")


@pytest.fixture(scope="module")
def cohort() -> PhantomTiles:
    return PhantomTiles(PhantomSpec(sites=2, patients=6, slides=1, tiles_per_site=24, tile_px=48, seed=11))


def plan(*names: str, skip=PARTS) -> Plan:
    return Plan(operations={name: OPERATIONS[name].levels for name in names}, resamples=200, skip=skip)


def audit(cohort: PhantomTiles, function, *names: str, dim: int) -> tuple[AuditResult, EncoderResult]:
    card = EncoderCard(name="planted", kind="callable", source="callable:planted", dim=dim, revision="1")
    result = audit_encoders(cohort, [CallableEncoder(card, function)], plan=plan(*names)).result
    return result, result.encoders[0]


def status(found: EncoderResult, name: str) -> str:
    return next(check.status for check in found.checks if check.name == name)


def moved(found: EncoderResult, operation: str, severity: int = 3) -> float:
    dose = next(d for d in found.doses if (d.operation, d.severity) == (operation, severity))
    value = dose.metrics["displacement"].value
    assert value is not None
    return value


def told(found: EncoderResult, operation: str) -> EquivarianceResult:
    return next(item for item in found.equivariance if item.operation == operation)


def mean_colour(tiles: np.ndarray) -> np.ndarray:
    return tiles.mean(axis=(1, 2)).astype(np.float32)


def blocks(tiles: np.ndarray) -> np.ndarray:
    """Return means of 4 x 4 blocks: linear in the pixels."""
    n, side = len(tiles), tiles.shape[1] // 4
    return tiles.reshape(n, 4, side, 4, side, 3).mean(axis=(2, 4)).reshape(n, -1).astype(np.float32)


def test_a_mean_colour_ignores_geometry_and_follows_stain(cohort):
    names = ("flip", "quarter-turn", "hematoxylin-gain", "patch-shuffle")
    _, found = audit(cohort, mean_colour, *names, dim=3)
    assert moved(found, "flip") == moved(found, "quarter-turn") == 0
    assert status(found, "ignores flip") == status(found, "ignores quarter-turn") == "PASS"
    assert told(found, "flip").verdict == "invariant"
    assert moved(found, "hematoxylin-gain", 5) > 0.3
    assert status(found, "reacts to patch-shuffle") == "FAIL"
    assert found.verdict == "FAIL"


@pytest.mark.slow
def test_what_is_averaged_over_right_angles_ignores_right_angles_only(cohort):
    def averaged(tiles: np.ndarray) -> np.ndarray:
        turned = (np.rot90(tiles, turns, axes=(1, 2)) for turns in range(4))
        rows = sum(blocks(np.ascontiguousarray(tile)) for tile in turned)
        return rows - 4 * np.tile(mean_colour(tiles), (1, 16))

    _, found = audit(cohort, averaged, "quarter-turn", "rotation", "nuclei-erased", dim=48)
    assert moved(found, "quarter-turn") < 1e-6
    assert status(found, "ignores quarter-turn") == "PASS"
    assert moved(found, "rotation", 5) > 0.1
    assert told(found, "quarter-turn").verdict == "invariant" != told(found, "rotation").verdict


@pytest.mark.slow
def test_a_gain_is_linear_for_what_is_linear_and_a_shift_for_its_logarithm(cohort):
    _, linear = audit(cohort, blocks, "brightness", "nuclei-erased", dim=48)
    item = told(linear, "brightness")
    assert item.verdict in ("linear", "shared direction")
    assert item.maps["ridge"].explained.value > 0.99
    assert item.maps["ridge"].gap_closed.value is not None

    def logarithm(tiles: np.ndarray) -> np.ndarray:
        return np.log(blocks(tiles))

    _, logged = audit(cohort, logarithm, "brightness", "nuclei-erased", dim=48)
    item = told(logged, "brightness")
    assert item.verdict == "shared direction"
    assert item.maps["shift"].explained.value > 0.99
    assert item.direction_consistency > 0.99


def test_noise_that_depends_on_the_tile_is_entangled(cohort):
    def hashed(tiles: np.ndarray) -> np.ndarray:
        seeds = [int(np.abs(blocks(tile[None])).astype(int).sum()) for tile in tiles]
        return np.stack([np.random.default_rng(seed).normal(size=12) for seed in seeds]).astype(np.float32)

    _, found = audit(cohort, hashed, "brightness", "nuclei-erased", dim=12)
    assert told(found, "brightness").verdict == "entangled"
    assert status(found, "ignores brightness") == "FAIL"


@pytest.mark.slow
def test_an_encoder_blind_to_nuclei_fails(cohort):
    def blind(tiles: np.ndarray) -> np.ndarray:
        # What erasing all nuclei leaves of a tile is left of a tile without nuclei, too.
        bare = np.stack([perturb(tile, "nuclei-erased", 5, tile_id="any", mpp=0.5) for tile in tiles])
        return np.concatenate([mean_colour(bare), mean_colour(bare) ** 2 / 255], axis=1)

    _, found = audit(cohort, blind, "jpeg", "blur", "brightness", "hematoxylin-gain", "nuclei-erased", dim=6)
    share = next(item.share for item in found.selectivities if item.operation == "nuclei-erased")
    assert share.value < 0.5
    assert status(found, "selectivity") == "FAIL"
    assert next(family.status for family in found.families if family.family == "must-react") == "FAIL"


def test_a_constant_is_undefined_and_fails(cohort):
    found = audit_encoders(cohort, [encoder("toy:constant")], plan=plan("blur", "nuclei-erased")).result.encoders[0]
    assert found.verdict == "FAIL"
    assert not found.null.defined
    assert {item.verdict for item in found.equivariance} == {"undefined"}
    assert found.selectivity is None


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["quick", "standard", "must-react"])
def test_a_random_projection_fails_on_selectivity(cohort, suite):
    """Turning a tile moves its pixels further than taking its nuclei out does, whatever else there is in a suite."""
    found = audit_encoders(cohort, [encoder("toy:random-projection")], plan=plan(*SUITES[suite])).result.encoders[0]
    assert status(found, "selectivity against geometric") == "FAIL"
    (check,) = [item for item in found.checks if item.name == "selectivity against geometric"]
    assert check.sentence.startswith("nuclei-") and "moves tiles less far than geometric changes do" in check.sentence
    assert found.verdict == "FAIL"


@pytest.mark.slow
def test_every_measure_of_a_leak_grows_with_a_planted_site_shift():
    rng = np.random.default_rng(0)
    n, groups = 480, 24
    patient = rng.permutation(np.repeat(np.arange(groups), n // groups))
    site, label = patient % 2, rng.integers(0, 2, n)
    noise = rng.normal(size=(n, 16))
    noise[:, 0] += 2 * label - 1
    table = pd.DataFrame(
        {"label": label.astype(str), "site": site.astype(str), "patient": patient.astype(str)},
        index=pd.Index([f"t{i}" for i in range(n)], name="tile"),
    )

    class Bare:
        name = "planted"

        def __init__(self) -> None:
            self.table = table

        def read(self, index: int) -> np.ndarray:
            raise AssertionError(index)

    figures: dict[str, list[float]] = {}
    for shift in (0.0, 0.7, 1.4, 2.8):
        moved = noise.copy()
        moved[:, 1] += shift * (2 * site - 1)
        card = EncoderCard(name="v", kind="vectors", source="v", dim=16, revision="1")
        quick = Plan(resamples=100, skip=("discordance", "sensitivity"))
        run = audit_encoders(Bare(), [VectorEncoder(card, moved.astype(np.float32))], plan=quick)
        frame = run.result.to_frame()
        for metric in (*RISING, *FALLING):
            value = frame.loc[(frame["metric"] == metric) & (frame["column"].isin(["site", None])), "value"]
            figures.setdefault(metric, []).append(float(value.iloc[0]))
    for metric in RISING:
        assert (np.diff(figures[metric]) > 0).all(), (metric, figures[metric])
    for metric in FALLING:
        assert (np.diff(figures[metric]) < 0).all(), (metric, figures[metric])


RISING = (
    "balanced_accuracy",
    "auroc",
    "neighbour_accuracy",
    "leak",
    "batch_silhouette",
    "batch_silhouette_euclidean",
    "margin_confounded",
    "gaussian_w2_squared",
    "class_gaussian_w2_squared",
    "empirical_w2_squared",
    "sliced_w2_squared",
    "proxy_a_distance",
)
FALLING = (
    "robustness_index",
    "robustness_ratio",
    "margin_index",
    "margin_median",
    "margin_worst",
    "ilisi",
    "kbet",
    "clustering_score",
    "performance_drop",
    "unseen_accuracy",
    "transfer_gap",
    "batch_silhouette_scib",
)
