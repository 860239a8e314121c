"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import OutputError

_MOVE = "choose another path"
_FREE = "free space or choose another path, then run the same command again"
_REASONS = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk quota is used up", _FREE),
    errno.EACCES: ("writing there is not permitted", _MOVE),
    errno.EPERM: ("writing there is not permitted", _MOVE),
    errno.EROFS: ("the file system is read-only", _MOVE),
    errno.ENOENT: ("no folder can be made there", _MOVE),
    errno.EEXIST: ("a file is where a folder is needed", _MOVE),
    errno.ENOTDIR: ("a file is where a folder is needed", _MOVE),
    errno.EISDIR: ("a folder is where a file is needed", _MOVE),
    errno.ENOTEMPTY: ("a folder that is not empty is there", _MOVE),
    errno.ENAMETOOLONG: ("the name is too long for the file system", _MOVE),
}


@dataclass(frozen=True)
class Mark:
    """What a folder holds if it was written by the command that would replace it.

    That is the file or folder `name`; with `kind`, a JSON object whose key `key` is that.
    """

    name: str
    kind: str | None = None
    key: str = "kind"

    def on(self, folder: Path) -> bool:
        """Whether the folder holds it."""
        file = folder / self.name
        if self.kind is None:
            return file.exists()
        try:
            return json.loads(file.read_text(encoding="utf-8"))[self.key] == self.kind
        except (OSError, ValueError, KeyError, TypeError):
            return False


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a refused write or an impossible place into an OutputError that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        reason, fix = _REASONS[error.errno]
        raise OutputError(f"{reason}; nothing that looks complete was left behind", received=path, fix=fix) from error


def refuse_existing(path: Path, *, overwrite: bool = False, mark: Mark | None = None) -> None:
    """Raise OutputError if what is at `path` must be kept, or the place cannot be.

    Without `mark` the output is a file, and never replaces a folder. With it the output is a folder, and replaces an
    empty folder or one that bears the mark, never a file. Both hold with `overwrite` too.
    """
    _refuse(path, overwrite, mark)
    with disk_errors(path):
        _try_place(path)


def _refuse(path: Path, overwrite: bool, mark: Mark | None) -> None:
    with disk_errors(path):
        if not os.path.lexists(path):
            path.exists()  # says what is wrong with the name
            return
        folder = path.is_dir()
        if mark is None and folder:
            raise OutputError(
                "the output is a file, and a folder is there, which is not replaced",
                received=path,
                fix="choose another path",
            )
        if mark is not None and folder and not any(path.iterdir()):
            return
        if mark is not None and not (folder and mark.on(path)):
            raise OutputError(
                "the output exists and was not written by this command, so it is not replaced",
                received=path,
                valid=f"a new folder, or an older one with its {mark.name}",
                fix="choose another path",
            )
    if not overwrite:
        raise OutputError(
            "the output exists already, and is not overwritten",
            received=path,
            fix="choose another path, or pass --overwrite to replace it",
        )


def _try_place(path: Path) -> None:
    """Write to the nearest folder that is there and remove it again, so that a place of no use is known before work."""
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass


def refuse_inputs(out: Path, inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise OutputError if one of the files or folders that are read is the output, or lies in it."""
    if not out.exists():
        return
    place = os.path.realpath(out)
    for file in inputs:
        real = os.path.realpath(file)
        if real == place or real.startswith(place.rstrip(os.sep) + os.sep):
            what = "the output is what is read" if real == place else "what is read lies in the output"
            raise OutputError(what, received=out, fix="choose another path")


def put(part: Path, target: Path, *, overwrite: bool = False, mark: Mark | None = None) -> None:
    """Move what is complete to its place. What came to be there meanwhile is kept as `refuse_existing` says."""
    _refuse(target, overwrite, mark)
    if mark is None:
        part.replace(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if os.path.lexists(target):
        remove(old)
        target.rename(old)
    part.rename(target)
    remove(old)


@contextlib.contextmanager
def whole(path: str | os.PathLike[str], *, overwrite: bool = False, mark: Mark | None = None) -> Iterator[Path]:
    """Yield a sibling path to write to; put it in place of `path` only when the block ends well.

    The block writes a file; with `mark`, a folder that bears it. An old `path` survives a failed block. The sibling is
    removed then.

    Raises
    ------
    OutputError
        If `path` exists and must be kept (see `refuse_existing`), also when it came to be during the block; or the
        disk is full.
    """
    target = Path(path)
    _refuse(target, overwrite, mark)
    part = target.with_name(f".{target.name}.{os.getpid()}.part{target.suffix}")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        try:
            yield part
            put(part, target, overwrite=overwrite, mark=mark)
        finally:
            remove(part)
