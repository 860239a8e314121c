"""The data file of published encoders."""

import pytest

from histolatent.encoders import catalogue, in_cache
from histolatent.encoders.catalogue import catalogue_frame
from histolatent.encoders.source import parse_source

ENTRIES = {entry.name: entry for entry in catalogue()}
DIMS = {
    "lunit-dino-s8": 384, "lunit-dino-s16": 384, "lunit-bt": 2048, "lunit-mocov2": 2048, "lunit-swav": 2048,
    "h-optimus-0": 1536, "h-optimus-1": 1536, "h0-mini": 768, "dinov2-s": 384, "dinov2-b": 768, "dinov2-l": 1024,
    "dinov2-g": 1536, "phikon": 768, "phikon-v2": 1024, "uni": 1024, "uni2-h": 1536, "virchow": 2560,
    "virchow2": 2560, "gigapath": 1536, "hibou-b": 768, "hibou-l": 1024, "kaiko-s16": 384, "kaiko-s8": 384,
    "kaiko-b16": 768, "kaiko-b8": 768, "kaiko-l14": 1024, "midnight-12k": 3072, "conch": 512, "plip": 512,
    "ctranspath": 768, "resnet50": 2048,
}  # fmt: skip
GATED = {"h-optimus-1", "h0-mini", "uni", "uni2-h", "virchow", "virchow2", "gigapath", "hibou-b", "hibou-l", "conch"}


def test_the_table_is_complete():
    assert {name: entry.dim for name, entry in ENTRIES.items()} == DIMS
    assert {name for name, entry in ENTRIES.items() if entry.gated} == GATED


def test_names_and_strings_are_unique_and_no_revision_is_invented():
    assert len({entry.string.lower() for entry in ENTRIES.values()}) == len(ENTRIES)
    assert all(entry.revision is None for entry in ENTRIES.values())
    assert all(parse_source(entry.string).query == {} for entry in ENTRIES.values())
    assert all(entry.licence for entry in ENTRIES.values())


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=list(ENTRIES))
def test_preprocessing_is_consistent(entry):
    rule = entry.preprocessing
    assert rule.resize in ("squash", "shorter-side-crop")
    assert all(0 < value < 1 for value in (*rule.mean, *rule.std))
    assert rule.input_px <= (rule.resize_px or rule.input_px) < 2 * rule.input_px


@pytest.mark.parametrize(
    ("name", "mean"),
    [("uni2-h", 0.485), ("h-optimus-0", 0.707223), ("lunit-bt", 0.70322989), ("hibou-l", 0.7068), ("plip", 0.48145466)],
)
def test_means_are_those_of_the_authors(name, mean):
    assert ENTRIES[name].preprocessing.mean[0] == mean


def test_what_an_encoder_was_trained_on_is_known():
    general = {name for name, entry in ENTRIES.items() if entry.domain == "general"}
    assert general == {"dinov2-s", "dinov2-b", "dinov2-l", "dinov2-g", "resnet50"}
    assert {entry.domain for name, entry in ENTRIES.items() if name not in general} == {"pathology"}


def test_the_cache_is_looked_up(cached):
    assert not in_cache(ENTRIES["phikon"])
    cached("owkin/phikon", {"config.json": {}})
    assert not in_cache(ENTRIES["phikon"])
    cached("owkin/phikon-v2", {"model.safetensors": b""})
    assert in_cache(ENTRIES["phikon-v2"])
    cached("timm/resnet50.tv_in1k", {"pytorch_model.bin": b""}, ref=None)
    assert in_cache(ENTRIES["resnet50"])
    frame = catalogue_frame()
    assert list(frame.columns) == [
        "name", "string", "domain", "dim", "input_px", "pooling", "precision", "licence", "gated", "cached"
    ]  # fmt: skip
    assert set(frame.name[frame.cached]) == {"phikon-v2", "resnet50"}


@pytest.mark.slow
@pytest.mark.parametrize("entry", [entry for entry in ENTRIES.values() if entry.architecture], ids=lambda e: e.name)
def test_architectures_can_be_built_and_have_the_dimension(entry):
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("histolatent.encoders.timm_models")
    with torch.device("meta"):
        model = models.create(entry.architecture, entry.kwargs, {})
        px = entry.preprocessing.input_px
        assert models.embed_timm(model.eval(), torch.zeros(1, 3, px, px), entry.pooling).shape == (1, entry.dim)
