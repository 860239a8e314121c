"""encode: order, batches, mixed sizes, and the contract."""

from dataclasses import dataclass

import numpy as np
import pytest

from histolatent.encoders import Encoder, EncoderCard, Preprocessing, encode, encoder
from histolatent.errors import EncoderError, InputError, OptionError


@dataclass(frozen=True)
class Fixed:
    """An encoder that returns what it is told."""

    card: EncoderCard
    answer: object

    def forward(self, prepared):
        return self.answer(prepared) if callable(self.answer) else self.answer


def fixed(answer, dim: int = 2, **more) -> Fixed:
    return Fixed(EncoderCard(name="fixed", kind="callable", source="test", dim=dim, revision="1", **more), answer)


def test_mixed_sizes_keep_their_order():
    tiles = [np.full((4 + i % 3, 5, 3), i, np.uint8) for i in range(11)]
    seen = []

    def answer(batch):
        seen.append(len(batch))
        return batch[:, 0, 0, :2].astype(np.float32)

    found = encode(fixed(answer), iter(tiles), batch_size=2)
    np.testing.assert_array_equal(found[:, 0], np.arange(11))
    assert found.dtype == np.float32
    assert max(seen) == 2


def test_float64_becomes_float32_and_no_tiles_give_no_rows():
    encoder_ = fixed(lambda batch: np.ones((len(batch), 2)))
    assert encode(encoder_, [np.zeros((4, 4, 3), np.uint8)]).dtype == np.float32
    assert encode(encoder_, []).shape == (0, 2)
    assert isinstance(encoder_, Encoder)


def test_a_wrong_shape_is_said():
    with pytest.raises(EncoderError, match=r"'fixed' broke its contract. Received: float32 array \(1, 3\)"):
        encode(fixed(np.ones((1, 3), np.float32)), np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(EncoderError, match=r"correct `dim` or `pooling` in its card"):
        encode(fixed(np.ones((1, 2), np.int64)), np.zeros((1, 4, 4, 3), np.uint8))


def test_rows_that_are_not_finite_are_named():
    def answer(batch):
        rows = np.ones((len(batch), 2), np.float32)
        rows[batch[:, 0, 0, 0] % 3 == 1] = np.nan
        return rows

    tiles = [np.full((4, 4, 3), i, np.uint8) for i in range(30)]
    with pytest.raises(EncoderError, match=r"NaN or infinity for tile 1, 4, 7, 10, 13 and 5 more") as caught:
        encode(fixed(answer, precision="fp16"), tiles)
    assert "load it with precision=fp32" in str(caught.value)


def test_a_bad_tile_and_a_bad_batch_size_are_said():
    toy = encoder("toy:constant")
    with pytest.raises(InputError, match=r"tile 1: a tile is not uint8"):
        encode(toy, [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32)])
    with pytest.raises(OptionError, match=r"batch_size is less than one"):
        encode(toy, [], batch_size=0)


def test_identity_changes_with_what_decides_the_numbers_only():
    card = encoder("toy:random-conv").card
    same = card.model_copy(update={"name": "x", "licence": "y", "golden": None, "notes": "z"})
    assert same.identity == card.identity
    for change in ({"dim": 3}, {"revision": "2"}, {"settings": {"seed": 1}}, {"pooling": "cls"}, {"precision": "fp16"}):
        assert card.model_copy(update=change).identity != card.identity
    assert card.model_copy(update={"preprocessing": Preprocessing()}).identity != card.identity
