"""Contracts that are broken on purpose: each slip is found, named, and told how to mend."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from histolatent.encoders import EncoderCard, Preprocessing, encode, encoder
from histolatent.encoders.card import IMAGENET_MEAN, IMAGENET_STD
from histolatent.encoders.contract import check_contract, explain_vectors
from histolatent.encoders.mapped import map_encoder
from histolatent.encoders.maps import LinearMap
from histolatent.encoders.toys import convolve_randomly
from histolatent.errors import InputError
from histolatent.images.phantom import PhantomSpec, PhantomTiles

torch = pytest.importorskip("torch")
PX = 64


@pytest.fixture(scope="module")
def stained() -> list[np.ndarray]:
    source = PhantomTiles(PhantomSpec(sites=2, tiles_per_site=6, tile_px=96, seed=4))
    return [source.read(index) for index in range(12)]


@dataclass(frozen=True, eq=False)
class Wrapped:
    """A function as an encoder, as a user's own code would be."""

    card: EncoderCard
    function: object

    def forward(self, prepared: np.ndarray) -> np.ndarray:
        return self.function(prepared)


def levels(tiles: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(tiles.transpose(0, 3, 1, 2)).float()


def noise(tiles: np.ndarray) -> torch.Tensor:
    return torch.rand(len(tiles), 3, PX, PX, generator=torch.Generator().manual_seed(0))


def card(dim: int, **preprocessing) -> EncoderCard:
    rule = Preprocessing(**({"resize": "squash", "input_px": PX} | preprocessing))
    return EncoderCard(name="mine", kind="callable", source="callable:mine", dim=dim, preprocessing=rule, revision="1")


def network(*, norm: bool = False, dropout: bool = False) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = [torch.nn.Conv2d(3, 12, 5, 4)]
        layers += [torch.nn.BatchNorm2d(12)] if norm else []
        layers += [torch.nn.ReLU(), torch.nn.Conv2d(12, 24, 3, 2), torch.nn.ReLU()]
        layers += [torch.nn.Dropout(0.3)] if dropout else []
        return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()).eval()


def scaled(tiles: np.ndarray, mean=IMAGENET_MEAN, std=IMAGENET_STD) -> torch.Tensor:
    images = torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def wrap(model, images=scaled, **preprocessing) -> Wrapped:
    def function(tiles: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(images(tiles)).numpy()

    return Wrapped(card(96, **preprocessing), function)


def answers(found) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, f"{check.sentence} {check.fix or ''}") for check in found}


NORMAL = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def test_an_encoder_that_keeps_its_contract_passes(stained):
    for made in (wrap(network()), wrap(network(norm=True)), wrap(network(), **NORMAL)):
        found = check_contract(made, stained)
        assert {check.status for check in found} == {"PASS"}, found
        assert [check.name for check in found] == [
            "tiles differ",
            "repeats",
            "order",
            "batch-mates",
            "batch size",
            "preprocessing",
        ]


