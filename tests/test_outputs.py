"""Outputs appear whole or not at all."""

import errno

import pytest

from histolatent.errors import OutputError
from histolatent.outputs import disk_errors, refuse_existing, remove, whole


def test_a_file_appears_when_the_block_ends_well(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with whole(target) as part:
        assert part.parent == target.parent
        assert part.suffix == ".txt"
        part.write_text("done")
        assert not target.exists()
    assert target.read_text() == "done"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failed_block_leaves_the_old_output(tmp_path, kind):
    target = tmp_path / "a"
    if kind == "file":
        target.write_text("old")
    else:
        (target / "sub").mkdir(parents=True)
    with pytest.raises(RuntimeError), whole(target, overwrite=True) as part:
        part.mkdir()
        (part / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [target]
    assert (target.read_text() == "old") if kind == "file" else (target / "sub").is_dir()


@pytest.mark.parametrize("old", ["file", "folder", "nothing"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_overwriting(tmp_path, old, new):
    target = tmp_path / "a"
    if old == "file":
        target.write_text("old")
    elif old == "folder":
        (target / "sub").mkdir(parents=True)
    with whole(target, overwrite=True) as part:
        part.write_text("new") if new == "file" else part.mkdir()
    assert target.is_file() == (new == "file")
    assert list(tmp_path.rglob("*")) == [target]


def test_what_exists_is_refused(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "x").mkdir(parents=True)
    for name in ("a", "full"):
        with pytest.raises(OutputError, match=rf"exists already.*Received: .*{name}. Fix: choose another --out, or"):
            refuse_existing(tmp_path / name)
        refuse_existing(tmp_path / name, overwrite=True)
    refuse_existing(tmp_path / "empty")
    refuse_existing(tmp_path / "new")


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.ENOSPC, "the disk is full", "free space"),
        (errno.EDQUOT, "the disk quota is used up", "free space"),
        (errno.EACCES, "writing there is not permitted", "choose another --out"),
        (errno.EROFS, "the file system is read-only", "choose another --out"),
    ],
)
def test_refused_writes_are_said(tmp_path, number, what, fix):
    with (
        pytest.raises(OutputError, match=rf"{what}; nothing that.*Fix: {fix}"),
        whole(tmp_path / "a") as part,
    ):
        part.write_bytes(b"half")
        raise OSError(number, "no")
    assert not list(tmp_path.iterdir())


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(OSError, match="broken pipe"), disk_errors(tmp_path):
        raise OSError(errno.EPIPE, "broken pipe")


def test_places_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    for place, what in {
        tmp_path / "file" / "a": "a file is where a folder is needed",
        tmp_path / "file" / "a" / "b": "a file is where a folder is needed",
        tmp_path / ("x" * 300): "the name is too long",
    }.items():
        with pytest.raises(OutputError, match=what), whole(place) as part:
            part.touch()


def test_removing(tmp_path):
    (tmp_path / "real" / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("link", "missing"):
        remove(tmp_path / name)
    assert (tmp_path / "real" / "x").is_dir()
    remove(tmp_path / "real")
    assert not list(tmp_path.iterdir())
