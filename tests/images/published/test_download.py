"""One file over HTTP: what breaks off goes on, what is not as published is not kept."""

import errno
import hashlib
import json
import shutil

import pytest

from histolatent.errors import InputError, OptionError, OutputError
from histolatent.images.published import download as room
from histolatent.images.published.download import at_mirror, download, need_space

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/files/a.bin"


@pytest.fixture
def server(site):
    site.files[PATH] = CONTENT
    return site


def test_a_file_comes_whole_and_leaves_nothing_beside_it(server, tmp_path):
    told = []
    target = tmp_path / "deep" / "a.bin"
    assert download(server.url + PATH, target, size=len(CONTENT), progress=told.append) == SHA256
    assert target.read_bytes() == CONTENT
    assert told[-1] == len(CONTENT)
    assert [file.name for file in target.parent.iterdir()] == ["a.bin"]
    assert server.seen(PATH)[0]["User-Agent"].startswith("histolatent/")


def test_a_broken_connection_goes_on_where_it_was(server, tmp_path):
    server.cuts[PATH] = [1000, 5000]
    assert download(server.url + PATH, tmp_path / "a.bin") == SHA256
    ranges = [headers.get("Range") for headers in server.seen(PATH)]
    assert ranges == [None, "bytes=1000-", "bytes=6000-"]
    assert server.seen(PATH)[1]["If-Range"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'


def test_a_stopped_process_goes_on_too(server, tmp_path, monkeypatch):
    server.cuts[PATH] = [1000]
    monkeypatch.setattr(room, "TRIES", 1)
    with pytest.raises(InputError, match=r"could not be downloaded, in 1 tries.*byte 1000 of 102400"):
        download(server.url + PATH, tmp_path / "a.bin")
    assert (tmp_path / "a.bin.part").stat().st_size == 1000
    assert json.loads((tmp_path / "a.bin.part.json").read_text())["total"] == len(CONTENT)
    assert not (tmp_path / "a.bin").exists()
    assert download(server.url + PATH, tmp_path / "a.bin") == SHA256
    assert server.seen(PATH)[1]["Range"] == "bytes=1000-"


def test_what_had_come_in_full_is_not_asked_for_again(server, tmp_path):
    download(server.url + PATH, tmp_path / "a.bin")
    (tmp_path / "a.bin").rename(tmp_path / "a.bin.part")
    state = {"address": server.url + PATH, "total": len(CONTENT), "etag": None, "modified": None}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(state))
    assert download(server.url + PATH, tmp_path / "a.bin") == SHA256
    assert len(server.seen(PATH)) == 1


def test_a_server_that_knows_no_ranges_starts_anew(server, tmp_path):
    server.ranges = False
    server.cuts[PATH] = [1000]
    assert download(server.url + PATH, tmp_path / "a.bin") == SHA256
    assert len(server.seen(PATH)) == 2


@pytest.mark.parametrize("validators", [True, False])
def test_a_file_that_changed_between_two_tries_is_not_patched_together(server, tmp_path, monkeypatch, validators):
    server.validators = validators
    server.cuts[PATH] = [1000]
    monkeypatch.setattr(room, "TRIES", 1)
    with pytest.raises(InputError):
        download(server.url + PATH, tmp_path / "a.bin")
    monkeypatch.undo()
    server.files[PATH] = CONTENT[::-1] + b"x"
    monkeypatch.setattr(room, "PAUSE_S", 0.0)
    assert download(server.url + PATH, tmp_path / "a.bin") == hashlib.sha256(CONTENT[::-1] + b"x").hexdigest()


def test_a_part_of_another_address_or_too_long_is_dropped(server, tmp_path):
    state = {"address": "http://elsewhere/a.bin", "total": 9, "etag": None, "modified": None}
    for address in ("http://elsewhere/a.bin", server.url + PATH):
        (tmp_path / "a.bin.part").write_bytes(b"0123456789")
        (tmp_path / "a.bin.part.json").write_text(json.dumps({**state, "address": address}))
        assert download(server.url + PATH, tmp_path / "a.bin") == SHA256
    (tmp_path / "a.bin.part").write_bytes(b"torn")
    (tmp_path / "a.bin.part.json").write_text("{")
    assert download(server.url + PATH, tmp_path / "a.bin") == SHA256
    assert all("Range" not in headers for headers in server.seen(PATH))


