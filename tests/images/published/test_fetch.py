"""A fetch as a whole: licence, parts, interruptions, additions, what is there already, and the check afterwards."""

import errno
import hashlib
import json
import shutil

import pytest
from filelock import FileLock

from histolatent.errors import InputError, OptionError, OutputError
from histolatent.images import open_tiles
from histolatent.images.published import (
    arrange_cohort,
    download_cohort,
    fetch_cohort,
    read_card,
    unpack,
    verify_cohort,
)

from .test_layouts import camelyon16, midog, pathmnist, pcam

ZENODO = "/records/10519652/files/pathmnist.npz"


@pytest.fixture
def fetch(site, tmp_path):
    """Return a function that fetches into one folder."""
    return lambda name="pathmnist", **options: fetch_cohort(
        name, tmp_path / "cohort", **{"mirror": site.url, "accept_licence": True, **options}
    )


def test_nothing_is_fetched_under_a_licence_that_was_not_accepted(site, publish, fetch, tmp_path):
    publish("pathmnist", pathmnist())
    with pytest.raises(OptionError, match=r"has not been accepted. Received: CC-BY-4.0.*Fix: .*--accept-licence"):
        fetch(accept_licence=False)
    assert site.asked == []
    assert not any(tmp_path.iterdir())


def test_the_card_says_where_everything_came_from(publish, fetch, tmp_path):
    files = pathmnist()
    cohort = publish("pathmnist", files)
    card = fetch()
    assert card == read_card(tmp_path / "cohort")
    (file,) = card.files.values()
    assert file.address == cohort.files[0].address  # as published, also from a mirror
    assert file.sha256 == hashlib.sha256(files["pathmnist.npz"]).hexdigest()
    assert file.published == {"md5": hashlib.md5(files["pathmnist.npz"]).hexdigest()}
    assert (card.licence, card.tiles, card.cohort) == ("CC-BY-4.0", 4, "pathmnist")
    assert set(card.tables) == {"manifest.csv", "tiles.sha256"}
    lines = (tmp_path / "cohort" / "tiles.sha256").read_text().splitlines()
    assert len(lines) == 4 and all(line[64:72] == "  tiles/" for line in lines)


def test_the_same_fetch_again_asks_for_nothing(site, publish, fetch):
    publish("pathmnist", pathmnist())
    card, asked = fetch(), len(site.asked)
    assert fetch() == card
    assert len(site.asked) == asked


def test_a_part_by_name_and_its_tables(site, publish, fetch, tmp_path):
    publish("midog-plus-plus", midog(images=(1, 2, 505)))
    fetch("midog-plus-plus", only=["images/00*.tiff"])
    out = tmp_path / "cohort"
    assert list(open_tiles(out).table.index) == ["001", "002"]
    assert sorted(file.name for file in (out / "published").iterdir()) == [
        "MIDOG++.json",
        "datasets_xvalidation.csv",
        "images",
    ]
    fetch("midog-plus-plus", only=["images/505.tiff"])
    assert list(open_tiles(out).table.index) == ["001", "002", "505"]
    assert len(read_card(out).files) == 5
    assert verify_cohort(out).ok
    assert len([path for _, path, _ in site.asked if path.endswith("MIDOG++.json")]) == 1


def test_a_part_of_an_index(site, publish, fetch, tmp_path):
    publish("camelyon16", camelyon16())
    fetch("camelyon16", only=["images/tumor_*", "annotations/*"])
    assert list(open_tiles(tmp_path / "cohort").table.index) == ["tumor_001"]
    card = read_card(tmp_path / "cohort")
    assert all(file.published["md5"] for file in card.files.values())
    assert not [path for _, path, _ in site.asked if path.endswith("normal_001.tif")]


def test_a_part_that_nobody_knows_is_answered_with_the_nearest(publish, fetch):
    publish("pcam", pcam())
    with pytest.raises(OptionError, match=r"no file of pcam is called 'camelyonpatch.*did you mean 'camelyonpatch"):
        fetch("pcam", only=["camelyonpatch_level_2_split_train_x.h5"])


def test_an_index_of_something_else_is_a_changed_layout(site, publish, fetch):
    publish("camelyon16", camelyon16())
    evil = b"0" * 32 + b"  images/../../evil.tif\n"
    for content, says in (
        (b"<html>", "md5, space, path"),
        (evil, "md5, space, path"),
        (b"0" * 32 + b"  other.txt\n", "none of these"),
    ):
        site.files["/CAMELYON16/checksums.md5"] = content
        with pytest.raises(InputError, match=says):
            fetch("camelyon16")


