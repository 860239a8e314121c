"""The contact sheet: what is on it, at its place, and nothing cut off."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from histolatent.errors import OptionError
from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.perturb import OPERATIONS, SUITES, climb, suite
from histolatent.report.ladders import CAPTION, FOOT, GAP, HEAD, LABEL, LEAST_ROW, ROLES, THUMB, draw_ladders


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    return PhantomTiles(PhantomSpec(sites=1, tiles_per_site=4, tile_px=150)).read(2)


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def test_every_severity_is_at_its_place(tile):
    operations = (OPERATIONS["brightness"], OPERATIONS["flip"])
    sheet = pixels(draw_ladders(tile, operations, name="t", seed=3, mpp=0.5))
    row = max(THUMB + CAPTION, LEAST_ROW) + GAP
    assert sheet.shape == (HEAD + 2 * row + FOOT, LABEL + 6 * (THUMB + GAP) + GAP, 3)
    for number, operation in enumerate(operations):
        views = [tile, *climb(tile, operation, tile_id="t", seed=3, mpp=0.5)]
        for column, view in enumerate(views):
            top, left = HEAD + number * row + CAPTION, LABEL + column * (THUMB + GAP)
            np.testing.assert_array_equal(sheet[top : top + 150, left : left + 150], view)


@pytest.mark.parametrize("shape", [(16, 16), (1, 1), (20, 300), (700, 90), (512, 512)])
def test_tiles_of_any_size_fit(shape):
    tile = np.random.default_rng(0).integers(0, 190, (*shape, 3), dtype=np.uint8)
    sheet = pixels(draw_ladders(tile, (OPERATIONS["brightness"],)))
    assert sheet.shape[1] == 1280
    first = sheet[HEAD + CAPTION : -FOOT, LABEL : LABEL + THUMB]
    inked = (first < 200).any(axis=2)
    assert 1 <= inked.any(axis=1).sum() <= THUMB
    assert inked.any(axis=0).sum() <= THUMB
    if max(shape) <= 16:
        times = THUMB // max(shape)
        assert inked.sum() >= 0.9 * shape[0] * shape[1] * times**2


def test_nothing_is_written_over_the_pictures_or_cut_at_the_edge(tile):
    """Text lies between the label's column and the pictures' rows: the gaps and the outer margin stay white."""
    everything = suite("full")
    sheet = pixels(draw_ladders(np.full((150, 150, 3), 120, np.uint8), everything, name="x" * 200, mpp=0.5))
    row = max(THUMB + CAPTION, LEAST_ROW) + GAP
    assert (sheet[:, :6] == 255).all() and (sheet[:, -6:] == 255).all()
    for number in range(len(everything)):
        top = HEAD + number * row
        assert (sheet[top : top + row - GAP, LABEL - 5 : LABEL - 1] == 255).all(), everything[number].name
        assert (sheet[top + row - GAP : top + row - 4, :LABEL] == 255).all(), everything[number].name
        # What an operation says: its name at least, in black.
        assert sheet[top : top + 22, :LABEL].min() < 60
        for column in range(6):
            gap = LABEL + (column + 1) * (THUMB + GAP) - GAP
            assert (sheet[top + 2 : top + row - GAP, gap + 2 : gap + GAP - 2] == 255).all(), everything[number].name


def test_roles_are_told_by_colour_sign_and_word():
    assert len({colour for colour, _ in ROLES.values()}) == len({sign for _, sign in ROLES.values()}) == len(ROLES)
    for colour, _ in ROLES.values():
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert 0.299 * red + 0.587 * green + 0.114 * blue < 150  # dark enough to read on white
    sheets = {
        role: draw_ladders(np.zeros((8, 8, 3), np.uint8), (replace(OPERATIONS["blur"], role=role),)) for role in ROLES
    }
    assert len(set(sheets.values())) == len(ROLES)


def test_donors_are_said_and_shown(tile):
    from histolatent.perturb import Donor

    swap = (OPERATIONS["tissue-swap"],)
    donor = Donor(np.ascontiguousarray(tile[::-1, ::-1]), 0.5)
    assert draw_ladders(tile, swap) != draw_ladders(tile, swap, donors=(donor,))


def test_no_operation_is_no_sheet(tile):
    with pytest.raises(OptionError, match="no operation to show"):
        draw_ladders(tile, ())


def test_the_sheet_is_the_same_bytes_again(tile):
    operations = tuple(OPERATIONS[name] for name in SUITES["quick"][:3])
    assert draw_ladders(tile, operations) == draw_ladders(tile, operations)