def test_a_part_that_the_server_refuses_is_dropped(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    state = {"address": server.url + PATH, "total": None, "etag": '"x"', "modified": None}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(state))
    server.statuses[PATH] = [416]
    assert download(server.url + PATH, tmp_path / "a.bin") == SHA256


def test_a_wrong_checksum_is_said_and_the_file_removed(server, tmp_path):
    with pytest.raises(InputError) as caught:
        download(server.url + PATH, tmp_path / "a.bin", checksums={"md5": "0" * 32, "sha256": SHA256})
    assert "a.bin is not the file that is published or was recorded, and was removed" in str(caught.value)
    assert f"md5 {hashlib.md5(CONTENT).hexdigest()}" in str(caught.value) and f"md5 {'0' * 32}" in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_wrong_size_is_known_before_the_download(server, tmp_path):
    with pytest.raises(InputError, match=r"another size than is published.*102400 bytes. Valid: 7 bytes"):
        download(server.url + PATH, tmp_path / "a.bin", size=7)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "says"), [(404, "is not there"), (410, "is not there"), (403, "is refused")])
def test_a_refusal_says_what_to_do_and_is_not_tried_again(server, tmp_path, status, says):
    server.statuses[PATH] = [status]
    with pytest.raises(InputError) as caught:
        download(server.url + PATH, tmp_path / "a.bin", home="https://example.org/cohort")
    message = str(caught.value)
    assert f"a.bin {says}" in message and f"(status {status})" in message
    assert "open https://example.org/cohort in a browser" in message and str(tmp_path / "a.bin") in message
    assert ("--mirror" in message) == (status != 403)
    assert len(server.seen(PATH)) == 1


def test_a_busy_server_is_asked_again(server, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(room.time, "sleep", slept.append)
    monkeypatch.setattr(room, "PAUSE_S", 1.0)
    server.statuses[PATH] = [503, 429, 500]
    assert download(server.url + PATH, tmp_path / "a.bin") == SHA256
    assert slept == [1.0, 2.0, 4.0]


def test_no_network_is_said_with_the_address(site, tmp_path):
    with pytest.raises(InputError, match=r"could not be downloaded, in 5 tries in a row.*127.0.0.1:9/a.*--mirror"):
        download("http://127.0.0.1:9/a.bin", tmp_path / "a.bin")


def test_a_full_disk_is_no_network_error_and_the_part_is_kept(server, tmp_path, monkeypatch):
    from pathlib import Path

    opened = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, block):
            self.file.write(block[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *a, **k: Full(opened(self, *a, **k)) if self.suffix == ".part" else opened(self, *a, **k),
    )
    with pytest.raises(OutputError, match="the disk is full"):
        download(server.url + PATH, tmp_path / "a.bin")
    monkeypatch.undo()
    assert not (tmp_path / "a.bin").exists()
    assert download(server.url + PATH, tmp_path / "a.bin") == SHA256
    assert server.seen(PATH)[-1]["Range"] == "bytes=100-"


def test_room_on_the_disk_is_asked_for_before(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 5, 5 * 10**9))
    need_space(tmp_path / "not" / "there", 5 * 10**9)
    with pytest.raises(OutputError, match=r"not enough room.*5.0 GB free. Valid: 6.0 GB. Fix: .*--only"):
        need_space(tmp_path, 6 * 10**9)


def test_a_mirror_takes_the_place_of_the_host():
    address = "https://zenodo.org/records/1/files/a.zip?download=1"
    assert at_mirror(address, None) == address
    assert at_mirror(address, "https://mirror:8443") == "https://mirror:8443/records/1/files/a.zip?download=1"
    for wrong in ("ftp://host", "mirror.local", "file:///etc"):
        with pytest.raises((InputError, OptionError), match="a mirror is named by its address"):
            at_mirror(address, wrong)
