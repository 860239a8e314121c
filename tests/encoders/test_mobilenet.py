"""The example that wraps a real pretrained encoder."""

import os
from pathlib import Path

import numpy as np
import pytest

from histolatent.encoders import encode, encoder
from histolatent.errors import EncoderError

EXAMPLE = Path(__file__).parents[2] / "examples" / "mobilenet.py"


def test_a_missing_file_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HISTOLATENT_DATA", str(tmp_path))
    copy = tmp_path / "mobilenet.py"
    copy.write_text(EXAMPLE.read_text() + "\n")
    with pytest.raises(EncoderError, match=r"the MobileNet file is not there.*set HISTOLATENT_DATA"):
        encoder(f"callable:{copy}:encode")


@pytest.mark.data
@pytest.mark.skipif("HISTOLATENT_DATA" not in os.environ, reason="HISTOLATENT_DATA names no folder")
def test_real_tiles_get_real_vectors():
    pytest.importorskip("ai_edge_litert")
    from PIL import Image

    paths = sorted((Path(os.environ["HISTOLATENT_DATA"]) / "oral_cancer").rglob("*.jpg"))[:4]
    tiles = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    found = encoder(f"callable:{EXAMPLE}:encode")
    vectors = encode(found, tiles)
    assert vectors.shape == (4, 1024)
    assert vectors.min() >= 0
    assert len(np.unique(vectors.round(4), axis=0)) == 4
    assert found.card.weights_sha256 is not None
    np.testing.assert_array_equal(vectors[::-1], encode(found, tiles[::-1], batch_size=1))
    swapped = encode(found, [tile[..., ::-1] for tile in tiles])
    assert not np.array_equal(swapped, vectors)
