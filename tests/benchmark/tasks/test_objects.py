"""Detection: maps laid over each other, who is hit, and an encoder that knows where objects are."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from histolatent.benchmark.cohort import SOURCE, split_cohort
from histolatent.benchmark.tasks import TASKS, PlaceView, check_task, find_objects, read_objects
from histolatent.benchmark.tasks.objects import _resampling, _rows, map_places
from histolatent.benchmark.tasks.scores import FOUND, SCORES, TILE
from histolatent.encoders import encoder
from histolatent.encoders.card import EncoderCard
from histolatent.errors import InputError
from histolatent.images import Cut, keep_tiles, open_tiles

COHORT = "phantom:sites=2,patients=6,slides=1,tiles_per_site=60,tile_px=64"


class Spots:
    """Shows how dark a place is: mean darkness on a grid of `stride` pixels, and beside it noise."""

    def __init__(self, stride, fine=False):
        self.stride, self.fine = stride, fine
        self.card = EncoderCard(name="spots", kind="toy", source="test", dim=2, revision="1", licence="test")

    def forward(self, prepared):
        return self.dense(prepared).mean(axis=(2, 3))

    def dense(self, prepared):
        return self._grid(prepared, self.stride)

    def below(self, prepared):
        return [self._grid(prepared, 4)] if self.fine else []

    def _grid(self, prepared, stride):
        n, side = len(prepared), prepared.shape[1] // stride
        dark = (255 - prepared.astype(np.float32).mean(axis=3)).reshape(n, side, stride, side, stride).mean(axis=(2, 4))
        return np.stack([dark, np.sin(dark)], axis=1)


def spot(tile, x, y):
    drawn = np.full_like(tile, 230)
    rows, columns = np.ogrid[: tile.shape[0], : tile.shape[1]]
    drawn[(columns - x) ** 2 + (rows - y) ** 2 < 16] = 20
    return drawn


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return keep_tiles(open_tiles(COHORT), tmp_path_factory.mktemp("kept"))


@pytest.mark.parametrize("made", [Spots(8), Spots(32), Spots(32, fine=True)])
def test_a_spot_is_seen_where_it_is(made):
    blank = np.full((64, 64, 3), 230, np.uint8)
    for x, y in ((20, 44), (41, 9)):
        places = map_places(made, [spot(blank, x, y)], 0.5)[0]
        assert len(places.points) == places.shape[0] * places.shape[1] >= 64
        # Where the map is of 32 px, the place that is darkest is only as near as a window of that size can say.
        near = np.hypot(*(places.points - [x, y]).T)
        first = places.features[:, 0]
        assert near[first == first.max()].min() <= (16 if made.stride == 32 and not made.fine else 6)


def test_shifts_of_a_coarse_map_are_those_of_a_window_that_moves():
    tile = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    places = map_places(Spots(32), [tile], 0.5)[0]
    assert places.shape == (8, 8)
    middle = np.flatnonzero((np.abs(places.points - 31.5) < 5).all(axis=1))[0]
    x, y = places.points[middle]
    window = tile[round(y + 0.5) - 16 : round(y + 0.5) + 16, round(x + 0.5) - 16 : round(x + 0.5) + 16]
    assert places.features[middle, 0] == pytest.approx(255 - window.mean(), abs=1e-2)


@pytest.mark.parametrize(("count", "wanted"), [(12, 12), (12, 4), (10, 4), (3, 12), (1, 5)])
def test_resampling_keeps_what_is_even(count, wanted):
    weights = _resampling(count, wanted)
    assert weights.shape == (wanted, count) and np.allclose(weights.sum(axis=1), 1)
    line = np.linspace(0, 1, count) if count > 1 else np.ones(1)
    assert (np.diff(weights @ line) >= -1e-6).all()


def test_all_levels_of_a_network_lie_over_each_other():
    network = encoder("timm-random:resnet18?pooling=mean")
    with torch.inference_mode():
        places = map_places(network, [np.zeros((224, 224, 3), np.uint8)], 0.5)
    assert places[0].features.shape == (28 * 28, 64 + 64 + 128 + 256 + 512)


def test_each_object_is_hit_once_and_not_from_afar():
    size = 0.5, (64, 64)
    found = np.array([[10.0, 10.0], [11.0, 10.0], [40.0, 40.0], [60.0, 5.0]]), np.array([0.9, 0.8, 0.7, 0.6])
    rows = _rows(0, found, np.array([[10.0, 12.0], [40.0, 54.0], [41.0, 26.0]]), *size)  # 14 px are 7 um
    assert rows["kind"].tolist() == [TILE, *[FOUND] * 4] and rows["truth"].tolist() == [3, 1, 0, 1, 0]
    assert rows["area_mm2"].iloc[0] == pytest.approx(0.032**2)
    assert _rows(0, found, np.zeros((0, 2)), *size)["truth"].tolist() == [0] * 5


def test_an_encoder_that_shows_objects_finds_them_at_every_site(cohort):
    random = np.random.default_rng(0)
    objects = [random.uniform(8, 56, (int(random.integers(0, 2)), 2)) for _ in range(120)]

    class Drawn:
        name, table = "drawn", cohort.table

        def read(self, index):
            tile = np.full((64, 64, 3), 230, np.uint8)
            for x, y in objects[index]:
                tile = np.minimum(tile, spot(tile, x, y))
            return tile

    divided = split_cohort(Drawn(), "source")
    rows = read_objects(TASKS["mitoses"], objects, PlaceView(divided, Spots(8)))
    for site in (SOURCE, "new-scanner"):
        own = rows[rows["site"] == site]
        assert own["unit"].nunique() == 60 and set(own["group"]) == set(divided.groups[divided.asked[site]])
        for name in ("F1", "AP"):
            assert SCORES[name](own)(np.ones((1, len(own))))[0] > 0.95


def test_places_of_objects_come_from_a_table(cohort):
    ids = cohort.table.index
    table = pd.DataFrame({"tile": [ids[3], ids[3], "elsewhere"], "x": [1.0, 2, 3], "y": [4.0, 5, 6]})
    found = find_objects(cohort, table)
    assert found[3].tolist() == [[1, 4], [2, 5]] and sum(map(len, found)) == 2
    kinds = table.assign(kind=["mitotic figure", "imposter", "mitotic figure"])
    assert [each.tolist() for each in find_objects(cohort, kinds) if len(each)] == [[[1, 4]]]
    with pytest.raises(InputError, match=r"no object is of the kind 'mitotic figure'.*Received: cell"):
        find_objects(cohort, table.assign(kind="cell"))
    with pytest.raises(InputError, match="columns tile, x and y"):
        find_objects(cohort, table.drop(columns="y"))
    with pytest.raises(InputError, match="no object is on any tile"):
        find_objects(cohort, table.assign(tile="elsewhere"))


def test_places_in_a_larger_image_are_those_of_the_tiles_cut_from_it(tmp_path):
    for name in ("a", "b"):
        Image.fromarray(np.full((128, 192, 3), 200, np.uint8)).save(tmp_path / f"{name}.png")
    cut = open_tiles(tmp_path, cut=Cut(64))
    table = pd.DataFrame({"tile": ["a.png", "a.png", "b.png"], "x": [10.0, 130.0, 63.0], "y": [20.0, 70.0, 127.0]})
    found = {
        name: each.tolist() for name, each in zip(cut.table.index, find_objects(cut, table), strict=True) if len(each)
    }
    assert list(found.values()) == [[[10, 20]], [[2, 6]], [[63, 63]]]
    assert [name.partition("_")[0] for name in found] == ["a", "a", "b"]


class Blank:
    """Tiles of one colour, of which some have another um per pixel."""

    name = "blank"

    def __init__(self, table):
        self.table = table

    def read(self, index):
        return np.full((64, 64, 3), 230, np.uint8)


def test_each_tile_is_laid_out_by_its_own_um_per_pixel(cohort):
    table = cohort.table.assign(mpp=np.where(np.arange(120) % 3, 0.5, 0.25))
    view = PlaceView(split_cohort(Blank(table), "source"), Spots(4))
    rows = np.array([0, 1, 2, 3])
    assert [places.shape for places in view.maps(rows, SOURCE)] == [(4, 4), (8, 8), (8, 8), (4, 4)]


def test_tiles_without_um_per_pixel_are_refused(cohort):
    table = cohort.table.assign(mpp=[np.nan] * 5 + [0.5] * 115)
    divided = split_cohort(Blank(table), "source")
    with pytest.raises(InputError, match=r"of 5 of 120 tiles um per pixel is not known.*--column mpp=NAME"):
        check_task(TASKS["mitoses"], divided)
    with pytest.raises(InputError, match="um per pixel is not known"):
        PlaceView(divided, Spots(8)).mpp(0)
    with pytest.raises(InputError, match="of 120 of 120 tiles"):
        check_task(TASKS["mitoses"], split_cohort(Blank(table.drop(columns="mpp")), "source"))


def test_augmented_copies_are_trained_on(cohort):
    """Objects are dark at the source and bright elsewhere: found there only by who has seen bright copies."""
    random = np.random.default_rng(0)
    objects = [random.uniform(8, 56, (int(random.integers(0, 2)), 2)) for _ in range(120)]
    away = (cohort.table["site"] != "source").to_numpy()

    class Drawn(Blank):
        def read(self, index):
            tile = np.full((64, 64, 3), 130, np.uint8)
            for x, y in objects[index]:
                seen = spot(tile, x, y) == 20
                tile[seen] = 235 if away[index] else 20
            return tile

    class Parts(Spots):
        def _grid(self, prepared, stride):
            dark = super()._grid(prepared, stride)[:, 0] - 125
            return np.stack([np.maximum(dark, 0), np.maximum(-dark, 0)], axis=1)

    def inverted(tile, tile_id, mpp):
        return [tile, 255 - tile]

    divided, f1 = split_cohort(Drawn(cohort.table), "source"), []
    for copies in (None, inverted):
        rows = read_objects(TASKS["mitoses"], objects, PlaceView(divided, Parts(4), copies=copies))
        own = rows[rows["site"] == "new-scanner"]
        f1.append(SCORES["F1"](own)(np.ones((1, len(own))))[0])
    assert f1[0] < 0.2 and f1[1] > 0.9
