"""`Compactor`: the manners of scikit-learn, and the same numbers as the functions it calls."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histolatent import Compactor
from histolatent.compact.compactor import CompactionWarning
from histolatent.compact.frozen import compact_frozen
from histolatent.compact.plan import CompactionPlan
from histolatent.encoders import encode, encoder
from histolatent.errors import CompactionError, EncoderError, InputError, OptionError
from histolatent.images import open_tiles

TILES = "phantom:sites=1,patients=4,slides=1,tiles_per_site=24,tile_px=48"
SHORT = CompactionPlan().changed(
    **{"training.steps": 3, "training.batch_size": 6, "training.check_every": 3, "projector": 16, "tile_px": 32}
)


@pytest.fixture(scope="module")
def pixels():
    source = open_tiles(TILES)
    return np.stack([source.read(row) for row in range(len(source.table))])


@pytest.fixture(scope="module")
def fitted():
    return Compactor("linear", on="toy:random-conv", states=2, strength=1.0).fit(TILES)


def test_it_is_what_the_function_gives(fitted, tmp_path):
    source = open_tiles(TILES)
    base = encoder("toy:random-conv")
    made = compact_frozen(source, base, "toy:random-conv", tmp_path / "v", states=2, strength=1.0)
    expected = encode(made.encoder, [source.read(row) for row in range(len(source.table))])
    np.testing.assert_array_equal(fitted.transform(TILES), expected)


def test_pixels_in_memory_and_a_source_give_the_same_vectors(fitted, pixels):
    np.testing.assert_array_equal(fitted.transform(pixels), fitted.transform(TILES))
    np.testing.assert_array_equal(fitted.transform(list(pixels[:3])), fitted.transform(TILES)[:3])


def test_pixels_in_memory_are_fitted_to_with_labels_and_slides(pixels):
    table = open_tiles(TILES).table
    compactor = Compactor("linear", on="toy:random-conv", states=2, strength=1.0)
    vectors = compactor.fit_transform(pixels, table["label"], groups=table["slide"])
    assert vectors.shape == (24, 64) and vectors.dtype == np.float32
    assert compactor.card_["folds"]["by"] == "slide" and compactor.card_["source"]["tiles"] == 24


def test_scikit_learn_takes_it_as_its_own(fitted, pixels):
    again = clone(fitted)
    assert again.get_params() == fitted.get_params() and not hasattr(again, "encoder_")
    piped = make_pipeline(Compactor("linear", on="toy:random-conv", states=2, strength=1.0), StandardScaler())
    assert piped.fit_transform(pixels).std(axis=0).max() == pytest.approx(1, abs=1e-4)
    frame = clone(fitted).set_output(transform="pandas").fit(TILES).transform(TILES)
    assert isinstance(frame, pd.DataFrame) and list(frame.columns[:2]) == ["compacted0", "compacted1"]
    with pytest.raises(NotFittedError):
        again.transform(pixels)


@pytest.mark.parametrize("kind", ["linear", "adapter"])
def test_what_is_saved_loads(kind, pixels, tmp_path):
    compactor = Compactor(kind, on="toy:random-conv", states=3, prior="fixed", seed=5).fit(TILES)
    compactor.save(tmp_path / "lmc")
    loaded = Compactor.load(tmp_path / "lmc")
    assert loaded.get_params() == compactor.get_params()
    np.testing.assert_array_equal(loaded.transform(pixels), compactor.transform(pixels))


def test_a_trained_encoder_is_saved_and_loads(pixels, tmp_path):
    told = []
    compactor = Compactor("encoder", plan=SHORT, device="cpu", progress=lambda what, *rest: told.append(what))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", CompactionWarning)
        compactor.fit(TILES)
    own = [str(each.message) for each in said if issubclass(each.category, CompactionWarning)]
    assert own == [finding.said for finding in compactor.findings_]
    assert {"reading tiles", "training", "checked"} <= set(told)
    compactor.save(tmp_path / "lmc")
    loaded = Compactor.load(tmp_path / "lmc", device="cpu")
    assert loaded.plan == SHORT and loaded.findings_ == compactor.findings_
    np.testing.assert_allclose(loaded.transform(pixels), compactor.transform(pixels), rtol=1e-5, atol=1e-6)


def test_a_useless_embedding_is_refused_and_says_why(monkeypatch):
    from histolatent.compact import guards

    monkeypatch.setattr(guards, "MOST_COLOUR", -9.0)
    compactor = Compactor("encoder", plan=SHORT, device="cpu")
    with pytest.raises(CompactionError, match="the colours of tiles explain"):
        compactor.fit(TILES)
    assert [finding.guard for finding in compactor.findings_ if finding.fatal] == ["shortcut"]


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_where_it_was(tmp_path):
    class Stopped(Exception):
        pass

    def stop(what, done, total, values):
        if (what, done) == ("training", 5):
            raise Stopped

    plan = SHORT.changed(**{"training.steps": 6})
    with pytest.raises(Stopped):
        Compactor("encoder", plan=plan, device="cpu", work=tmp_path, progress=stop).fit(TILES)
    told = []
    again = Compactor("encoder", plan=plan, device="cpu", work=tmp_path, progress=lambda *what: told.append(what[:2]))
    whole = Compactor("encoder", plan=plan, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompactionWarning)  # so short a training may be called one
        again.fit(TILES)
        whole.fit(TILES)
    steps = [done for what, done in told if what == "training"]
    assert steps and steps[0] > 1
    np.testing.assert_array_equal(again.transform(TILES), whole.transform(TILES))


@pytest.mark.parametrize(
    "options, given, error, match",
    [
        ({"kind": "linaer", "on": "toy:random-conv"}, {}, OptionError, "kind of compaction"),
        ({"kind": "linear"}, {}, OptionError, "lie on an encoder"),
        ({"kind": "encoder", "on": "toy:random-conv"}, {}, OptionError, "lie on an encoder"),
        ({"kind": "linear", "on": "toy:random-conv"}, {"y": [0] * 24}, OptionError, "its own columns"),
    ],
)
def test_what_does_not_go_together_is_refused(options, given, error, match):
    with pytest.raises(error, match=match):
        Compactor(**options).fit(TILES, **given)


def test_tiles_that_are_none_are_refused(pixels, tmp_path):
    compactor = Compactor("linear", on="toy:random-conv", states=2)
    with pytest.raises(InputError, match="one value for each tile"):
        compactor.fit(pixels, groups=["a"] * 3)
    with pytest.raises(InputError, match="of one size"):
        compactor.fit([pixels[0], pixels[1][:40]])
    with pytest.raises(InputError, match="uint8"):
        compactor.fit(pixels / 255)
    with pytest.raises(EncoderError, match="holds no compaction"):
        Compactor.load(tmp_path)
