"""Hashes, streams and the environment."""

import hashlib
import json

import numpy as np
import pytest

from histolatent.errors import OptionError
from histolatent.provenance import (
    canonical_json,
    combined_digest,
    digest,
    environment,
    file_digest,
    now,
    pixel_hash,
    stream,
    version,
)

GOLDEN = [635436129, 720585239, 136221242]


def test_json_is_canonical():
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_digests_against_hashlib(tmp_path):
    assert digest(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert digest("abc") == hashlib.sha256(b'"abc"').hexdigest()
    (tmp_path / "a").write_bytes(b"abc" * 10**6)
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc" * 10**6).hexdigest()
    assert combined_digest(["a", "b"]) != combined_digest(["b", "a"])


def test_the_pixel_hash_knows_pixels_and_shape_only():
    tile = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    assert len(pixel_hash(tile)) == 16
    assert pixel_hash(tile) == pixel_hash(np.asfortranarray(tile)) == pixel_hash(tile[::-1][::-1])
    other = tile.copy()
    other[3, 4, 1] ^= 1
    assert len({pixel_hash(tile), pixel_hash(other), pixel_hash(tile.reshape(8, 6, 3))}) == 3


def test_streams_depend_on_names_only():
    first = stream(1, "t", "blur").random(4)
    stream(1, "u").random(100)
    np.testing.assert_array_equal(first, stream(1, "t", "blur").random(4))
    others = [(2, "t", "blur"), (1, "t", "jpeg"), (1, "tblur"), (1, "t"), (1, "blur", "t")]
    draws = [first, *(stream(*other).random(4) for other in others)]
    assert len({tuple(draw) for draw in draws}) == 6


def test_a_seed_is_not_negative():
    with pytest.raises(OptionError, match=r"a seed is not negative. Received: -1. Valid: 0 or more"):
        stream(-1, "t")


def test_streams_of_different_names_are_not_correlated():
    draws = np.stack([stream(0, "tile", i).standard_normal(400) for i in range(40)])
    correlations = np.corrcoef(draws)[np.triu_indices(40, 1)]
    assert abs(correlations.mean()) < 0.01
    assert 0.8 < correlations.std() * np.sqrt(400) < 1.2


def test_golden_draws_of_a_stream():
    assert stream(0, "tile-7", "rotation").integers(10**9, size=3).tolist() == GOLDEN


def test_the_environment_is_json():
    found = json.loads(canonical_json(environment()))
    assert found["histolatent"] == version()
    assert found["versions"]["numpy"] == np.__version__
    assert now().endswith("+00:00")