def test_an_interrupted_fetch_goes_on_and_leaves_no_folder_that_looks_whole(site, publish, fetch, tmp_path):
    publish("midog-plus-plus", midog())
    path = "/ndownloader/files/40283530"  # image 505
    site.statuses[path] = [403]
    with pytest.raises(InputError, match=r"images/505.tiff is refused|505.tiff is refused"):
        fetch("midog-plus-plus")
    assert not (tmp_path / "cohort").exists()
    with pytest.raises(InputError, match=r"this fetch has not finished.*goes on where it stopped"):
        verify_cohort(tmp_path / "cohort")
    fetch("midog-plus-plus")
    assert len(site.seen("/ndownloader/files/40282099")) == 1  # image 001 had come
    assert verify_cohort(tmp_path / "cohort").ok


def test_a_file_that_somebody_put_there_is_checked_like_any_other(site, publish, fetch, tmp_path):
    files = pathmnist()
    publish("pathmnist", files)
    site.statuses[ZENODO] = [403, 403]
    with pytest.raises(InputError, match="refused") as caught:
        fetch()
    place = tmp_path / "cohort.unfinished" / "published" / "pathmnist.npz"
    assert str(place) in str(caught.value)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(files["pathmnist.npz"][:-1])
    with pytest.raises(
        InputError, match=r"pathmnist.npz is not the file that is published or was recorded, and was removed"
    ):
        fetch()
    assert not place.exists()
    place.write_bytes(files["pathmnist.npz"])
    assert fetch().files["pathmnist.npz"].found
    assert len(open_tiles(tmp_path / "cohort").table) == 4


def test_a_broken_checksum_never_becomes_a_cohort(site, publish, fetch, tmp_path):
    publish("pathmnist", pathmnist())
    content = bytearray(site.files[ZENODO])
    content[100] ^= 1
    site.files[ZENODO] = bytes(content)
    with pytest.raises(InputError, match=r"not the file that is published or was recorded, and was removed.*md5"):
        fetch()
    assert not (tmp_path / "cohort").exists()
    assert not list(tmp_path.rglob("*.npz"))


def test_without_a_published_checksum_what_came_first_counts(site, publish, fetch, tmp_path):
    cohort = publish("pathmnist", pathmnist())
    bare = cohort.files[0].model_copy(update={"md5": None, "bytes": None})
    publish("pathmnist", pathmnist(), files=(bare,))
    assert fetch().files["pathmnist.npz"].published == {}
    (tmp_path / "cohort" / "published" / "pathmnist.npz").unlink()
    site.files[ZENODO] = pathmnist(((1, 0), (3,), (5,)))["pathmnist.npz"]
    with pytest.raises(InputError, match="not the file that is published or was recorded, and was removed"):
        fetch()


def test_a_stopped_unpacking_goes_on(publish, fetch, tmp_path, monkeypatch):
    publish("pathmnist", pathmnist())
    written, write = [], unpack.write_whole

    def full(target, content):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(target)
        write(target, content)

    monkeypatch.setattr("histolatent.images.published.layouts.common.write_whole", full)
    with pytest.raises(OutputError, match="the disk is full"):
        fetch()
    assert not (tmp_path / "cohort").exists()
    kept = {path: path.stat().st_mtime_ns for path in written}
    monkeypatch.undo()
    arrange_cohort(tmp_path / "cohort")
    assert len(open_tiles(tmp_path / "cohort").table) == 4
    names = {path.name: path for path in (tmp_path / "cohort" / "tiles").rglob("train/000/*.png")}
    assert {names[path.name].stat().st_mtime_ns for path in kept} == set(kept.values())


def test_too_small_a_disk_is_known_before_anything_is_asked_for(site, publish, fetch, monkeypatch):
    publish("pathmnist", pathmnist())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(OutputError, match="not enough room"):
        fetch()
    assert site.asked == []


def test_a_folder_that_holds_something_else_is_kept(publish, fetch, tmp_path):
    publish("pathmnist", pathmnist())
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="was not written by this command"):
        fetch()
    assert [file.name for file in (tmp_path / "cohort").iterdir()] == ["mine.txt"]


def test_a_folder_that_came_to_be_meanwhile_is_kept(site, publish, fetch, tmp_path):
    publish("pathmnist", pathmnist())
    download_cohort("pathmnist", tmp_path / "cohort", mirror=site.url, accept_licence=True)
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "manifest.csv").write_text("path\nmine.png\n")
    for again in (fetch, lambda: arrange_cohort(tmp_path / "cohort")):
        with pytest.raises(OutputError, match="was not written by this command"):
            again()
    assert (tmp_path / "cohort" / "manifest.csv").read_text() == "path\nmine.png\n"


