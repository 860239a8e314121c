"""Larger images and slides, cut into tiles. Slides are pyramids that the tests write, and a real one."""

import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histolatent.errors import InputError, OptionError
from histolatent.images import Cut, TileWarning, input_files, open_tiles, select_rows, stream_tiles
from histolatent.images.cut import CutTiles
from histolatent.images.slides import find_tissue, is_slide, open_slide, read_square, slide_mpp

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("openslide")
WIDTH, HEIGHT = 1100, 800


@pytest.fixture
def field():
    """A pink field with a white margin on the right, 800 high and 1,100 wide, no two places of it alike."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    pixels = np.stack([150 + x % 97, 60 + y % 61, 120 + (x + y) % 53], axis=2).astype(np.uint8)
    pixels[:, 600:] = 245
    return pixels


@pytest.fixture
def slide(tmp_path, field):
    """A slide in three levels, of 0.25 um per pixel."""
    path = tmp_path / "case-7.tif"
    with tifffile.TiffWriter(path) as file:
        for level in (1, 2, 4):
            part = field[::level, ::level]
            dots = 40_000 / level  # per cm, of 0.25 um
            file.write(
                part,
                tile=(256, 256),
                photometric="rgb",
                compression=None,
                resolution=(dots, dots),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 1),
            )
    return path


@pytest.fixture
def images(tmp_path, field):
    """Two images in folders of their classes, one turned by its EXIF."""
    root = tmp_path / "images"
    for name, part in (("a/one.png", field[:300, :520]), ("b/two.jpg", field[:256, :300])):
        (root / name).parent.mkdir(parents=True)
        exif = Image.Exif()
        if name.endswith("jpg"):
            exif[0x0112] = 6
        Image.fromarray(part).save(root / name, exif=exif)
    return root


def test_images_are_cut_into_a_grid(images, field):
    source = open_tiles(images, cut=Cut(128))
    assert list(source.table.index) == [
        *(f"a/one_x{x}_y{y}" for y in (0, 128) for x in (0, 128, 256, 384)),
        *(f"b/two_x{x}_y{y}" for y in (0, 128) for x in (0, 128)),
    ]
    np.testing.assert_array_equal(source.read(6), field[128:256, 256:384])
    row = source.table.loc["a/one_x256_y128"]
    assert (row["label"], row["slide"], row["x"], row["y"]) == ("a", "a/one.png", 256, 128)
    assert "mpp" not in source.table
    turned = source.read(9)  # shown upright: 256 wide and 300 high
    assert turned.shape == (128, 128, 3) and turned.flags.writeable


def test_workers_read_the_same_tiles(images, jobs):
    source = open_tiles(images, cut=Cut(128))
    alone, beside = (list(stream_tiles(source, range(12), jobs.describe, workers=workers)) for workers in (0, 2))
    assert [item.value for item in alone] == [item.value for item in beside]
    some = select_rows(source, np.array([6, 1]))
    np.testing.assert_array_equal(some.read(0), source.read(6))
    assert [item.value[0] for item in stream_tiles(some, [1, 0], jobs.describe, workers=2)] == [
        "a/one_x128_y0",
        "a/one_x256_y128",
    ]


def test_a_manifest_keeps_its_columns_and_places_add_up(images, tmp_path):
    frame = pd.DataFrame(
        {
            "path": ["images/a/one.png", "images/b/two.jpg"],
            "patient": ["p1", "p2"],
            "slide": ["s1", None],
            "x": [1000, 0],
            "y": [50, 0],
            "mpp": [0.5, None],
        }
    )
    frame.to_csv(tmp_path / "m.csv", index=False)
    source = open_tiles(tmp_path / "m.csv", cut=Cut(256))
    assert list(source.table["x"]) == [1000, 1256, 0] and list(source.table["y"]) == [50, 50, 0]
    assert list(source.table["patient"]) == ["p1", "p1", "p2"]
    assert list(source.table["slide"]) == ["s1", "s1", "images/b/two.jpg"]
    assert source.table["mpp"].fillna(-1).tolist() == [0.5, 0.5, -1]
    assert len(input_files(source)) == 3


def test_images_are_shrunk_to_a_resolution(images, tmp_path, field):
    pd.DataFrame({"path": ["images/a/one.png"], "mpp": [0.5]}).to_csv(tmp_path / "m.csv", index=False)
    source = open_tiles(tmp_path / "m.csv", cut=Cut(100, mpp=1.0))
    assert list(source.table.index) == ["images/a/one_x0_y0", "images/a/one_x200_y0"]
    assert list(source.table["mpp"]) == [1.0, 1.0]
    expected = field[:200, 200:400].astype(float).reshape(100, 2, 100, 2, 3).mean(axis=(1, 3))
    assert np.abs(source.read(1) - expected).max() <= 1
    same = open_tiles(tmp_path / "m.csv", cut=Cut(100, mpp=0.505))
    assert same.table["mpp"].iloc[0] == 0.5 and len(same.table) == 15


def test_a_slide_is_cut_where_there_is_tissue(slide, field):
    assert is_slide(slide) and slide_mpp(open_slide(str(slide))) == pytest.approx(0.25)
    source = open_tiles(slide, cut=Cut(200))
    assert isinstance(source, CutTiles)
    assert sorted(set(source.table["x"])) == [0, 200, 400] and len(source.table) == 12
    assert list(source.table.index)[:2] == ["case-7_x0_y0", "case-7_x200_y0"]
    assert set(source.table["slide"]) == {"case-7"}
    assert source.table["mpp"].tolist() == pytest.approx([0.25] * 12)
    np.testing.assert_array_equal(source.read(4), field[200:400, 200:400])
    everything = open_tiles(slide, cut=Cut(200, tissue=0))
    assert len(everything.table) == 20
    half = open_tiles(slide, cut=Cut(400, tissue=0.6))
    assert set(half.table["x"]) == {0}  # the one from 400 to 800 is half glass


def test_of_an_image_every_square_is_taken_unless_tissue_is_asked_for(tmp_path, field):
    Image.fromarray(field).save(tmp_path / "one.png")
    assert len(open_tiles(tmp_path, cut=Cut(200)).table) == 20
    stained = open_tiles(tmp_path, cut=Cut(200, tissue=0.25))
    assert sorted(set(stained.table["x"])) == [0, 200, 400] and len(stained.table) == 12
    pd.DataFrame({"path": ["one.png"], "mpp": [0.5]}).to_csv(tmp_path / "m.csv", index=False)
    assert len(open_tiles(tmp_path / "m.csv", cut=Cut(200, tissue=0.25)).table) == 12
    (tmp_path / "two.png").write_bytes((tmp_path / "one.png").read_bytes()[:5000])
    assert list(open_tiles(tmp_path, cut=Cut(200, tissue=0.25)).table.index)[-1] == "two_x0_y0"


def test_a_slide_is_read_from_the_coarsest_level_that_will_do(slide, field):
    source = open_tiles(slide, cut=Cut(100, mpp=0.5))
    assert source.table["mpp"].tolist() == pytest.approx([0.5] * 12)
    np.testing.assert_array_equal(source.read(4), field[200:400:2, 200:400:2])  # level 1 itself, not averaged
    between = read_square(str(slide), 0, 0, 300.0, 100)  # 3 x: level 1, averaged down
    assert np.abs(between.astype(int) - field[:300:3, :300:3]).mean() < 40 and between.shape == (100, 100, 3)


def test_what_lies_outside_the_scan_is_white(slide):
    edge = read_square(str(slide), WIDTH - 50, HEIGHT - 50, 100.0, 100)
    assert (edge[50:, 50:] == 255).all() and (edge[:50, :50] == 245).all()


def test_tissue_is_what_is_coloured_and_not_black(slide, tmp_path):
    stained, step = find_tissue(str(slide), 0.25)
    inside = stained[:, : int(580 / step)]
    assert inside.all() and not stained[:, int(640 / step) :].any()
    dark = np.full((512, 512, 3), 10, np.uint8)
    tifffile.imwrite(tmp_path / "dark.tif", dark, tile=(256, 256), photometric="rgb")
    assert not find_tissue(str(tmp_path / "dark.tif"), None)[0].any()


def test_slides_in_a_folder(slide, tmp_path, field):
    (tmp_path / "cohort").mkdir()
    slide.rename(tmp_path / "cohort" / "case-7.tif")
    Image.fromarray(field[:256, :256]).save(tmp_path / "cohort" / "plain.png")
    source = open_tiles(tmp_path / "cohort", cut=Cut(256))
    assert set(source.table["slide"]) == {"case-7.tif", "plain.png"}
    told = []
    open_tiles(tmp_path / "cohort", cut=Cut(256), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_files_of_one_name_keep_their_endings(tmp_path, field):
    for ending in ("png", "jpg"):
        Image.fromarray(field[:128, :128]).save(tmp_path / f"a.{ending}")
    assert list(open_tiles(tmp_path, cut=Cut(128)).table.index) == ["a.jpg_x0_y0", "a.png_x0_y0"]


def test_files_that_give_nothing_are_named(images):
    Image.fromarray(np.zeros((64, 400, 3), np.uint8)).save(images / "a" / "flat.png")
    with pytest.warns(TileWarning, match=r"1 of 3 files give no tile of 128 px: a/flat\.png"):
        open_tiles(images, cut=Cut(128))
    with pytest.raises(InputError, match=r"no tile of 2048 px could be cut from images.*a/flat\.png, a/one\.png"):
        open_tiles(images, cut=Cut(2048))


@pytest.mark.parametrize(("name", "share"), [("broken.png", 0), ("broken.svs", 0), ("broken.svs", 0.4)])
def test_a_damaged_file_says_so_when_it_is_read(images, slide, jobs, name, share):
    whole = slide.read_bytes()
    (images / "a" / name).write_bytes(whole[: int(share * len(whole))] or b"not an image")
    source = open_tiles(images, cut=Cut(128))
    place = list(source.table.index).index(f"a/{name.partition('.')[0]}_x0_y0")
    with pytest.raises(InputError, match=name):
        source.read(place)
    found = list(stream_tiles(source, range(len(source.table)), jobs.describe, on_error="skip"))
    assert sum(not hasattr(item, "value") for item in found) == 1


def test_resolutions_that_cannot_be_had(slide, images):
    with pytest.raises(InputError, match=r"0.1 um per pixel is finer than the file has.*0\.25 um/px.*--tile-mpp 0\.25"):
        open_tiles(slide, cut=Cut(100, mpp=0.1))
    with pytest.raises(InputError, match="um per pixel is not known"):
        open_tiles(images, cut=Cut(100, mpp=0.5))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tile_px": 4}, "16 to 8192 px"),
        ({"tile_px": 64, "mpp": 0.0}, "um per pixel must be above 0"),
        ({"tile_px": 64, "mpp": float("nan")}, "um per pixel must be above 0"),
        ({"tile_px": 64, "tissue": 1.5}, "a share of tissue lies in 0 to 1"),
    ],
)
def test_cuts_out_of_range(given, said):
    with pytest.raises(OptionError, match=said):
        Cut(**given)


def test_only_files_are_cut(tmp_path):
    np.save(tmp_path / "tiles.npy", np.zeros((3, 32, 32, 3), np.uint8))
    for source in (tmp_path / "tiles.npy", "phantom:tiles_per_site=4,sites=1"):
        with pytest.raises(OptionError, match="only images and slides in files are cut"):
            open_tiles(source, cut=Cut(64))


def test_a_slide_alone_has_to_be_cut(slide, tmp_path):
    with pytest.raises(InputError, match=r"a slide is not a set of tiles.*--tile-px 256"):
        open_tiles(slide)
    (tmp_path / "only").mkdir()
    slide.rename(tmp_path / "only" / "case.svs")
    with pytest.raises(InputError, match=r"no images in this folder.*--tile-px 256, for whole slides"):
        open_tiles(tmp_path / "only")


def test_a_real_slide(data):
    path = data / "slides" / "CMU-1-Small-Region.svs"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_tiles(path, cut=Cut(256))
    assert 40 <= len(source.table) <= 48  # of 88, the rest is glass
    assert set(source.table["mpp"]) == {0.499}
    openslide = pytest.importorskip("openslide")
    x, y = source.table[["x", "y"]].iloc[10].astype(int)
    whole = np.asarray(openslide.OpenSlide(str(path)).read_region((x, y), 0, (256, 256)))
    np.testing.assert_array_equal(source.read(10), whole[..., :3])
    coarse = open_tiles(path, cut=Cut(128, mpp=0.998))
    assert coarse.table["mpp"].tolist() == pytest.approx([0.998] * len(coarse.table))


def test_osteosarcoma_is_cut_into_960_tiles(data):
    source = open_tiles(data / "osteosarcoma", cut=Cut(256))
    assert len(source.table) == 960 and source.table["patient"].notna().all()
