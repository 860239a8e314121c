"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError


def refuse_existing(path: Path, *, overwrite: bool = False) -> None:
    """Raise OutputError if `path` exists and must be kept."""
    if not overwrite and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(
            "the output exists already, and is not overwritten",
            received=path,
            fix="choose another --out, or pass --overwrite to replace it",
        )


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a refused write into an OutputError that names the place."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EACCES: "writing there is not permitted",
            errno.EROFS: "the file system is read-only",
        }
        if error.errno not in reasons:
            raise
        raise OutputError(
            f"{reasons[error.errno]}; nothing that looks complete was left behind",
            received=path,
            fix="free space or choose another --out, then run the same command again",
        ) from error


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
