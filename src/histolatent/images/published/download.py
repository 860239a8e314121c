"""One file over HTTP: resumed where it stopped, tried again with growing pauses, checked before it has its name."""

import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from ...errors import InputError, OutputError
from ...outputs import disk_errors
from ...provenance import version

#: How often in a row a try may bring nothing, and the pause after the first of them, which doubles.
TRIES, PAUSE_S, LONGEST_PAUSE_S = 5, 1.0, 60.0
TIMEOUT_S = 60
BLOCK = 1 << 20
#: Answers after which another try may do better.
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_BY_HAND = "open {home} in a browser, put the file into place as {target}, and give the same command again"


class _Broken(Exception):
    """A try that ended early. Another one goes on from there."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


@dataclass(frozen=True)
class _State:
    """What the server said of the file that a `.part` is the beginning of."""

    address: str
    total: int | None = None
    etag: str | None = None
    modified: str | None = None

    @property
    def validator(self) -> str | None:
        """What names this version of the file in If-Range: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def download(
    address: str,
    target: Path,
    *,
    size: int | None = None,
    checksums: Mapping[str, str] | None = None,
    home: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> str:
    """Bring the file at `address` to `target`, and return its sha256.

    What has come so far is kept as `TARGET.part`, with what the server said of it in `TARGET.part.json`; the next call
    goes on from there, unless the file on the server is another by then. `size` and `checksums` (by algorithm) are what
    is published. `home` is a page that errors point to; `progress` is told how many bytes are there.

    Raises
    ------
    InputError
        If the server refuses the file or does not have it, cannot be reached, or what came is not what is published.
        A file that is not as published is removed.
    OutputError
        If the disk is full, or will be.
    """
    part = target.with_name(target.name + ".part")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        failures = 0
        while True:
            before = _length(part)
            try:
                _go_on(address, part, size, home, progress)
                break
            except _Broken as broken:
                failures = 1 if _length(part) > before else failures + 1
                if failures >= TRIES:
                    raise InputError(
                        f"{target.name} could not be downloaded, in {TRIES} tries in a row",
                        received=f"{address}: {broken}",
                        fix="connect, and give the same command again: it goes on where it stopped; --mirror URL names "
                        "another host",
                    ) from broken
                pause = min(PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S)
                time.sleep(pause if broken.pause_s is None else min(broken.pause_s, LONGEST_PAUSE_S))
        digest = check_file(part, target.name, address, size=size, checksums=checksums)
        part.replace(target)
        _note(part).unlink(missing_ok=True)
    return digest


def check_file(
    file: Path, name: str, origin: str, *, size: int | None = None, checksums: Mapping[str, str] | None = None
) -> str:
    """Return the sha256 of a file that came; remove it and raise InputError if it is not as published."""
    expected = {"bytes": str(size)} if size is not None else {}
    expected |= checksums or {}
    found = {"bytes": str(file.stat().st_size), **digests(file, {*(checksums or {}), "sha256"})}
    wrong = [what for what, value in expected.items() if found[what] != value]
    if wrong:
        file.unlink()
        _note(file).unlink(missing_ok=True)
        raise InputError(
            f"{name} is not the file that is published or was recorded, and was removed",
            received=f"{origin}: {', '.join(f'{what} {found[what]}' for what in wrong)}",
            valid=", ".join(f"{what} {expected[what]}" for what in wrong),
            fix="fetch it again; if the same comes twice, it was changed at its source or on the way",
        )
    return found["sha256"]


def digests(file: Path, algorithms: set[str]) -> dict[str, str]:
    """Return the checksums of a file, by algorithm, in one reading."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            for one in hashes.values():
                one.update(block)
    return {name: one.hexdigest() for name, one in hashes.items()}


def at_mirror(address: str, mirror: str | None) -> str:
    """Return the address on another host: its scheme, host and path stand in front of the path of `address`.

    >>> at_mirror("https://zenodo.org/records/1/files/a.zip?download=1", "http://mirror.local/zenodo")
    'http://mirror.local/zenodo/records/1/files/a.zip?download=1'
    """
    if mirror is None:
        return address
    there, here = urllib.parse.urlsplit(mirror), urllib.parse.urlsplit(address)
    if there.scheme not in ("http", "https") or not there.netloc:
        raise InputError("a mirror is named by its address", received=mirror, valid="http://HOST or https://HOST/PATH")
    return urllib.parse.urlunsplit((there.scheme, there.netloc, there.path.rstrip("/") + here.path, here.query, ""))


def need_space(folder: Path, wanted: int) -> None:
    """Raise OutputError if the disk of `folder` has less than `wanted` bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise OutputError(
            "there is not enough room on the disk",
            received=f"{folder}: {free / 1e9:.1f} GB free",
            valid=f"{wanted / 1e9:.1f} GB",
            fix="free space, choose another disk, or fetch a part with --only",
        )


def _go_on(
    address: str, part: Path, size: int | None, home: str | None, progress: Callable[[int], None] | None
) -> None:
    state, start = _resume_point(part, address)
    if start and start == state.total:
        return
    headers = {"User-Agent": f"histolatent/{version()}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if state.validator:
            headers["If-Range"] = state.validator
    try:
        response = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        _refused(error, address, part, home)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _Broken(str(getattr(error, "reason", None) or error or type(error).__name__)) from error
    with response:
        begins = start if response.status == 206 else 0
        told = _told(response, address, begins)
        if begins and (told is None or state.total not in (None, told.total)):
            _forget(part)
            raise _Broken("the file on the server has changed", 0.0)
        told = told or _State(address)
        if size is not None and told.total not in (None, size):
            _forget(part)
            raise InputError(
                f"{part.stem} has another size than is published",
                received=f"{address}: {told.total} bytes",
                valid=f"{size} bytes",
                fix="it was changed at its source, or the server sends something else: open the address in a browser",
            )
        if told.total is not None:
            need_space(part.parent, told.total - begins)
        _note(part).write_text(json.dumps(asdict(told)), encoding="utf-8")
        _receive(response, part, begins, progress)
    if told.total is not None and _length(part) < told.total:
        raise _Broken(f"the connection broke off at byte {_length(part)} of {told.total}")


def _receive(response: Any, part: Path, begins: int, progress: Callable[[int], None] | None) -> None:
    with part.open("r+b" if begins else "wb") as file:
        file.seek(begins)
        file.truncate()
        done = begins
        while True:
            try:
                block = response.read(BLOCK)
            except (http.client.HTTPException, OSError) as error:
                raise _Broken(str(error) or type(error).__name__) from error
            if not block:
                return
            file.write(block)
            done += len(block)
            if progress is not None:
                progress(done)


def _resume_point(part: Path, address: str) -> tuple[_State, int]:
    """Return what is known of the file, and how much of it is there; what belongs to another address is dropped."""
    try:
        state = _State(**json.loads(_note(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        state = None
    length = _length(part)
    if state is None or state.address != address or (state.total is not None and length > state.total):
        _forget(part)
        return _State(address), 0
    # Without a validator, only the size tells one version of the file from another.
    return state, length if state.validator or state.total is not None else 0


def _told(response: Any, address: str, begins: int) -> _State | None:
    """Return what an answer says of the whole file; None if it is not the part that was asked for."""
    headers = response.headers
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    if not begins:
        length = headers.get("Content-Length")
        return _State(address, int(length) if length and length.isdigit() else None, etag, modified)
    unit, _, rest = (headers.get("Content-Range") or "").partition(" ")
    extent, _, total = rest.partition("/")
    if unit != "bytes" or extent.partition("-")[0] != str(begins):
        return None
    return _State(address, int(total) if total.isdigit() else None, etag, modified)


def _refused(error: urllib.error.HTTPError, address: str, part: Path, home: str | None) -> NoReturn:
    """Turn a status into another try, or into a sentence on what to do."""
    error.close()
    if error.code == 416:
        _forget(part)
        raise _Broken("what has come so far does not fit the file on the server", 0.0) from error
    if error.code in _PASSING:
        wait = error.headers.get("Retry-After") or ""
        raise _Broken(f"status {error.code}", float(wait) if wait.isdigit() else None) from error
    by_hand = _BY_HAND.format(home=home or address, target=part.with_suffix(""))
    if error.code in (404, 410):
        reason, fix = "is not there", f"--mirror URL names another host; or {by_hand}"
    else:
        reason, fix = "is refused by the server", by_hand
    raise InputError(f"{part.stem} {reason} (status {error.code})", received=address, fix=fix) from error


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
