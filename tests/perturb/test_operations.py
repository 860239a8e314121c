"""What holds for every operation: exact at 0, pure, keyed by name, never in need of a nice tile."""

import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from histolatent.errors import OperationError, OptionError
from histolatent.images import decode
from histolatent.perturb import OPERATIONS, SEVERITIES, SUITES, Ladder, climb, perturb, suite
from histolatent.provenance import pixel_hash

NAMES = list(OPERATIONS)


@pytest.mark.parametrize("name", NAMES)
def test_severity_0_is_the_tile(tile, name):
    found = perturb(tile, name, 0, tile_id="t")
    np.testing.assert_array_equal(found, tile)
    assert not np.shares_memory(found, tile)
    assert OPERATIONS[name].level(0) is None
    np.testing.assert_array_equal(climb(tile, name, (3, 0), tile_id="t")[1], tile)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_never_touched(tile, name):
    frozen = tile.copy()
    frozen.flags.writeable = False
    results = climb(frozen, name, tile_id="t", mpp=0.5)
    np.testing.assert_array_equal(frozen, tile)
    for result in results:
        assert not np.shares_memory(result, frozen)
        assert result.dtype == np.uint8
        assert result.shape == tile.shape
        assert result.flags.writeable


@pytest.mark.parametrize("name", NAMES)
def test_layout_in_memory_does_not_matter(tile, name):
    turned = np.asfortranarray(tile)
    view = tile[::-1][::-1]
    for severity in (1, 5):
        expected = perturb(tile, name, severity, tile_id="t")
        np.testing.assert_array_equal(perturb(turned, name, severity, tile_id="t"), expected)
        np.testing.assert_array_equal(perturb(view, name, severity, tile_id="t"), expected)


@pytest.mark.parametrize("name", NAMES)
def test_order_and_company_do_not_matter(tile, name):
    alone = [perturb(tile, name, severity, tile_id="t", seed=2, mpp=0.5) for severity in SEVERITIES]
    perturb(tile, name, 3, tile_id="another")
    backwards = climb(tile, name, SEVERITIES[::-1], tile_id="t", seed=2, mpp=0.5)[::-1]
    for one, other in zip(alone, backwards, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(alone[1], perturb(tile, OPERATIONS[name], 2, tile_id="t", seed=2))


def test_another_process_gives_the_same_pixels(tile, tmp_path):
    np.save(tmp_path / "tile.npy", tile)
    code = (
        "import numpy as np; from histolatent.perturb import Ladder, suite; "
        "from histolatent.provenance import pixel_hash; "
        f"tile = np.load({str(tmp_path / 'tile.npy')!r}); "
        "print(*map(pixel_hash, Ladder(suite('quick'), seed=3)(tile, 'site/t1', 0.5)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [pixel_hash(view) for view in Ladder(suite("quick"), seed=3)(tile, "site/t1", 0.5)]
    assert done.stdout.split() == here


DRAWN = (
    *("rotation", "rotation-there-and-back", "translation", "shear", "elastic", "hue", "white-balance", "motion-blur"),
    *("noise", "cross-talk", "virtual-scanner", "stain-rotation", "hed-jitter", "protocol", "pen", "fold", "bubble"),
    *("dust", "cut-out", "nuclei-erased", "patch-shuffle", "phase-scramble", "tissue-swap"),
)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*DRAWN, "nuclei-dilated", "nuclei-eroded")])
def test_what_draws_nothing_is_the_same_for_every_seed(tile, name):
    assert len({pixel_hash(perturb(tile, name, 2, tile_id="t", seed=seed)) for seed in range(4)}) == 1


@pytest.mark.parametrize("name", DRAWN)
def test_seed_and_tile_id_decide_what_is_random(tile, name):
    def found(seed: int, tile_id: str) -> str:
        return pixel_hash(perturb(tile, name, 2, tile_id=tile_id, seed=seed))

    assert len({found(seed, "t") for seed in range(8)}) > 1
    assert len({found(0, str(number)) for number in range(8)}) > 1


#: More and more of something that is not a difference in pixels: order, and a file that compresses itself again.
NOT_IN_PIXELS = {"patch-shuffle", "jpeg-round-trip"}
SAME_PIXELS = {"no-op", "png-round-trip"}


@pytest.fixture(scope="module")
def several(phantom) -> list[np.ndarray]:
    return [phantom.read(i) for i in range(0, 24, 4)]


@pytest.mark.parametrize("name", NAMES)
def test_graded_operations_do_more_and_more(several, name):
    operation = OPERATIONS[name]
    change = np.mean(
        [
            [np.abs(view.astype(int) - tile).mean() for view in climb(tile, operation, tile_id=str(i), mpp=0.5)]
            for i, tile in enumerate(several)
        ],
        axis=0,
    )
    if name in SAME_PIXELS:
        assert (change == 0).all()
        return
    assert (change > 0).all()
    if operation.graded and name not in NOT_IN_PIXELS:
        assert all(low < high for low, high in pairwise(change)), change