def test_a_move_that_was_broken_off_is_finished(site, publish, fetch, tmp_path, monkeypatch):
    publish("pathmnist", pathmnist())

    def stop(target, content):
        raise KeyboardInterrupt

    monkeypatch.setattr("histolatent.images.published.arrange.write_whole", stop)  # the card, which comes last
    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert (tmp_path / "cohort" / "tiles").exists()
    monkeypatch.undo()
    arrange_cohort(tmp_path / "cohort")
    assert verify_cohort(tmp_path / "cohort").ok
    assert not (tmp_path / "cohort.unfinished").exists()


def test_one_folder_holds_one_cohort(publish, fetch):
    publish("pathmnist", pathmnist())
    fetch()
    publish("pcam", pcam())
    with pytest.raises(OutputError, match="holds another cohort, pathmnist"):
        fetch("pcam")


def test_two_fetches_do_not_meet(publish, fetch, tmp_path):
    publish("pathmnist", pathmnist())
    place = tmp_path / "cohort.unfinished"
    place.mkdir()
    with FileLock(place / "lock"), pytest.raises(OutputError, match="another fetch is at work there"):
        fetch()


def test_a_mirror_is_not_for_the_hub(publish, fetch):
    publish("plism", {"GMH_S60_to_GMH_S60.tif.h5": b""})
    with pytest.raises(OptionError, match=r"comes from the Hugging Face hub.*set HF_ENDPOINT"):
        fetch("plism")


def test_progress_counts_bytes_to_the_end(site, publish, tmp_path):
    publish("midog-plus-plus", midog())
    told = []
    download_cohort(
        "midog-plus-plus",
        tmp_path / "cohort",
        mirror=site.url,
        accept_licence=True,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done <= total for done, total in told)
    counts = []
    arrange_cohort(tmp_path / "cohort", progress=counts.append)
    assert counts[-1] == 2


def test_verify_finds_what_is_missing_or_changed(publish, fetch, tmp_path):
    publish("pathmnist", pathmnist())
    fetch()
    out = tmp_path / "cohort"
    found = verify_cohort(out)
    assert found.ok and found.checked == 7
    tiles = sorted((out / "tiles").rglob("*.png"))
    tiles[0].unlink()
    tiles[1].write_bytes(tiles[1].read_bytes()[:-1] + b"x")
    (out / "published" / "pathmnist.npz").write_bytes(b"x")
    with (out / "manifest.csv").open("a") as file:
        file.write("tiles/none.png,adipose,train,pathmnist.npz\n")
    found = verify_cohort(out)
    assert not found.ok
    assert found.missing == (tiles[0].relative_to(out).as_posix(), "tiles/none.png")
    assert set(found.changed) == {
        "published/pathmnist.npz",
        "manifest.csv",
        tiles[1].relative_to(out).as_posix(),
    }
    assert list(found.to_frame()["state"]) == ["missing"] * 2 + ["changed"] * 3
    assert found.to_dict()["ok"] is False


def test_what_is_gone_comes_back_with_the_next_fetch(site, publish, fetch, tmp_path):
    publish("pathmnist", pathmnist())
    fetch()
    out, asked = tmp_path / "cohort", len(site.asked)
    next((out / "tiles").rglob("*.png")).unlink()
    (out / "manifest.csv").unlink()
    fetch()
    assert verify_cohort(out).ok
    assert len(site.asked) == asked
    (out / "published" / "pathmnist.npz").unlink()
    fetch()
    assert verify_cohort(out).ok
    assert not out.with_name("cohort.unfinished").exists()


def test_what_is_there_needs_no_room(site, publish, fetch, monkeypatch):
    files = midog()
    publish("midog-plus-plus", files, bytes=sum(map(len, files.values())))
    site.statuses["/ndownloader/files/40283530"] = [403]
    with pytest.raises(InputError):
        fetch("midog-plus-plus")
    free = len(files["images/505.tiff"])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(free, 0, free))
    fetch("midog-plus-plus")


def test_here_is_a_folder_too(site, publish, tmp_path, monkeypatch):
    publish("pathmnist", pathmnist())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fetch_cohort("pathmnist", ".", mirror=site.url, accept_licence=True)
    assert len(open_tiles(".").table) == 4


def test_verify_says_what_is_no_cohort(publish, fetch, tmp_path):
    with pytest.raises(InputError, match="not a cohort that histolatent has fetched"):
        verify_cohort(tmp_path)
    publish("pathmnist", pathmnist())
    fetch()
    card = tmp_path / "cohort" / "card.json"
    found = json.loads(card.read_text())
    card.write_text(json.dumps({**found, "format": 99}))
    with pytest.raises(InputError, match="of a format that is not known"):
        verify_cohort(tmp_path / "cohort")
    card.write_text(json.dumps({**found, "files": {"a": {}}}))
    with pytest.raises(InputError, match="the card is damaged"):
        verify_cohort(tmp_path / "cohort")
