"""Pictures: the same pixels as in the run, the right tiles, and a map of heat at its place."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from histolatent.audit import Plan, audit_encoders
from histolatent.audit.donors import find_donors
from histolatent.audit.plan import limit
from histolatent.encoders import encoder
from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.perturb import OPERATIONS, climb, perturb
from histolatent.report.pictures import Shown, contact_sheet, data_uri, heat_over, pictures_of


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


@pytest.fixture(scope="module")
def whole() -> PhantomTiles:
    return PhantomTiles(PhantomSpec(sites=2, patients=6, slides=1, tiles_per_site=40, tile_px=64, seed=3))


@pytest.fixture(scope="module")
def part(whole):
    """An audit of a part of the tiles, with an operation that takes donors."""
    levels = {name: OPERATIONS[name].levels for name in ("blur", "tissue-swap")}
    plan = Plan(operations=levels, resamples=100, max_tiles=20, columns={"label": "diagnosis"})
    return audit_encoders(whole, [encoder("toy:od-moments")], plan=plan).result


def test_donors_are_those_of_the_run(part, whole):
    """The run draws donors from the part that it audits; drawn from the whole they are others."""
    shown = Shown(part, whole)
    operations = (OPERATIONS["blur"], OPERATIONS["tissue-swap"])
    run = find_donors(limit(whole, 20, 0), operations, seed=0, mpp=None)
    assert [donor.name for donor in shown.donors] == [donor.name for donor in run]
    assert [donor.name for donor in shown.donors] != [
        donor.name for donor in find_donors(whole, operations, seed=0, mpp=None)
    ]
    sheet = contact_sheet(part, shown)
    assert sheet is not None
    tile = shown.tile(sheet.tile)
    assert tile is not None
    views = climb(tile, "tissue-swap", tile_id=sheet.tile, seed=0, mpp=0.5, donors=run)
    for (_, uri), view in zip(dict(sheet.rows)["tissue-swap"], views, strict=True):
        np.testing.assert_array_equal(pixels(uri), view)


def test_the_sheet_shows_a_tile_of_the_audit(part, whole):
    shown = Shown(part, whole)
    sheet = contact_sheet(part, shown)
    assert sheet is not None
    assert sheet.tile in limit(whole, 20, 0).table.index
    assert [name for name, _ in sheet.rows] == ["blur", "tissue-swap"]
    assert sheet.rows[0][1][0][0] == part.operations[0].caption(1)


def test_worst_tiles_are_shown_before_and_after(part, whole):
    shown = Shown(part, whole)
    found = pictures_of(part.encoders[0], part, shown).worst
    assert [pair.tile for pair in found] == [worst.tile for worst in part.encoders[0].worst]
    first = found[0]
    tile = shown.tile(first.tile)
    assert tile is not None
    np.testing.assert_array_equal(pixels(first.before), tile)
    after = perturb(tile, first.operation, 3, tile_id=first.tile, seed=0, mpp=0.5)
    np.testing.assert_array_equal(pixels(first.after), after)
    assert [pair.heat is not None for pair in found] == [
        any(item.tile == pair.tile for item in part.encoders[0].sensitivity) for pair in found
    ]


def test_discordant_pairs_are_shown(part, whole):
    found = pictures_of(part.encoders[0], part, Shown(part, whole))
    discordance = part.encoders[0].discordance
    assert discordance is not None
    assert [item.pair for item in found.alike_but_far] == discordance.alike_but_far
    assert [item.pair for item in found.different_but_close] == discordance.different_but_close


def test_tiles_that_are_gone_are_not_shown(part, whole):
    worst = part.encoders[0].worst[0].model_copy(update={"tile": "gone"})
    pair = part.encoders[0].discordance.alike_but_far[0].model_copy(update={"second": "gone"})
    other = part.encoders[0].model_copy(
        update={
            "worst": [worst],
            "discordance": part.encoders[0].discordance.model_copy(update={"alike_but_far": [pair]}),
        }
    )
    found = pictures_of(other, part, Shown(part, whole))
    assert not found.worst and not found.alike_but_far


def test_heat_is_brightest_where_it_is_hottest():
    heat = np.zeros((16, 16))
    heat[3, 12] = 0.5
    over = heat_over(np.full((64, 96, 3), 128, np.uint8), heat.tolist())
    assert over.shape == (64, 96, 3)
    row, column = np.unravel_index(over.astype(int).sum(axis=2).argmax(), (64, 96))
    assert abs(row - 3.5 * 4) <= 4 and abs(column - 12.5 * 6) <= 6


def test_heat_without_any_is_even():
    over = heat_over(np.full((32, 32, 3), 128, np.uint8), np.zeros((16, 16)).tolist())
    assert len(np.unique(over.reshape(-1, 3), axis=0)) == 1


def test_thumbnails_are_small():
    assert pixels(data_uri(np.zeros((300, 200, 3), np.uint8))).shape == (112, 75, 3)