@pytest.mark.parametrize(
    ("images", "rule", "status", "said"),
    [
        (lambda t: scaled(t[..., ::-1]), {}, "FAIL", r"as blue, green, red.*pass RGB"),
        (lambda t: scaled(t[..., [0, 2, 1]]), {}, "FAIL", "as red, blue, green"),
        (
            levels,
            NORMAL,
            "FAIL",
            "gets levels 0 to 255, not scaled",
        ),
        (
            levels,
            {},
            "WARN",
            "levels 0 to 255, not scaled, and its",
        ),
        (
            lambda t: (
                (levels(t) - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
            ),
            {},
            "FAIL",
            r"levels 0 to 255, less ImageNet's mean and std of levels 0 to 1.*divide the levels by 255",
        ),
        (lambda t: scaled(t, (0, 0, 0), (1, 1, 1)), NORMAL, "FAIL", "levels 0 to 1, without mean and std"),
        (lambda t: scaled(t, (0, 0, 0), (1, 1, 1)), {}, "WARN", "levels 0 to 1, without mean and std"),
        (lambda t: scaled(t, (0.5,) * 3, (0.5,) * 3), NORMAL, "FAIL", r"gets 0.5 and 0.5 .*mean 0.485 / 0.456 / 0.406"),
        (lambda t: scaled(t, (0.5,) * 3, (0.5,) * 3), {}, "PASS", "scaled by 0.5 and 0.5"),
        (lambda t: scaled(t, (0.3,) * 3, (0.4,) * 3), {}, "WARN", r"gets mean 0.3\d* / 0.3"),
        (
            lambda t: scaled(t, [255 * value for value in IMAGENET_MEAN], [255 * value for value in IMAGENET_STD]),
            {},
            "FAIL",
            r"divided by 255 twice, less ImageNet's mean and std.*divide the levels by 255 once",
        ),
        (lambda t: scaled(t) / 255, NORMAL, "FAIL", "gets mean 0.485 / 0.456 / 0.406, std 58.4"),
        (lambda t: scaled(t[:, ::2, ::2]), NORMAL, "FAIL", "sees 32 x 32 px, its card says 64"),
        (lambda t: scaled(t[:, 8:56, 8:56]), NORMAL, "FAIL", "sees 48 x 48 px, its card says 64"),
        (
            lambda t: torch.rand(len(t), 3, PX, PX, generator=torch.Generator().manual_seed(0)),
            {},
            "WARN",
            "no scaling of",
        ),
    ],
)
def test_what_reaches_the_network(stained, images, rule, status, said):
    found = answers(check_contract(wrap(network(), images, **rule), stained)).get("preprocessing")
    assert found is not None
    assert found[0] == status, found
    assert re.search(said, found[1]), found


def test_random_layers_and_training_mode(stained):
    dropout = network(dropout=True)
    dropout[4].train()
    found = answers(check_contract(wrap(dropout), stained))
    assert found["repeats"][0] == "FAIL" and "model.eval()" in found["repeats"][1]
    assert "batch-mates" not in found  # what is random depends on everything
    norm = network(norm=True)
    norm[1].train()
    norm[1].track_running_stats = False
    found = answers(check_contract(wrap(norm), stained))
    assert found["repeats"][0] == "PASS"
    assert found["batch-mates"][0] == "FAIL" and "batch normalisation is in training mode" in found["batch-mates"][1]


def test_rows_out_of_order_and_precision(stained):
    inner = wrap(network())
    brightest = lambda tiles: inner.function(tiles[np.argsort(tiles.mean(axis=(1, 2, 3)))])  # noqa: E731
    assert answers(check_contract(Wrapped(inner.card, brightest), stained))["order"][0] == "FAIL"

    def coarse(tiles):
        step = 0.02 if len(tiles) == 1 else 0.001
        return (np.round(inner.function(tiles) / step) * step).astype(np.float32)

    found = answers(check_contract(Wrapped(inner.card, coarse), stained))
    assert found["batch size"][0] in ("WARN", "FAIL") and "alone" in found["batch size"][1]


def made_of_torch(precision: str = "fp32"):
    from histolatent.encoders.torch_models import TorchEncoder

    told = card(96, **NORMAL).model_copy(update={"precision": precision})
    return TorchEncoder(told, network(), lambda model, images, pooling: model(images), "cpu")


def test_a_lower_precision_is_measured_against_fp32(stained):
    assert "precision" not in answers(check_contract(made_of_torch(), stained))
    status, said = answers(check_contract(made_of_torch("bf16"), stained))["precision"]
    assert status in ("PASS", "WARN") and "bf16 moves vectors by up to 0.0" in said and "against fp32" in said
    drifting = made_of_torch("bf16")
    drifting = replace(drifting, embed=lambda model, images, pooling: coarser(model(images)))
    status, said = answers(check_contract(drifting, stained))["precision"]
    assert status == "FAIL" and "precision=fp32" in said


def test_a_map_is_asked_by_way_of_its_base(stained):
    same = LinearMap(np.zeros(96, np.float32), *2 * [np.zeros((96, 1), np.float32)], np.ones(1, np.float32))
    mapped = map_encoder(made_of_torch("bf16"), None, same)
    status, said = answers(check_contract(mapped, stained))["precision"]
    assert status in ("PASS", "WARN") and "by up to 0.0" in said
    assert mapped.at_precision("fp32").base.card.precision == "fp32"
    # Nothing is known of a base that has one precision, and that is not a difference of 0.
    alone = Wrapped(
        card(3).model_copy(update={"precision": "fp16"}), lambda tiles: tiles.mean(axis=(1, 2), dtype=np.float32)
    )
    same = LinearMap(np.zeros(3, np.float32), *2 * [np.zeros((3, 1), np.float32)], np.ones(1, np.float32))
    assert "precision" not in answers(check_contract(map_encoder(alone, None, same), stained))


def coarser(vectors: torch.Tensor) -> torch.Tensor:
    """A layer that loses what bfloat16 does not hold."""
    return (vectors + 64) - 64 if vectors.dtype == torch.bfloat16 else vectors


@pytest.mark.parametrize(("lower", "name"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16")])
def test_a_network_that_is_not_in_the_precision_of_its_card(stained, lower, name):
    inner = network()

    def function(tiles):
        with torch.inference_mode(), torch.autocast("cpu", dtype=lower):
            return inner(scaled(tiles)).float().numpy()

    half = network().to(lower)
    inside = lambda tiles: half(scaled(tiles).to(lower)).detach().float().numpy()  # noqa: E731
    for made in (Wrapped(card(96), function), Wrapped(card(96), inside)):
        status, said = answers(check_contract(made, stained))["precision"]
        assert status == "FAIL" and f"computes in {name}, its card says fp32" in said


def test_a_reference_that_is_nearly_met_or_of_another_size(stained):
    right = made_of_torch()
    unit = float(torch.pdist(torch.from_numpy(encode(right, stained))).median())
    near = replace(right, embed=lambda model, images, pooling: off_by(0.02 * unit, model(images)))
    status, said = answers(check_contract(near, stained, reference=right))["as mine"]
    assert status == "WARN" and "compare precision" in said
    found = answers(check_contract(right, stained, reference=encoder("toy:od-moments")))
    assert found["as toy:od-moments"][0] == "FAIL" and "vectors of 96 numbers" in found["as toy:od-moments"][1]
    assert found["preprocessing"][0] == "PASS"


def off_by(distance: float, vectors: torch.Tensor) -> torch.Tensor:
    return vectors + distance / vectors.shape[1] ** 0.5 * torch.sign(torch.sin(1e3 * vectors))


def test_a_constant_encoder_is_said_first(stained):
    (check,) = check_contract(encoder("toy:constant"), stained)
    assert (check.name, check.status) == ("tiles differ", "FAIL")
    assert "look at pooling" in str(check.to_dict()["fix"])


def test_golden_numbers(stained):
    made = encoder("toy:random-conv")
    found = answers(check_contract(made, stained))
    assert found["golden numbers"][0] == "PASS"
    assert found["preprocessing"][0] == "UNDEFINED"
    changed = replace(made, function=lambda tiles: convolve_randomly(tiles[..., ::-1], seed=0))
    assert answers(check_contract(changed, stained))["golden numbers"][0] == "FAIL"


@pytest.mark.parametrize(
    ("change", "slip"),
    [
        ({}, "as it is"),
        ({"interpolation": "nearest"}, "resized by nearest"),
        ({"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}, "levels 0 to 1, without mean and std"),
        ({"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}, "levels 0 to 255, not scaled"),
        ({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}, "0.5 and 0.5 (-1 to 1)"),
        ({"resize": "squash", "resize_px": None}, "squashed to size, not cut"),
    ],
)
def test_a_slip_is_named_by_comparison(stained, change, slip):
    from histolatent.encoders.torch_models import TorchEncoder

    rule = {"resize": "shorter-side-crop", "resize_px": 80, "interpolation": "bicubic", **NORMAL}
    tall = [np.ascontiguousarray(tile[:, :72]) for tile in stained]
    right = TorchEncoder(card(96, **rule), network(), lambda model, images, pooling: model(images), "cpu")
    wrong = TorchEncoder(card(96, **(rule | change)), right.model, right.embed, "cpu")
    found = answers(check_contract(wrong, tall, reference=right))["as mine"]
    assert found[0] == ("PASS" if slip == "as it is" else "FAIL")
    assert slip == "as it is" or slip in found[1]


def test_swapped_channels_and_other_weights_are_told_apart(stained):
    made = encoder("toy:random-conv")
    swapped = replace(made, function=lambda tiles: convolve_randomly(tiles[..., ::-1], seed=0))
    vectors = np.concatenate([swapped.forward(_thumbnail(tile)) for tile in stained])
    assert explain_vectors(vectors, stained, made)[0] == "red and blue swapped (BGR)"
    slip, gap = explain_vectors(vectors, stained, encoder("toy:random-conv?seed=5"))
    assert slip is None and gap > 0.05
    other = answers(check_contract(made, stained, reference=encoder("toy:random-conv?seed=5")))
    (found,) = [value for name, value in other.items() if name.startswith("as ")]
    assert found[0] == "FAIL" and "other scalings could not be tried" in found[1]


def _thumbnail(tile: np.ndarray) -> np.ndarray:
    from histolatent.encoders import prepare

    return prepare(tile, encoder("toy:random-conv").card.preprocessing)[None]


def test_messages(stained):
    with pytest.raises(InputError, match=r"too few tiles of one size to check an encoder with. Received: 3"):
        check_contract(encoder("toy:od-moments"), stained[:3])
    with pytest.raises(InputError, match="too few tiles"):
        check_contract(encoder("toy:od-moments"), [tile[: 40 + i] for i, tile in enumerate(stained)])
    with pytest.raises(InputError, match=r"cannot be those of toy:od-moments. Received: \(2, 5\). Valid: \(12, 12\)"):
        explain_vectors(np.zeros((2, 5), np.float32), stained, encoder("toy:od-moments"))
