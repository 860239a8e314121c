"""Outputs appear whole or not at all."""

import errno

import pytest

from histolatent.errors import OutputError
from histolatent.outputs import Mark, disk_errors, refuse_existing, refuse_inputs, remove, whole

MARK = Mark("card.json", "ours")


def ours(path):
    """Make a folder that we wrote."""
    (path / "sub").mkdir(parents=True)
    (path / "card.json").write_text('{"kind": "ours"}')
    return path


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
        ours(target)
    with pytest.raises(RuntimeError), whole(target, overwrite=True, mark=MARK if kind == "folder" else None) as part:
        part.mkdir()
        (part / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [target]
    assert (target.read_text() == "old") if kind == "file" else (target / "sub").is_dir()


def make(target, old: str) -> None:
    if old == "file":
        target.write_text("old")
    elif old == "ours":
        ours(target)
    elif old == "foreign":
        (target / "sub").mkdir(parents=True)
        (target / "card.json").write_text('{"kind": "theirs"}')
    elif old == "empty":
        target.mkdir()


def write(part, new: str, text: str = "new") -> None:
    if new == "file":
        part.write_text(text)
    else:
        part.mkdir()
        (part / "card.json").write_text(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [("nothing", "file"), ("file", "file"), ("nothing", "folder"), ("empty", "folder"), ("ours", "folder")],
)
def test_overwriting(tmp_path, old, new):
    target = tmp_path / "a"
    make(target, old)
    with whole(target, overwrite=True, mark=MARK if new == "folder" else None) as part:
        write(part, new)
    assert list(tmp_path.iterdir()) == [target]
    assert (target if new == "file" else target / "card.json").read_text() == "new"
    assert not (target / "sub").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ours", "file", "the output is a file, and a folder is there"),
        ("foreign", "file", "the output is a file, and a folder is there"),
        ("empty", "file", "the output is a file, and a folder is there"),
        ("file", "folder", "was not written by this command"),
        ("foreign", "folder", "was not written by this command"),
    ],
)
def test_what_is_kept_with_overwrite_too(tmp_path, old, new, said, overwrite):
    """A file never replaces a folder; a folder replaces only one that its command wrote. No advice to the contrary."""
    target = tmp_path / "a"
    make(target, old)
    mark = MARK if new == "folder" else None
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=said) as refused:
        refuse_existing(target, overwrite=overwrite, mark=mark)
    assert "--overwrite" not in str(refused.value)
    with pytest.raises(OutputError, match=said), whole(target, overwrite=overwrite, mark=mark) as part:
        write(part, new)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("came", ["file", "ours", "foreign"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_what_came_to_be_meanwhile_is_not_lost(tmp_path, came, new):
    target = tmp_path / "a"
    with pytest.raises(OutputError), whole(target, mark=MARK if new == "folder" else None) as part:
        write(part, new)
        make(target, came)
        before = sorted(target.rglob("*"))
    assert list(tmp_path.iterdir()) == [target]
    assert sorted(target.rglob("*")) == before
    assert came != "file" or target.read_text() == "old"


def test_a_folder_that_came_to_be_is_not_lost_to_a_file_with_overwrite(tmp_path):
    with pytest.raises(OutputError, match="a folder is there"), whole(tmp_path / "a", overwrite=True) as part:
        part.write_text("new")
        make(tmp_path / "a", "ours")
    assert (tmp_path / "a" / "sub").is_dir()


def test_what_exists_is_refused(tmp_path):
    (tmp_path / "a").write_text("old")
    ours(tmp_path / "full")
    for name, mark in (("a", None), ("full", MARK)):
        with pytest.raises(OutputError, match=rf"exists already.*Received: .*{name}. Fix: choose another path, or"):
            refuse_existing(tmp_path / name, mark=mark)
        refuse_existing(tmp_path / name, overwrite=True, mark=mark)
    refuse_existing(tmp_path / "new")


def test_marks(tmp_path):
    make(tmp_path / "a", "foreign")
    assert Mark("card.json").on(tmp_path / "a")
    assert Mark("card.json", "theirs").on(tmp_path / "a")
    assert not Mark("none.json").on(tmp_path / "a")
    for text in ("", "[]", "{}", "null", '{"kind": "theirs"}'):
        (tmp_path / "a" / "card.json").write_text(text)
        assert not MARK.on(tmp_path / "a")


def test_an_input_is_no_output(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "in" / "a.png")
    (tmp_path / "beside").symlink_to(tmp_path / "in")
    for out in (tmp_path / "in" / "a.png", tmp_path / "link.png", tmp_path / "beside" / "a.png"):
        with pytest.raises(OutputError, match="the output is what is read"):
            refuse_inputs(out, [tmp_path / "none", tmp_path / "in" / "a.png"])
    for out in (tmp_path, tmp_path / "in", tmp_path / "beside"):
        with pytest.raises(OutputError, match="what is read lies in the output"):
            refuse_inputs(out, [tmp_path / "link.png"])
    refuse_inputs(tmp_path / "in" / "new.png", [tmp_path / "in" / "a.png"])
    refuse_inputs(tmp_path / "i", [tmp_path / "in" / "a.png"])


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.ENOSPC, "the disk is full", "free space"),
        (errno.EDQUOT, "the disk quota is used up", "free space"),
        (errno.EACCES, "writing there is not permitted", "choose another path"),
        (errno.EROFS, "the file system is read-only", "choose another path"),
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


def test_a_place_of_no_use_is_known_before_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file is where a folder is needed"):
        refuse_existing(tmp_path / "file" / "a" / "b")

    def refused(dir):
        raise PermissionError(errno.EACCES, "no", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(OutputError, match="writing there is not permitted"):
        refuse_existing(tmp_path / "new" / "a")


def test_removing(tmp_path):
    (tmp_path / "real" / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("link", "missing"):
        remove(tmp_path / name)
    assert (tmp_path / "real" / "x").is_dir()
    remove(tmp_path / "real")
    assert not list(tmp_path.iterdir())
