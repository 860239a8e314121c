"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError

_MOVE = "choose another --out"
_FREE = "free space or choose another --out, then run the same command again"
_REASONS = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("the disk quota is used up", _FREE),
    errno.EACCES: ("writing there is not permitted", _MOVE),
    errno.EPERM: ("writing there is not permitted", _MOVE),
    errno.EROFS: ("the file system is read-only", _MOVE),
    errno.EEXIST: ("a file is where a folder is needed", _MOVE),
    errno.ENOTDIR: ("a file is where a folder is needed", _MOVE),
    errno.ENAMETOOLONG: ("the name is too long for the file system", _MOVE),
}


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


def refuse_existing(path: Path, *, overwrite: bool = False) -> None:
    """Raise OutputError if `path` exists and must be kept, or cannot be."""
    with disk_errors(path):
        kept = path.exists() and not (path.is_dir() and not any(path.iterdir()))
    if kept and not overwrite:
        raise OutputError(
            "the output exists already, and is not overwritten",
            received=path,
            fix="choose another --out, or pass --overwrite to replace it",
        )


@contextlib.contextmanager
def whole(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a sibling path to write to; put it in place of `path` only when the block ends well.

    An old `path` survives a failed block. The sibling is removed then.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is false, or the disk is full.
    """
    target = Path(path)
    refuse_existing(target, overwrite=overwrite)
    part = target.with_name(f".{target.name}.{os.getpid()}.part{target.suffix}")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        try:
            yield part
            remove(target)
            part.rename(target)
        finally:
            remove(part)
