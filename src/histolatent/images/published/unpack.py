"""Archives into a folder: nothing outside it, whole files only, and nothing twice."""

import contextlib
import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from ...errors import InputError
from .download import need_space


@runtime_checkable
class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes."""
        ...


#: Where a member of an archive goes; None where it is left out. Names have been checked when it is asked.
Placing = Callable[[str], Path | None]


def unpack_zip(archive: Path, place: Placing) -> None:
    """Unpack what `place` wants of a ZIP archive. What is there in full is left alone.

    Raises
    ------
    InputError
        If the archive is damaged, or any member leads out of the folder or is a link.
    """
    with _damage(archive), zipfile.ZipFile(archive) as opened:
        members = [member for member in opened.infolist() if not member.is_dir()]
        for member in members:
            _refuse_outside(archive, member.filename, link=stat.S_ISLNK(member.external_attr >> 16))
        wanted = [(member, target) for member in members if (target := place(member.filename)) is not None]
        missing = [(member, target) for member, target in wanted if not _there(target, member.file_size)]
        if missing:
            need_space(missing[0][1].parent, sum(member.file_size for member, _ in missing))
        for member, target in missing:
            with opened.open(member) as stream:
                write_whole(target, stream)


def unpack_tar(archive: Path, place: Placing) -> None:
    """Unpack what `place` wants of a tar archive, compressed or not, as `unpack_zip` does."""
    with _damage(archive), tarfile.open(archive, mode="r:*") as opened:
        for member in opened:
            _refuse_outside(archive, member.name, link=not (member.isfile() or member.isdir()))
            target = place(member.name.removeprefix("./")) if member.isfile() else None
            if target is None or _there(target, member.size):
                continue
            stream = opened.extractfile(member)
            if stream is not None:
                with stream:
                    write_whole(target, stream)


def unpack_gzip(packed: Path, target: Path) -> None:
    """Unpack one file. What is there has been unpacked in full."""
    if not target.exists():
        with _damage(packed), gzip.open(packed) as stream:
            write_whole(target, stream)


def write_whole(target: Path, content: bytes | Readable) -> None:
    """Write a file that is there in full or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            shutil.copyfileobj(content, file, 1 << 20)
    part.replace(target)


def _there(target: Path, size: int) -> bool:
    return target.is_file() and target.stat().st_size == size


def _refuse_outside(archive: Path, name: str, *, link: bool) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if link or parts.is_absolute() or ".." in parts.parts or ":" in name or "\0" in name:
        raise InputError(
            "the archive holds a link or device, or a path that leads out of the folder; it is not unpacked",
            received=f"{archive.name}: {name!r}",
            fix="do not use this archive, and tell whoever gave it to you",
        )


@contextlib.contextmanager
def _damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"the archive is damaged ({error})",
            received=archive,
            fix="remove it, and fetch it again",
        ) from None
