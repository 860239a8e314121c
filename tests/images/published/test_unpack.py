"""Archives: nothing outside the folder, nothing half, nothing twice."""

import gzip
import io
import tarfile
import zipfile

import pytest

from histolatent.errors import InputError, OutputError
from histolatent.images.published import unpack
from histolatent.images.published.unpack import unpack_gzip, unpack_tar, unpack_zip

from .conftest import zipped


def tarred(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return stream.getvalue()


@pytest.fixture(params=["zip", "tar"])
def archive(request, tmp_path):
    """Return a function that packs members and unpacks them below `to`."""
    pack, undo = {"zip": (zipped, unpack_zip), "tar": (tarred, unpack_tar)}[request.param]

    def run(members, wanted=lambda name: True):
        path = tmp_path / "a.archive"
        path.write_bytes(pack(members))
        undo(path, lambda name: tmp_path / "to" / name if wanted(name) else None)
        return tmp_path / "to"

    return run


def test_what_is_wanted_is_unpacked(archive):
    to = archive({"a/b.txt": b"one", "c.txt": b"two"}, lambda name: name != "c.txt")
    assert [file.relative_to(to).as_posix() for file in to.rglob("*.txt")] == ["a/b.txt"]
    assert (to / "a/b.txt").read_bytes() == b"one"


def test_what_is_there_in_full_is_left_alone(archive):
    to = archive({"a.txt": b"one", "b.txt": b"three"})
    (to / "a.txt").write_bytes(b"ONE")
    (to / "b.txt").write_bytes(b"th")
    archive({"a.txt": b"one", "b.txt": b"three"})
    assert (to / "a.txt").read_bytes() == b"ONE"
    assert (to / "b.txt").read_bytes() == b"three"


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "..\\out.txt", "C:/out.txt"])
def test_a_path_that_leads_out_is_refused(archive, tmp_path, name):
    with pytest.raises(InputError, match=r"a path that leads out of the folder"):
        archive({name: b"evil"})
    assert not list(tmp_path.parent.rglob("out.txt"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    link = tarfile.TarInfo("link")
    link.type, link.linkname = kind, "/etc/passwd"
    path = tmp_path / "a.tar"
    path.write_bytes(tarred({"link": link}))
    with pytest.raises(InputError, match="holds a link or device"):
        unpack_tar(path, lambda name: tmp_path / "to" / name)


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="holds a link"):
        unpack_zip(path, lambda name: tmp_path / "to" / name)


@pytest.mark.parametrize("undo", [unpack_zip, unpack_tar])
def test_a_damaged_archive_is_said(tmp_path, undo):
    path = tmp_path / "a.archive"
    whole = {unpack_zip: zipped, unpack_tar: tarred}[undo]({"a.txt": bytes(range(256)) * 200})
    for content in (b"no archive at all", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"the archive is damaged"):
            undo(path, lambda name: tmp_path / "to" / name)
    assert not (tmp_path / "to" / "a.txt").exists()


def test_a_zip_that_would_not_fit_is_not_begun(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"a.txt": b"x" * 1000}))
    asked = []

    def refuse(folder, wanted):
        asked.append(wanted)
        raise OutputError("no room")

    monkeypatch.setattr(unpack, "need_space", refuse)
    with pytest.raises(OutputError):
        unpack_zip(path, lambda name: tmp_path / "to" / name)
    assert asked == [1000]
    assert not (tmp_path / "to").exists()


def test_one_packed_file(tmp_path):
    packed, target = tmp_path / "a.h5.gz", tmp_path / "to" / "a.h5"
    packed.write_bytes(gzip.compress(b"content")[:-4])
    with pytest.raises(InputError, match="damaged"):
        unpack_gzip(packed, target)
    assert not target.exists()
    packed.write_bytes(gzip.compress(b"content"))
    unpack_gzip(packed, target)
    assert target.read_bytes() == b"content"
