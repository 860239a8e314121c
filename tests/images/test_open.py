"""open_tiles: the right source for each name, and a helpful no for the rest."""

from pathlib import Path

import pytest

from histolatent.errors import InputError, OptionError
from histolatent.images import open_tiles
from histolatent.images.phantom import PhantomTiles


def test_a_source_is_returned_as_it_is(folder):
    source = open_tiles(folder("a.png"))
    assert open_tiles(source) is source


def test_phantom_settings():
    source = open_tiles("phantom:sites=2,tile_px=64,tiles_per_site=24,mpp=0.25")
    assert isinstance(source, PhantomTiles)
    assert (source.spec.sites, source.spec.tile_px, source.spec.mpp) == (2, 64, 0.25)
    assert open_tiles("phantom").spec == PhantomTiles().spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phantom:site=2", r"no option 'site'.*did you mean 'sites'"),
        ("phantom:sites", r"needs a value. Received: sites. Fix: phantom:sites=VALUE"),
        ("phantom:sites=abc", r"sites is not a number of the right kind. Received: abc. Valid: 1 to"),
        ("phantom:tile_px=8", r"tile_px is out of bounds. Received: 8. Valid: 32 to 2048"),
    ],
)
def test_phantom_settings_that_are_none(text, message):
    with pytest.raises(OptionError, match=message):
        open_tiles(text)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match=r"nothing at this path. Received: .*gone. Valid: a folder, manifest"):
        open_tiles(tmp_path / "gone")


def test_files_that_are_no_set_of_tiles(tmp_path: Path):
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"not a set of tiles.*Valid: a folder, a manifest"):
        open_tiles(str(tmp_path / "a.docx"))