@pytest.mark.parametrize("mpp", [None, 0.1, 2.0])
def test_odd_tiles_never_raise(odd, mpp):
    for name in NAMES:
        for result in climb(odd, name, tile_id="t", mpp=mpp):
            assert result.shape == odd.shape, name
            assert result.dtype == np.uint8, name


#: These change light, sensor or what lies on the glass; all others leave it as it is.
ON_GLASS = {
    *(name for name in NAMES if OPERATIONS[name].family in ("photometric", "artefact")),
    *("noise", "vignetting", "virtual-scanner", "tissue-swap"),
}


@pytest.mark.parametrize("level", [244, 170])
def test_glass_stays_glass_under_all_but_light_sensor_and_artefacts(level):
    white = np.full((32, 32, 3), level, np.uint8)
    for name in NAMES:
        found = perturb(white, name, 5, tile_id="t")
        if name in ON_GLASS:
            continue
        np.testing.assert_allclose(found, level, atol=2, err_msg=name)
    expected = OPERATIONS["brightness"].levels[4] * level
    np.testing.assert_allclose(perturb(white, "brightness", 5, tile_id="t"), expected, atol=1)


@pytest.mark.parametrize("severity", [-1, 6])
def test_severities_that_are_none(tile, severity):
    with pytest.raises(OptionError, match=rf"no such severity. Received: {severity}. Valid: 0, 1, 2, 3, 4, 5"):
        perturb(tile, "blur", severity, tile_id="t")


@pytest.mark.parametrize("mpp", [0.0, -0.5, float("nan"), float("inf")])
def test_scales_that_are_none(tile, mpp):
    with pytest.raises(OptionError, match="mpp is not a finite number above 0 um/px"):
        perturb(tile, "blur", 1, tile_id="t", mpp=mpp)


def test_names_that_are_none(tile):
    with pytest.raises(OptionError, match=r"no perturbation is called 'blurr'.*did you mean 'blur'"):
        perturb(tile, "blurr", 1, tile_id="t")
    with pytest.raises(OptionError, match=r"no suite is called 'quik'.*did you mean 'quick'"):
        suite("quik")


def test_suites_name_operations_of_every_role():
    for name in SUITES:
        roles = {operation.role for operation in suite(name)}
        assert roles == {"must-ignore", "must-react", "control"}


def test_a_ladder_is_the_tile_and_every_step(tile):
    ladder = pickle.loads(pickle.dumps(Ladder(("blur", "flip"), seed=3, assumed_mpp=0.25)))
    views = ladder(tile, "t", None)
    assert ladder.names[:3] == ("tile", "blur@1", "blur@2")
    assert len(views) == len(ladder.names) == 11
    np.testing.assert_array_equal(views[0], tile)
    for (operation, severity), view in zip(ladder.steps, views[1:], strict=True):
        np.testing.assert_array_equal(view, perturb(tile, operation, severity, tile_id="t", seed=3, mpp=0.25))
    np.testing.assert_array_equal(ladder(tile, "t", 0.5)[3], perturb(tile, "blur", 3, tile_id="t", mpp=0.5))


@pytest.mark.data
def test_real_tiles_and_those_that_break_stain_code(data):
    paths = sorted((data / "edge_tiles").glob("*.png")) + sorted((data / "oral_cancer" / "OSCC").glob("*.jpg"))[:3]
    assert len(paths) == 17
    for path in paths:
        tile = decode(path)[:96, :96]
        for name in NAMES:
            for view in climb(tile, name, (1, 5), tile_id=path.name, mpp=0.5):
                assert view.shape == tile.shape
                if name == "tissue-swap":
                    continue
                # No hue flips, no black tiles: the mean colour stays near. Fading leaves green pen, and no tissue.
                apart = np.abs(view.mean(axis=(0, 1)) - tile.mean(axis=(0, 1))).max()
                assert apart < (125 if name == "fading" else 95), (path.name, name)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            lambda *_: lambda level: 1 / 0,
            r"the operation broken raised ZeroDivisionError \(division by zero\) at test_",
        ),
        (
            lambda *_: lambda level: np.zeros((3, 3, 3), np.uint8),
            r"returned no tile.*uint8 \(3, 3, 3\) at severity 1 of t",
        ),
        (lambda *_: lambda level: None, r"returned no tile.*Received: NoneType at severity 1 of t"),
    ],
)
def test_an_operation_that_fails_is_named(tile, path, said):
    broken = replace(OPERATIONS["blur"], name="broken", path=path)
    with pytest.raises(OperationError, match=said):
        climb(tile, broken, tile_id="t")
