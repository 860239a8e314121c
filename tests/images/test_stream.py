"""stream_tiles: the same results in order, whoever works; broken tiles and broken workers are said."""

import contextlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from histolatent.errors import HistolatentError, InputError, OptionError
from histolatent.images import Item, Skipped, default_workers, open_tiles, stream_tiles


@pytest.fixture
def source(folder):
    """23 tiles: the third has a colour profile, the sixth is a text file, the ninth is too small."""
    root = folder(*(f"{i:02d}.png" for i in range(23)))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.open(root / "02.png").save(root / "02.png", icc_profile=profile)
    (root / "05.png").write_text("no image")
    Image.new("RGB", (4, 4)).save(root / "08.png")
    lines = [f"{i:02d}.png,{'' if i == 1 else 0.25}" for i in range(23)]
    (root / "manifest.csv").write_text("\n".join(["path,mpp", *lines]))
    return open_tiles(root)


def test_workers_give_the_same_results_in_order(source, jobs):
    indices = [4, 2, 1, 5, 8, *range(9, 23), 0]
    alone = list(stream_tiles(source, indices, jobs.describe, on_error="skip", chunk=3))
    helped = list(stream_tiles(source, indices, jobs.describe, on_error="skip", chunk=2, workers=2))
    assert alone == helped
    assert [result.index for result in alone] == indices
    assert [result.index for result in alone if isinstance(result, Skipped)] == [5, 8]
    assert "not an image" in alone[3].reason
    assert "05.png" in alone[3].reason
    assert "too small" in alone[4].reason
    noted = alone[1]
    assert isinstance(noted, Item)
    assert noted.notes == ("embedded ICC profile ignored",)
    assert alone[0].value[:2] == ("04.png", 0.25)
    assert alone[2].value[:2] == ("01.png", None)


@pytest.mark.parametrize("workers", [0, 1])
def test_stop_raises_at_the_first_tile_that_cannot_be_read(source, jobs, workers):
    found = []
    with pytest.raises(InputError, match=r"not an image.*05\.png"):
        found.extend(
            result.index for result in stream_tiles(source, range(23), jobs.describe, workers=workers, chunk=4)
        )
    assert found == [0, 1, 2, 3, 4]


def test_a_worker_that_dies_is_said(source, jobs):
    with pytest.raises(HistolatentError, match=r"a worker process ended without a word.*--workers 0"):
        list(stream_tiles(source, range(5), jobs.end, workers=2))


def test_an_error_of_the_job_comes_through(source, jobs):
    with pytest.raises(HistolatentError, match=r"no\. Received: 00\.png"):
        list(stream_tiles(source, range(5), jobs.fail, workers=1))


def test_options_are_checked(source, jobs):
    with pytest.raises(OptionError, match=r"unknown way .*Received: ignore. Valid: stop, skip"):
        list(stream_tiles(source, [0], jobs.describe, on_error="ignore"))
    with pytest.raises(OptionError, match="number of workers is negative"):
        list(stream_tiles(source, [0], jobs.describe, workers=-1))
    assert 1 <= default_workers() <= 8
    assert list(stream_tiles(source, [], jobs.describe)) == []


def test_tiles_of_mixed_size_are_fine(tmp_path, jobs):
    for name, size in {"a": (16, 20), "b": (300, 40)}.items():
        Image.new("RGB", size, "pink").save(tmp_path / f"{name}.png")
    results = list(stream_tiles(open_tiles(tmp_path), [0, 1], jobs.describe))
    assert [result.value[3] for result in results] == [n * np.sum((255, 192, 203)) for n in (320, 12000)]


class Told:
    """A job that returns what it was told."""

    def __call__(self, tile, tile_id, mpp):
        return tile_id, int(tile.sum())


def test_tiles_may_come_again_under_names_of_their_own_and_without_end():
    import itertools

    source = open_tiles("phantom:sites=1,tiles_per_site=3,tile_px=32")
    endless = stream_tiles(source, itertools.cycle([2, 0]), Told(), names=(f"time {k}" for k in itertools.count()))
    with contextlib.closing(endless):
        items = list(itertools.islice(endless, 5))
    assert [item.index for item in items] == [2, 0, 2, 0, 2]
    assert [item.value[0] for item in items] == [f"time {k}" for k in range(5)]
    assert items[0].value[1] == items[4].value[1] == int(source.read(2).sum())
