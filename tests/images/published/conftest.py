"""A server on the loopback that keeps published files, and misbehaves when it is asked to."""

import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest

from histolatent.images.published import Cohort, cohorts, download, fetch_cohort

KNOWN = {cohort.name: cohort for cohort in cohorts()}
DATE = "Mon, 02 Jan 2023 03:04:05 GMT"


@dataclass
class Site:
    """What the server has and does. `cuts` and `statuses` hold what happens to the next requests of a path."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, object] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    validators: bool = True
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def seen(self, path: str) -> list[dict[str, str]]:
        """The headers of the requests for a path, in order."""
        return [headers for method, asked, headers in self.asked if asked == path and method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        site, path = self.site, unquote(urlsplit(self.path).path)
        site.asked.append((self.command, path, dict(self.headers)))
        if site.statuses.get(path):
            return self._send(site.statuses[path].pop(0), b"no", {})
        if path in site.answers:
            return self._send(200, json.dumps(site.answers[path]).encode(), {"Content-Type": "application/json"})
        if path not in site.files:
            return self._send(404, b"no", {})
        content = site.files[path]
        headers = {"Last-Modified": DATE, "ETag": f'"{hashlib.md5(content).hexdigest()}"'} if site.validators else {}
        commit = re.search(r"/resolve/([0-9a-f]{40})/", path)
        headers |= {"X-Repo-Commit": commit[1]} if commit else {}
        start = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, headers.get("ETag"), headers.get("Last-Modified"))
        if not (site.ranges and start and same):
            return self._send(200, content, headers)
        first = int(start[1])
        if first >= len(content):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return self._send(206, content[first:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        path = unquote(urlsplit(self.path).path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.site.cuts[path].pop(0) if self.site.cuts.get(path) else None
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server; tries follow each other without a pause."""
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    found = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": found}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def publish(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cohort]:
    """Return a function that puts files of a cohort on the server, under the paths of the catalogue.

    Sizes and checksums of the catalogue become those of the files, where it has some; files that are not given are
    taken out of it.
    """
    from histolatent.images.published import catalogue

    def put(name: str, contents: dict[str, bytes], **changes: object) -> Cohort:
        cohort = KNOWN[name]
        kept = []
        for file in cohort.listed():
            if file.name in contents:
                content = contents[file.name]
                new: dict[str, object] = {"bytes": file.bytes and len(content)}
                for algorithm in ("md5", "sha256"):
                    new[algorithm] = getattr(file, algorithm) and hashlib.new(algorithm, content).hexdigest()
                kept.append(file.model_copy(update=new))
                if file.address is not None:
                    site.files[unquote(urlsplit(file.address).path)] = content
        if cohort.index is not None:
            base = urlsplit(cohort.index.base).path
            lines = [f"{hashlib.md5(content).hexdigest()}  {path}\n" for path, content in contents.items()]
            site.files[urlsplit(cohort.index.address).path] = "".join(lines).encode()
            site.files.update({base + path: content for path, content in contents.items()})
        cohort = cohort.model_copy(update={"files": tuple(kept), "series": (), "bytes": None, **changes})
        monkeypatch.setattr(catalogue, "_cohorts", lambda: {**KNOWN, name: cohort})
        return cohort

    return put


@pytest.fixture
def fetched(site: Site, publish: Callable[..., Cohort], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that publishes files of a cohort, fetches it from the server, and returns the folder."""

    def get(name: str, files: dict[str, bytes]) -> Path:
        publish(name, files)
        out = tmp_path / "cohort"
        fetch_cohort(name, out, mirror=site.url, accept_licence=True)
        return out

    return get


def tile(number: int, side: int = 24) -> np.ndarray:
    """An asymmetric tile; no two numbers give the same."""
    y, x = np.mgrid[0:side, 0:side]
    return np.stack([5 * x + number, 7 * y + 2 * number, x + 3 * y], axis=2).astype(np.uint8)


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    """The tile as a file."""
    done, content = cv2.imencode(suffix, pixels[:, :, ::-1])
    assert done
    return content.tobytes()


def zipped(members: dict[str, bytes]) -> bytes:
    """A ZIP archive of members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()
